/* labels.h - label maps of data sets as the coloured condition images that the reference trains on. */
#ifndef CN_ANNOTATE_LABELS_H
#define CN_ANNOTATE_LABELS_H

#include "base/base.h"
#include "io/image.h"

enum { CN_ADE20K_CLASSES = 150 };

/* RGB of ADE20K's scene parsing classes, in the order of the data set (0: wall). */
extern const uint8_t cn_ade20k_palette[CN_ADE20K_CLASSES][3];

/* labels: a grey picture of the scene parsing benchmark, 0 = not labelled, 1..150 = class + 1; it becomes
 * the classes' colours, black for 0 and for labels above 150. CN_EINVAL when it isn't grey. */
cn_status cn_ade20k_colors(cn_ctx *ctx, const cn_image *labels, cn_image **out) CN_CHECKED;

#endif
