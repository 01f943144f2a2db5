/* SPDX-License-Identifier: Apache-2.0 */
/* inputs.c - what a drawing starts from: options checked, sizes chosen, condition images, masks and
 * the initial image brought to size, noise drawn or read.
 *
 * All pictures are fitted alike, aspect kept and centre cropped, so they stay on top of each other.
 */
#include "base/option.h"
#include "image/resize.h"
#include "io/tensors.h"
#include "pipeline/pipeline_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* --- checks ----------------------------------------------------------------------------------- */

static int places_of(const cn_job *j, int k)
{
    const cn_control_file *c = j->p->controls[k];
    return c->kind->places(cn_control_config(c));
}

static cn_status check_weights(const cn_job *j, int k)
{
    const cn_control_options *c = &j->o->controls[k];
    if (!c->weights) return CN_OK;
    const int want = places_of(j, k);
    if (c->n_weights != want)
        return cn_fail(j->p->ctx, CN_EINVAL, "%d control weights: this %s acts in %d places",
                       c->n_weights, j->p->controls[k]->kind->title, want);
    for (int i = 0; i < want; i++)
        if (!isfinite(c->weights[i]))
            return cn_fail(j->p->ctx, CN_EINVAL, "control weight %d is no number", i + 1);
    return CN_OK;
}

/* Within a pixel's rounding, so that one brought to the other's size lies on top of it. */
static bool same_proportions(const cn_image *a, const cn_image *b)
{
    int64_t across = a->width * b->height - b->width * a->height;
    return llabs(across) <= CN_MAX(CN_MAX(a->width, b->width), CN_MAX(a->height, b->height)) / 2;
}

static cn_status check_control(const cn_job *j, int k)
{
    const cn_control_options *c = &j->o->controls[k];
    cn_ctx *ctx = j->p->ctx;
    const bool prompt = cn_pipeline_takes_prompt(j->p, k);
    if (!c->image && strcmp(j->kinds[k], CN_INPAINT_CONDITION) != 0)
        return cn_fail(ctx, CN_EINVAL, "%s: has no %s", j->p->controls[k]->path,
                       prompt ? "image prompt" : "condition image");
    if (c->image_prompt && !prompt)
        return cn_fail(ctx, CN_EMISMATCH, "%s: holds a %s, an IP-Adapter is expected",
                       j->p->controls[k]->path, j->p->controls[k]->kind->title);
    if (c->mask && c->image && !prompt && !same_proportions(c->mask, c->image))
        return cn_fail(ctx, CN_EMISMATCH,
                       "%s: its mask is %lld x %lld, its image %lld x %lld: the same size is "
                       "expected, or the same proportions",
                       j->p->controls[k]->path, (long long)c->mask->width,
                       (long long)c->mask->height, (long long)c->image->width,
                       (long long)c->image->height);
    cn_status s = cn_options_check(ctx, cn_control_option_rows, c);
    if (s == CN_OK && c->start >= c->end)
        s = cn_fail(ctx, CN_EINVAL, "--control-start %g is not before --control-end %g", c->start,
                    c->end);
    if (s != CN_OK) return cn_fail_prefix(ctx, s, "%s", j->p->controls[k]->path);
    if (j->o->guess_mode && c->mode && strcmp(c->mode, "balanced") != 0)
        return cn_fail(ctx, CN_EINVAL, "guess mode and control mode %s: they exclude each other",
                       c->mode);
    return check_weights(j, k);
}

static cn_status check_init(const cn_job *j)
{
    const cn_generate_options *o = j->o;
    cn_ctx *ctx = j->p->ctx;
    if (o->mask && o->init_image && !same_proportions(o->mask, o->init_image))
        return cn_fail(ctx, CN_EMISMATCH,
                       "the mask is %lld x %lld, the initial image %lld x %lld: the same size is "
                       "expected, or the same proportions",
                       (long long)o->mask->width, (long long)o->mask->height,
                       (long long)o->init_image->width, (long long)o->init_image->height);
    const char *fill = o->inpainting_fill ? o->inpainting_fill : "original";
    if (o->mask && !cn_job_keeps_pixels(j) &&
        (o->inpaint_full_res || strcmp(fill, "original") != 0))
        return cn_fail(ctx, CN_EINVAL,
                       "mask style diffusers draws the whole picture from what it holds: only the "
                       "masked part (--inpaint-full-res) and other fills (--inpainting-fill %s) "
                       "belong to webui's",
                       fill);
    if (o->mask && !o->init_image)
        return cn_fail(ctx, CN_EINVAL,
                       "a mask without an initial image: the mask says what of it is drawn anew");
    if (cn_job_resizes_latents(j) && (o->mask || cn_job_inpaints(j)))
        return cn_fail(ctx, CN_EINVAL,
                       "--init-resize latent and a mask: the mask belongs to pixels; there are "
                       "crop, stretch and fill");
    if (o->seeds && o->init_image)
        return cn_fail(ctx, CN_EINVAL, "a seed for each picture and an initial image: not both");
    if (cn_job_inpaints(j) && !(o->mask && o->init_image))
        return cn_fail(ctx, CN_EINVAL,
                       "%s: an inpainting model (its UNet takes %lld channels): it needs an "
                       "initial image and a mask",
                       j->p->base->path, (long long)j->p->base->unet.in_channels);
    return CN_OK;
}

static cn_status check_hires(const cn_job *j)
{
    const cn_generate_options *o = j->o;
    cn_ctx *ctx = j->p->ctx;
    if (o->hires_scale > 1 && o->init_image)
        return cn_fail(ctx, CN_EINVAL,
                       "a second pass belongs to drawings from noise; for a larger picture from an "
                       "initial image, give the size");
    return CN_OK;
}

cn_status cn_job_check(const cn_job *j)
{
    const cn_generate_options *o = j->o;
    cn_ctx *ctx = j->p->ctx;
    CN_TRY(cn_options_check(ctx, cn_generate_option_rows, o));
    const int layers = j->p->base->text[0].layers;
    if (o->clip_skip < 0 || o->clip_skip >= layers)
        return cn_fail(
            ctx, CN_EINVAL,
            "clip skip: %d of the text encoder's %d layers left out; 0 to %d are possible",
            o->clip_skip, layers, layers - 1);
    int64_t factor = cn_vae_factor(&j->p->base->vae);
    if (o->vae_tile_size % factor)
        return cn_fail(ctx, CN_EINVAL, "VAE tiles of %lld pixels: a multiple of %lld is expected",
                       (long long)o->vae_tile_size, (long long)factor);
    if (o->guidance_end > 0 && o->guidance_start >= o->guidance_end)
        return cn_fail(ctx, CN_EINVAL, "--guidance-start %g is not before --guidance-end %g",
                       o->guidance_start, o->guidance_end);
    for (int k = 0; k < j->p->n_controls; k++) CN_TRY(check_control(j, k));
    CN_TRY(check_init(j));
    CN_TRY(cn_job_check_sizes(j));
    return check_hires(j);
}

/* --- sizes ------------------------------------------------------------------------------------ */

static int64_t round_to(int64_t px, int64_t multiple)
{
    return CN_MAX(multiple, (px + multiple / 2) / multiple * multiple);
}

/* The picture whose size is taken where none was given; NULL: none. */
static const cn_image *sized_by(const cn_job *j)
{
    if (j->o->init_image) return j->o->inpaint_full_res && j->o->mask ? NULL : j->o->init_image;
    for (int k = 0; k < j->p->n_controls; k++)
        if (!cn_pipeline_takes_prompt(j->p, k)) return j->o->controls[k].image;
    return NULL;
}

/* A base that draws far above the size it was trained on repeats things. An initial picture holds
 * the drawing together, so nothing is said of its size. */
static void warn_of_large(const cn_job *j, int64_t width, int64_t height)
{
    const int64_t side = j->p->base->unet.sample_size * cn_vae_factor(&j->p->base->vae);
    if (j->o->init_image || width * height < 4 * side * side) return;
    cn_log(j->p->ctx, CN_LOG_WARN,
           "draws %lld x %lld, as the condition's picture is; the model's own size is %lld x %lld "
           "(-W, -H)",
           (long long)width, (long long)height, (long long)side, (long long)side);
}

cn_status cn_job_size(cn_job *j, int64_t *width, int64_t *height)
{
    const cn_base *b = j->p->base;
    int64_t factor = cn_vae_factor(&b->vae), w = j->o->width, h = j->o->height;
    const cn_image *c = sized_by(j);
    if (c && (!w || !h)) {
        /* Its size; with one side given, its proportions. */
        if (!w && !h) {
            w = c->width;
            h = c->height;
        } else if (!w)
            w = CN_MAX(1, (c->width * h + c->height / 2) / c->height);
        else
            h = CN_MAX(1, (c->height * w + c->width / 2) / c->width);
    }
    if (!w) w = b->unet.sample_size * factor;
    if (!h) h = b->unet.sample_size * factor;
    *width = round_to(w, factor);
    *height = round_to(h, factor);
    CN_TRY(cn_image_check_size(j->p->ctx, *width, *height));
    if (*width != w || *height != h)
        cn_log(j->p->ctx, CN_LOG_INFO, "%lld x %lld becomes %lld x %lld: sides are multiples of %d",
               (long long)w, (long long)h, (long long)*width, (long long)*height, (int)factor);
    if (c && !j->o->width && !j->o->height) warn_of_large(j, *width, *height);
    return CN_OK;
}

/* The area of `image`, which has the initial image's proportions, at the pass's size. */
static cn_status fit_area(cn_job *j, const cn_pass *pass, const cn_image *image, cn_image **made)
{
    const cn_image *init = j->o->init_image;
    cn_image *whole = NULL, *part = NULL;
    cn_status s = CN_OK;
    if (image->width != init->width || image->height != init->height)
        s = cn_image_resize_cover(j->p->ctx, image, init->width, init->height, &whole);
    if (s == CN_OK) s = cn_image_create(j->p->ctx, j->area.width, j->area.height, &part);
    for (int64_t y = 0; s == CN_OK && y < part->height; y++)
        memcpy(part->rgb + 3 * y * part->width,
               (whole ? whole : image)->rgb + 3 * ((j->area.y + y) * init->width + j->area.x),
               (size_t)part->width * 3);
    if (s == CN_OK) {
        const bool shrinks = pass->width * pass->height < part->width * part->height;
        s = cn_image_resize(j->p->ctx, part, pass->width, pass->height,
                            shrinks ? CN_FILTER_AREA : CN_FILTER_LANCZOS4, made);
    }
    cn_image_destroy(whole);
    cn_image_destroy(part);
    return s;
}

/* The words of init_resize beside those of a condition's. */
static const char *init_resize(const cn_job *j)
{
    const char *how = j->o->init_resize;
    return how && !strcmp(how, "fill") ? "extend" : how;
}

cn_status cn_pass_fit(cn_job *j, const cn_pass *pass, const char *what, const cn_image *image,
                      cn_image **made, const cn_image **out)
{
    return cn_pass_fit_as(j, pass, what, image, init_resize(j), made, out);
}

cn_status cn_pass_fit_as(cn_job *j, const cn_pass *pass, const char *what, const cn_image *image,
                         const char *resize, cn_image **made, const cn_image **out)
{
    const bool stretches = resize && !strcmp(resize, "stretch");
    const bool fills = resize && !strcmp(resize, "fill");
    const bool extends = resize && !strcmp(resize, "extend");
    *out = image;
    if (j->area.width) {
        CN_TRY(fit_area(j, pass, image, made));
        *out = *made;
        return CN_OK;
    }
    if (image->width == pass->width && image->height == pass->height) return CN_OK;
    cn_log(j->p->ctx, CN_LOG_INFO, "%s: %lld x %lld resized%s to %lld x %lld", what,
           (long long)image->width, (long long)image->height,
           fills       ? ", with a border,"
           : extends   ? ", its edges drawn out,"
           : stretches ? ""
                       : " and cropped around its centre",
           (long long)pass->width, (long long)pass->height);
    cn_status (*fit)(cn_ctx *, const cn_image *, int64_t, int64_t, cn_image **) =
        fills       ? cn_image_resize_fill
        : extends   ? cn_image_resize_extend
        : stretches ? cn_image_resize_stretch
                    : cn_image_resize_cover;
    CN_TRY(fit(j->p->ctx, image, pass->width, pass->height, made));
    *out = *made;
    return CN_OK;
}

/* --- conditions and regions ------------------------------------------------------------------- */

/* A mask's brightness at the pass's size, 0 to 1, as PIL's "L" counts it. *out: a new array. */
static cn_status read_mask(cn_job *j, const cn_pass *pass, const char *what, const cn_image *mask,
                           const char *resize, float **out)
{
    cn_image *sized = NULL;
    const cn_image *image = NULL;
    cn_status s = cn_pass_fit_as(j, pass, what, mask, resize, &sized, &image);
    size_t n = (size_t)pass->width * (size_t)pass->height;
    float *values = s == CN_OK ? cn_alloc_array(j->p->ctx, n, sizeof *values) : NULL;
    if (s == CN_OK && !values) s = CN_ENOMEM;
    for (size_t i = 0; s == CN_OK && i < n; i++) {
        const uint8_t *p = image->rgb + 3 * i;
        values[i] = (float)((p[0] * 19595 + p[1] * 38470 + p[2] * 7471 + 0x8000) >> 16) / 255.0f;
    }
    cn_image_destroy(sized);
    if (s == CN_OK) *out = values;
    return s;
}

/* -1 where something is drawn anew. */
static cn_status blank_masked(cn_job *j, const cn_pass *pass, const char *resize, float *hint)
{
    float *mask = NULL;
    CN_TRY(read_mask(j, pass, "mask", j->o->mask, resize, &mask));
    for (int64_t i = 0; i < pass->width * pass->height; i++)
        for (int c = 0; (mask[i] > 0.5f) != j->o->mask_invert && c < 3; c++) hint[3 * i + c] = -1;
    cn_free(mask);
    return CN_OK;
}

/* One condition at the pass's size, made by the annotator `kind`; *out: a new array. */
static cn_status read_condition(cn_job *j, const cn_pass *pass, const cn_control_options *c,
                                const char *kind, float **out)
{
    const bool inpaints = !strcmp(kind, CN_INPAINT_CONDITION);
    const char *resize = c->image ? c->resize : init_resize(j);
    cn_image *sized = NULL, *made = NULL;
    const cn_image *image = NULL;
    cn_status s = cn_pass_fit_as(j, pass, "condition image", c->image ? c->image : j->o->init_image,
                                 resize, &sized, &image);
    if (s == CN_OK && !inpaints && strcmp(kind, "none") != 0) {
        s = cn_pipeline_annotate(j->p, kind, c->preprocessor_weights, image, &made);
        image = made;
    }
    size_t n = (size_t)pass->width * (size_t)pass->height * 3;
    if (s == CN_OK && !(*out = cn_alloc_array(j->p->ctx, n, sizeof(float)))) s = CN_ENOMEM;
    for (size_t i = 0; s == CN_OK && i < n; i++) (*out)[i] = (float)image->rgb[i] / 255.0f;
    if (s == CN_OK && inpaints) s = blank_masked(j, pass, resize, *out);
    cn_image_destroy(sized);
    cn_image_destroy(made);
    return s;
}

static cn_status read_hint(cn_job *j, int k, cn_pass *pass)
{
    const cn_control_options *c = &j->o->controls[k];
    if (cn_pipeline_takes_prompt(j->p, k)) return CN_OK;
    CN_TRY(read_condition(j, pass, c, j->kinds[k], &pass->hints[k]));
    for (int i = 1; i < j->conditions[k].n; i++) {
        const cn_control_options *m = &c->more[i - 1];
        const char *kind = m->preprocessor ? m->preprocessor : "none";
        CN_TRY(read_condition(j, pass, m, kind, &pass->further[k][i - 1]));
    }
    return CN_OK;
}

cn_status cn_pass_conditions(const cn_job *j, cn_generated *g)
{
    const cn_pass *pass = &j->pass;
    if (!j->p->n_controls) return CN_OK;
    g->conditions = cn_alloc0(j->p->ctx, (size_t)j->p->n_controls * sizeof *g->conditions);
    if (!g->conditions) return CN_ENOMEM;
    for (int k = 0; k < j->p->n_controls; k++) {
        const cn_image *prompt = pass->hints[k] ? NULL : j->o->controls[k].image;
        const int64_t width = prompt ? prompt->width : pass->width;
        const int64_t height = prompt ? prompt->height : pass->height;
        CN_TRY(cn_image_create(j->p->ctx, width, height, &g->conditions[k]));
        g->n_conditions = k + 1;
        if (prompt) memcpy(g->conditions[k]->rgb, prompt->rgb, (size_t)(3 * width * height));
        for (int64_t i = 0; !prompt && i < 3 * width * height; i++)
            g->conditions[k]->rgb[i] = (uint8_t)lrintf(255 * CN_MAX(pass->hints[k][i], 0.0f));
    }
    return CN_OK;
}

/* Each place's factor: the given ones, else guess mode's, else the control mode's. */
static void set_weights(const cn_job *j, int k, float *out)
{
    static const float adapter[] = {0.25f, 0.62f, 0.825f, 1}; /* the webui extension's */
    const cn_control_options *c = &j->o->controls[k];
    const cn_control_file *file = j->p->controls[k];
    const char *guess = j->o->guess_mode, *mode = c->mode ? c->mode : "balanced";
    const bool residuals = file->kind->residuals;
    int last = places_of(j, k) - 1;
    bool soft = guess ? !strcmp(guess, "lllyasviel") : strcmp(mode, "balanced") != 0;
    for (int i = 0; i <= last; i++) {
        out[i] = 1;
        if (c->weights)
            out[i] = c->weights[i];
        else if (soft && residuals)
            out[i] = (float)pow(0.825, last - i);
        else if (soft && !file->kind->attend && last + 1 == (int)CN_COUNT(adapter))
            out[i] = adapter[i];
        else if (guess && residuals && !file->config.global_pool) /* as diffusers */
            out[i] = (float)pow(10, (double)i / last - 1);
    }
}

/* Of --scheduler's names all but "default" are schedules. */
static cn_status choose_sigmas(const cn_job *j, const char *name, cn_schedule_config *out)
{
    cn_ctx *ctx = j->p->ctx;
    const cn_sampler_kind *kind = cn_sampler_find(j->o->sampler, NULL);
    const cn_sigma_schedule *schedule = cn_sigma_schedule_find(name);
    const bool takes = !schedule || !schedule->fill || !kind || kind->sigma_schedule;
    if (schedule && takes)
        return cn_format(ctx, out->sigma_schedule, sizeof out->sigma_schedule, "%s", name);
    cn_str list = {0};
    cn_status s = CN_OK;
    if (schedule) {
        cn_sampler_names(true, &list);
        s = cn_fail(ctx, CN_EINVAL,
                    "scheduler %s: %s has timesteps of its own; those that take it: %s", name,
                    kind->name, list.data ? list.data : "none");
    } else {
        cn_sigma_schedule_names(&list);
        s = cn_fail(ctx, CN_EINVAL, "scheduler \"%s\": there is default, %s", name,
                    list.data ? list.data : "");
    }
    cn_str_free(&list);
    return s;
}

/* The base's, with what the options say over it. */
static cn_status choose_schedule(const cn_job *j, cn_schedule_config *out)
{
    const char *scheduler = j->o->scheduler, *spacing = j->o->timestep_spacing;
    *out = j->p->base->schedule;
    out->zero_snr |= j->o->rescale_betas_zero_snr;
    out->tcd_eta = j->o->eta;
    if (scheduler && strcmp(scheduler, "default") != 0) CN_TRY(choose_sigmas(j, scheduler, out));
    if (!spacing || cn_spacing_find(spacing, &out->spacing)) return CN_OK;
    return cn_fail(j->p->ctx, CN_EINVAL,
                   "timestep spacing \"%s\": there is leading, trailing and linspace", spacing);
}

static cn_status read_reference(cn_job *j, cn_pass *pass)
{
    cn_image *sized = NULL;
    const cn_image *image = NULL;
    const int64_t n = 3 * pass->width * pass->height;
    if (!j->o->reference) return CN_OK;
    cn_status s = cn_pass_fit_as(j, pass, "reference", j->o->reference, NULL, &sized, &image);
    if (s == CN_OK &&
        !(pass->reference_image = cn_alloc_array(j->p->ctx, (size_t)n, sizeof(float))))
        s = CN_ENOMEM;
    if (s == CN_OK) cn_signed_values(image->rgb, pass->reference_image, n);
    cn_image_destroy(sized);
    return s;
}

cn_status cn_pass_open(cn_job *j, int64_t width, int64_t height, int steps, double strength,
                       cn_pass *pass)
{
    const cn_pipeline *p = j->p;
    int64_t factor = cn_vae_factor(&p->base->vae);
    *pass = (cn_pass){
        .width = width, .height = height, .latent_h = height / factor, .latent_w = width / factor};
    pass->one = p->base->vae.latent_channels * pass->latent_h * pass->latent_w;
    pass->elements = j->o->batch * pass->one;
    cn_schedule_config schedule;
    CN_TRY(choose_schedule(j, &schedule));
    CN_TRY(cn_sampler_create(p->ctx, j->o->sampler, &schedule, steps, &pass->sampler));
    CN_TRY(cn_sampler_start(pass->sampler, strength, &pass->first));
    pass->sampler->rngs = j->o->seeds ? j->o->batch : 1;
    CN_TRY(read_reference(j, pass));
    for (int k = 0; k < p->n_controls; k++) {
        CN_TRY(read_hint(j, k, pass));
        set_weights(j, k, pass->weights[k]);
        const cn_control_options *c = &j->o->controls[k];
        if (c->mask)
            CN_TRY(read_mask(j, pass, "control mask", c->mask, c->resize, &pass->regions[k]));
    }
    return CN_OK;
}

void cn_pass_close(cn_pass *pass)
{
    cn_sampler_destroy(pass->sampler);
    for (int k = 0; k < CN_MAX_CONTROLS; k++) {
        cn_free(pass->hints[k]);
        for (int i = 0; i < CN_MAX_CONDITIONS - 1; i++) cn_free(pass->further[k][i]);
        cn_free(pass->regions[k]);
    }
    cn_free(pass->image);
    cn_free(pass->reference_image);
    cn_free(pass->reference);
    cn_free(pass->mask);
    cn_free(pass->latents);
    cn_free(pass->noise);
    cn_free(pass->picture);
    cn_free(pass->soft_mask);
    cn_free(pass->small_mask);
    cn_free(pass->extra);
    *pass = (cn_pass){0};
}

/* --- the initial image ------------------------------------------------------------------------ */

void cn_signed_values(const uint8_t *rgb, float *out, int64_t n)
{
    for (int64_t i = 0; i < n; i++) out[i] = 2.0f * ((float)rgb[i] / 255.0f) - 1.0f;
}

/* Half or more of the mask's brightness is drawn. */
static cn_status read_sharp_mask(cn_job *j, cn_pass *pass)
{
    CN_TRY(read_mask(j, pass, "mask", j->o->mask, init_resize(j), &pass->mask));
    for (int64_t i = 0; i < pass->width * pass->height; i++)
        pass->mask[i] = (pass->mask[i] >= 0.5f) != j->o->mask_invert ? 1 : 0;
    return CN_OK;
}

/* The image, changed under a soft mask. */
static cn_status soften(cn_job *j, cn_pass *pass, const cn_image **image, cn_image **sized)
{
    if (!*sized) {
        CN_TRY(cn_image_create(j->p->ctx, pass->width, pass->height, sized));
        memcpy((*sized)->rgb, (*image)->rgb, (size_t)(pass->width * pass->height) * 3);
    }
    *image = *sized;
    return cn_pass_soften(j, pass, *sized);
}

bool cn_job_resizes_latents(const cn_job *j)
{
    return j->o->init_image && j->o->init_resize && !strcmp(j->o->init_resize, "latent");
}

/* The image at its own size, which becomes one that the VAE takes. */
static cn_status own_size(cn_job *j, cn_pass *pass)
{
    const cn_image *init = j->o->init_image;
    const int64_t factor = cn_vae_factor(&j->p->base->vae);
    cn_image *sized = NULL;
    pass->image_w = round_to(init->width, factor);
    pass->image_h = round_to(init->height, factor);
    CN_TRY(cn_image_resize_stretch(j->p->ctx, init, pass->image_w, pass->image_h, &sized));
    const int64_t n = 3 * pass->image_w * pass->image_h;
    pass->image = cn_alloc_array(j->p->ctx, (size_t)n, sizeof *pass->image);
    if (pass->image) cn_signed_values(sized->rgb, pass->image, n);
    cn_image_destroy(sized);
    return pass->image ? CN_OK : CN_ENOMEM;
}

cn_status cn_pass_image(cn_job *j, cn_pass *pass)
{
    cn_image *sized = NULL;
    const cn_image *image = NULL;
    if (!j->o->init_image) return CN_OK;
    if (cn_job_resizes_latents(j)) return own_size(j, pass);
    cn_status s = cn_pass_fit(j, pass, "initial image", j->o->init_image, &sized, &image);
    int64_t n = pass->width * pass->height;
    if (s == CN_OK && j->soft_mask) s = soften(j, pass, &image, &sized);
    pass->image_w = pass->width;
    pass->image_h = pass->height;
    if (s == CN_OK && !(pass->image = cn_alloc_array(j->p->ctx, (size_t)n, 3 * sizeof(float))))
        s = CN_ENOMEM;
    if (s == CN_OK) cn_signed_values(image->rgb, pass->image, 3 * n);
    cn_image_destroy(sized);
    if (s == CN_OK && j->o->mask && !j->soft_mask) s = read_sharp_mask(j, pass);
    return s;
}

/* --- latents in and out ----------------------------------------------------------------------- */

static cn_status read_latents(cn_job *j, const cn_pass *pass, const cn_tensors *file)
{
    const char *path = j->o->init_latents;
    int64_t want[4] = {j->o->batch, j->p->base->vae.latent_channels, pass->latent_h,
                       pass->latent_w};
    const cn_tensor_info *t = cn_tensors_find(file, "latents");
    if (!t && cn_tensors_count(file) == 1) t = cn_tensors_at(file, 0);
    if (!t)
        return cn_fail(j->p->ctx, CN_EFORMAT,
                       "%s: holds %lld tensors and none is called \"latents\"", path,
                       (long long)cn_tensors_count(file));
    bool fits = t->ndim == 4;
    for (int i = 0; fits && i < 4; i++) fits = t->shape[i] == want[i];
    if (!fits)
        return cn_fail(
            j->p->ctx, CN_EMISMATCH,
            "%s: %s has %lld elements in %d dimensions; [%lld,%lld,%lld,%lld] is expected", path,
            t->name, (long long)t->elements, t->ndim, (long long)want[0], (long long)want[1],
            (long long)want[2], (long long)want[3]);
    CN_TRY(cn_tensors_read(j->p->ctx, file, t, pass->noise));
    if (cn_first_nonfinite(CN_F32, pass->noise, (size_t)pass->elements) < 0) return CN_OK;
    return cn_fail(j->p->ctx, CN_EFORMAT, "%s: %s has a value that isn't finite",
                   j->o->init_latents, t->name);
}

cn_status cn_pass_noise(cn_job *j, cn_pass *pass)
{
    pass->noise = cn_alloc_array(j->p->ctx, (size_t)pass->elements, sizeof(float));
    if (!pass->noise) return CN_ENOMEM;
    if (!j->o->init_latents || pass != &j->pass) {
        cn_sampler_noise(pass->sampler, j->rngs, pass->noise, pass->elements);
        return CN_OK;
    }
    cn_tensors *file = NULL;
    CN_TRY(cn_tensors_open(j->p->ctx, j->o->init_latents, &file));
    cn_status s = read_latents(j, pass, file);
    cn_tensors_close(file);
    return s;
}

cn_status cn_job_save_latents(const cn_job *j)
{
    const cn_pass *pass = &j->pass;
    cn_tensor_out t = {
        .name = "latents",
        .dtype = CN_F32,
        .ndim = 4,
        .shape = {j->o->batch, j->p->base->vae.latent_channels, pass->latent_h, pass->latent_w},
        .data = pass->latents};
    return cn_safetensors_write(j->p->ctx, j->o->save_latents, &t, 1, NULL, NULL, NULL);
}
