/* SPDX-License-Identifier: Apache-2.0 */
/* annotator_uniformer.c - the cases of segmentation: the network, the whole detector, the
 * palette. */
#include "annotator_check.h"

#include "annotate/labels.h"
#include "annotate/uniformer.h"
#include "values.h"

#include <stdlib.h>
#include <string.h>

#define NET_TOLERANCE 1e-3
#define SURE          0.01f /* classes are compared where the best leads by more than this */

enum { TABLE = 3 * CN_ADE20K_CLASSES };

/* --- the network ------------------------------------------------------------------------------ */

/* The stored input [1,3,H,W] as [H,W,3]. */
static float *read_input(cn_ctx *ctx, const cn_tensors *raw, int64_t *H, int64_t *W)
{
    const cn_tensor_info *info = cn_tensors_find(raw, "input");
    if (!info || info->ndim != 4 || info->shape[0] != 1 || info->shape[1] != 3) return NULL;
    float *nchw = test_alloc((size_t)info->elements * sizeof *nchw);
    float *x = test_alloc((size_t)info->elements * sizeof *x);
    *H = info->shape[2];
    *W = info->shape[3];
    const bool ok = cn_tensors_read(ctx, raw, info, nchw) == CN_OK;
    test_nchw_to_nhwc(nchw, x, 1, 3, *H, *W);
    free(nchw);
    if (ok) return x;
    free(x);
    return NULL;
}

/* The class of every pixel of the input, where the stored margin says that rounding can't change
 * it. */
static void check_classes(cn_ctx *ctx, case_net *net, const cn_tensors *raw, int64_t H, int64_t W,
                          tally *t)
{
    const cn_tensor_info *want = cn_tensors_find(raw, "argmax"),
                         *lead = cn_tensors_find(raw, "margin");
    const cn_node *y = net->out[0];
    char why[128] = "argmax or margin is missing or of another size";
    bool ok =
        want && lead && want->dtype == CN_U8 && want->elements == H * W && lead->elements == H * W;
    if (ok) {
        uint8_t *made = test_alloc((size_t)(H * W));
        float *margin = test_alloc((size_t)(H * W) * sizeof *margin);
        int64_t bad = 0;
        ok = cn_tensors_read(ctx, raw, lead, margin) == CN_OK &&
             cn_seg_labels(ctx,
                           &(cn_seg_scores){cn_plan_data(net->plan, y), y->shape[1], y->shape[2],
                                            y->shape[3], H, W},
                           H, W, made) == CN_OK;
        for (int64_t i = 0; ok && i < H * W; i++)
            bad += margin[i] > SURE && made[i] != ((const uint8_t *)want->data)[i];
        snprintf(why, sizeof why, "%lld pixels are of another class", (long long)bad);
        ok = ok && bad == 0;
        free(made);
        free(margin);
    }
    case_result(t, "uniformer", "argmax", ok, why);
}

/* The stored input must be what the network's picture becomes, too. */
static void check_feed(cn_ctx *ctx, const char *root, const json_t *c, const float *x, int64_t H,
                       int64_t W, tally *t)
{
    cn_image *in = NULL;
    float *made = test_alloc((size_t)(H * W) * 3 * sizeof *made);
    cn_status s = case_picture(ctx, root, c, "input", &in);
    if (s == CN_OK) s = cn_seg_input(ctx, in, H, W, made);
    const bool ok = s == CN_OK && test_compare_f32(made, x, 3 * H * W).max_err <= 1e-5;
    case_result(t, "uniformer", cn_json_str(c, "input", "?"), ok, "is fed otherwise");
    cn_image_destroy(in);
    free(made);
}

static void check_network(cn_ctx *ctx, const char *root, const json_t *c, const char *weights,
                          tally *t)
{
    cn_tensors *raw = NULL;
    case_net net = {0};
    float *x = NULL;
    int64_t H = 0, W = 0;
    cn_status s = case_tensors(ctx, root, c, "raw", &raw);
    if (s == CN_OK && !(x = read_input(ctx, raw, &H, &W)))
        s = cn_fail(ctx, CN_EFORMAT, "no input [1,3,H,W]");
    if (s == CN_OK) s = case_net_open(ctx, &cn_uniformer, weights, H, W, NULL, &net);
    if (s == CN_OK) s = case_net_run(&net, x);
    if (s == CN_OK) {
        check_feed(ctx, root, c, x, H, W, t);
        case_net_expect(&net, net.out[0], raw, "logits", NET_TOLERANCE, false, "uniformer",
                        "logits", t);
        check_classes(ctx, &net, raw, H, W, t);
    } else {
        case_result(t, "uniformer", "network", false, cn_error(ctx));
    }
    free(x);
    case_net_close(&net);
    cn_tensors_close(raw);
}

/* --- the detector ----------------------------------------------------------------------------- */

/* Rows or columns of the normalised input: samples [1,3,h,w] are those of x [H,W,3] at its top
 * left. */
static void check_samples(cn_ctx *ctx, const cn_tensors *file, const char *key, const float *x,
                          int64_t H, int64_t W, tally *t)
{
    const cn_tensor_info *info = cn_tensors_find(file, key);
    bool ok = info && info->ndim == 4 && info->shape[1] == 3 && info->shape[2] <= H &&
              info->shape[3] <= W;
    if (ok) {
        const int64_t h = info->shape[2], w = info->shape[3];
        float *want = test_alloc((size_t)info->elements * sizeof *want);
        ok = cn_tensors_read(ctx, file, info, want) == CN_OK;
        for (int64_t i = 0; ok && i < info->elements; i++) {
            const int64_t c = i / (h * w), r = i / w % h, k = i % w;
            const float d = x[(r * W + k) * 3 + c] - want[i];
            ok = d < 1e-5f && d > -1e-5f;
        }
        free(want);
    }
    case_result(t, "uniformer", key, ok, "the detector feeds the network otherwise");
}

static void check_input(cn_ctx *ctx, const char *root, const json_t *c, const cn_image *in,
                        tally *t)
{
    int64_t h, w;
    cn_tensors *samples = NULL;
    cn_seg_size(in->height, in->width, &h, &w);
    const json_t *hw = json_object_get(c, "resized_hw");
    case_result(t, "uniformer", "resized_hw",
                json_integer_value(json_array_get(hw, 0)) == h &&
                    json_integer_value(json_array_get(hw, 1)) == w,
                "the network sees another size");
    float *x = test_alloc((size_t)(h * w) * 3 * sizeof *x);
    cn_status s = cn_seg_input(ctx, in, h, w, x);
    if (s == CN_OK && json_object_get(c, "input_samples")) {
        s = case_tensors(ctx, root, c, "input_samples", &samples);
        if (s == CN_OK) {
            check_samples(ctx, samples, "input_rows0_2", x, h, w, t);
            check_samples(ctx, samples, "input_col0_2", x, h, w, t);
        }
    }
    if (s != CN_OK) case_result(t, "uniformer", "input_samples", false, cn_error(ctx));
    cn_tensors_close(samples);
    free(x);
}

/* Rounding may exchange classes of nearly equal score: 0.1 % of the pixels. */
static void check_detector(cn_ctx *ctx, const char *root, const json_t *c, const char *weights,
                           tally *t)
{
    cn_image *in = NULL, *made = NULL;
    cn_status s = case_picture(ctx, root, c, "input", &in);
    if (s == CN_OK) {
        check_input(ctx, root, c, in, t);
        s = case_annotate(ctx, "seg", weights, in, &made);
    }
    if (s == CN_OK)
        case_compare_within(ctx, root, c, "color", "uniformer", made, 0, 0.001, t);
    else
        case_result(t, "uniformer", "detector", false, cn_error(ctx));
    cn_image_destroy(in);
    cn_image_destroy(made);
}

/* --- the palette ------------------------------------------------------------------------------ */

static void check_palette(cn_ctx *ctx, const char *root, const json_t *c, tally *t)
{
    json_t *table = NULL;
    cn_image *labels = NULL;
    bool ok = case_json(ctx, root, c, "table", &table) == CN_OK &&
              json_array_size(table) == CN_ADE20K_CLASSES;
    for (size_t i = 0; ok && i < TABLE; i++) {
        const json_t *rgb = json_object_get(json_array_get(table, i / 3), "rgb");
        ok = json_integer_value(json_array_get(rgb, i % 3)) == cn_ade20k_palette[i / 3][i % 3];
    }
    case_result(t, "uniformer", cn_json_str(c, "table", "?"), ok, "another palette");
    ok = case_picture(ctx, root, c, "labels", &labels) == CN_OK;
    for (int64_t i = 0; ok && i < labels->width * labels->height; i++) {
        ok = labels->rgb[3 * i] < CN_ADE20K_CLASSES;
        if (ok) memcpy(labels->rgb + 3 * i, cn_ade20k_palette[labels->rgb[3 * i]], 3);
    }
    if (ok)
        case_compare(ctx, root, c, "color", "uniformer", labels, t);
    else
        case_result(t, "uniformer", cn_json_str(c, "labels", "?"), false, "labels beyond 149");
    json_decref(table);
    cn_image_destroy(labels);
}

void check_uniformer_folder(cn_ctx *ctx, const char *root, tally *t)
{
    json_t *json = case_list(ctx, root, "uniformer", t);
    const json_t *net = json_object_get(json, "network"),
                 *detector = json_object_get(json, "detector"),
                 *palette = json_object_get(json, "palette");
    case_weights w = {0};
    if (palette) check_palette(ctx, root, palette, t);
    if ((net || detector) && case_weights_open(ctx, root, json, &w) != CN_OK) {
        case_result(t, "uniformer", "weights", false, cn_error(ctx));
        net = detector = NULL;
    }
    if (net) check_network(ctx, root, net, w.path, t);
    if (detector) check_detector(ctx, root, detector, w.path, t);
    case_weights_close(&w);
    json_decref(json);
}
