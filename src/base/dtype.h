/* dtype.h - element types and conversion between them. */
#ifndef CN_DTYPE_H
#define CN_DTYPE_H

#include "base/base.h"

enum { CN_MAX_DIMS = 4 };

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
    CN_DTYPE_COUNT
} cn_dtype;

size_t cn_dtype_bytes(cn_dtype t);
/* "F32", "BF16", ... as safetensors spells them. */
const char *cn_dtype_name(cn_dtype t);
/* "f32", "f16", "bf16", the types that weights are kept, computed and saved in, in any case; false for any
 * other word. */
bool cn_weight_type_find(const char *word, cn_dtype *out);
const char *cn_weight_type_word(cn_dtype t);
/* n elements of type `from` at src (any alignment) to float. Integers convert by value. */
void cn_to_f32(cn_dtype from, const void *src, float *dst, size_t n);
/* n floats to type `to`: F32, F16 or BF16 (round to nearest even). */
void cn_from_f32(cn_dtype to, const float *src, void *dst, size_t n);

#endif
