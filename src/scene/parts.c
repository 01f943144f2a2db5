/* SPDX-License-Identifier: Apache-2.0 */
/* parts.c - what capsules, frusta and polyhedra are made of, and the bounds of each. */
#include "scene/parts.h"

/* Bounds are a little too wide rather than cut off what rounding lets a ray meet: with them or
 * without, a picture is the same. */
static const float ROOM = 1e-4f, WIDER = 1.002f;

/* --- adding ---------------------------------------------------------------------------------- */

static cn_part *add(cn_object *o, cn_part_kind kind)
{
    if (o->n_parts == CN_OBJECT_PARTS) return NULL;
    cn_part *p = &o->parts[o->n_parts++];
    *p = (cn_part){.kind = (int)kind};
    return p;
}

cn_part *cn_add_capsule(cn_object *o, vec3 a, vec3 b, float radius)
{
    cn_part *p = add(o, CN_PART_CAPSULE);
    if (!p) return NULL;
    p->a = a;
    p->b = b;
    p->radius = p->top_radius = radius;
    p->centre = vscale(vadd(a, b), 0.5f);
    p->reach = WIDER * (0.5f * vlength(vsub(b, a)) + radius);
    return p;
}

cn_part *cn_add_frustum(cn_object *o, vec3 bottom, float height, float radius, float top_radius)
{
    cn_part *p = add(o, CN_PART_FRUSTUM);
    if (!p) return NULL;
    const float widest = most(radius, top_radius), half = 0.5f * height;
    p->a = bottom;
    p->b = v3(bottom.x, bottom.y + height, bottom.z);
    p->radius = radius;
    p->top_radius = top_radius;
    p->centre = v3(bottom.x, bottom.y + half, bottom.z);
    p->reach = WIDER * sqrtf(half * half + widest * widest);
    return p;
}

cn_part *cn_add_polyhedron(cn_object *o, const vec3 *corners, int n_corners,
                           const unsigned char (*faces)[3], int n_faces)
{
    cn_part *p = add(o, CN_PART_POLYHEDRON);
    if (!p) return NULL;
    p->n_planes = n_faces;
    p->n_corners = n_corners;
    for (int i = 0; i < n_corners; i++) {
        p->corner[i] = corners[i];
        p->centre = vmad(p->centre, corners[i], 1.0f / (float)n_corners);
    }
    for (int i = 0; i < n_corners; i++)
        p->reach = most(p->reach, WIDER * vlength(vsub(corners[i], p->centre)));
    for (int i = 0; i < n_faces; i++) {
        const vec3 c = corners[faces[i][0]];
        p->normal[i] = vunit(vcross(vsub(corners[faces[i][1]], c), vsub(corners[faces[i][2]], c)));
        p->offset[i] = vdot(p->normal[i], c);
        if (vdot(p->normal[i], p->centre) <= p->offset[i]) continue;
        p->normal[i] = vscale(p->normal[i], -1);
        p->offset[i] = -p->offset[i];
    }
    return p;
}

/* --- camera ---------------------------------------------------------------------------------- */

void cn_camera_init(const cn_scene *scene, cn_camera *out)
{
    const float c = cn_cosine(scene->camera_pitch), s = cn_sine(scene->camera_pitch);
    out->pos = v3(0, scene->camera_height, 0);
    out->right = v3(1, 0, 0);
    out->up = v3(0, c, s);
    out->forward = v3(0, -s, c);
    out->tan_half_fov = scene->tan_half_fov;
}

/* Slopes of the two tangents from the origin to a disc of this radius at (x, z). */
static void tangents(float x, float z, float radius, float *lo, float *hi)
{
    const float a = z * z - radius * radius;
    const float q = radius * sqrtf(x * x + a);
    *lo = (x * z - q) / a;
    *hi = (x * z + q) / a;
}

/* Widens the box by a ball, or a point. */
static bool widen(const cn_camera *camera, vec3 centre, float radius, float box[4])
{
    const vec3 p = vsub(centre, camera->pos);
    const float z = vdot(p, camera->forward), inv = 1 / camera->tan_half_fov;
    if (z - radius < 0.1f) return false;
    float x0, x1, y0, y1;
    tangents(vdot(p, camera->right), z, radius, &x0, &x1);
    tangents(vdot(p, camera->up), z, radius, &y0, &y1);
    box[0] = least(box[0], x0 * inv - ROOM);
    box[1] = least(box[1], y0 * inv - ROOM);
    box[2] = most(box[2], x1 * inv + ROOM);
    box[3] = most(box[3], y1 * inv + ROOM);
    return true;
}

static bool widen_part(const cn_part *p, const cn_camera *camera, float box[4])
{
    bool ok = true;
    switch (p->kind) {
    case CN_PART_CAPSULE:
        return widen(camera, p->a, p->radius, box) && widen(camera, p->b, p->radius, box);
    case CN_PART_FRUSTUM:
        for (int i = 0; i < 8; i++) {
            const vec3 c = i & 4 ? p->b : p->a;
            const float r = i & 4 ? p->top_radius : p->radius;
            ok = ok &&
                 widen(camera, v3(c.x + (i & 1 ? r : -r), c.y, c.z + (i & 2 ? r : -r)), 0, box);
        }
        return ok;
    default:
        for (int i = 0; i < p->n_corners; i++) ok = ok && widen(camera, p->corner[i], 0, box);
        return ok;
    }
}

bool cn_part_bounds(const cn_part *part, const cn_camera *camera, float box[4])
{
    box[0] = box[1] = INFINITY;
    box[2] = box[3] = -INFINITY;
    return widen_part(part, camera, box);
}

bool cn_object_bounds(const cn_object *o, const cn_camera *camera, float box[4])
{
    box[0] = box[1] = INFINITY;
    box[2] = box[3] = -INFINITY;
    for (int i = 0; i < o->n_parts; i++)
        if (!widen_part(&o->parts[i], camera, box)) return false;
    return true;
}
