/* SPDX-License-Identifier: Apache-2.0 */
/* kernels.h - the own kernels, compiled once per instruction set and chosen at run time.
 *
 * The Makefile compiles every file of this folder for x86-64-v2, -v3 (AVX2) and -v4 (AVX-512) with
 * CN_ISA naming the variant; CN_K(name) gives each its own symbols and kernel_table.c gathers them.
 * All are OpenMP parallel, allocate nothing, and divide work by sizes and thread count alone, so
 * results repeat. Rows are positions (batch included), C channels innermost. Those of stored/ are
 * compiled once more per storage type of activations, float32 and bfloat16; all compute in float32.
 */
#ifndef CN_KERNELS_H
#define CN_KERNELS_H

#include "cpu/kernels/conv/winograd.h"
#include "graph/backend.h"

#ifndef CN_ISA
#define CN_ISA v2
#endif
#define CN_K2(name, isa) cn_k_##name##_##isa
#define CN_K1(name, isa) CN_K2(name, isa)
#define CN_K(name)       CN_K1(name, CN_ISA)

/* Rows are of float or, for the kernels of bf16/, of bfloat16. */
typedef struct cn_attention_args {
    int64_t N, L, M, D; /* batch, queries, keys, head width */
    int heads;
    bool causal;
    float scale;
    int threads;
    bool amx;              /* bf16/ alone: its tiles are used */
    const void *q, *k, *v; /* [N,L|M,heads*D] */
    void *y;               /* read by the gradient */
    float *lse;            /* [N,heads,L], natural logarithms; the forward's may be NULL */
    const void *dy;        /* gradient only */
    void *dq, *dk, *dv;    /* each may be NULL */
    char *scratch;
} cn_attention_args;

/* A norm of x [N,P,C]: a group norm over P positions and C / groups channels, a layer norm over C
 * (P 1, one group). x and dx are float, y and dy of the storage type. */
typedef struct cn_norm_args {
    int64_t N, P, C;
    int groups;
    float eps;
    bool silu; /* behind a group norm */
    const float *x;
    const float *gamma, *beta; /* [C]; a group norm's may be NULL: 1 and 0 */
    void *y;
    float *stats;       /* written unless NULL: [N,groups,2], mean and 1/deviation */
    const float *given; /* the same, read: by the gradient; by a group norm instead of x's own where
                           their deviation is above 0, or NULL */
    float *scratch;     /* cn_norm_scratch_bytes; a layer norm's gradient: threads * 2 * C floats */
    /* gradient only */
    const void *dy;
    float *dx, *dgamma, *dbeta; /* the latter two may be NULL */
} cn_norm_args;

/* CN_REPACK_ROWS rows of columns x area elements of 2 or 4 bytes, `stride` elements apart and eight
 * more readable than they have; to the layout: element (row, i, k) to row * step + column[i] +
 * position[k]. */
enum { CN_REPACK_ROWS = 16, CN_REPACK_AREA = 64 /* at most */ };
typedef struct cn_repack {
    size_t bytes; /* of an element */
    const void *rows;
    int64_t stride, columns, area;
    int step;  /* 1; or 2, where a pair of columns stands side by side */
    bool away; /* what is written isn't read soon */
    const int64_t *column, *position;
    void *to;
} cn_repack;

/* What a kernel between two picture sizes needs: x [N,h,w,C] -> y [N,H,W,C]. */
typedef struct cn_window {
    int64_t N, h, w, H, W, C;
    int kernel, stride, top, left;
} cn_window;

/* X(result, name, arguments): one line a kernel. */
#define CN_KERNEL_LIST(X)                                                                         \
    X(void, convert, (cn_dtype from, const void *x, cn_dtype to, void *y, int64_t n))             \
    X(void, convert_alone, (cn_dtype from, const void *x, cn_dtype to, void *y, int64_t n))       \
    X(void, repack, (const cn_repack *l))                                                         \
    X(void, attention, (const cn_attention_args *a))                                              \
    X(void, attention_grad, (const cn_attention_args *a))                                         \
    X(void, winograd, (const cn_conv_args *a))                                                    \
    X(void, winograd_dw, (const cn_conv_args *a))                                                 \
    X(void, patches, (const cn_conv_args *a))                                                     \
    X(void, patches_dw, (const cn_conv_args *a))                                                  \
    X(void, few_outputs, (const cn_conv_args *a))                                                 \
    X(void, stream, (const cn_conv_args *a))                                                      \
    X(void, embed, (const float *table, const int32_t *ids, float *y, int64_t n, int64_t C))      \
    X(void, embed_dw,                                                                             \
      (const int32_t *ids, const float *dy, float *dtable, int64_t n, int64_t V, int64_t C))      \
    X(void, timestep, (const float *t, float *y, int64_t N, int64_t dim))                         \
    X(double, loss, (cn_loss kind, float c, const float *a, const float *b, int64_t n))           \
    X(void, loss_dx,                                                                              \
      (cn_loss kind, float c, const float *a, const float *b, float dy, float *dx, int64_t n))    \
    X(double, kl, (const float *moments, int64_t rows, int64_t C))                                \
    X(void, kl_dx, (const float *moments, float dy, float *dx, int64_t rows, int64_t C))          \
    X(void, gauss, (const float *moments, const float *noise, float *z, int64_t rows, int64_t C)) \
    X(void, gauss_dx,                                                                             \
      (const float *moments, const float *noise, const float *dz, float *dx, int64_t rows,        \
       int64_t C))                                                                                \
    X(void, adamw, (const cn_adamw_step *s))                                                      \
    X(double, sum_squares, (const float *x, int64_t n))                                           \
    X(void, average, (float *mean, const float *x, float keep, int64_t n))                        \
    X(void, orthogonalize, (float *x, int64_t rows, int64_t columns, float *scratch))

/* The same for those that exist per storage type of activations (stored/): pointers to void are to
 * activations; parameters, statistics, sums and scratch are float. */
#define CN_STORED_LIST(X)                                                                          \
    X(void, act, (cn_act act, float alpha, const void *x, void *y, int64_t n))                     \
    X(void, act_dx, (cn_act act, float alpha, const void *x, const void *dy, void *dx, int64_t n)) \
    X(void, geglu, (const void *x, void *y, int64_t rows, int64_t F))                              \
    X(void, geglu_dx, (const void *x, const void *dy, void *dx, int64_t rows, int64_t F))          \
    X(void, add, (const void *a, const void *b, void *y, int64_t n))                               \
    X(void, scale, (const void *x, float alpha, void *y, int64_t n))                               \
    X(void, gate, (const void *x, const void *m, void *y, int64_t rows, int64_t C))                \
    X(void, max_pool, (const cn_window *w, const void *x, void *y))                                \
    X(void, mean_pool, (const cn_window *w, const void *x, void *y))                               \
    X(void, resize, (const cn_window *w, bool align_corners, const void *x, void *y))              \
    X(void, pad, (const cn_window *w, bool reflect, const void *x, void *y))                       \
    X(void, add_channel, (const void *x, const void *e, void *y, int64_t N, int64_t P, int64_t C)) \
    X(void, sum_rows, (const void *x, float *y, int64_t N, int64_t P, int64_t C, float *scratch))  \
    X(void, add_rows, (const void *x, const void *t, void *y, int64_t N, int64_t n))               \
    X(void, sum_batch, (const void *x, void *y, int64_t N, int64_t n))                             \
    X(void, copy_channels,                                                                         \
      (const void *x, int64_t x_stride, void *y, int64_t y_stride, int64_t C, int64_t rows))       \
    X(void, upsample, (const cn_window *w, const void *x, void *y))                                \
    X(void, upsample_dx, (const cn_window *w, const void *dy, void *dx))                           \
    X(void, fill, (float value, void *y, int64_t n))                                               \
    X(void, group_norm, (const cn_norm_args *a))                                                   \
    X(void, group_norm_grad, (const cn_norm_args *a))                                              \
    X(void, layer_norm, (const cn_norm_args *a))                                                   \
    X(void, layer_norm_grad, (const cn_norm_args *a))

typedef enum cn_store { CN_STORED_F32, CN_STORED_BF16, CN_STORES } cn_store;

typedef struct cn_stored_kernels {
#define CN_KERNEL_FIELD(result, name, arguments) result(*name) arguments;
    CN_STORED_LIST(CN_KERNEL_FIELD)
} cn_stored_kernels;

typedef struct cn_kernels {
    const char *isa;
    CN_KERNEL_LIST(CN_KERNEL_FIELD)
#undef CN_KERNEL_FIELD
    const cn_stored_kernels *stored[CN_STORES];
} cn_kernels;

#define CN_KERNEL_DECLARE(result, name, arguments) result CN_K(name) arguments;
CN_KERNEL_LIST(CN_KERNEL_DECLARE)
#undef CN_KERNEL_DECLARE

#define CN_STORED_TABLES(isa) \
    extern const cn_stored_kernels cn_stored_##isa##_f32, cn_stored_##isa##_bf16
CN_STORED_TABLES(v2);
CN_STORED_TABLES(v3);
CN_STORED_TABLES(v4);
extern const cn_kernels cn_kernels_v2, cn_kernels_v3, cn_kernels_v4;

/* Attention's tiles, queries by keys; scratch is counted with them too. */
enum { CN_TILE_Q = 128, CN_TILE_K = 256 };

/* Scratch bytes of the kernels that want some. */
size_t cn_norm_scratch_bytes(int64_t N, int64_t C, int threads);
size_t cn_orthogonalize_bytes(int64_t rows, int64_t columns);
size_t cn_attention_scratch_bytes(int64_t N, int64_t L, int64_t M, int64_t D, int heads,
                                  int threads, bool grad);

/* How one image's P positions are divided among threads when the batch is smaller than their
 * number. */
static inline int cn_parts(int64_t N, int threads)
{
    return N >= threads ? 1 : threads;
}

#endif
