/* SPDX-License-Identifier: Apache-2.0 */
/* rays.h - many rays from one point against one part after the other. Internal to src/scene. */
#ifndef CN_SCENE_RAYS_H
#define CN_SCENE_RAYS_H

#include "scene/parts.h"

/* A tile's pixels row by row, or a pixel's sub-samples. */
enum { CN_TILE = 8, CN_RAYS = CN_TILE * CN_TILE };

typedef struct cn_rays {
    float x[CN_RAYS], y[CN_RAYS], z[CN_RAYS]; /* directions, of any length */
} cn_rays;

typedef struct cn_hits {
    float t[CN_RAYS];
    int32_t part[CN_RAYS]; /* whose the nearest hit is */
    float nx[CN_RAYS], ny[CN_RAYS], nz[CN_RAYS];
} cn_hits;

/* Where a ray of first..last-1 (multiples of 4) meets the part nearer than hits->t, that and
 * `index` are entered. */
void cn_rays_meet(const cn_part *part, int index, vec3 origin, const cn_rays *rays, int first,
                  int last, cn_hits *hits);
/* Enters the normals of those whose part is `index`. */
void cn_rays_normals(const cn_part *part, int index, vec3 origin, const cn_rays *rays, int first,
                     int last, cn_hits *hits);
/* Whether o + t d meets the part from outside with t > 0. */
bool cn_part_ahead(const cn_part *part, vec3 o, vec3 d);

#endif
