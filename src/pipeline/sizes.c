/* SPDX-License-Identifier: Apache-2.0 */
/* sizes.c - what SDXL's networks are told of the picture beside its prompt: sizes and crop, as text
 * in the options, and with the pooled text as the networks take them.
 *
 * Source: diffusers' StableDiffusionXLPipeline. The negative sizes count where both are given; with
 * an initial image each counts by itself, and the crop is the positive one's.
 */
#include "pipeline/pipeline_internal.h"

#include "diffuse/added.h"

#include <stdlib.h>

enum { MAX_SIDE = 1 << 20 };

/* Two whole numbers of at least `least` with the separator between. */
static cn_status read_pair(cn_ctx *ctx, const char *option, const char *text, char separator,
                           long least, int64_t *a, int64_t *b)
{
    char *end;
    const long first = strtol(text, &end, 10);
    const bool between = end != text && (*end == separator || (separator == 'x' && *end == 'X'));
    const char *rest = between ? end + 1 : "";
    const long second = strtol(rest, &end, 10);
    if (!between || end == rest || *end || first < least || second < least || first > MAX_SIDE ||
        second > MAX_SIDE)
        return cn_fail(ctx, CN_EINVAL, "--%s %s: %s is expected", option, text,
                       separator == 'x' ? "WIDTHxHEIGHT" : "LEFT,TOP");
    *a = first;
    *b = second;
    return CN_OK;
}

static cn_status read_size(cn_ctx *ctx, const char *option, const char *text, int64_t *w,
                           int64_t *h)
{
    return text ? read_pair(ctx, option, text, 'x', 1, w, h) : CN_OK;
}

static cn_status read_crop(cn_ctx *ctx, const char *option, const char *text, cn_picture_sizes *s)
{
    return text ? read_pair(ctx, option, text, ',', 0, &s->crop_left, &s->crop_top) : CN_OK;
}

cn_status cn_job_sizes(const cn_job *j, int64_t width, int64_t height, int side,
                       cn_picture_sizes *out)
{
    const cn_generate_options *o = j->o;
    cn_ctx *ctx = j->p->ctx;
    cn_picture_sizes s = {
        .original_w = width, .original_h = height, .target_w = width, .target_h = height};
    CN_TRY(read_size(ctx, "original-size", o->original_size, &s.original_w, &s.original_h));
    CN_TRY(read_size(ctx, "target-size", o->target_size, &s.target_w, &s.target_h));
    CN_TRY(read_crop(ctx, "crop", o->crop, &s));
    cn_picture_sizes n = s;
    const bool both = o->negative_original_size && o->negative_target_size;
    CN_TRY(read_size(ctx, "negative-original-size", o->negative_original_size, &n.original_w,
                     &n.original_h));
    CN_TRY(
        read_size(ctx, "negative-target-size", o->negative_target_size, &n.target_w, &n.target_h));
    if (!o->negative_crop) n.crop_left = n.crop_top = 0;
    CN_TRY(read_crop(ctx, "negative-crop", o->negative_crop, &n));
    const bool from_latents = o->init_image || j->refines;
    if (from_latents) {
        n.crop_left = s.crop_left;
        n.crop_top = s.crop_top;
    }
    *out = side == CN_UNCOND && (both || from_latents) ? n : s;
    return CN_OK;
}

cn_status cn_job_check_sizes(const cn_job *j)
{
    const cn_generate_options *o = j->o;
    const char *const given[] = {
        o->original_size,          o->target_size,          o->crop,
        o->negative_original_size, o->negative_target_size, o->negative_crop};
    cn_picture_sizes s;
    for (size_t i = 0; i < CN_COUNT(given); i++)
        if (given[i] && !j->p->base->unet.added_dim)
            return cn_fail(j->p->ctx, CN_EINVAL,
                           "%s: its networks aren't told sizes and crops; SDXL's are",
                           j->p->base->path);
    return cn_job_sizes(j, 1, 1, CN_UNCOND, &s);
}

cn_status cn_job_added(const cn_job *j, const cn_pass *pass, const cn_staged_text *t, int side,
                       float **out)
{
    const cn_unet_config *u = &j->p->base->unet;
    const int64_t pooled = cn_base_pooled_dim(j->p->base);
    const int n = cn_family_of(j->p->base)->added_numbers;
    float numbers[CN_ADDED_NUMBERS];
    cn_picture_sizes sizes;
    *out = NULL;
    if (!u->added_dim || !t->n) return CN_OK;
    CN_TRY(cn_job_sizes(j, pass->width, pass->height, side, &sizes));
    if (n == CN_REFINER_NUMBERS)
        cn_refiner_numbers(
            &sizes, side == CN_UNCOND ? j->o->negative_aesthetic_score : j->o->aesthetic_score,
            numbers);
    else
        cn_added_numbers(&sizes, numbers);
    *out = cn_alloc_array(j->p->ctx, (size_t)t->n, (size_t)u->added_dim * sizeof(float));
    if (!*out) return CN_ENOMEM;
    for (int i = 0; i < t->n; i++)
        cn_added_embed(t->pooled + i * pooled, pooled, numbers, n, u->added_number_dim,
                       *out + i * u->added_dim);
    return CN_OK;
}
