/* validate_draw.c - drawings of the held-out conditions on fixed seeds. */
#include "train/validate.h"

#include "diffuse/draw.h"

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
    CN_TRY(cn_base_params_create(t->ctx, t->base, "vae", CN_F32, vae));
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

/* Item i's latents, from the same noise at every validation. */
static cn_status draw_one(cn_validator *v, cn_trainer *t, series *s, int64_t i, float *latents)
{
    const cn_cache *c = t->held_cache;
    const int64_t n = c->latent_h * c->latent_w * c->latent_c, pixels = v->width * v->height;
    cn_rng rng;
    cn_rng_seed(&rng, (uint64_t)i);
    cn_rng_normal(&rng, latents, n);
    const float sigma = (float)cn_sampler_init_noise_sigma(s->sampler);
    for (int64_t k = 0; k < n; k++) latents[k] *= sigma;
    for (int64_t k = 0; k < 3 * pixels; k++)
        s->hint[k] = (float)v->condition[3 * pixels * i + k] / 255.0f;
    const cn_batcher_options o = cn_trainer_held_options(t);
    const int64_t item = cn_batcher_item(&o, t->held_first + i);
    CN_TRY(cn_cache_context(c, t->ctx, item, s->cond));
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
    for (int64_t i = 0; i < v->n && status == CN_OK; i++) {
        status = draw_one(v, t, &s, i, latents + i * each);
        if (status == CN_OK) cn_trainer_tell(t, "validation", i + 1, v->n);
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
    for (int64_t i = 0; i < v->n && s == CN_OK; i++)
        s = cn_decode_run(decode, latents + i * each, rgb + 3 * v->width * v->height * i);
    cn_decode_destroy(decode);
    cn_params_destroy(vae);
    return s;
}

/* Everything is drawn before anything is decoded: the UNet's buffers and the VAE are never there at once. */
cn_status cn_validator_draw(cn_validator *v, cn_trainer *t, bool control, uint8_t *rgb)
{
    const cn_cache *c = t->held_cache;
    const int64_t each = c->latent_h * c->latent_w * c->latent_c;
    float *latents = cn_alloc_array(v->ctx, (size_t)(v->n * each), sizeof *latents);
    if (!latents) return CN_ENOMEM;
    cn_status s = draw_all(v, t, control, latents, each);
    if (s == CN_OK) s = decode_all(v, t, latents, each, rgb);
    cn_free(latents);
    return s;
}

static void place(cn_image *sheet, const cn_validator *v, int64_t row, int64_t column,
                  const uint8_t *rgb)
{
    for (int64_t y = 0; y < v->height; y++)
        memcpy(sheet->rgb + ((row * v->height + y) * sheet->width + column * v->width) * 3,
               rgb + y * v->width * 3, (size_t)v->width * 3);
}

/* Each row for TensorBoard. */
static cn_status report_rows(cn_validator *v, const cn_trainer *t, const cn_image *sheet)
{
    char tag[32];
    for (int64_t i = 0; i < sheet->height / v->height; i++) {
        const cn_image row = {sheet->width, v->height,
                              sheet->rgb + 3 * sheet->width * v->height * i};
        snprintf(tag, sizeof tag, "validation/%lld", (long long)i);
        CN_TRY(cn_metrics_image(t->metrics, tag, t->state.step, &row));
    }
    return CN_OK;
}

static cn_status save_sheet(cn_validator *v, const cn_trainer *t, const char *path)
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
    if (s == CN_OK) s = report_rows(v, t, sheet);
    cn_image_destroy(sheet);
    return s;
}

cn_status cn_validator_save(cn_validator *v, const cn_trainer *t, const char *dir)
{
    char path[4096];
    CN_TRY(cn_dir_make(v->ctx, dir));
    for (int64_t i = 0; i < v->n; i++) {
        const cn_image drawn = {v->width, v->height, v->with + i * v->width * v->height * 3};
        CN_TRY(cn_format(v->ctx, path, sizeof path, "%s/%lld.png", dir, (long long)i));
        CN_TRY(cn_image_save_png(v->ctx, path, &drawn, NULL));
    }
    CN_TRY(cn_format(v->ctx, path, sizeof path, "%s/sheet.png", dir));
    return save_sheet(v, t, path);
}
