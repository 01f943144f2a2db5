/* SPDX-License-Identifier: Apache-2.0 */
/* straight.c - straight edges of solids as they are seen, and the horizon.
 *
 * Edges of polyhedra, the sides of cones and cylinders, and where the sky begins are projected,
 * walked along and drawn where the canvas shows them: the pixel belongs to the object, at the
 * edge's depth, and an edge runs there (two boxes of one object may lie in one plane). As M-LSD
 * draws lines, one pixel wide without smoothing.
 */
#include "scene/canvas.h"

#include "image/raster.h"

enum { SHORTEST_PX = 5 };
static const uint8_t white[3] = {255, 255, 255};

/* A point in pixels with its depth; false behind the camera. */
static bool project(const cn_canvas *c, vec3 p, vec3 *out)
{
    const cn_camera *camera = &c->stage->camera;
    const vec3 d = vsub(p, camera->pos);
    const float z = vdot(d, camera->forward), half = 0.5f * (float)c->stage->size;
    if (z < 0.1f) return false;
    const float inv = half / (z * camera->tan_half_fov);
    *out = v3(half + vdot(d, camera->right) * inv, half - vdot(d, camera->up) * inv, z);
    return true;
}

/* Whether the canvas shows the object's edge within a pixel of `at`, which is the point p in
 * pixels: a pixel lies on a face that the edge bounds, and an edge runs there. */
static bool shows(const cn_canvas *c, int object, vec3 p, vec3 at)
{
    const int size = c->stage->size, px = (int)round_down(at.x), py = (int)round_down(at.y);
    const float unit = c->stage->objects[object].size;
    const float pixel = 2 * c->stage->camera.tan_half_fov * at.z / (float)size;
    bool here = false, edge = false;
    for (int y = CN_MAX(0, py - 1); y <= CN_MIN(size - 1, py + 1); y++)
        for (int x = CN_MAX(0, px - 1); x <= CN_MIN(size - 1, px + 1); x++) {
            const cn_sample *s = c->samples + cn_canvas_index(c, x, y);
            edge = edge || cn_canvas_edge(c, x, y, x + 1, y) || cn_canvas_edge(c, x, y, x, y + 1);
            if (here || s->id != 2 + object) continue;
            const vecs d = cn_stage_rays(c->stage, lall((float)x + 0.5f), lall((float)y + 0.5f));
            const vec3 q = vmad(c->stage->camera.pos, v3(d.x[0], d.y[0], d.z[0]), s->t);
            const vec3 off = vsub(q, p);
            here = fabsf(vdot(off, s->normal)) < 0.01f * unit + 0.7f * pixel &&
                   vlength(off) < 0.6f * unit;
        }
    return here && edge;
}

static cn_point pixel_of(vec3 p)
{
    return (cn_point){(int64_t)round_down(p.x), (int64_t)round_down(p.y)};
}

/* Walks from a to b in steps of half a pixel, evenly in the picture, and draws what is seen. */
static void draw_seen(const cn_canvas *c, int object, vec3 a, vec3 b, cn_image *out)
{
    vec3 p, q, first = {0, 0, 0}, last = {0, 0, 0};
    if (!project(c, a, &p) || !project(c, b, &q)) return;
    const float dx = q.x - p.x, dy = q.y - p.y, length = sqrtf(dx * dx + dy * dy);
    const int steps = CN_MIN(4 * CN_SCENE_MAX_PX, 1 + (int)(2 * length));
    bool open = false;
    for (int i = 0; i <= steps + 1; i++) {
        const float share = (float)CN_MIN(i, steps) / (float)steps;
        /* Along a line in space it is 1 / depth that changes evenly in the picture. */
        const vec3 at =
            v3(mixed(p.x, q.x, share), mixed(p.y, q.y, share), 1 / mixed(1 / p.z, 1 / q.z, share));
        const float along = share * at.z / q.z;
        const bool seen = i <= steps && shows(c, object, vmix(a, b, along), at);
        if (seen && !open) first = at;
        if (seen) last = at;
        if (open && !seen) {
            const float wx = last.x - first.x, wy = last.y - first.y;
            if (wx * wx + wy * wy >= SHORTEST_PX * SHORTEST_PX)
                cn_draw_line(out, pixel_of(first), pixel_of(last), white);
        }
        open = seen;
    }
}

/* Two corners span an edge when two planes hold both. */
static void draw_polyhedron(const cn_canvas *c, int object, const cn_part *part, cn_image *out)
{
    const float on = 1e-3f * part->reach;
    for (int i = 0; i < part->n_corners; i++)
        for (int k = i + 1; k < part->n_corners; k++) {
            int shared = 0;
            for (int n = 0; n < part->n_planes; n++)
                shared += fabsf(vdot(part->normal[n], part->corner[i]) - part->offset[n]) < on &&
                          fabsf(vdot(part->normal[n], part->corner[k]) - part->offset[n]) < on;
            if (shared >= 2) draw_seen(c, object, part->corner[i], part->corner[k], out);
        }
}

/* The two sides at which the mantle turns away: its normal (cos, slope, sin) is at right angles to
 * the view there. */
static void draw_frustum(const cn_canvas *c, int object, const cn_part *part, cn_image *out)
{
    const float height = part->b.y - part->a.y, r = part->radius, top = part->top_radius;
    const float slope = (r - top) / height;
    const vec3 eye = vsub(c->stage->camera.pos, part->a);
    const float far = sqrtf(eye.x * eye.x + eye.z * eye.z), level = r - slope * eye.y;
    if (far <= fabsf(level)) return;
    const float towards = cn_angle(eye.z, eye.x);
    const float turn = cn_angle(sqrtf(far * far - level * level), level);
    for (int i = 0; i < 2; i++) {
        const float angle = i ? towards + turn : towards - turn;
        const vec3 out_ward = v3(cn_cosine(angle), 0, cn_sine(angle));
        draw_seen(c, object, vmad(part->a, out_ward, r), vmad(part->b, out_ward, top), out);
    }
}

static void draw_horizon(const cn_canvas *c, cn_image *out)
{
    const int size = c->stage->size;
    for (int y = 0; y + 1 < size; y++)
        for (int x = 0, first = -1; x <= size; x++) {
            const bool seen = x < size && c->samples[cn_canvas_index(c, x, y)].id == 0 &&
                              c->samples[cn_canvas_index(c, x, y + 1)].id == 1;
            if (seen && first < 0) first = x;
            if (seen || first < 0) continue;
            if (x - first >= SHORTEST_PX)
                cn_draw_line(out, (cn_point){first, y}, (cn_point){x - 1, y}, white);
            first = -1;
        }
}

void cn_straight_picture(const cn_canvas *c, cn_image *out)
{
    const cn_stage *st = c->stage;
    memset(out->rgb, 0, (size_t)(out->width * out->height * 3));
    draw_horizon(c, out);
    for (int i = 0; i < st->n_parts; i++) {
        const cn_part *part = st->parts[i];
        if (part->kind == CN_PART_POLYHEDRON && !part->round)
            draw_polyhedron(c, st->owner[i], part, out);
        if (part->kind == CN_PART_FRUSTUM) draw_frustum(c, st->owner[i], part, out);
    }
}
