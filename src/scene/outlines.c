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
    return fabsf(sqrtf(p.x) - sqrtf(q.x)) + fabsf(sqrtf(p.y) - sqrtf(q.y)) +
           fabsf(sqrtf(p.z) - sqrtf(q.z));
}

/* 1 for another object, a step or a sharp crease, less for blunt creases and near colours. */
static float boundary(const cn_canvas *c, int x, int y, int next_x, int next_y)
{
    const int size = c->stage->size;
    if (next_x == size || next_y == size) return 0;
    const cn_sample *a = c->samples + cn_canvas_index(c, x, y);
    const cn_sample *b = c->samples + cn_canvas_index(c, next_x, next_y);
    if (cn_canvas_edge(c, x, y, next_x, next_y)) return 1;
    if (a->id < 2) return 0;
    const float crease = clamp01((0.94f - vdot(a->normal, b->normal)) * 8);
    return most(crease, clamp01(1.2f * colour_step(a, b)));
}

/* strength: [size,size], the strongest boundary at either side of each pixel. */
static void find_boundaries(const cn_canvas *c, float *strength)
{
    const int size = c->stage->size;
    for (int i = 0; i < size * size; i++) strength[i] = 0;
    for (int y = 0; y < size; y++)
        for (int x = 0; x < size; x++) {
            float *s = strength + (size_t)y * (size_t)size + (size_t)x;
            const float right = boundary(c, x, y, x + 1, y), below = boundary(c, x, y, x, y + 1);
            s[0] = most(s[0], most(right, below));
            if (right > 0) s[1] = most(s[1], right);
            if (below > 0) s[size] = most(s[size], below);
        }
}

/* One direction of a binomial blur over 2 r + 1 values, `stride` apart; borders are repeated. */
static void blur_line(float *values, int n, int stride, int r, float *line)
{
    static const float weights[3][5] = {
        {1}, {0.25f, 0.5f, 0.25f}, {1 / 16.0f, 4 / 16.0f, 6 / 16.0f, 4 / 16.0f, 1 / 16.0f}};
    for (int i = 0; i < n; i++) {
        line[i] = 0;
        for (int k = -r; k <= r; k++)
            line[i] += weights[r][k + r] *
                       values[(size_t)CN_MAX(0, CN_MIN(n - 1, i + k)) * (size_t)stride];
    }
    for (int i = 0; i < n; i++) values[(size_t)i * (size_t)stride] = line[i];
}

static void blur(float *values, int size, int r, float *line)
{
    for (int y = 0; y < size; y++) blur_line(values + (size_t)y * (size_t)size, size, 1, r, line);
    for (int x = 0; x < size; x++) blur_line(values + x, size, size, r, line);
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

static cn_status take_lines(cn_ctx *ctx, const cn_canvas *c, int r, bool firm, float **out)
{
    const int size = c->stage->size;
    float *strength =
        cn_alloc_array(ctx, (size_t)size * (size_t)size + (size_t)size, sizeof *strength);
    if (!strength) return CN_ENOMEM;
    find_boundaries(c, strength);
    for (int i = 0; firm && i < size * size; i++) strength[i] = strength[i] > 0.3f;
    blur(strength, size, r, strength + (size_t)size * (size_t)size);
    *out = strength;
    return CN_OK;
}

cn_status cn_outlines_picture(cn_ctx *ctx, const cn_canvas *c, bool firm, cn_image *out)
{
    const int size = c->stage->size, fine = size / (int)out->width;
    float *lines = NULL;
    CN_TRY(take_lines(ctx, c, firm ? 1 : 2, firm, &lines));
    uint8_t *rgb = out->rgb;
    for (int y = 0; y < (int)out->height; y++)
        for (int x = 0; x < (int)out->width; x++, rgb += 3) {
            const float v = clamp01((firm ? 1.5f : 2.1f) * block_mean(lines, size, fine, x, y));
            rgb[0] = rgb[1] = rgb[2] = (uint8_t)(v * 255 + 0.5f);
        }
    cn_free(lines);
    return CN_OK;
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
