/* SPDX-License-Identifier: Apache-2.0 */
/* openpose.c - see openpose.h: a picture through the networks; what the maps mean stands in
 * pose.h. */
#include "annotate/pose/openpose.h"

#include "annotate/kinds.h"
#include "image/bilinear.h"
#include "image/blur.h"

#include <string.h>

enum { FACE_SIDE = 384 };

/* --- the body --------------------------------------------------------------------------------- */

/* Runs one network on `picture` brought to the form that `in` says. */
static cn_status run(cn_session *s, cn_pose_version version, const cn_network *net,
                     const cn_pose_input *in, const cn_image *picture, cn_network_values *maps)
{
    cn_ctx *ctx = cn_session_ctx(s);
    float *x = cn_alloc_array(ctx, (size_t)(in->padded_h * in->padded_w), 3 * sizeof *x);
    cn_status status = x ? cn_pose_input_fill(ctx, version, in, picture, x) : CN_ENOMEM;
    if (status == CN_OK) status = cn_session_run(s, net, in->padded_h, in->padded_w, x, maps);
    cn_free(x);
    return status;
}

/* The network sees 184 rows of a picture, so very wide ones can't be shown to it. */
static cn_status check_size(cn_session *s, const cn_pose_input *input, int64_t H, int64_t W)
{
    enum {
        DECODING_BYTES = 2 * CN_POSE_PARTS * sizeof(double)
    }; /* smoothed along one axis and both */
    const size_t each = (CN_POSE_FIELDS + CN_POSE_HEATS) * sizeof(float) + DECODING_BYTES;
    const cn_status status =
        cn_image_check_size(cn_session_ctx(s), input->padded_w, input->padded_h);
    if (status != CN_OK)
        return cn_fail_prefix(cn_session_ctx(s), status, "%s with a picture of %lld x %lld px",
                              cn_openpose_body.name, (long long)W, (long long)H);
    return cn_session_check_memory(s, cn_openpose_body.name, H, W, (size_t)(H * W) * each);
}

static cn_status find_bodies(cn_session *s, cn_pose_version version, const cn_image *in,
                             cn_pose *pose)
{
    cn_ctx *ctx = cn_session_ctx(s);
    const int64_t H = in->height, W = in->width;
    const cn_pose_input input = cn_pose_body_input(version, H, W);
    cn_network_values maps;
    CN_TRY(check_size(s, &input, H, W));
    CN_TRY(run(s, version, &cn_openpose_body, &input, in, &maps));
    float *fields = cn_alloc_array(ctx, (size_t)(H * W), CN_POSE_FIELDS * sizeof *fields);
    float *heat = cn_alloc_array(ctx, (size_t)(H * W), CN_POSE_HEATS * sizeof *heat);
    cn_status status = fields && heat ? CN_OK : CN_ENOMEM;
    if (status == CN_OK)
        status = cn_pose_enlarge(ctx, version, &input, maps.data[0], CN_POSE_FIELDS, H, W, fields);
    if (status == CN_OK)
        status = cn_pose_enlarge(ctx, version, &input, maps.data[1], CN_POSE_HEATS, H, W, heat);
    if (status == CN_OK) status = cn_pose_decode(ctx, heat, fields, H, W, pose);
    cn_free(fields);
    cn_free(heat);
    return status;
}

/* --- parts of the picture --------------------------------------------------------------------- */

/* The box's part of the picture, less where it reaches beyond. */
static cn_status crop(cn_ctx *ctx, const cn_image *in, const cn_pose_box *box, cn_image **out)
{
    const int64_t w = CN_MIN(box->side, in->width - box->x),
                  h = CN_MIN(box->side, in->height - box->y);
    CN_TRY(cn_image_create(ctx, w, h, out));
    for (int64_t y = 0; y < h; y++)
        memcpy((*out)->rgb + 3 * y * w, in->rgb + 3 * ((box->y + y) * in->width + box->x),
               (size_t)(3 * w));
    return CN_OK;
}

/* A point of a crop as one of the whole picture; a coordinate of 0 counts as not found. */
static cn_pose_point whole(cn_pose_version version, cn_pose_point p, const cn_pose_box *box,
                           const cn_image *in)
{
    if (version == CN_POSE_V10)
        return (cn_pose_point){p.x > 0 ? p.x + (double)box->x : 0,
                               p.y > 0 ? p.y + (double)box->y : 0};
    const float x = p.x > 0 ? (float)p.x + (float)box->x : -1;
    const float y = p.y > 0 ? (float)p.y + (float)box->y : -1;
    return (cn_pose_point){(double)(x / (float)in->width), (double)(y / (float)in->height)};
}

/* --- hands ------------------------------------------------------------------------------------ */

/* Adds a quarter of one scale's maps at the size H x W to `mean`; work holds as many floats. */
static cn_status add_scale(cn_session *s, cn_pose_version version, const cn_image *hand, int scale,
                           int64_t H, int64_t W, float *work, double *mean)
{
    const cn_pose_input input = cn_pose_hand_input(version, hand->height, hand->width, scale);
    cn_network_values maps;
    CN_TRY(run(s, version, &cn_openpose_hand, &input, hand, &maps));
    return cn_pose_hand_add(cn_session_ctx(s), version, &input, maps.data[0], H, W, work, mean);
}

/* The points of one hand in pixels of `hand`. */
static cn_status find_hand(cn_session *s, cn_pose_version version, const cn_image *hand,
                           cn_pose_point points[CN_POSE_HAND_POINTS])
{
    cn_ctx *ctx = cn_session_ctx(s);
    const int64_t H = version == CN_POSE_V10 ? hand->height : CN_POSE_HAND_SIDE;
    const int64_t W = version == CN_POSE_V10 ? hand->width : CN_POSE_HAND_SIDE;
    const size_t n = (size_t)(H * W) * CN_POSE_HAND_MAPS;
    float *work = cn_alloc_array(ctx, n, sizeof *work);
    double *mean = cn_alloc_array(ctx, n, sizeof *mean);
    cn_image *blurred = NULL;
    cn_status status = work && mean ? CN_OK : CN_ENOMEM;
    if (status == CN_OK && version == CN_POSE_V11) {
        status = cn_image_create(ctx, hand->width, hand->height, &blurred);
        if (status == CN_OK)
            status = cn_gaussian_blur_u8(ctx, hand->rgb, hand->width, hand->height, 3, 0.8,
                                         blurred->rgb);
    }
    if (status == CN_OK) memset(mean, 0, n * sizeof *mean);
    for (int i = 0; status == CN_OK && i < CN_POSE_HAND_SCALES; i++)
        status = add_scale(s, version, blurred ? blurred : hand, i, H, W, work, mean);
    if (status == CN_OK)
        status = cn_pose_hand_points(ctx, mean, H, W, hand->height, hand->width, points);
    cn_image_destroy(blurred);
    cn_free(work);
    cn_free(mean);
    return status;
}

static cn_status find_hands(cn_session *s, cn_pose_version version, const cn_image *in,
                            const cn_pose_box *boxes, int64_t n, cn_pose_hand *hands)
{
    const cn_network *net = NULL;
    if (n) CN_TRY(cn_session_need(s, CN_OPENPOSE_HAND, &net));
    for (int64_t i = 0; i < n; i++) {
        cn_image *hand = NULL;
        CN_TRY(crop(cn_session_ctx(s), in, &boxes[i], &hand));
        cn_status status = find_hand(s, version, hand, hands[i].points);
        cn_image_destroy(hand);
        if (status != CN_OK) return status;
        for (int k = 0; k < CN_POSE_HAND_POINTS; k++)
            hands[i].points[k] = whole(version, hands[i].points[k], &boxes[i], in);
    }
    return CN_OK;
}

/* --- faces ------------------------------------------------------------------------------------ */

static cn_status find_face(cn_session *s, const cn_image *face, cn_pose_face *out)
{
    cn_ctx *ctx = cn_session_ctx(s);
    const cn_pose_input input = {
        .h = FACE_SIDE, .w = FACE_SIDE, .padded_h = FACE_SIDE, .padded_w = FACE_SIDE};
    const int64_t H = face->height, W = face->width, side = FACE_SIDE / CN_POSE_STRIDE,
                  row = side * CN_POSE_FACE_MAPS;
    cn_network_values maps;
    CN_TRY(run(s, CN_POSE_V11, &cn_openpose_face, &input, face, &maps));
    float *large = cn_alloc_array(ctx, (size_t)(H * W), CN_POSE_FACE_MAPS * sizeof *large);
    if (!large) return CN_ENOMEM;
    for (int64_t y = 0; y < H; y++) {
        const cn_tap t = cn_bilinear_tap(y, side, H, true);
        cn_bilinear_row(maps.data[0] + t.a * row, maps.data[0] + t.b * row, t.t, side,
                        CN_POSE_FACE_MAPS, W, true, large + y * W * CN_POSE_FACE_MAPS);
    }
    out->n = cn_pose_face_points(large, H, W, out->points);
    cn_free(large);
    return CN_OK;
}

static cn_status find_faces(cn_session *s, const cn_image *in, const cn_pose_box *boxes, int64_t n,
                            cn_pose_face *faces)
{
    const cn_network *net = NULL;
    if (n) CN_TRY(cn_session_need(s, CN_OPENPOSE_FACE, &net));
    for (int64_t i = 0; i < n; i++) {
        cn_image *face = NULL;
        CN_TRY(crop(cn_session_ctx(s), in, &boxes[i], &face));
        cn_status status = find_face(s, face, &faces[i]);
        cn_image_destroy(face);
        if (status != CN_OK) return status;
        for (int k = 0; k < faces[i].n; k++)
            faces[i].points[k] = whole(CN_POSE_V11, faces[i].points[k], &boxes[i], in);
    }
    return CN_OK;
}

/* --- all of it -------------------------------------------------------------------------------- */

typedef struct drawn_parts {
    cn_pose_version version;
    bool body, hands, faces;
} drawn_parts;

/* What is asked for besides the body, then the drawing. */
static cn_status draw(cn_session *s, const cn_image *in, const drawn_parts *o, cn_pose *pose,
                      cn_image **out)
{
    cn_ctx *ctx = cn_session_ctx(s);
    const size_t people = (size_t)CN_MAX(pose->n_people, 1);
    cn_pose_box *boxes = cn_alloc_array(ctx, people, 2 * sizeof *boxes);
    cn_pose_hand *hands = cn_alloc_array(ctx, people, 2 * sizeof *hands);
    cn_pose_face *faces = cn_alloc_array(ctx, people, sizeof *faces);
    cn_pose_drawing d = {.version = o->version, .pose = pose, .hands = hands, .faces = faces};
    cn_status status = boxes && hands && faces ? CN_OK : CN_ENOMEM;
    if (status == CN_OK && o->hands) {
        d.n_hands = cn_pose_hand_boxes(pose, boxes);
        status = find_hands(s, o->version, in, boxes, d.n_hands, hands);
    }
    if (status == CN_OK && o->faces) {
        d.n_faces = cn_pose_face_boxes(pose, boxes);
        status = find_faces(s, in, boxes, d.n_faces, faces);
    }
    if (!o->body) pose->n_people = 0;
    if (status == CN_OK) status = cn_pose_draw(ctx, &d, out);
    cn_free(boxes);
    cn_free(hands);
    cn_free(faces);
    return status;
}

static const cn_kind_option options[] = {
    {"body", "draw the body", CN_OPTION_BOOL, 0, 1, 1},
    {"hand", "find and draw hands", CN_OPTION_BOOL, 0, 1, 0},
    {"face", "find and draw faces", CN_OPTION_BOOL, 0, 1, 0},
    {"v10", "as ControlNet 1.0 drew for its model; without: as 1.1", CN_OPTION_BOOL, 0, 1, 0},
};

static cn_status annotate(cn_session *s, const cn_image *in, cn_image **out)
{
    const double *v = cn_session_args(s)->values;
    const drawn_parts o = {.version = v[3] != 0 ? CN_POSE_V10 : CN_POSE_V11,
                           .body = v[0] != 0,
                           .hands = v[1] != 0,
                           .faces = v[2] != 0};
    if (o.version == CN_POSE_V10 && o.faces)
        return cn_fail(cn_session_ctx(s), CN_EINVAL,
                       "openpose: the drawings of ControlNet 1.0 (v10) have no faces");
    cn_pose pose = {0};
    CN_TRY(find_bodies(s, o.version, in, &pose));
    cn_status status = draw(s, in, &o, &pose, out);
    cn_pose_free(&pose);
    return status;
}

/* A body's left and right limbs have colours of their own; a hand's are its fingers', whichever
 * hand it is, and a face is white points. */
static cn_mirror mirror(const cn_annotate_args *args)
{
    return args->values[0] != 0 ? CN_MIRROR_OFF : CN_MIRROR_PLAIN;
}

const cn_kind cn_kind_openpose = {.name = "openpose",
                                  .title = "people as stick figures (OpenPose)",
                                  .aliases = {{"openpose_hand", "openpose hand"},
                                              {"openpose_face", "openpose face"},
                                              {"openpose_faceonly", "openpose body=0 face"},
                                              {"openpose_full", "openpose hand face"},
                                              {"pose", "openpose"}},
                                  CN_KIND_OPTIONS(options),
                                  .run = annotate,
                                  .networks = {{&cn_openpose_body, CN_OPENPOSE_BODY},
                                               {&cn_openpose_hand, CN_OPENPOSE_HAND},
                                               {&cn_openpose_face, CN_OPENPOSE_FACE}},
                                  .map_filter = CN_FILTER_NEAREST,
                                  .detect_px = 512,
                                  .measure = CN_MEASURE_POSE,
                                  .mirror_by = mirror};
