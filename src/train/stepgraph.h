/* SPDX-License-Identifier: Apache-2.0 */
/* stepgraph.h - the loss of noisy latents as one graph: control network, UNet, mean squared error.
 *
 *   condition -> hint -> ControlNet -> residuals -> UNet -> prediction -> loss against the target
 *
 * Other kinds of control networks stand in the ControlNet's place (cn_control_kind). With gradients
 * it is a training step; without, it measures. Parameter sets are shared between graphs and stay
 * the caller's.
 */
#ifndef CN_TRAIN_STEPGRAPH_H
#define CN_TRAIN_STEPGRAPH_H

#include "data/batch.h"
#include "diffuse/draw_spec.h"
#include "graph/plan.h"

typedef struct cn_stepgraph_options {
    int64_t batch, width, height; /* pixels */
    int64_t latent_w, latent_h, tokens;
    bool control;  /* false: the UNet alone */
    bool only_mid; /* the paper's small-scale strategy: no residual reaches the decoder's skips */
    bool gradients;
    bool scaled; /* gradients are those of the loss times an input */
    cn_loss loss;
    bool weighted;    /* each sample with its own weight and Huber c */
    int checkpointed; /* blocks whose values the backward pass computes again, the most worthwhile
                         first */
} cn_stepgraph_options;

typedef struct cn_stepgraph {
    cn_stepgraph_options o;
    cn_graph *g;
    cn_plan *plan;
    cn_draw_control control; /* kind NULL: without control */
    cn_hints hints;
    cn_node *x, *t, *context, *target; /* inputs */
    cn_node *condition;                /* [N,h,w,C] in the form of its kind; NULL without control */
    float *rgb;         /* [H,W,3] room for a condition that its kind takes in another form; NULL */
    cn_node *types;     /* a ControlNet Union's; NULL */
    cn_node *added;     /* SDXL's pooled text and sizes; NULL: the networks take none */
    int64_t number_dim; /* of each of the sizes there */
    cn_node *per;       /* [N,2] weight and c, NULL unless weighted */
    cn_node *scale;     /* [1], NULL unless scaled */
    cn_node *prediction, *loss;
    int segments; /* blocks that could be checkpointed */
} cn_stepgraph;

/* control's configuration must outlive the graph. */
cn_status cn_stepgraph_create(cn_ctx *ctx, cn_backend *be, const cn_unet_config *unet_config,
                              cn_params *unet, const cn_draw_control *control,
                              const cn_stepgraph_options *options, cn_stepgraph **out) CN_CHECKED;
void cn_stepgraph_destroy(cn_stepgraph *s);
/* Lists the *n parameters of both sets that the step has gradients for, the control's first, and
 * the gradients, which stay where they are from run to run. cn_free *params and *grads, after a
 * failure too. */
cn_status cn_stepgraph_trained(cn_ctx *ctx, const cn_stepgraph *s, const cn_params *control,
                               const cn_params *unet, cn_param ***params, const float ***grads,
                               int64_t *n) CN_CHECKED;

/* Sample `from` of a pass into place `to` of the step's inputs; the pass has the step's size. */
void cn_stepgraph_put(cn_stepgraph *g, int64_t to, const cn_pass *p, int64_t from);
/* All samples of a pass. */
void cn_stepgraph_put_pass(cn_stepgraph *g, const cn_pass *p);

#endif
