/* SPDX-License-Identifier: Apache-2.0 */
/* dtype.h - element types and conversion between them. */
#ifndef CN_DTYPE_H
#define CN_DTYPE_H

#include "base/base.h"

enum { CN_MAX_DIMS = 4 };

/* CN_Q8: blocks of elements that follow each other, each an F16 scale (their largest magnitude /
 * 127) and a signed byte per element, as GGML's Q8_0. The last block is filled up with 0. */
enum { CN_Q8_BLOCK = 32, CN_Q8_BYTES = 2 + CN_Q8_BLOCK };

typedef enum cn_dtype {
    CN_F32,
    CN_F16,
    CN_BF16,
    CN_F64,
    CN_I64,
    CN_I32,
    CN_I16,
    CN_I8,
    CN_U8,
    CN_BOOL,
    CN_F8_E4M3,     /* 4 bits of exponent, bias 7, no infinity: OCP's E4M3, torch's float8_e4m3fn */
    CN_F8_E5M2,     /* F16 without its last 8 bits */
    CN_DTYPE_COUNT, /* of those that have a size of their own */
    CN_Q8,          /* weights in memory, and GGUF files: base/ggml_blocks.h */
    CN_Q4_0,        /* from here on GGUF files alone */
    CN_Q4_1,
    CN_Q5_0,
    CN_Q5_1,
    CN_Q2_K,
    CN_Q3_K,
    CN_Q4_K,
    CN_Q5_K,
    CN_Q6_K,
    CN_ANY_DTYPE_COUNT
} cn_dtype;

size_t cn_dtype_bytes(cn_dtype t); /* 0 for types of blocks */
/* Elements that share a scale; 1 for types without blocks. */
int cn_dtype_block(cn_dtype t);
/* Bytes of n elements that begin a tensor. */
size_t cn_dtype_size(cn_dtype t, int64_t n);
/* "F32", "BF16", ... as safetensors spells them, "Q4_K", ... as GGML does. */
const char *cn_dtype_name(cn_dtype t);
/* "f32", "f16", "bf16", the types that weights are kept, computed and saved in, in any case; false
 * for any other word. */
bool cn_weight_type_find(const char *word, cn_dtype *out);
/* The same, and "q8" (or "q8_0"): how weights may be kept in memory. */
bool cn_storage_type_find(const char *word, cn_dtype *out);
const char *cn_weight_type_word(cn_dtype t);
/* n elements of type `from` at src (any alignment, the beginning of a block) to float. Integers
 * convert by value. */
void cn_to_f32(cn_dtype from, const void *src, float *dst, size_t n);
/* n floats to type `to`: F32, F16, BF16 (round to nearest even) or Q8. */
void cn_from_f32(cn_dtype to, const float *src, void *dst, size_t n);
/* The least magnitude that `t` can't hold: rounding makes it infinite, or Q8's scale has no such
 * value. Infinite for types that hold all of F32. */
float cn_dtype_limit(cn_dtype t);
/* The largest finite magnitude among n elements of type `from` at src (any alignment), in F32. */
float cn_largest(cn_dtype from, const void *src, size_t n);
/* For types of blocks: a magnitude that none of the elements exceeds, from their scales alone,
 * which is many times quicker; infinite for other types. */
float cn_largest_bound(cn_dtype from, const void *src, size_t n);
/* The place of the first of n elements that is NaN or infinite; -1: none is. */
int64_t cn_first_nonfinite(cn_dtype from, const void *src, size_t n);

#endif
