/* SPDX-License-Identifier: Apache-2.0 */
/* few_outputs.c - convolutions to few channels with products of floats. */
#include "cpu/kernels/kernels.h"
#include "cpu/kernels/conv/few_outputs_tiles.h"

void CN_K(few_outputs)(const cn_conv_args *a)
{
    few_outputs(a);
}
