/* SPDX-License-Identifier: Apache-2.0 */
/* encode.c - see encode.h. */
#include "data/encode.h"

#include "model/nets/nets.h"

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

cn_status cn_encoder_text(cn_ctx *ctx, cn_backend *be, const cn_base *base, cn_params *params,
                          int64_t batch, cn_encoder *e)
{
    CN_TRY(begin(ctx, params, batch, e));
    e->in = cn_input(e->g, "ids", CN_I32, 2, (int64_t[]){batch, base->clip.max_positions}, false);
    e->out = cn_clip_build(e->g, &base->clip, e->in, 0);
    return cn_plan_create(ctx, e->g, be, &e->out, 1, false, &e->plan);
}

size_t cn_encoder_bytes(const cn_encoder *e)
{
    cn_plan_info info;
    cn_plan_info_get(e->plan, &info);
    return info.arena_bytes;
}
