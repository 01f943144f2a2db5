/* SPDX-License-Identifier: Apache-2.0 */
/* rays.c - the loops over rays, once for each kind of part. */
#include "scene/rays.h"

#include "scene/meet.h"

static const float T_MIN = 1e-3f;

static inline lane_mask load_parts(const int32_t *p)
{
    lane_mask m;
    memcpy(&m, p, sizeof m);
    return m;
}

static LANES_INLINE void meet_all(meet_fn meet, const cn_part *part, int index, vec3 origin,
                                  const cn_rays *rays, int first, int last, cn_hits *restrict hits)
{
    const vecs c = vall(vsub(origin, part->centre));
    const lane_mask mine = {index, index, index, index};
    for (int i = first; i < last; i += CN_LANES) {
        lanes along;
        const vecs d = vload(rays->x + i, rays->y + i, rays->z + i);
        const lanes best = lload(hits->t + i);
        const lanes t = meet_part(meet, part, c, d, T_MIN, &along).t;
        const lane_mask nearer = t < best - along;
        if (!lany(nearer)) continue;
        lstore(hits->t + i, lselect(nearer, t + along, best));
        const lane_mask part_now = (nearer & mine) | (~nearer & load_parts(hits->part + i));
        memcpy(hits->part + i, &part_now, sizeof part_now);
    }
}

static LANES_INLINE void normals_all(meet_fn meet, const cn_part *part, int index, vec3 origin,
                                     const cn_rays *rays, int first, int last,
                                     cn_hits *restrict hits)
{
    const vecs c = vall(vsub(origin, part->centre));
    for (int i = first; i < last; i += CN_LANES) {
        const lane_mask mine = load_parts(hits->part + i) == index;
        if (!lany(mine)) continue;
        lanes along;
        const vecs d = vload(rays->x + i, rays->y + i, rays->z + i);
        const vecs n = meet_part(meet, part, c, d, T_MIN, &along).normal;
        lstore(hits->nx + i, lselect(mine, n.x, lload(hits->nx + i)));
        lstore(hits->ny + i, lselect(mine, n.y, lload(hits->ny + i)));
        lstore(hits->nz + i, lselect(mine, n.z, lload(hits->nz + i)));
    }
}

void cn_rays_meet(const cn_part *part, int index, vec3 origin, const cn_rays *rays, int first,
                  int last, cn_hits *restrict hits)
{
    if (part->kind == CN_PART_CAPSULE)
        meet_all(meet_capsule, part, index, origin, rays, first, last, hits);
    else if (part->kind == CN_PART_FRUSTUM)
        meet_all(meet_frustum, part, index, origin, rays, first, last, hits);
    else
        meet_all(meet_polyhedron, part, index, origin, rays, first, last, hits);
}

void cn_rays_normals(const cn_part *part, int index, vec3 origin, const cn_rays *rays, int first,
                     int last, cn_hits *restrict hits)
{
    if (part->kind == CN_PART_CAPSULE)
        normals_all(meet_capsule, part, index, origin, rays, first, last, hits);
    else if (part->kind == CN_PART_FRUSTUM)
        normals_all(meet_frustum, part, index, origin, rays, first, last, hits);
    else
        normals_all(meet_polyhedron, part, index, origin, rays, first, last, hits);
}

bool cn_part_ahead(const cn_part *part, vec3 o, vec3 d)
{
    static const meet_fn meet[] = {
        [CN_PART_CAPSULE] = meet_capsule,
        [CN_PART_FRUSTUM] = meet_frustum,
        [CN_PART_POLYHEDRON] = meet_polyhedron,
    };
    lanes along;
    return meet_part(meet[part->kind], part, vall(vsub(o, part->centre)), vall(d), 0, &along).t[0] <
           INFINITY;
}
