/* SPDX-License-Identifier: Apache-2.0 */
/* agreement.h - how well a generated picture follows its condition, in numbers: the picture is
 * annotated again, and what is found is compared with what was wanted. A kind's row names its
 * measure (annotate.h); here is what each computes.
 */
#ifndef CN_EVAL_AGREEMENT_H
#define CN_EVAL_AGREEMENT_H

#include "annotate/annotate.h"

/* "edge F1"; of another measure than CN_MEASURE_NONE. */
const char *cn_measure_name(cn_measure which);
/* Compares two conditions of one size. CN_EINVAL for other sizes and CN_MEASURE_NONE. */
cn_status cn_measure_run(cn_ctx *ctx, cn_measure which, const cn_image *found,
                         const cn_image *wanted, cn_agreement *out) CN_CHECKED;

/* F1 of two edge maps of height x width bytes, nonzero = edge: `found` (detected in the generated
 * picture) against `wanted` (the condition). An edge pixel counts as met when the other map has one
 * within tolerance_px in x and in y (0: the same pixel). precision: share of found that is wanted;
 * recall: share of wanted that is found. Two empty maps agree (1); an empty one and a nonempty one
 * don't (0). precision and recall may be NULL. */
double cn_edge_f1(const uint8_t *found, const uint8_t *wanted, int64_t width, int64_t height,
                  int tolerance_px, double *precision, double *recall);

/* --- agreement_maps.c: two pictures of one size ----------------------------------------------- */

/* Mean over the classes of `wanted` of intersection / union, by ADE20K's colours. As in its
 * benchmark, pixels that `wanted` leaves black don't count, whatever was found there; nor does what
 * is no class's colour. A class wants a thousandth of the picture: in a map that was resized,
 * mixtures of two colours look like a third's. 1 where nothing is wanted. */
double cn_mean_iou(const cn_image *found, const cn_image *wanted);
/* Depth has no fixed scale, so `found` is brought to `wanted` by the scale and shift of least
 * squares, as MiDaS is evaluated (Ranftl et al., "Towards Robust Monocular Depth Estimation"), but
 * never turned upside down. The share of wanted's variance that it then explains; *rmse: what is
 * left, in percent of the bytes' range. */
double cn_depth_agreement(const cn_image *found, const cn_image *wanted, double *rmse);
/* 1 - mean angle / 180 between normals, coded as 127.5 n + 127.5; *degrees: the mean angle. What is
 * no direction in `wanted` (a hole: grey) isn't counted. */
double cn_normal_agreement(const cn_image *found, const cn_image *wanted, double *degrees);

/* --- agreement_pose.c ------------------------------------------------------------------------- */

/* A point in pixels; squared_size: what of the person COCO takes for s^2, here the box of its key
 * points. */
typedef struct cn_key_point {
    int part; /* 0 .. CN_POSE_PARTS - 1, in OpenPose's order */
    double x, y, squared_size;
} cn_key_point;

/* Wanted and found points of a part are paired, the nearest first, and a pair counts
 * exp(-d^2 / (2 s^2 k^2)): COCO's object key point similarity with its constants k, the neck as a
 * shoulder, s^2 the wanted one's size. 2 x their sum / (wanted + found), so missing and surplus
 * people count as misses; 1 where there are none in either. */
cn_status cn_key_point_agreement(cn_ctx *ctx, const cn_key_point *found, int n_found,
                                 const cn_key_point *wanted, int n_wanted,
                                 double *score) CN_CHECKED;
/* Of two drawings: key points are read back from the disks' colours (pose.h). */
cn_status cn_pose_agreement(cn_ctx *ctx, const cn_image *found, const cn_image *wanted,
                            double *score) CN_CHECKED;

#endif
