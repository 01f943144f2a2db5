/* batch.c - samples of a run, and their way into a step's inputs. */
#include "train/batch.h"

#include <math.h>
#include <string.h>

/* Mixes two numbers to a generator's seed (splitmix64's finaliser). */
static uint64_t mix(uint64_t a, uint64_t b)
{
    uint64_t z = a * 0x9e3779b97f4a7c15u + b + 0x632be59bd9b4e019u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

cn_status cn_shuffle_create(cn_ctx *ctx, uint64_t seed, int64_t n, cn_shuffle **out)
{
    cn_shuffle *s = cn_alloc0(ctx, sizeof *s);
    if (!s) return CN_ENOMEM;
    *s = (cn_shuffle){.seed = seed, .n = n, .epoch = -1};
    s->order = cn_alloc_array(ctx, (size_t)n, sizeof *s->order);
    if (!s->order) {
        cn_free(s);
        return CN_ENOMEM;
    }
    *out = s;
    return CN_OK;
}

void cn_shuffle_destroy(cn_shuffle *s)
{
    if (!s) return;
    cn_free(s->order);
    cn_free(s);
}

static void shuffle_epoch(cn_shuffle *s, int64_t epoch)
{
    cn_rng r;
    cn_rng_seed(&r, mix(s->seed ^ 0x5u, (uint64_t)epoch));
    for (int64_t i = 0; i < s->n; i++) s->order[i] = i;
    for (int64_t i = s->n - 1; i > 0; i--) {
        const int64_t k = cn_rng_below(&r, i + 1), kept = s->order[i];
        s->order[i] = s->order[k];
        s->order[k] = kept;
    }
    s->epoch = epoch;
}

cn_sample cn_shuffle_sample(cn_shuffle *s, int64_t k, int timesteps, double empty_proportion)
{
    cn_rng r;
    if (k / s->n != s->epoch) shuffle_epoch(s, k / s->n);
    cn_rng_seed(&r, mix(s->seed, (uint64_t)k));
    cn_sample out = {.item = s->order[k % s->n]};
    out.timestep = (int)cn_rng_below(&r, timesteps);
    out.empty_prompt = (double)cn_rng_uniform(&r) < empty_proportion;
    out.noise_seed = cn_rng_u64(&r);
    return out;
}

cn_status cn_batcher_create(cn_ctx *ctx, const cn_cache *cache, const cn_schedule *schedule,
                            float scaling_factor, cn_batcher **out)
{
    cn_batcher *b = cn_alloc0(ctx, sizeof *b);
    if (!b) return CN_ENOMEM;
    const size_t n = (size_t)(cache->latent_h * cache->latent_w * cache->latent_c);
    b->cache = cache;
    b->schedule = schedule;
    b->scaling_factor = scaling_factor;
    b->moments = cn_alloc_array(ctx, 2 * n, sizeof(float));
    b->noise = cn_alloc_array(ctx, n, sizeof(float));
    b->latent = cn_alloc_array(ctx, n, sizeof(float));
    b->pixels = cn_alloc_array(ctx, (size_t)(cache->width * cache->height), 3);
    if (!b->moments || !b->noise || !b->latent || !b->pixels) {
        cn_batcher_destroy(b);
        return CN_ENOMEM;
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
    cn_free(b->pixels);
    cn_free(b);
}

/* The VAE's sample, scaled: (mean + exp(logvar / 2) * noise) * factor. */
static void sample_latent(cn_batcher *b, cn_rng *r)
{
    const cn_cache *c = b->cache;
    const int64_t C = c->latent_c, rows = c->latent_h * c->latent_w;
    cn_rng_normal(r, b->noise, rows * C);
    for (int64_t p = 0; p < rows; p++)
        for (int64_t k = 0; k < C; k++) {
            const float mean = b->moments[p * 2 * C + k];
            const float logvar = fminf(20, fmaxf(-30, b->moments[p * 2 * C + C + k]));
            b->latent[p * C + k] =
                (mean + expf(0.5f * logvar) * b->noise[p * C + k]) * b->scaling_factor;
        }
}

static cn_status fill_condition(cn_batcher *b, cn_stepgraph *g, int64_t i, int64_t item)
{
    const int64_t n = b->cache->width * b->cache->height * 3;
    CN_TRY(cn_store_read(b->cache->conditions, item, b->pixels));
    float *to = cn_plan_data(g->plan, g->condition);
    if (!to) return CN_OK;
    for (int64_t k = 0; k < n; k++) to[i * n + k] = (float)b->pixels[k] / 255.0f;
    return CN_OK;
}

cn_status cn_batcher_fill(cn_batcher *b, cn_stepgraph *g, int64_t i, const cn_sample *sample)
{
    const cn_cache *c = b->cache;
    const int64_t n = c->latent_h * c->latent_w * c->latent_c;
    float *context = cn_plan_data(g->plan, g->context), *t = cn_plan_data(g->plan, g->t);
    float *x = cn_plan_data(g->plan, g->x), *target = cn_plan_data(g->plan, g->target);
    cn_rng r;
    cn_rng_seed(&r, sample->noise_seed);
    CN_TRY(cn_store_read(c->moments, sample->item, b->moments));
    sample_latent(b, &r);
    cn_rng_normal(&r, b->noise, n);
    cn_schedule_add_noise(b->schedule, sample->timestep, b->latent, b->noise, x + i * n, n);
    if (b->schedule->config.v_prediction)
        cn_schedule_velocity(b->schedule, sample->timestep, b->latent, b->noise, target + i * n, n);
    else
        memcpy(target + i * n, b->noise, (size_t)n * sizeof(float));
    t[i] = (float)sample->timestep;
    const int64_t text = sample->empty_prompt ? 0 : c->context_of[sample->item];
    CN_TRY(cn_store_read(c->contexts, text, context + i * c->tokens * c->context_dim));
    return g->condition ? fill_condition(b, g, i, sample->item) : CN_OK;
}
