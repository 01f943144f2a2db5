/* SPDX-License-Identifier: Apache-2.0 */
/* coco_mask.c - see coco_mask.h.
 *
 * The COCO API draws a polygon's outline five times enlarged, walks along it in whole steps, and
 * wherever x passes the middle of a pixel column notes the row there; these places, in order down
 * the columns, switch the mask on and off (maskApi.c, rleFrPoly). Of that walk only the steps
 * across a column's middle matter, so they are computed directly, by the API's own arithmetic: the
 * cost is the columns that an edge crosses.
 */
#include "data/coco_mask.h"

#include "image/image.h"

#include <math.h>
#include <string.h>

enum { SCALE = 5, MAX_COORDINATE = 100000000 };

/* --- polygons --------------------------------------------------------------------------------- */

typedef struct outline {
    int64_t width, height;
    uint8_t *flips;  /* [width * height + 1] switches of the polygon at hand; 0 between polygons */
    uint8_t *inside; /* [width * height] the union so far */
    size_t first, last; /* of flips that may be set */
    size_t low, high;   /* of inside that may be set */
} outline;

static void flip(outline *o, int64_t column, int64_t least_y)
{
    const double row = ((double)least_y + 0.5) / SCALE - 0.5;
    const int64_t y = (int64_t)ceil(fmax(0, fmin((double)o->height, row)));
    const size_t at = (size_t)(column * o->height + y);
    o->flips[at] ^= 1;
    o->first = CN_MIN(o->first, at);
    o->last = CN_MAX(o->last, at);
}

/* A point of the enlarged outline: at step t along an edge, the coordinate that isn't the step. */
static int64_t along(int64_t start, double slope, int64_t t)
{
    return (int64_t)((double)start + slope * (double)t + 0.5);
}

/* An edge that goes at least as far in x as in y: one sample for each x. */
static void flat_edge(outline *o, int64_t xs, int64_t ys, int64_t xe, int64_t ye, int64_t from,
                      int64_t to)
{
    const double slope = (double)(ye - ys) / (double)(xe - xs);
    for (int64_t c = from; c <= to; c++) {
        const int64_t t = SCALE * c + 2 - xs;
        if (t < 0 || t + 1 > xe - xs) continue;
        flip(o, c, CN_MIN(along(ys, slope, t), along(ys, slope, t + 1)));
    }
}

/* One sample for each y: the step at which x passes is searched, x being monotone. */
static void steep_edge(outline *o, int64_t xs, int64_t ys, int64_t xe, int64_t ye, int64_t from,
                       int64_t to)
{
    const double slope = (double)(xe - xs) / (double)(ye - ys);
    const bool rises = xe > xs;
    for (int64_t c = from; c <= to; c++) {
        const int64_t left = SCALE * c + 2;
        int64_t low = 0, high = ye - ys; /* low: before the passage, high: behind it */
        if ((along(xs, slope, low) > left) == rises || (along(xs, slope, high) > left) != rises)
            continue;
        while (high - low > 1) {
            const int64_t middle = low + (high - low) / 2;
            if ((along(xs, slope, middle) > left) == rises)
                high = middle;
            else
                low = middle;
        }
        flip(o, c, ys + low);
    }
}

static void edge(outline *o, int64_t xs, int64_t ys, int64_t xe, int64_t ye)
{
    const int64_t dx = llabs(xe - xs), dy = llabs(ye - ys);
    const int64_t least = CN_MIN(xs, xe), most = CN_MAX(xs, xe);
    const int64_t from = CN_MAX(0, (least - 2) / SCALE), to = CN_MIN(o->width - 1, most / SCALE);
    if (dx == 0) return;
    if (dx >= dy) {
        if (xs < xe)
            flat_edge(o, xs, ys, xe, ye, from, to);
        else
            flat_edge(o, xe, ye, xs, ys, from, to);
    } else if (ys < ye) {
        steep_edge(o, xs, ys, xe, ye, from, to);
    } else {
        steep_edge(o, xe, ye, xs, ys, from, to);
    }
}

/* The polygon's own mask from its switches, joined to the union; leaves flips 0. */
static void fill(outline *o)
{
    const size_t pixels = (size_t)(o->width * o->height);
    uint8_t in = 0;
    if (o->first > o->last) return;
    for (size_t i = o->first; i <= o->last; i++) {
        in ^= o->flips[i];
        o->flips[i] = 0;
        if (i < pixels) o->inside[i] |= in;
    }
    o->low = CN_MIN(o->low, o->first);
    o->high = CN_MAX(o->high, o->last);
    o->first = SIZE_MAX;
    o->last = 0;
}

static cn_status coordinate(cn_ctx *ctx, const json_t *polygon, size_t i, int64_t *out)
{
    const json_t *v = json_array_get(polygon, i);
    const double x = json_number_value(v);
    if (!json_is_number(v) || !(fabs(x) <= MAX_COORDINATE))
        return cn_fail(ctx, CN_EFORMAT, "coordinate %zu of a polygon isn't a number within %d", i,
                       MAX_COORDINATE);
    *out = (int64_t)(SCALE * x + 0.5);
    return CN_OK;
}

static cn_status add_polygon(cn_ctx *ctx, outline *o, const json_t *polygon)
{
    int64_t x0 = 0, y0 = 0, xs, ys, xe = 0, ye = 0;
    const size_t n = json_array_size(polygon);
    CN_TRY(coordinate(ctx, polygon, 0, &x0));
    CN_TRY(coordinate(ctx, polygon, 1, &y0));
    xs = x0;
    ys = y0;
    for (size_t i = 2; i < n; i += 2, xs = xe, ys = ye) {
        CN_TRY(coordinate(ctx, polygon, i, &xe));
        CN_TRY(coordinate(ctx, polygon, i + 1, &ye));
        edge(o, xs, ys, xe, ye);
    }
    edge(o, xs, ys, x0, y0);
    fill(o);
    return CN_OK;
}

/* --- runs ------------------------------------------------------------------------------------- */

static cn_status runs_create(cn_ctx *ctx, size_t n, int64_t width, int64_t height, cn_coco_mask *m)
{
    *m = (cn_coco_mask){.width = width, .height = height};
    m->runs = cn_alloc_array(ctx, n, sizeof *m->runs);
    return m->runs ? CN_OK : CN_ENOMEM;
}

static cn_status runs_from_bytes(cn_ctx *ctx, const outline *o, cn_coco_mask *m)
{
    const size_t pixels = (size_t)(o->width * o->height);
    const size_t end = CN_MIN(o->high + 1, pixels);
    size_t n = 2, k = 0;
    for (size_t i = o->low; i < end; i++) n += o->inside[i] != (i ? o->inside[i - 1] : 0);
    CN_TRY(runs_create(ctx, n, o->width, o->height, m));
    size_t begin = 0;
    uint8_t in = 0;
    for (size_t i = o->low; i < end; i++) {
        if (o->inside[i] == in) continue;
        m->runs[k++] = (uint32_t)(i - begin);
        if (in) m->area += (int64_t)(i - begin);
        begin = i;
        in = !in;
    }
    if (in) { /* up to `end`, behind which nothing is inside */
        m->runs[k++] = (uint32_t)(end - begin);
        m->area += (int64_t)(end - begin);
        begin = end;
    }
    m->runs[k++] = (uint32_t)(pixels - begin);
    m->n = k;
    return CN_OK;
}

static cn_status polygon_mask(cn_ctx *ctx, const json_t *list, int64_t width, int64_t height,
                              cn_coco_mask *out)
{
    size_t i;
    const json_t *p;
    const size_t pixels = (size_t)(width * height);
    outline o = {.width = width, .height = height, .first = SIZE_MAX, .low = SIZE_MAX};
    o.flips = cn_alloc0(ctx, pixels + 1);
    o.inside = cn_alloc0(ctx, pixels);
    cn_status s = o.flips && o.inside ? CN_OK : CN_ENOMEM;
    json_array_foreach(list, i, p)
    {
        const size_t n = json_array_size(p);
        if (s != CN_OK) break;
        if (!json_is_array(p) || n % 2)
            s = cn_fail(ctx, CN_EFORMAT,
                        "polygon %zu has %zu numbers; pairs of x and y are expected", i, n);
        else if (n)
            s = add_polygon(ctx, &o, p);
    }
    if (s == CN_OK) s = runs_from_bytes(ctx, &o, out);
    cn_free(o.flips);
    cn_free(o.inside);
    return s;
}

/* --- stored runs ------------------------------------------------------------------------------ */

static cn_status add_run(cn_ctx *ctx, cn_coco_mask *m, int64_t run, int64_t *left)
{
    if (run < 0 || run > *left)
        return cn_fail(ctx, CN_EFORMAT, "run %zu of a mask is %lld px, %lld are left", m->n,
                       (long long)run, (long long)*left);
    *left -= run;
    if (m->n % 2) m->area += run;
    m->runs[m->n++] = (uint32_t)run;
    return CN_OK;
}

static cn_status list_runs(cn_ctx *ctx, const json_t *counts, cn_coco_mask *m, int64_t *left)
{
    size_t i;
    const json_t *v;
    json_array_foreach(counts, i, v)
    {
        if (!json_is_integer(v))
            return cn_fail(ctx, CN_EFORMAT, "run %zu of a mask isn't a whole number", i);
        CN_TRY(add_run(ctx, m, json_integer_value(v), left));
    }
    return CN_OK;
}

/* Six bits a character, five of them of the number, low ones first; from the fourth run on what is
 * stored is the difference to the run two before (maskApi.c, rleFrString). */
static cn_status packed_runs(cn_ctx *ctx, const char *text, size_t n, cn_coco_mask *m,
                             int64_t *left)
{
    for (size_t i = 0; i < n;) {
        int64_t run = 0;
        int c, shift = 0;
        do {
            c = i < n ? text[i++] - '0' : -1;
            if (c < 0 || c > 63 || shift > 30)
                return cn_fail(ctx, CN_EFORMAT, "a damaged run-length string at character %zu", i);
            run |= (int64_t)(c & 31) << shift;
            shift += 5;
        } while (c & 32);
        if (c & 16) run -= INT64_C(1) << shift;
        if (m->n > 2) run += m->runs[m->n - 2];
        CN_TRY(add_run(ctx, m, run, left));
    }
    return CN_OK;
}

static cn_status stored_mask(cn_ctx *ctx, const json_t *rle, int64_t width, int64_t height,
                             cn_coco_mask *out)
{
    const json_t *size = json_object_get(rle, "size"), *counts = json_object_get(rle, "counts");
    const int64_t h = json_integer_value(json_array_get(size, 0));
    const int64_t w = json_integer_value(json_array_get(size, 1));
    int64_t left = width * height;
    if (w != width || h != height)
        return cn_fail(ctx, CN_EFORMAT, "a mask of %lld x %lld for a picture of %lld x %lld",
                       (long long)w, (long long)h, (long long)width, (long long)height);
    if (!json_is_array(counts) && !json_is_string(counts))
        return cn_fail(ctx, CN_EFORMAT, "a mask's \"counts\" must be a list or a string");
    const size_t n = json_is_array(counts) ? json_array_size(counts) : json_string_length(counts);
    CN_TRY(runs_create(ctx, CN_MAX(n, 1), width, height, out));
    cn_status s = json_is_array(counts)
                      ? list_runs(ctx, counts, out, &left)
                      : packed_runs(ctx, json_string_value(counts), n, out, &left);
    if (s == CN_OK && left)
        s = cn_fail(ctx, CN_EFORMAT, "a mask's runs end %lld px before the picture does",
                    (long long)left);
    return s;
}

cn_status cn_coco_mask_parse(cn_ctx *ctx, const json_t *segmentation, int64_t width, int64_t height,
                             cn_coco_mask *out)
{
    cn_coco_mask mask = {0};
    CN_TRY(cn_image_check_size(ctx, width, height));
    cn_status s = json_is_array(segmentation)
                      ? polygon_mask(ctx, segmentation, width, height, &mask)
                  : json_is_object(segmentation)
                      ? stored_mask(ctx, segmentation, width, height, &mask)
                      : cn_fail(ctx, CN_EFORMAT,
                                "\"segmentation\" must be a list of polygons or run lengths");
    if (s != CN_OK) {
        cn_coco_mask_free(&mask);
        return s;
    }
    *out = mask;
    return CN_OK;
}

void cn_coco_mask_free(cn_coco_mask *mask)
{
    cn_free(mask->runs);
    *mask = (cn_coco_mask){0};
}

void cn_coco_mask_paint(const cn_coco_mask *mask, int32_t value, int32_t *columns)
{
    for (size_t i = 0; i < mask->n; i++) {
        const uint32_t run = mask->runs[i];
        for (uint32_t k = 0; i % 2 && k < run; k++) columns[k] = value;
        columns += run;
    }
}
