/* SPDX-License-Identifier: Apache-2.0 */
/* prediction.c - does a single file's UNet predict the noise or v?
 *
 * Stable Diffusion 2.x comes in both kinds with the same shapes. At the last timestep the latent is
 * noise alone: a UNet that predicts noise gives back its input there, one that predicts v gives
 * minus the image. The probe and its threshold are stable-diffusion-webui's (sd_models_config.py).
 */
#include "graph/plan.h"
#include "model/nets/nets.h"
#include "model/checkpoint/base_parts.h"

#include <string.h>

static const float PROBE = 0.5f;
enum { LAST_TIMESTEP = 999, PROBE_TOKENS = 2, PROBE_SIDE = 8 };

static cn_status set_constant(cn_ctx *ctx, cn_plan *plan, const cn_node *x, float value)
{
    int64_t n = cn_node_elements(x);
    float *values = cn_alloc_array(ctx, (size_t)n, sizeof *values);
    if (!values) return CN_ENOMEM;
    for (int64_t i = 0; i < n; i++) values[i] = value;
    cn_status s = cn_plan_set(plan, x, values);
    cn_free(values);
    return s;
}

/* The mean of the UNet's output minus its input. */
static cn_status mean_difference(cn_ctx *ctx, const cn_base *b, cn_backend *be, cn_graph *g,
                                 cn_params *params, double *mean)
{
    const cn_unet_config *c = &b->unet;
    int64_t side = CN_MAX((int64_t)PROBE_SIDE, (int64_t)1 << (c->levels - 1)), one = 1;
    int64_t context_shape[3] = {1, PROBE_TOKENS, c->context_dim};
    cn_graph_use(g, params);
    const cn_unet_inputs in = {.x = cn_input4(g, "x", 1, side, side, c->in_channels),
                               .t = cn_input(g, "t", CN_F32, 1, &one, false),
                               .context = cn_input(g, "context", CN_F32, 3, context_shape, false)};
    cn_node *y = cn_unet_build(g, c, &in);
    cn_plan *plan = NULL;
    CN_TRY(cn_graph_status(g));
    CN_TRY(cn_plan_create(ctx, g, be, &y, 1, false, &plan));
    cn_status s = cn_base_load(ctx, b, be, params);
    if (s == CN_OK) s = set_constant(ctx, plan, in.x, PROBE);
    if (s == CN_OK) s = set_constant(ctx, plan, in.t, LAST_TIMESTEP);
    if (s == CN_OK) s = set_constant(ctx, plan, in.context, PROBE);
    if (s == CN_OK) s = cn_plan_run(plan);
    if (s == CN_OK) {
        const float *out = cn_plan_data(plan, y);
        double sum = 0;
        for (int64_t i = 0; i < cn_node_elements(y); i++) sum += (double)(out[i] - PROBE);
        *mean = sum / (double)cn_node_elements(y);
    }
    cn_plan_destroy(plan);
    return s;
}

const char *const cn_prediction_words[] = {"epsilon", "v", "v_prediction", NULL};

cn_status cn_base_set_prediction(cn_ctx *ctx, cn_base *b, const char *prediction)
{
    int word;
    CN_TRY(cn_word_find(ctx, "prediction", prediction, cn_prediction_words, &word));
    b->prediction_unknown = false;
    b->schedule.v_prediction = word > 0;
    return CN_OK;
}

cn_status cn_base_settle_prediction(cn_ctx *ctx, cn_base *b, cn_backend *be)
{
    if (!b->prediction_unknown) return CN_OK;
    cn_graph *g = NULL;
    cn_params *params = NULL;
    double mean = 0;
    cn_status s = cn_graph_create(ctx, &g);
    if (s == CN_OK) s = cn_base_params_create(ctx, b, CN_NET_UNET, CN_F32, &params);
    if (s == CN_OK) s = mean_difference(ctx, b, be, g, params, &mean);
    cn_graph_destroy(g);
    cn_params_destroy(params);
    CN_TRY(s);
    b->prediction_unknown = false;
    b->schedule.v_prediction = mean < -1;
    if (b->schedule.v_prediction) b->unet.sample_size = cn_family_of(b)->sample_size_v;
    cn_log(ctx, CN_LOG_INFO, "%s: predicts %s (found by a test of the UNet)", b->path,
           b->schedule.v_prediction ? "v" : "the noise");
    return CN_OK;
}
