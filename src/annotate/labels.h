/* SPDX-License-Identifier: Apache-2.0 */
/* labels.h - what data sets say about their pictures (classes, normals) as the condition images
 * that the reference trains on, and the palettes. COCO's polygons are in coco.h. */
#ifndef CN_ANNOTATE_LABELS_H
#define CN_ANNOTATE_LABELS_H

#include "base/base.h"
#include "image/image.h"
#include "io/npy.h"

enum { CN_ADE20K_CLASSES = 150, CN_COCO_CLASSES = 133 };

/* RGB of ADE20K's scene parsing classes, in the order of the data set (0: wall). */
extern const uint8_t cn_ade20k_palette[CN_ADE20K_CLASSES][3];

typedef struct cn_palette {
    const char *name; /* "ade20k", "coco" */
    int n;
    const int *ids; /* category ids; NULL: 1..n */
    const uint8_t (*rgb)[3];
    const char *const *names;
} cn_palette;

/* NULL outside of those there are. */
const cn_palette *cn_palette_at(int i);
const cn_palette *cn_palette_find(const char *name);
/* The category id of entry i. */
int cn_palette_id(const cn_palette *p, int i);
/* RGB of a COCO category. Other data sets in COCO's form have ids that COCO hasn't: those take
 * ADE20K's colours in turn. */
const uint8_t *cn_coco_color(int64_t id);

/* labels: a grey picture of the scene parsing benchmark, 0 = not labelled, 1..150 = class + 1; it
 * becomes the classes' colours, black for 0 and for labels above 150. CN_EINVAL when it isn't grey
 * (the full ADE20K's _seg.png numbers thousands of classes in red and green). */
cn_status cn_ade20k_colors(cn_ctx *ctx, const cn_image *labels, cn_image **out) CN_CHECKED;

/* normals: [height, width, 3] in -1..1, as DIODE's _normal.npy; becomes trunc(127.5 n + 127.5),
 * clamped. A zero vector (a hole) and what isn't a number become 127. valid (may be NULL): [height,
 * width] or [height, width, 1], 0 where there is nothing. CN_EFORMAT for other shapes. */
cn_status cn_normals_colors(cn_ctx *ctx, const cn_npy *normals, const cn_npy *valid,
                            cn_image **out) CN_CHECKED;
/* depth: [height, width] or [height, width, 1] in metres; becomes 255 (1/d - least) / (most -
 * least) over the valid pixels, truncated: near is bright as in MiDaS's maps, holes (0, not finite,
 * not valid) are black. */
cn_status cn_metric_depth_map(cn_ctx *ctx, const cn_npy *depth, const cn_npy *valid,
                              cn_image **out) CN_CHECKED;
/* depth as above, to the normals that ControlNet 1.0 computes from MiDaS's inverse depth (midas.h):
 * 1/d with its largest value at `reach`, since MiDaS's has no fixed scale; 0 at holes. */
cn_status cn_metric_normals(cn_ctx *ctx, const cn_npy *depth, const cn_npy *valid, double reach,
                            double a, double bg_threshold, cn_image **out) CN_CHECKED;

#endif
