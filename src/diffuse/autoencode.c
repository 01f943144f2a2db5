/* SPDX-License-Identifier: Apache-2.0 */
/* autoencode.c - the VAE both ways: latents to 8-bit pictures and pictures to latents, one at a
 * time to keep the memory low, whole or in tiles that overlap.
 *
 * What works at the latents' size, attention among it, runs on the whole; the levels above it in
 * tiles. Their group norms take statistics over all tiles, found by a first round through them.
 * What remains of the difference to the whole picture has no border, because overlapping tiles are
 * mixed (tiles.h).
 */
#include "diffuse/sampling.h"
#include "diffuse/tiles.h"

#include <math.h>
#include <string.h>

enum { MAX_NORMS = 128 };

/* A group norm's statistics: given to each tile, each tile's own, and their sum over tiles (mean,
 * mean square). */
typedef struct shared_norm {
    cn_node *given, *own;
    float *values;
    double *sums;
} shared_norm;

/* A graph of one input and one output. */
typedef struct stage {
    cn_graph *graph;
    cn_plan *plan;
    cn_node *x, *y;
} stage;

/* One half of the VAE. In one tile it is one graph; else what works at the latents' size is a
 * graph of its own, run on the whole before the tiles (decoder) or after them (encoder). Rows
 * are NHWC. */
typedef struct vae_half {
    cn_ctx *ctx;
    cn_vae_config config;
    stage tiled, whole;     /* whole.plan is NULL with one tile */
    cn_tiles rows, columns; /* in latents; weights in units of the output */
    float *input;           /* tiled.x */
    float *sum;             /* the tiles' output together */
    float *between;         /* whole.y; NULL with one tile */
    shared_norm norms[MAX_NORMS];
    int n_norms; /* 0: one tile */
} vae_half;

struct cn_decode {
    vae_half half;
    float *z; /* [h,w,C], unscaled */
};
struct cn_encode {
    vae_half half;
};

int64_t cn_vae_factor(const cn_vae_config *c)
{
    return (int64_t)1 << (c->levels - 1);
}

/* --- tiles through a plan --------------------------------------------------------------------- */

static void stage_close(stage *s)
{
    cn_plan_destroy(s->plan);
    cn_graph_destroy(s->graph);
}

static void half_close(vae_half *v)
{
    for (int i = 0; i < v->n_norms; i++) {
        cn_free(v->norms[i].values);
        cn_free(v->norms[i].sums);
    }
    stage_close(&v->tiled);
    stage_close(&v->whole);
    cn_tiles_free(&v->rows);
    cn_tiles_free(&v->columns);
    cn_free(v->input);
    cn_free(v->sum);
    cn_free(v->between);
}

static cn_status find_norms(vae_half *v)
{
    const cn_graph *g = v->tiled.graph;
    for (int id = 0; id < cn_graph_size(g); id++) {
        cn_node *y = cn_graph_node(g, id);
        if (y->op != CN_OP_GROUP_NORM || y->n_in < 4) continue;
        if (v->n_norms == MAX_NORMS)
            return cn_fail(v->ctx, CN_EMISMATCH, "a VAE of more than %d norms", (int)MAX_NORMS);
        shared_norm *n = &v->norms[v->n_norms++];
        size_t count = (size_t)cn_node_elements(y->in[3]);
        *n = (shared_norm){.given = y->in[3], .own = y->aux[0]};
        n->values = cn_alloc_array(v->ctx, count, sizeof *n->values);
        n->sums = cn_alloc_array(v->ctx, count, sizeof *n->sums);
        if (!n->values || !n->sums) return CN_ENOMEM;
    }
    return CN_OK;
}

typedef cn_node *(*builder)(cn_graph *g, const cn_vae_config *c, cn_node *x);

/* Builds what `build` makes of [1,h,w,C]. */
static cn_status stage_build(vae_half *v, stage *t, const cn_vae_spec *s, builder build, int64_t h,
                             int64_t w, int64_t C, bool share)
{
    CN_TRY(cn_graph_create(v->ctx, &t->graph));
    t->x = cn_input4(t->graph, "x", 1, h, w, C);
    cn_graph_use(t->graph, s->params);
    if (share) cn_graph_share_stats(t->graph);
    t->y = build(t->graph, s->config, t->x);
    return cn_graph_status(t->graph);
}

static cn_status plan(vae_half *v, cn_backend *be)
{
    cn_node *outputs[MAX_NORMS + 1] = {v->tiled.y};
    stage *w = &v->whole;
    CN_TRY(find_norms(v));
    for (int i = 0; i < v->n_norms; i++) outputs[i + 1] = v->norms[i].own;
    CN_TRY(
        cn_plan_create(v->ctx, v->tiled.graph, be, outputs, v->n_norms + 1, false, &v->tiled.plan));
    return w->graph ? cn_plan_create(v->ctx, w->graph, be, &w->y, 1, false, &w->plan) : CN_OK;
}

static cn_status build_stages(vae_half *v, const cn_vae_spec *s, bool decoder)
{
    const cn_vae_config *c = s->config;
    int64_t h = v->rows.tile, w = v->columns.tile, f = cn_vae_factor(c);
    int64_t middle = c->channels[c->levels - 1];
    bool one = v->rows.n * v->columns.n == 1;
    if (decoder)
        CN_TRY(stage_build(v, &v->tiled, s, one ? cn_vae_decode_build : cn_vae_up_build, h, w,
                           one ? c->latent_channels : middle, !one));
    else
        CN_TRY(stage_build(v, &v->tiled, s, one ? cn_vae_encode_build : cn_vae_down_build, h * f,
                           w * f, c->image_channels, !one));
    if (one) return CN_OK;
    return stage_build(v, &v->whole, s,
                       decoder ? cn_vae_decode_middle_build : cn_vae_encode_middle_build,
                       s->latent_h, s->latent_w, decoder ? c->latent_channels : middle, false);
}

static int64_t sum_elements(const vae_half *v)
{
    int64_t pixels = v->rows.size * v->columns.size * v->rows.scale * v->rows.scale;
    return pixels * cn_channels(v->tiled.y);
}

static int64_t between_elements(const vae_half *v)
{
    return v->whole.plan ? cn_node_elements(v->whole.y) : 0;
}

static cn_status half_open(vae_half *v, cn_ctx *ctx, cn_backend *be, const cn_vae_spec *s,
                           bool decoder)
{
    int64_t out_scale = decoder ? cn_vae_factor(s->config) : 1;
    v->ctx = ctx;
    v->config = *s->config;
    CN_TRY(cn_tiles_make(ctx, s->latent_h, s->tile, out_scale, &v->rows));
    CN_TRY(cn_tiles_make(ctx, s->latent_w, s->tile, out_scale, &v->columns));
    CN_TRY(build_stages(v, s, decoder));
    CN_TRY(plan(v, be));
    int64_t pixels = s->latent_h * s->latent_w * out_scale * out_scale;
    v->input = cn_alloc_array(ctx, (size_t)cn_node_elements(v->tiled.x), sizeof(float));
    v->sum = cn_alloc_array(ctx, (size_t)(pixels * cn_channels(v->tiled.y)), sizeof(float));
    if (v->whole.plan) v->between = cn_alloc_array(ctx, (size_t)between_elements(v), sizeof(float));
    return v->input && v->sum && (v->between || !v->whole.plan) ? CN_OK : CN_ENOMEM;
}

/* What it takes beside plans. */
static size_t buffer_bytes(const vae_half *v)
{
    int64_t n = sum_elements(v) + between_elements(v) + cn_node_elements(v->tiled.x);
    return (size_t)n * sizeof(float);
}

static void half_info(const vae_half *v, cn_plan_info *info)
{
    cn_plan_info_get(v->tiled.plan, info);
    info->flops *= (double)(v->rows.n * v->columns.n) * (v->n_norms ? 2 : 1);
    if (v->whole.plan) {
        cn_plan_info whole;
        cn_plan_info_get(v->whole.plan, &whole);
        info->arena_bytes = CN_MAX(info->arena_bytes, whole.arena_bytes);
        info->flops += whole.flops;
    }
    info->arena_bytes += buffer_bytes(v);
}

/* Tile (r,c) of `in`, rows of the whole input, to the plan's input. */
static void cut(const vae_half *v, int64_t r, int64_t c, const float *in)
{
    int64_t scale = v->tiled.x->shape[1] / v->rows.tile, C = cn_channels(v->tiled.x);
    int64_t row = v->columns.size * scale * C, n = v->columns.tile * scale * C;
    const float *from = in + v->rows.start[r] * scale * row + v->columns.start[c] * scale * C;
    for (int64_t y = 0; y < v->tiled.x->shape[1]; y++)
        memcpy(v->input + y * n, from + y * row, (size_t)n * sizeof(float));
}

static void mix(const vae_half *v, int64_t r, int64_t c, const float *tile)
{
    int64_t scale = v->rows.scale, C = cn_channels(v->tiled.y);
    int64_t h = v->rows.tile * scale, w = v->columns.tile * scale, row = v->columns.size * scale;
    const float *wy = v->rows.weight + r * h, *wx = v->columns.weight + c * w;
    for (int64_t y = 0; y < h; y++) {
        float *to =
            v->sum + ((v->rows.start[r] * scale + y) * row + v->columns.start[c] * scale) * C;
        for (int64_t x = 0; x < w; x++)
            for (int64_t k = 0; k < C; k++)
                to[x * C + k] += wy[y] * wx[x] * tile[(y * w + x) * C + k];
    }
}

/* The tile's own statistics, added to those of all tiles. */
static void add_stats(const vae_half *v)
{
    for (int i = 0; i < v->n_norms; i++) {
        const shared_norm *n = &v->norms[i];
        const float *own = cn_plan_data(v->tiled.plan, n->own);
        double eps = (double)n->own->in[0]->eps;
        for (int64_t k = 0; k < cn_node_elements(n->given); k += 2) {
            double mean = (double)own[k], inverse = (double)own[k + 1];
            n->sums[k] += mean;
            n->sums[k + 1] += 1 / (inverse * inverse) - eps + mean * mean;
        }
    }
}

/* The statistics of all tiles together become the given ones; none yet: every tile's own. */
static cn_status give_stats(const vae_half *v, bool found)
{
    double tiles = (double)(v->rows.n * v->columns.n);
    for (int i = 0; i < v->n_norms; i++) {
        const shared_norm *n = &v->norms[i];
        double eps = (double)n->own->in[0]->eps;
        for (int64_t k = 0; k < cn_node_elements(n->given); k += 2) {
            double mean = n->sums[k] / tiles, square = n->sums[k + 1] / tiles;
            double variance = CN_MAX(0, square - mean * mean);
            n->values[k] = found ? (float)mean : 0;
            n->values[k + 1] = found ? (float)(1 / sqrt(variance + eps)) : 0;
            n->sums[k] = n->sums[k + 1] = 0;
        }
        CN_TRY(cn_plan_set(v->tiled.plan, n->given, n->values));
    }
    return CN_OK;
}

/* Every tile once; its output goes to v->sum, or its statistics to the norms'. */
static cn_status run_tiles(vae_half *v, const float *in, bool only_stats)
{
    for (int64_t r = 0; r < v->rows.n; r++)
        for (int64_t c = 0; c < v->columns.n; c++) {
            if (cn_cancelled(v->ctx)) return cn_fail(v->ctx, CN_ECANCELLED, "interrupted");
            cut(v, r, c, in);
            CN_TRY(cn_plan_set(v->tiled.plan, v->tiled.x, v->input));
            CN_TRY(cn_plan_run(v->tiled.plan));
            CN_TRY(cn_plan_expect_finite(v->tiled.plan, v->tiled.y));
            if (only_stats)
                add_stats(v);
            else
                mix(v, r, c, cn_plan_data(v->tiled.plan, v->tiled.y));
        }
    return CN_OK;
}

/* Fills v->sum from the tiles' whole input. The first round's statistics are those of tiles
 * normalised each by its own; more rounds don't come nearer before there are as many as norms. */
static cn_status run_tiled(vae_half *v, const float *in)
{
    memset(v->sum, 0, (size_t)sum_elements(v) * sizeof(float));
    if (v->n_norms) {
        CN_TRY(give_stats(v, false));
        CN_TRY(run_tiles(v, in, true));
        CN_TRY(give_stats(v, true));
    }
    CN_TRY(run_tiles(v, in, false));
    if (v->whole.plan) cn_plan_drop(v->tiled.plan);
    return CN_OK;
}

/* The part that isn't tiled, to v->between. */
static cn_status run_whole(vae_half *v, const float *in)
{
    cn_plan *p = v->whole.plan;
    CN_TRY(cn_plan_set(p, v->whole.x, in));
    CN_TRY(cn_plan_run(p));
    CN_TRY(cn_plan_expect_finite(p, v->whole.y));
    memcpy(v->between, cn_plan_data(p, v->whole.y), (size_t)between_elements(v) * sizeof(float));
    cn_plan_drop(p);
    return CN_OK;
}

/* --- latents to pictures ---------------------------------------------------------------------- */

cn_status cn_decode_create(cn_ctx *ctx, cn_backend *be, const cn_vae_spec *spec, cn_decode **out)
{
    cn_decode *d = cn_alloc0(ctx, sizeof *d);
    if (!d) return CN_ENOMEM;
    size_t n = (size_t)(spec->latent_h * spec->latent_w * spec->config->latent_channels);
    cn_status s = half_open(&d->half, ctx, be, spec, true);
    if (s == CN_OK && !(d->z = cn_alloc_array(ctx, n, sizeof(float)))) s = CN_ENOMEM;
    if (s != CN_OK) {
        cn_decode_destroy(d);
        return s;
    }
    *out = d;
    return CN_OK;
}

void cn_decode_destroy(cn_decode *d)
{
    if (!d) return;
    half_close(&d->half);
    cn_free(d->z);
    cn_free(d);
}

void cn_decode_info(const cn_decode *d, cn_plan_info *info)
{
    half_info(&d->half, info);
}

cn_status cn_decode_run(cn_decode *d, const float *latents, uint8_t *rgb)
{
    vae_half *v = &d->half;
    int64_t C = v->config.latent_channels, pixels = v->rows.size * v->columns.size;
    for (int64_t p = 0; p < pixels; p++)
        for (int64_t c = 0; c < C; c++)
            d->z[p * C + c] = latents[c * pixels + p] / v->config.scaling_factor;
    if (v->whole.plan) CN_TRY(run_whole(v, d->z));
    CN_TRY(run_tiled(v, v->whole.plan ? v->between : d->z));
    int64_t n = sum_elements(v);
    for (int64_t i = 0; i < n; i++) {
        const float x = v->sum[i] / 2 + 0.5f;
        rgb[i] = (uint8_t)lrintf(CN_MAX(0.0f, CN_MIN(1.0f, x)) * 255);
    }
    return CN_OK;
}

/* --- pictures to latents ---------------------------------------------------------------------- */

cn_status cn_encode_create(cn_ctx *ctx, cn_backend *be, const cn_vae_spec *spec, cn_encode **out)
{
    cn_encode *e = cn_alloc0(ctx, sizeof *e);
    if (!e) return CN_ENOMEM;
    cn_status s = half_open(&e->half, ctx, be, spec, false);
    if (s != CN_OK) {
        cn_encode_destroy(e);
        return s;
    }
    *out = e;
    return CN_OK;
}

void cn_encode_destroy(cn_encode *e)
{
    if (!e) return;
    half_close(&e->half);
    cn_free(e);
}

void cn_encode_info(const cn_encode *e, cn_plan_info *info)
{
    half_info(&e->half, info);
}

cn_status cn_encode_run(cn_encode *e, const float *image, const float *noise, float *latents)
{
    vae_half *v = &e->half;
    int64_t C = v->config.latent_channels, pixels = v->rows.size * v->columns.size;
    CN_TRY(run_tiled(v, image));
    if (v->whole.plan) CN_TRY(run_whole(v, v->sum));
    const float *out = v->whole.plan ? v->between : v->sum;
    for (int64_t c = 0; c < C; c++)
        for (int64_t p = 0; p < pixels; p++) {
            const float *moments = out + p * 2 * C;
            float log_variance = CN_MAX(-30.0f, CN_MIN(20.0f, moments[C + c]));
            float x = moments[c] + expf(0.5f * log_variance) * noise[c * pixels + p];
            latents[c * pixels + p] = x * v->config.scaling_factor;
        }
    return CN_OK;
}
