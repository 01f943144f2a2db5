/* SPDX-License-Identifier: Apache-2.0 */
/* stage.h - a scene made ready for rendering, and the light in it. Internal to src/scene. */
#ifndef CN_SCENE_STAGE_H
#define CN_SCENE_STAGE_H

#include "scene/lanes.h"
#include "scene/rays.h"
#include "scene/sunlight.h"
#include "scene/surface.h"

/* Whose a hit is: a part's number, or one of these. */
enum { CN_HIT_SKY = -1, CN_HIT_GROUND = -2 };

/* A kind of sky and what light comes from it, linear. */
typedef struct cn_sky {
    vec3 zenith, middle, horizon;
    vec3 key, ambient; /* light from the sun, and from everywhere */
    float disc;        /* softness of shadows */
    float ground_dim;  /* at night the ground is kept darker than what stands on it */
} cn_sky;

/* Pixels that a part may be seen in, both ends included. */
typedef struct cn_bounds {
    int16_t x0, y0, x1, y1;
} cn_bounds;

typedef struct cn_stage {
    int n_objects, n_parts, size; /* size: of the picture, pixels */
    cn_object objects[CN_SCENE_MAX_OBJECTS];
    cn_paints paints[CN_SCENE_MAX_OBJECTS];
    /* All parts in order, as the sun's silhouettes are numbered too. */
    const cn_part *parts[CN_MAX_SILHOUETTES];
    uint8_t owner[CN_MAX_SILHOUETTES];
    cn_bounds bounds[CN_MAX_SILHOUETTES];
    cn_camera camera;
    cn_sky sky;
    vec3 ground, bounce; /* its colour, and what it throws back */
    cn_sun sun;
} cn_stage;

/* What one ray met. */
typedef struct cn_sample {
    float t; /* along the ray, in units of its direction; INFINITY for the sky */
    vec3 normal;
    int16_t part; /* its number, CN_HIT_SKY or CN_HIT_GROUND */
    uint8_t id;   /* 0 sky, 1 ground, 2 + i object i */
    cn_look look;
    float lit; /* share of the sun that is seen */
} cn_sample;

void cn_stage_init(const cn_scene *scene, int size_px, cn_stage *out);
/* The directions whose length along the view is 1, through four points of the picture in pixels. */
static inline vecs cn_stage_rays(const cn_stage *st, lanes x, lanes y)
{
    const cn_camera *c = &st->camera;
    const float scale = 2.0f / (float)st->size, tan = c->tan_half_fov;
    const lanes sx = x * scale - 1.0f, sy = 1.0f - y * scale;
    return (vecs){c->forward.x + (c->right.x * sx + c->up.x * sy) * tan,
                  c->forward.y + (c->right.y * sx + c->up.y * sy) * tan,
                  c->forward.z + (c->right.z * sx + c->up.z * sy) * tan};
}

/* light.c: the colour of the sky in direction d, the same along a row of the picture. */
vec3 cn_light_sky(const cn_stage *st, vec3 d);
/* Of what a ray along d met, the sky excepted: sets lit and returns the colour. `shades` may be of
 * another box than the point's; then all silhouettes are asked. */
vec3 cn_light_sample(const cn_stage *st, vec3 d, const cn_shades *shades, cn_sample *s);
/* Four points of the ground at once: how much each sees of the sun, and the colours. `stray` are
 * those that may lie out of the shades' box. */
lanes cn_light_ground(const cn_stage *st, vecs d, lanes t, lane_mask stray, const cn_shades *shades,
                      vecs *colour);

#endif
