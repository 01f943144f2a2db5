/* SPDX-License-Identifier: Apache-2.0 */
/* lineart.c - see lineart.h. */
#include "annotate/lineart.h"

#include "annotate/kinds.h"
#include "annotate/pointwise.h"

#define NORM_EPS 1e-5f

/* --- photographs: a generator of residual blocks ---------------------------------------------- */

static cn_node *norm_relu(cn_graph *g, cn_node *x)
{
    return cn_activation(g, cn_instance_norm(g, x, NORM_EPS), CN_ACT_RELU);
}

/* A convolution over the picture mirrored at its edges. */
static cn_node *mirrored(cn_graph *g, const char *name, cn_node *x, int64_t O, int kernel)
{
    const int p = kernel / 2;
    return cn_conv2d(g, name, cn_pad(g, x, (int[4]){p, p, p, p}, true), O, kernel, 1, 0);
}

static cn_node *residual(cn_graph *g, const char *name, cn_node *x)
{
    const int64_t C = cn_channels(x);
    cn_scope_push(g, name);
    cn_node *h = norm_relu(g, mirrored(g, "conv_block.1", x, C, 3));
    h = cn_instance_norm(g, mirrored(g, "conv_block.5", h, C, 3), NORM_EPS);
    cn_scope_pop(g);
    return cn_add(g, x, h);
}

static void build(cn_graph *g, cn_node *x, cn_node **out)
{
    cn_scope_push(g, "model0");
    x = cn_scope_return(g, norm_relu(g, mirrored(g, "1", x, 64, 7)));
    cn_scope_push(g, "model1");
    x = norm_relu(g, cn_conv2d(g, "0", x, 128, 3, 2, 1));
    x = cn_scope_return(g, norm_relu(g, cn_conv2d(g, "3", x, 256, 3, 2, 1)));
    cn_scope_push(g, "model2");
    for (int i = 0; i < 3; i++) x = residual(g, (const char *[]){"0", "1", "2"}[i], x);
    cn_scope_return(g, x);
    cn_scope_push(g, "model3");
    x = norm_relu(g, cn_conv_transpose2d(g, "0", x, 128, 3, 2, 1, 1));
    x = cn_scope_return(g, norm_relu(g, cn_conv_transpose2d(g, "3", x, 64, 3, 2, 1, 1)));
    out[0] = cn_activation(g, mirrored(g, "model4.1", x, 1, 7), CN_ACT_SIGMOID);
}

const cn_network cn_lineart_fine = {.name = "line art",
                                    .file = "sk_model.pth",
                                    .url = "https://huggingface.co/lllyasviel/Annotators",
                                    .signs = {{"model0.1.weight", 64}, {"model4.1.weight", 1}},
                                    .channels = 3,
                                    .build = build};
const cn_network cn_lineart_coarse = {.name = "line art",
                                      .file = "sk_model2.pth",
                                      .url = "https://huggingface.co/lllyasviel/Annotators",
                                      .signs = {{"model0.1.weight", 64}, {"model4.1.weight", 1}},
                                      .channels = 3,
                                      .build = build};
const cn_feed cn_lineart_feed = {.scale = 1 / 255.0f};

/* Of all kinds here: white lines on black, as the ControlNets want them, unless asked otherwise. */
static const cn_kind_option options[] = {
    {"dark_lines", "dark lines on white, as the network draws them", CN_OPTION_BOOL, 0, 1, 0},
};

/* Brings the map to the condition's size and, unless dark_lines, inverts it; takes `map` over. */
static cn_status finish(cn_session *s, cn_image *map, cn_image **out)
{
    const bool dark_lines = cn_session_args(s)->values[0] != 0;
    cn_status status = cn_session_fit(s, &map);
    if (status == CN_OK && dark_lines) {
        *out = map;
        return CN_OK;
    }
    if (status == CN_OK) status = cn_image_invert(cn_session_ctx(s), map, out);
    cn_image_destroy(map);
    return status;
}

static cn_status run(cn_session *s, const cn_image *in, cn_image **out)
{
    cn_network_values v;
    cn_image *map = NULL;
    CN_TRY(cn_session_run_image(s, in, &cn_lineart_feed, &v));
    CN_TRY(cn_image_create(cn_session_ctx(s), in->width, in->height, &map));
    for (int64_t i = 0; i < in->width * in->height; i++)
        cn_put_gray(map->rgb + 3 * i, 255.0f * v.data[0][i]);
    return finish(s, map, out);
}

const cn_kind cn_kind_lineart = {.name = "lineart",
                                 .title = "a line drawing of a photograph, white on black",
                                 .aliases = {{"lineart_realistic", "lineart"}},
                                 CN_KIND_OPTIONS(options),
                                 .run = run,
                                 .networks = {{&cn_lineart_fine, 0}},
                                 .multiple = 4,
                                 .least = 8,
                                 .map_filter = CN_FILTER_LINEAR,
                                 .measure = CN_MEASURE_EDGES,
                                 .mirror = CN_MIRROR_PLAIN};

const cn_kind cn_kind_lineart_coarse = {
    .name = "lineart_coarse",
    .title = "a coarser line drawing of a photograph, white on black",
    CN_KIND_OPTIONS(options),
    .run = run,
    .networks = {{&cn_lineart_coarse, 0}},
    .multiple = 4,
    .least = 8,
    .map_filter = CN_FILTER_LINEAR,
    .measure = CN_MEASURE_EDGES,
    .mirror = CN_MIRROR_PLAIN};

/* --- anime: a U-Net --------------------------------------------------------------------------- */

enum { LEVELS = 8, SIZE_MULTIPLE = 1 << LEVELS };

/* Level 0 is the outermost. The names nest as the modules do: each level is `model` in its
 * parent's. */
static cn_node *unet_level(cn_graph *g, cn_node *x, int level)
{
    static const int64_t channels[LEVELS] = {64, 128, 256, 512, 512, 512, 512, 512};
    const bool outermost = level == 0, innermost = level == LEVELS - 1;
    const char *down = outermost ? "0" : "1", *inner = outermost ? "1" : "3",
               *up = outermost || innermost ? "3" : "5";
    cn_scope_push(g, "model");
    cn_node *h = outermost ? x : cn_leaky_relu(g, x, 0.2f);
    h = cn_conv2d(g, down, h, channels[level], 4, 2, 1);
    if (!innermost) {
        if (!outermost) h = cn_instance_norm(g, h, NORM_EPS);
        cn_scope_push(g, inner);
        h = unet_level(g, h, level + 1);
        cn_scope_pop(g);
    }
    h = cn_activation(g, h, CN_ACT_RELU);
    h = cn_conv_transpose2d(g, up, h, outermost ? 1 : cn_channels(x), 4, 2, 1, 0);
    cn_scope_pop(g);
    if (outermost) return cn_activation(g, h, CN_ACT_TANH);
    return cn_concat(g, x, cn_instance_norm(g, h, NORM_EPS));
}

static void build_anime(cn_graph *g, cn_node *x, cn_node **out)
{
    cn_scope_push(g, "model");
    out[0] = unet_level(g, x, 0);
    cn_scope_pop(g);
}

const cn_network cn_anime_network = {
    .name = "anime line art",
    .file = "netG.pth",
    .url = "https://huggingface.co/lllyasviel/Annotators",
    .signs = {{"model.model.0.weight", 64}, {"model.model.3.weight", 128}},
    .channels = 3,
    .build = build_anime};
const cn_feed cn_anime_feed = {.scale = 1 / 127.5f, .subtract = {1, 1, 1}};

static int64_t up_to_multiple(int64_t n)
{
    return (n + SIZE_MULTIPLE - 1) / SIZE_MULTIPLE * SIZE_MULTIPLE;
}

/* `in` at the size that the network takes, and its result back at `in`'s size as [H,W] values
 * 0..255. */
static cn_status draw_anime(cn_session *s, const cn_image *in, float *drawn)
{
    cn_ctx *ctx = cn_session_ctx(s);
    const int64_t w = up_to_multiple(in->width), h = up_to_multiple(in->height);
    const cn_resize_spec back = {.filter = CN_FILTER_CUBIC,
                                 .in_h = h,
                                 .in_w = w,
                                 .out_h = in->height,
                                 .out_w = in->width,
                                 .channels = 1};
    cn_image *large = NULL;
    cn_network_values v;
    float *map = cn_alloc_array(ctx, (size_t)(w * h), sizeof *map);
    cn_status status = map ? cn_image_resize(ctx, in, w, h, CN_FILTER_CUBIC, &large) : CN_ENOMEM;
    if (status == CN_OK) status = cn_session_run_image(s, large, &cn_anime_feed, &v);
    for (int64_t i = 0; status == CN_OK && i < w * h; i++) map[i] = v.data[0][i] * 127.5f + 127.5f;
    if (status == CN_OK) status = cn_resize_f32(ctx, &back, map, drawn);
    cn_image_destroy(large);
    cn_free(map);
    return status;
}

static cn_status run_anime(cn_session *s, const cn_image *in, cn_image **out)
{
    cn_ctx *ctx = cn_session_ctx(s);
    const int64_t n = in->width * in->height;
    cn_image *map = NULL;
    float *drawn = cn_alloc_array(ctx, (size_t)n, sizeof *drawn);
    cn_status status = drawn ? draw_anime(s, in, drawn) : CN_ENOMEM;
    if (status == CN_OK) status = cn_image_create(ctx, in->width, in->height, &map);
    for (int64_t i = 0; status == CN_OK && i < n; i++) cn_put_gray(map->rgb + 3 * i, drawn[i]);
    cn_free(drawn);
    return status == CN_OK ? finish(s, map, out) : status;
}

const cn_kind cn_kind_lineart_anime = {
    .name = "lineart_anime",
    .title = "a line drawing of an anime picture, white on black",
    CN_KIND_OPTIONS(options),
    .run = run_anime,
    .networks = {{&cn_anime_network, 0}},
    .map_filter = CN_FILTER_LINEAR,
    .measure = CN_MEASURE_EDGES,
    .mirror = CN_MIRROR_PLAIN};
