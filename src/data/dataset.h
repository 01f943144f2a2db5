/* SPDX-License-Identifier: Apache-2.0 */
/* dataset.h - training pairs as an index: condition, target, prompt, fetched by number.
 *
 * Layouts are told by content; each is a row of dataset_layouts.h.
 *
 * What stays in memory is where a pair is found (16 to 24 bytes, a file's name more in twin
 * folders), so millions fit; names and prompts are read when asked for. Opening looks at every line
 * and at every file's presence, so training never starts on a list with holes. After that a data
 * set doesn't change, and any number of threads may fetch from it, each with a context of its own.
 */
#ifndef CN_DATA_DATASET_H
#define CN_DATA_DATASET_H

#include "image/resize.h"

typedef struct cn_dataset_layout cn_dataset_layout;

typedef struct cn_dataset {
    const cn_dataset_layout *layout;
    int64_t n;       /* pairs */
    int64_t skipped; /* pairs left out by skip_bad */
    char dir[CN_PATH_BYTES],
        list[CN_PATH_BYTES]; /* what relative names count from; the file of lines, or dir */
    char found[1024];        /* one line: what was found here and how it is read */
    /* of the layout's own file */
    uint64_t *index; /* [n, words] */
    int words;
    int64_t cap;
    void *own;
} cn_dataset;

/* Whether a path names tar shards: a pattern, a tar file, or a folder that holds some. A data set
 * of them opened with the conditioning_image_column "" has pictures alone; an item's condition is
 * then the member KEY.json, where there is one, else its path is NULL. */
bool cn_dataset_is_shards(const char *path);
/* "fill50k", "webdataset", ... */
const char *cn_dataset_layout_name(const cn_dataset *d);

/* CN_EFORMAT with the first fault and how many more there are. */
cn_status cn_dataset_open(cn_ctx *ctx, const cn_dataset_options *options,
                          cn_dataset **out) CN_CHECKED;
/* Conditions and their prompts by name, both lists ended by NULL; as many of each, or one of
 * either. The lists outlive the data set. CN_EINVAL when they don't match; files that can't be read
 * are named. */
cn_status cn_dataset_open_listed(cn_ctx *ctx, const char *const *images, const char *const *prompts,
                                 cn_dataset **out) CN_CHECKED;
void cn_dataset_close(cn_dataset *d);

/* A whole file, or a member of a tar file. */
typedef struct cn_dataset_file {
    char *path;
    int64_t position; /* of the member; -1: the whole file */
} cn_dataset_file;

typedef struct cn_dataset_item {
    char *where; /* names the pair in errors: "LIST:LINE", a picture, a shard's key */
    cn_dataset_file condition, target;
    char *prompt; /* "" unless asked for */
} cn_dataset_item;

/* Pair i (its own strings: cn_dataset_item_free). */
cn_status cn_dataset_get(cn_ctx *ctx, const cn_dataset *d, int64_t i, bool prompt,
                         cn_dataset_item *out) CN_CHECKED;
void cn_dataset_item_free(cn_dataset_item *item);
/* Names pair i for a person: as `where`, of a shard's pair its member's name. */
cn_status cn_dataset_where(cn_ctx *ctx, const cn_dataset *d, int64_t i, char *out,
                           size_t cap) CN_CHECKED;
/* The bytes of a picture that cn_dataset_get named (cn_free them). */
cn_status cn_dataset_read(cn_ctx *ctx, const cn_dataset_file *file, char **data,
                          size_t *n) CN_CHECKED;
/* Decodes a picture that cn_dataset_get named. */
cn_status cn_dataset_decode(cn_ctx *ctx, const cn_dataset_file *file, cn_image **out) CN_CHECKED;

/* A view of n pairs from `first` on. It owns nothing: d outlives it, and it isn't closed. */
cn_dataset cn_dataset_slice(const cn_dataset *d, int64_t first, int64_t n);
/* The upright size of pair i's picture, from its file's header. Errors begin with the pair's
 * `where`. */
cn_status cn_dataset_size(cn_ctx *ctx, const cn_dataset *d, int64_t i, int64_t *width,
                          int64_t *height) CN_CHECKED;

/* One pair's pictures, width x height (aspect kept, centre cropped) or as they are when width is 0.
 * Either output may be NULL. Errors begin with the pair's `where`. */
cn_status cn_dataset_load(cn_ctx *ctx, const cn_dataset *d, int64_t i, int64_t width,
                          int64_t height, cn_image **condition, cn_image **target) CN_CHECKED;
/* The same of another part of both. */
cn_status cn_dataset_load_crop(cn_ctx *ctx, const cn_dataset *d, int64_t i, int64_t width,
                               int64_t height, cn_crop crop, cn_image **condition,
                               cn_image **target) CN_CHECKED;

/* One line's JSON in Fill50K's (else Hugging Face's) names to an item with names as they stand. */
cn_status cn_dataset_line_parse(cn_ctx *ctx, bool fill50k, const char *where, const char *json,
                                size_t n, cn_dataset_item *out) CN_CHECKED;

#endif
