/* SPDX-License-Identifier: Apache-2.0 */
/* added.h - what SDXL's networks are told beside timestep and text: the pooled text and sizes. */
#ifndef CN_DIFFUSE_ADDED_H
#define CN_DIFFUSE_ADDED_H

#include "base/base.h"

/* Of the picture that is drawn, in pixels: the size that it is to look as if it had had, where it
 * was cropped, and the size that it has. */
typedef struct cn_picture_sizes {
    int64_t original_w, original_h, crop_left, crop_top, target_w, target_h;
} cn_picture_sizes;

enum { CN_ADDED_NUMBERS = 6, CN_REFINER_NUMBERS = 5 };

/* In the order in which the networks take them, height first. */
void cn_added_numbers(const cn_picture_sizes *s, float out[CN_ADDED_NUMBERS]);
/* The same of SDXL's refiner, CN_REFINER_NUMBERS of them: an aesthetic score instead of the size
 * that the picture has. */
void cn_refiner_numbers(const cn_picture_sizes *s, double score, float out[CN_ADDED_NUMBERS]);
/* out [n_pooled + n * dim]: the pooled text, then each number as timesteps are embedded (cosines
 * first), dim values. */
void cn_added_embed(const float *pooled, int64_t n_pooled, const float *numbers, int n, int64_t dim,
                    float *out);

#endif
