/* SPDX-License-Identifier: Apache-2.0 */
/* stage.c - skies, grounds, and where in the picture each part may be seen. */
#include "scene/stage.h"

static vec3 shown(uint8_t r, uint8_t g, uint8_t b)
{
    return cn_display_light((const uint8_t[3]){r, g, b});
}

static void set_sky(int kind, cn_sky *s)
{
    s->disc = 0.065f;
    s->ground_dim = 1;
    switch (kind) {
    case CN_SKY_SUNSET:
        s->zenith = shown(104, 84, 158);
        s->middle = shown(226, 124, 128);
        s->horizon = shown(255, 190, 116);
        s->key = v3(0.86f, 0.75f, 0.66f);
        s->ambient = v3(0.32f, 0.28f, 0.30f);
        break;
    case CN_SKY_NIGHT:
        s->zenith = shown(9, 12, 40);
        s->middle = shown(22, 30, 74);
        s->horizon = shown(58, 70, 126);
        s->key = v3(0.74f, 0.76f, 0.82f);
        s->ambient = v3(0.22f, 0.23f, 0.27f);
        s->ground_dim = 0.76f;
        break;
    case CN_SKY_GREY:
        s->zenith = shown(122, 129, 140);
        s->middle = shown(160, 166, 174);
        s->horizon = shown(198, 202, 207);
        s->key = v3(0.52f, 0.52f, 0.52f);
        s->ambient = v3(0.40f, 0.40f, 0.41f);
        s->disc = 0.10f;
        break;
    default:
        s->zenith = shown(54, 122, 216);
        s->middle = shown(112, 176, 240);
        s->horizon = shown(206, 231, 247);
        s->key = v3(0.82f, 0.79f, 0.73f);
        s->ambient = v3(0.28f, 0.30f, 0.34f);
        break;
    }
}

static vec3 ground_colour(int ground)
{
    switch (ground) {
    case CN_GROUND_GREEN: return shown(116, 168, 92);
    case CN_GROUND_BROWN: return shown(156, 116, 84);
    case CN_GROUND_WHITE: return shown(240, 240, 240);
    case CN_GROUND_YELLOW: return shown(226, 208, 130);
    case CN_GROUND_BLUE: return shown(112, 148, 198);
    case CN_GROUND_PINK: return shown(232, 180, 194);
    default: return shown(154, 156, 159);
    }
}

/* --- the parts ------------------------------------------------------------------------------- */

/* Pixels whose rays, up to half a pixel off their centres, can lie in the box -1..1. */
static cn_bounds pixel_bounds(const float box[4], int size)
{
    const float half = 0.5f * (float)size, last = (float)(size - 1);
    const float x0 = (box[0] + 1) * half - 1.5f, x1 = (box[2] + 1) * half + 0.5f;
    const float y0 = (1 - box[3]) * half - 1.5f, y1 = (1 - box[1]) * half + 0.5f;
    return (cn_bounds){(int16_t)most(0, least(x0, last + 1)), (int16_t)most(0, least(y0, last + 1)),
                       (int16_t)most(-1, least(x1, last)), (int16_t)most(-1, least(y1, last))};
}

static void add_parts(cn_stage *st, int object)
{
    static const float all[4] = {-1, -1, 1, 1};
    const cn_object *o = &st->objects[object];
    for (int k = 0; k < o->n_parts; k++) {
        float box[4];
        const int i = st->n_parts++;
        const bool before = cn_part_bounds(&o->parts[k], &st->camera, box);
        st->parts[i] = &o->parts[k];
        st->owner[i] = (uint8_t)object;
        st->bounds[i] = pixel_bounds(before ? box : all, st->size);
    }
}

void cn_stage_init(const cn_scene *s, int size_px, cn_stage *out)
{
    out->n_objects = s->n_objects;
    out->n_parts = 0;
    out->size = size_px;
    cn_camera_init(s, &out->camera);
    set_sky(s->sky, &out->sky);
    for (int i = 0; i < s->n_objects; i++) {
        cn_paints_init(&s->objects[i], &out->paints[i]);
        cn_object_build(&s->objects[i], &out->objects[i]);
        add_parts(out, i);
    }
    cn_sun_init(&out->sun, s->light_azimuth, s->light_elevation, out->sky.disc, out->objects,
                s->n_objects);
    out->ground = vscale(ground_colour(s->ground), out->sky.ground_dim);
    out->bounce = vscale(vmul(out->ground, out->sky.key), 0.30f);
}
