/* SPDX-License-Identifier: Apache-2.0 */
/* dataset_internal.h - what the layouts' files share. Only src/train/dataset*.c include it. */
#ifndef CN_DATA_DATASET_INTERNAL_H
#define CN_DATA_DATASET_INTERNAL_H

#include "data/dataset.h"

enum { CN_DATASET_PATH_BYTES = 4096, CN_DATASET_PROMPT_BYTES = 64 * 1024 };

/* Faults met while opening: all are told, the first is kept. */
typedef struct cn_dataset_faults {
    const cn_dataset_options *o;
    int64_t n;
    char first[2048];
} cn_dataset_faults;

/* Takes the message that `s` left in ctx as a fault of one pair, CN_OK; any other status than
 * CN_EFORMAT (memory, the disk) is handed back: no use going on. */
cn_status cn_dataset_fault(cn_ctx *ctx, cn_dataset_faults *f, cn_status s) CN_CHECKED;
/* Appends one pair's words to the index. */
cn_status cn_dataset_add(cn_ctx *ctx, cn_dataset *d, const uint64_t *words) CN_CHECKED;
/* "DIR/NAME", or NAME where it is absolute. */
cn_status cn_dataset_path(cn_ctx *ctx, const char *dir, const char *name,
                          char out[CN_DATASET_PATH_BYTES]) CN_CHECKED;

/* Each layout: open fills d->index and d->found and tells faults; get makes an item from an index
 * entry; close frees d->own (NULL: never opened). */
typedef struct cn_dataset_reader {
    cn_status (*open)(cn_ctx *ctx, cn_dataset *d, const cn_dataset_options *o,
                      cn_dataset_faults *f);
    cn_status (*get)(cn_ctx *ctx, const cn_dataset *d, const uint64_t *words, bool prompt,
                     cn_dataset_item *out);
    void (*close)(cn_dataset *d);
} cn_dataset_reader;

extern const cn_dataset_reader cn_dataset_lists, cn_dataset_folders, cn_dataset_shards,
    cn_dataset_listed;

/* Whether `dir` names shards by a pattern, as a file, or as a folder of .tar files. */
bool cn_dataset_is_shards(const char *dir);
/* The twin folders' usual names inside d->dir ("images" and "conditioning_images", say); false:
 * none. */
bool cn_dataset_find_twins(const char *dir, char images[CN_DATASET_PATH_BYTES],
                           char conditions[CN_DATASET_PATH_BYTES]);

#endif
