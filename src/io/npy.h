/* SPDX-License-Identifier: Apache-2.0 */
/* npy.h - numpy's .npy files: one array of numbers with its shape.
 *
 * Read are versions 1 to 3, either byte order, C and Fortran order (into C order). Types: bool,
 * (un)signed integers and floats of 1 to 8 bytes. Left out: structured types, strings, complex
 * numbers, pickled objects.
 */
#ifndef CN_IO_NPY_H
#define CN_IO_NPY_H

#include "base/base.h"
#include "base/dtype.h"

enum { CN_NPY_MAX_DIMS = 4, CN_NPY_MAX_ELEMENTS = 1 << 27 };

typedef struct cn_npy {
    int ndim; /* 0: a single number */
    int64_t shape[CN_NPY_MAX_DIMS], elements;
    bool single; /* float32 or narrower: what is computed from it belongs in float32, as numpy does
                  */
    double *values; /* [shape], C order */
} cn_npy;

/* CN_EFORMAT for a damaged or truncated file, a type or number of dimensions that isn't read. */
cn_status cn_npy_load(cn_ctx *ctx, const char *path, cn_npy **out) CN_CHECKED;
cn_status cn_npy_load_memory(cn_ctx *ctx, const void *bytes, size_t n, cn_npy **out) CN_CHECKED;
void cn_npy_free(cn_npy *a);

/* Appends a file of version 1 in C order: values of CN_F32 or CN_I32 of this shape, in this
 * machine's byte order. */
cn_status cn_npy_add(cn_ctx *ctx, cn_str *out, cn_dtype type, int ndim, const int64_t *shape,
                     const void *values) CN_CHECKED;

#endif
