/* SPDX-License-Identifier: Apache-2.0 */
/* streamed_product.c - products of many rows with few weights, of floats. */
#include "cpu/kernels/kernels.h"
#include "cpu/kernels/streamed_product_rows.h"

void CN_K(stream)(const cn_conv_args *a)
{
    stream(a);
}
