/* SPDX-License-Identifier: Apache-2.0 */
/* batch.c - samples of a run, and their way into a step's inputs. */
#include "data/batch.h"

#include <math.h>
#include <string.h>

/* --- passes ----------------------------------------------------------------------------------- */

/* Of the largest size; of a pass's own. */
static int64_t latent_elements(const cn_cache *c)
{
    return c->latent_h * c->latent_w * c->latent_c;
}

static int64_t count_rows(const cn_cache *c, int bucket)
{
    const cn_train_bucket *b = &c->buckets->list[bucket];
    return b->width / c->factor * (b->height / c->factor);
}

static int64_t count_pixels(const cn_cache *c, int bucket)
{
    return c->buckets->list[bucket].width * c->buckets->list[bucket].height;
}

size_t cn_pass_bytes(int64_t latent, int64_t context, int64_t tokens, int64_t pixels, bool pictures)
{
    return sizeof(cn_sample) + (size_t)(2 * latent + context + 3) * sizeof(float) +
           (size_t)tokens * sizeof(int32_t) + (size_t)pixels * (pictures ? 6 : 3);
}

cn_status cn_pass_create(cn_ctx *ctx, const cn_cache *c, int64_t batch, cn_pass *out)
{
    const size_t n = (size_t)(batch * latent_elements(c));
    const size_t pixels = (size_t)(batch * c->width * c->height);
    *out = (cn_pass){.batch = batch};
    out->samples = cn_alloc_array(ctx, (size_t)batch, sizeof *out->samples);
    out->x = cn_alloc_array(ctx, n, sizeof(float));
    out->target = cn_alloc_array(ctx, n, sizeof(float));
    out->t = cn_alloc_array(ctx, (size_t)batch, sizeof(float));
    out->per = cn_alloc_array(ctx, 2 * (size_t)batch, sizeof(float));
    out->context = cn_alloc_array(ctx, (size_t)(batch * c->text), sizeof(float));
    out->condition = cn_alloc_array(ctx, pixels, 3);
    out->picture = c->moments ? NULL : cn_alloc_array(ctx, pixels, 3);
    if (!c->contexts) out->ids = cn_alloc_array(ctx, (size_t)(batch * c->ids), sizeof *out->ids);
    if (out->samples && out->x && out->target && out->t && out->per && out->context &&
        out->condition && (out->picture || c->moments) && (out->ids || c->contexts))
        return CN_OK;
    cn_pass_free(out);
    return CN_ENOMEM;
}

void cn_pass_free(cn_pass *p)
{
    cn_free(p->samples);
    cn_free(p->x);
    cn_free(p->target);
    cn_free(p->t);
    cn_free(p->per);
    cn_free(p->context);
    cn_free(p->ids);
    cn_free(p->condition);
    cn_free(p->picture);
    *p = (cn_pass){0};
}

/* --- samples ---------------------------------------------------------------------------------- */

cn_status cn_batcher_create(cn_ctx *ctx, const cn_batcher_options *options, cn_batcher **out)
{
    cn_batcher *b = cn_alloc0(ctx, sizeof *b);
    if (!b) return CN_ENOMEM;
    const size_t n = (size_t)latent_elements(options->cache);
    b->ctx = ctx;
    b->o = *options;
    b->moments = cn_alloc_array(ctx, 2 * n, sizeof(float));
    b->noise = cn_alloc_array(ctx, n, sizeof(float));
    b->latent = cn_alloc_array(ctx, n, sizeof(float));
    cn_status s = b->moments && b->noise && b->latent ? CN_OK : CN_ENOMEM;
    if (s == CN_OK) s = cn_pass_create(ctx, options->cache, 1, &b->one);
    if (s != CN_OK) {
        cn_batcher_destroy(b);
        return s;
    }
    *out = b;
    return CN_OK;
}

void cn_batcher_destroy(cn_batcher *b)
{
    if (!b) return;
    cn_free(b->moments);
    cn_free(b->noise);
    cn_free(b->latent);
    cn_pass_free(&b->one);
    cn_free(b);
}

/* The VAE's sample, scaled: (mean + exp(logvar / 2) * noise) * factor. */
static void sample_latent(cn_batcher *b, cn_rng *r, int64_t rows, const float *moments)
{
    const int64_t C = b->o.cache->latent_c;
    cn_rng_normal(r, b->noise, rows * C);
    for (int64_t p = 0; p < rows; p++)
        for (int64_t k = 0; k < C; k++) {
            const float mean = moments[p * 2 * C + k];
            const float logvar = fminf(20, fmaxf(-30, moments[p * 2 * C + C + k]));
            b->latent[p * C + k] =
                (mean + expf(0.5f * logvar) * b->noise[p * C + k]) * b->o.scaling_factor;
        }
}

void cn_batcher_mix(cn_batcher *b, cn_pass *p, int64_t i, const float *moments)
{
    const cn_sample *sample = &p->samples[i];
    const cn_schedule *schedule = b->o.schedule;
    const cn_objective *o = b->o.objective;
    const int64_t rows = count_rows(b->o.cache, p->bucket), C = b->o.cache->latent_c;
    const int64_t n = rows * C;
    float *x = p->x + i * n, *target = p->target + i * n;
    cn_rng r;
    cn_rng_seed(&r, sample->noise_seed);
    sample_latent(b, &r, rows, moments);
    cn_rng_normal(&r, b->noise, n);
    if (o) cn_objective_shift(o, &r, b->noise, rows, C);
    cn_schedule_add_noise(schedule, sample->timestep, b->latent, b->noise, x, n);
    if (schedule->config.v_prediction)
        cn_schedule_velocity(schedule, sample->timestep, b->latent, b->noise, target, n);
    else
        memcpy(target, b->noise, (size_t)n * sizeof(float));
}

/* Condition and, where it is to be encoded, picture: the same part of both. */
static cn_status make_pictures(cn_batcher *b, cn_pass *p, int64_t i, int64_t item)
{
    const cn_sample *s = &p->samples[i];
    const size_t bytes = (size_t)count_pixels(b->o.cache, p->bucket) * 3;
    cn_image *condition = NULL, *picture = NULL;
    CN_TRY(cn_buckets_load(b->ctx, b->o.data, b->o.cache->buckets, p->bucket, item, 0.5 + s->off_x,
                           0.5 + s->off_y, &condition, p->picture ? &picture : NULL));
    if (s->mirrored) cn_mirror_condition(b->o.mirror, condition);
    if (s->mirrored && picture) cn_mirror_picture(picture);
    memcpy(p->condition + (size_t)i * bytes, condition->rgb, bytes);
    if (picture) memcpy(p->picture + (size_t)i * bytes, picture->rgb, bytes);
    cn_image_destroy(condition);
    cn_image_destroy(picture);
    return CN_OK;
}

/* The context, or what it is to be made from. */
static cn_status make_text(cn_batcher *b, cn_pass *p, int64_t i, int64_t item)
{
    const cn_cache *c = b->o.cache;
    const cn_sample *s = &p->samples[i];
    const int64_t which = s->empty_prompt ? -1 : item;
    cn_rng r;
    if (c->contexts) return cn_cache_context(c, b->ctx, which, p->context + i * c->text);
    cn_rng_seed(&r, s->tag_seed);
    return cn_prompter_ids(b->ctx, b->o.prompter, b->o.data, which, &r, p->ids + i * c->ids);
}

static cn_status make(cn_batcher *b, cn_pass *p, int64_t i, int64_t item)
{
    const cn_cache *c = b->o.cache;
    const cn_sample *s = &p->samples[i];
    if (c->moments) {
        CN_TRY(cn_cache_moments(c, b->ctx, item, s->mirrored, b->moments));
        cn_batcher_mix(b, p, i, b->moments);
    }
    if (b->o.objective)
        cn_objective_weigh(b->o.objective, b->o.schedule, s->timestep, p->per + 2 * i);
    p->t[i] = (float)s->timestep;
    CN_TRY(make_text(b, p, i, item));
    return make_pictures(b, p, i, item);
}

/* The first of the bucket from `item` on, in a circle, of which all is there; -1: none. */
static int64_t find_item(const cn_batcher_options *o, int bucket, int64_t item)
{
    for (int64_t k = 0; k < o->count; k++) {
        const int64_t at = o->first + (item - o->first + k) % o->count;
        if (cn_buckets_of(o->cache->buckets, at) == bucket && cn_cache_has(o->cache, at)) return at;
    }
    return -1;
}

int64_t cn_batcher_item(const cn_batcher_options *o, int64_t item)
{
    const int64_t found = find_item(o, cn_buckets_of(o->cache->buckets, item), item);
    return found < 0 ? item : found;
}

cn_status cn_batcher_make(cn_batcher *b, cn_pass *pass, int64_t i)
{
    const cn_batcher_options *o = &b->o;
    cn_sample *sample = &pass->samples[i];
    int64_t item = sample->item;
    b->warning[0] = 0;
    for (int64_t tried = 0; tried < o->count; tried++, item++) {
        item = find_item(o, pass->bucket, item);
        if (item < 0 || (tried && item == sample->item)) break; /* all of this size were tried */
        if (!tried) sample->item = item;
        const cn_status s = make(b, pass, i, item);
        if (s == CN_OK || !o->skip_bad || (s != CN_EFORMAT && s != CN_EIO)) return s;
        snprintf(b->warning, sizeof b->warning, "%s; the next pair takes its place",
                 cn_error(b->ctx));
    }
    return cn_fail(b->ctx, CN_EFORMAT, "no pair of the data set can be read");
}

cn_status cn_batcher_one(cn_batcher *b, const cn_sample *sample, const cn_pass **out)
{
    b->one.samples[0] = *sample;
    b->one.bucket = cn_buckets_of(b->o.cache->buckets, sample->item);
    CN_TRY(cn_batcher_make(b, &b->one, 0));
    *out = &b->one;
    return CN_OK;
}
