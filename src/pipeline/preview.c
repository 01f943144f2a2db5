/* SPDX-License-Identifier: Apache-2.0 */
/* preview.c - what a drawing looks like on its way without the model's VAE: through TAESD, or by a
 * linear map of each latent to a colour.
 */
#include "pipeline/pipeline_internal.h"

#include "image/resize.h"

#include <math.h>
#include <string.h>

enum { LATENTS = 4 };

/* Colours about [-1,1] of scaled latents, of Stable Diffusion 1.x and 2.x, and of XL, by whether
 * the UNet has an added embedding: stable-diffusion-webui's cheap_approximation
 * (modules/sd_samplers_common.py, sd_vae_approx.py), found by regression. */
static const float colours_of[2][LATENTS][3] = {{{0.298f, 0.207f, 0.208f},
                                                 {0.187f, 0.286f, 0.173f},
                                                 {-0.158f, 0.189f, 0.264f},
                                                 {-0.184f, -0.271f, -0.473f}},
                                                {{0.3448f, 0.4168f, 0.4395f},
                                                 {-0.1953f, -0.0290f, 0.0250f},
                                                 {0.1074f, 0.0886f, -0.0163f},
                                                 {-0.3730f, -0.2499f, -0.2088f}}};

static cn_status project(cn_job *j, const float *clean, cn_image **out)
{
    const cn_pass *pass = &j->pass;
    const float(*colours)[3] = colours_of[j->p->base->unet.added_dim > 0];
    const int64_t n = pass->latent_h * pass->latent_w;
    cn_image *small = NULL;
    if (j->p->base->vae.latent_channels != LATENTS)
        return cn_fail(j->p->ctx, CN_EMISMATCH,
                       "--preview latent: a map to colours is known for %d latent channels, the "
                       "model has %lld",
                       LATENTS, (long long)j->p->base->vae.latent_channels);
    CN_TRY(cn_image_create(j->p->ctx, pass->latent_w, pass->latent_h, &small));
    for (int64_t i = 0; i < n; i++)
        for (int c = 0; c < 3; c++) {
            float x = 0;
            for (int k = 0; k < LATENTS; k++) x += clean[k * n + i] * colours[k][c];
            x = x / 2 + 0.5f;
            x = x > 0 ? x < 1 ? x : 1 : 0; /* NaN becomes 0 */
            small->rgb[3 * i + c] = (uint8_t)lrintf(255 * x);
        }
    const cn_status s =
        cn_image_resize(j->p->ctx, small, pass->width, pass->height, CN_FILTER_LINEAR, out);
    cn_image_destroy(small);
    return s;
}

static cn_status open_decoder(cn_job *j, cn_preview *v)
{
    cn_pipeline *p = j->p;
    if (v->decoder) return CN_OK;
    CN_TRY(cn_net_params(p->ctx, CN_NET_VAE, &v->params));
    const cn_vae_spec spec = {.config = &p->preview_vae->config,
                              .params = v->params,
                              .latent_h = j->pass.latent_h,
                              .latent_w = j->pass.latent_w,
                              .tile = j->fit.vae_tile};
    CN_TRY(cn_decode_create(p->ctx, p->backend, &spec, &v->decoder));
    return cn_vae_file_load(p->ctx, p->preview_vae, p->backend, v->params);
}

bool cn_preview_is_own(const cn_generate_options *o)
{
    return !o->preview_by || !strcmp(o->preview_by, "vae");
}

cn_status cn_preview_open(cn_ctx *ctx, const cn_base *b, const char *path, cn_vae_file **out)
{
    if (!path) return CN_OK;
    CN_TRY(cn_vae_file_open(ctx, path, out));
    const cn_vae_config *c = &(*out)->config;
    if (c->latent_channels == b->vae.latent_channels && c->levels == b->vae.levels) return CN_OK;
    return cn_fail(
        ctx, CN_EMISMATCH,
        "%s: takes latents of %lld channels at 1/%lld of the size, the model's have %lld "
        "at 1/%lld",
        path, (long long)c->latent_channels, (long long)cn_vae_factor(c),
        (long long)b->vae.latent_channels, (long long)cn_vae_factor(&b->vae));
}

cn_status cn_preview_images(cn_job *j, cn_preview *v, const float *clean, cn_image **images)
{
    const bool latent = !strcmp(j->o->preview_by, "latent");
    if (!latent && !j->p->preview_vae)
        return cn_fail(j->p->ctx, CN_EINVAL,
                       "--preview taesd needs --preview-model, TAESD's file or folder");
    if (!latent) CN_TRY(open_decoder(j, v));
    for (int i = 0; i < j->o->batch; i++) {
        const float *one = clean + i * j->pass.one;
        if (latent) {
            CN_TRY(project(j, one, &images[i]));
            continue;
        }
        CN_TRY(cn_image_create(j->p->ctx, j->pass.width, j->pass.height, &images[i]));
        CN_TRY(cn_decode_run(v->decoder, one, images[i]->rgb));
    }
    return CN_OK;
}

void cn_preview_close(cn_preview *v)
{
    cn_decode_destroy(v->decoder);
    cn_params_destroy(v->params);
    *v = (cn_preview){0};
}
