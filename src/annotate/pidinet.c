/* SPDX-License-Identifier: Apache-2.0 */
/* pidinet.c - see pidinet.h. The pixel difference convolutions (central, angular, radial) look at
 * differences of neighbours; as sums of taps they are plain convolutions, and become that when the
 * weights are loaded. */
#include "annotate/pidinet.h"

#include "annotate/kinds.h"
#include "annotate/strokes.h"
#include "model/checkpoint/derived.h"

#include <string.h>

enum { STAGES = 4, SIDE = 24, TAPS = 9 };

/* --- differences as plain kernels ------------------------------------------------------------- */

static cn_status read_taps(cn_ctx *ctx, const cn_source *s, const cn_param *q, int64_t filters,
                           float *out)
{
    return cn_derived_read(ctx, s, q->diffusers_name, filters * TAPS, out);
}

/* Each neighbour less the centre. */
static cn_status central(cn_ctx *ctx, const cn_source *s, const cn_param *q, float *out)
{
    const int64_t filters = cn_param_elements(q) / TAPS;
    CN_TRY(read_taps(ctx, s, q, filters, out));
    for (float *w = out; w < out + filters * TAPS; w += TAPS) {
        float sum = 0;
        for (int k = 0; k < TAPS; k++) sum += w[k];
        w[TAPS / 2] -= sum;
    }
    return CN_OK;
}

/* Each neighbour less the next one around. */
static cn_status angular(cn_ctx *ctx, const cn_source *s, const cn_param *q, float *out)
{
    static const int next[TAPS] = {3, 0, 1, 6, 4, 2, 7, 8, 5};
    const int64_t filters = cn_param_elements(q) / TAPS;
    CN_TRY(read_taps(ctx, s, q, filters, out));
    for (float *w = out; w < out + filters * TAPS; w += TAPS) {
        float own[TAPS];
        memcpy(own, w, sizeof own);
        for (int k = 0; k < TAPS; k++) w[k] = own[k] - own[next[k]];
    }
    return CN_OK;
}

/* Each outer pixel of 5x5 in the eight directions less the inner one; the file has 3x3 taps. */
static cn_status radial(cn_ctx *ctx, const cn_source *s, const cn_param *q, float *out)
{
    enum { WIDE = 25 };
    static const int outer[TAPS - 1] = {0, 2, 4, 10, 14, 20, 22, 24},
                                  inner[TAPS - 1] = {6, 7, 8, 11, 13, 16, 17, 18};
    const int64_t filters = cn_param_elements(q) / WIDE;
    float *taps = cn_alloc_array(ctx, (size_t)filters, TAPS * sizeof *taps);
    cn_status status = taps ? read_taps(ctx, s, q, filters, taps) : CN_ENOMEM;
    memset(out, 0, (size_t)(filters * WIDE) * sizeof *out);
    for (int64_t f = 0; status == CN_OK && f < filters; f++)
        for (int k = 0; k < TAPS - 1; k++) {
            out[f * WIDE + outer[k]] = taps[f * TAPS + k + 1];
            out[f * WIDE + inner[k]] = -taps[f * TAPS + k + 1];
        }
    cn_free(taps);
    return status;
}

/* Layer i of the sixteen; the kind of difference cycles. No bias. */
static cn_node *difference(cn_graph *g, const char *name, cn_node *x, int64_t O, int64_t groups,
                           int layer)
{
    static const cn_derive_rule rules[4] = {central, angular, radial, NULL};
    const cn_derive_rule rule = rules[layer % 4];
    const int k = rule == radial ? 5 : 3, p = k / 2;
    cn_node *y = cn_convolution(g, name, x,
                                &(cn_conv_spec){.O = O,
                                                .kernel_h = k,
                                                .kernel_w = k,
                                                .groups = (int)groups,
                                                .pad = {p, p, p, p},
                                                .no_bias = true});
    if (rule && !cn_poisoned(g)) cn_derived_set(g, y->in[1], rule, NULL, 0);
    return y;
}

/* --- the network ------------------------------------------------------------------------------ */

static cn_node *pointwise(cn_graph *g, const char *name, cn_node *x, int64_t O, bool bias)
{
    return cn_convolution(g, name, x,
                          &(cn_conv_spec){.O = O, .kernel_h = 1, .kernel_w = 1, .no_bias = !bias});
}

static cn_node *block(cn_graph *g, const char *name, cn_node *x, int64_t O, bool first, int layer)
{
    cn_scope_push(g, name);
    if (first) x = cn_max_pool(g, x, 2, 2, (int[4]){0});
    const int64_t C = cn_channels(x);
    cn_node *y = cn_activation(g, difference(g, "conv1", x, C, C, layer), CN_ACT_RELU);
    y = pointwise(g, "conv2", y, O, false);
    y = cn_add(g, y, first ? pointwise(g, "shortcut", x, O, true) : x);
    cn_scope_pop(g);
    return y;
}

/* What a stage sees at four distances. */
static cn_node *dilated(cn_graph *g, int i, cn_node *x)
{
    char name[32];
    cn_node *sum = NULL;
    snprintf(name, sizeof name, "dilations.%d", i);
    cn_scope_push(g, name);
    x = pointwise(g, "conv1", cn_activation(g, x, CN_ACT_RELU), SIDE, true);
    for (int k = 1; k <= 4; k++) {
        const int d = 3 + 2 * k;
        snprintf(name, sizeof name, "conv2_%d", k);
        cn_node *y = cn_convolution(g, name, x,
                                    &(cn_conv_spec){.O = SIDE,
                                                    .kernel_h = 3,
                                                    .kernel_w = 3,
                                                    .dilation = d,
                                                    .pad = {d, d, d, d},
                                                    .no_bias = true});
        sum = sum ? cn_add(g, sum, y) : y;
    }
    cn_scope_pop(g);
    return sum;
}

static cn_node *attend(cn_graph *g, int i, cn_node *x)
{
    char name[32];
    snprintf(name, sizeof name, "attentions.%d", i);
    cn_scope_push(g, name);
    cn_node *m = pointwise(g, "conv1", cn_activation(g, x, CN_ACT_RELU), 4, true);
    m = cn_convolution(
        g, "conv2", m,
        &(cn_conv_spec){
            .O = 1, .kernel_h = 3, .kernel_w = 3, .pad = {1, 1, 1, 1}, .no_bias = true});
    cn_scope_pop(g);
    return cn_gate(g, x, cn_activation(g, m, CN_ACT_SIGMOID));
}

/* A stage's edges at the picture's size, as logits. */
static cn_node *side(cn_graph *g, int i, cn_node *x, int64_t H, int64_t W)
{
    char name[32];
    x = attend(g, i, dilated(g, i, x));
    snprintf(name, sizeof name, "conv_reduces.%d.conv", i);
    x = cn_resize_to(g, pointwise(g, name, x, 1, true), H, W, false);
    snprintf(name, sizeof name, "side%d", i + 1);
    cn_scope_push(g, name);
    cn_scope_return(g, cn_activation(g, x, CN_ACT_SIGMOID));
    return x;
}

static void build(cn_graph *g, cn_node *x, cn_node **out)
{
    static const int64_t channels[STAGES] = {60, 120, 240, 240};
    const int64_t H = x->shape[1], W = x->shape[2];
    cn_node *all = NULL;
    int layer = 0;
    x = difference(g, "init_block", x, channels[0], 1, layer++);
    for (int i = 0; i < STAGES; i++) {
        for (int k = i ? 1 : 2; k <= 4; k++) {
            char name[32];
            snprintf(name, sizeof name, "block%d_%d", i + 1, i ? k : k - 1);
            x = block(g, name, x, channels[i], i && k == 1, layer++);
        }
        cn_node *edges = side(g, i, x, H, W);
        all = all ? cn_concat(g, all, edges) : edges;
    }
    out[0] = cn_activation(g, pointwise(g, "classifier", all, 1, true), CN_ACT_SIGMOID);
}

const cn_network cn_pidinet_table5 = {
    .name = "PiDiNet",
    .file = "table5_pidinet.pth",
    .url = "https://huggingface.co/lllyasviel/Annotators",
    .signs = {{"init_block.weight", 60}, {"block4_4.conv2.weight", 240}},
    .channels = 3,
    .build = build};
const cn_feed cn_pidinet_feed = {.bgr = true, .scale = 1 / 255.0f};

cn_status cn_pidinet(cn_session *s, const cn_image *in, bool safe, bool filter, cn_image **out)
{
    cn_network_values v;
    CN_TRY(cn_session_run_image(s, in, &cn_pidinet_feed, &v));
    CN_TRY(cn_image_create(cn_session_ctx(s), in->width, in->height, out));
    for (int64_t i = 0; i < in->width * in->height; i++) {
        float p = v.data[0][i];
        if (filter) p = p > 0.5f;
        cn_put_gray((*out)->rgb + 3 * i, 255.0f * (safe ? cn_safe_step(p) : p));
    }
    return CN_OK;
}

/* --- the kind --------------------------------------------------------------------------------- */

static const cn_kind_option options[] = {
    {"safe", "three levels of strength only, so that nothing else of the picture shows through",
     CN_OPTION_BOOL, 0, 1, 0},
    {"filter", "edges of a strength of a half or less are dropped, others white", CN_OPTION_BOOL, 0,
     1, 0},
};

static cn_status run(cn_session *s, const cn_image *in, cn_image **out)
{
    const double *v = cn_session_args(s)->values;
    return cn_pidinet(s, in, v[0] != 0, v[1] != 0, out);
}

const cn_kind cn_kind_pidinet = {.name = "pidinet",
                                 .title = "soft edges (PiDiNet), white on black",
                                 .aliases = {{"softedge", "pidinet"},
                                             {"pidi", "pidinet"},
                                             {"pidinet_safe", "pidinet safe=1"},
                                             {"pidinet_sketch", "pidinet filter=1"},
                                             {"softedge_pidi", "pidinet"},
                                             {"softedge_pidinet", "pidinet"},
                                             {"softedge_pidisafe", "pidinet safe=1"},
                                             {"softedge_pidi_safe", "pidinet safe=1"}},
                                 CN_KIND_OPTIONS(options),
                                 .run = run,
                                 .networks = {{&cn_pidinet_table5, 0}},
                                 .least = 8,
                                 .map_filter = CN_FILTER_LINEAR,
                                 .measure = CN_MEASURE_EDGES,
                                 .mirror = CN_MIRROR_PLAIN};
