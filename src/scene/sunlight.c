/* SPDX-License-Identifier: Apache-2.0 */
/* sunlight.c - soft shadows from outlines.
 *
 * The sun is far, so that every part has one outline towards it, whoever looks. A point is in the
 * dark by how deep it lies inside that outline, measured by the width of the sun's disc at the
 * outline's distance: shadows are sharp where things touch and soft far from what casts them, and
 * vary without steps. Of several parts the darkest counts, since an object's parts overlap.
 */
#include "scene/sunlight.h"

#include "scene/rays.h"

static const float SHARPEST = 0.008f; /* metres; half the width of the sharpest edge */

vec3 cn_sun_view(const cn_sun *sun, vec3 p)
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
        out[n++] = cn_sun_view(sun, low);
        if (r > 0 || i == 0) out[n++] = cn_sun_view(sun, high);
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
        for (; n < part->n_corners; n++) points[n] = cn_sun_view(sun, part->corner[n]);
    sort_points(points, n);
    s->n = hull(points, n, around);
    for (int i = 0; i < s->n; i++) {
        const vec3 a = around[i], b = around[(i + 1) % s->n];
        const float dx = b.x - a.x, dy = b.y - a.y, inv = 1 / sqrtf(dx * dx + dy * dy);
        s->outline[i] = a;
        s->edge_x[i] = dy * inv;
        s->edge_y[i] = -dx * inv;
        s->edge_z[i] = (dy * a.x - dx * a.y) * inv;
    }
    for (int i = s->n; i % CN_LANES; i++) {
        s->edge_x[i] = s->edge_y[i] = 0;
        s->edge_z[i] = INFINITY;
    }
}

static void add_silhouette(cn_sun *sun, const cn_part *part)
{
    cn_silhouette *s = &sun->silhouettes[sun->n++];
    s->part = part;
    s->centre = cn_sun_view(sun, part->centre);
    s->reach = part->reach;
    s->radius = part->radius;
    if (part->kind == CN_PART_CAPSULE) {
        s->n = 2;
        s->outline[0] = cn_sun_view(sun, part->a);
        s->outline[1] = cn_sun_view(sun, part->b);
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
        for (int k = 0; k < objects[i].n_parts; k++) add_silhouette(sun, &objects[i].parts[k]);
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

/* Four edges at once; of equal ones the first counts. */
static float outline_distance(const cn_silhouette *s, vec3 q, float *ahead)
{
    lanes distance = lall(-INFINITY);
    lane_mask number = {0, 1, 2, 3}, edge = number;
    for (int i = 0; i < s->n; i += CN_LANES, number += CN_LANES) {
        const lanes d =
            lload(s->edge_x + i) * q.x + lload(s->edge_y + i) * q.y - lload(s->edge_z + i);
        const lane_mask more = d > distance;
        distance = lselect(more, d, distance);
        edge = (more & number) | (~more & edge);
    }
    int k = 0;
    for (int i = 1; i < CN_LANES; i++)
        if (distance[i] > distance[k] || (distance[i] == distance[k] && edge[i] < edge[k])) k = i;
    const vec3 a = s->outline[edge[k]], b = s->outline[edge[k] + 1 < s->n ? edge[k] + 1 : 0];
    const float dx = b.x - a.x, dy = b.y - a.y;
    const float share = clamp01(((q.x - a.x) * dx + (q.y - a.y) * dy) / (dx * dx + dy * dy));
    *ahead = a.z + share * (b.z - a.z) - q.z;
    return distance[k];
}

void cn_sun_list(const cn_sun *sun, vec3 lo, vec3 hi, cn_shades *out)
{
    int n = 0;
    out->lo = lo;
    out->hi = hi;
    for (int i = 0; i < sun->n; i++) {
        const cn_silhouette *s = &sun->silhouettes[i];
        const float deep = s->centre.z + s->reach - lo.z;
        const float near = s->reach + SHARPEST + sun->disc * deep;
        const float cx = most(0, most(lo.x - s->centre.x, s->centre.x - hi.x));
        const float cy = most(0, most(lo.y - s->centre.y, s->centre.y - hi.y));
        if (deep <= 0 || cx * cx + cy * cy >= near * near) continue;
        out->list[n] = (uint16_t)i;
        out->x[n] = s->centre.x;
        out->y[n] = s->centre.y;
        out->z[n] = s->centre.z;
        out->reach[n++] = s->reach;
    }
    out->n = n;
    for (; n % CN_LANES; n++) {
        out->x[n] = out->y[n] = out->reach[n] = 0;
        out->z[n] = -INFINITY;
    }
}

/* How much of the sun one silhouette leaves. */
static float left_by(const cn_sun *sun, const cn_silhouette *s, vec3 p, vec3 q, const cn_part *part)
{
    float ahead;
    const bool capsule = s->radius > 0;
    const float d = capsule ? capsule_distance(s, q, &ahead) : outline_distance(s, q, &ahead);
    /* Inside the outline the part is before the point or behind it; the ground is always behind. */
    if (part && d < 0 && !capsule) {
        if (!cn_part_ahead(s->part, p, sun->direction)) return 1;
        ahead = most(ahead, 0);
    }
    if (ahead < 0) {
        if (part || d >= 0) return 1;
        ahead = 0;
    }
    const float wide = sun->disc * ahead + SHARPEST;
    return smooth_step(-wide, wide, d);
}

float cn_sun_seen(const cn_sun *sun, vec3 p, const cn_part *part, const cn_shades *shades)
{
    const vec3 q = cn_sun_view(sun, p);
    float seen = 1;
    for (int i = 0; i < shades->n && seen > 0; i += CN_LANES) {
        const lanes cx = q.x - lload(shades->x + i), cy = q.y - lload(shades->y + i);
        const lanes reach = lload(shades->reach + i), deep = lload(shades->z + i) + reach - q.z;
        const lanes near = reach + SHARPEST + sun->disc * deep;
        const lane_mask close = (deep > 0) & (cx * cx + cy * cy < near * near);
        if (!lany(close)) continue;
        for (int k = 0; k < CN_LANES; k++) {
            if (!close[k]) continue;
            const cn_silhouette *s = &sun->silhouettes[shades->list[i + k]];
            if (s->part != part) seen = least(seen, left_by(sun, s, p, q, part));
        }
    }
    return seen;
}

/* --- the ground's ---------------------------------------------------------------------------- */

static lanes capsule_distances(const cn_silhouette *s, vecs q, lanes *ahead)
{
    const vec3 a = s->outline[0], b = s->outline[1];
    const float dx = b.x - a.x, dy = b.y - a.y;
    const lanes px = q.x - a.x, py = q.y - a.y;
    const lanes share = lclamp01((px * dx + py * dy) / (dx * dx + dy * dy + 1e-12f));
    const lanes ex = px - share * dx, ey = py - share * dy;
    *ahead = a.z + share * (b.z - a.z) - q.z;
    return lsqrt(ex * ex + ey * ey) - s->radius;
}

static lanes outline_distances(const cn_silhouette *s, vecs q, lanes *ahead)
{
    lanes distance = lall(-INFINITY);
    lane_mask edge = {0, 0, 0, 0};
    for (int i = 0; i < s->n; i++) {
        const lanes d = s->edge_x[i] * q.x + s->edge_y[i] * q.y - s->edge_z[i];
        const lane_mask more = d > distance;
        distance = lselect(more, d, distance);
        edge = (more & i) | (~more & edge);
    }
    for (int k = 0; k < CN_LANES; k++) {
        const int i = edge[k];
        const vec3 a = s->outline[i], b = s->outline[i + 1 < s->n ? i + 1 : 0];
        const float dx = b.x - a.x, dy = b.y - a.y;
        const float share =
            clamp01(((q.x[k] - a.x) * dx + (q.y[k] - a.y) * dy) / (dx * dx + dy * dy));
        (*ahead)[k] = a.z + share * (b.z - a.z) - q.z[k];
    }
    return distance;
}

lanes cn_sun_seen_from_ground(const cn_sun *sun, vecs q, const cn_shades *shades)
{
    lanes seen = lall(1);
    for (int i = 0; i < shades->n; i++) {
        const cn_silhouette *s = &sun->silhouettes[shades->list[i]];
        const lanes cx = q.x - s->centre.x, cy = q.y - s->centre.y;
        const lanes deep = s->centre.z + s->reach - q.z;
        const lanes near = s->reach + SHARPEST + sun->disc * deep;
        const lane_mask in_reach = (deep > 0) & (cx * cx + cy * cy < near * near);
        if (!lany(in_reach)) continue;
        lanes ahead = lall(0);
        const lanes d =
            s->radius > 0 ? capsule_distances(s, q, &ahead) : outline_distances(s, q, &ahead);
        const lane_mask counts = in_reach & ((ahead >= 0) | (d < 0));
        const lanes wide = sun->disc * lselect(ahead < 0, lall(0), ahead) + SHARPEST;
        const lanes t = lclamp01((d + wide) / (wide + wide));
        seen = lselect(counts, lleast(seen, t * t * (3.0f - 2.0f * t)), seen);
    }
    return seen;
}
