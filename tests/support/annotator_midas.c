/* SPDX-License-Identifier: Apache-2.0 */
/* annotator_midas.c - the cases of depth and normals: the network, and pictures from stored
 * depths. */
#include "annotator_check.h"

#include "annotate/midas.h"
#include "values.h"

#include <stdlib.h>

#define NET_TOLERANCE \
    1e-3 /* of the standard deviation: float32 through 40 layers makes 1e-4 of it */

/* --- stored depths ---------------------------------------------------------------------------- */

static void compare_pictures(cn_ctx *ctx, const char *root, const json_t *c, const float *depth,
                             int64_t H, int64_t W, double a, double bg, tally *t)
{
    cn_image *made = NULL;
    if (json_object_get(c, "depth_u8")) {
        if (cn_depth_picture(ctx, depth, H, W, &made) == CN_OK)
            case_compare_within(ctx, root, c, "depth_u8", "midas", made, 1, 0, t);
        else
            case_result(t, "midas", cn_json_str(c, "depth_u8", "?"), false, cn_error(ctx));
        cn_image_destroy(made);
        made = NULL;
    }
    if (!json_object_get(c, "normal_rgb")) return;
    if (cn_normal_picture(ctx, depth, H, W, a, bg, &made) == CN_OK)
        case_compare_within(ctx, root, c, "normal_rgb", "midas", made, 1, 0, t);
    else
        case_result(t, "midas", cn_json_str(c, "normal_rgb", "?"), false, cn_error(ctx));
    cn_image_destroy(made);
}

static void check_conversion(cn_ctx *ctx, const char *root, const json_t *c, tally *t)
{
    cn_tensors *file = NULL;
    const cn_tensor_info *info = NULL;
    cn_status s = case_tensors(ctx, root, c, "depth", &file);
    if (s == CN_OK) info = cn_tensors_find(file, "depth");
    if (s == CN_OK && (!info || info->ndim < 2))
        s = cn_fail(ctx, CN_EFORMAT, "no depth of two dimensions");
    float *depth = s == CN_OK ? test_alloc((size_t)info->elements * sizeof *depth) : NULL;
    if (s == CN_OK) s = cn_tensors_read(ctx, file, info, depth);
    if (s == CN_OK) {
        const float divisor = (float)cn_json_number(c, "depth_divisor", 1);
        for (int64_t i = 0; i < info->elements; i++) depth[i] /= divisor;
        compare_pictures(ctx, root, c, depth, info->shape[info->ndim - 2],
                         info->shape[info->ndim - 1], cn_json_number(c, "a", 0),
                         cn_json_number(c, "bg_threshold", 0), t);
    } else {
        case_result(t, "midas", cn_json_str(c, "depth", "?"), false, cn_error(ctx));
    }
    free(depth);
    cn_tensors_close(file);
}

/* --- the network ------------------------------------------------------------------------------ */

static void check_raw(cn_ctx *ctx, const char *root, const json_t *c, const char *input,
                      const char *key, const char *weights, const cn_tensors *raw, tally *t)
{
    cn_image *in = NULL;
    case_net net = {0};
    float *x = NULL;
    cn_status s = case_picture(ctx, root, c, input, &in);
    if (s == CN_OK) {
        x = test_alloc((size_t)(in->width * in->height) * 3 * sizeof *x);
        for (int64_t i = 0; i < in->width * in->height * 3; i++)
            x[i] = (float)in->rgb[i] / 127.5f - 1.0f;
        s = case_net_open(ctx, &cn_midas, weights, in->height, in->width, NULL, &net);
    }
    if (s == CN_OK) s = case_net_run(&net, x);
    if (s == CN_OK)
        case_net_expect(&net, net.out[0], raw, key, NET_TOLERANCE, true, "midas", key, t);
    else
        case_result(t, "midas", key, false, cn_error(ctx));
    free(x);
    case_net_close(&net);
    cn_image_destroy(in);
}

/* The kinds as users call them. */
static void check_kinds(cn_ctx *ctx, const char *root, const json_t *c, const char *weights,
                        tally *t)
{
    char settings[128];
    cn_image *in = NULL, *made = NULL;
    cn_status s = case_picture(ctx, root, c, "input", &in);
    if (s == CN_OK) s = case_annotate(ctx, "depth", weights, in, &made);
    if (s == CN_OK) {
        case_compare_within(ctx, root, c, "depth_u8", "midas", made, 1, 0, t);
        cn_image_destroy(made);
        made = NULL;
        s = cn_format(ctx, settings, sizeof settings, "normal alpha=%.17g bg_threshold=%.17g",
                      cn_json_number(c, "normal_a", 0),
                      cn_json_number(c, "normal_bg_threshold", 0));
    }
    if (s == CN_OK) s = case_annotate(ctx, settings, weights, in, &made);
    if (s ==
        CN_OK) /* the background's border may move by what float32 loses: 0.1 % of the pixels */
        case_compare_within(ctx, root, c, "normal_rgb", "midas", made, 1, 0.001, t);
    else
        case_result(t, "midas", "kinds", false, cn_error(ctx));
    cn_image_destroy(in);
    cn_image_destroy(made);
}

void check_midas_folder(cn_ctx *ctx, const char *root, tally *t)
{
    json_t *json = case_list(ctx, root, "midas", t);
    const json_t *net = json_object_get(json, "network"), *c;
    size_t i;
    json_array_foreach(json_object_get(json, "conversions"), i, c)
        check_conversion(ctx, root, c, t);
    if (net) {
        case_weights w = {0};
        cn_tensors *raw = NULL;
        cn_status s = case_weights_open(ctx, root, net, &w);
        if (s == CN_OK) s = case_tensors(ctx, root, net, "raw", &raw);
        if (s == CN_OK) {
            check_raw(ctx, root, net, "input", "depth", w.path, raw, t);
            if (json_object_get(net, "input2"))
                check_raw(ctx, root, net, "input2", "depth2", w.path, raw, t);
            check_kinds(ctx, root, net, w.path, t);
        } else {
            case_result(t, "midas", "network", false, cn_error(ctx));
        }
        cn_tensors_close(raw);
        case_weights_close(&w);
    }
    json_decref(json);
}
