/* SPDX-License-Identifier: Apache-2.0 */
/* cli_demo_draw.c - the demo's drawings: each condition with and without control, from the same
 * noise. */
#include "cli/cli_demo.h"

#include "io/json_text.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* The same lines under two skies; words that the base model knows. */
static const char *const scribble_prompts[DEMO_PROMPTS] = {
    "a shiny red sphere left of a blue cube on green ground under a blue sky",
    "a shiny yellow sphere left of a purple cube on brown ground under a sunset sky"};
static const char *const photo_prompts[DEMO_PROMPTS] = {
    "a photo of a shiny red cube on green ground under a blue sky",
    "a photo of a metallic white cube on brown ground under a sunset sky"};

cn_status demo_square(cn_ctx *ctx, const cn_image *in, int64_t px, cn_image **out)
{
    const int64_t w = cn_image_width(in), h = cn_image_height(in), side = w < h ? w : h;
    const int64_t left = (w - side) / 2, top = (h - side) / 2;
    const uint8_t *from = cn_image_rgb((cn_image *)(uintptr_t)in);
    cn_image *image = NULL;
    const cn_status s = cn_image_create(ctx, px, px, &image);
    if (s != CN_OK) return s;
    uint8_t *to = cn_image_rgb(image);
    for (int64_t y = 0; y < px; y++)
        for (int64_t x = 0; x < px; x++) {
            int64_t x0 = x * side / px, x1 = (x + 1) * side / px;
            int64_t y0 = y * side / px, y1 = (y + 1) * side / px;
            if (x1 == x0) x1++;
            if (y1 == y0) y1++;
            uint64_t sum[3] = {0};
            for (int64_t j = y0; j < y1; j++)
                for (int64_t i = x0; i < x1; i++)
                    for (int64_t c = 0; c < 3; c++)
                        sum[c] += from[((top + j) * w + left + i) * 3 + c];
            const uint64_t n = (uint64_t)((x1 - x0) * (y1 - y0));
            for (int64_t c = 0; c < 3; c++)
                to[(y * px + x) * 3 + c] = (uint8_t)((sum[c] + n / 2) / n);
        }
    *out = image;
    return CN_OK;
}

void demo_drawings_destroy(demo *d)
{
    for (int i = 0; i < DEMO_MOST; i++) {
        cn_image_destroy(d->drawings[i].condition);
        cn_image_destroy(d->drawings[i].with);
        cn_image_destroy(d->drawings[i].without);
        cn_image_destroy(d->drawings[i].original);
    }
}

/* --- conditions ------------------------------------------------------------------------------- */

static cn_status load(demo *d, const char *name, cn_image **out)
{
    char path[CN_PATH_BYTES + 64];
    snprintf(path, sizeof path, "%s/%.60s", d->held_dir, name);
    return cn_image_load(d->ctx, path, out);
}

/* One line of the held-out scenes' prompt.json, which this program wrote a few minutes ago. */
static cn_status prepare_scene(demo *d, const char *text, demo_drawing *one)
{
    const char *source = NULL, *target = NULL, *prompt = NULL;
    json_t *line = cn_json_parse_string(text, 0);
    cn_status s = CN_EFORMAT;
    if (line && json_unpack(line, "{s:s, s:s, s:s}", "source", &source, "target", &target, "prompt",
                            &prompt) == 0) {
        snprintf(one->prompt, sizeof one->prompt, "%s", prompt);
        s = load(d, source, &one->condition);
        if (s == CN_OK) s = load(d, target, &one->original);
    }
    json_decref(line);
    return s;
}

static cn_status prepare_scenes(demo *d)
{
    char path[CN_PATH_BYTES + 16], *text = NULL;
    size_t cap = 0;
    cn_status s = CN_OK;
    snprintf(path, sizeof path, "%s/prompt.json", d->held_dir);
    FILE *f = fopen(path, "r");
    while (f && s == CN_OK && d->n_held < DEMO_HELD && getline(&text, &cap, f) > 0)
        if ((s = prepare_scene(d, text, &d->drawings[d->n_held])) == CN_OK) d->n_held++;
    free(text);
    if (f) fclose(f);
    return s == CN_OK && !d->n_held ? CN_EIO : s;
}

/* Whether Zhang and Suen's thinning ("A fast parallel algorithm for thinning digital patterns",
 * 1984) takes pixel (x, y) away in half-step `half`: a border pixel whose going breaks nothing and
 * shortens no end. */
static bool goes(const uint8_t *mask, int64_t x, int64_t y, int half)
{
    static const int dx[] = {0, 1, 1, 1, 0, -1, -1, -1}, dy[] = {-1, -1, 0, 1, 1, 1, 0, -1};
    int p[8], set = 0, rises = 0;
    for (int k = 0; k < 8; k++) p[k] = mask[(y + dy[k]) * DEMO_PX + x + dx[k]] != 0;
    for (int k = 0; k < 8; k++) {
        set += p[k];
        rises += !p[k] && p[(k + 1) % 8];
    }
    if (set < 2 || set > 6 || rises != 1) return false;
    return half ? !(p[0] && p[2] && p[6]) && !(p[0] && p[4] && p[6])
                : !(p[0] && p[2] && p[4]) && !(p[2] && p[4] && p[6]);
}

/* To lines of one pixel, as canny's are. The outermost pixels stay as they are. */
static void thin(uint8_t mask[DEMO_PX * DEMO_PX])
{
    uint8_t next[DEMO_PX * DEMO_PX];
    for (int round = 0, left = 2; left > 0; round++, left--) {
        memcpy(next, mask, sizeof next);
        for (int64_t y = 1; y < DEMO_PX - 1; y++)
            for (int64_t x = 1; x < DEMO_PX - 1; x++)
                if (mask[y * DEMO_PX + x] && goes(mask, x, y, round % 2)) {
                    next[y * DEMO_PX + x] = 0;
                    left = 3; /* another whole step after this one */
                }
        memcpy(mask, next, sizeof next);
    }
}

/* A pixel counts when strokes cover a quarter of it. */
static cn_status scribble_lines(demo *d, cn_image **out)
{
    uint8_t mask[DEMO_PX * DEMO_PX];
    const cn_status s = demo_square(d->ctx, d->scribble_image, DEMO_PX, out);
    if (s != CN_OK) return s;
    uint8_t *rgb = cn_image_rgb(*out);
    for (int64_t i = 0; i < (int64_t)DEMO_PX * DEMO_PX; i++)
        mask[i] = rgb[3 * i] + rgb[3 * i + 1] + rgb[3 * i + 2] > 3 * 64;
    thin(mask);
    for (int64_t i = 0; i < (int64_t)DEMO_PX * DEMO_PX; i++)
        memset(rgb + 3 * i, mask[i] ? 255 : 0, 3);
    return CN_OK;
}

static cn_status photo_edges(demo *d, cn_image **out)
{
    cn_image *small = NULL;
    cn_status s = demo_square(d->ctx, d->photo_image, DEMO_PX, &small);
    if (s == CN_OK) s = cn_annotate_image(d->ctx, "canny", NULL, small, out);
    cn_image_destroy(small);
    return s;
}

static cn_status prepare_pictures(demo *d)
{
    cn_status s = CN_OK;
    for (int i = 0; i < DEMO_PROMPTS && s == CN_OK; i++) {
        demo_drawing *one = &d->drawings[d->n_held + d->n_scribble++];
        snprintf(one->prompt, sizeof one->prompt, "%s", scribble_prompts[i]);
        s = demo_square(d->ctx, d->scribble_image, 2 * DEMO_PX, &one->original);
        if (s == CN_OK) s = scribble_lines(d, &one->condition);
    }
    const int n = !d->photo_image ? 0 : d->photo_prompt ? 1 : DEMO_PROMPTS;
    for (int i = 0; i < n && s == CN_OK; i++) {
        demo_drawing *one = &d->drawings[d->n_held + d->n_scribble + d->n_photo++];
        snprintf(one->prompt, sizeof one->prompt, "%s",
                 d->photo_prompt ? d->photo_prompt : photo_prompts[i]);
        s = demo_square(d->ctx, d->photo_image, 2 * DEMO_PX, &one->original);
        if (s == CN_OK) s = photo_edges(d, &one->condition);
    }
    return s;
}

/* --- drawing ---------------------------------------------------------------------------------- */

static cn_status agreement(demo *d, const cn_image *drawn, const cn_image *condition, double *f1)
{
    cn_image *edges = NULL;
    cn_agreement a;
    const cn_annotate_options o = {.settings = (const char *const[]){DEMO_LOW, DEMO_HIGH, NULL}};
    cn_status s = cn_annotate_image(d->ctx, "canny", &o, drawn, &edges);
    if (s == CN_OK) s = cn_condition_agreement(d->ctx, "canny", edges, condition, &a);
    if (s == CN_OK) *f1 = a.score;
    cn_image_destroy(edges);
    return s;
}

static cn_status draw_one(demo *d, cn_pipeline *p, bool control, uint64_t seed, demo_drawing *one)
{
    const cn_control_options c = {.image = one->condition, .strength = 1, .start = 0, .end = 1};
    cn_generate_options o;
    cn_generated *g = NULL;
    cn_generate_defaults(&o);
    o.prompt = one->prompt;
    o.controls = control ? &c : NULL;
    o.width = o.height = DEMO_PX;
    o.steps = DEMO_SAMPLING_STEPS;
    o.cfg_scale = d->guidance_scale;
    o.seed = seed;
    cn_status s = cn_generate(p, &o, &g);
    if (s != CN_OK) return s;
    cn_image **image = control ? &one->with : &one->without;
    *image = g->images[0];
    g->images[0] = NULL; /* the drawing's own from here on */
    cn_generated_destroy(g);
    return agreement(d, *image, one->condition,
                     control ? &one->agreement_with : &one->agreement_without);
}

static cn_status draw_all(demo *d, cn_pipeline *plain, cn_pipeline *controlled)
{
    const int n = d->n_held + d->n_scribble + d->n_photo;
    cn_status s = CN_OK;
    for (int i = 0; i < n && s == CN_OK; i++) {
        demo_drawing *one = &d->drawings[i];
        /* The prompts of one scribble share their noise, so that they alone differ. */
        const uint64_t seed = d->seed + (uint64_t)(i < d->n_held ? i : d->n_held);
        cli_progress_show(&d->progress, "drawings", 2 * i, 2 * n);
        s = draw_one(d, controlled, true, seed, one);
        if (s == CN_OK) cli_progress_show(&d->progress, "drawings", 2 * i + 1, 2 * n);
        if (s == CN_OK) s = draw_one(d, plain, false, seed, one);
    }
    if (s == CN_OK) cli_progress_show(&d->progress, "drawings", 2 * n, 2 * n);
    return s;
}

cn_status demo_draw(demo *d)
{
    const char *control = d->controlnet_dir;
    cn_pipeline_options o = {.model = d->model, .keep_loaded = true};
    cn_pipeline *plain = NULL, *controlled = NULL;
    cn_status s = prepare_scenes(d);
    if (s == CN_OK) s = prepare_pictures(d);
    if (s == CN_OK) s = cn_pipeline_create(d->ctx, &o, &plain);
    o.controls = &control;
    o.n_controls = 1;
    if (s == CN_OK) s = cn_pipeline_create(d->ctx, &o, &controlled);
    if (s == CN_OK) s = draw_all(d, plain, controlled);
    if (s == CN_OK) demo_judge(d);
    cn_pipeline_destroy(plain);
    cn_pipeline_destroy(controlled);
    return s;
}
