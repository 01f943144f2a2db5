/* SPDX-License-Identifier: Apache-2.0 */
/* annotator_cases.c - see annotator_cases.h. */
#include "annotator_check.h"

#include "annotate/annotate.h"
#include "image/blur.h"
#include "annotate/canny.h"
#include "data/coco.h"
#include "data/coco_mask.h"
#include "annotate/labels.h"
#include "image/resize.h"
#include "annotate/strokes.h"
#include "image/image.h"
#include "io/json.h"
#include "io/tensors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_gray(const cn_image *image)
{
    for (int64_t i = 0; i < image->width * image->height; i++)
        if (image->rgb[3 * i] != image->rgb[3 * i + 1] ||
            image->rgb[3 * i] != image->rgb[3 * i + 2])
            return false;
    return true;
}

/* One channel must give what three equal ones give. */
static cn_status check_gray(cn_ctx *ctx, const cn_image *in, const double *v, const cn_image *made)
{
    if (!is_gray(in)) return CN_OK;
    size_t n = (size_t)(in->width * in->height);
    uint8_t *gray = cn_alloc(ctx, n), *edges = cn_alloc(ctx, n);
    cn_status s = gray && edges ? CN_OK : CN_ENOMEM;
    for (size_t i = 0; s == CN_OK && i < n; i++) gray[i] = in->rgb[3 * i];
    if (s == CN_OK)
        s = cn_canny_u8(ctx, gray, in->width, in->height, 1, v[0], v[1], v[2] != 0, edges);
    for (size_t i = 0; s == CN_OK && i < n; i++)
        if (edges[i] != made->rgb[3 * i])
            s = cn_fail(ctx, CN_EINTERNAL, "one channel gives other edges than three equal ones");
    cn_free(gray);
    cn_free(edges);
    return s;
}

void check_canny_folder(cn_ctx *ctx, const char *root, tally *t)
{
    json_t *json = case_list(ctx, root, "canny", t);
    size_t i;
    const json_t *c;
    json_array_foreach(json_object_get(json, "cases"), i, c)
    {
        cn_image *in = NULL, *made = NULL;
        double v[3] = {0, 0, cn_json_bool(c, "l2gradient", false)};
        cn_status s = cn_json_need_number(ctx, c, "low", &v[0]);
        if (s == CN_OK) s = cn_json_need_number(ctx, c, "high", &v[1]);
        if (s == CN_OK) s = case_picture(ctx, root, c, "input", &in);
        if (s == CN_OK) s = cn_canny(ctx, in, v[0], v[1], v[2] != 0, &made);
        if (s == CN_OK) s = check_gray(ctx, in, v, made);
        if (s == CN_OK)
            case_compare(ctx, root, c, "output", "canny", made, t);
        else
            case_result(t, "canny", cn_json_str(c, "output", "?"), false, cn_error(ctx));
        cn_image_destroy(in);
        cn_image_destroy(made);
    }
    json_decref(json);
}

static bool parse_filter(const char *name, cn_filter *out)
{
    static const char *const names[] = {"nearest", "linear", "cubic", "lanczos4", "area"};
    for (size_t i = 0; i < CN_COUNT(names); i++)
        if (strcmp(name, names[i]) == 0) {
            *out = (cn_filter)i;
            return true;
        }
    return false;
}

static int64_t side(const json_t *c, const char *key, size_t i)
{
    return json_integer_value(json_array_get(json_object_get(c, key), i));
}

/* The sizes of one operator case: from out_hw, or from the factor. */
static cn_status operator_spec(cn_ctx *ctx, const json_t *c, const cn_tensor_info *in,
                               const cn_tensor_info *want, cn_resize_spec *spec)
{
    const char *filter = cn_json_str(c, "filter", "");
    if (in->ndim != 3 || want->ndim != 3 || in->dtype != want->dtype ||
        in->shape[2] != want->shape[2])
        return cn_fail(ctx, CN_EFORMAT, "tensors that don't fit together");
    if (in->dtype != CN_U8 && in->dtype != CN_F32)
        return cn_fail(ctx, CN_EFORMAT, "tensors of %s: must be U8 or F32",
                       cn_dtype_name(in->dtype));
    *spec = (cn_resize_spec){.in_h = in->shape[0], .in_w = in->shape[1], .channels = in->shape[2]};
    if (!parse_filter(filter, &spec->filter))
        return cn_fail(ctx, CN_EFORMAT, "unknown filter '%s'", filter);
    if (json_object_get(c, "crop_hw")) {
        spec->in_h = side(c, "crop_hw", 0);
        spec->in_w = side(c, "crop_hw", 1);
    }
    spec->factor = cn_json_number(c, "factor", 0);
    spec->out_h =
        spec->factor > 0 ? llrint((double)spec->in_h * spec->factor) : side(c, "out_hw", 0);
    spec->out_w =
        spec->factor > 0 ? llrint((double)spec->in_w * spec->factor) : side(c, "out_hw", 1);
    if (spec->in_h > in->shape[0] || spec->in_w > in->shape[1] || spec->out_h != want->shape[0] ||
        spec->out_w != want->shape[1])
        return cn_fail(ctx, CN_EFORMAT, "sizes that don't fit the tensors");
    return CN_OK;
}

/* The top left part of the input as a contiguous buffer, then the filter. */
static cn_status run_operator(cn_ctx *ctx, const cn_resize_spec *spec, const cn_tensor_info *in,
                              size_t item, void *crop, void *made)
{
    size_t pixel = item * (size_t)spec->channels, row = (size_t)spec->in_w * pixel;
    for (int64_t y = 0; y < spec->in_h; y++)
        memcpy((char *)crop + (size_t)y * row,
               (const char *)in->data + (size_t)(y * in->shape[1]) * pixel, row);
    return item == 1 ? cn_resize_u8(ctx, spec, crop, made) : cn_resize_f32(ctx, spec, crop, made);
}

/* Bytes and nearest are exact. Float32 sums in another order than OpenCV's: 2e-6 of the range. */
static bool operator_equal(const cn_tensor_info *want, bool exact, const void *made, char *why,
                           size_t cap)
{
    int64_t n = want->elements, bad = 0;
    if (want->dtype == CN_U8) {
        for (int64_t i = 0; i < n; i++)
            bad += ((const uint8_t *)want->data)[i] != ((const uint8_t *)made)[i];
        snprintf(why, cap, "%lld of %lld bytes differ", (long long)bad, (long long)n);
        return bad == 0;
    }
    float low = INFINITY, high = -INFINITY, worst = 0;
    for (int64_t i = 0; i < n; i++) {
        float w, m = ((const float *)made)[i];
        memcpy(&w, (const char *)want->data + i * 4, sizeof w);
        low = fminf(low, w);
        high = fmaxf(high, w);
        worst = isnan(m) ? INFINITY : fmaxf(worst, fabsf(w - m));
    }
    float limit = exact ? 0.0f : 2e-6f * (high - low);
    snprintf(why, cap, "differs by %g, limit %g", (double)worst, (double)limit);
    return worst <= limit;
}

static void check_operator(cn_ctx *ctx, const cn_tensors *file, const json_t *c, tally *t)
{
    const char *name = cn_json_str(c, "output", "?");
    const cn_tensor_info *in = cn_tensors_find(file, cn_json_str(c, "input", "?"));
    const cn_tensor_info *want = cn_tensors_find(file, name);
    cn_resize_spec spec;
    char why[256] = "a tensor is missing";
    bool ok = in && want && operator_spec(ctx, c, in, want, &spec) == CN_OK;
    if (ok) {
        size_t item = in->dtype == CN_U8 ? 1 : 4;
        void *crop = cn_alloc(ctx, (size_t)in->elements * item);
        void *made = cn_alloc(ctx, (size_t)want->elements * item);
        ok = crop && made && run_operator(ctx, &spec, in, item, crop, made) == CN_OK;
        if (ok)
            ok = operator_equal(want, spec.filter == CN_FILTER_NEAREST, made, why, sizeof why);
        else
            snprintf(why, sizeof why, "%.200s", cn_error(ctx));
        cn_free(crop);
        cn_free(made);
    } else if (in && want) {
        snprintf(why, sizeof why, "%.200s", cn_error(ctx));
    }
    case_result(t, "resize", name, ok, why);
}

static void check_operators(cn_ctx *ctx, const char *root, const json_t *operators, tally *t)
{
    const char *name;
    char path[CASE_PATH];
    cn_tensors *file = NULL;
    if (cn_json_need_str(ctx, operators, "file", &name) != CN_OK ||
        cn_format(ctx, path, sizeof path, "%s/%s", root, name) != CN_OK ||
        cn_tensors_open(ctx, path, &file) != CN_OK) {
        case_result(t, "resize", "operators", false, cn_error(ctx));
        return;
    }
    size_t i;
    const json_t *c;
    json_array_foreach(json_object_get(operators, "cases"), i, c) check_operator(ctx, file, c, t);
    cn_tensors_close(file);
}

void check_resize_folder(cn_ctx *ctx, const char *root, tally *t)
{
    json_t *json = case_list(ctx, root, "resize", t);
    size_t i;
    const json_t *c;
    json_array_foreach(json_object_get(json, "cases"), i, c)
    {
        cn_image *in = NULL, *made = NULL;
        const char *op = cn_json_str(c, "op", "?");
        cn_status s = case_picture(ctx, root, c, "input", &in);
        if (s == CN_OK && strcmp(op, "resize_image") == 0) {
            s = cn_image_resize_64(ctx, in, cn_json_int(c, "resolution", 0), &made);
        } else if (s == CN_OK && strcmp(op, "hwc3") == 0) {
            made = in; /* loading is what makes three channels */
            in = NULL;
        } else if (s == CN_OK) {
            s = cn_fail(ctx, CN_EFORMAT, "unknown op '%s'", op);
        }
        if (s == CN_OK)
            case_compare(ctx, root, c, "output", "resize", made, t);
        else
            case_result(t, "resize", cn_json_str(c, "output", "?"), false, cn_error(ctx));
        cn_image_destroy(in);
        cn_image_destroy(made);
    }
    if (json_object_get(json, "operators"))
        check_operators(ctx, root, json_object_get(json, "operators"), t);
    json_decref(json);
}

void check_scribble_folder(cn_ctx *ctx, const char *root, tally *t)
{
    json_t *json = case_list(ctx, root, "scribble", t);
    size_t i;
    const json_t *c;
    json_array_foreach(json, i, c)
    {
        cn_image *in = NULL, *map = NULL, *shown = NULL;
        cn_annotate_args scribble, invert;
        cn_annotate_defaults(cn_kind_find("scribble"), &scribble);
        cn_annotate_defaults(cn_kind_find("invert"), &invert);
        scribble.resolution = cn_json_int(c, "resolution", 0);
        bool mask = strcmp(cn_json_str(c, "kind", ""), "mask") == 0;
        cn_status s = cn_annotate_set(ctx, &scribble, "mask", mask ? "1" : "0");
        if (s == CN_OK) s = case_picture(ctx, root, c, "input", &in);
        if (s == CN_OK) s = cn_annotate(ctx, &scribble, in, &map);
        if (s == CN_OK) s = cn_annotate(ctx, &invert, map, &shown);
        if (s == CN_OK) {
            case_compare(ctx, root, c, "map", "scribble", map, t);
            if (json_object_get(c, "shown"))
                case_compare(ctx, root, c, "shown", "scribble", shown, t);
        } else {
            case_result(t, "scribble", cn_json_str(c, "map", "?"), false, cn_error(ctx));
        }
        cn_image_destroy(in);
        cn_image_destroy(map);
        cn_image_destroy(shown);
    }
    json_decref(json);
}

static void check_blur(cn_ctx *ctx, const cn_tensors *file, const json_t *c, tally *t)
{
    const char *name = cn_json_str(c, "output", "?");
    const cn_tensor_info *in = cn_tensors_find(file, cn_json_str(c, "input", "?"));
    const cn_tensor_info *want = cn_tensors_find(file, name);
    char why[256] = "tensors are missing or don't fit together";
    bool is_f32 = strcmp(cn_json_str(c, "type", ""), "f32") == 0;
    if (!in || !want || in->dtype != CN_U8 || want->dtype != (is_f32 ? CN_F32 : CN_U8) ||
        in->ndim != 3 || in->elements != want->elements) {
        case_result(t, "hed", name, false, why);
        return;
    }
    size_t n = (size_t)in->elements;
    int64_t h = in->shape[0], w = in->shape[1], channels = in->shape[2];
    double sigma = cn_json_number(c, "sigma", 0);
    float *floats = cn_alloc(ctx, n * sizeof *floats), *made = cn_alloc(ctx, n * sizeof *made);
    cn_status s = floats && made ? CN_OK : CN_ENOMEM;
    for (size_t i = 0; s == CN_OK && i < n; i++) floats[i] = ((const uint8_t *)in->data)[i];
    if (s == CN_OK)
        s = is_f32 ? cn_gaussian_blur_f32(ctx, floats, w, h, channels, sigma, made)
                   : cn_gaussian_blur_u8(ctx, in->data, w, h, channels, sigma, (uint8_t *)made);
    bool ok = s == CN_OK && operator_equal(want, false, made, why, sizeof why);
    if (s != CN_OK) snprintf(why, sizeof why, "%.200s", cn_error(ctx));
    case_result(t, "hed", name, ok, why);
    cn_free(floats);
    cn_free(made);
}

static void check_safe_step(const cn_tensors *file, const json_t *c, tally *t)
{
    const cn_tensor_info *in = cn_tensors_find(file, cn_json_str(c, "input", "?"));
    const cn_tensor_info *want = cn_tensors_find(file, cn_json_str(c, "output", "?"));
    bool ok = in && want && in->dtype == CN_F32 && want->dtype == CN_F32 &&
              in->elements == want->elements;
    for (int64_t i = 0; ok && i < in->elements; i++) {
        float x, y;
        memcpy(&x, (const char *)in->data + i * 4, sizeof x);
        memcpy(&y, (const char *)want->data + i * 4, sizeof y);
        ok = cn_safe_step(x) == y;
    }
    case_result(t, "hed", "safe_step", ok, "tensors are missing, or a value differs");
}

/* The strokes of the picture under `input`, after a linear resize when `resized` names the result
 * of that. */
static void check_strokes(cn_ctx *ctx, const char *root, const json_t *c, bool resized, tally *t)
{
    const char *output = resized ? "resized_output" : "output";
    cn_stroke_rules rules = {cn_json_number(c, "nms_threshold", 127),
                             cn_json_number(c, "nms_sigma", 3), cn_json_number(c, "blur_sigma", 3),
                             cn_json_number(c, "final_threshold", 4)};
    cn_image *in = NULL, *edges = NULL, *made = NULL;
    cn_status s = case_picture(ctx, root, c, "input", &in);
    if (s == CN_OK && resized) {
        s = cn_image_resize(ctx, in, side(c, "resized_to_hw", 1), side(c, "resized_to_hw", 0),
                            CN_FILTER_LINEAR, &edges);
        if (s == CN_OK) case_compare(ctx, root, c, "resized", "hed", edges, t);
    }
    if (s == CN_OK) s = cn_strokes(ctx, resized ? edges : in, &rules, &made);
    if (s == CN_OK)
        case_compare(ctx, root, c, output, "hed", made, t);
    else
        case_result(t, "hed", cn_json_str(c, output, "?"), false, cn_error(ctx));
    cn_image_destroy(in);
    cn_image_destroy(edges);
    cn_image_destroy(made);
}

void check_hed_folder(cn_ctx *ctx, const char *root, tally *t)
{
    json_t *json = case_list(ctx, root, "hed", t);
    size_t i, j;
    const json_t *c, *blur;
    json_array_foreach(json, i, c)
    {
        const char *variant = cn_json_str(c, "variant", "?");
        bool gaussian = strcmp(variant, "gaussian") == 0;
        cn_tensors *stages = NULL;
        if (check_hed_network(ctx, root, c, t)) continue;
        if (strcmp(variant, "fake_scribble") == 0) {
            check_strokes(ctx, root, c, false, t);
            if (json_object_get(c, "resized_output")) check_strokes(ctx, root, c, true, t);
        } else if (!gaussian && strcmp(variant, "safe_step") != 0) {
            case_result(t, "hed", variant, false, "no variant of this name");
        } else if (case_tensors(ctx, root, c, "stages", &stages) != CN_OK) {
            case_result(t, "hed", variant, false, cn_error(ctx));
        } else if (gaussian) {
            json_array_foreach(json_object_get(c, "cases"), j, blur)
                check_blur(ctx, stages, blur, t);
        } else {
            check_safe_step(stages, c, t);
        }
        cn_tensors_close(stages);
    }
    json_decref(json);
}

static void check_ade(cn_ctx *ctx, const char *root, const char *file, tally *t)
{
    char path[CASE_PATH];
    json_t *json = NULL;
    cn_image *labels = NULL, *made = NULL;
    cn_annotate_args args;
    cn_annotate_defaults(cn_kind_find("seg-ade"), &args);
    cn_status s = cn_format(ctx, path, sizeof path, "%s/%s", root, file);
    if (s == CN_OK) s = cn_json_load_file(ctx, path, &json);
    if (s == CN_OK) s = case_picture(ctx, root, json, "label", &labels);
    if (s == CN_OK) s = cn_annotate(ctx, &args, labels, &made);
    if (s == CN_OK)
        case_compare(ctx, root, json, "color", "seg", made, t);
    else
        case_result(t, "seg", file, false, cn_error(ctx));
    cn_image_destroy(labels);
    cn_image_destroy(made);
    json_decref(json);
}

/* The mask of one annotation against its stored runs and pixels. */
static cn_status check_coco_mask(cn_ctx *ctx, const cn_tensors *masks, const json_t *c, int64_t w,
                                 int64_t h, cn_coco_mask *out)
{
    char key[64];
    const char *packed = cn_json_str(c, "rle_compressed", "");
    const int64_t id = cn_json_int(c, "id", -1);
    cn_coco_mask stored = {0};
    CN_TRY(cn_format(ctx, key, sizeof key, "ann%lld", (long long)id));
    const cn_tensor_info *want = cn_tensors_find(masks, key);
    CN_TRY(cn_coco_mask_parse(ctx, json_object_get(c, "segmentation"), w, h, out));
    int32_t *columns = cn_alloc0(ctx, (size_t)(w * h) * sizeof *columns);
    json_t *rle = json_pack("{s:[II],s:s}", "size", (json_int_t)h, (json_int_t)w, "counts", packed);
    cn_status s = columns && rle ? CN_OK : CN_ENOMEM;
    if (s == CN_OK) s = cn_coco_mask_parse(ctx, rle, w, h, &stored);
    bool same = s == CN_OK && want && want->elements == w * h && stored.area == out->area &&
                out->area == cn_json_int(c, "mask_area", -1);
    if (same) {
        cn_coco_mask_paint(out, 1, columns);
        cn_coco_mask_paint(&stored, 2, columns); /* covers it exactly, the areas being equal */
        for (int64_t i = 0; i < w * h; i++)
            same &= columns[i % w * h + i / w] == 2 * (int)((const uint8_t *)want->data)[i];
    }
    if (s == CN_OK && !same) s = cn_fail(ctx, CN_EINTERNAL, "other pixels than the stored mask");
    cn_coco_mask_free(&stored);
    json_decref(rle);
    cn_free(columns);
    return s;
}

static cn_status check_coco_masks(cn_ctx *ctx, const char *root, const json_t *json, int64_t w,
                                  int64_t h, tally *t)
{
    cn_tensors *masks = NULL;
    size_t i;
    const json_t *c;
    CN_TRY(case_tensors(ctx, root, json, "masks", &masks));
    json_array_foreach(json_object_get(json, "annotations"), i, c)
    {
        cn_coco_mask mask = {0};
        char what[64];
        snprintf(what, sizeof what, "COCO annotation %lld", (long long)cn_json_int(c, "id", -1));
        bool ok = check_coco_mask(ctx, masks, c, w, h, &mask) == CN_OK;
        case_result(t, "seg", what, ok, cn_error(ctx));
        cn_coco_mask_free(&mask);
    }
    cn_tensors_close(masks);
    return CN_OK;
}

/* The file as a data set of one picture. */
static cn_status open_coco_case(cn_ctx *ctx, const json_t *json, cn_coco **out, char **text)
{
    size_t i;
    json_t *a, *all = json_deep_copy(json_object_get(json, "annotations"));
    json_array_foreach(all, i, a) json_object_set_new(a, "image_id", json_integer(1));
    json_t *set = json_pack(
        "{s:[{s:i,s:O,s:O,s:s}],s:o}", "images", "id", 1, "width", json_object_get(json, "width"),
        "height", json_object_get(json, "height"), "file_name", "a.png", "annotations", all);
    *text = set ? json_dumps(set, 0) : NULL;
    json_decref(set);
    if (!*text) return cn_fail(ctx, CN_EFORMAT, "width, height and annotations are expected");
    return cn_coco_open_memory(ctx, *text, strlen(*text), NULL, 0, out);
}

static cn_status check_coco_pictures(cn_ctx *ctx, const char *root, const json_t *json,
                                     const cn_coco *coco, tally *t)
{
    cn_image *made = NULL, *categories = NULL;
    int64_t w, h, differing = 0;
    int32_t *columns = NULL;
    CN_TRY(cn_coco_colors(ctx, coco, 0, true, &made));
    case_compare(ctx, root, json, "color", "seg", made, t);
    cn_image_destroy(made);
    CN_TRY(case_picture(ctx, root, json, "category_map", &categories));
    cn_status s = cn_coco_categories(ctx, coco, 0, true, &w, &h, &columns);
    for (int64_t i = 0; s == CN_OK && i < w * h; i++)
        differing += columns[i % w * h + i / w] != categories->rgb[3 * i];
    if (s == CN_OK)
        case_result(t, "seg", cn_json_str(json, "category_map", "?"), differing == 0,
                    "other categories");
    cn_image_destroy(categories);
    cn_free(columns);
    return s;
}

static void check_coco(cn_ctx *ctx, const char *root, const char *file, tally *t)
{
    char path[CASE_PATH], *text = NULL;
    json_t *json = NULL;
    cn_coco *coco = NULL;
    int64_t w = 0, h = 0;
    cn_status s = cn_format(ctx, path, sizeof path, "%s/%s", root, file);
    if (s == CN_OK) s = cn_json_load_file(ctx, path, &json);
    if (s == CN_OK) s = cn_json_need_int(ctx, json, "width", &w);
    if (s == CN_OK) s = cn_json_need_int(ctx, json, "height", &h);
    if (s == CN_OK) s = check_coco_masks(ctx, root, json, w, h, t);
    if (s == CN_OK) s = open_coco_case(ctx, json, &coco, &text);
    if (s == CN_OK) s = check_coco_pictures(ctx, root, json, coco, t);
    if (s != CN_OK) case_result(t, "seg", file, false, cn_error(ctx));
    cn_coco_close(coco);
    free(text);
    json_decref(json);
}

static void check_normals(cn_ctx *ctx, const char *root, const char *file, tally *t)
{
    char path[CASE_PATH];
    const char *name = NULL;
    json_t *json = NULL;
    cn_npy *normals = NULL;
    cn_image *made = NULL;
    cn_status s = cn_format(ctx, path, sizeof path, "%s/%s", root, file);
    if (s == CN_OK) s = cn_json_load_file(ctx, path, &json);
    if (s == CN_OK) s = cn_json_need_str(ctx, json, "normals", &name);
    if (s == CN_OK) s = cn_format(ctx, path, sizeof path, "%s/%s", root, name);
    if (s == CN_OK) s = cn_npy_load(ctx, path, &normals);
    if (s == CN_OK) s = cn_normals_colors(ctx, normals, NULL, &made);
    if (s == CN_OK)
        case_compare(ctx, root, json, "rgb", "seg", made, t);
    else
        case_result(t, "seg", file, false, cn_error(ctx));
    cn_image_destroy(made);
    cn_npy_free(normals);
    json_decref(json);
}

void check_seg_folder(cn_ctx *ctx, const char *root, tally *t)
{
    static const struct {
        const char *set;
        void (*check)(cn_ctx *ctx, const char *root, const char *file, tally *t);
    } sets[] = {{"ade", check_ade}, {"coco", check_coco}, {"normal", check_normals}};
    json_t *json = case_list(ctx, root, "seg", t);
    size_t i;
    const json_t *file, *list;
    const char *set;
    json_object_foreach(json, set, list) json_array_foreach(list, i, file)
    {
        const char *name = json_string_value(file);
        size_t k = 0;
        while (k < CN_COUNT(sets) && strcmp(sets[k].set, set) != 0) k++;
        if (k < CN_COUNT(sets) && name)
            sets[k].check(ctx, root, name, t);
        else
            case_result(t, "seg", set, false, "no such data set is known");
    }
    json_decref(json);
}
