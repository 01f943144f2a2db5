/* SPDX-License-Identifier: Apache-2.0 */
/* annotator_mlsd.c - the cases of mlsd: raw maps, decoding, lines, whole runs. */
#include "annotator_check.h"

#include "annotate/mlsd.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* 1e-3 of the maps' deviation: real weights reach 60, where the sums' order shows. */
#define RAW_TOLERANCE 1e-3

static cn_status run_network(cn_ctx *ctx, const cn_network *net, const char *weights,
                             const cn_image *in, const char *const *taps, case_net *out)
{
    CN_TRY(case_net_open(ctx, net, weights, in->height, in->width, taps, out));
    float *x = cn_mlsd_feed(ctx, in);
    cn_status s = x ? case_net_run(out, x) : CN_ENOMEM;
    cn_free(x);
    if (s != CN_OK) case_net_close(out);
    return s;
}

/* --- decoding --------------------------------------------------------------------------------- */

/* The stored maps [1,C,h,w] as [h,w,C]. */
static cn_status read_maps(cn_ctx *ctx, const cn_tensors *file, float **out, int64_t size[3])
{
    const cn_tensor_info *raw = cn_tensors_find(file, "raw");
    if (!raw || raw->ndim != 4) return cn_fail(ctx, CN_EFORMAT, "no tensor raw [1,C,h,w]");
    const int64_t C = raw->shape[1], pixels = raw->shape[2] * raw->shape[3];
    float *planes = cn_alloc_array(ctx, (size_t)raw->elements, sizeof *planes);
    float *maps = cn_alloc_array(ctx, (size_t)raw->elements, sizeof *maps);
    cn_status s = planes && maps ? cn_tensors_read(ctx, file, raw, planes) : CN_ENOMEM;
    for (int64_t i = 0; s == CN_OK && i < raw->elements; i++)
        maps[i % pixels * C + i / pixels] = planes[i];
    cn_free(planes);
    if (s != CN_OK) {
        cn_free(maps);
        return s;
    }
    size[0] = raw->shape[2];
    size[1] = raw->shape[3];
    size[2] = C;
    *out = maps;
    return CN_OK;
}

/* How many of the wanted lines have one among the made ones whose ends are within `px`; each serves
 * once. */
static int count_met(const json_t *wanted, const cn_line *lines, int n, double px)
{
    bool used[CN_MLSD_LINES] = {false};
    int met = 0;
    size_t k;
    const json_t *want;
    json_array_foreach(wanted, k, want)
    {
        double w[4];
        for (size_t i = 0; i < 4; i++) w[i] = json_number_value(json_array_get(want, i));
        for (int i = 0; i < n; i++) {
            const cn_line *l = &lines[i];
            if (used[i] || fabs(l->x1 - w[0]) > px || fabs(l->y1 - w[1]) > px ||
                fabs(l->x2 - w[2]) > px || fabs(l->y2 - w[3]) > px)
                continue;
            used[i] = true;
            met++;
            break;
        }
    }
    return met;
}

/* The map; as many pixels as `share` of those that should be lit may differ. */
static void compare_map(cn_ctx *ctx, const char *root, const json_t *d, const cn_image *made,
                        double share, tally *t)
{
    cn_image *want = NULL;
    int64_t lit = 0;
    if (case_picture(ctx, root, d, "map", &want) == CN_OK)
        for (int64_t i = 0; i < want->width * want->height; i++) lit += want->rgb[3 * i] != 0;
    if (want) share *= (double)lit / (double)(want->width * want->height);
    case_compare_within(ctx, root, d, "map", "mlsd", made, 0, share, t);
    cn_image_destroy(want);
}

/* Lines from the stored maps: all there, no others, and drawn as wanted. */
static void check_decoded(cn_ctx *ctx, const char *root, const json_t *d, const char *name,
                          const float *maps, const int64_t size[3], tally *t)
{
    cn_line lines[CN_MLSD_LINES];
    cn_image *map = NULL;
    int n = 0;
    const json_t *wanted = json_object_get(d, "lines_xyxy");
    cn_status s = cn_mlsd_decode(ctx, maps, size[0], size[1], size[2],
                                 (float)cn_json_number(d, "value_threshold", 0.1),
                                 (float)cn_json_number(d, "distance_threshold", 0.1), lines, &n);
    if (s == CN_OK) s = cn_image_create(ctx, 2 * size[1], 2 * size[0], &map);
    if (s != CN_OK) {
        case_result(t, "mlsd", name, false, cn_error(ctx));
        return;
    }
    const int met = count_met(wanted, lines, n, 0.05);
    char why[128];
    snprintf(why, sizeof why, "%d lines, of %zu wanted %d are there", n, json_array_size(wanted),
             met);
    case_result(t, "mlsd", name, n == met && (size_t)n == json_array_size(wanted), why);
    cn_mlsd_draw(map, lines, n);
    compare_map(ctx, root, d, map, 0.005, t);
    cn_image_destroy(map);
}

/* The same thresholds over the whole run: nine of ten lines within a pixel of where they should
 * be. */
static void check_whole(const json_t *d, const char *name, const float *maps, const cn_node *y,
                        cn_ctx *ctx, tally *t)
{
    cn_line lines[CN_MLSD_LINES];
    int n = 0;
    const json_t *wanted = json_object_get(d, "lines_xyxy");
    const int count = (int)json_array_size(wanted);
    cn_status s = cn_mlsd_decode(ctx, maps, y->shape[1], y->shape[2], y->shape[3],
                                 (float)cn_json_number(d, "value_threshold", 0.1),
                                 (float)cn_json_number(d, "distance_threshold", 0.1), lines, &n);
    const int met = s == CN_OK ? count_met(wanted, lines, n, 1) : 0;
    char why[128];
    snprintf(why, sizeof why, "of %d lines %d are found within a pixel", count, met);
    case_result(t, "mlsd", name,
                s == CN_OK && 10 * met >= 9 * count && abs(n - count) * 10 <= count, why);
}

/* The likeliest centres in the stored order, but for those of equal likelihood. */
static void check_peaks(cn_ctx *ctx, const char *root, const json_t *c, const float *maps,
                        const int64_t size[3], tally *t)
{
    json_t *peaks = NULL;
    cn_line lines[CN_MLSD_LINES];
    int n = 0, found = 0;
    if (case_json(ctx, root, c, "peaks", &peaks) != CN_OK ||
        cn_mlsd_decode(ctx, maps, size[0], size[1], size[2], 0, -1, lines, &n) != CN_OK) {
        case_result(t, "mlsd", cn_json_str(c, "peaks", "?"), false, cn_error(ctx));
        json_decref(peaks);
        return;
    }
    const json_t *list = json_object_get(peaks, "top200_yx"), *at;
    size_t k;
    json_array_foreach(list, k, at)
    {
        const int64_t y = json_integer_value(json_array_get(at, 0)),
                      x = json_integer_value(json_array_get(at, 1));
        const float *cell = maps + (y * size[1] + x) * size[2];
        const float x1 = 2 * ((float)x + cell[1]), y1 = 2 * ((float)y + cell[2]);
        for (int i = 0; i < n; i++)
            if (lines[i].x1 == x1 && lines[i].y1 == y1) {
                found++;
                break;
            }
    }
    char why[96];
    snprintf(why, sizeof why, "%d of %zu centres found", found, json_array_size(list));
    case_result(t, "mlsd", cn_json_str(c, "peaks", "?"), (size_t)found == json_array_size(list),
                why);
    json_decref(peaks);
}

/* --- the variants ----------------------------------------------------------------------------- */

static void check_thresholds(cn_ctx *ctx, const char *root, const json_t *c, const char *weights,
                             case_net *net, const cn_image *in, const cn_tensors *raw, tally *t)
{
    float *maps = NULL;
    int64_t size[3] = {0};
    if (read_maps(ctx, raw, &maps, size) != CN_OK) {
        case_result(t, "mlsd", cn_json_str(c, "raw", "?"), false, cn_error(ctx));
        return;
    }
    if (json_object_get(c, "peaks")) check_peaks(ctx, root, c, maps, size, t);
    size_t i;
    const json_t *file;
    json_array_foreach(json_object_get(c, "decoded"), i, file)
    {
        const char *name = json_string_value(file);
        char path[CASE_PATH], settings[128];
        json_t *d = NULL;
        cn_image *made = NULL;
        cn_status s = cn_format(ctx, path, sizeof path, "%s/%s", root, name ? name : "?");
        if (s == CN_OK) s = cn_json_load_file(ctx, path, &d);
        if (s == CN_OK) {
            check_decoded(ctx, root, d, name, maps, size, t);
            check_whole(d, name, cn_plan_data(net->plan, net->out[0]), net->out[0], ctx, t);
            s = cn_format(ctx, settings, sizeof settings,
                          "mlsd value_threshold=%.9g distance_threshold=%.9g",
                          cn_json_number(d, "value_threshold", 0.1),
                          cn_json_number(d, "distance_threshold", 0.1));
        }
        if (s == CN_OK) s = case_annotate(ctx, settings, weights, in, &made);
        if (s == CN_OK)
            compare_map(ctx, root, d, made, 0.1, t); /* a line that moved is another line */
        else
            case_result(t, "mlsd", name, false, cn_error(ctx));
        cn_image_destroy(made);
        json_decref(d);
    }
    cn_free(maps);
}

static void check_tiny(cn_ctx *ctx, const char *root, const json_t *c, const char *weights,
                       tally *t)
{
    cn_image *in = NULL;
    cn_tensors *raw = NULL;
    case_net net = {0};
    cn_status s = case_picture(ctx, root, c, "input", &in);
    if (s == CN_OK) s = case_tensors(ctx, root, c, "raw", &raw);
    if (s == CN_OK) s = run_network(ctx, &cn_mlsd_tiny, weights, in, NULL, &net);
    if (s == CN_OK) {
        case_net_expect(&net, net.out[0], raw, "raw", RAW_TOLERANCE, true, "mlsd",
                        cn_json_str(c, "raw", "?"), t);
        check_thresholds(ctx, root, c, weights, &net, in, raw, t);
    } else {
        case_result(t, "mlsd", cn_json_str(c, "name", "?"), false, cn_error(ctx));
    }
    case_net_close(&net);
    cn_tensors_close(raw);
    cn_image_destroy(in);
}

static void check_large(cn_ctx *ctx, const char *root, const json_t *c, tally *t)
{
    static const char *const taps[] = {"backbone.features.1", "backbone.features.13", NULL};
    static const char *const keys[] = {"raw", "c1", "c5"};
    cn_image *in = NULL;
    cn_tensors *raw = NULL;
    case_net net = {0};
    case_weights w = {0};
    cn_status s = case_picture(ctx, root, c, "input", &in);
    if (s == CN_OK) s = case_tensors(ctx, root, c, "raw", &raw);
    if (s == CN_OK) s = case_weights_open(ctx, root, c, &w);
    if (s == CN_OK) s = run_network(ctx, &cn_mlsd_large, w.path, in, taps, &net);
    if (s != CN_OK) case_result(t, "mlsd", "large", false, cn_error(ctx));
    for (int i = 0; s == CN_OK && i < 3; i++)
        case_net_expect(&net, net.out[i], raw, keys[i], RAW_TOLERANCE, true, "mlsd", "large", t);
    case_net_close(&net);
    case_weights_close(&w);
    cn_tensors_close(raw);
    cn_image_destroy(in);
}

void check_mlsd_folder(cn_ctx *ctx, const char *root, tally *t)
{
    json_t *json = case_list(ctx, root, "mlsd", t);
    const json_t *tiny = json_object_get(json, "tiny"), *large = json_object_get(json, "large");
    static const char *const files[] = {"manifest", "weights", "checkpoint"};
    for (size_t k = 0; k < CN_COUNT(files); k++) {
        case_weights w = {0};
        size_t i;
        const json_t *c;
        if (!json_object_get(tiny, files[k])) continue;
        cn_status s = k ? case_path(ctx, root, tiny, files[k], w.path)
                        : case_weights_open(ctx, root, tiny, &w);
        if (s != CN_OK) case_result(t, "mlsd", files[k], false, cn_error(ctx));
        json_array_foreach(json_object_get(tiny, "cases"), i, c) if (s == CN_OK)
            check_tiny(ctx, root, c, w.path, t);
        case_weights_close(&w);
    }
    if (large) check_large(ctx, root, large, t);
    json_decref(json);
}
