/* SPDX-License-Identifier: Apache-2.0 */
/* mirror.h - left and right exchanged, in pictures and in what their conditions mean. */
#ifndef CN_DATA_MIRROR_H
#define CN_DATA_MIRROR_H

#include "annotate/annotate.h"

/* How conditions are mirrored that these kinds made: a name, settings and several kinds behind each
 * other as cn_annotate_read_noted takes them. CN_EINVAL for one that can't be, and for an unknown
 * one, with the kinds there are. */
cn_status cn_mirror_find(cn_ctx *ctx, const char *text, cn_mirror *out) CN_CHECKED;
void cn_mirror_picture(cn_image *image);
void cn_mirror_condition(cn_mirror how, cn_image *image);

#endif
