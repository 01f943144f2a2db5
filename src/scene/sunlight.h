/* SPDX-License-Identifier: Apache-2.0 */
/* sunlight.h - how much of the sun a point sees past the objects. Internal to src/scene. */
#ifndef CN_SCENE_SUNLIGHT_H
#define CN_SCENE_SUNLIGHT_H

#include "scene/lanes.h"
#include "scene/parts.h"

enum { CN_OUTLINE_POINTS = 48, CN_MAX_SILHOUETTES = CN_SCENE_MAX_OBJECTS * CN_OBJECT_PARTS };

/* A part as the sun sees it: x and y across its direction, z towards it. */
typedef struct cn_silhouette {
    const cn_part *part;
    int n;        /* corners of a convex outline, or a capsule's two ends */
    float radius; /* of a capsule, else 0 */
    vec3 outline[CN_OUTLINE_POINTS];
    /* Outward normals and offsets of the edges from corner i on; up to a multiple of the lanes
     * follow edges that are infinitely far from every point. */
    float edge_x[CN_OUTLINE_POINTS], edge_y[CN_OUTLINE_POINTS], edge_z[CN_OUTLINE_POINTS];
    vec3 centre;
    float reach;
} cn_silhouette;

typedef struct cn_sun {
    vec3 direction, across_x, across_y; /* unit; direction is towards the sun */
    float disc;                         /* half its angular width, radians */
    int n;
    cn_silhouette silhouettes[CN_MAX_SILHOUETTES];
} cn_sun;

/* Silhouettes by number with the balls that hold them, and the box of the sun's view for whose
 * points they are all that count. Balls out of everything's reach fill up to a multiple of the
 * lanes. */
typedef struct cn_shades {
    vec3 lo, hi;
    int n;
    uint16_t list[CN_MAX_SILHOUETTES];
    float x[CN_MAX_SILHOUETTES], y[CN_MAX_SILHOUETTES], z[CN_MAX_SILHOUETTES];
    float reach[CN_MAX_SILHOUETTES];
} cn_shades;

/* disc: the softness of shadows. Objects must outlive the sun. */
void cn_sun_init(cn_sun *sun, float azimuth, float elevation, float disc, const cn_object *objects,
                 int n_objects);
/* As the sun sees a point: across its direction, and towards it. */
vec3 cn_sun_view(const cn_sun *sun, vec3 p);
/* Lists the silhouettes that can darken points between lo and hi, in the sun's view. */
void cn_sun_list(const cn_sun *sun, vec3 lo, vec3 hi, cn_shades *out);
/* 0 in the dark to 1, by the silhouettes of the list; p should be lifted a little off what it lies
 * on, which is `part`, or NULL for the ground. */
float cn_sun_seen(const cn_sun *sun, vec3 p, const cn_part *part, const cn_shades *shades);
/* The same of four points of the ground, as the sun sees them. */
lanes cn_sun_seen_from_ground(const cn_sun *sun, vecs q, const cn_shades *shades);

#endif
