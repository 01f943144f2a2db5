/* SPDX-License-Identifier: Apache-2.0 */
/* hed.c - see hed.h. Both networks are VGG-16's convolutions with a side output behind each of the
 * five blocks; they differ in names, in what they take and in how the sides become one. */
#include "annotate/hed.h"

#include "annotate/kinds.h"
#include "annotate/strokes.h"

#include <math.h>

enum { BLOCKS = 5 };

static const struct {
    int layers;
    int64_t channels;
} vgg[BLOCKS] = {{2, 64}, {2, 128}, {3, 256}, {3, 512}, {3, 512}};

/* --- the networks ----------------------------------------------------------------------------- */

static cn_node *half(cn_graph *g, cn_node *x)
{
    return cn_max_pool(g, x, 2, 2, (int[4]){0});
}

static cn_node *conv_relu(cn_graph *g, const char *name, cn_node *x, int64_t O)
{
    return cn_activation(g, cn_conv2d(g, name, x, O, 3, 1, 1), CN_ACT_RELU);
}

static void build_apache2(cn_graph *g, cn_node *x, cn_node **out)
{
    const int64_t H = x->shape[1], W = x->shape[2];
    char name[32];
    cn_node *norm = cn_param_node(g, "norm", 4, (int64_t[]){1, 3, 1, 1}, CN_INIT_ZERO, 3);
    cn_node *sum = NULL;
    x = cn_add_channel(g, x, cn_scale(g, cn_view(g, norm, 2, (int64_t[]){1, 3}), -1));
    for (int b = 0; b < BLOCKS; b++) {
        if (b) x = half(g, x);
        snprintf(name, sizeof name, "block%d", b + 1);
        cn_scope_push(g, name);
        for (int i = 0; i < vgg[b].layers; i++) {
            snprintf(name, sizeof name, "convs.%d", i);
            x = conv_relu(g, name, x, vgg[b].channels);
        }
        cn_node *side = cn_scope_return(g, cn_conv2d(g, "projection", x, 1, 1, 1, 0));
        side = cn_resize_to(g, side, H, W, false);
        sum = sum ? cn_add(g, sum, side) : side;
    }
    out[0] = cn_scale(g, sum, 1.0f / BLOCKS);
}

static void build_bsds500(cn_graph *g, cn_node *x, cn_node **out)
{
    static const char *const parts[BLOCKS] = {"One", "Two", "Thr", "Fou", "Fiv"};
    const int64_t H = x->shape[1], W = x->shape[2];
    char name[32];
    cn_node *all = NULL;
    for (int b = 0; b < BLOCKS; b++) {
        if (b) x = half(g, x);
        for (int i = 0; i < vgg[b].layers; i++) {
            snprintf(name, sizeof name, "moduleVgg%s.%d", parts[b], 2 * i + (b > 0));
            x = conv_relu(g, name, x, vgg[b].channels);
        }
        snprintf(name, sizeof name, "moduleScore%s", parts[b]);
        cn_node *side = cn_resize_to(g, cn_conv2d(g, name, x, 1, 1, 1, 0), H, W, false);
        all = all ? cn_concat(g, all, side) : side;
    }
    all = cn_conv2d(g, "moduleCombine.0", all, 1, 1, 1, 0);
    out[0] = cn_activation(g, all, CN_ACT_SIGMOID);
}

const cn_network cn_hed_apache2 = {
    .name = "HED",
    .file = "ControlNetHED.pth",
    .url = "https://huggingface.co/lllyasviel/Annotators",
    .signs = {{"block1.convs.0.weight", 64}, {"block5.projection.weight", 1}},
    .channels = 3,
    .build = build_apache2};
const cn_network cn_hed_bsds500 = {
    .name = "HED (first release)",
    .file = "network-bsds500.pth",
    .url = "https://huggingface.co/lllyasviel/ControlNet/tree/main/annotator/ckpts",
    .signs = {{"moduleVggOne.0.weight", 64}, {"moduleCombine.0.weight", 1}},
    .channels = 3,
    .build = build_bsds500};

const cn_feed cn_hed_apache2_feed = {0};
const cn_feed cn_hed_bsds500_feed = {.bgr = true,
                                     .subtract = {104.00698793f, 116.66876762f, 122.67891434f}};

/* --- the annotator ---------------------------------------------------------------------------- */

cn_status cn_hed(cn_session *s, const cn_image *in, bool safe, cn_image **out)
{
    const bool logits = cn_session_network(s, 0) == &cn_hed_apache2;
    cn_network_values v;
    CN_TRY(cn_session_run_image(s, in, logits ? &cn_hed_apache2_feed : &cn_hed_bsds500_feed, &v));
    CN_TRY(cn_image_create(cn_session_ctx(s), in->width, in->height, out));
    for (int64_t i = 0; i < in->width * in->height; i++) {
        double p = (double)v.data[0][i];
        if (logits) p = 1 / (1 + exp(-p));
        cn_put_gray((*out)->rgb + 3 * i, 255 * (safe ? (double)cn_safe_step((float)p) : p));
    }
    return CN_OK;
}

/* --- the kind --------------------------------------------------------------------------------- */

static const cn_kind_option options[] = {
    {"safe", "three levels of strength only, so that nothing else of the picture shows through",
     CN_OPTION_BOOL, 0, 1, 0},
};

static cn_status run(cn_session *s, const cn_image *in, cn_image **out)
{
    return cn_hed(s, in, cn_session_args(s)->values[0] != 0, out);
}

const cn_kind cn_kind_hed = {.name = "hed",
                             .title = "soft edges (HED), white on black",
                             .aliases = {{"hed_safe", "hed safe=1"},
                                         {"softedge_hed", "hed"},
                                         {"softedge_hedsafe", "hed safe=1"},
                                         {"softedge_hed_safe", "hed safe=1"}},
                             CN_KIND_OPTIONS(options),
                             .run = run,
                             .networks = {{&cn_hed_apache2, 0}, {&cn_hed_bsds500, 0}},
                             .least = 16,
                             .map_filter = CN_FILTER_LINEAR,
                             .measure = CN_MEASURE_EDGES,
                             .mirror = CN_MIRROR_PLAIN};
