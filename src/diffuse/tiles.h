/* SPDX-License-Identifier: Apache-2.0 */
/* tiles.h - a side of a picture covered by equal, overlapping tiles, and each tile's weight at each
 * point.
 *
 * Tiles are of one size so that one plan serves them all. Where tiles overlap, a tile's weight
 * rises from about 0 at its border, so no border can be seen; the weights at a point add up to 1.
 */
#ifndef CN_DIFFUSE_TILES_H
#define CN_DIFFUSE_TILES_H

#include "base/base.h"

typedef struct cn_tiles {
    int64_t size, tile; /* of the side and of a tile; one tile when they are the same */
    int64_t scale;      /* points of weight per unit */
    int64_t n;
    int64_t *start; /* [n] in units */
    float *weight;  /* [n][tile * scale] */
} cn_tiles;

/* tile 0, or one not smaller than size: one tile with weight 1. Neighbours share a quarter of a
 * tile or more. cn_tiles_free it, also after a failure. */
cn_status cn_tiles_make(cn_ctx *ctx, int64_t size, int64_t tile, int64_t scale,
                        cn_tiles *out) CN_CHECKED;
void cn_tiles_free(cn_tiles *t);

#endif
