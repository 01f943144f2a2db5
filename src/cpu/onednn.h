/* SPDX-License-Identifier: Apache-2.0 */
/* onednn.h - the two things this project has of oneDNN: convolution and matrix product.
 *
 * Its API differs between major versions; every call to it stands in onednn.c.
 */
#ifndef CN_ONEDNN_H
#define CN_ONEDNN_H

#include "graph/backend.h"

typedef struct cn_dnnl cn_dnnl;           /* engine and stream */
typedef struct cn_dnnl_prim cn_dnnl_prim; /* one prepared primitive */

/* Moves w's values from the published order to w's claimed layout: cn_layout_put. */
typedef cn_status (*cn_dnnl_put)(cn_ctx *ctx, const cn_param *w, cn_dtype from, const void *plain,
                                 cn_dtype to, void *physical);

/* b: the backend whose memory parameters lie in; it may be filled in later. */
cn_status cn_dnnl_create(cn_ctx *ctx, cn_backend *b, cn_dnnl_put put, cn_dnnl **out) CN_CHECKED;
void cn_dnnl_destroy(cn_dnnl *d);
/* The instructions it may use: the processor's, less what ONEDNN_MAX_CPU_ISA takes. avx512: with
 * BW, DQ and VL. */
typedef struct cn_dnnl_isa {
    bool avx2, avx512, bf16, amx;
} cn_dnnl_isa;
cn_dnnl_isa cn_dnnl_allows(void);

typedef enum cn_dnnl_conv_kind { CN_DNNL_CONV, CN_DNNL_CONV_DX, CN_DNNL_CONV_DW } cn_dnnl_conv_kind;

/* Sizes as in the forward convolution: x [N,H,W,I], w [O,I/groups,kh,kw], y [N,h,w,O]. */
typedef struct cn_dnnl_conv_shape {
    int64_t N, H, W, I, O, h, w;
    int kernel_h, kernel_w, stride, dilation, groups, pad[4];
    int64_t wanted; /* DX: of I channels these first ones suffice; 0: all are wanted */
    bool bias;
    cn_dtype type;   /* of what is read (x, w, dy), F32 or BF16; the bias is F32 */
    cn_dtype result; /* of y or dx: type or F32; dw is F32 */
    bool expand;     /* weights are stored in another type than `type` */
    bool residual;   /* forward: y += a tensor like y */
    bool shift;      /* forward, N = 1: y += a value [O] of y's type per channel */
    cn_act act;      /* forward: y = act(y), a ReLU as in cn_step */
    float act_alpha;
} cn_dnnl_conv_shape;

/* The first convolution of a parameter (or its data gradient) fixes its physical layout and re-lays
 * its values. The other directions use that layout as it is where oneDNN can, else through scratch.
 * A run takes weights in elements of c->type. CN_EMISMATCH: no fast primitive makes the sums asked
 * for (so with products). */
cn_status cn_dnnl_conv_prepare(cn_ctx *ctx, cn_dnnl *d, cn_dnnl_conv_kind kind,
                               const cn_dnnl_conv_shape *c, cn_param *w, cn_dnnl_prim **out,
                               size_t *scratch_bytes) CN_CHECKED;
/* Fixes w's layout alone, as the forward convolution would. */
cn_status cn_dnnl_conv_claim(cn_ctx *ctx, cn_dnnl *d, const cn_dnnl_conv_shape *c,
                             cn_param *w) CN_CHECKED;
/* forward: a = x, b = w, c = y; DX: a = dy, b = w, c = dx; DW: a = x, b = dy, c = dw (physical).
 * bias, residual and shift are read by the forward; NULL where absent. */
typedef struct cn_dnnl_args {
    const void *a, *b, *bias, *residual, *shift;
    void *c, *scratch;
} cn_dnnl_args;
cn_status cn_dnnl_run(cn_ctx *ctx, cn_dnnl *d, cn_dnnl_prim *p,
                      const cn_dnnl_args *args) CN_CHECKED;

/* y [R,O] = x [R,I] w^T (+ bias [O]) for w [O,I]. x, w and dy are of `type` (F32 or BF16), y, dx or
 * dw of `result` (type or F32), the bias F32. */
typedef struct cn_dnnl_product {
    int64_t R, I, O;
    bool bias;
    bool pack; /* forward: w, where no product has met it yet, takes the layout that suits this one
                  best, else plain */
    cn_dtype type, result;
    bool residual; /* y += a matrix like y */
    bool shift;    /* y += a row [O] of y's type */
    cn_act act;    /* y = act(y), a ReLU as in cn_step */
    float act_alpha;
} cn_dnnl_product;
cn_status cn_dnnl_linear_prepare(cn_ctx *ctx, cn_dnnl *d, const cn_dnnl_product *m, cn_param *w,
                                 cn_dnnl_prim **out, size_t *scratch_bytes) CN_CHECKED;
/* Fixes w's layout alone, as that would. */
cn_status cn_dnnl_linear_claim(cn_ctx *ctx, cn_dnnl *d, const cn_dnnl_product *m,
                               cn_param *w) CN_CHECKED;
/* dx = dy w, or (dw) dw = dy^T x in w's layout; arguments as a convolution's. A packed w is read as
 * it is where oneDNN can, else through scratch. */
cn_status cn_dnnl_linear_gradient_prepare(cn_ctx *ctx, cn_dnnl *d, const cn_dnnl_product *m,
                                          bool dw, const cn_param *w, cn_dnnl_prim **out,
                                          size_t *scratch_bytes) CN_CHECKED;

void cn_dnnl_prim_destroy(cn_dnnl_prim *p);

/* Whether w's elements are in the published order: no layout is claimed yet, or that one. */
bool cn_dnnl_is_plain(const cn_param *w);
/* Where index i of a dimension is in w's claimed layout: an element stands at the sum of its four,
 * in elements. at has w->shape[dim] places. */
void cn_dnnl_places(const cn_param *w, int dim, int64_t *at);

#endif
