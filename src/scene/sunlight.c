/* SPDX-License-Identifier: Apache-2.0 */
/* sunlight.c - soft shadows from outlines.
 *
 * The sun is far, so that every part has one outline towards it, whoever looks. A point is in the
 * dark by how deep it lies inside that outline, measured by the width of the sun's disc at the
 * outline's distance: shadows are sharp where things touch and soft far from what casts them, and
 * vary without steps. Of several parts the darkest counts, since an object's parts overlap.
 */
#include "scene/sunlight.h"

static const float SHARPEST = 0.008f; /* metres; half the width of the sharpest edge */

static vec3 seen_from_sun(const cn_sun *sun, vec3 p)
{
    return v3(vdot(p, sun->across_x), vdot(p, sun->across_y), vdot(p, sun->direction));
}

/* --- outlines -------------------------------------------------------------------------------- */

static float turn(vec3 a, vec3 b, vec3 c)
{
    return (b.x - a.x) * (c.y - a.y) - (b.y - a.y) * (c.x - a.x);
}

static void sort_points(vec3 *p, int n)
{
    for (int i = 1; i < n; i++)
        for (int k = i; k > 0; k--) {
            if (p[k - 1].x < p[k].x || (p[k - 1].x == p[k].x && p[k - 1].y <= p[k].y)) break;
            const vec3 swap = p[k];
            p[k] = p[k - 1];
            p[k - 1] = swap;
        }
}

/* The convex hull of n sorted points, counter-clockwise (Andrew's monotone chain). */
static int hull(const vec3 *p, int n, vec3 *out)
{
    int m = 0;
    for (int i = 0; i < n; i++) {
        while (m >= 2 && turn(out[m - 2], out[m - 1], p[i]) <= 0) m--;
        out[m++] = p[i];
    }
    const int lower = m + 1;
    for (int i = n - 2; i >= 0; i--) {
        while (m >= lower && turn(out[m - 2], out[m - 1], p[i]) <= 0) m--;
        out[m++] = p[i];
    }
    return m - 1;
}

static int frustum_points(const cn_sun *sun, const cn_part *part, vec3 *out)
{
    enum { ROUND = 24 };
    int n = 0;
    for (int i = 0; i < ROUND; i++) {
        const float angle = (float)i * (2 * 3.14159265f / ROUND);
        const float c = cn_cosine(angle), s = cn_sine(angle);
        const vec3 low = v3(part->a.x + part->radius * c, part->a.y, part->a.z + part->radius * s);
        const float r = part->top_radius;
        const vec3 high = v3(part->b.x + r * c, part->b.y, part->b.z + r * s);
        out[n++] = seen_from_sun(sun, low);
        if (r > 0 || i == 0) out[n++] = seen_from_sun(sun, high);
    }
    return n;
}

static void set_outline(const cn_sun *sun, const cn_part *part, cn_silhouette *s)
{
    vec3 points[CN_OUTLINE_POINTS + 1], around[2 * CN_OUTLINE_POINTS + 2];
    int n = 0;
    if (part->kind == CN_PART_FRUSTUM)
        n = frustum_points(sun, part, points);
    else
        for (; n < part->n_corners; n++) points[n] = seen_from_sun(sun, part->corner[n]);
    sort_points(points, n);
    s->n = hull(points, n, around);
    for (int i = 0; i < s->n; i++) {
        const vec3 a = around[i], b = around[(i + 1) % s->n];
        const float dx = b.x - a.x, dy = b.y - a.y, inv = 1 / sqrtf(dx * dx + dy * dy);
        s->outline[i] = a;
        s->edge[i] = v3(dy * inv, -dx * inv, (dy * a.x - dx * a.y) * inv);
    }
}

static void add_silhouette(cn_sun *sun, const cn_part *part, int object)
{
    cn_silhouette *s = &sun->silhouettes[sun->n++];
    s->part = part;
    s->object = object;
    s->centre = seen_from_sun(sun, part->centre);
    s->reach = part->reach;
    s->radius = part->radius;
    if (part->kind == CN_PART_CAPSULE) {
        s->n = 2;
        s->outline[0] = seen_from_sun(sun, part->a);
        s->outline[1] = seen_from_sun(sun, part->b);
        return;
    }
    s->radius = 0;
    set_outline(sun, part, s);
}

void cn_sun_init(cn_sun *sun, float azimuth, float elevation, float disc, const cn_object *objects,
                 int n_objects)
{
    const float ca = cn_cosine(azimuth), sa = cn_sine(azimuth);
    const float ce = cn_cosine(elevation), se = cn_sine(elevation);
    sun->direction = v3(ce * sa, se, -ce * ca);
    sun->across_x = v3(ca, 0, sa);
    sun->across_y = v3(-se * sa, ce, se * ca);
    sun->disc = disc;
    sun->n = 0;
    for (int i = 0; i < n_objects; i++)
        for (int k = 0; k < objects[i].n_parts; k++) add_silhouette(sun, &objects[i].parts[k], i);
}

/* --- visibility ------------------------------------------------------------------------------ */

/* Distance from the outline, below 0 inside, and how far towards the sun the nearest of it is. */
static float capsule_distance(const cn_silhouette *s, vec3 q, float *ahead)
{
    const vec3 a = s->outline[0], b = s->outline[1];
    const float dx = b.x - a.x, dy = b.y - a.y, px = q.x - a.x, py = q.y - a.y;
    const float share = clamp01((px * dx + py * dy) / (dx * dx + dy * dy + 1e-12f));
    const float ex = px - share * dx, ey = py - share * dy;
    *ahead = a.z + share * (b.z - a.z) - q.z;
    return sqrtf(ex * ex + ey * ey) - s->radius;
}

static float outline_distance(const cn_silhouette *s, vec3 q, float *ahead)
{
    float distance = -INFINITY;
    int edge = 0;
    for (int i = 0; i < s->n; i++) {
        const float d = s->edge[i].x * q.x + s->edge[i].y * q.y - s->edge[i].z;
        if (d > distance) {
            distance = d;
            edge = i;
        }
    }
    const vec3 a = s->outline[edge], b = s->outline[edge + 1 < s->n ? edge + 1 : 0];
    const float dx = b.x - a.x, dy = b.y - a.y;
    const float share = clamp01(((q.x - a.x) * dx + (q.y - a.y) * dy) / (dx * dx + dy * dy));
    *ahead = a.z + share * (b.z - a.z) - q.z;
    return distance;
}

/* Inside the outline, whether the part is before the point or behind it; the ground is always
 * behind. */
static bool is_ahead(const cn_sun *sun, const cn_silhouette *s, vec3 p)
{
    cn_ray_hit hit = {.t = INFINITY};
    return cn_part_hit(s->part, p, sun->direction, 0, &hit);
}

float cn_sun_seen(const cn_sun *sun, vec3 p, const cn_part *part)
{
    const vec3 q = seen_from_sun(sun, p);
    float seen = 1;
    for (int i = 0; i < sun->n && seen > 0; i++) {
        const cn_silhouette *s = &sun->silhouettes[i];
        if (s->part == part) continue;
        const float cx = q.x - s->centre.x, cy = q.y - s->centre.y;
        const float deep = s->centre.z + s->reach - q.z;
        const float near = s->reach + SHARPEST + sun->disc * deep;
        if (deep <= 0 || cx * cx + cy * cy >= near * near) continue;
        float ahead;
        const bool capsule = s->radius > 0;
        const float d = capsule ? capsule_distance(s, q, &ahead) : outline_distance(s, q, &ahead);
        if (part && d < 0 && !capsule) {
            if (!is_ahead(sun, s, p)) continue;
            ahead = most(ahead, 0);
        }
        if (ahead < 0) {
            if (part || d >= 0) continue;
            ahead = 0;
        }
        const float wide = sun->disc * ahead + SHARPEST;
        seen = least(seen, smooth_step(-wide, wide, d));
    }
    return seen;
}
