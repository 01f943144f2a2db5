/* SPDX-License-Identifier: Apache-2.0 */
/* mlsd.c - see mlsd.h. Both sizes share the backbone (MobileNetV2) and the blocks that bring its
 * levels together. */
#include "annotate/mlsd.h"

#include "annotate/kinds.h"
#include "image/raster.h"
#include "model/checkpoint/derived.h"

#include <math.h>
#include <stdlib.h>

#define NORM_EPS 1e-5f

/* --- the network ------------------------------------------------------------------------------ */

/* Convolution CONV, its batch norm NORM, an activation. */
static cn_node *conv_norm(cn_graph *g, const char *conv, const char *norm, cn_node *x,
                          const cn_conv_spec *spec, cn_act act)
{
    cn_node *y = cn_derive_batch_norm(g, cn_convolution(g, conv, x, spec), norm, NORM_EPS);
    return act ? cn_activation(g, y, act) : y;
}

/* 3x3; with stride 2 a row and a column of zeros at the bottom and the right alone. */
static cn_conv_spec spatial(int64_t O, int64_t groups, int stride)
{
    cn_conv_spec c = {
        .O = O, .kernel_h = 3, .kernel_w = 3, .stride = stride, .groups = (int)groups};
    for (int i = 0; i < 4; i++) c.pad[i] = stride == 1 || i >= 2;
    return c;
}

static cn_conv_spec pointwise(int64_t O)
{
    return (cn_conv_spec){.O = O, .kernel_h = 1, .kernel_w = 1};
}

/* features.N of the backbone. */
static cn_node *inverted_residual(cn_graph *g, const char *name, cn_node *x, int64_t O, int expand,
                                  int stride)
{
    const int64_t C = cn_channels(x), hidden = C * expand;
    cn_conv_spec widen = pointwise(hidden), depth = spatial(hidden, hidden, stride),
                 narrow = pointwise(O);
    cn_scope_push(g, name);
    cn_scope_push(g, "conv");
    cn_node *h = x;
    if (expand == 1) {
        h = conv_norm(g, "0.0", "0.1", h, &depth, CN_ACT_RELU6);
        h = conv_norm(g, "1", "2", h, &narrow, CN_ACT_NONE);
    } else {
        h = conv_norm(g, "0.0", "0.1", h, &widen, CN_ACT_RELU6);
        h = conv_norm(g, "1.0", "1.1", h, &depth, CN_ACT_RELU6);
        h = conv_norm(g, "2", "3", h, &narrow, CN_ACT_NONE);
    }
    cn_scope_pop(g);
    return cn_scope_return(g, stride == 1 && O == C ? cn_add(g, x, h) : h);
}

enum { LEVELS = 5 };

/* c[i]: the last result at 1/2^(i+1) of the size, with `levels` of them computed; the deepest two
 * share a size. */
static void backbone(cn_graph *g, cn_node *x, int levels, cn_node *c[LEVELS])
{
    static const struct {
        int expand, O, repeat, stride;
    } rows[LEVELS] = {{1, 16, 1, 1}, {6, 24, 2, 2}, {6, 32, 3, 2}, {6, 64, 4, 2}, {6, 96, 3, 1}};
    cn_conv_spec first = spatial(32, 1, 2);
    int n = 1;
    cn_scope_push(g, "backbone.features");
    x = conv_norm(g, "0.0", "0.1", x, &first, CN_ACT_RELU6);
    for (int i = 0; i < levels; i++) {
        for (int k = 0; k < rows[i].repeat; k++) {
            char name[16];
            snprintf(name, sizeof name, "%d", n++);
            x = inverted_residual(g, name, x, rows[i].O, rows[i].expand, k ? 1 : rows[i].stride);
        }
        c[i] = x;
    }
    cn_scope_pop(g);
}

/* Block A: a and b brought to Oa and Ob channels, b to a's size, side by side. */
static cn_node *join(cn_graph *g, const char *name, cn_node *a, cn_node *b, int64_t Oa, int64_t Ob)
{
    cn_conv_spec to_a = pointwise(Oa), to_b = pointwise(Ob);
    cn_scope_push(g, name);
    b = conv_norm(g, "conv1.0", "conv1.1", b, &to_b, CN_ACT_RELU);
    a = conv_norm(g, "conv2.0", "conv2.1", a, &to_a, CN_ACT_RELU);
    cn_scope_pop(g);
    if (cn_poisoned(g)) return a;
    return cn_concat(g, a, cn_resize_to(g, b, a->shape[1], a->shape[2], true));
}

/* Block B. */
static cn_node *refine(cn_graph *g, const char *name, cn_node *x, int64_t O)
{
    cn_conv_spec same = spatial(cn_channels(x), 1, 1), last = spatial(O, 1, 1);
    cn_scope_push(g, name);
    x = cn_add(g, x, conv_norm(g, "conv1.0", "conv1.1", x, &same, CN_ACT_RELU));
    x = conv_norm(g, "conv2.0", "conv2.1", x, &last, CN_ACT_RELU);
    cn_scope_pop(g);
    return x;
}

/* Block C: the maps. */
static cn_node *maps(cn_graph *g, const char *name, cn_node *x)
{
    const int64_t C = cn_channels(x);
    cn_conv_spec wide = {.O = C, .kernel_h = 3, .kernel_w = 3, .dilation = 5, .pad = {5, 5, 5, 5}};
    cn_conv_spec same = spatial(C, 1, 1), last = pointwise(16);
    cn_scope_push(g, name);
    x = conv_norm(g, "conv1.0", "conv1.1", x, &wide, CN_ACT_RELU);
    x = conv_norm(g, "conv2.0", "conv2.1", x, &same, CN_ACT_RELU);
    x = cn_convolution(g, "conv3", x, &last);
    cn_scope_pop(g);
    return cn_slice(g, x, 16 - CN_MLSD_MAPS, CN_MLSD_MAPS);
}

static void build_large(cn_graph *g, cn_node *x, cn_node **out)
{
    cn_node *c[LEVELS];
    backbone(g, x, 5, c);
    x = refine(g, "block16", join(g, "block15", c[3], c[4], 64, 64), 64);
    x = refine(g, "block18", join(g, "block17", c[2], x, 64, 64), 64);
    x = refine(g, "block20", join(g, "block19", c[1], x, 64, 64), 64);
    x = refine(g, "block22", join(g, "block21", c[0], x, 64, 64), 64);
    out[0] = maps(g, "block23", x);
}

static void build_tiny(cn_graph *g, cn_node *x, cn_node **out)
{
    cn_node *c[LEVELS];
    backbone(g, x, 4, c);
    x = refine(g, "block13", join(g, "block12", c[2], c[3], 64, 64), 64);
    x = refine(g, "block15", join(g, "block14", c[1], x, 32, 32), 64);
    x = maps(g, "block16", x);
    out[0] = cn_poisoned(g) ? x : cn_resize_to(g, x, 2 * x->shape[1], 2 * x->shape[2], true);
}

const cn_network cn_mlsd_large = {.name = "M-LSD (large)",
                                  .file = "mlsd_large_512_fp32.pth",
                                  .url = "https://huggingface.co/lllyasviel/Annotators",
                                  .signs = {{"block23.conv3.weight", 16}},
                                  .channels = 4,
                                  .build = build_large};
const cn_network cn_mlsd_tiny = {.name = "M-LSD (tiny)",
                                 .file = "mlsd_tiny_512_fp32.pth",
                                 .url = "https://github.com/lhwcv/mlsd_pytorch",
                                 .signs = {{"block16.conv3.weight", 16}},
                                 .channels = 4,
                                 .build = build_tiny};

/* --- lines ------------------------------------------------------------------------------------ */

typedef struct peak {
    float score;
    int64_t at;
} peak;

static int by_score(const void *a, const void *b)
{
    const peak *p = a, *q = b;
    if (p->score != q->score) return p->score > q->score ? -1 : 1;
    return (p->at > q->at) - (p->at < q->at);
}

static bool is_peak(const float *heat, int64_t h, int64_t w, int64_t y, int64_t x)
{
    for (int64_t r = CN_MAX(y - 1, 0); r <= CN_MIN(y + 1, h - 1); r++)
        for (int64_t c = CN_MAX(x - 1, 0); c <= CN_MIN(x + 1, w - 1); c++)
            if (heat[r * w + c] > heat[y * w + x]) return false;
    return true;
}

static int64_t find_peaks(const float *heat, int64_t h, int64_t w, float threshold, peak *out)
{
    int64_t n = 0;
    for (int64_t y = 0; y < h; y++)
        for (int64_t x = 0; x < w; x++)
            if (heat[y * w + x] > threshold && is_peak(heat, h, w, y, x))
                out[n++] = (peak){heat[y * w + x], y * w + x};
    qsort(out, (size_t)n, sizeof *out, by_score);
    return n;
}

static cn_line line_of(const float *cell, int64_t x, int64_t y, float score)
{
    const float cx = (float)x, cy = (float)y;
    return (cn_line){2 * (cx + cell[1]), 2 * (cy + cell[2]), 2 * (cx + cell[3]), 2 * (cy + cell[4]),
                     score};
}

cn_status cn_mlsd_decode(cn_ctx *ctx, const float *maps, int64_t h, int64_t w, int64_t channels,
                         float value_threshold, float distance_threshold,
                         cn_line lines[CN_MLSD_LINES], int *n)
{
    float *heat = cn_alloc_array(ctx, (size_t)(h * w), sizeof *heat);
    peak *peaks = cn_alloc_array(ctx, (size_t)(h * w), sizeof *peaks);
    const cn_status status = heat && peaks ? CN_OK : CN_ENOMEM;
    int64_t found = 0;
    *n = 0;
    if (status == CN_OK) {
        for (int64_t i = 0; i < h * w; i++) heat[i] = 1 / (1 + expf(-maps[i * channels]));
        found = find_peaks(heat, h, w, value_threshold, peaks);
    }
    for (int64_t i = 0; i < CN_MIN(found, CN_MLSD_LINES); i++) {
        const float *cell = maps + peaks[i].at * channels;
        const float dx = cell[1] - cell[3], dy = cell[2] - cell[4];
        if (!(sqrtf(dx * dx + dy * dy) > distance_threshold)) continue;
        lines[(*n)++] = line_of(cell, peaks[i].at % w, peaks[i].at / w, peaks[i].score);
    }
    cn_free(heat);
    cn_free(peaks);
    return status;
}

/* Toward zero, as the reference casts; beyond what a picture can hold nothing is drawn. */
static int64_t pixel(float v)
{
    return (int64_t)fminf(fmaxf(v, -1e6f), 1e6f);
}

void cn_mlsd_draw(cn_image *image, const cn_line *lines, int n)
{
    static const uint8_t white[3] = {255, 255, 255};
    for (int i = 0; i < n; i++) {
        const cn_line *l = &lines[i];
        const cn_point from = {pixel(l->x1), pixel(l->y1)}, to = {pixel(l->x2), pixel(l->y2)};
        cn_draw_line(image, from, to, white);
    }
}

/* --- the annotator ---------------------------------------------------------------------------- */

float *cn_mlsd_feed(cn_ctx *ctx, const cn_image *in)
{
    const int64_t n = in->width * in->height;
    float *x = cn_alloc_array(ctx, (size_t)n, 4 * sizeof *x);
    for (int64_t i = 0; x && i < n; i++) {
        for (int c = 0; c < 3; c++) x[4 * i + c] = (float)in->rgb[3 * i + c] * (1 / 127.5f) - 1;
        x[4 * i + 3] = 1 / 127.5f - 1;
    }
    return x;
}

static const cn_kind_option options[] = {
    {"value_threshold", "lines whose centre is less likely than this are dropped", CN_OPTION_NUMBER,
     0.01, 2, 0.1},
    {"distance_threshold", "so are lines that are shorter than this, in the network's cells",
     CN_OPTION_NUMBER, 0.01, 20, 0.1},
};

static cn_status run(cn_session *s, const cn_image *in, cn_image **out)
{
    cn_ctx *ctx = cn_session_ctx(s);
    const double *v = cn_session_args(s)->values;
    cn_network_values maps;
    cn_line lines[CN_MLSD_LINES];
    cn_image *image = NULL;
    int n = 0;
    float *x = cn_mlsd_feed(ctx, in);
    if (!x) return CN_ENOMEM;
    cn_status status = cn_session_run(s, cn_session_network(s, 0), in->height, in->width, x, &maps);
    if (status == CN_OK)
        status = cn_mlsd_decode(ctx, maps.data[0], maps.shape[0][1], maps.shape[0][2],
                                maps.shape[0][3], (float)v[0], (float)v[1], lines, &n);
    if (status == CN_OK) status = cn_image_create(ctx, in->width, in->height, &image);
    cn_free(x);
    if (status != CN_OK) return status;
    cn_mlsd_draw(image, lines, n);
    *out = image;
    return CN_OK;
}

const cn_kind cn_kind_mlsd = {.name = "mlsd",
                              .title = "straight lines (M-LSD), white on black",
                              .aliases = {{"m-lsd", "mlsd"}, {"hough", "mlsd"}},
                              CN_KIND_OPTIONS(options),
                              .run = run,
                              .networks = {{&cn_mlsd_large, 0}, {&cn_mlsd_tiny, 0}},
                              .multiple = 16,
                              .map_filter = CN_FILTER_NEAREST,
                              .measure = CN_MEASURE_EDGES,
                              .mirror = CN_MIRROR_PLAIN};
