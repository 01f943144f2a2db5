/* winograd.h - convolutions by kernels/winograd.c: which are faster that way, and their steps. */
#ifndef CN_CPU_WINOGRAD_H
#define CN_CPU_WINOGRAD_H

#include "cpu/kernels/bf16/bf16.h"
#include "cpu/onednn.h"

struct cpu_backend;
typedef struct cn_winograd cn_winograd; /* a prepared step */

/* Whether Winograd is the faster way to the forward or the data gradient of this convolution, beside direct ones at
 * the rate of the processor's products. */
bool cn_winograd_pays(cn_dnnl_conv_kind kind, const cn_dnnl_conv_shape *c, cn_bf16_level bf16,
                      int threads);
/* Claims w's layout if nothing has, and counts scratch. Weights are read as they are stored,
 * Q8 excepted: a run gets those in x's type. */
cn_status cn_winograd_prepare(struct cpu_backend *b, cn_ctx *ctx, cn_dnnl_conv_kind kind,
                              const cn_dnnl_conv_shape *c, cn_param *w, cn_winograd **out,
                              size_t *scratch_bytes) CN_CHECKED;
/* With the step's sums and activation. weights and scratch stand for the step's own. */
void cn_winograd_run(const struct cpu_backend *b, const cn_winograd *p, const cn_step *st,
                     const void *weights, void *scratch);
void cn_winograd_destroy(cn_winograd *p);

#endif
