/* SPDX-License-Identifier: Apache-2.0 */
/* reader.h - a small network that reads a scene's maps from its picture, so that it can be measured
 * how well a drawing follows a condition that no annotator finds in pictures: exact depth, normals,
 * classes, edges, straight lines, people's key points. Trained on scenes alone.
 *
 * What it reads from scenes themselves bounds what can be measured of drawings: measure both.
 */
#ifndef CN_PRETRAIN_READER_H
#define CN_PRETRAIN_READER_H

#include "pretrain/small_net.h"
#include "scene/scene.h"

typedef struct cn_reader cn_reader;

/* Steps of 8 scenes each. be outlives *out. */
cn_status cn_reader_train(cn_ctx *ctx, cn_backend *be, const cn_small_net_options *o,
                          cn_reader **out) CN_CHECKED;
void cn_reader_destroy(cn_reader *r);
/* One safetensors file. Loading is CN_EMISMATCH for a file that holds another network. */
cn_status cn_reader_save(const cn_reader *r, const char *path) CN_CHECKED;
cn_status cn_reader_load(cn_ctx *ctx, cn_backend *be, const char *path, cn_reader **out) CN_CHECKED;

/* How the condition is measured: "edge F1", "line F1", "depth R2", "angular similarity",
 * "mean IoU", "key point similarity" (eval/agreement.h). Soft edges, scribbles and cartoon lines
 * are measured by the scene's edges, which they follow; a scribble leaves some out. */
const char *cn_reader_measure(cn_scene_condition condition);
/* How well a picture [px,px,3], px a multiple of 64, shows the scene's map, 0..1 (depth may fall
 * below 0), both at 64 px. *applies: false where the scene has nothing of the kind (no straight
 * line, nobody), *score is 0 then. */
cn_status cn_reader_agreement(cn_reader *r, const uint8_t *rgb, int64_t px, const cn_scene *scene,
                              cn_scene_condition condition, bool *applies,
                              double *score) CN_CHECKED;

#endif
