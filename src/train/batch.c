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
    out.mirrored = s->flips && cn_rng_uniform(&r) < 0.5f;
    return out;
}

/* --- passes --------------------------------------------------------------------------------------- */

static int64_t latent_elements(const cn_cache *c)
{
    return c->latent_h * c->latent_w * c->latent_c;
}

static int64_t context_elements(const cn_cache *c)
{
    return c->tokens * c->context_dim;
}

size_t cn_pass_bytes(int64_t latent, int64_t context, int64_t pixels)
{
    return (size_t)(2 * latent + context + 3) * sizeof(float) + (size_t)pixels * 3;
}

cn_status cn_pass_create(cn_ctx *ctx, const cn_cache *c, int64_t batch, cn_pass *out)
{
    const size_t n = (size_t)(batch * latent_elements(c));
    *out = (cn_pass){.batch = batch};
    out->x = cn_alloc_array(ctx, n, sizeof(float));
    out->target = cn_alloc_array(ctx, n, sizeof(float));
    out->t = cn_alloc_array(ctx, (size_t)batch, sizeof(float));
    out->per = cn_alloc_array(ctx, 2 * (size_t)batch, sizeof(float));
    out->context = cn_alloc_array(ctx, (size_t)(batch * context_elements(c)), sizeof(float));
    out->condition = cn_alloc_array(ctx, (size_t)(batch * c->width * c->height), 3);
    if (out->x && out->target && out->t && out->per && out->context && out->condition) return CN_OK;
    cn_pass_free(out);
    return CN_ENOMEM;
}

void cn_pass_free(cn_pass *p)
{
    cn_free(p->x);
    cn_free(p->target);
    cn_free(p->t);
    cn_free(p->per);
    cn_free(p->context);
    cn_free(p->condition);
    *p = (cn_pass){0};
}

static void put(cn_stepgraph *g, const cn_node *input, const float *from, int64_t to)
{
    const int64_t n = cn_node_elements(input) / g->o.batch;
    float *data = cn_plan_data(g->plan, input);
    if (data) memcpy(data + to * n, from, (size_t)n * sizeof *from);
}

void cn_pass_put(const cn_pass *p, int64_t from, cn_stepgraph *g, int64_t to)
{
    const int64_t latent = cn_node_elements(g->x) / g->o.batch;
    const int64_t context = cn_node_elements(g->context) / g->o.batch;
    put(g, g->x, p->x + from * latent, to);
    put(g, g->target, p->target + from * latent, to);
    put(g, g->t, p->t + from, to);
    if (g->per) put(g, g->per, p->per + 2 * from, to);
    put(g, g->context, p->context + from * context, to);
    float *condition = g->condition ? cn_plan_data(g->plan, g->condition) : NULL;
    if (!condition) return;
    const int64_t n = cn_node_elements(g->condition) / g->o.batch;
    for (int64_t k = 0; k < n; k++)
        condition[to * n + k] = (float)p->condition[from * n + k] / 255.0f;
}

/* --- samples -------------------------------------------------------------------------------------- */

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
static void sample_latent(cn_batcher *b, cn_rng *r)
{
    const cn_cache *c = b->o.cache;
    const int64_t C = c->latent_c, rows = c->latent_h * c->latent_w;
    cn_rng_normal(r, b->noise, rows * C);
    for (int64_t p = 0; p < rows; p++)
        for (int64_t k = 0; k < C; k++) {
            const float mean = b->moments[p * 2 * C + k];
            const float logvar = fminf(20, fmaxf(-30, b->moments[p * 2 * C + C + k]));
            b->latent[p * C + k] =
                (mean + expf(0.5f * logvar) * b->noise[p * C + k]) * b->o.scaling_factor;
        }
}

static cn_status make_condition(cn_batcher *b, int64_t item, bool mirrored, uint8_t *out)
{
    const cn_cache *c = b->o.cache;
    cn_image *condition = NULL;
    CN_TRY(cn_dataset_load(b->ctx, b->o.data, item, c->width, c->height, &condition, NULL));
    if (mirrored) cn_mirror_condition(b->o.mirror, condition);
    memcpy(out, condition->rgb, (size_t)(c->width * c->height * 3));
    cn_image_destroy(condition);
    return CN_OK;
}

static cn_status make(cn_batcher *b, const cn_sample *sample, cn_pass *p, int64_t i)
{
    const cn_cache *c = b->o.cache;
    const cn_schedule *schedule = b->o.schedule;
    const cn_objective *o = b->o.objective;
    const int64_t n = latent_elements(c);
    float *x = p->x + i * n, *target = p->target + i * n;
    cn_rng r;
    cn_rng_seed(&r, sample->noise_seed);
    CN_TRY(cn_store_read(c->moments, b->ctx, sample->item + (sample->mirrored ? c->n : 0),
                         b->moments));
    sample_latent(b, &r);
    cn_rng_normal(&r, b->noise, n);
    if (o) cn_objective_shift(o, &r, b->noise, c->latent_h * c->latent_w, c->latent_c);
    if (o) cn_objective_weigh(o, schedule, sample->timestep, p->per + 2 * i);
    cn_schedule_add_noise(schedule, sample->timestep, b->latent, b->noise, x, n);
    if (schedule->config.v_prediction)
        cn_schedule_velocity(schedule, sample->timestep, b->latent, b->noise, target, n);
    else
        memcpy(target, b->noise, (size_t)n * sizeof(float));
    p->t[i] = (float)sample->timestep;
    const int64_t text = sample->empty_prompt ? 0 : c->context_of[sample->item];
    CN_TRY(cn_store_read(c->contexts, b->ctx, text, p->context + i * context_elements(c)));
    return make_condition(b, sample->item, sample->mirrored,
                          p->condition + i * c->width * c->height * 3);
}

int64_t cn_batcher_item(const cn_batcher_options *o, int64_t item)
{
    for (int64_t k = 0; k < o->count; k++) {
        const int64_t at = o->first + (item - o->first + k) % o->count;
        if (cn_store_has(o->cache->moments, at)) return at;
    }
    return item;
}

cn_status cn_batcher_make(cn_batcher *b, const cn_sample *sample, cn_pass *pass, int64_t i)
{
    const cn_batcher_options *o = &b->o;
    cn_sample now = *sample;
    for (int64_t k = 0; k < o->count; k++, now.item++) {
        now.item = cn_batcher_item(o, now.item);
        const cn_status s = make(b, &now, pass, i);
        if (s == CN_OK || !o->skip_bad || (s != CN_EFORMAT && s != CN_EIO)) return s;
        snprintf(pass->warning, sizeof pass->warning, "%s; the next pair takes its place",
                 cn_error(b->ctx));
    }
    return cn_fail(b->ctx, CN_EFORMAT, "no pair of the data set can be read");
}

cn_status cn_batcher_fill(cn_batcher *b, cn_stepgraph *g, int64_t i, const cn_sample *sample)
{
    CN_TRY(cn_batcher_make(b, sample, &b->one, 0));
    cn_pass_put(&b->one, 0, g, i);
    return CN_OK;
}
