/* SPDX-License-Identifier: Apache-2.0 */
/* eval_reconstruct.c - how exactly a VAE gives held-out scenes back, as 8-bit pictures: PSNR and
 * edges. */
#include "eval/agreement.h"
#include "annotate/canny.h"
#include "model/nets/nets.h"
#include "pretrain/eval_internal.h"

#include <math.h>

enum { BATCH = 8, CANNY_LOW = 100, CANNY_HIGH = 200, TOLERANCE_PX = 1 };
/* An exact reconstruction would be infinite. */
static const double LEAST_MSE = 1e-10;

/* --- a VAE, image to latents' means and back in one graph ------------------------------------- */

cn_status cn_eval_vae_create(cn_eval *v, const cn_base *b, int64_t batch, cn_eval_vae *out)
{
    const int64_t px = v->e->size_px;
    *out = (cn_eval_vae){.batch = batch, .px = px};
    out->pixels = cn_alloc_array(v->ctx, (size_t)(batch * px * px * 3), sizeof *out->pixels);
    if (!out->pixels) return CN_ENOMEM;
    CN_TRY(cn_net_params(v->ctx, CN_NET_VAE, &out->params));
    CN_TRY(cn_graph_create(v->ctx, &out->g));
    out->image = cn_input4(out->g, "image", batch, px, px, b->vae.image_channels);
    cn_graph_use(out->g, out->params);
    cn_node *moments = cn_vae_encode_build(out->g, &b->vae, out->image);
    cn_node *means = cn_slice(out->g, moments, 0, b->vae.latent_channels);
    out->out = cn_vae_decode_build(out->g, &b->vae, means);
    CN_TRY(cn_graph_status(out->g));
    CN_TRY(cn_plan_create(v->ctx, out->g, v->be, &out->out, 1, false, &out->plan));
    return cn_base_load(v->ctx, b, v->be, out->params);
}

void cn_eval_vae_destroy(cn_eval_vae *a)
{
    cn_plan_destroy(a->plan);
    cn_graph_destroy(a->g);
    cn_params_destroy(a->params);
    cn_free(a->pixels);
}

static uint8_t byte_of(float x)
{
    const float v = x / 2 + 0.5f;
    return (uint8_t)lrintf((v > 0 ? v < 1 ? v : 1 : 0) * 255); /* NaN becomes 0 */
}

cn_status cn_eval_vae_run(cn_eval_vae *a, const uint8_t *rgb, uint8_t *back)
{
    const int64_t n = a->batch * a->px * a->px * 3;
    for (int64_t i = 0; i < n; i++) a->pixels[i] = (float)rgb[i] / 127.5f - 1.0f;
    CN_TRY(cn_plan_set(a->plan, a->image, a->pixels));
    CN_TRY(cn_plan_run(a->plan));
    const float *y = cn_plan_data(a->plan, a->out);
    for (int64_t i = 0; i < n; i++) back[i] = byte_of(y[i]);
    return CN_OK;
}

/* --- held-out scenes -------------------------------------------------------------------------- */

typedef struct reconstruction {
    cn_eval_vae vae;
    cn_scene scenes[BATCH];
    uint8_t *rgb, *back, *edges[2];
    int64_t px;
    double psnr, mse, f1; /* sums */
} reconstruction;

static cn_status build(cn_eval *v, const cn_base *b, reconstruction *r)
{
    const size_t one = (size_t)r->px * (size_t)r->px, n = BATCH * one * 3;
    r->rgb = cn_alloc(v->ctx, n);
    r->back = cn_alloc(v->ctx, n);
    r->edges[0] = cn_alloc(v->ctx, one);
    r->edges[1] = cn_alloc(v->ctx, one);
    if (!r->rgb || !r->back || !r->edges[0] || !r->edges[1]) return CN_ENOMEM;
    return cn_eval_vae_create(v, b, BATCH, &r->vae);
}

static void destroy(reconstruction *r)
{
    cn_eval_vae_destroy(&r->vae);
    cn_free(r->rgb);
    cn_free(r->back);
    cn_free(r->edges[0]);
    cn_free(r->edges[1]);
}

static cn_status compare(cn_eval *v, reconstruction *r, int64_t i)
{
    const int64_t values = r->px * r->px * 3;
    const uint8_t *pair[] = {r->back + i * values, r->rgb + i * values};
    double square = 0;
    for (int64_t k = 0; k < values; k++) {
        const double d = ((double)pair[0][k] - (double)pair[1][k]) / 255;
        square += d * d;
    }
    for (int k = 0; k < 2; k++)
        CN_TRY(cn_canny_u8(v->ctx, pair[k], r->px, r->px, 3, CANNY_LOW, CANNY_HIGH, false,
                           r->edges[k]));
    const double one = square / (double)values;
    r->mse += one;
    r->psnr -= 10 * log10(CN_MAX(one, LEAST_MSE));
    r->f1 += cn_edge_f1(r->edges[0], r->edges[1], r->px, r->px, TOLERANCE_PX, NULL, NULL);
    return CN_OK;
}

/* Scenes first .. first + BATCH; the first n count. */
static cn_status reconstruct(cn_eval *v, reconstruction *r, int64_t first, int64_t n)
{
    for (int64_t i = 0; i < BATCH; i++)
        cn_eval_make_scene(v, CN_PART_RECONSTRUCTION, first + i, &r->scenes[i]);
    cn_scene_maps maps = {.rgb = r->rgb};
    CN_TRY(cn_scene_render_batch(v->ctx, r->scenes, BATCH, r->px, &maps));
    CN_TRY(cn_eval_vae_run(&r->vae, r->rgb, r->back));
    for (int64_t i = 0; i < n; i++) CN_TRY(compare(v, r, i));
    return CN_OK;
}

cn_status cn_eval_reconstruction(cn_eval *v, const cn_base *b)
{
    const int64_t scenes = v->o->scenes;
    reconstruction r = {.px = v->e->size_px};
    cn_status s = build(v, b, &r);
    for (int64_t i = 0; s == CN_OK && i < scenes; i += BATCH) {
        const int64_t n = CN_MIN(BATCH, scenes - i);
        if (cn_cancelled(v->ctx)) s = cn_fail(v->ctx, CN_ECANCELLED, "interrupted");
        if (s == CN_OK) s = reconstruct(v, &r, i, n);
        if (s == CN_OK) cn_eval_report(v, "reconstruction", i + n, scenes);
    }
    destroy(&r);
    if (s != CN_OK) return s;
    v->e->scenes = scenes;
    v->e->psnr_db = r.psnr / (double)scenes;
    v->e->psnr_of_mse_db = -10 * log10(CN_MAX(r.mse / (double)scenes, LEAST_MSE));
    v->e->edge_f1 = r.f1 / (double)scenes;
    return CN_OK;
}
