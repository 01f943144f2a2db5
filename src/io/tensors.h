/* SPDX-License-Identifier: Apache-2.0 */
/* tensors.h - named tensors in files: safetensors, torch checkpoints and GGUF behind one interface.
 *
 * The format is told by content, never by name. Opening checks everything that the file claims
 * (offsets, sizes, dtypes, names) before a byte of it is used; the data itself stays mapped and is
 * converted when read. A torch file's pickle runs through a small unpickler that knows tensors and
 * plain containers; whatever would call anything else is refused by name.
 *
 * 8-bit weights with scales of their own in a tensor beside them (ComfyUI's NAME.scale_weight,
 * torchao's NAME.weight_scale) are read multiplied by these.
 *
 * Names of a torch file: nested dicts are joined by '.', but a top-level "state_dict" adds no
 * prefix.
 */
#ifndef CN_IO_TENSORS_H
#define CN_IO_TENSORS_H

#include "base/base.h"
#include "base/dtype.h"

typedef struct cn_tensors cn_tensors;

typedef struct cn_tensor_info {
    const char *name;
    cn_dtype dtype;
    int ndim; /* 0 (a scalar, one element) to CN_MAX_DIMS */
    int64_t shape[CN_MAX_DIMS];
    int64_t elements;            /* product of shape, 1 for a scalar, may be 0 */
    int64_t stride[CN_MAX_DIMS]; /* in elements; row-major unless a torch view was saved */
    const void *data;            /* first element in the mapped file, not aligned */
    /* What the values are multiplied by when they are read, one number or one a row, of 8-bit types
     * alone; NULL: nothing. */
    const struct cn_tensor_info *scale;
} cn_tensor_info;

/* Maps the file and checks it. CN_EIO when it can't be read, CN_EFORMAT when its content is
 * wrong. */
cn_status cn_tensors_open(cn_ctx *ctx, const char *path, cn_tensors **out) CN_CHECKED;
/* The same over bytes that stay with the caller and must outlive *out. */
cn_status cn_tensors_open_memory(cn_ctx *ctx, const void *bytes, size_t n,
                                 cn_tensors **out) CN_CHECKED;
/* The tensors of n files as one (a model's weights in several files). Takes all of parts[] over,
 * also when it fails; CN_EFORMAT when two hold a tensor of the same name. */
cn_status cn_tensors_join(cn_ctx *ctx, cn_tensors **parts, int n, cn_tensors **out) CN_CHECKED;
/* The same, with prefixes[i] before the names of parts[i]. */
cn_status cn_tensors_join_as(cn_ctx *ctx, cn_tensors **parts, const char *const *prefixes, int n,
                             cn_tensors **out) CN_CHECKED;
void cn_tensors_close(cn_tensors *t);

/* Tensors in order of their names (bytewise). */
int64_t cn_tensors_count(const cn_tensors *t);
const cn_tensor_info *cn_tensors_at(const cn_tensors *t, int64_t i);
/* NULL when there is none of that name. */
const cn_tensor_info *cn_tensors_find(const cn_tensors *t, const char *name);
/* Whether any name starts so, of a skipped tensor too. */
bool cn_tensors_have_prefix(const cn_tensors *t, const char *prefix);
/* Tensors left out of the list: more than CN_MAX_DIMS dimensions or an element type not known
 * here. What a file is follows from their names as well. */
int64_t cn_tensors_skipped(const cn_tensors *t);
/* The name of skipped tensor i, in order of names. */
const char *cn_tensors_skipped_at(const cn_tensors *t, int64_t i);
/* Why the tensor of this name was skipped, "type F4"; NULL: it wasn't. */
const char *cn_tensors_skipped_why(const cn_tensors *t, const char *name);

/* info->elements floats, contiguous, row-major. `info` comes from this t. */
cn_status cn_tensors_read(cn_ctx *ctx, const cn_tensors *t, const cn_tensor_info *info,
                          float *out) CN_CHECKED;
/* Rows first .. first+n of the outermost dimension (a scalar has one row). */
cn_status cn_tensors_read_rows(cn_ctx *ctx, const cn_tensors *t, const cn_tensor_info *info,
                               int64_t first, int64_t n, float *out) CN_CHECKED;
/* Rows as they are in the file, row-major, at any alignment; NULL when they don't lie so or are no
 * floats. *bytes: how many. cn_tensors_let_go them when read. */
const void *cn_tensor_rows(const cn_tensor_info *info, int64_t first, int64_t n, size_t *bytes);
/* Pages of the file that were read stay in the system's page cache but no longer count as this
 * process's memory, so that reading a file of weights takes no more than its largest tensor. */
void cn_tensors_let_go(const cn_tensors *t, const void *bytes, size_t n);
/* True when the elements lie row-major without gaps, so info->data may be used as it is. */
bool cn_tensor_contiguous(const cn_tensor_info *info);

/* A safetensors file's __metadata__ entry; NULL when absent, or for a torch file. */
const char *cn_tensors_metadata(const cn_tensors *t, const char *key);
/* "safetensors", "torch zip", "torch pickle" or "gguf". */
const char *cn_tensors_format(const cn_tensors *t);

/* One tensor to write. The data comes from `raw` (already in dtype, row-major), else `data`
 * (floats), else from the fill callback. Callback and `data` need a dtype of F32, F16 or BF16. */
typedef struct cn_tensor_out {
    const char *name;
    cn_dtype dtype;
    int ndim;
    int64_t shape[CN_MAX_DIMS];
    const float *data;
    const void *raw;
} cn_tensor_out;

/* Puts tensor i's floats into out (product of its shape); called in the order written, one at a
 * time. */
typedef cn_status (*cn_tensor_fill)(void *user, int64_t i, float *out);

/* Writes list[0..n) in that order, atomically: on any failure `path` is as it was. `fill` may be
 * NULL when every tensor has raw or data. metadata: key, value, ..., NULL; or NULL. A tensor with
 * values beyond its dtype's range (cn_dtype_limit) is written as F32 instead, and the log names it;
 * fill is then asked for every tensor a second time. */
cn_status cn_safetensors_write(cn_ctx *ctx, const char *path, const cn_tensor_out *list, int64_t n,
                               cn_tensor_fill fill, void *user,
                               const char *const *metadata) CN_CHECKED;

#endif
