/* SPDX-License-Identifier: Apache-2.0 */
/* gpu_ops.h - how a device runs each operation of graph/op_list.h: a row each, defined in a file of
 * steps, and what these share. */
#ifndef CN_GPU_GPU_OPS_H
#define CN_GPU_GPU_OPS_H

#include "gpu/vk_queue.h"

typedef struct gpu_backend {
    cn_backend base;
    cn_vk_queue queue;
    bool halves;          /* products' operands are rounded to F16 */
    cn_status failed;     /* of the addresses asked for since the last dispatch */
    float *squares;       /* sums of them on the device; NULL: none were asked for yet */
    size_t squares_bytes; /* of their room */
    cn_ctx *ctx;          /* of whoever made it: for CN_PROFILE's table, at its end */
    float *codes;         /* what moments' codes mean (optimizer_steps.c); NULL: none were seen */
} gpu_backend;

typedef struct cn_gpu_op {
    cn_status (*prepare)(gpu_backend *b, cn_ctx *ctx, cn_step *st); /* NULL: nothing is needed */
    cn_status (*run)(gpu_backend *b, cn_ctx *ctx, const cn_step *st);
} cn_gpu_op;

#define CN_GPU_DECLARE(op, name) extern const cn_gpu_op cn_gpu_##name;
CN_OP_LIST(CN_GPU_DECLARE)
#undef CN_GPU_DECLARE

/* What of a step a dispatch touches. Inputs are numbered from bit 0. */
enum {
    CN_GPU_IN0 = 1,
    CN_GPU_IN1 = 2,
    CN_GPU_IN2 = 4,
    CN_GPU_IN3 = 8,
    CN_GPU_IN4 = 16,
    CN_GPU_IN5 = 32,
    CN_GPU_INPUTS = 63,
    CN_GPU_RESIDUAL = 64,
    CN_GPU_SHIFT = 128,
    CN_GPU_OUT = 256,
    CN_GPU_AUX0 = 512,
    CN_GPU_AUX1 = 1024,
    CN_GPU_SCRATCH = 2048
};
void cn_gpu_touch(gpu_backend *b, const cn_step *st, unsigned reads, unsigned writes);
/* A convolution reads the weight q: from here on, and what it has, in the order of its kernels. */
cn_status cn_gpu_claim_order(gpu_backend *b, cn_ctx *ctx, cn_param *q) CN_CHECKED;
/* A device address; a failure is the next dispatch's. */
VkDeviceAddress cn_gpu_at(gpu_backend *b, cn_ctx *ctx, const void *at);
cn_status cn_gpu_call(gpu_backend *b, cn_ctx *ctx, const cn_vk_call *c) CN_CHECKED;
/* x * y * z groups. */
cn_status cn_gpu_go(gpu_backend *b, cn_ctx *ctx, cn_gpu_kernel kernel, const void *arguments,
                    size_t bytes, int64_t x, int64_t y, int64_t z) CN_CHECKED;
/* `groups` of them, which the kernel counts along x, then y. */
cn_status cn_gpu_go_flat(gpu_backend *b, cn_ctx *ctx, cn_gpu_kernel kernel, const void *arguments,
                         size_t bytes, int64_t groups) CN_CHECKED;

/* Members of a kernel's arguments, which are int: prepare has seen to it that sizes fit. */
static inline int cn_gpu_int(int64_t n)
{
    return (int)n;
}

static inline int64_t cn_gpu_rows(const cn_node *x)
{
    return cn_node_elements(x) / cn_channels(x);
}

/* The optimizer's part of graph/backend.h (optimizer_steps.c). */
cn_status cn_gpu_adamw(cn_backend *base, cn_ctx *ctx, const cn_adamw_step *s);
cn_status cn_gpu_sum_squares(cn_backend *base, cn_ctx *ctx, const cn_floats *list, int64_t n,
                             double *out);
cn_status cn_gpu_accumulate(cn_backend *base, cn_ctx *ctx, float *sum, const float *x, int64_t n);
cn_status cn_gpu_average(cn_backend *base, cn_ctx *ctx, float *mean, const float *x, float keep,
                         int64_t n);
cn_status cn_gpu_exchange(cn_backend *base, cn_ctx *ctx, float *x, float *y, int64_t n);

/* kernels/map.k: an item for each of n elements of y. What the other arguments are: */
typedef enum cn_gpu_map {
    CN_GPU_MAP_FILL,        /* alpha */
    CN_GPU_MAP_ACT,         /* of a; offset: a cn_act, alpha its slope */
    CN_GPU_MAP_ACT_DX,      /* b times the slope at a */
    CN_GPU_MAP_ADD,         /* a, and b at elements from to to - 1 */
    CN_GPU_MAP_SCALE,       /* a alpha */
    CN_GPU_MAP_GATE,        /* rows of C: a times b's value of the row */
    CN_GPU_MAP_ADD_CHANNEL, /* images of P rows of C: a, and b [image,C] */
    CN_GPU_MAP_ADD_ROWS,    /* a, and b at element i % P */
    CN_GPU_MAP_COPY,        /* rows of C: of a's, from apart, at P; to y's, to apart, at offset */
    CN_GPU_MAP_GEGLU,       /* a [rows,2C] */
    CN_GPU_MAP_GEGLU_DX,    /* a [rows,2C], b [rows,C]; n is of b */
    CN_GPU_MAP_TIMESTEP,    /* a [rows], y [rows,C] */
    CN_GPU_MAP_EMBED,       /* a [P,C], b numbers */
    CN_GPU_MAP_EMBED_DW,    /* a P numbers, b [P,C], y [V,C] */
    CN_GPU_MAP_SUM_PARTS,   /* a [C][P]: the sum over C of element i, 0 from P on */
    CN_GPU_MAP_FOLLOW,      /* y less alpha of what it is above a */
    CN_GPU_MAP_EXCHANGE     /* a's go to y, y's to a */
} cn_gpu_map;

typedef struct cn_gpu_map_args {
    VkDeviceAddress a, b, y, ids; /* ids: set by cn_gpu_go_map */
    int n, what, C, P, from, to, offset;
    float alpha;
} cn_gpu_map_args;
cn_status cn_gpu_go_map(gpu_backend *b, cn_ctx *ctx, const cn_gpu_map_args *a) CN_CHECKED;

/* kernels/total.k: scratch that a sum over n elements takes, and the sum times alpha into out. */
typedef struct cn_gpu_total_args {
    VkDeviceAddress a, b, per, y;
    int n, what, loss, each, share, C, weighted;
    float alpha;
} cn_gpu_total_args;

#endif
