/* SPDX-License-Identifier: Apache-2.0 */
/* surface.h - the colour a surface has before light falls on it. Internal to src/scene. */
#ifndef CN_SCENE_SURFACE_H
#define CN_SCENE_SURFACE_H

#include "scene/parts.h"

/* What an object is painted with, linear. */
typedef struct cn_paints {
    int material;
    vec3 colour, second, trousers, roof;
} cn_paints;

typedef struct cn_look {
    vec3 colour;
    int finish; /* CN_MATERIAL_MATTE, _SHINY or _METALLIC */
} cn_look;

/* A display value as light: displays are taken to have a gamma of 2. */
vec3 cn_display_light(const uint8_t rgb[3]);
void cn_paints_init(const cn_scene_object *object, cn_paints *out);
/* At the world point p with outward normal n of a part of the object. */
cn_look cn_surface_look(const cn_paints *paints, const cn_object *object, const cn_part *part,
                        vec3 p, vec3 n);

#endif
