/* SPDX-License-Identifier: Apache-2.0 */
/* mirror.h - left and right exchanged, in pictures and in what their conditions mean. */
#ifndef CN_DATA_MIRROR_H
#define CN_DATA_MIRROR_H

#include "image/image.h"

typedef enum cn_mirror {
    CN_MIRROR_OFF,
    CN_MIRROR_PLAIN, /* the mirrored condition is the mirrored picture's: edges, depth, segmentation
                      */
    CN_MIRROR_NORMALS /* x, in red, changes its sign too */
} cn_mirror;

/* How conditions of this kind are mirrored ("canny", "normal", ...). CN_EINVAL for one that can't
 * be, and for an unknown one, with the kinds there are. */
cn_status cn_mirror_find(cn_ctx *ctx, const char *kind, cn_mirror *out) CN_CHECKED;
void cn_mirror_picture(cn_image *image);
void cn_mirror_condition(cn_mirror how, cn_image *image);

#endif
