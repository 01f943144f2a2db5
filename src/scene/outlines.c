/* SPDX-License-Identifier: Apache-2.0 */
/* outlines.c - boundaries between surfaces as soft edges and cartoon lines, and the toon rendering.
 *
 * All are drawn on a canvas finer than the picture and averaged, so that lines have smooth rims.
 */
#include "scene/canvas.h"

#include "scene/lanes.h"

/* --- boundaries ------------------------------------------------------------------------------- */

static float colour_step(const cn_sample *a, const cn_sample *b)
{
    const vec3 p = a->look.colour, q = b->look.colour;
    if (p.x == q.x && p.y == q.y && p.z == q.z) return 0;
    return fabsf(sqrtf(p.x) - sqrtf(q.x)) + fabsf(sqrtf(p.y) - sqrtf(q.y)) +
           fabsf(sqrtf(p.z) - sqrtf(q.z));
}

/* Where the rays through the centres of row y end, from the camera: x, y and z, each `stride`
 * long. */
static const float *ends_of(cn_canvas *c, int y)
{
    static const lanes centres = {0.5f, 1.5f, 2.5f, 3.5f};
    const size_t n = (size_t)c->stride;
    float *ends = c->ends + 3 * n * (size_t)(y & 1);
    const cn_sample *s = c->samples + cn_canvas_index(c, 0, y);
    if (c->ends_row[y & 1] == y) return ends;
    c->ends_row[y & 1] = y;
    for (size_t x = 0; x < n; x += CN_LANES) {
        const vecs d = cn_stage_rays(c->stage, (float)(int)x + centres, lall((float)y + 0.5f));
        const lanes t = {s[x].t, s[x + 1].t, s[x + 2].t, s[x + 3].t};
        lstore(ends + x, d.x * t);
        lstore(ends + n + x, d.y * t);
        lstore(ends + 2 * n + x, d.z * t);
    }
    return ends;
}

static vec3 end_at(const cn_canvas *c, const float *ends, int x)
{
    return v3(ends[x], ends[c->stride + x], ends[2 * c->stride + x]);
}

/* 1 for another object, a step or a sharp crease, less for blunt creases and near colours. */
static float boundary(cn_canvas *c, int x, int y, int next_x, int next_y)
{
    const cn_sample *a = c->samples + cn_canvas_index(c, x, y);
    const cn_sample *b = c->samples + cn_canvas_index(c, next_x, next_y);
    if (a->id != b->id) return 1;
    if (a->id < 2) return 0;
    if (cn_samples_crease(a, b)) return 1;
    const vec3 from = end_at(c, ends_of(c, y), x), to = end_at(c, ends_of(c, next_y), next_x);
    if (cn_samples_step(c, a, b, vsub(to, from))) return 1;
    const float crease = clamp01((0.94f - vdot(a->normal, b->normal)) * 8);
    return most(crease, clamp01(1.2f * colour_step(a, b)));
}

static void bound_pixel(cn_canvas *c, int x, int y)
{
    const int size = c->stage->size;
    float *s = c->strength + (size_t)y * (size_t)size + (size_t)x;
    const float right = x + 1 < size ? boundary(c, x, y, x + 1, y) : 0;
    const float below = y + 1 < size ? boundary(c, x, y, x, y + 1) : 0;
    s[0] = most(s[0], most(right, below));
    if (right > 0) s[1] = most(s[1], right);
    if (below > 0) s[size] = most(s[size], below);
}

/* Whether a row of a tile, what lies below it and the next one to the right show one thing. */
static bool is_open(const cn_canvas *c, int x, int y)
{
    const uint8_t *here = c->plain + cn_canvas_index(c, x, y) / CN_TILE;
    const uint8_t *below =
        c->plain + cn_canvas_index(c, x, CN_MIN(y + 1, c->stage->size - 1)) / CN_TILE;
    return *here != CN_ROW_MIXED && *below == *here &&
           (x + CN_TILE >= c->stage->size || here[1] == *here);
}

void cn_canvas_bound_row(cn_canvas *c, int y)
{
    const int size = c->stage->size;
    float *s = c->strength + (size_t)y * (size_t)size;
    if (y == 0) memset(s, 0, (size_t)size * sizeof *s);
    if (y + 1 < size) memset(s + size, 0, (size_t)size * sizeof *s);
    for (int tile = 0; tile < size; tile += CN_TILE) {
        if (is_open(c, tile, y)) continue;
        for (int x = tile; x < CN_MIN(tile + CN_TILE, size); x++) bound_pixel(c, x, y);
    }
}

/* --- lines ------------------------------------------------------------------------------------ */

enum { MAX_RADIUS = 2 };
static const float weights[MAX_RADIUS + 1][2 * MAX_RADIUS + 1] = {
    {1}, {0.25f, 0.5f, 0.25f}, {1 / 16.0f, 4 / 16.0f, 6 / 16.0f, 4 / 16.0f, 1 / 16.0f}};

/* A row of a binomial blur over 2 r + 1 values; taps[k] has what lies k - r away. */
static void blur_row(const float *const taps[], int n, int r, float *out)
{
    memset(out, 0, (size_t)n * sizeof *out);
    for (int k = 0; k <= 2 * r; k++)
        for (int x = 0; x < n; x++) out[x] += weights[r][k] * taps[k][x];
}

/* Borders are repeated. */
static void blur_across(const cn_canvas *c, int r, bool firm, float *padded, float *out)
{
    const int size = c->stage->size;
    const float *taps[2 * MAX_RADIUS + 1];
    for (int k = 0; k <= 2 * r; k++) taps[k] = padded + k;
    for (int y = 0; y < size; y++) {
        const float *in = c->strength + (size_t)y * (size_t)size;
        for (int x = 0; x < size; x++) padded[r + x] = firm ? in[x] > 0.3f : in[x];
        for (int x = 0; x < r; x++) {
            padded[x] = padded[r];
            padded[r + size + x] = padded[r + size - 1];
        }
        blur_row(taps, size, r, out + (size_t)y * (size_t)size);
    }
}

/* In place; `kept` has room for r + 1 rows as they were. */
static void blur_down(float *values, int size, int r, float *kept)
{
    const float *taps[2 * MAX_RADIUS + 1];
    const size_t row = (size_t)size;
    for (int y = 0; y < size; y++) {
        memcpy(kept + (size_t)(y % (r + 1)) * row, values + (size_t)y * row, row * sizeof *kept);
        for (int k = -r; k <= r; k++) {
            const int at = CN_MAX(0, CN_MIN(size - 1, y + k));
            taps[k + r] = at > y ? values + (size_t)at * row : kept + (size_t)(at % (r + 1)) * row;
        }
        blur_row(taps, size, r, values + (size_t)y * row);
    }
}

/* The boundaries, blurred: [size,size]. */
static cn_status take_lines(cn_ctx *ctx, const cn_canvas *c, int r, bool firm, float **out)
{
    const size_t size = (size_t)c->stage->size;
    float *lines = cn_alloc_array(ctx, size, size * sizeof *lines);
    float *scratch = cn_alloc_array(ctx, size + 2 * MAX_RADIUS, (MAX_RADIUS + 1) * sizeof *scratch);
    const cn_status s = lines && scratch ? CN_OK : CN_ENOMEM;
    if (s == CN_OK) {
        blur_across(c, r, firm, scratch, lines);
        blur_down(lines, c->stage->size, r, scratch);
        *out = lines;
    } else {
        cn_free(lines);
    }
    cn_free(scratch);
    return s;
}

/* The mean of fine x fine values that make up pixel (x, y). */
static float block_mean(const float *values, int size, int fine, int x, int y)
{
    float sum = 0;
    for (int j = 0; j < fine; j++)
        for (int i = 0; i < fine; i++)
            sum += values[(size_t)(y * fine + j) * (size_t)size + (size_t)(x * fine + i)];
    return sum / (float)(fine * fine);
}

static uint8_t line_byte(float mean, bool firm)
{
    return (uint8_t)(clamp01((firm ? 1.5f : 2.1f) * mean) * 255 + 0.5f);
}

cn_status cn_outlines_map(cn_ctx *ctx, const cn_canvas *c, bool firm, int width, uint8_t *out)
{
    const int size = c->stage->size, fine = size / width;
    float *lines = NULL;
    CN_TRY(take_lines(ctx, c, firm ? 1 : 2, firm, &lines));
    for (int i = 0; fine == 1 && i < size * size; i++) out[i] = line_byte(lines[i], firm);
    for (int y = 0; fine > 1 && y < width; y++)
        for (int x = 0; x < width; x++)
            *out++ = line_byte(block_mean(lines, size, fine, x, y), firm);
    cn_free(lines);
    return CN_OK;
}

cn_status cn_outlines_picture(cn_ctx *ctx, const cn_canvas *c, bool firm, cn_image *out)
{
    const size_t pixels = (size_t)(out->width * out->height);
    uint8_t *map = cn_alloc(ctx, pixels);
    cn_status s = map ? cn_outlines_map(ctx, c, firm, (int)out->width, map) : CN_ENOMEM;
    for (size_t i = 0; s == CN_OK && i < pixels; i++) memset(out->rgb + 3 * i, map[i], 3);
    cn_free(map);
    return s;
}

/* --- toon ------------------------------------------------------------------------------------- */

/* Flat paint in three tones. */
static vec3 toon_colour(const cn_canvas *c, const cn_sample *s)
{
    const cn_stage *st = c->stage;
    if (s->id == 0) return st->sky.middle;
    const float sun = most(0, vdot(s->normal, st->sun.direction)) * s->lit;
    const float tone = s->id == 1 ? (s->lit > 0.5f ? 0.95f : 0.55f)
                                  : (sun > 0.62f   ? 1.0f
                                     : sun > 0.25f ? 0.78f
                                                   : 0.52f);
    return vscale(s->id == 1 ? st->ground : s->look.colour, tone);
}

cn_status cn_toon_picture(cn_ctx *ctx, const cn_canvas *c, cn_image *out)
{
    const int size = c->stage->size, fine = size / (int)out->width;
    float *lines = NULL;
    CN_TRY(take_lines(ctx, c, 1, true, &lines));
    uint8_t *rgb = out->rgb;
    for (int y = 0; y < (int)out->height; y++)
        for (int x = 0; x < (int)out->width; x++, rgb += 3) {
            vec3 sum = {0, 0, 0};
            for (int i = 0; i < fine * fine; i++)
                sum = vadd(sum, toon_colour(c, c->samples + cn_canvas_index(c, x * fine + i % fine,
                                                                            y * fine + i / fine)));
            const float ink = clamp01(1.5f * block_mean(lines, size, fine, x, y));
            const vec3 v = vscale(sum, (1 - 0.94f * ink) / (float)(fine * fine));
            rgb[0] = (uint8_t)(sqrtf(clamp01(v.x)) * 255 + 0.5f);
            rgb[1] = (uint8_t)(sqrtf(clamp01(v.y)) * 255 + 0.5f);
            rgb[2] = (uint8_t)(sqrtf(clamp01(v.z)) * 255 + 0.5f);
        }
    cn_free(lines);
    return CN_OK;
}
