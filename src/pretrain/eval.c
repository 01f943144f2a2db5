/* SPDX-License-Identifier: Apache-2.0 */
/* eval.c - how good a base model is at scenes: reconstruction of held-out ones by the VAE, and the
 * share of drawings in which the object has the colour that the prompt named.
 *
 * Models are opened as a user's are. Both measures take what a user sees, 8-bit pictures.
 */
#include "cpu/cpu.h"
#include "graph/plan.h"
#include "image/image.h"
#include "model/nets/nets.h"
#include "model/checkpoint/weights.h"
#include "scene/scene.h"

#include <math.h>
#include <string.h>

/* Scenes from here on in the sequence are never trained on. */
static const uint64_t HELD_OUT = (uint64_t)1 << 30;
enum { BATCH = 8, SHEET_COLUMNS = 8, SHEET_DRAWINGS = 40 };
/* An exact reconstruction would be infinite. */
static const double LEAST_MSE = 1e-10;

typedef struct reconstruction {
    cn_graph *g;
    cn_plan *plan;
    cn_node *image, *out;
    cn_params *vae;
    cn_scene scenes[BATCH];
    uint8_t *rgb;
    float *pixels;
    int64_t px;
} reconstruction;

_Static_assert((int)CN_EVALUATE_COLOURS == (int)CN_COLOUR_COUNT, "the judge's colours");

void cn_pretrain_evaluate_defaults(cn_pretrain_evaluate_options *o)
{
    *o = (cn_pretrain_evaluate_options){
        .seed = 1, .scenes = 500, .prompts = 200, .steps = 20, .cfg_scale = 5};
}

static void report(const cn_pretrain_evaluate_options *o, const char *stage, int64_t done,
                   int64_t total)
{
    if (o->progress) o->progress(o->user, stage, done, total);
}

/* --- reconstruction --------------------------------------------------------------------------- */

/* Image to latents' means and back, one graph. */
static cn_status build(cn_ctx *ctx, cn_backend *be, const cn_base *b, reconstruction *r)
{
    size_t n = (size_t)BATCH * (size_t)r->px * (size_t)r->px * 3;
    r->rgb = cn_alloc(ctx, n);
    r->pixels = cn_alloc_array(ctx, n, sizeof *r->pixels);
    if (!r->rgb || !r->pixels) return CN_ENOMEM;
    CN_TRY(cn_params_create(ctx, "vae", &r->vae));
    CN_TRY(cn_graph_create(ctx, &r->g));
    r->image = cn_input4(r->g, "image", BATCH, r->px, r->px, b->vae.image_channels);
    cn_graph_use(r->g, r->vae);
    cn_node *moments = cn_vae_encode_build(r->g, &b->vae, r->image);
    r->out = cn_vae_decode_build(r->g, &b->vae, cn_slice(r->g, moments, 0, b->vae.latent_channels));
    CN_TRY(cn_graph_status(r->g));
    CN_TRY(cn_plan_create(ctx, r->g, be, &r->out, 1, false, &r->plan));
    return cn_base_load(ctx, b, be, r->vae);
}

static double byte_of(float x)
{
    float v = x / 2 + 0.5f;
    v = v > 0 ? v < 1 ? v : 1 : 0; /* NaN becomes 0 */
    return (double)lrintf(v * 255);
}

/* Scenes first .. first + BATCH; the first n count. */
static cn_status reconstruct(cn_ctx *ctx, reconstruction *r, uint64_t seed, int64_t first,
                             int64_t n, double *psnr, double *mse)
{
    int64_t values = r->px * r->px * 3;
    for (int64_t i = 0; i < BATCH; i++)
        cn_scene_generate(seed, HELD_OUT + (uint64_t)(first + i), &r->scenes[i]);
    cn_scene_maps maps = {.rgb = r->rgb};
    CN_TRY(cn_scene_render_batch(ctx, r->scenes, BATCH, r->px, &maps));
    for (int64_t i = 0; i < BATCH * values; i++) r->pixels[i] = (float)r->rgb[i] / 127.5f - 1.0f;
    CN_TRY(cn_plan_set(r->plan, r->image, r->pixels));
    CN_TRY(cn_plan_run(r->plan));
    const float *y = cn_plan_data(r->plan, r->out);
    for (int64_t i = 0; i < n; i++) {
        double square = 0;
        for (int64_t k = i * values; k < (i + 1) * values; k++) {
            double d = (byte_of(y[k]) - (double)r->rgb[k]) / 255;
            square += d * d;
        }
        double one = square / (double)values;
        *mse += one;
        *psnr -= 10 * log10(CN_MAX(one, LEAST_MSE));
    }
    return CN_OK;
}

static cn_status measure_reconstruction(cn_ctx *ctx, const cn_base *b,
                                        const cn_pretrain_evaluate_options *o,
                                        cn_pretrain_evaluation *e)
{
    reconstruction r = {.px = e->size_px};
    cn_backend *be = NULL;
    double psnr = 0, mse = 0;
    cn_status s = cn_backend_cpu_create(ctx, &be);
    if (s == CN_OK) s = build(ctx, be, b, &r);
    for (int64_t i = 0; s == CN_OK && i < o->scenes; i += BATCH) {
        int64_t n = CN_MIN(BATCH, o->scenes - i);
        if (cn_cancelled(ctx)) s = cn_fail(ctx, CN_ECANCELLED, "interrupted");
        if (s == CN_OK) s = reconstruct(ctx, &r, o->seed, i, n, &psnr, &mse);
        if (s == CN_OK) report(o, "reconstruction", i + n, o->scenes);
    }
    if (s == CN_OK) {
        e->scenes = o->scenes;
        e->psnr_db = psnr / (double)o->scenes;
        e->psnr_of_mse_db = -10 * log10(CN_MAX(mse / (double)o->scenes, LEAST_MSE));
    }
    cn_plan_destroy(r.plan);
    cn_graph_destroy(r.g);
    cn_params_destroy(r.vae);
    cn_free(r.rgb);
    cn_free(r.pixels);
    if (be) be->destroy(be);
    return s;
}

/* --- drawings --------------------------------------------------------------------------------- */

/* Prompt i: colours take turns, then shapes; material, ground and sky are drawn, allowed pairs
 * only. */
static cn_status make_prompt(cn_ctx *ctx, int64_t i, cn_scene *scene)
{
    cn_rng rng;
    int colour = (int)(i % CN_COLOUR_COUNT), shape = (int)(i / CN_COLOUR_COUNT % CN_SHAPE_COUNT);
    int material, ground, sky;
    cn_rng_seed(&rng, (uint64_t)i);
    do {
        material = (int)cn_rng_below(&rng, CN_MATERIAL_COUNT);
        ground = (int)cn_rng_below(&rng, CN_GROUND_COUNT);
        sky = (int)cn_rng_below(&rng, CN_SKY_COUNT);
    } while (!cn_scene_allowed(colour, ground, sky));
    return cn_scene_prompt(ctx, shape, colour, material, ground, sky, (uint64_t)i, scene);
}

static void put_on_sheet(cn_image *sheet, const cn_image *picture, int64_t i)
{
    int64_t px = picture->width, left = i % SHEET_COLUMNS * px, top = i / SHEET_COLUMNS * px;
    for (int64_t y = 0; y < px; y++)
        memcpy(sheet->rgb + ((top + y) * sheet->width + left) * 3, picture->rgb + y * px * 3,
               (size_t)px * 3);
}

static cn_status draw(cn_ctx *ctx, cn_pipeline *p, const cn_pretrain_evaluate_options *o, int64_t i,
                      cn_image *sheet, cn_pretrain_evaluation *e)
{
    cn_scene scene;
    cn_generated *g = NULL;
    cn_generate_options options;
    CN_TRY(make_prompt(ctx, i, &scene));
    cn_generate_defaults(&options);
    options.prompt = scene.caption;
    options.sampler = "ddim";
    options.steps = o->steps;
    options.cfg_scale = o->cfg_scale;
    options.width = options.height = e->size_px;
    options.seed = (uint64_t)i;
    CN_TRY(cn_generate(p, &options, &g));
    int asked = scene.objects[0].colour;
    int seen = cn_scene_judge_colour(g->images[0]->rgb, e->size_px, e->size_px, NULL);
    e->seen[asked][seen < 0 ? CN_EVALUATE_COLOURS : seen]++;
    e->right += seen == asked;
    e->undecided += seen < 0;
    if (sheet && i < SHEET_DRAWINGS) put_on_sheet(sheet, g->images[0], i);
    cn_generated_destroy(g);
    return CN_OK;
}

static cn_status measure_drawings(cn_ctx *ctx, const cn_pretrain_evaluate_options *o,
                                  cn_pretrain_evaluation *e)
{
    cn_pipeline *p = NULL;
    cn_image *sheet = NULL;
    cn_pipeline_options options = {.model = o->model, .keep_loaded = true};
    int64_t shown = CN_MIN(o->prompts, SHEET_DRAWINGS);
    int64_t rows = (shown + SHEET_COLUMNS - 1) / SHEET_COLUMNS;
    cn_status s = cn_pipeline_create(ctx, &options, &p);
    if (s == CN_OK && o->sheet)
        s = cn_image_create(ctx, SHEET_COLUMNS * e->size_px, rows * e->size_px, &sheet);
    for (int64_t i = 0; s == CN_OK && i < o->prompts; i++) {
        if ((s = draw(ctx, p, o, i, sheet, e)) == CN_OK) report(o, "drawing", i + 1, o->prompts);
    }
    if (s == CN_OK && sheet) s = cn_image_save_png(ctx, o->sheet, sheet, NULL);
    if (s == CN_OK) e->prompts = o->prompts;
    cn_image_destroy(sheet);
    cn_pipeline_destroy(p);
    return s;
}

/* --- both ------------------------------------------------------------------------------------- */

static cn_status check(cn_ctx *ctx, const cn_base *b, const cn_pretrain_evaluate_options *o,
                       int64_t *size_px)
{
    const int64_t most = 1000000;
    if (o->scenes < 0 || o->prompts < 0 || o->scenes > most || o->prompts > most)
        return cn_fail(ctx, CN_EINVAL, "%lld scenes and %lld prompts: 0 to %lld are possible",
                       (long long)o->scenes, (long long)o->prompts, (long long)most);
    int64_t factor = (int64_t)1 << (b->vae.levels - 1);
    if (b->vae.image_channels != 3 || b->unet.sample_size < 1 ||
        b->unet.sample_size > CN_SCENE_MAX_PX / factor ||
        b->unet.sample_size * factor < CN_SCENE_MIN_PX)
        return cn_fail(ctx, CN_EMISMATCH,
                       "%s: scenes are RGB pictures of %d to %d px; this model's have %lld "
                       "channels and %lld times %lld px",
                       b->path, (int)CN_SCENE_MIN_PX, (int)CN_SCENE_MAX_PX,
                       (long long)b->vae.image_channels, (long long)b->unet.sample_size,
                       (long long)factor);
    *size_px = b->unet.sample_size * factor;
    return CN_OK;
}

cn_status cn_pretrain_evaluate(cn_ctx *ctx, const cn_pretrain_evaluate_options *o,
                               cn_pretrain_evaluation *out)
{
    cn_base *b = NULL;
    cn_pretrain_evaluation e = {0};
    if (!o->model) return cn_fail(ctx, CN_EINVAL, "no model was given");
    CN_TRY(cn_base_open(ctx, o->model, &b));
    for (int i = 0; i < CN_EVALUATE_COLOURS; i++) e.colours[i] = cn_scene_colour_name(i);
    cn_status s = check(ctx, b, o, &e.size_px);
    if (s == CN_OK && o->scenes) s = measure_reconstruction(ctx, b, o, &e);
    cn_base_close(b);
    if (s == CN_OK && o->prompts) s = measure_drawings(ctx, o, &e);
    if (s == CN_OK) *out = e;
    return s;
}
