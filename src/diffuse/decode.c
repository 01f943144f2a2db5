/* decode.c - the VAE both ways: latents to 8-bit pictures and pictures to latents, one at a time to keep the
 * memory low, whole or in tiles that overlap.
 *
 * A tile has statistics and attention of its own, so a tiled result differs slightly from the whole's; the
 * tiles are mixed (tiles.h), so the difference has no border.
 */
#include "diffuse/draw.h"
#include "diffuse/tiles.h"

#include <math.h>
#include <string.h>

/* One half of the VAE over tiles: in [.,.,in_c] to out [.,.,out_c], rows NHWC. */
typedef struct vae_half {
    cn_ctx *ctx;
    cn_vae_config config;
    cn_graph *graph;
    cn_plan *plan;
    cn_node *x, *y;
    cn_tiles rows, columns; /* in latents; weights in units of the output */
    float *input;           /* x */
    float *sum;             /* the whole output */
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

/* --- tiles through a plan --------------------------------------------------------------------------- */

static void half_close(vae_half *v)
{
    cn_plan_destroy(v->plan);
    cn_graph_destroy(v->graph);
    cn_tiles_free(&v->rows);
    cn_tiles_free(&v->columns);
    cn_free(v->input);
    cn_free(v->sum);
}

static cn_status half_open(vae_half *v, cn_ctx *ctx, cn_backend *be, const cn_vae_spec *s,
                           bool decoder)
{
    int64_t factor = cn_vae_factor(s->config), out_scale = decoder ? factor : 1;
    int64_t in_scale = decoder ? 1 : factor;
    v->ctx = ctx;
    v->config = *s->config;
    CN_TRY(cn_tiles_make(ctx, s->latent_h, s->tile, out_scale, &v->rows));
    CN_TRY(cn_tiles_make(ctx, s->latent_w, s->tile, out_scale, &v->columns));
    CN_TRY(cn_graph_create(ctx, &v->graph));
    v->x = cn_input4(v->graph, decoder ? "z" : "image", 1, v->rows.tile * in_scale,
                     v->columns.tile * in_scale,
                     decoder ? s->config->latent_channels : s->config->image_channels);
    cn_graph_use(v->graph, s->params);
    v->y = decoder ? cn_vae_decode_build(v->graph, s->config, v->x)
                   : cn_vae_encode_build(v->graph, s->config, v->x);
    CN_TRY(cn_graph_status(v->graph));
    CN_TRY(cn_plan_create(ctx, v->graph, be, &v->y, 1, false, &v->plan));
    size_t out = (size_t)(s->latent_h * s->latent_w * out_scale * out_scale * cn_channels(v->y));
    v->input = cn_alloc_array(ctx, (size_t)cn_node_elements(v->x), sizeof(float));
    v->sum = cn_alloc_array(ctx, out, sizeof(float));
    return v->input && v->sum ? CN_OK : CN_ENOMEM;
}

static void half_info(const vae_half *v, cn_plan_info *info)
{
    cn_plan_info_get(v->plan, info);
    double tiles = (double)v->rows.n * (double)v->columns.n;
    info->flops *= tiles;
    info->arena_bytes += (size_t)cn_node_elements(v->y) * (size_t)tiles * sizeof(float);
}

/* Tile (r,c) of `in`, rows of the whole input, to the plan's input. */
static void cut(const vae_half *v, int64_t r, int64_t c, const float *in)
{
    int64_t scale = v->x->shape[1] / v->rows.tile, C = cn_channels(v->x);
    int64_t row = v->columns.size * scale * C, n = v->columns.tile * scale * C;
    const float *from = in + v->rows.start[r] * scale * row + v->columns.start[c] * scale * C;
    for (int64_t y = 0; y < v->x->shape[1]; y++)
        memcpy(v->input + y * n, from + y * row, (size_t)n * sizeof(float));
}

static void mix(const vae_half *v, int64_t r, int64_t c, const float *tile)
{
    int64_t scale = v->rows.scale, C = cn_channels(v->y);
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

/* Fills v->sum from the whole input. */
static cn_status half_run(vae_half *v, const float *in)
{
    int64_t out = v->rows.size * v->columns.size * v->rows.scale * v->rows.scale;
    memset(v->sum, 0, (size_t)(out * cn_channels(v->y)) * sizeof(float));
    for (int64_t r = 0; r < v->rows.n; r++)
        for (int64_t c = 0; c < v->columns.n; c++) {
            if (cn_cancelled(v->ctx)) return cn_fail(v->ctx, CN_ECANCELLED, "interrupted");
            cut(v, r, c, in);
            CN_TRY(cn_plan_set(v->plan, v->x, v->input));
            CN_TRY(cn_plan_run(v->plan));
            mix(v, r, c, cn_plan_data(v->plan, v->y));
        }
    return CN_OK;
}

/* --- latents to pictures ---------------------------------------------------------------------------- */

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
    CN_TRY(half_run(v, d->z));
    int64_t n = pixels * v->rows.scale * v->rows.scale * cn_channels(v->y);
    for (int64_t i = 0; i < n; i++) {
        float x = v->sum[i] / 2 + 0.5f;
        /* written so that NaN becomes 0 */
        x = x > 0 ? x < 1 ? x : 1 : 0;
        rgb[i] = (uint8_t)lrintf(x * 255);
    }
    return CN_OK;
}

/* --- pictures to latents ---------------------------------------------------------------------------- */

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
    CN_TRY(half_run(v, image));
    for (int64_t c = 0; c < C; c++)
        for (int64_t p = 0; p < pixels; p++) {
            const float *moments = v->sum + p * 2 * C;
            float log_variance = CN_MAX(-30.0f, CN_MIN(20.0f, moments[C + c]));
            float x = moments[c] + expf(0.5f * log_variance) * noise[c * pixels + p];
            latents[c * pixels + p] = x * v->config.scaling_factor;
        }
    return CN_OK;
}
