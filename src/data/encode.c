/* SPDX-License-Identifier: Apache-2.0 */
/* encode.c - see encode.h. */
#include "data/encode.h"

#include "model/nets/nets.h"

#include <string.h>

enum { ABOUT_PX = 512 * 512 }; /* so much at a time keeps an encoder's buffers small */

void cn_encoder_close(cn_encoder *e)
{
    cn_plan_destroy(e->plan);
    cn_graph_destroy(e->g);
    *e = (cn_encoder){0};
}

cn_status cn_encoder_params(cn_ctx *ctx, const cn_base *base, cn_net net, cn_params **out)
{
    return cn_base_params_create(ctx, base, net, CN_F32, out);
}

static cn_status begin(cn_ctx *ctx, cn_params *params, int64_t batch, cn_encoder *e)
{
    *e = (cn_encoder){.batch = batch};
    CN_TRY(cn_graph_create(ctx, &e->g));
    cn_graph_use(e->g, params);
    return CN_OK;
}

cn_status cn_encoder_vae(cn_ctx *ctx, cn_backend *be, const cn_base *base, cn_params *params,
                         int64_t most, int64_t width, int64_t height, cn_encoder *e)
{
    CN_TRY(begin(ctx, params, CN_MAX(1, CN_MIN(most, ABOUT_PX / (width * height))), e));
    e->in = cn_input4(e->g, "image", e->batch, height, width, base->vae.image_channels);
    e->out = cn_vae_encode_build(e->g, &base->vae, e->in);
    return cn_plan_create(ctx, e->g, be, &e->out, 1, false, &e->plan);
}

cn_status cn_encoder_text(cn_ctx *ctx, cn_backend *be, const cn_base *base,
                          cn_params *const *params, int64_t batch, cn_encoder *e)
{
    const int64_t shape[2] = {batch, cn_base_context_length(base)};
    cn_node *pooled = NULL;
    CN_TRY(begin(ctx, params[0], batch, e));
    for (int k = 0; k < CN_MAX_TEXT_ENCODERS && params[k]; k++) {
        cn_graph_use(e->g, params[k]);
        e->ids[k] = cn_input(e->g, "ids", CN_I32, 2, shape, false);
        if (base->text[k].projection)
            e->end[k] = cn_input(e->g, "end", CN_F32, 3, (int64_t[]){batch, shape[1], 1}, false);
        cn_node *rows = cn_clip_embed_build(e->g, &base->text[k], e->ids[k]);
        cn_node *y = cn_clip_pooled_build(e->g, &base->text[k], rows, 0, e->end[k], &pooled);
        e->out = k ? cn_concat(e->g, e->out, y) : y;
    }
    if (pooled) {
        const int64_t row[2] = {batch, shape[1] * cn_base_context_dim(base)};
        e->out = cn_concat(e->g, cn_view(e->g, e->out, 2, row), pooled);
    }
    return cn_plan_create(ctx, e->g, be, &e->out, 1, false, &e->plan);
}

/* 1 at text i's first end token, which has the highest id. */
static void put_end(const cn_encoder *e, int k, int64_t i, const int32_t *ids)
{
    const int64_t L = e->end[k]->shape[1];
    float *to = (float *)cn_plan_data(e->plan, e->end[k]) + i * L;
    int64_t at = 0;
    for (int64_t p = 1; p < L; p++)
        if (ids[p] > ids[at]) at = p;
    for (int64_t p = 0; p < L; p++) to[p] = p == at;
}

void cn_encoder_put_ids(cn_encoder *e, int64_t i, const int32_t *ids)
{
    for (int k = 0; k < CN_MAX_TEXT_ENCODERS && e->ids[k]; k++) {
        const int64_t L = e->ids[k]->shape[1];
        int32_t *to = cn_plan_data(e->plan, e->ids[k]);
        memcpy(to + i * L, ids + k * L, (size_t)L * sizeof *ids);
        if (e->end[k]) put_end(e, k, i, ids + k * L);
    }
}

cn_status cn_text_params_create(cn_ctx *ctx, const cn_base *base,
                                cn_params *sets[CN_MAX_TEXT_ENCODERS])
{
    for (int k = 0; k < cn_family_of(base)->n_text; k++)
        CN_TRY(cn_encoder_params(ctx, base, cn_net_text(k), &sets[k]));
    return CN_OK;
}

void cn_text_params_destroy(cn_params *sets[CN_MAX_TEXT_ENCODERS])
{
    for (int k = 0; k < CN_MAX_TEXT_ENCODERS; k++) {
        cn_params_destroy(sets[k]);
        sets[k] = NULL;
    }
}

cn_status cn_text_params_load(cn_ctx *ctx, const cn_base *base, cn_backend *be,
                              cn_params *const *sets)
{
    for (int k = 0; k < CN_MAX_TEXT_ENCODERS && sets[k]; k++)
        CN_TRY(cn_base_load(ctx, base, be, sets[k]));
    return CN_OK;
}

size_t cn_text_params_bytes(cn_params *const *sets)
{
    size_t bytes = 0;
    for (int k = 0; k < CN_MAX_TEXT_ENCODERS && sets[k]; k++) bytes += cn_params_bytes(sets[k]);
    return bytes;
}

size_t cn_encoder_bytes(const cn_encoder *e)
{
    cn_plan_info info;
    cn_plan_info_get(e->plan, &info);
    return info.arena_bytes;
}
