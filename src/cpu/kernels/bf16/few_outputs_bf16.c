/* SPDX-License-Identifier: Apache-2.0 */
/* few_outputs_bf16.c - convolutions of bfloat16 to few channels with products of pairs of
 * channels. */
#include "cpu/kernels/bf16/bf16.h"
#include "cpu/kernels/conv/few_outputs_tiles.h"

void cn_few_outputs_bf16(const cn_conv_args *a)
{
    few_outputs(a);
}
