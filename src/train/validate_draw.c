/* SPDX-License-Identifier: Apache-2.0 */
/* validate_draw.c - drawings of the held-out conditions on fixed seeds. */
#include "train/validate.h"

#include "diffuse/sampling.h"

#include <string.h>

cn_draw_spec cn_trainer_draw_spec(const cn_trainer *t, cn_params *unet, cn_params *control)
{
    const int64_t side = t->o.resolution / cn_vae_factor(&t->base->vae);
    cn_draw_spec spec = {.unet = &t->base->unet,
                         .unet_params = unet,
                         .batch = 1,
                         .latent_h = side,
                         .latent_w = side,
                         .context_length = t->base->clip.max_positions,
                         .guidance = t->o.validation_guidance_scale != 1};
    if (control)
        spec.controls[spec.n_controls++] =
            (cn_draw_control){.config = &t->config, .params = control};
    return spec;
}

cn_status cn_trainer_decode_create(const cn_trainer *t, cn_params **vae, cn_decode **out)
{
    const int64_t side = t->o.resolution / cn_vae_factor(&t->base->vae);
    CN_TRY(cn_base_params_create(t->ctx, t->base, CN_NET_VAE, CN_F32, vae));
    const cn_vae_spec spec = {
        .config = &t->base->vae, .params = *vae, .latent_h = side, .latent_w = side};
    return cn_decode_create(t->ctx, t->be, &spec, out);
}

/* What one series of drawings needs. */
typedef struct series {
    cn_draw *draw;
    cn_sampler *sampler;
    float *hint, *cond, *uncond;
} series;

static void series_close(series *s)
{
    cn_draw_destroy(s->draw);
    cn_sampler_destroy(s->sampler);
    cn_free(s->hint);
    cn_free(s->cond);
    cn_free(s->uncond);
}

static cn_status series_open(cn_validator *v, cn_trainer *t, bool control, series *s)
{
    const cn_cache *c = t->held_cache;
    const cn_draw_spec spec = cn_trainer_draw_spec(t, t->unet, control ? t->control : NULL);
    CN_TRY(cn_draw_create(v->ctx, t->be, &spec, &s->draw));
    CN_TRY(cn_sampler_create(v->ctx, "ddim", &t->base->schedule,
                             (int)t->o.validation_sampling_steps, &s->sampler));
    const size_t context = (size_t)(c->tokens * c->context_dim) * sizeof(float);
    s->hint = cn_alloc_array(v->ctx, (size_t)(v->width * v->height * 3), sizeof(float));
    s->cond = cn_alloc(v->ctx, context);
    s->uncond = cn_alloc(v->ctx, context);
    return s->hint && s->cond && s->uncond ? cn_cache_context(c, t->ctx, -1, s->uncond) : CN_ENOMEM;
}

cn_drawing cn_validator_drawing(const cn_validator *v, const cn_trainer *t, int64_t drawing)
{
    const cn_batcher_options o = cn_trainer_held_options(t);
    if (drawing >= v->n) return (cn_drawing){t->given.data, t->given.cache, drawing - v->n};
    return (cn_drawing){o.data, o.cache, cn_batcher_item(&o, o.first + drawing)};
}

/* Drawing i's latents, from the same noise at every validation. */
static cn_status draw_one(cn_validator *v, cn_trainer *t, series *s, int64_t i, float *latents)
{
    const cn_cache *c = t->held_cache;
    const int64_t n = c->latent_h * c->latent_w * c->latent_c, pixels = v->width * v->height;
    cn_rng rng;
    cn_rng_seed(&rng, (uint64_t)(i < v->n ? i : i - v->n));
    cn_rng_normal(&rng, latents, n);
    const float sigma = (float)cn_sampler_init_noise_sigma(s->sampler);
    for (int64_t k = 0; k < n; k++) latents[k] *= sigma;
    for (int64_t k = 0; k < 3 * pixels; k++)
        s->hint[k] = (float)v->condition[3 * pixels * i + k] / 255.0f;
    const cn_drawing d = cn_validator_drawing(v, t, i);
    CN_TRY(cn_cache_context(d.cache, t->ctx, d.item, s->cond));
    const cn_draw_args args = {.uncond = s->uncond,
                               .cond = s->cond,
                               .hints = {{.image = s->hint, .strength = 1, .end = 1}},
                               .cfg_scale = t->o.validation_guidance_scale,
                               .latents = latents,
                               .rng = &rng};
    return cn_draw_run(s->draw, s->sampler, &args);
}

static cn_status draw_all(cn_validator *v, cn_trainer *t, bool control, float *latents,
                          int64_t each)
{
    series s = {0};
    cn_status status = series_open(v, t, control, &s);
    for (int64_t i = 0; i < v->drawn && status == CN_OK; i++) {
        status = draw_one(v, t, &s, i, latents + i * each);
        if (status == CN_OK) cn_trainer_tell(t, "validation", i + 1, v->drawn);
    }
    series_close(&s);
    return status;
}

static cn_status decode_all(cn_validator *v, cn_trainer *t, const float *latents, int64_t each,
                            uint8_t *rgb)
{
    cn_params *vae = NULL;
    cn_decode *decode = NULL;
    cn_status s = cn_trainer_decode_create(t, &vae, &decode);
    if (s == CN_OK) s = cn_base_load(v->ctx, t->base, t->be, vae);
    for (int64_t i = 0; i < v->drawn && s == CN_OK; i++)
        s = cn_decode_run(decode, latents + i * each, rgb + 3 * v->width * v->height * i);
    cn_decode_destroy(decode);
    cn_params_destroy(vae);
    return s;
}

/* Everything is drawn before anything is decoded: the UNet's buffers and the VAE are never there at
 * once. */
cn_status cn_validator_draw(cn_validator *v, cn_trainer *t, bool control, uint8_t *rgb)
{
    const cn_cache *c = t->held_cache;
    const int64_t each = c->latent_h * c->latent_w * c->latent_c;
    float *latents = cn_alloc_array(v->ctx, (size_t)(v->drawn * each), sizeof *latents);
    if (!latents) return CN_ENOMEM;
    cn_status s = draw_all(v, t, control, latents, each);
    if (s == CN_OK) s = decode_all(v, t, latents, each, rgb);
    cn_free(latents);
    return s;
}

/* Pictures in rows and columns: where each column's first is, the others behind it. */
typedef struct sheet {
    int64_t count; /* rows */
    const uint8_t *columns[4];
    int n_columns;
} sheet;

static void place(cn_image *image, const cn_validator *v, int64_t row, int64_t column,
                  const uint8_t *rgb)
{
    for (int64_t y = 0; y < v->height; y++)
        memcpy(image->rgb + ((row * v->height + y) * image->width + column * v->width) * 3,
               rgb + y * v->width * 3, (size_t)v->width * 3);
}

/* Each row for TensorBoard. */
static cn_status report_rows(cn_validator *v, const cn_trainer *t, const char *name,
                             const cn_image *image)
{
    char tag[32];
    for (int64_t i = 0; i < image->height / v->height; i++) {
        const cn_image row = {image->width, v->height,
                              image->rgb + 3 * image->width * v->height * i};
        snprintf(tag, sizeof tag, "%s/%lld", name, (long long)i);
        CN_TRY(cn_metrics_image(t->metrics, tag, t->state.step, &row));
    }
    return CN_OK;
}

static cn_status save_sheet(cn_validator *v, const cn_trainer *t, const char *path, const char *tag,
                            const sheet *s)
{
    const int64_t rows = CN_MIN(s->count, CN_IMAGE_MAX_SIDE / v->height);
    const int64_t bytes = v->width * v->height * 3;
    cn_image *image = NULL;
    CN_TRY(cn_image_create(v->ctx, v->width * s->n_columns, v->height * rows, &image));
    for (int64_t i = 0; i < rows; i++)
        for (int k = 0; k < s->n_columns; k++) place(image, v, i, k, s->columns[k] + i * bytes);
    cn_status status = cn_image_save_png(v->ctx, path, image, NULL);
    if (status == CN_OK) status = report_rows(v, t, tag, image);
    cn_image_destroy(image);
    return status;
}

cn_status cn_validator_path(const cn_validator *v, const char *dir, int64_t drawing, char out[4096])
{
    const bool given = drawing >= v->n;
    return cn_format(v->ctx, out, 4096, "%s/%s%lld.png", dir, given ? "given_" : "",
                     (long long)(given ? drawing - v->n : drawing));
}

cn_status cn_validator_save(cn_validator *v, const cn_trainer *t, const char *dir)
{
    const int64_t bytes = v->width * v->height * 3, held = v->n * bytes;
    const sheet held_out = {v->n, {v->condition, v->with, v->without, v->target}, 4};
    const sheet given = {
        v->drawn - v->n, {v->condition + held, v->with + held, v->without + held}, 3};
    char path[4096];
    CN_TRY(cn_dir_make(v->ctx, dir));
    for (int64_t i = 0; i < v->drawn; i++) {
        const cn_image drawn = {v->width, v->height, v->with + i * bytes};
        CN_TRY(cn_validator_path(v, dir, i, path));
        CN_TRY(cn_image_save_png(v->ctx, path, &drawn, NULL));
    }
    CN_TRY(cn_format(v->ctx, path, sizeof path, "%s/sheet.png", dir));
    CN_TRY(save_sheet(v, t, path, "validation", &held_out));
    if (!given.count) return CN_OK;
    CN_TRY(cn_format(v->ctx, path, sizeof path, "%s/given.png", dir));
    return save_sheet(v, t, path, "given", &given);
}
