/* SPDX-License-Identifier: Apache-2.0 */
/* judge.c - which named colour the object of a picture has, robust to shading.
 *
 * Works on drawn pictures as on rendered ones, so it presumes only what the scenes promise: a level
 * horizon (a row's borders show that row's background), one object near the middle, light that is
 * nearly white. Each foreground pixel votes for a name by its hue, and where there is none, by its
 * lightness.
 */
#include "scene/scene.h"

#include <math.h>
#include <string.h>

typedef struct colour {
    float r, g, b;
} colour;

static colour pixel(const uint8_t *p)
{
    return (colour){p[0], p[1], p[2]};
}

static float distance(colour a, colour b)
{
    const float dr = a.r - b.r, dg = a.g - b.g, db = a.b - b.b;
    return sqrtf(dr * dr + dg * dg + db * db);
}

static int by_hue(float degrees)
{
    /* Where each name ends, clockwise from red; between the names' own hues under all lights. */
    static const struct {
        float end;
        int name;
    } sector[] = {{14, CN_COLOUR_RED},     {39, CN_COLOUR_ORANGE}, {69, CN_COLOUR_YELLOW},
                  {158, CN_COLOUR_GREEN},  {204, CN_COLOUR_CYAN},  {250, CN_COLOUR_BLUE},
                  {298, CN_COLOUR_PURPLE}, {349, CN_COLOUR_PINK},  {361, CN_COLOUR_RED}};
    for (size_t i = 0; i < CN_COUNT(sector); i++)
        if (degrees < sector[i].end) return sector[i].name;
    return CN_COLOUR_RED;
}

/* The name a pixel speaks for and how strongly, 0..1. */
static int name_pixel(colour c, float *strength)
{
    const float hi = fmaxf(c.r, fmaxf(c.g, c.b)), lo = fminf(c.r, fminf(c.g, c.b));
    const float chroma = hi - lo, saturation = hi > 0 ? chroma / hi : 0;
    if (hi < 52 && chroma < 26) {
        *strength = 1;
        return CN_COLOUR_BLACK;
    }
    if (saturation < 0.24f) {
        /* Grey between the two: white in its shade, or a shine on black. */
        const bool white = hi > 108;
        *strength = fminf(1, white ? (hi - 88) / 80 : (128 - hi) / 80);
        return white ? CN_COLOUR_WHITE : CN_COLOUR_BLACK;
    }
    float h = hi == c.r   ? (c.g - c.b) / chroma
              : hi == c.g ? 2 + (c.b - c.r) / chroma
                          : 4 + (c.r - c.g) / chroma;
    h = h < 0 ? 60 * h + 360 : 60 * h;
    *strength = fminf(1, chroma / 60);
    return by_hue(h);
}

/* 0 when p is the background `bg`, lit or in shadow (the same colour, less bright), up to 1 the
 * more it stands out. */
static float foreground(colour p, colour bg)
{
    const float bb = bg.r * bg.r + bg.g * bg.g + bg.b * bg.b;
    const float k = (p.r * bg.r + p.g * bg.g + p.b * bg.b) / (bb + 1);
    float d = distance(p, bg) - 20;
    if (k <= 1 && k > 0.42f) d = fminf(d, distance(p, (colour){k * bg.r, k * bg.g, k * bg.b}) - 17);
    return d <= 0 ? 0 : fminf(1, d / 30);
}

/* The mean of n pixels from p on. */
static colour mean(const uint8_t *p, int64_t n)
{
    colour c = {0, 0, 0};
    for (int64_t i = 0; i < n; i++) {
        c.r += p[3 * i];
        c.g += p[3 * i + 1];
        c.b += p[3 * i + 2];
    }
    const float inv = 1.0f / (float)n;
    return (colour){c.r * inv, c.g * inv, c.b * inv};
}

/* The pixel averaged with its eight neighbours, against noise; x is never at the border. */
static colour calm(const uint8_t *rgb, int64_t w, int64_t h, int64_t x, int64_t y)
{
    colour c = {0, 0, 0};
    const int64_t first = CN_MAX(0, y - 1), last = CN_MIN(h - 1, y + 1);
    for (int64_t k = first; k <= last; k++) {
        const colour m = mean(rgb + 3 * (k * w + x - 1), 3);
        c = (colour){c.r + m.r, c.g + m.g, c.b + m.b};
    }
    const float inv = 1.0f / (float)(last - first + 1);
    return (colour){c.r * inv, c.g * inv, c.b * inv};
}

typedef struct votes {
    float weight[CN_COLOUR_COUNT];
    float all;
    int64_t pixels;
} votes;

static void vote(votes *v, colour c, float weight)
{
    float strength;
    const int name = name_pixel(c, &strength);
    v->weight[name] += weight * strength;
    v->all += weight;
    v->pixels++;
}

static void vote_foreground(const uint8_t *rgb, int64_t w, int64_t h, votes *v)
{
    const int64_t margin = CN_MAX(1, w / 42);
    for (int64_t y = 0; y < h; y++) {
        const uint8_t *row = rgb + 3 * y * w;
        const colour left = mean(row, margin), right = mean(row + 3 * (w - margin), margin);
        for (int64_t x = margin; x < w - margin; x++) {
            const colour p = calm(rgb, w, h, x, y);
            const float out = fminf(foreground(p, left), foreground(p, right));
            if (out <= 0) continue;
            const float dx = ((float)x + 0.5f) / (float)w - 0.5f;
            const float dy = ((float)y + 0.5f) / (float)h - 0.55f;
            vote(v, p, out * expf(-5 * (dx * dx + dy * dy)));
        }
    }
}

static void vote_segment(const uint8_t *rgb, int64_t n, const uint8_t *segmentation, votes *v)
{
    int64_t count[256] = {0};
    int best = 2;
    for (int64_t i = 0; i < n; i++) count[segmentation[i]]++;
    for (int i = 3; i < 256; i++)
        if (count[i] > count[best]) best = i;
    for (int64_t i = 0; i < n; i++)
        if (segmentation[i] == best) vote(v, pixel(rgb + 3 * i), 1);
}

/* A pattern is the named colour with white or grey, each up to half of the surface: where a hue is
 * nearly as frequent as white or black, it is the name. */
static int winner(const votes *v)
{
    int best = 0;
    for (int i = 1; i < CN_COLOUR_COUNT; i++)
        if (v->weight[i] > v->weight[best]) best = i;
    if (v->weight[best] <= 0) return -1;
    if (best < CN_COLOUR_WHITE) return best;
    int hue = 0;
    for (int i = 1; i < CN_COLOUR_WHITE; i++)
        if (v->weight[i] > v->weight[hue]) hue = i;
    /* What black mirrors has a hue too. */
    const float share = best == CN_COLOUR_WHITE ? 0.5f : 0.9f;
    return v->weight[hue] > share * v->weight[best] ? hue : best;
}

int cn_scene_judge_colour(const uint8_t *rgb, int64_t width, int64_t height,
                          const uint8_t *segmentation)
{
    votes v;
    memset(&v, 0, sizeof v);
    if (width < 8 || height < 8) return -1;
    if (segmentation)
        vote_segment(rgb, width * height, segmentation, &v);
    else
        vote_foreground(rgb, width, height, &v);
    /* Less than a hundredth of the picture is no object. */
    if (v.pixels == 0 || (!segmentation && v.pixels * 100 < width * height)) return -1;
    return winner(&v);
}
