/* SPDX-License-Identifier: Apache-2.0 */
/* parts.c - ray against capsule, frustum and polyhedron, and the bounds of each.
 *
 * Rays start anew at the point nearest the part's centre, so that far cameras keep their precision.
 */
#include "scene/parts.h"

/* Bounds are a little too wide rather than cut off what rounding lets a ray meet: with them or
 * without, a picture is the same. */
static const float ROOM = 1e-4f, WIDER = 1.002f;

/* --- adding ---------------------------------------------------------------------------------- */

static cn_part *add(cn_object *o, cn_part_kind kind)
{
    if (o->n_parts == CN_OBJECT_PARTS) return NULL;
    cn_part *p = &o->parts[o->n_parts++];
    *p = (cn_part){.kind = kind};
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

/* --- rays ------------------------------------------------------------------------------------ */

/* a t^2 + 2 b t + c = 0; roots ascending. */
static inline bool roots(float a, float b, float c, float *t0, float *t1)
{
    const float disc = b * b - a * c;
    if (disc < 0 || a == 0) return false;
    const float q = sqrtf(disc), r0 = (-b - q) / a, r1 = (-b + q) / a;
    *t0 = least(r0, r1);
    *t1 = most(r0, r1);
    return true;
}

static bool hit_ball(vec3 o, vec3 d, float dd, float radius, float *t)
{
    const float b = vdot(o, d), c = vdot(o, o) - radius * radius, disc = b * b - dd * c;
    if (disc < 0) return false;
    *t = (-b - sqrtf(disc)) / dd;
    return true;
}

/* The normal that the curve has where its link is met: at right angles to the interpolated tangent.
 */
static vec3 chain_normal(const cn_part *p, vec3 n, float share)
{
    const vec3 tangent = vmix(p->tangent_a, p->tangent_b, share);
    const float tt = vdot(tangent, tangent);
    if (tt == 0) return n;
    return vunit(vmad(n, tangent, -vdot(n, tangent) / tt));
}

/* o is relative to the part's centre. Only where the ray enters counts: nothing looks out from
 * inside. */
static bool hit_capsule(const cn_part *p, vec3 o, vec3 d, float t_min, cn_ray_hit *hit)
{
    const float dd = vdot(d, d), r = p->radius;
    const vec3 axis = vsub(p->b, p->a), oa = vmad(o, axis, 0.5f);
    const float aa = vdot(axis, axis), ad = vdot(axis, d), ao = vdot(axis, oa);
    float t, share = 0;
    if (aa > 0) {
        const float a = dd * aa - ad * ad, b = aa * vdot(d, oa) - ao * ad;
        const float c = aa * vdot(oa, oa) - ao * ao - r * r * aa, disc = b * b - a * c;
        if (disc < 0) return false;
        t = a > 0 ? (-b - sqrtf(disc)) / a : 0;
        share = (ao + t * ad) / aa;
        if (a <= 0 || share <= 0 || share >= 1) {
            share = share > 0.5f ? 1.0f : 0.0f;
            if (a <= 0) share = ad < 0 ? 1.0f : 0.0f;
            if (!hit_ball(vmad(oa, axis, -share), d, dd, r, &t)) return false;
        }
    } else if (!hit_ball(o, d, dd, r, &t)) {
        return false;
    }
    if (t <= t_min || t >= hit->t) return false;
    hit->t = t;
    hit->normal = vscale(vmad(vmad(oa, d, t), axis, -share), 1 / r);
    hit->normal = chain_normal(p, hit->normal, share);
    return true;
}

/* A disc at height y, facing up or down. */
static bool hit_cap(float y, float r, float up, vec3 o, vec3 d, float t_min, cn_ray_hit *hit)
{
    if (d.y * up >= 0) return false;
    const float t = (y - o.y) / d.y;
    const vec3 p = vmad(o, d, t);
    if (t <= t_min || t >= hit->t || p.x * p.x + p.z * p.z > r * r) return false;
    *hit = (cn_ray_hit){t, {0, up, 0}};
    return true;
}

static bool hit_frustum(const cn_part *p, vec3 o, vec3 d, float t_min, cn_ray_hit *hit)
{
    const float half = 0.5f * (p->b.y - p->a.y);
    const float k = (p->radius - p->top_radius) / (2 * half);
    const float mid = 0.5f * (p->radius + p->top_radius), wide = mid - k * o.y;
    bool found = hit_cap(-half, p->radius, -1, o, d, t_min, hit);
    if (p->top_radius > 0) found |= hit_cap(half, p->top_radius, 1, o, d, t_min, hit);
    float t[2];
    if (!roots(d.x * d.x + d.z * d.z - k * k * d.y * d.y, o.x * d.x + o.z * d.z + k * wide * d.y,
               o.x * o.x + o.z * o.z - wide * wide, &t[0], &t[1]))
        return found;
    for (int i = 0; i < 2; i++) {
        const vec3 q = vmad(o, d, t[i]);
        if (t[i] <= t_min || t[i] >= hit->t || fabsf(q.y) > half) continue;
        const vec3 m = v3(q.x, k * (mid - k * q.y), q.z);
        if (vdot(m, d) >= 0) continue;
        *hit = (cn_ray_hit){t[i], vunit(m)};
        return true;
    }
    return found;
}

/* A convex solid: the ray enters where the last of its planes is crossed inwards. */
static bool hit_polyhedron(const cn_part *p, vec3 o, vec3 d, float t_min, cn_ray_hit *hit)
{
    float enter = -INFINITY, leave = INFINITY;
    int face = 0;
    for (int i = 0; i < p->n_planes; i++) {
        const float dn = vdot(p->normal[i], d);
        const float gap = p->offset[i] - vdot(p->normal[i], p->centre) - vdot(p->normal[i], o);
        if (fabsf(dn) < 1e-12f) {
            if (gap < 0) return false;
            continue;
        }
        const float t = gap / dn;
        if (dn > 0) {
            leave = least(leave, t);
        } else if (t > enter) {
            enter = t;
            face = i;
        }
    }
    if (enter > leave || enter <= t_min || enter >= hit->t) return false;
    hit->t = enter;
    hit->normal = p->normal[face];
    if (!p->round || face > 1) return true;
    const vec3 q = vsub(vadd(p->centre, vmad(o, d, enter)), p->axis_point);
    const vec3 radial = vunit(vmad(q, p->axis, -vdot(q, p->axis)));
    hit->normal = face == 0 ? radial : vscale(radial, -1);
    return true;
}

bool cn_part_hit(const cn_part *p, vec3 o, vec3 d, float t_min, cn_ray_hit *hit)
{
    const vec3 c = vsub(o, p->centre);
    const float dd = vdot(d, d), along = -vdot(c, d) / dd;
    const vec3 near = vmad(c, d, along);
    if (vdot(near, near) > p->reach * p->reach) return false;
    cn_ray_hit moved = {hit->t - along, hit->normal};
    bool found = false;
    switch (p->kind) {
    case CN_PART_CAPSULE: found = hit_capsule(p, near, d, t_min - along, &moved); break;
    case CN_PART_FRUSTUM: found = hit_frustum(p, near, d, t_min - along, &moved); break;
    default: found = hit_polyhedron(p, near, d, t_min - along, &moved); break;
    }
    if (found) *hit = (cn_ray_hit){moved.t + along, moved.normal};
    return found;
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
