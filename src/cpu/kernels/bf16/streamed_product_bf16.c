/* SPDX-License-Identifier: Apache-2.0 */
/* streamed_product_bf16.c - products of many rows with few weights, of pairs of bfloat16. */
#include "cpu/kernels/bf16/bf16.h"
#include "cpu/kernels/streamed_product_rows.h"

void cn_stream16(const cn_conv_args *a)
{
    stream(a);
}
