/* SPDX-License-Identifier: Apache-2.0 */
/* encode.h - the base's VAE and text encoder as plans: pictures to moments, tokens to contexts.
 *
 * Encoders of several sizes share one set of parameters, which is filled (cn_base_load) once any of
 * them is built; what one takes is known before.
 */
#ifndef CN_DATA_ENCODE_H
#define CN_DATA_ENCODE_H

#include "graph/plan.h"
#include "model/checkpoint/weights.h"

enum { CN_ENCODE_MAX_PICTURES = 16, CN_ENCODE_MAX_PROMPTS = 8 }; /* at a time */

typedef struct cn_encoder {
    cn_graph *g;
    cn_plan *plan;
    cn_node *in;                        /* [n,H,W,3] in [-1,1]; of texts NULL */
    cn_node *ids[CN_MAX_TEXT_ENCODERS]; /* [n,L] of each of the base's text encoders; NULL */
    cn_node *end[CN_MAX_TEXT_ENCODERS]; /* [n,L,1] of those with a pooled output; NULL */
    /* moments [n,h,w,2c]; or context [n,L,D], with a pooled output [n,L*D+P] */
    cn_node *out;
    int64_t batch; /* n */
} cn_encoder;

cn_status cn_encoder_params(cn_ctx *ctx, const cn_base *base, cn_net net,
                            cn_params **out) CN_CHECKED;
/* Of `most` pictures at a time, fewer where they are larger than 512 px. *e is empty; closed after
 * a failure too. */
cn_status cn_encoder_vae(cn_ctx *ctx, cn_backend *be, const cn_base *base, cn_params *params,
                         int64_t most, int64_t width, int64_t height, cn_encoder *e) CN_CHECKED;
/* Of the base's text encoders side by side: params as cn_text_params_create made them. */
cn_status cn_encoder_text(cn_ctx *ctx, cn_backend *be, const cn_base *base,
                          cn_params *const *params, int64_t batch, cn_encoder *e) CN_CHECKED;
/* Text i's tokens, [L] for each text encoder one behind the other, into the encoder's input. */
void cn_encoder_put_ids(cn_encoder *e, int64_t i, const int32_t *ids);
void cn_encoder_close(cn_encoder *e);

/* The parameters of the base's text encoders, NULL behind the last; destroyed after a failure
 * too. */
cn_status cn_text_params_create(cn_ctx *ctx, const cn_base *base,
                                cn_params *sets[CN_MAX_TEXT_ENCODERS]) CN_CHECKED;
void cn_text_params_destroy(cn_params *sets[CN_MAX_TEXT_ENCODERS]);
cn_status cn_text_params_load(cn_ctx *ctx, const cn_base *base, cn_backend *be,
                              cn_params *const *sets) CN_CHECKED;
size_t cn_text_params_bytes(cn_params *const *sets);
/* Of its buffers; the parameters' are cn_params_bytes. */
size_t cn_encoder_bytes(const cn_encoder *e);

#endif
