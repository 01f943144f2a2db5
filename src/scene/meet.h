/* SPDX-License-Identifier: Apache-2.0 */
/* meet.h - where rays enter a part, four at a time. Internal to src/scene.
 *
 * What is missed is told by t = INFINITY. o is each ray's point nearest the part's centre, relative
 * to that centre: far cameras keep their precision so. Only where a ray enters counts: nothing
 * looks out from inside.
 */
#ifndef CN_SCENE_MEET_H
#define CN_SCENE_MEET_H

#include "scene/lanes.h"
#include "scene/parts.h"

typedef struct meeting {
    lanes t;     /* INFINITY: none beyond t_min */
    vecs normal; /* outward, unit; anything where t is INFINITY */
} meeting;

typedef meeting (*meet_fn)(const cn_part *part, vecs o, vecs d, lanes t_min);

/* The normal that a chain's curve has where its link is met: at right angles to the interpolated
 * tangent. */
static LANES_INLINE vecs chain_normal(const cn_part *p, vecs n, lanes share)
{
    const vecs tangent = vs_mad(vall(p->tangent_a), vall(vsub(p->tangent_b, p->tangent_a)), share);
    return vs_unit(vs_mad(n, tangent, -vs_dot(n, tangent) / vs_dot(tangent, tangent)));
}

static LANES_INLINE meeting meet_capsule(const cn_part *p, vecs o, vecs d, lanes t_min)
{
    const float r = p->radius;
    const vec3 length = vsub(p->b, p->a);
    const float aa = vdot(length, length);
    const vecs axis = vall(length), oa = vs_mad(o, axis, lall(0.5f));
    const lanes dd = vs_dot(d, d), zero = lall(0), one = lall(1);
    lanes disc = zero, along = zero, end = zero, t_side = zero;
    lane_mask at_end = {-1, -1, -1, -1}, met = at_end;
    if (aa > 0) { /* the cylinder between the ends */
        const lanes ad = vs_dot(axis, d), ao = vs_dot(axis, oa);
        const lanes a = dd * aa - ad * ad, b = aa * vs_dot(d, oa) - ao * ad;
        const lanes c = aa * vs_dot(oa, oa) - ao * ao - r * r * aa;
        disc = b * b - a * c;
        met = disc >= 0;
        if (!lany(met)) return (meeting){lall(INFINITY), o};
        t_side = lselect(a > 0, (-b - lsqrt(disc)) / a, zero);
        along = (ao + t_side * ad) / aa;
        at_end = (a <= 0) | (along <= 0) | (along >= 1);
        end = lselect(along > 0.5f, one, zero);
        end = lselect(a <= 0, lselect(ad < 0, one, zero), end);
    }
    /* The ball at the end that is nearer. */
    const vecs e = vs_mad(oa, axis, -end);
    const lanes eb = vs_dot(e, d), end_disc = eb * eb - dd * (vs_dot(e, e) - r * r);
    const lanes t = lselect(at_end, (-eb - lsqrt(end_disc)) / dd, t_side);
    const lanes share = lselect(at_end, end, along);
    met &= (~at_end | (end_disc >= 0)) & (t > t_min);
    vecs n = vs_scale(vs_mad(vs_mad(oa, d, t), axis, -share), lall(1 / r));
    if (vdot(p->tangent_a, p->tangent_a) > 0) n = chain_normal(p, n, share);
    return (meeting){lselect(met, t, lall(INFINITY)), n};
}

/* Upright, of radius `low` at -half and `high` at half. */
static LANES_INLINE meeting meet_frustum(const cn_part *p, vecs o, vecs d, lanes t_min)
{
    const float half = 0.5f * (p->b.y - p->a.y), low = p->radius, high = p->top_radius;
    const float k = (low - high) / (2 * half), mid = 0.5f * (low + high);
    const lanes wide = mid - k * o.y, zero = lall(0);
    meeting m = {lall(INFINITY), {zero, zero, zero}};
    /* The discs below and above. */
    const lanes t_low = (-half - o.y) / d.y, t_high = (half - o.y) / d.y;
    const vecs p_low = vs_mad(o, d, t_low), p_high = vs_mad(o, d, t_high);
    const lane_mask met_low =
        (d.y > 0) & (t_low > t_min) & (p_low.x * p_low.x + p_low.z * p_low.z <= low * low);
    m.t = lselect(met_low, t_low, m.t);
    m.normal.y = lselect(met_low, lall(-1), zero);
    if (high > 0) {
        const lane_mask met_high = (d.y < 0) & (t_high > t_min) & (t_high < m.t) &
                                   (p_high.x * p_high.x + p_high.z * p_high.z <= high * high);
        m.t = lselect(met_high, t_high, m.t);
        m.normal.y = lselect(met_high, lall(1), m.normal.y);
    }
    /* The mantle: a t^2 + 2 b t + c = 0. */
    const lanes a = d.x * d.x + d.z * d.z - k * k * d.y * d.y;
    const lanes b = o.x * d.x + o.z * d.z + k * wide * d.y;
    const lanes c = o.x * o.x + o.z * o.z - wide * wide, disc = b * b - a * c;
    const lanes q = lsqrt(disc), r0 = (-b - q) / a, r1 = (-b + q) / a;
    lane_mask wanted = (disc >= 0) & (a != 0);
    for (int i = 0; i < 2; i++) {
        const lanes t = i ? lmost(r0, r1) : lleast(r0, r1);
        const vecs s = vs_mad(o, d, t), n = {s.x, k * (mid - k * s.y), s.z};
        const lane_mask met =
            wanted & (t > t_min) & (t < m.t) & (lmagnitude(s.y) <= half) & (vs_dot(n, d) < 0);
        m.normal = vs_select(met, vs_unit(n), m.normal);
        m.t = lselect(met, t, m.t);
        wanted &= ~met;
    }
    return m;
}

/* A convex solid: the ray enters where the last of its planes is crossed inwards. */
static LANES_INLINE meeting meet_polyhedron(const cn_part *p, vecs o, vecs d, lanes t_min)
{
    lanes enter = lall(-INFINITY), leave = lall(INFINITY), face = lall(0);
    lane_mask out = {0, 0, 0, 0};
    vecs normal = vall(p->normal[0]);
    for (int i = 0; i < p->n_planes; i++) {
        const vecs n = vall(p->normal[i]);
        const lanes dn = vs_dot(n, d);
        const lanes gap = p->offset[i] - vdot(p->normal[i], p->centre) - vs_dot(n, o);
        const lane_mask level = lmagnitude(dn) < 1e-12f;
        const lanes t = gap / dn;
        const lane_mask leaves = ~level & (dn > 0), enters = ~level & (dn <= 0) & (t > enter);
        out |= level & (gap < 0);
        leave = lselect(leaves, lleast(leave, t), leave);
        enter = lselect(enters, t, enter);
        face = lselect(enters, lall((float)i), face);
        normal = vs_select(enters, n, normal);
    }
    const lane_mask met = ~out & (enter <= leave) & (enter > t_min);
    if (p->round) {
        const vecs axis = vall(p->axis), ball = vall(p->centre), at = vs_mad(o, d, enter);
        const vecs q =
            vs_sub((vecs){ball.x + at.x, ball.y + at.y, ball.z + at.z}, vall(p->axis_point));
        const vecs radial = vs_unit(vs_mad(q, axis, -vs_dot(q, axis)));
        normal = vs_select(face == 0, radial, normal);
        normal = vs_select(face == 1, vs_scale(radial, lall(-1)), normal);
    }
    return (meeting){lselect(met, enter, lall(INFINITY)), normal};
}

/* The rays from c (relative to the part's centre) that go by the part within its reach; `along` is
 * how far o lies ahead of c. */
static LANES_INLINE meeting meet_part(meet_fn meet, const cn_part *part, vecs c, vecs d,
                                      float t_min, lanes *along)
{
    *along = -vs_dot(c, d) / vs_dot(d, d);
    const vecs near = vs_mad(c, d, *along);
    const lane_mask far = vs_dot(near, near) > part->reach * part->reach;
    if (!lany(~far)) return (meeting){lall(INFINITY), near};
    meeting m = meet(part, near, d, t_min - *along);
    m.t = lselect(far, lall(INFINITY), m.t);
    return m;
}

#endif
