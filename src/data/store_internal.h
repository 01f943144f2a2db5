/* SPDX-License-Identifier: Apache-2.0 */
/* store_internal.h - what store.c, store_file.c and store_index.c share. */
#ifndef CN_DATA_STORE_INTERNAL_H
#define CN_DATA_STORE_INTERNAL_H

#include "data/store.h"

/* slots[i]: the record's slot; CN_SLOT_ABSENT; or, damaged in slot k, CN_SLOT_ABSENT - 1 - k. */
enum { CN_SLOT_ABSENT = -1 };

struct cn_store {
    cn_ctx *ctx;
    int64_t n;
    size_t record_bytes;
    bool *has;      /* [n]; NULL: a file that stays */
    char *memory;   /* NULL: in the file */
    int64_t *slots; /* [n] of a file that stays */
    uint64_t *keys; /* [n] */
    int fd;
    char path[CN_PATH_BYTES]; /* of the folder, or of the file that stays */
};

/* What one slot was seen to hold. */
typedef struct cn_seen {
    uint64_t key;
    int64_t slot;
    bool whole;
} cn_seen;

cn_status cn_store_fail(cn_ctx *ctx, const cn_store *s, const char *what, int error);
cn_status cn_store_write_at(cn_store *s, const void *bytes, size_t n, int64_t at) CN_CHECKED;
cn_status cn_store_read_at(const cn_store *s, cn_ctx *ctx, void *bytes, size_t n,
                           int64_t at) CN_CHECKED;
cn_status cn_store_append(cn_store *s, int64_t i, const void *record) CN_CHECKED;
cn_status cn_store_read_slot(const cn_store *s, cn_ctx *ctx, int64_t i, void *record) CN_CHECKED;

/* --- store_index.c: the note beside a file of records; all of it under the file's lock -------- */

/* What the file's slots hold, list[slots] in their order; false: it isn't known. */
bool cn_store_index_read(const cn_store *s, int64_t slots, cn_seen *list);
void cn_store_index_write(const cn_store *s, int64_t slots, const cn_seen *list);
/* Whether the file is as the note says, so that it can be kept up to date: then, behind the writing
 * of a slot, one of `slots`, its entry is added. */
bool cn_store_index_counts(const cn_store *s, int64_t slots);
void cn_store_index_add(const cn_store *s, int64_t slots, int64_t slot, uint64_t key);
/* Without the lock too: a record was found damaged. */
void cn_store_index_drop(const cn_store *s);

#endif
