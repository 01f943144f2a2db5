/* SPDX-License-Identifier: Apache-2.0 */
/* shuffle.c - see shuffle.h. */
#include "data/shuffle.h"

struct cn_shuffle {
    cn_shuffle_options o;
    int64_t epoch;   /* whose order this is; -1: none yet */
    int64_t samples; /* of an epoch */
    int64_t *order;  /* [samples] items, bucket behind bucket */
    int64_t *units;  /* [samples / unit] the units in the order in which they are taken; NULL: as
                        they lie */
};

static bool shuffles_units(const cn_shuffle_options *o)
{
    return o->buckets->n > 1;
}

size_t cn_shuffle_bytes(const cn_shuffle_options *o)
{
    const int64_t samples = cn_buckets_epoch(o->buckets, o->unit);
    const int64_t units = shuffles_units(o) ? samples / o->unit : 0;
    return (size_t)(samples + units) * sizeof(int64_t);
}

cn_status cn_shuffle_create(cn_ctx *ctx, const cn_shuffle_options *options, cn_shuffle **out)
{
    cn_shuffle *s = cn_alloc0(ctx, sizeof *s);
    if (!s) return CN_ENOMEM;
    *s = (cn_shuffle){
        .o = *options, .epoch = -1, .samples = cn_buckets_epoch(options->buckets, options->unit)};
    const bool units = shuffles_units(options);
    const size_t count = (size_t)(s->samples / options->unit);
    s->order = cn_alloc_array(ctx, (size_t)s->samples, sizeof *s->order);
    s->units = units ? cn_alloc_array(ctx, count, sizeof *s->units) : NULL;
    if (!s->order || (units && !s->units)) {
        cn_shuffle_destroy(s);
        return CN_ENOMEM;
    }
    *out = s;
    return CN_OK;
}

void cn_shuffle_destroy(cn_shuffle *s)
{
    if (!s) return;
    cn_free(s->order);
    cn_free(s->units);
    cn_free(s);
}

/* Mixes two numbers to a generator's seed (splitmix64's finaliser). */
static uint64_t mix(uint64_t a, uint64_t b)
{
    uint64_t z = a * 0x9e3779b97f4a7c15u + b + 0x632be59bd9b4e019u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static void permute(cn_rng *r, int64_t *x, int64_t n)
{
    for (int64_t i = n - 1; i > 0; i--) {
        const int64_t k = cn_rng_below(r, i + 1), kept = x[i];
        x[i] = x[k];
        x[k] = kept;
    }
}

static void shuffle_epoch(cn_shuffle *s, int64_t epoch)
{
    const cn_buckets *b = s->o.buckets;
    const int64_t unit = b->rules.enabled ? s->o.unit : 1, units = s->samples / unit;
    int64_t starts[CN_MAX_BUCKETS + 1] = {0};
    cn_rng r;
    cn_rng_seed(&r, mix(s->o.seed ^ 0x5u, (uint64_t)epoch));
    for (int k = 0; k < b->n; k++)
        starts[k + 1] = starts[k] + (b->list[k].count + unit - 1) / unit * unit;
    for (int64_t i = 0; i < b->items; i++)
        if (cn_buckets_of(b, i) != CN_NO_BUCKET)
            s->order[starts[cn_buckets_of(b, i)] + cn_buckets_place(b, i)] = i;
    for (int k = 0; k < b->n; k++) {
        int64_t *order = s->order + starts[k];
        const int64_t n = b->list[k].count, padded = starts[k + 1] - starts[k];
        permute(&r, order, n);
        for (int64_t i = n; i < padded; i++)
            order[i] = order[i % n]; /* the last unit is filled up */
    }
    for (int64_t i = 0; s->units && i < units; i++) s->units[i] = i;
    if (s->units) permute(&r, s->units, units);
    s->epoch = epoch;
}

cn_sample cn_shuffle_sample(cn_shuffle *s, int64_t k)
{
    const cn_shuffle_options *o = &s->o;
    const int64_t unit = o->unit;
    cn_rng r;
    if (k / s->samples != s->epoch) shuffle_epoch(s, k / s->samples);
    int64_t at = k % s->samples;
    if (s->units) at = s->units[at / unit] * unit + at % unit;
    cn_rng_seed(&r, mix(o->seed, (uint64_t)k));
    cn_sample out = {.item = s->order[at]};
    out.timestep = (int)cn_rng_below(&r, o->timesteps);
    out.empty_prompt = (double)cn_rng_uniform(&r) < o->empty_proportion;
    out.noise_seed = cn_rng_u64(&r);
    out.mirrored = o->flips && cn_rng_uniform(&r) < 0.5f;
    if (o->crops) out.off_x = (double)cn_rng_uniform(&r) - 0.5;
    if (o->crops) out.off_y = (double)cn_rng_uniform(&r) - 0.5;
    out.tag_seed = cn_rng_u64(&r);
    return out;
}
