/* SPDX-License-Identifier: Apache-2.0 */
/* reader_truth.h - a scene's maps as the reader is to answer them, and answers compared with
 * them. */
#ifndef CN_PRETRAIN_READER_TRUTH_H
#define CN_PRETRAIN_READER_TRUTH_H

#include "pretrain/small_net.h"
#include "scene/scene.h"

enum { CN_READER_PX = CN_SMALL_NET_PX };
/* Channels of an answer. */
enum {
    CN_READER_EDGES,
    CN_READER_LINES,
    CN_READER_DEPTH,
    CN_READER_NORMAL,
    CN_READER_POINTS = CN_READER_NORMAL + 3,
    CN_READER_CLASSES = CN_READER_POINTS + CN_SCENE_KEY_POINTS,
    CN_READER_CHANNELS = CN_READER_CLASSES + CN_SCENE_CLASSES
};

typedef struct cn_reader_truth cn_reader_truth; /* of one scene */

cn_status cn_reader_truth_create(cn_ctx *ctx, cn_reader_truth **out) CN_CHECKED;
void cn_reader_truth_destroy(cn_reader_truth *t);
cn_status cn_reader_truth_find(cn_reader_truth *t, const cn_scene *scene) CN_CHECKED;
/* [64,64,CN_READER_CHANNELS], what a network is trained to answer. */
void cn_reader_truth_maps(const cn_reader_truth *t, float *out);
/* As cn_reader_measure. */
const char *cn_reader_truth_measure(cn_scene_condition condition);
/* answer: of the same form. As cn_reader_agreement. */
cn_status cn_reader_truth_agreement(cn_reader_truth *t, const float *answer,
                                    cn_scene_condition condition, bool *applies,
                                    double *score) CN_CHECKED;

#endif
