/* SPDX-License-Identifier: Apache-2.0 */
/* solids.c - ray against sphere, box, cylinder, cone, pyramid and ring, each in its own frame.
 *
 * All are closed surfaces standing on the ground. Every one but the ring has a closed form; the
 * ring is marched along its exact distance, which stays well below a thousandth of its size.
 */
#include "scene/solids.h"

void cn_solid_init(const cn_scene_object *object, cn_solid *out)
{
    const float s = object->size, tall = s * object->aspect;
    *out = (cn_solid){.shape = object->shape};
    switch (object->shape) {
    case CN_SHAPE_CUBE: out->half = v3(0.78f * s, 0.78f * s, 0.78f * s); break;
    case CN_SHAPE_CYLINDER: out->half = v3(0.78f * s, 0.92f * tall, 0.78f * s); break;
    case CN_SHAPE_CONE: out->half = v3(0.92f * s, 1.05f * tall, 0.92f * s); break;
    case CN_SHAPE_PYRAMID: out->half = v3(0.88f * s, 0.88f * tall, 0.88f * s); break;
    case CN_SHAPE_RING:
        out->ring_minor = 0.27f * s;
        out->half = v3(s, s, out->ring_minor);
        break;
    default: out->half = v3(s, s, s); break;
    }
    out->centre = v3(object->x, out->half.y, object->z);
    out->cos_yaw = cosf(object->yaw);
    out->sin_yaw = sinf(object->yaw);
    out->radius = object->shape == CN_SHAPE_SPHERE ? s
                  : object->shape == CN_SHAPE_RING ? s * 1.001f
                                                   : sqrtf(vdot(out->half, out->half));
}

static inline vec3 to_local(const cn_solid *s, vec3 a)
{
    return v3(s->cos_yaw * a.x - s->sin_yaw * a.z, a.y, s->sin_yaw * a.x + s->cos_yaw * a.z);
}

static inline vec3 to_world(const cn_solid *s, vec3 a)
{
    return v3(s->cos_yaw * a.x + s->sin_yaw * a.z, a.y, -s->sin_yaw * a.x + s->cos_yaw * a.z);
}

static inline vec3 at(vec3 o, vec3 d, float t)
{
    return vadd(o, vscale(d, t));
}

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

static bool hit_sphere(const cn_solid *s, vec3 o, vec3 d, float t_min, float *t, vec3 *n)
{
    float t0, t1;
    /* From the point nearest the centre on, so that far cameras keep their precision. */
    const float dd = vdot(d, d), tc = -vdot(o, d) / dd, r = s->half.x;
    const vec3 m = at(o, d, tc);
    if (!roots(dd, 0, vdot(m, m) - r * r, &t0, &t1)) return false;
    const float h = t0 + tc > t_min ? t0 + tc : t1 + tc;
    if (h <= t_min || h >= *t) return false;
    *t = h;
    *n = vscale(at(o, d, h), 1 / r);
    return true;
}

static bool hit_box(const cn_solid *s, vec3 o, vec3 d, float t_min, float *t, vec3 *n)
{
    const float oo[3] = {o.x, o.y, o.z}, dd[3] = {d.x, d.y, d.z};
    const float hh[3] = {s->half.x, s->half.y, s->half.z};
    float enter = -INFINITY, leave = INFINITY;
    int axis = 0;
    for (int i = 0; i < 3; i++) {
        const float inv = 1 / (fabsf(dd[i]) > 1e-12f ? dd[i] : 1e-12f);
        const float a = (-hh[i] - oo[i]) * inv, b = (hh[i] - oo[i]) * inv;
        const float lo = least(a, b);
        if (lo > enter) {
            enter = lo;
            axis = i;
        }
        leave = least(leave, most(a, b));
    }
    if (enter > leave || enter <= t_min || enter >= *t) return false;
    float nn[3] = {0, 0, 0};
    nn[axis] = dd[axis] > 0 ? -1.0f : 1.0f;
    *t = enter;
    *n = v3(nn[0], nn[1], nn[2]);
    return true;
}

/* A disc of radius r at height y, facing up or down. */
static bool hit_cap(float y, float r, float up, vec3 o, vec3 d, float t_min, float *t, vec3 *n)
{
    if (d.y * up >= 0) return false;
    const float h = (y - o.y) / d.y;
    const vec3 p = at(o, d, h);
    if (h <= t_min || h >= *t || p.x * p.x + p.z * p.z > r * r) return false;
    *t = h;
    *n = v3(0, up, 0);
    return true;
}

static bool hit_cylinder(const cn_solid *s, vec3 o, vec3 d, float t_min, float *t, vec3 *n)
{
    const float r = s->half.x, hy = s->half.y;
    bool hit = hit_cap(hy, r, 1, o, d, t_min, t, n);
    hit |= hit_cap(-hy, r, -1, o, d, t_min, t, n);
    float t0, t1;
    const float c = o.x * o.x + o.z * o.z - r * r;
    if (!roots(d.x * d.x + d.z * d.z, o.x * d.x + o.z * d.z, c, &t0, &t1)) return hit;
    const vec3 p = at(o, d, t0);
    if (t0 <= t_min || t0 >= *t || fabsf(p.y) > hy) return hit;
    *t = t0;
    *n = v3(p.x / r, 0, p.z / r);
    return true;
}

static bool hit_cone(const cn_solid *s, vec3 o, vec3 d, float t_min, float *t, vec3 *n)
{
    const float r = s->half.x, hy = s->half.y, k = r / (2 * hy), k2 = k * k;
    bool hit = hit_cap(-hy, r, -1, o, d, t_min, t, n);
    const float yy = hy - o.y;
    float tt[2];
    if (!roots(d.x * d.x + d.z * d.z - k2 * d.y * d.y, o.x * d.x + o.z * d.z + k2 * yy * d.y,
               o.x * o.x + o.z * o.z - k2 * yy * yy, &tt[0], &tt[1]))
        return hit;
    for (int i = 0; i < 2; i++) {
        const vec3 p = at(o, d, tt[i]);
        if (tt[i] <= t_min || tt[i] >= *t || fabsf(p.y) > hy) continue;
        const vec3 m = v3(p.x, k2 * (hy - p.y), p.z);
        if (vdot(m, d) >= 0) continue;
        *t = tt[i];
        *n = vunit(m);
        return true;
    }
    return hit;
}

/* A convex solid: the ray enters where the last of its planes is crossed inwards. */
static bool hit_pyramid(const cn_solid *s, vec3 o, vec3 d, float t_min, float *t, vec3 *n)
{
    const float a = s->half.x, hy = s->half.y, inv = 1 / sqrtf(4 * hy * hy + a * a);
    const float side = 2 * hy * inv, rise = a * inv, reach = a * hy * inv;
    const vec3 normal[5] = {
        {side, rise, 0}, {-side, rise, 0}, {0, rise, side}, {0, rise, -side}, {0, -1, 0}};
    float enter = -INFINITY, leave = INFINITY;
    int face = 0;
    for (int i = 0; i < 5; i++) {
        const float dn = vdot(normal[i], d), gap = (i == 4 ? hy : reach) - vdot(normal[i], o);
        if (fabsf(dn) < 1e-12f) {
            if (gap < 0) return false;
            continue;
        }
        const float h = gap / dn;
        if (dn > 0) {
            leave = least(leave, h);
        } else if (h > enter) {
            enter = h;
            face = i;
        }
    }
    if (enter > leave || enter <= t_min || enter >= *t) return false;
    *t = enter;
    *n = normal[face];
    return true;
}

static bool hit_ring(const cn_solid *s, vec3 o, vec3 d, float t_min, float *t, vec3 *n)
{
    const float minor = s->ring_minor, major = s->half.x - minor, eps = 1e-4f * s->half.x;
    const float len = sqrtf(vdot(d, d));
    const vec3 u = vscale(d, 1 / len);
    /* The box around the tube holds every hit. */
    const float inv_z = 1 / (fabsf(u.z) > 1e-9f ? u.z : 1e-9f);
    const float za = (-minor - o.z) * inv_z, zb = (minor - o.z) * inv_z;
    const float tc = -vdot(o, u), m2 = vdot(o, o) - tc * tc, r2 = s->radius * s->radius;
    if (m2 > r2) return false;
    const float half = sqrtf(r2 - m2);
    float h = most(most(tc - half, least(za, zb)), t_min * len);
    const float end = least(least(tc + half, most(za, zb)), *t * len);
    for (int step = 0; step < 96 && h < end; step++) {
        const vec3 p = at(o, u, h);
        const float rho = sqrtf(p.x * p.x + p.y * p.y), q = rho - major;
        const float dist = sqrtf(q * q + p.z * p.z) - minor;
        if (dist < eps) {
            *t = (h + dist) / len;
            *n = vunit(v3(p.x * q / rho, p.y * q / rho, p.z));
            return true;
        }
        h += dist;
    }
    return false;
}

bool cn_solid_hit(const cn_solid *s, vec3 o, vec3 d, float t_min, float *t, vec3 *normal)
{
    const vec3 lo = to_local(s, vsub(o, s->centre)), ld = to_local(s, d);
    vec3 n = {0, 0, 0};
    bool hit = false;
    switch (s->shape) {
    case CN_SHAPE_SPHERE: hit = hit_sphere(s, lo, ld, t_min, t, &n); break;
    case CN_SHAPE_CUBE: hit = hit_box(s, lo, ld, t_min, t, &n); break;
    case CN_SHAPE_CYLINDER: hit = hit_cylinder(s, lo, ld, t_min, t, &n); break;
    case CN_SHAPE_CONE: hit = hit_cone(s, lo, ld, t_min, t, &n); break;
    case CN_SHAPE_RING: hit = hit_ring(s, lo, ld, t_min, t, &n); break;
    case CN_SHAPE_PYRAMID: hit = hit_pyramid(s, lo, ld, t_min, t, &n); break;
    default: break;
    }
    if (hit) *normal = to_world(s, n);
    return hit;
}

void cn_camera_init(const cn_scene *scene, cn_camera *out)
{
    const float c = cosf(scene->camera_pitch), s = sinf(scene->camera_pitch);
    out->pos = v3(0, scene->camera_height, 0);
    out->right = v3(1, 0, 0);
    out->up = v3(0, c, s);
    out->forward = v3(0, -s, c);
    out->tan_half_fov = scene->tan_half_fov;
}

bool cn_solid_bounds(const cn_solid *s, const cn_camera *camera, float box[4])
{
    box[0] = box[1] = INFINITY;
    box[2] = box[3] = -INFINITY;
    for (int i = 0; i < 8; i++) {
        const vec3 corner = v3(i & 1 ? s->half.x : -s->half.x, i & 2 ? s->half.y : -s->half.y,
                               i & 4 ? s->half.z : -s->half.z);
        const vec3 p = vsub(vadd(s->centre, to_world(s, corner)), camera->pos);
        const float z = vdot(p, camera->forward);
        if (z < 0.1f) return false;
        const float inv = 1 / (z * camera->tan_half_fov);
        const float x = vdot(p, camera->right) * inv, y = vdot(p, camera->up) * inv;
        box[0] = least(box[0], x);
        box[1] = least(box[1], y);
        box[2] = most(box[2], x);
        box[3] = most(box[3], y);
    }
    return true;
}
