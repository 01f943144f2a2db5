/* validate_draw.c - drawings of the held-out conditions on fixed seeds, and what agrees in them. */
#include "train/validate.h"

#include "annotate/agreement.h"
#include "diffuse/draw.h"

#include <string.h>

enum { TOLERANCE_PX = 1 };

/* What one series of drawings needs. */
typedef struct series {
    cn_params *vae;
    cn_draw *draw;
    cn_decode *decode;
    cn_sampler *sampler;
    float *latents, *hint, *cond, *uncond;
} series;

static void series_close(series *s)
{
    cn_draw_destroy(s->draw);
    cn_decode_destroy(s->decode);
    cn_sampler_destroy(s->sampler);
    cn_params_destroy(s->vae);
    cn_free(s->latents);
    cn_free(s->hint);
    cn_free(s->cond);
    cn_free(s->uncond);
}

static cn_status series_open(cn_validator *v, cn_trainer *t, bool control, series *s)
{
    const cn_cache *c = t->held_cache;
    cn_draw_spec spec = {.unet = &t->base->unet,
                         .unet_params = t->unet,
                         .batch = 1,
                         .latent_h = c->latent_h,
                         .latent_w = c->latent_w,
                         .context_length = c->tokens,
                         .guidance = t->o.validation_guidance_scale != 1};
    if (control)
        spec.controls[spec.n_controls++] =
            (cn_draw_control){.config = &t->config, .params = t->control};
    CN_TRY(cn_draw_create(v->ctx, t->be, &spec, &s->draw));
    CN_TRY(cn_params_create(v->ctx, "vae", &s->vae));
    cn_vae_spec vae = {.config = &t->base->vae,
                       .params = s->vae,
                       .latent_h = c->latent_h,
                       .latent_w = c->latent_w};
    CN_TRY(cn_decode_create(v->ctx, t->be, &vae, &s->decode));
    CN_TRY(cn_base_load(v->ctx, t->base, t->be, s->vae));
    CN_TRY(cn_sampler_create(v->ctx, "ddim", &t->base->schedule,
                             (int)t->o.validation_sampling_steps, &s->sampler));
    const size_t context = (size_t)(c->tokens * c->context_dim) * sizeof(float);
    s->latents =
        cn_alloc_array(v->ctx, (size_t)(c->latent_h * c->latent_w * c->latent_c), sizeof(float));
    s->hint = cn_alloc_array(v->ctx, (size_t)(v->width * v->height * 3), sizeof(float));
    s->cond = cn_alloc(v->ctx, context);
    s->uncond = cn_alloc(v->ctx, context);
    return s->latents && s->hint && s->cond && s->uncond ? CN_OK : CN_ENOMEM;
}

static cn_status draw_one(cn_validator *v, cn_trainer *t, series *s, int64_t i, uint8_t *rgb)
{
    const cn_cache *c = t->held_cache;
    const int64_t n = c->latent_h * c->latent_w * c->latent_c, pixels = v->width * v->height;
    cn_rng rng;
    cn_rng_seed(&rng, (uint64_t)i); /* the same noise for item i at every validation */
    cn_rng_normal(&rng, s->latents, n);
    const float sigma = (float)cn_sampler_init_noise_sigma(s->sampler);
    for (int64_t k = 0; k < n; k++) s->latents[k] *= sigma;
    for (int64_t k = 0; k < 3 * pixels; k++)
        s->hint[k] = (float)v->condition[3 * pixels * i + k] / 255.0f;
    CN_TRY(cn_store_read(c->contexts, c->context_of[t->held_first + i], s->cond));
    const cn_draw_args args = {.uncond = s->uncond,
                               .cond = s->cond,
                               .hints = {{.image = s->hint, .strength = 1, .end = 1}},
                               .cfg_scale = t->o.validation_guidance_scale,
                               .latents = s->latents,
                               .rng = &rng};
    CN_TRY(cn_draw_run(s->draw, s->sampler, &args));
    return cn_decode_run(s->decode, s->latents, rgb + 3 * pixels * i);
}

cn_status cn_validator_draw(cn_validator *v, cn_trainer *t, bool control, uint8_t *rgb)
{
    series s = {0};
    cn_status status = series_open(v, t, control, &s);
    if (status == CN_OK) status = cn_store_read(t->held_cache->contexts, 0, s.uncond);
    for (int64_t i = 0; i < v->n && status == CN_OK; i++) {
        status = draw_one(v, t, &s, i, rgb);
        if (status == CN_OK && t->callbacks.progress)
            t->callbacks.progress(
                t->callbacks.user,
                &(cn_train_progress){.stage = "validation", .done = i + 1, .total = v->n});
    }
    series_close(&s);
    return status;
}

cn_status cn_validator_agreement(cn_validator *v, const uint8_t *rgb, double *f1)
{
    const int64_t pixels = v->width * v->height;
    uint8_t *masks = cn_alloc_array(v->ctx, (size_t)pixels, 2);
    if (!masks) return CN_ENOMEM;
    cn_status s = CN_OK;
    for (int64_t i = 0; i < v->n && s == CN_OK; i++) {
        const cn_image drawn = {v->width, v->height, (uint8_t *)(uintptr_t)rgb + 3 * pixels * i};
        cn_image *edges = NULL;
        if ((s = cn_annotate(v->ctx, &v->annotate, &drawn, &edges)) != CN_OK) break;
        cn_condition_mask(edges->rgb, pixels, masks);
        cn_condition_mask(v->condition + 3 * pixels * i, pixels, masks + pixels);
        f1[i] = cn_edge_f1(masks, masks + pixels, v->width, v->height, TOLERANCE_PX, NULL, NULL);
        cn_image_destroy(edges);
    }
    cn_free(masks);
    return s;
}

static void place(cn_image *sheet, const cn_validator *v, int64_t row, int64_t column,
                  const uint8_t *rgb)
{
    for (int64_t y = 0; y < v->height; y++)
        memcpy(sheet->rgb + ((row * v->height + y) * sheet->width + column * v->width) * 3,
               rgb + y * v->width * 3, (size_t)v->width * 3);
}

static cn_status save_sheet(cn_validator *v, const char *path)
{
    const uint8_t *const columns[] = {v->condition, v->with, v->without, v->target};
    const int64_t rows = CN_MIN(v->n, CN_IMAGE_MAX_SIDE / v->height);
    const int64_t bytes = v->width * v->height * 3;
    cn_image *sheet = NULL;
    CN_TRY(
        cn_image_create(v->ctx, v->width * (int64_t)CN_COUNT(columns), v->height * rows, &sheet));
    for (int64_t i = 0; i < rows; i++)
        for (int64_t k = 0; k < (int64_t)CN_COUNT(columns); k++)
            place(sheet, v, i, k, columns[k] + i * bytes);
    cn_status s = cn_image_save_png(v->ctx, path, sheet, NULL);
    cn_image_destroy(sheet);
    return s;
}

cn_status cn_validator_save(cn_validator *v, const char *dir)
{
    char path[4096];
    CN_TRY(cn_dir_make(v->ctx, dir));
    for (int64_t i = 0; i < v->n; i++) {
        const cn_image drawn = {v->width, v->height, v->with + i * v->width * v->height * 3};
        CN_TRY(cn_format(v->ctx, path, sizeof path, "%s/%lld.png", dir, (long long)i));
        CN_TRY(cn_image_save_png(v->ctx, path, &drawn, NULL));
    }
    CN_TRY(cn_format(v->ctx, path, sizeof path, "%s/sheet.png", dir));
    return save_sheet(v, path);
}
