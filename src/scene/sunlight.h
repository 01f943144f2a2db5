/* SPDX-License-Identifier: Apache-2.0 */
/* sunlight.h - how much of the sun a point sees past the objects. Internal to src/scene. */
#ifndef CN_SCENE_SUNLIGHT_H
#define CN_SCENE_SUNLIGHT_H

#include "scene/parts.h"

enum { CN_OUTLINE_POINTS = 48, CN_MAX_SILHOUETTES = CN_SCENE_MAX_OBJECTS * CN_OBJECT_PARTS };

/* A part as the sun sees it: x and y across its direction, z towards it. */
typedef struct cn_silhouette {
    const cn_part *part;
    int object, n; /* n corners of a convex outline, or a capsule's two ends */
    float radius;  /* of a capsule, else 0 */
    vec3 outline[CN_OUTLINE_POINTS];
    vec3
        edge[CN_OUTLINE_POINTS]; /* outward normal x, y and offset z of the edge from corner i on */
    vec3 centre;
    float reach;
} cn_silhouette;

typedef struct cn_sun {
    vec3 direction, across_x, across_y; /* unit; direction is towards the sun */
    float disc;                         /* half its angular width, radians */
    int n;
    cn_silhouette silhouettes[CN_MAX_SILHOUETTES];
} cn_sun;

/* disc: the softness of shadows. Objects must outlive the sun. */
void cn_sun_init(cn_sun *sun, float azimuth, float elevation, float disc, const cn_object *objects,
                 int n_objects);
/* 0 in the dark to 1; `part` is what p lies on, NULL for the ground. p should be lifted a little
 * off it. */
float cn_sun_seen(const cn_sun *sun, vec3 p, const cn_part *part);

#endif
