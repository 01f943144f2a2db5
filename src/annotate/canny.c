/* SPDX-License-Identifier: Apache-2.0 */
/* canny.c - Sobel, non-maximum suppression and hysteresis with the integer arithmetic of OpenCV.
 *
 * Three passes run row by row behind each other: gradient of row y, then suppression of row y - 1
 * (which needs the norms of rows y - 2..y), each with its last rows in a ring. Suppression leaves a
 * map with a border of one pixel; the hysteresis walks it with a stack of its own, never by
 * recursion. Threads take bands of rows and compute the gradients beyond their borders once more;
 * only the hysteresis runs by itself. Source of the order of comparisons and of the fixed-point
 * tangents: OpenCV's canny.cpp.
 */
#include "annotate/canny.h"

#include "annotate/kinds.h"

#include <math.h>
#include <string.h>

enum { NOT_EDGE = 0, WEAK = 1, STRONG = 2 };
enum { TAN_22_5 = 13573 }; /* tan(22.5 degrees) * 2^15 */
enum { SIDE_MAX = 1 << 20, BAND_ROWS = 32, BANDS_MAX = 64 };

/* One band. Rows have width + 2 cells: one beyond either end. Slot y % 3 of a ring holds row y. */
typedef struct canny {
    int64_t width, height, row;
    int64_t first, end; /* the band's rows */
    int channels;
    bool l2;
    int32_t low, high;
    int16_t *plane[3][3];   /* [channel][slot]: source bytes, ends repeated */
    int16_t *smooth, *step; /* along y: a + 2b + c and c - a */
    int16_t *dx[3], *dy[3];
    int32_t *norm[3], *zeros; /* 0 beyond the ends */
    void *rows;               /* the one block that all of the above lie in */
    uint8_t *map;             /* (height + 2) x row; all bands' */
    size_t *stack, depth, capacity;
    cn_status status;
} canny;

static cn_status canny_init(cn_ctx *ctx, canny *k)
{
    size_t n = (size_t)k->row, shorts = (size_t)k->channels * 3 + 2 + 6, ints = 4;
    k->rows = cn_alloc0(ctx, n * (shorts * sizeof(int16_t) + ints * sizeof(int32_t)));
    if (!k->rows) return CN_ENOMEM;
    int32_t *wide = k->rows;
    for (int i = 0; i < 3; i++, wide += n) k->norm[i] = wide;
    k->zeros = wide;
    int16_t *narrow = (int16_t *)(wide + n);
    for (int c = 0; c < k->channels; c++)
        for (int i = 0; i < 3; i++, narrow += n) k->plane[c][i] = narrow;
    for (int i = 0; i < 3; i++, narrow += 2 * n) {
        k->dx[i] = narrow;
        k->dy[i] = narrow + n;
    }
    k->smooth = narrow;
    k->step = narrow + n;
    return CN_OK;
}

static void load_row(canny *k, const uint8_t *in, int64_t y)
{
    const uint8_t *src = in + y * k->width * k->channels;
    for (int c = 0; c < k->channels; c++) {
        int16_t *to = k->plane[c][y % 3];
        int64_t w = k->width, step = k->channels;
        for (int64_t x = 0; x < w; x++) to[x + 1] = src[x * step + c];
        to[0] = to[1];
        to[w + 1] = to[w];
    }
}

/* Keeps, for each pixel, the gradient of the channel with the largest norm, the first one on ties.
 * Masks instead of branches: this is the loop that takes the time. */
static void merge_channel(const canny *k, bool first, int16_t *restrict dx, int16_t *restrict dy,
                          int32_t *restrict norm)
{
    const int16_t *restrict s = k->smooth, *restrict d = k->step;
    const int32_t l2 = k->l2 ? -1 : 0;
    const int64_t width = k->width;
    if (first)
        for (int64_t x = 1; x <= width; x++) norm[x] = -1;
    for (int64_t x = 1; x <= width; x++) {
        int32_t gx = s[x + 1] - s[x - 1], gy = d[x - 1] + 2 * d[x] + d[x + 1];
        int32_t ax = gx < 0 ? -gx : gx, ay = gy < 0 ? -gy : gy;
        int32_t m = ((ax + ay) & ~l2) | ((gx * gx + gy * gy) & l2);
        int32_t more = m > norm[x] ? -1 : 0;
        norm[x] = (m & more) | (norm[x] & ~more);
        dx[x] = (int16_t)((gx & more) | (dx[x] & ~more));
        dy[x] = (int16_t)((gy & more) | (dy[x] & ~more));
    }
}

static void gradient_row(canny *k, int64_t y)
{
    int64_t above = CN_MAX(y - 1, 0) % 3, below = CN_MIN(y + 1, k->height - 1) % 3, at = y % 3;
    for (int c = 0; c < k->channels; c++) {
        const int16_t *a = k->plane[c][above], *b = k->plane[c][at], *e = k->plane[c][below];
        int16_t *restrict smooth = k->smooth, *restrict step = k->step;
        for (int64_t x = 0; x < k->row; x++) {
            smooth[x] = (int16_t)(a[x] + 2 * b[x] + e[x]);
            step[x] = (int16_t)(e[x] - a[x]);
        }
        merge_channel(k, c == 0, k->dx[at], k->dy[at], k->norm[at]);
    }
}

/* Is the norm at x a ridge across its gradient? The asymmetric >= and > decide plateaus. */
static inline bool is_ridge(const int32_t *above, const int32_t *here, const int32_t *below,
                            int64_t x, int32_t dx, int32_t dy)
{
    int32_t m = here[x], ax = dx < 0 ? -dx : dx, ay = (dy < 0 ? -dy : dy) << 15;
    int32_t g22 = ax * TAN_22_5, g67 = g22 + (ax << 16);
    if (ay < g22) return m > here[x - 1] && m >= here[x + 1];
    if (ay > g67) return m > above[x] && m >= below[x];
    int64_t s = (dx ^ dy) < 0 ? -1 : 1;
    return m > above[x - s] && m > below[x + s];
}

static cn_status push(cn_ctx *ctx, canny *k, size_t at)
{
    if (k->depth == k->capacity) {
        size_t more = k->capacity ? 2 * k->capacity : 4096;
        size_t *grown =
            cn_regrow(ctx, k->stack, k->capacity * sizeof *k->stack, more * sizeof *k->stack);
        if (!grown) return CN_ENOMEM;
        k->stack = grown;
        k->capacity = more;
    }
    k->stack[k->depth++] = at;
    return CN_OK;
}

static cn_status suppress_row(cn_ctx *ctx, canny *k, int64_t y)
{
    const int32_t *above = y > 0 ? k->norm[(y - 1) % 3] : k->zeros;
    const int32_t *below = y + 1 < k->height ? k->norm[(y + 1) % 3] : k->zeros;
    const int32_t *here = k->norm[y % 3];
    const int16_t *dx = k->dx[y % 3], *dy = k->dy[y % 3];
    uint8_t *map = k->map + (y + 1) * k->row;
    for (int64_t x = 1; x <= k->width; x++) {
        if (here[x] <= k->low || !is_ridge(above, here, below, x, dx[x], dy[x])) continue;
        map[x] = here[x] > k->high ? STRONG : WEAK;
        if (map[x] == STRONG) CN_TRY(push(ctx, k, (size_t)(map + x - k->map)));
    }
    return CN_OK;
}

/* Weak pixels that touch a strong one become strong, and so on. */
static cn_status hysteresis(cn_ctx *ctx, canny *k)
{
    const ptrdiff_t row = (ptrdiff_t)k->row;
    const ptrdiff_t around[8] = {-row - 1, -row, -row + 1, -1, 1, row - 1, row, row + 1};
    while (k->depth > 0) {
        size_t at = k->stack[--k->depth];
        for (int i = 0; i < 8; i++) {
            size_t next = at + (size_t)around[i];
            if (k->map[next] != WEAK) continue;
            k->map[next] = STRONG;
            CN_TRY(push(ctx, k, next));
        }
    }
    return CN_OK;
}

static int32_t threshold(double value, bool l2)
{
    if (l2) {
        value = fmin(value, 32767.0);
        if (value > 0) value *= value;
    }
    return (int32_t)floor(fmax(-2147483647.0, fmin(2147483647.0, value)));
}

static cn_status find_ridges(cn_ctx *ctx, canny *k, const uint8_t *in)
{
    const int64_t from = CN_MAX(k->first - 1, 0), to = CN_MIN(k->end, k->height - 1);
    CN_TRY(canny_init(ctx, k));
    for (int64_t y = CN_MAX(from - 1, 0); y <= from; y++) load_row(k, in, y);
    for (int64_t y = from; y <= to; y++) {
        if (y + 1 < k->height) load_row(k, in, y + 1);
        gradient_row(k, y);
        if (y > k->first) CN_TRY(suppress_row(ctx, k, y - 1));
    }
    return k->end == k->height ? suppress_row(ctx, k, k->height - 1) : CN_OK;
}

static cn_status run(cn_ctx *ctx, canny *bands, int n, const uint8_t *in, uint8_t *edges)
{
    const int64_t width = bands->width, height = bands->height, row = bands->row;
    const uint8_t *map = bands->map;
#pragma omp parallel for num_threads(n) schedule(static, 1)
    for (int i = 0; i < n; i++) bands[i].status = find_ridges(ctx, &bands[i], in);
    for (int i = 0; i < n; i++) CN_TRY(bands[i].status);
    for (int i = 0; i < n; i++) CN_TRY(hysteresis(ctx, &bands[i]));
#pragma omp parallel for num_threads(n) schedule(static)
    for (int64_t y = 0; y < height; y++)
        for (int64_t x = 0; x < width; x++)
            edges[y * width + x] = map[(y + 1) * row + x + 1] == STRONG ? 255 : 0;
    return CN_OK;
}

cn_status cn_canny_u8(cn_ctx *ctx, const uint8_t *in, int64_t width, int64_t height, int channels,
                      double low, double high, bool l2, uint8_t *edges)
{
    if (width < 1 || height < 1 || width > SIDE_MAX || height > SIDE_MAX)
        return cn_fail(ctx, CN_EINVAL, "canny: a picture of %lldx%lld, sides must be 1..%d pixels",
                       (long long)width, (long long)height, SIDE_MAX);
    if (channels != 1 && channels != 3)
        return cn_fail(ctx, CN_EINVAL, "canny: %d channels, must be 1 or 3", channels);
    if (isnan(low) || isnan(high))
        return cn_fail(ctx, CN_EINVAL, "canny: a threshold is not a number");
    const int64_t most = CN_MIN(cn_threads(ctx), BANDS_MAX);
    const int n = (int)CN_MAX(1, CN_MIN(most, height / BAND_ROWS));
    canny bands[BANDS_MAX];
    uint8_t *map = cn_alloc0(ctx, (size_t)(width + 2) * (size_t)(height + 2));
    for (int i = 0; i < n; i++)
        bands[i] = (canny){.width = width,
                           .height = height,
                           .row = width + 2,
                           .first = height * i / n,
                           .end = height * (i + 1) / n,
                           .channels = channels,
                           .l2 = l2,
                           .low = threshold(fmin(low, high), l2),
                           .high = threshold(fmax(low, high), l2),
                           .map = map};
    const cn_status s = map ? run(ctx, bands, n, in, edges) : CN_ENOMEM;
    for (int i = 0; i < n; i++) {
        cn_free(bands[i].rows);
        cn_free(bands[i].stack);
    }
    cn_free(map);
    return s;
}

cn_status cn_canny(cn_ctx *ctx, const cn_image *in, double low, double high, bool l2,
                   cn_image **out)
{
    cn_image *image = NULL;
    CN_TRY(cn_image_create(ctx, in->width, in->height, &image));
    size_t pixels = (size_t)(in->width * in->height);
    uint8_t *edges = cn_alloc(ctx, pixels);
    cn_status s = edges ? CN_OK : CN_ENOMEM;
    if (s == CN_OK) s = cn_canny_u8(ctx, in->rgb, in->width, in->height, 3, low, high, l2, edges);
    if (s == CN_OK) {
        for (size_t i = 0; i < pixels; i++) memset(image->rgb + 3 * i, edges[i], 3);
        *out = image;
    } else {
        cn_image_destroy(image);
    }
    cn_free(edges);
    return s;
}

/* --- the kind --------------------------------------------------------------------------------- */

static const cn_kind_option options[] = {
    {"low", "gradients above this go on from an edge", CN_OPTION_NUMBER, 0, 2040, 100},
    {"high", "gradients above this start an edge", CN_OPTION_NUMBER, 0, 2040, 200},
    {"l2", "Euclidean length of the gradient instead of |dx| + |dy|", CN_OPTION_BOOL, 0, 1, 0},
};

static cn_status annotate(cn_session *s, const cn_image *in, cn_image **out)
{
    const double *v = cn_session_args(s)->values;
    return cn_canny(cn_session_ctx(s), in, v[0], v[1], v[2] != 0, out);
}

/* The paper's augmentation; ControlNet publishes no ranges, the app's sliders go from 1 to 255. */
static void randomize(cn_annotate_args *args, cn_rng *rng)
{
    const int64_t a = 1 + cn_rng_below(rng, 255), b = 1 + cn_rng_below(rng, 254);
    const int64_t other = b + (b >= a);
    args->values[0] = (double)CN_MIN(a, other);
    args->values[1] = (double)CN_MAX(a, other);
}

const cn_kind cn_kind_canny = {.name = "canny",
                               .title = "Canny edges, white on black",
                               .aliases = {{"edges", "canny"}},
                               CN_KIND_OPTIONS(options),
                               .run = annotate,
                               .randomize = randomize,
                               .measure = CN_MEASURE_EDGES,
                               .mirror = CN_MIRROR_PLAIN};
