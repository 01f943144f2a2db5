/* SPDX-License-Identifier: Apache-2.0 */
/* names.c - the words of scenes, and the colours that they name. */
#include "scene/scene.h"

#include <string.h>

static const char *const shape_names[] = {"sphere",  "cube",       "cylinder", "cone",   "ring",
                                          "pyramid", "torus knot", "arch",     "stairs", "tree",
                                          "house",   "table",      "person"};
static const char *const colour_names[] = {"red",  "orange", "yellow", "green", "cyan",
                                           "blue", "purple", "pink",   "white", "black"};
static const char *const material_names[] = {"matte",   "shiny",     "metallic",
                                             "striped", "checkered", "dotted"};
static const char *const ground_names[] = {"green",  "brown", "grey", "white",
                                           "yellow", "blue",  "pink"};
static const char *const sky_names[] = {"blue", "sunset", "night", "grey"};
static const char *const posture_names[] = {"standing",      "arms raised", "arms out", "waving",
                                            "hands on hips", "pointing",    "walking",  "running",
                                            "sitting",       "kneeling",    "jumping",  "dancing"};
static const char *const relation_names[] = {"and",         "left of", "right of",
                                             "in front of", "behind",  "on"};

static const uint8_t colour_rgb[CN_COLOUR_COUNT][3] = {
    {216, 26, 34}, {255, 126, 8},  {255, 222, 32},  {34, 164, 56},   {18, 208, 220},
    {26, 66, 216}, {126, 40, 186}, {255, 124, 190}, {244, 244, 243}, {27, 27, 29},
};

static const char *name_of(const char *const *names, int count, int i)
{
    return i >= 0 && i < count ? names[i] : NULL;
}

const char *cn_scene_shape_name(int shape)
{
    return name_of(shape_names, CN_SHAPE_COUNT, shape);
}
int cn_scene_shape_find(const char *name)
{
    for (int i = 0; i < CN_SHAPE_COUNT; i++)
        if (strcmp(name, shape_names[i]) == 0) return i;
    return -1;
}
const char *cn_scene_colour_name(int colour)
{
    return name_of(colour_names, CN_COLOUR_COUNT, colour);
}
const char *cn_scene_material_name(int material)
{
    return name_of(material_names, CN_MATERIAL_COUNT, material);
}
const char *cn_scene_ground_name(int ground)
{
    return name_of(ground_names, CN_GROUND_COUNT, ground);
}
const char *cn_scene_sky_name(int sky)
{
    return name_of(sky_names, CN_SKY_COUNT, sky);
}
const char *cn_scene_posture_name(int posture)
{
    return name_of(posture_names, CN_POSTURE_COUNT, posture);
}
const char *cn_scene_relation_name(int relation)
{
    return name_of(relation_names, CN_RELATION_COUNT, relation);
}

void cn_scene_colour_rgb(int colour, uint8_t rgb[3])
{
    memcpy(rgb, colour_rgb[colour >= 0 && colour < CN_COLOUR_COUNT ? colour : 0], 3);
}

bool cn_scene_allowed(int colour, int ground, int sky)
{
    if (colour == CN_COLOUR_BLACK && sky == CN_SKY_NIGHT) return false;
    return strcmp(colour_names[colour], ground_names[ground]) != 0;
}
