/* decode.c - the VAE's decoder: latents to 8-bit pictures, one at a time to keep the memory low. */
#include "diffuse/draw.h"

#include <math.h>

struct cn_decode {
    cn_ctx *ctx;
    cn_vae_config config;
    cn_graph *graph;
    cn_plan *plan;
    cn_node *z, *y;
    float *input; /* z, unscaled, NHWC */
};

int64_t cn_vae_factor(const cn_vae_config *c)
{
    return (int64_t)1 << (c->levels - 1);
}

cn_status cn_decode_create(cn_ctx *ctx, cn_backend *be, const cn_vae_config *c, cn_params *params,
                           int64_t latent_h, int64_t latent_w, cn_decode **out)
{
    cn_decode *d = cn_alloc0(ctx, sizeof *d);
    if (!d) return CN_ENOMEM;
    d->ctx = ctx;
    d->config = *c;
    cn_status s = cn_graph_create(ctx, &d->graph);
    if (s == CN_OK) {
        d->z = cn_input4(d->graph, "z", 1, latent_h, latent_w, c->latent_channels);
        cn_graph_use(d->graph, params);
        d->y = cn_vae_decode_build(d->graph, c, d->z);
        s = cn_graph_status(d->graph);
    }
    if (s == CN_OK) s = cn_plan_create(ctx, d->graph, be, &d->y, 1, false, &d->plan);
    if (s == CN_OK) {
        d->input = cn_alloc(ctx, (size_t)cn_node_elements(d->z) * sizeof(float));
        if (!d->input) s = CN_ENOMEM;
    }
    if (s != CN_OK) {
        cn_decode_destroy(d);
        return s;
    }
    *out = d;
    return CN_OK;
}

void cn_decode_destroy(cn_decode *d)
{
    if (!d) return;
    cn_plan_destroy(d->plan);
    cn_graph_destroy(d->graph);
    cn_free(d->input);
    cn_free(d);
}

void cn_decode_info(const cn_decode *d, cn_plan_info *info)
{
    cn_plan_info_get(d->plan, info);
}

cn_status cn_decode_run(cn_decode *d, const float *latents, uint8_t *rgb)
{
    if (cn_cancelled(d->ctx)) return cn_fail(d->ctx, CN_ECANCELLED, "interrupted");
    int64_t C = d->config.latent_channels, pixels = cn_node_elements(d->z) / C;
    for (int64_t p = 0; p < pixels; p++)
        for (int64_t c = 0; c < C; c++)
            d->input[p * C + c] = latents[c * pixels + p] / d->config.scaling_factor;
    CN_TRY(cn_plan_set(d->plan, d->z, d->input));
    CN_TRY(cn_plan_run(d->plan));
    const float *y = cn_plan_data(d->plan, d->y);
    int64_t n = cn_node_elements(d->y);
    for (int64_t i = 0; i < n; i++) {
        float v = y[i] / 2 + 0.5f;
        /* written so that NaN becomes 0 */
        v = v > 0 ? v < 1 ? v : 1 : 0;
        rgb[i] = (uint8_t)lrintf(v * 255);
    }
    return CN_OK;
}
