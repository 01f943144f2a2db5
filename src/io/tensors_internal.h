/* SPDX-License-Identifier: Apache-2.0 */
/* tensors_internal.h - what the readers behind tensors.h share. Only src/io includes it. */
#ifndef CN_IO_TENSORS_INTERNAL_H
#define CN_IO_TENSORS_INTERNAL_H

#include "io/pickle.h"
#include "io/tensors.h"

#include <jansson.h>

/* A tensor that isn't in the list, and why. */
typedef struct cn_skipped {
    char *name;
    char why[48];
} cn_skipped;

struct cn_tensors {
    cn_tensor_info *list; /* sorted by name once open; the names are owned */
    size_t count, cap;
    cn_skipped *skipped; /* in the same order */
    size_t n_skipped, skipped_cap;
    const char *format;
    json_t *metadata; /* safetensors' __metadata__, or NULL */
    const unsigned char *bytes;
    size_t n;
    bool mapped;        /* bytes come from mmap and are unmapped on close */
    cn_tensors **parts; /* cn_tensors_join: whose bytes the list points into; owned */
    int n_parts;
};

/* Adds a copy of *info (its name copied as well, `name_len` bytes of it). The element count is
 * filled in here; CN_EFORMAT when the product of the shape doesn't fit. */
cn_status cn_tensors_add(cn_ctx *ctx, cn_tensors *t, const cn_tensor_info *info,
                         size_t name_len) CN_CHECKED;
/* Notes a tensor that isn't read: its name says what the file is all the same. why: what it has,
 * "type F4". */
cn_status cn_tensors_skip(cn_ctx *ctx, cn_tensors *t, const char *name, size_t name_len,
                          const char *why) CN_CHECKED;
/* Product of a shape in elements and in bytes; false when it overflows or a dimension is
 * negative. */
bool cn_shape_size(const int64_t *shape, int ndim, size_t elem_bytes, int64_t *elements,
                   size_t *bytes);
/* Row-major strides in elements. */
void cn_shape_strides(const int64_t *shape, int ndim, int64_t *stride);

/* Fill t from t->bytes. */
cn_status cn_safetensors_parse(cn_ctx *ctx, cn_tensors *t) CN_CHECKED;
cn_status cn_torchzip_parse(cn_ctx *ctx, cn_tensors *t) CN_CHECKED;
cn_status cn_torchpickle_parse(cn_ctx *ctx, cn_tensors *t) CN_CHECKED;
cn_status cn_gguf_parse(cn_ctx *ctx, cn_tensors *t) CN_CHECKED;
/* Whether these are a file of torch.save's before 1.6. */
bool cn_is_torchpickle(const unsigned char *bytes, size_t n);

/* Where a checkpoint's storages are: find gives a storage's bytes, all elements of them. name: for
 * messages. */
typedef struct cn_torch_source {
    cn_status (*find)(cn_ctx *ctx, const void *user, const cn_pickle_storage *s, const char *name,
                      const unsigned char **data);
    const void *user;
} cn_torch_source;
/* Adds the tensors that a checkpoint's pickle holds. */
cn_status cn_torch_tree(cn_ctx *ctx, cn_tensors *t, const cn_pickle *pickle,
                        const cn_torch_source *source) CN_CHECKED;

#endif
