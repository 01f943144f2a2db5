/* SPDX-License-Identifier: Apache-2.0 */
/* pose.h - OpenPose's key points: from the networks' maps to people, hands and faces, and their
 * drawing.
 *
 * Follows the two published forms, whose conditions differ: that of ControlNet 1.0 and that of 1.1
 * (cn_pose_version). Maps are H x W x C, values about 0 to 1; H and W are the picture's height and
 * width in pixels. Body parts are numbered as in COCO's order with a neck: 0 nose, 1 neck, 2-4
 * right shoulder, elbow, wrist, 5-7 left, 8-10 right hip, knee, ankle, 11-13 left, 14 and 15 eyes,
 * 16 and 17 ears. Source: Cao et al., "Realtime Multi-Person 2D Pose Estimation using Part Affinity
 * Fields".
 */
#ifndef CN_ANNOTATE_POSE_POSE_H
#define CN_ANNOTATE_POSE_POSE_H

#include "base/base.h"
#include "image/image.h"

typedef enum cn_pose_version { CN_POSE_V10, CN_POSE_V11 } cn_pose_version;

enum {
    CN_POSE_PARTS = 18,
    CN_POSE_HEATS = 19, /* a map per part, and one of the background */
    CN_POSE_FIELDS = 38,
    CN_POSE_HAND_POINTS = 21,
    CN_POSE_HAND_MAPS = 22,
    CN_POSE_HAND_SCALES = 4,
    CN_POSE_HAND_SIDE = 128, /* of a hand's maps in version 1.1; in 1.0 they have the hand's size */
    CN_POSE_FACE_MAPS = 71,
    CN_POSE_STRIDE = 8, /* a network's maps have an eighth of its input's size */
};

/* --- pose_maps.c: pictures to networks' inputs, and their maps back to a picture's size ------- */

/* What a picture becomes before it enters a network: resized to h x w, then padded at the bottom
 * and right to multiples of 8. */
typedef struct cn_pose_input {
    int64_t h, w;               /* without padding */
    int64_t padded_h, padded_w; /* multiples of CN_POSE_STRIDE */
    double factor;              /* cv2's fx = fy, or 0: h and w were given */
} cn_pose_input;

cn_pose_input cn_pose_body_input(cn_pose_version version, int64_t height, int64_t width);
/* Of one of the hand network's four scales. */
cn_pose_input cn_pose_hand_input(cn_pose_version version, int64_t height, int64_t width, int scale);
/* out: padded_h x padded_w x 3 floats: blue, green, red, each value/256 - 0.5, the padding 0. */
cn_status cn_pose_input_fill(cn_ctx *ctx, cn_pose_version version, const cn_pose_input *in,
                             const cn_image *picture, float *out) CN_CHECKED;
/* maps: padded_h/8 x padded_w/8 x C, out: height x width x C. */
cn_status cn_pose_enlarge(cn_ctx *ctx, cn_pose_version version, const cn_pose_input *in,
                          const float *maps, int64_t C, int64_t height, int64_t width,
                          float *out) CN_CHECKED;
/* Adds a quarter of one scale's maps (cn_pose_hand_input) at the size height x width to mean; work:
 * as many floats as mean has doubles, height x width x CN_POSE_HAND_MAPS. */
cn_status cn_pose_hand_add(cn_ctx *ctx, cn_pose_version version, const cn_pose_input *in,
                           const float *maps, int64_t height, int64_t width, float *work,
                           double *mean) CN_CHECKED;
/* Gaussian of deviation 3 pixels of a height x width plane, borders mirrored with the edge
 * repeated, in place. rows: a second plane, for what is in between. */
void cn_pose_smooth(double *plane, int64_t height, int64_t width, double *rows);

/* --- pose_body.c: key points and who they belong to ------------------------------------------- */

typedef struct cn_pose_peak {
    int64_t x, y;
    double score;
} cn_pose_peak;

typedef struct cn_pose_person {
    int64_t part[CN_POSE_PARTS]; /* an index into the peaks, -1: not found */
    double score;
    int64_t count; /* as the reference counts: limbs joined, not always the parts that are set */
} cn_pose_person;

typedef struct cn_pose {
    int64_t height, width;
    cn_pose_peak *peaks; /* part by part, each from the top, then from the left */
    int64_t n_peaks;
    cn_pose_person *people;
    int64_t n_people;
} cn_pose;

/* heat: height x width x CN_POSE_HEATS, fields: height x width x CN_POSE_FIELDS. *out: cn_pose_free
 * it. */
cn_status cn_pose_decode(cn_ctx *ctx, const float *heat, const float *fields, int64_t height,
                         int64_t width, cn_pose *out) CN_CHECKED;
void cn_pose_free(cn_pose *pose);

/* --- pose_parts.c: hands and faces ------------------------------------------------------------ */

/* A square; a face's may reach beyond the picture. */
typedef struct cn_pose_box {
    int64_t x, y, side;
    bool left; /* a left hand */
} cn_pose_box;

/* Two boxes a person at most: left, right. boxes: 2 * n_people of them. Returns how many there
 * are. */
int64_t cn_pose_hand_boxes(const cn_pose *pose, cn_pose_box *boxes);
/* boxes: n_people of them. */
int64_t cn_pose_face_boxes(const cn_pose *pose, cn_pose_box *boxes);

typedef struct cn_pose_point {
    double x, y;
} cn_pose_point;

/* mean: height x width x CN_POSE_HAND_MAPS, the mean of the four scales' maps. points in whole
 * pixels of the hand's picture, which has hand_h x hand_w of them; 0,0 for one that isn't found. */
cn_status cn_pose_hand_points(cn_ctx *ctx, const double *mean, int64_t height, int64_t width,
                              int64_t hand_h, int64_t hand_w,
                              cn_pose_point points[CN_POSE_HAND_POINTS]) CN_CHECKED;
/* maps: height x width x CN_POSE_FACE_MAPS. Returns how many points were found. */
int cn_pose_face_points(const float *maps, int64_t height, int64_t width,
                        cn_pose_point points[CN_POSE_FACE_MAPS]);

/* --- pose_raster.c ---------------------------------------------------------------------------- */

/* Points of the whole picture: pixels in version 1.0, where a missing one is 0,0; in version 1.1
 * parts of the picture's width and height, where a missing one is below 0. */
typedef struct cn_pose_hand {
    cn_pose_point points[CN_POSE_HAND_POINTS];
} cn_pose_hand;

typedef struct cn_pose_face {
    cn_pose_point points[CN_POSE_FACE_MAPS];
    int n;
} cn_pose_face;

typedef struct cn_pose_drawing {
    cn_pose_version version;
    const cn_pose *pose;
    const cn_pose_hand *hands;
    int64_t n_hands;
    const cn_pose_face *faces;
    int64_t n_faces;
    int64_t radius; /* of parts' disks and limbs, px; 0: 4, as the published ControlNets' */
} cn_pose_drawing;

/* RGB of each part's disk; limbs are drawn in darker ones. */
extern const uint8_t cn_pose_colors[CN_POSE_PARTS][3];
/* On black, of the pose's size. */
cn_status cn_pose_draw(cn_ctx *ctx, const cn_pose_drawing *drawing, cn_image **out) CN_CHECKED;

#endif
