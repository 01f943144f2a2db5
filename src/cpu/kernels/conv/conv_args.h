/* SPDX-License-Identifier: Apache-2.0 */
/* conv_args.h - what the convolutions of this folder are told: sizes, where weights stand, what to
 * add. */
#ifndef CN_CPU_KERNELS_CONV_CONV_ARGS_H
#define CN_CPU_KERNELS_CONV_CONV_ARGS_H

#include "graph/backend.h"

enum { CN_CONV_GROUP = 16 /* channels are padded to whole groups of these */ };

/* In which dimension groups of 16 weights follow each other in memory. Pairs: with those of the
 * next index of the other dimension, an even one, between them, as products of bfloat16 want it. */
typedef enum cn_weight_runs {
    CN_NO_RUNS,
    CN_RUNS_OUT,
    CN_RUNS_IN,
    CN_PAIRS_OUT,
    CN_PAIRS_IN
} cn_weight_runs;

/* Outputs (y + i out_step, x + j out_step) for i < h, j < w: of input (i in_step + t.y, j in_step +
 * t.x) for each tap t of `taps` from the first on. */
typedef struct cn_conv_tap {
    int y, x;
} cn_conv_tap;

typedef struct cn_conv_grid {
    int64_t y, x, h, w;
    int first, taps;
} cn_conv_grid;

/* A convolution x [N,H,W,I] -> y [N,h,w,O], or the data gradient of one. The weight from input i to
 * output o of tap t stands at at_out[o] + at_in[i] + at_tap[t]. Winograd's: 3x3, stride 1. */
typedef struct cn_conv_args {
    int64_t N, H, W, I, h, w, O;
    int64_t O_apart; /* channels of y as it lies in memory: O, or more that stay as they are */
    int top, left;   /* Winograd: padding */
    int threads;
    const int64_t *at_out, *at_in, *at_tap;
    const cn_conv_tap *taps;   /* all grids' */
    const cn_conv_grid *grids; /* each output is in one; that of weights' gradient are y's */
    int n_taps, n_grids, in_step, out_step;
    cn_weight_runs runs;
    cn_dtype weight_type;
    const void *weights;
    cn_dtype type, result; /* of x and of y, F32 or BF16 */
    const void *x;
    const float *bias;            /* [O] or NULL */
    const void *residual, *shift; /* of y's type: like y, [N,O], or NULL */
    cn_act act;                   /* none or a ReLU, of the sum */
    float act_alpha;
    void *y;
    /* of x's type; with it the weights' gradient dw is computed, in their places, instead of y */
    const void *dy;
    float *dw;
    char *scratch;
} cn_conv_args;

#endif
