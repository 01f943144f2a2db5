/* SPDX-License-Identifier: Apache-2.0 */
/* geometry.h - vectors, and the few transcendental functions that scenes need. Internal to
 * src/scene.
 *
 * Sums and products here round as IEEE 754 says and are never contracted (-std=c11 forbids it), and
 * nothing calls libm, whose last bit depends on the machine: a scene's bytes depend on its
 * description alone.
 */
#ifndef CN_SCENE_GEOMETRY_H
#define CN_SCENE_GEOMETRY_H

#include <math.h>
#include <stdbool.h>

typedef struct vec3 {
    float x, y, z;
} vec3;

static inline vec3 v3(float x, float y, float z)
{
    return (vec3){x, y, z};
}
static inline vec3 vadd(vec3 a, vec3 b)
{
    return v3(a.x + b.x, a.y + b.y, a.z + b.z);
}
static inline vec3 vsub(vec3 a, vec3 b)
{
    return v3(a.x - b.x, a.y - b.y, a.z - b.z);
}
static inline vec3 vmul(vec3 a, vec3 b)
{
    return v3(a.x * b.x, a.y * b.y, a.z * b.z);
}
static inline vec3 vscale(vec3 a, float s)
{
    return v3(a.x * s, a.y * s, a.z * s);
}
/* a + s b */
static inline vec3 vmad(vec3 a, vec3 b, float s)
{
    return v3(a.x + b.x * s, a.y + b.y * s, a.z + b.z * s);
}
static inline float vdot(vec3 a, vec3 b)
{
    return a.x * b.x + a.y * b.y + a.z * b.z;
}
static inline vec3 vcross(vec3 a, vec3 b)
{
    return v3(a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x);
}
static inline float vlength(vec3 a)
{
    return sqrtf(vdot(a, a));
}
static inline vec3 vunit(vec3 a)
{
    return vscale(a, 1.0f / vlength(a));
}
static inline vec3 vmix(vec3 a, vec3 b, float t)
{
    return vadd(a, vscale(vsub(b, a), t));
}
/* Not fminf and fmaxf, which are calls unless NaN is ruled out for the whole program. */
static inline float least(float a, float b)
{
    return a < b ? a : b;
}
static inline float most(float a, float b)
{
    return a > b ? a : b;
}
static inline float clamp01(float x)
{
    return x < 0 ? 0 : x > 1 ? 1 : x;
}
static inline float mixed(float a, float b, float t)
{
    return a + (b - a) * t;
}
/* 0 at and below lo, 1 at and above hi, with flat ends. */
static inline float smooth_step(float lo, float hi, float x)
{
    const float t = clamp01((x - lo) / (hi - lo));
    return t * t * (3 - 2 * t);
}
/* Rounds down; x within the range of int. */
static inline float round_down(float x)
{
    const float t = (float)(int)x;
    return t > x ? t - 1 : t;
}
static inline float fraction(float x)
{
    return x - round_down(x);
}

/* Of radians, to about 1e-7. */
float cn_sine(float x);
float cn_cosine(float x);
/* The angle of (x, y) in -pi..pi, 0 for the origin, to about 1e-6. */
float cn_angle(float y, float x);

#endif
