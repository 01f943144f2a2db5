/* SPDX-License-Identifier: Apache-2.0 */
/* classifier.h - a small network that tells what scenes show, trained from scenes alone within
 * minutes.
 *
 * It answers for shapes, colours, grounds, skies and the number of objects at once, by least
 * squares on zeros and ones (several shapes may be in a picture). Its features, the layer before
 * the answers, are what distances between sets of pictures are taken in. The same seed, steps,
 * threads and machine give the same network.
 */
#ifndef CN_PRETRAIN_CLASSIFIER_H
#define CN_PRETRAIN_CLASSIFIER_H

#include "pretrain/small_net.h"
#include "scene/scene.h"

enum { CN_CLASSIFIER_FEATURES = 64 };

typedef struct cn_classifier cn_classifier;

/* Steps of 32 scenes each. be outlives *out. */
cn_status cn_classifier_train(cn_ctx *ctx, cn_backend *be, const cn_small_net_options *o,
                              cn_classifier **out) CN_CHECKED;
void cn_classifier_destroy(cn_classifier *c);

typedef struct cn_classified {
    int shape, colour; /* the likeliest of a picture of one object */
    float features[CN_CLASSIFIER_FEATURES];
} cn_classified;

/* n square pictures [n,px,px,3], px a multiple of 64. */
cn_status cn_classifier_run(cn_classifier *c, const uint8_t *rgb, int64_t n, int64_t px,
                            cn_classified *out) CN_CHECKED;
/* Shares of n scenes of one object, first .. first + n of the sequence, at px, that are told right.
 */
cn_status cn_classifier_accuracy(cn_classifier *c, uint64_t first, int64_t n, int64_t px,
                                 double *shape, double *colour) CN_CHECKED;

#endif
