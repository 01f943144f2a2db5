/* SPDX-License-Identifier: Apache-2.0 */
/* masked.c - drawing under a mask as stable-diffusion-webui does: what the mask keeps stays as it
 * is, pixel for pixel, with a soft edge; under it may lie other things than the picture; and the
 * part around the mask may be drawn alone, larger.
 *
 * Source: StableDiffusionProcessingImg2Img.init and apply_overlay in webui's modules/processing.py.
 */
#include "image/resize.h"
#include "pipeline/pipeline_internal.h"

#include <string.h>

bool cn_job_keeps_pixels(const cn_job *j)
{
    return !j->o->mask_style || strcmp(j->o->mask_style, "diffusers") != 0;
}

static const char *fill_of(const cn_job *j)
{
    return j->o->inpainting_fill ? j->o->inpainting_fill : "original";
}

/* Brightness as PIL's "L" counts it. */
static cn_status luminance(cn_ctx *ctx, const cn_image *image, bool invert, uint8_t **out)
{
    const int64_t n = image->width * image->height;
    uint8_t *values = cn_alloc(ctx, (size_t)n);
    if (!values) return CN_ENOMEM;
    for (int64_t i = 0; i < n; i++) {
        const uint8_t *p = image->rgb + 3 * i;
        const uint8_t l = (uint8_t)((p[0] * 19595 + p[1] * 38470 + p[2] * 7471 + 0x8000) >> 16);
        values[i] = invert ? 255 - l : l;
    }
    *out = values;
    return CN_OK;
}

cn_status cn_job_mask(cn_job *j, int64_t width, int64_t height)
{
    const cn_generate_options *o = j->o;
    const cn_image *init = o->init_image, *mask = o->mask;
    cn_image *sized = NULL;
    if (!mask || !cn_job_keeps_pixels(j)) return CN_OK;
    if (mask->width != init->width || mask->height != init->height)
        CN_TRY(cn_image_resize_cover(j->p->ctx, mask, init->width, init->height, &sized));
    cn_status s = luminance(j->p->ctx, sized ? sized : mask, o->mask_invert, &j->soft_mask);
    cn_image_destroy(sized);
    if (s == CN_OK)
        s = cn_mask_soften(j->p->ctx, j->soft_mask, init->width, init->height, o->mask_blur);
    if (s != CN_OK || !o->inpaint_full_res) return s;
    if (cn_mask_area(j->soft_mask, init->width, init->height, o->inpaint_padding, width, height,
                     &j->area))
        return CN_OK;
    return cn_fail(j->p->ctx, CN_EINVAL,
                   "the mask is black everywhere: there is no part of the picture to be drawn "
                   "(--inpainting-mask-invert draws what is black)");
}

/* The mask at the pass's size, as a grey picture goes there. */
static cn_status fit_mask(cn_job *j, const cn_pass *pass, uint8_t **out)
{
    const cn_image *init = j->o->init_image, *fitted = NULL;
    cn_image *grey = NULL, *sized = NULL;
    CN_TRY(cn_image_create(j->p->ctx, init->width, init->height, &grey));
    for (int64_t i = 0; i < init->width * init->height; i++)
        memset(grey->rgb + 3 * i, j->soft_mask[i], 3);
    cn_status s = cn_pass_fit(j, pass, "mask", grey, &sized, &fitted);
    const int64_t n = pass->width * pass->height;
    uint8_t *mask = s == CN_OK ? cn_alloc(j->p->ctx, (size_t)n) : NULL;
    if (s == CN_OK && !mask) s = CN_ENOMEM;
    for (int64_t i = 0; s == CN_OK && i < n; i++) mask[i] = fitted->rgb[3 * i];
    cn_image_destroy(grey);
    cn_image_destroy(sized);
    if (s == CN_OK) *out = mask;
    return s;
}

cn_status cn_pass_soften(cn_job *j, cn_pass *pass, cn_image *image)
{
    const int64_t n = pass->width * pass->height;
    CN_TRY(fit_mask(j, pass, &pass->soft_mask));
    pass->mask = cn_alloc_array(j->p->ctx, (size_t)n, sizeof *pass->mask);
    if (!pass->mask) return CN_ENOMEM;
    for (int64_t i = 0; i < n; i++) pass->mask[i] = pass->soft_mask[i] > 127;
    if (!strcmp(fill_of(j), "original")) return CN_OK;
    return cn_inpaint_fill(j->p->ctx, image, pass->soft_mask);
}

cn_status cn_pass_keep(cn_job *j, cn_pass *pass)
{
    const int64_t latents = pass->latent_h * pass->latent_w, factor = pass->width / pass->latent_w;
    const char *fill = fill_of(j);
    const bool noise = !strcmp(fill, "latent-noise");
    CN_TRY(cn_mask_latents(j->p->ctx, pass->soft_mask, pass->width, pass->height, factor,
                           pass->small_mask));
    if (!noise && strcmp(fill, "latent-nothing") != 0) return CN_OK;
    for (int64_t i = 0; i < pass->elements; i++)
        if (pass->small_mask[i % latents] != 0) pass->picture[i] = noise ? pass->noise[i] : 0;
    return CN_OK;
}

/* --- the pictures ----------------------------------------------------------------------------- */

/* The whole picture was drawn: the initial one lies over it, where the mask is below half. */
static cn_status overlay_whole(cn_job *j, cn_image **images)
{
    const cn_pass *pass = &j->pass;
    const cn_image *under = NULL;
    cn_image *sized = NULL;
    cn_status s = cn_pass_fit(j, pass, "initial image", j->o->init_image, &sized, &under);
    for (int64_t i = 0; s == CN_OK && i < pass->width * pass->height; i++)
        pass->soft_mask[i] = (uint8_t)CN_MIN(255, 2 * pass->soft_mask[i]);
    for (int b = 0; s == CN_OK && b < j->o->batch; b++)
        cn_inpaint_overlay(images[b], under, pass->soft_mask);
    cn_image_destroy(sized);
    return s;
}

/* *image, the area alone, becomes the initial image with it. */
static cn_status overlay_area(cn_job *j, cn_image **image)
{
    const cn_image *init = j->o->init_image;
    const cn_area *a = &j->area;
    cn_image *part = NULL, *whole = NULL;
    cn_status s = cn_image_resize_cover(j->p->ctx, *image, a->width, a->height, &part);
    if (s == CN_OK) s = cn_image_create(j->p->ctx, init->width, init->height, &whole);
    for (int64_t y = 0; s == CN_OK && y < a->height; y++)
        memcpy(whole->rgb + 3 * ((a->y + y) * init->width + a->x), part->rgb + 3 * y * a->width,
               (size_t)a->width * 3);
    cn_image_destroy(part);
    if (s != CN_OK) return s;
    cn_inpaint_overlay(whole, init, j->soft_mask);
    cn_image_destroy(*image);
    *image = whole;
    return CN_OK;
}

cn_status cn_job_overlay(cn_job *j, cn_image **images)
{
    if (!j->soft_mask) return CN_OK;
    if (!j->area.width) return overlay_whole(j, images);
    for (int b = 0; b < j->o->batch; b++) CN_TRY(overlay_area(j, &images[b]));
    return CN_OK;
}
