/* SPDX-License-Identifier: Apache-2.0 */
/* raster.c - see raster.h. Wide lines are quads with corners between pixels, so polygons are kept
 * in 16.16 fixed point; outlines are drawn beside the spans inside, as OpenCV does, which makes
 * corners a little fuller. */
#include "image/raster.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SHIFT = 16, ONE = 1 << SHIFT, HALF = ONE / 2 };

static void put(cn_image *image, int64_t x, int64_t y, const uint8_t rgb[3])
{
    if (x >= 0 && y >= 0 && x < image->width && y < image->height)
        memcpy(image->rgb + 3 * (y * image->width + x), rgb, 3);
}

/* Pixels x0..x1 of row y. */
static void span(cn_image *image, int64_t x0, int64_t x1, int64_t y, const uint8_t rgb[3])
{
    if (y < 0 || y >= image->height) return;
    x1 = CN_MIN(x1, image->width - 1);
    for (int64_t x = CN_MAX(x0, 0); x <= x1; x++) put(image, x, y, rgb);
}

static int64_t reachable(int64_t v)
{
    return CN_MAX(-CN_DRAW_REACH, CN_MIN(v, CN_DRAW_REACH));
}

static cn_point reachable_point(cn_point p)
{
    return (cn_point){reachable(p.x), reachable(p.y)};
}

/* --- clipping --------------------------------------------------------------------------------- */

enum { LEFT = 1, RIGHT = 2, ABOVE = 4, BELOW = 8 };

static int outside(cn_point p, cn_point last)
{
    return (p.x < 0        ? LEFT
            : p.x > last.x ? RIGHT
                           : 0) |
           (p.y < 0        ? ABOVE
            : p.y > last.y ? BELOW
                           : 0);
}

/* p moved along the line through p and q to height y; to column x. */
static cn_point at_height(cn_point p, cn_point q, int64_t y)
{
    return (cn_point){
        p.x + (int64_t)((double)(y - p.y) * (double)(q.x - p.x) / (double)(q.y - p.y)), y};
}

static cn_point at_column(cn_point p, cn_point q, int64_t x)
{
    return (cn_point){
        x, p.y + (int64_t)((double)(x - p.x) * (double)(q.y - p.y) / (double)(q.x - p.x))};
}

/* Cuts a-b to the rectangle from 0,0 to `last`; false when nothing is left. The second end is moved
 * along the line from the first one's new place, which is what decides roundings. */
static bool clip(cn_point last, cn_point *a, cn_point *b)
{
    cn_point *ends[2] = {a, b};
    int out[2] = {outside(*a, last), outside(*b, last)};
    if (out[0] & out[1]) return false;
    for (int i = 0; i < 2; i++) {
        if (!(out[i] & (ABOVE | BELOW))) continue;
        *ends[i] = at_height(*ends[i], *ends[1 - i], out[i] & ABOVE ? 0 : last.y);
        out[i] = outside(*ends[i], last) & (LEFT | RIGHT);
    }
    if (out[0] & out[1]) return false;
    for (int i = 0; i < 2; i++)
        if (out[i]) *ends[i] = at_column(*ends[i], *ends[1 - i], out[i] & LEFT ? 0 : last.x);
    return true;
}

/* --- lines ------------------------------------------------------------------------------------ */

/* Bresenham's steps with x increasing. */
void cn_draw_line(cn_image *image, cn_point a, cn_point b, const uint8_t rgb[3])
{
    a = reachable_point(a), b = reachable_point(b);
    if (!clip((cn_point){image->width - 1, image->height - 1}, &a, &b)) return;
    if (b.x < a.x) {
        cn_point t = a;
        a = b, b = t;
    }
    const int64_t dx = b.x - a.x, dy = llabs(b.y - a.y), down = b.y < a.y ? -1 : 1;
    const bool flat = dx >= dy;
    const int64_t major = flat ? dx : dy, minor = flat ? dy : dx;
    int64_t error = major - 2 * minor;
    for (int64_t i = 0; i <= major; i++) {
        put(image, a.x, a.y, rgb);
        const bool turn = error < 0;
        error += (turn ? 2 * major : 0) - 2 * minor;
        if (flat || turn) a.x++;
        if (!flat || turn) a.y += down;
    }
}

/* Between ends in fixed point: whole steps along the longer direction from the smaller end, and the
 * larger end's pixel by itself. */
static void fixed_line(cn_image *image, cn_point a, cn_point b, const uint8_t rgb[3])
{
    if (!clip((cn_point){(image->width << SHIFT) - 1, (image->height << SHIFT) - 1}, &a, &b))
        return;
    const bool flat = llabs(b.x - a.x) > llabs(b.y - a.y);
    if (flat ? b.x < a.x : b.y < a.y) {
        cn_point t = a;
        a = b, b = t;
    }
    const int64_t length = flat ? b.x - a.x : b.y - a.y, across = flat ? b.y - a.y : b.x - a.x;
    const int64_t step = across * ONE / (length | 1);
    put(image, (b.x + HALF) >> SHIFT, (b.y + HALF) >> SHIFT, rgb);
    for (int64_t i = 0; i <= length >> SHIFT; i++) {
        const int64_t x = a.x + HALF + i * (flat ? ONE : step);
        const int64_t y = a.y + HALF + i * (flat ? step : ONE);
        put(image, x >> SHIFT, y >> SHIFT, rgb);
    }
}

/* --- filled shapes ---------------------------------------------------------------------------- */

void cn_draw_disk(cn_image *image, cn_point centre, int64_t radius, const uint8_t rgb[3])
{
    centre = reachable_point(centre);
    radius = reachable(radius);
    int64_t error = 0, grow = 1, shrink = 2 * radius - 1;
    for (int64_t far = radius, near = 0; far >= near; near++) {
        for (int side = -1; side <= 1; side += 2) {
            span(image, centre.x - far, centre.x + far, centre.y + side * near, rgb);
            span(image, centre.x - near, centre.x + near, centre.y + side * far, rgb);
        }
        error += grow;
        grow += 2;
        if (error > 0) {
            error -= shrink;
            shrink -= 2;
            far--;
        }
    }
}

/* One of a polygon's two chains from its topmost corner down: the edge at the current row. */
typedef struct chain {
    int corner, direction; /* the next corner is corner + direction, around the polygon */
    int64_t end;           /* row at which the edge ends */
    int64_t x, slope;      /* fixed point */
} chain;

static int64_t row_of(int64_t y)
{
    return (y + HALF) >> SHIFT;
}

/* Takes the next edge that goes below row y; false when the corners are used up. */
static bool next_edge(const cn_point *v, int n, int64_t y, chain *c, int *left)
{
    int from = c->corner;
    while ((*left)-- > 0) {
        const int to = (from + c->direction + n) % n;
        const int64_t height = row_of(v[to].y) - y;
        if (height > 0) {
            *c = (chain){.corner = to,
                         .direction = c->direction,
                         .end = y + height,
                         .x = v[from].x,
                         .slope = (2 * (v[to].x - v[from].x) + height) / (2 * height)};
            return true;
        }
        from = to;
    }
    return false;
}

/* The rows of a convex polygon in fixed point, without its outline. */
static void fill_rows(cn_image *image, const cn_point *v, int n, const uint8_t rgb[3])
{
    int top = 0, left = n;
    int64_t bottom = v[0].y;
    for (int i = 1; i < n; i++) {
        if (v[i].y < v[top].y) top = i;
        bottom = CN_MAX(bottom, v[i].y);
    }
    if (n < 3) return;
    const int64_t first = row_of(v[top].y), last = CN_MIN(row_of(bottom), image->height - 1);
    chain sides[2] = {{.corner = top, .direction = 1, .end = first, .x = -ONE},
                      {.corner = top, .direction = -1, .end = first, .x = -ONE}};
    for (int64_t y = first; y <= last; y++) {
        for (int i = 0; i < 2; i++)
            if (y >= sides[i].end && !next_edge(v, n, y, &sides[i], &left)) return;
        const int64_t a = row_of(sides[0].x), b = row_of(sides[1].x);
        span(image, CN_MIN(a, b), CN_MAX(a, b), y, rgb);
        for (int i = 0; i < 2; i++) sides[i].x += sides[i].slope;
    }
}

void cn_draw_convex(cn_image *image, const cn_point *corners, int n, const uint8_t rgb[3])
{
    cn_point v[CN_ELLIPSE_POINTS];
    n = CN_MIN(n, CN_ELLIPSE_POINTS);
    for (int i = 0; i < n; i++) {
        const cn_point p = reachable_point(corners[i]);
        v[i] = (cn_point){p.x * ONE, p.y * ONE};
        cn_draw_line(image, corners[i ? i - 1 : n - 1], p, rgb);
    }
    fill_rows(image, v, n, rgb);
}

void cn_draw_wide_line(cn_image *image, cn_point a, cn_point b, int width, const uint8_t rgb[3])
{
    /* first cut to the picture with a border of the line's width */
    const cn_point last = {image->width + 2 * width - 1, image->height + 2 * width - 1};
    a = reachable_point(a), b = reachable_point(b);
    a = (cn_point){a.x + width, a.y + width}, b = (cn_point){b.x + width, b.y + width};
    if (!clip(last, &a, &b)) return;
    a = (cn_point){a.x - width, a.y - width}, b = (cn_point){b.x - width, b.y - width};
    const double dx = (double)(a.x - b.x), dy = (double)(b.y - a.y);
    const double length = sqrt(dx * dx + dy * dy);
    if (length > 0) {
        const double half = (width + width % 2) * (double)HALF / length;
        const int64_t x = llrint(dy * half), y = llrint(dx * half);
        const cn_point quad[4] = {{a.x * ONE + x, a.y * ONE + y},
                                  {a.x * ONE - x, a.y * ONE - y},
                                  {b.x * ONE - x, b.y * ONE - y},
                                  {b.x * ONE + x, b.y * ONE + y}};
        for (int i = 0; i < 4; i++) fixed_line(image, quad[(i + 3) % 4], quad[i], rgb);
        fill_rows(image, quad, 4, rgb);
    }
    const int64_t radius = ((int64_t)width * HALF + HALF) >> SHIFT;
    cn_draw_disk(image, a, radius, rgb);
    cn_draw_disk(image, b, radius, rgb);
}

/* Sine of whole degrees as OpenCV tabulates it: seven decimals, in float. */
static double sine(int degrees)
{
    const int d = ((degrees % 360) + 360) % 360;
    return (double)(float)(rint(sin(d * M_PI / 180) * 1e7) / 1e7);
}

int cn_ellipse_polygon(cn_point centre, int64_t a, int64_t b, int degrees,
                       cn_point corners[CN_ELLIPSE_POINTS])
{
    const double cosine = sine(degrees + 90), turn = sine(degrees);
    int n = 0;
    for (int i = 0; i < CN_ELLIPSE_POINTS; i++) {
        const double x = (double)a * sine(i + 90), y = (double)b * sine(i);
        const cn_point p = {llrint((double)centre.x + x * cosine - y * turn),
                            llrint((double)centre.y + x * turn + y * cosine)};
        if (n == 0 || p.x != corners[n - 1].x || p.y != corners[n - 1].y) corners[n++] = p;
    }
    return n;
}
