/* SPDX-License-Identifier: Apache-2.0 */
/* openpose.h - people, hands and faces as stick figures: OpenPose's three networks and what is
 * drawn of them. */
#ifndef CN_ANNOTATE_POSE_OPENPOSE_H
#define CN_ANNOTATE_POSE_OPENPOSE_H

#include "annotate/network.h"
#include "annotate/pose/pose.h"

/* out[0]: part affinity fields [1,H/8,W/8,38], out[1]: parts [1,H/8,W/8,19]; sides are multiples of
 * 8. */
extern const cn_network cn_openpose_body;
/* out[0]: [1,H/8,W/8,22], with the background. */
extern const cn_network cn_openpose_hand;
/* out[0]: [1,H/8,W/8,71]. */
extern const cn_network cn_openpose_face;

/* The roles that the networks have in the kind. */
enum { CN_OPENPOSE_BODY, CN_OPENPOSE_HAND, CN_OPENPOSE_FACE };

#endif
