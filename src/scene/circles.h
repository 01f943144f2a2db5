/* SPDX-License-Identifier: Apache-2.0 */
/* circles.h - Fill50K's circles, as lllyasviel's repository trains its first example on. */
#ifndef CN_SCENE_CIRCLES_H
#define CN_SCENE_CIRCLES_H

#include "base/base.h"

typedef struct cn_circle {
    float x, y, radius; /* of the picture's side */
    int colour, ground; /* named CSS colours */
    char caption[128];  /* "pale golden rod circle with old lace background" */
} cn_circle;

/* Circle `index` of the endless sequence `seed`. */
void cn_circle_generate(uint64_t seed, uint64_t index, cn_circle *out);
/* picture: the filled circle, anti-aliased; condition: its outline, white on black. RGB
 * [size,size,3] each. */
void cn_circle_render(const cn_circle *circle, int64_t size_px, uint8_t *picture,
                      uint8_t *condition);

typedef struct cn_circle_dataset {
    const char *dir;
    int64_t n, first_index;
    uint64_t seed;
    int64_t size_px;
    void (*progress)(void *user, int64_t done, int64_t total);
    void *progress_user;
} cn_circle_dataset;

/* As cn_pairs_write. */
cn_status cn_circle_write_dataset(cn_ctx *ctx, const cn_circle_dataset *options) CN_CHECKED;

#endif
