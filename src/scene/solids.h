/* SPDX-License-Identifier: Apache-2.0 */
/* solids.h - vectors and the ray-solid intersections behind scene.h. Internal to src/scene. */
#ifndef CN_SCENE_SOLIDS_H
#define CN_SCENE_SOLIDS_H

#include "scene/scene.h"

#include <math.h>

typedef struct vec3 {
    float x, y, z;
} vec3;

static inline vec3 v3(float x, float y, float z)
{
    return (vec3){x, y, z};
}
static inline vec3 vadd(vec3 a, vec3 b)
{
    return v3(a.x + b.x, a.y + b.y, a.z + b.z);
}
static inline vec3 vsub(vec3 a, vec3 b)
{
    return v3(a.x - b.x, a.y - b.y, a.z - b.z);
}
static inline vec3 vmul(vec3 a, vec3 b)
{
    return v3(a.x * b.x, a.y * b.y, a.z * b.z);
}
static inline vec3 vscale(vec3 a, float s)
{
    return v3(a.x * s, a.y * s, a.z * s);
}
static inline float vdot(vec3 a, vec3 b)
{
    return a.x * b.x + a.y * b.y + a.z * b.z;
}
static inline vec3 vunit(vec3 a)
{
    return vscale(a, 1.0f / sqrtf(vdot(a, a)));
}
static inline vec3 vmix(vec3 a, vec3 b, float t)
{
    return vadd(a, vscale(vsub(b, a), t));
}
/* Not fminf and fmaxf, which are calls unless NaN is ruled out for the whole program. */
static inline float least(float a, float b)
{
    return a < b ? a : b;
}
static inline float most(float a, float b)
{
    return a > b ? a : b;
}
static inline float clamp01(float x)
{
    return x < 0 ? 0 : x > 1 ? 1 : x;
}

/* An object ready for rays: its local frame is centred on it and turned by yaw about y. */
typedef struct cn_solid {
    int shape;
    vec3 centre, half; /* half extents in the local frame */
    float cos_yaw, sin_yaw;
    float radius;     /* of the bounding sphere */
    float ring_minor; /* radius of the ring's tube */
} cn_solid;

typedef struct cn_camera {
    vec3 pos, right, up, forward;
    float tan_half_fov;
} cn_camera;

void cn_solid_init(const cn_scene_object *object, cn_solid *out);
/* The nearest hit with t_min < t < *t (in units of |d|); sets *t and the outward unit normal. */
bool cn_solid_hit(const cn_solid *s, vec3 o, vec3 d, float t_min, float *t, vec3 *normal);
void cn_camera_init(const cn_scene *scene, cn_camera *out);
/* Screen bounds of the solid, -1..1 with y up: {x0, y0, x1, y1}. False when it reaches behind the
 * camera. */
bool cn_solid_bounds(const cn_solid *s, const cn_camera *camera, float box[4]);

#endif
