/* SPDX-License-Identifier: Apache-2.0 */
/* quant8.h - numbers of [-1,1] or [0,1] in one byte: the dynamic map of 8-bit optimizers.
 *
 * Source: Dettmers, "8-Bit Approximations for Parallelism in Deep Learning" (2015) and Dettmers et
 * al., "8-bit Optimizers via Block-wise Quantization" (2022); values as bitsandbytes'
 * create_dynamic_map makes them. Seven decades, 1e-7 to 1, each with twice as many evenly spaced
 * values as the one below it; beside them 0 and 1. The signed map has every value but 1 with both
 * signs. Codes are in ascending order of value.
 *
 * One rule differs from bitsandbytes: in the unsigned map only 0 itself gets the code of 0. A
 * second moment rounded to 0 would leave the step without its divisor (Li et al., "Memory Efficient
 * Optimizers with 4-bit States", 2023); rounded up, the step is a smaller one.
 *
 * A code is found without a search: the upper half of a float's bits names a bin narrower than the
 * distance of neighbouring values, so the bin's first code is right or one too low.
 */
#ifndef CN_QUANT8_H
#define CN_QUANT8_H

#include "base/base.h"

enum {
    CN_QUANT8_BLOCK = 256, /* elements under one scale */
    CN_QUANT8_DECADES = 8, /* seven, and 1 alone */
    CN_QUANT8_STEP_BITS = 12,
    CN_QUANT8_STEPS = 1 << CN_QUANT8_STEP_BITS,
    CN_QUANT8_LOWEST = 103 << 7,  /* upper bits of 2^-24: below half of the smallest value */
    CN_QUANT8_HIGHEST = 127 << 7, /* of 1 */
    CN_QUANT8_BINS = CN_QUANT8_HIGHEST - CN_QUANT8_LOWEST + 1
};

typedef struct cn_quant8 {
    bool is_signed;
    int32_t zero;     /* the code of 0 */
    float value[256]; /* of a code */
    float above[257]; /* half way from magnitude k to the next; infinite for the last */
    int32_t first[CN_QUANT8_BINS]; /* nearest magnitude's number to the bin's lower end */
    /* Both ways by arithmetic, for vectors. Value i of a decade of P parts below 10^-d is (18 i + 2
     * P
     * + 9) / (20 P 10^d), a whole number by another. With k the magnitude's number, from 1 in the
     * unsigned map, and P its power of two: 18 k less offset * P (signed) or less 16 P - offset, by
     * unit; both by the lowest three bits of k's exponent as a float. The unsigned map's 0 and 1
     * have one row. */
    float offset[CN_QUANT8_DECADES], unit[CN_QUANT8_DECADES];
    /* A size x has the decade of its logarithm, or the next one where it is above that one's
     * border; slope * x + start is then, in CN_QUANT8_STEPS from one to the next, between the
     * nearest magnitude's number and the next but for rounding, or beyond the decade's last, which
     * is 2^(decade + 1) - 1 or 2^(decade + 2) - 2. */
    float border[CN_QUANT8_DECADES], slope[CN_QUANT8_DECADES], start[CN_QUANT8_DECADES];
} cn_quant8;

void cn_quant8_init(cn_quant8 *q, bool is_signed);
/* The code whose value is nearest to x, |x| <= 1; half way goes to the smaller magnitude. x above 0
 * never gets the unsigned map's 0. */
int cn_quant8_code(const cn_quant8 *q, float x);

#endif
