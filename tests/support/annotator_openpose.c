/* SPDX-License-Identifier: Apache-2.0 */
/* annotator_openpose.c - the cases of openpose: the three networks, people from stored maps, boxes,
 * drawings, hands. */
#include "annotator_check.h"

#include "annotate/pose/openpose.h"
#include "values.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define NET_TOLERANCE   1e-5
#define SCORE_TOLERANCE 1e-4

/* --- reading ---------------------------------------------------------------------------------- */

static double at(const json_t *list, size_t i)
{
    return json_number_value(json_array_get(list, i));
}

/* Tensor `key`, [C,h,w] or [1,C,h,w], as [h,w,C]; free it. NULL when it is missing. */
static float *read_maps(cn_ctx *ctx, const cn_tensors *file, const char *key, int64_t size[3])
{
    const cn_tensor_info *info = cn_tensors_find(file, key);
    if (!info || info->ndim < 3) return NULL;
    for (int i = 0; i < 3; i++) size[i] = info->shape[info->ndim - 3 + i];
    if (size[0] * size[1] * size[2] != info->elements) return NULL;
    float *nchw = test_alloc((size_t)info->elements * sizeof *nchw);
    float *out = test_alloc((size_t)info->elements * sizeof *out);
    const bool ok = cn_tensors_read(ctx, file, info, nchw) == CN_OK;
    test_nchw_to_nhwc(nchw, out, 1, size[0], size[1], size[2]);
    free(nchw);
    if (ok) return out;
    free(out);
    return NULL;
}

/* --- networks --------------------------------------------------------------------------------- */

/* Outputs of one network against the tensors `keys` of the file that has its input. */
static void check_network(cn_ctx *ctx, const char *root, const json_t *c, const char *manifest,
                          const char *file, const cn_network *net, const char *const *keys,
                          tally *t)
{
    const json_t *name = json_object_get(c, manifest);
    if (!name || !json_object_get(c, file)) return;
    json_t *entry = json_pack("{s:O}", "manifest", name);
    case_weights w = {0};
    case_net n = {0};
    cn_tensors *raw = NULL;
    int64_t size[3];
    float *x = NULL;
    cn_status s = entry ? case_weights_open(ctx, root, entry, &w) : CN_ENOMEM;
    if (s == CN_OK) s = case_tensors(ctx, root, c, file, &raw);
    if (s == CN_OK && !(x = read_maps(ctx, raw, "input", size)))
        s = cn_fail(ctx, CN_EFORMAT, "no input [1,3,H,W]");
    if (s == CN_OK) s = case_net_open(ctx, net, w.path, size[1], size[2], NULL, &n);
    if (s == CN_OK) s = case_net_run(&n, x);
    if (s != CN_OK) case_result(t, "openpose", manifest, false, cn_error(ctx));
    for (int i = 0; s == CN_OK && keys[i]; i++)
        case_net_expect(&n, n.out[i], raw, keys[i], NET_TOLERANCE, false, "openpose", keys[i], t);
    free(x);
    case_net_close(&n);
    cn_tensors_close(raw);
    case_weights_close(&w);
    json_decref(entry);
}

static void check_networks(cn_ctx *ctx, const char *root, const json_t *c, tally *t)
{
    static const char *const body[] = {"paf", "heat", NULL}, *const hand[] = {"hand", NULL},
                             *const face[] = {"heat", NULL};
    check_network(ctx, root, c, "body", "raw", &cn_openpose_body, body, t);
    check_network(ctx, root, c, "hand", "raw", &cn_openpose_hand, hand, t);
    check_network(ctx, root, c, "face", "face_raw", &cn_openpose_face, face, t);
}

/* --- people ----------------------------------------------------------------------------------- */

/* The stored network maps as those of the whole picture, decoded. */
static cn_status decode(cn_ctx *ctx, const char *root, const json_t *scene, cn_pose_version version,
                        cn_pose *pose)
{
    const json_t *hw = json_object_get(scene, "image_hw");
    const int64_t H = json_integer_value(json_array_get(hw, 0)),
                  W = json_integer_value(json_array_get(hw, 1));
    const cn_pose_input in = cn_pose_body_input(version, CN_MAX(H, 1), W);
    cn_tensors *file = NULL;
    int64_t a[3] = {0}, b[3] = {0};
    CN_TRY(case_tensors(ctx, root, scene, "maps", &file));
    float *paf = read_maps(ctx, file, "paf", a), *heat = read_maps(ctx, file, "heat", b);
    cn_tensors_close(file);
    cn_status s = CN_OK;
    if (!paf || !heat || a[0] != CN_POSE_FIELDS || b[0] != CN_POSE_HEATS ||
        a[1] * CN_POSE_STRIDE != in.padded_h || a[2] * CN_POSE_STRIDE != in.padded_w ||
        b[1] != a[1] || b[2] != a[2])
        s = cn_fail(ctx, CN_EFORMAT, "maps that don't fit the picture");
    float *fields = test_alloc((size_t)(H * W + 1) * CN_POSE_FIELDS * sizeof *fields);
    float *parts = test_alloc((size_t)(H * W + 1) * CN_POSE_HEATS * sizeof *parts);
    if (s == CN_OK) s = cn_pose_enlarge(ctx, version, &in, paf, CN_POSE_FIELDS, H, W, fields);
    if (s == CN_OK) s = cn_pose_enlarge(ctx, version, &in, heat, CN_POSE_HEATS, H, W, parts);
    if (s == CN_OK) s = cn_pose_decode(ctx, parts, fields, H, W, pose);
    free(paf);
    free(heat);
    free(fields);
    free(parts);
    return s;
}

static bool same_peaks(const json_t *list, const cn_pose *pose)
{
    if ((int64_t)json_array_size(list) != pose->n_peaks) return false;
    for (int64_t i = 0; i < pose->n_peaks; i++) {
        const json_t *p = json_array_get(list, (size_t)i);
        if (at(p, 0) != (double)pose->peaks[i].x || at(p, 1) != (double)pose->peaks[i].y ||
            fabs(at(p, 2) - pose->peaks[i].score) > SCORE_TOLERANCE || at(p, 3) != (double)i)
            return false;
    }
    return true;
}

static bool same_people(const json_t *list, const cn_pose *pose)
{
    if ((int64_t)json_array_size(list) != pose->n_people) return false;
    for (int64_t i = 0; i < pose->n_people; i++) {
        const json_t *p = json_array_get(list, (size_t)i);
        const cn_pose_person *q = &pose->people[i];
        for (size_t k = 0; k < CN_POSE_PARTS; k++)
            if (at(p, k) != (double)q->part[k]) return false;
        if (fabs(at(p, CN_POSE_PARTS) - q->score) > SCORE_TOLERANCE ||
            at(p, CN_POSE_PARTS + 1) != (double)q->count)
            return false;
    }
    return true;
}

static bool same_boxes(const json_t *list, const cn_pose_box *boxes, int64_t n, bool hands)
{
    if ((int64_t)json_array_size(list) != n) return false;
    for (int64_t i = 0; i < n; i++) {
        const json_t *b = json_array_get(list, (size_t)i);
        if (at(b, 0) != (double)boxes[i].x || at(b, 1) != (double)boxes[i].y ||
            at(b, 2) != (double)boxes[i].side ||
            (hands && json_is_true(json_array_get(b, 3)) != boxes[i].left))
            return false;
    }
    return true;
}

static void check_boxes(const json_t *scene, const char *name, const cn_pose *pose, tally *t)
{
    cn_pose_box *boxes = test_alloc((size_t)(2 * pose->n_people + 1) * sizeof *boxes);
    const json_t *hands = json_object_get(scene, "hand_boxes"),
                 *faces = json_object_get(scene, "face_boxes");
    if (hands)
        case_result(t, "openpose", name,
                    same_boxes(hands, boxes, cn_pose_hand_boxes(pose, boxes), true),
                    "other boxes of hands");
    if (faces)
        case_result(t, "openpose", name,
                    same_boxes(faces, boxes, cn_pose_face_boxes(pose, boxes), false),
                    "other boxes of faces");
    free(boxes);
}

/* The people that the scene stores, so that drawing is checked by itself. free peaks and people. */
static cn_pose stored_pose(const json_t *scene)
{
    const json_t *peaks = json_object_get(scene, "candidate"),
                 *rows = json_object_get(scene, "subset"), *hw = json_object_get(scene, "image_hw");
    cn_pose p = {.height = json_integer_value(json_array_get(hw, 0)),
                 .width = json_integer_value(json_array_get(hw, 1)),
                 .n_peaks = (int64_t)json_array_size(peaks),
                 .n_people = (int64_t)json_array_size(rows)};
    p.peaks = test_alloc((size_t)(p.n_peaks + 1) * sizeof *p.peaks);
    p.people = test_alloc((size_t)(p.n_people + 1) * sizeof *p.people);
    for (int64_t i = 0; i < p.n_peaks; i++) {
        const json_t *q = json_array_get(peaks, (size_t)i);
        p.peaks[i] = (cn_pose_peak){(int64_t)at(q, 0), (int64_t)at(q, 1), at(q, 2)};
    }
    for (int64_t i = 0; i < p.n_people; i++) {
        const json_t *q = json_array_get(rows, (size_t)i);
        for (size_t k = 0; k < CN_POSE_PARTS; k++) p.people[i].part[k] = (int64_t)at(q, k);
        p.people[i].score = at(q, CN_POSE_PARTS);
        p.people[i].count = (int64_t)at(q, CN_POSE_PARTS + 1);
    }
    return p;
}

static int read_points(const json_t *list, cn_pose_point *points, int room)
{
    const int n = CN_MIN((int)json_array_size(list), room);
    for (int i = 0; i < n; i++) {
        const json_t *p = json_array_get(list, (size_t)i);
        points[i] = (cn_pose_point){at(p, 0), at(p, 1)};
    }
    return n;
}

/* The picture under `key` of the stored people with the given hands and faces (arrays of points, or
 * NULL). */
static void check_drawing(cn_ctx *ctx, const char *root, const json_t *scene, const json_t *c,
                          const char *key, cn_pose_version version, const json_t *hands,
                          const json_t *faces, tally *t)
{
    cn_pose pose = stored_pose(scene);
    const size_t n = json_array_size(hands), m = json_array_size(faces);
    cn_pose_hand *h = test_alloc((n + 1) * sizeof *h);
    cn_pose_face *f = test_alloc((m + 1) * sizeof *f);
    memset(h, 0, (n + 1) * sizeof *h);
    for (size_t i = 0; i < n; i++)
        read_points(json_array_get(hands, i), h[i].points, CN_POSE_HAND_POINTS);
    for (size_t i = 0; i < m; i++)
        f[i].n = read_points(json_array_get(faces, i), f[i].points, CN_POSE_FACE_MAPS);
    const cn_pose_drawing d = {version, &pose, h, (int64_t)n, f, (int64_t)m, 0};
    cn_image *made = NULL;
    if (cn_pose_draw(ctx, &d, &made) == CN_OK)
        case_compare(ctx, root, c, key, "openpose", made, t);
    else
        case_result(t, "openpose", key, false, cn_error(ctx));
    cn_image_destroy(made);
    free(h);
    free(f);
    free(pose.peaks);
    free(pose.people);
}

static void check_scene(cn_ctx *ctx, const char *root, const json_t *c, cn_pose_version version,
                        tally *t)
{
    const bool v11 = version == CN_POSE_V11;
    const char *key = v11 ? "v11" : "v10", *name = cn_json_str(c, key, "?");
    json_t *scene = NULL;
    cn_pose pose = {0};
    if (!json_object_get(c, key)) return;
    cn_status s = case_json(ctx, root, c, key, &scene);
    if (s == CN_OK) s = decode(ctx, root, scene, version, &pose);
    if (s == CN_OK) {
        const json_t *extra = json_object_get(scene, "pose");
        case_result(t, "openpose", name, same_peaks(json_object_get(scene, "candidate"), &pose),
                    "other key points");
        case_result(t, "openpose", name, same_people(json_object_get(scene, "subset"), &pose),
                    "other people");
        check_boxes(scene, name, &pose, t);
        check_drawing(ctx, root, scene, scene, v11 ? "pose_v11" : "pose_v10", version,
                      json_object_get(extra, "hands"), json_object_get(extra, "faces"), t);
    } else {
        case_result(t, "openpose", name, false, cn_error(ctx));
    }
    cn_pose_free(&pose);
    json_decref(scene);
}

/* --- hands ------------------------------------------------------------------------------------ */

/* The mean of the scales' maps at the size height x width. */
static cn_status hand_mean(cn_ctx *ctx, cn_pose_version version, const cn_tensors *file,
                           int64_t crop_h, int64_t crop_w, int64_t height, int64_t width,
                           double *mean)
{
    const size_t n = (size_t)(height * width) * CN_POSE_HAND_MAPS;
    float *work = test_alloc(n * sizeof *work);
    cn_status s = CN_OK;
    memset(mean, 0, n * sizeof *mean);
    for (int i = 0; s == CN_OK && i < CN_POSE_HAND_SCALES; i++) {
        char key[16];
        int64_t size[3];
        snprintf(key, sizeof key, "scale%d", i);
        const cn_pose_input in = cn_pose_hand_input(version, crop_h, crop_w, i);
        float *maps = read_maps(ctx, file, key, size);
        if (maps && size[0] == CN_POSE_HAND_MAPS && size[1] * CN_POSE_STRIDE == in.padded_h &&
            size[2] * CN_POSE_STRIDE == in.padded_w)
            s = cn_pose_hand_add(ctx, version, &in, maps, height, width, work, mean);
        else
            s = cn_fail(ctx, CN_EFORMAT, "%s: maps that don't fit the hand", key);
        free(maps);
    }
    free(work);
    return s;
}

static void check_hand_points(cn_ctx *ctx, const json_t *hand, const cn_tensors *file,
                              cn_pose_version version, const char *key, tally *t)
{
    const json_t *want = json_object_get(hand, key), *hw = json_object_get(hand, "crop_hw");
    if (!want) return;
    const int64_t h = json_integer_value(json_array_get(hw, 0)),
                  w = json_integer_value(json_array_get(hw, 1));
    const int64_t H = version == CN_POSE_V10 ? h : CN_POSE_HAND_SIDE,
                  W = version == CN_POSE_V10 ? w : CN_POSE_HAND_SIDE;
    double *mean = test_alloc((size_t)(H * W + 1) * CN_POSE_HAND_MAPS * sizeof *mean);
    cn_pose_point points[CN_POSE_HAND_POINTS];
    cn_status s = hand_mean(ctx, version, file, h, w, H, W, mean);
    if (s == CN_OK) s = cn_pose_hand_points(ctx, mean, H, W, h, w, points);
    bool ok = s == CN_OK && json_array_size(want) == CN_POSE_HAND_POINTS;
    for (size_t i = 0; ok && i < CN_POSE_HAND_POINTS; i++)
        ok = at(json_array_get(want, i), 0) == points[i].x &&
             at(json_array_get(want, i), 1) == points[i].y;
    case_result(t, "openpose", key, ok, s == CN_OK ? "other points" : cn_error(ctx));
    free(mean);
}

static void check_hand(cn_ctx *ctx, const char *root, const json_t *c, tally *t)
{
    json_t *hand = NULL, *scene = NULL;
    cn_tensors *file = NULL;
    cn_status s = case_json(ctx, root, c, "hand", &hand);
    if (s == CN_OK) s = case_tensors(ctx, root, hand, "maps", &file);
    if (s == CN_OK) {
        check_hand_points(ctx, hand, file, CN_POSE_V10, "peaks_xy", t);
        check_hand_points(ctx, hand, file, CN_POSE_V11, "peaks_xy_v11", t);
        if (json_object_get(hand, "scene")) s = case_json(ctx, root, hand, "scene", &scene);
    }
    if (scene)
        check_drawing(ctx, root, scene, hand, "pose_v10_hands", CN_POSE_V10,
                      json_object_get(hand, "drawn_xy"), NULL, t);
    if (s != CN_OK) case_result(t, "openpose", "hand", false, cn_error(ctx));
    cn_tensors_close(file);
    json_decref(scene);
    json_decref(hand);
}

void check_openpose_folder(cn_ctx *ctx, const char *root, tally *t)
{
    json_t *json = case_list(ctx, root, "openpose", t);
    size_t i;
    const json_t *scene;
    json_array_foreach(json_object_get(json, "scenes"), i, scene)
    {
        check_scene(ctx, root, scene, CN_POSE_V10, t);
        check_scene(ctx, root, scene, CN_POSE_V11, t);
    }
    if (json_object_get(json, "hand")) check_hand(ctx, root, json, t);
    if (json_object_get(json, "networks"))
        check_networks(ctx, root, json_object_get(json, "networks"), t);
    json_decref(json);
}
