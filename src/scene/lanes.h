/* SPDX-License-Identifier: Apache-2.0 */
/* lanes.h - four numbers at once, and vectors of them. Internal to src/scene.
 *
 * The compilers' own vector types: every lane is computed as a float alone would be, so that bytes
 * stay the same. Four fit the baseline's registers and pass between functions on every machine
 * alike.
 */
#ifndef CN_SCENE_LANES_H
#define CN_SCENE_LANES_H

#include "scene/geometry.h"

#include <stdint.h>
#include <string.h>

enum { CN_LANES = 4 };

typedef float lanes __attribute__((vector_size(16)));
typedef int32_t lane_mask __attribute__((vector_size(16))); /* -1 or 0, as comparisons give */

/* Where a call would pass vectors through memory. */
#define LANES_INLINE inline __attribute__((always_inline))

typedef struct vecs {
    lanes x, y, z;
} vecs;

static inline lanes lall(float x)
{
    return (lanes){x, x, x, x};
}
static inline lanes lload(const float *p)
{
    lanes v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline void lstore(float *p, lanes v)
{
    memcpy(p, &v, sizeof v);
}
static inline lanes lselect(lane_mask m, lanes a, lanes b)
{
    return (lanes)((m & (lane_mask)a) | (~m & (lane_mask)b));
}
static inline lanes lsqrt(lanes a)
{
    return (lanes){sqrtf(a[0]), sqrtf(a[1]), sqrtf(a[2]), sqrtf(a[3])};
}
static inline lanes lmagnitude(lanes a)
{
    return (lanes)((lane_mask)a & 0x7fffffff);
}
/* As least and most in geometry.h: b where the two don't compare. */
static inline lanes lleast(lanes a, lanes b)
{
    return lselect(a < b, a, b);
}
static inline lanes lmost(lanes a, lanes b)
{
    return lselect(a > b, a, b);
}
static inline lanes lclamp01(lanes x)
{
    return lselect(x < 0, lall(0), lselect(x > 1, lall(1), x));
}
static inline bool lany(lane_mask m)
{
    int64_t halves[2];
    memcpy(halves, &m, sizeof m);
    return (halves[0] | halves[1]) != 0;
}

static inline vecs vall(vec3 a)
{
    return (vecs){lall(a.x), lall(a.y), lall(a.z)};
}
static inline vecs vload(const float *x, const float *y, const float *z)
{
    return (vecs){lload(x), lload(y), lload(z)};
}
static inline vecs vs_sub(vecs a, vecs b)
{
    return (vecs){a.x - b.x, a.y - b.y, a.z - b.z};
}
static inline vecs vs_scale(vecs a, lanes s)
{
    return (vecs){a.x * s, a.y * s, a.z * s};
}
/* a + s b */
static inline vecs vs_mad(vecs a, vecs b, lanes s)
{
    return (vecs){a.x + b.x * s, a.y + b.y * s, a.z + b.z * s};
}
static inline lanes vs_dot(vecs a, vecs b)
{
    return a.x * b.x + a.y * b.y + a.z * b.z;
}
static inline vecs vs_unit(vecs a)
{
    return vs_scale(a, 1.0f / lsqrt(vs_dot(a, a)));
}
static inline vecs vs_select(lane_mask m, vecs a, vecs b)
{
    return (vecs){lselect(m, a.x, b.x), lselect(m, a.y, b.y), lselect(m, a.z, b.z)};
}

#endif
