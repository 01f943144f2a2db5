/* SPDX-License-Identifier: Apache-2.0 */
/* light.c - what colour a surface shows under a sky.
 *
 * Light is reckoned linear, and nearly white under every sky: a colour keeps its name. Sun and sky
 * light a matte surface; a polished one also mirrors its surroundings, which are made up.
 */
#include "scene/stage.h"

static const float LIFT = 2e-3f; /* metres off a surface, where its own roundness ends */

vec3 cn_light_sky(const cn_stage *st, vec3 d)
{
    const cn_sky *s = &st->sky;
    /* By the slope along the view, not the exact elevation: rows of the sky are one colour. */
    const float up = d.y / sqrtf(d.y * d.y + d.z * d.z + 1e-12f), k = clamp01(up / 0.40f);
    return k < 0.4f ? vmix(s->horizon, s->middle, k * 2.5f)
                    : vmix(s->middle, s->zenith, (k - 0.4f) * (1 / 0.6f));
}

/* What a polished surface mirrors: the lit ground, the horizon's haze, the sky. */
static vec3 surroundings(const cn_stage *st, vec3 d)
{
    const vec3 up = vmix(st->sky.middle, st->sky.zenith, clamp01(d.y * 1.4f));
    const vec3 above = vmix(st->sky.horizon, up, smooth_step(0.0f, 0.35f, d.y));
    const vec3 light = vadd(vscale(st->sky.key, st->sun.direction.y), st->sky.ambient);
    const vec3 below = vscale(vmul(st->ground, light), mixed(0.85f, 0.45f, clamp01(-d.y)));
    return vmix(below, above, smooth_step(-0.06f, 0.06f, d.y));
}

/* Two upright bands of light, towards the sun and aside of it, that polished surfaces mirror as in
 * a studio. */
static float light_bands(const cn_stage *st, vec3 d)
{
    const vec3 sun = st->sun.direction, side = st->sun.across_x;
    const float inv = 1 / sqrtf(d.x * d.x + d.z * d.z + 1e-6f);
    const float flat = 1 / sqrtf(sun.x * sun.x + sun.z * sun.z);
    const float a = (d.x * sun.x + d.z * sun.z) * inv * flat,
                b = (d.x * side.x + d.z * side.z) * inv;
    const float wide = smooth_step(0.72f, 0.98f, a);
    const float slim = smooth_step(0.86f, 0.99f, sun.x > 0 ? -b : b);
    const float height = smooth_step(-0.45f, 0.1f, d.y) * (1 - smooth_step(0.6f, 0.95f, d.y));
    return (wide + 0.5f * slim) * height;
}

/* How much of the sky above p other objects leave free, each seen as a few balls. */
static float sky_open(const cn_stage *st, vec3 p, vec3 n, int self)
{
    float open = 1;
    for (int i = 0; i < st->n_objects; i++) {
        if (i == self) continue;
        for (int k = 0; k < st->objects[i].n_blobs; k++) {
            const cn_blob *b = &st->objects[i].blobs[k];
            const vec3 c = vsub(b->centre, p);
            const float r = b->radius, d2 = most(vdot(c, c), r * r), up = vdot(n, c);
            if (up > 0) open *= 1 - 0.75f * up * r * r / (d2 * sqrtf(d2));
        }
    }
    return open;
}

static float power_of_2(float x, int doublings)
{
    for (int i = 0; i < doublings; i++) x *= x;
    return x;
}

/* Flat faces mirror one direction all over: a slanting gleam across them tells polish from chalk.
 */
static float gleam(const cn_stage *st, const cn_object *o, vec3 p)
{
    const vec3 q = vscale(vsub(p, o->base), 1 / o->size);
    const float along =
        0.6f * vdot(q, st->sun.across_x) * (st->sun.direction.x > 0 ? 1.0f : -1.0f) + 0.8f * q.y;
    const float far = fabsf(along - 0.95f), second = fabsf(along - 0.42f);
    return 1 - smooth_step(0.10f, 0.24f, far) + 0.45f * (1 - smooth_step(0.04f, 0.14f, second));
}

static vec3 shade_object(const cn_stage *st, const cn_sample *s, vec3 p, vec3 view)
{
    const int i = s->id - 2;
    const vec3 n = s->normal, base = s->look.colour;
    const float facing = most(0, vdot(n, st->sun.direction)), cosine = most(0, -vdot(n, view));
    const cn_object *o = &st->objects[i];
    const cn_part *part = st->parts[s->part];
    /* An object darkens its own foot. */
    const float foot = mixed(0.74f, 1, smooth_step(0, 0.7f, (p.y - o->base.y) / o->size));
    const float open = sky_open(st, p, n, i) * foot;
    /* From above comes the sky's light, from below what the ground throws back, and a little from
     * the viewer. */
    vec3 ambient = vmix(st->bounce, st->sky.ambient, 0.5f + 0.5f * n.y);
    ambient = vmad(ambient, st->sky.ambient, 0.20f + 0.28f * cosine);
    const vec3 diffuse = vmad(vscale(ambient, open), st->sky.key, facing * s->lit);
    const vec3 c = vmul(base, diffuse);
    if (s->look.finish == CN_MATERIAL_MATTE) return c;

    const vec3 half = vunit(vsub(st->sun.direction, view));
    const vec3 mirror = vsub(view, vscale(n, 2 * vdot(n, view)));
    const vec3 env = vscale(surroundings(st, mirror), 0.35f + 0.65f * open);
    const float f = 1 - cosine, f2 = f * f, fresnel = f2 * f2 * f;
    /* A flat face in the light's mirror would go white as a whole. */
    const bool flat = part->kind == CN_PART_POLYHEDRON && !part->round;
    const float band =
        flat ? 0.3f * light_bands(st, mirror) + 0.5f * gleam(st, o, p) : light_bands(st, mirror);
    const float bands = band * (0.25f + 0.75f * s->lit);
    const float nh = most(0, vdot(n, half)), glint = (flat ? 0.12f : 1) * s->lit;
    if (s->look.finish == CN_MATERIAL_METALLIC) {
        const float light = 0.3f * env.x + 0.5f * env.y + 0.2f * env.z;
        const vec3 tint = vmix(base, v3(1, 1, 1), (flat ? 0 : 0.08f) + 0.15f * fresnel);
        const vec3 m = vmad(vscale(c, 0.34f), tint, 0.85f * light + 0.9f * bands + 0.07f);
        return vmad(m, vmul(vmix(base, v3(1, 1, 1), 0.5f), st->sky.key),
                    glint * (0.9f * power_of_2(nh, 5) + 0.18f * power_of_2(nh, 3)));
    }
    const vec3 coat = vmad(c, env, 0.04f + 0.5f * fresnel);
    return vmad(coat, st->sky.key,
                0.11f * bands + glint * (1.5f * power_of_2(nh, 7) + 0.10f * power_of_2(nh, 4)));
}

/* --- samples --------------------------------------------------------------------------------- */

static float sun_seen(const cn_stage *st, vec3 p, const cn_part *part, const cn_shades *shades)
{
    const vec3 q = cn_sun_view(&st->sun, p);
    const bool inside = q.x >= shades->lo.x && q.x <= shades->hi.x && q.y >= shades->lo.y &&
                        q.y <= shades->hi.y && q.z >= shades->lo.z;
    if (inside) return cn_sun_seen(&st->sun, p, part, shades);
    cn_shades own;
    cn_sun_list(&st->sun, q, q, &own);
    return cn_sun_seen(&st->sun, p, part, &own);
}

static vec3 shade_ground(const cn_stage *st, vec3 p, float t, float lit)
{
    const vec3 n = {0, 1, 0};
    const vec3 ambient = vscale(st->sky.ambient, sky_open(st, p, n, -1));
    const vec3 c = vmul(st->ground, vmad(ambient, st->sky.key, vdot(n, st->sun.direction) * lit));
    const float far = most(0, t - 6) * 0.016f;
    return vmix(c, st->sky.horizon, 0.5f * far / (1 + far));
}

vec3 cn_light_sample(const cn_stage *st, vec3 d, const cn_shades *shades, cn_sample *s)
{
    const vec3 p = vmad(st->camera.pos, d, s->t);
    const cn_part *part = s->part < 0 ? NULL : st->parts[s->part];
    s->lit = 1;
    if (vdot(s->normal, st->sun.direction) > 0)
        s->lit = sun_seen(st, vmad(p, s->normal, LIFT), part, shades);
    return part ? shade_object(st, s, p, vunit(d)) : shade_ground(st, p, s->t, s->lit);
}

/* --- the ground, four points at once --------------------------------------------------------- */

static lanes sky_open_above(const cn_stage *st, vecs p)
{
    lanes open = lall(1);
    for (int i = 0; i < st->n_objects; i++)
        for (int k = 0; k < st->objects[i].n_blobs; k++) {
            const cn_blob *b = &st->objects[i].blobs[k];
            const vecs c = vs_sub(vall(b->centre), p);
            const float r = b->radius;
            const lanes d2 = lmost(vs_dot(c, c), lall(r * r)), up = c.y;
            const lanes left = 1.0f - 0.75f * up * r * r / (d2 * lsqrt(d2));
            open = lselect(up > 0, open * left, open);
        }
    return open;
}

/* How much four lifted points of the ground see of the sun. */
static lanes sun_seen_from(const cn_sun *sun, vecs p, lane_mask stray, const cn_shades *shades)
{
    const vecs q = {vs_dot(p, vall(sun->across_x)), vs_dot(p, vall(sun->across_y)),
                    vs_dot(p, vall(sun->direction))};
    if (!lany(stray)) return cn_sun_seen_from_ground(sun, q, shades);
    const vec3 lo = shades->lo, hi = shades->hi;
    const lane_mask inside =
        (q.x >= lo.x) & (q.x <= hi.x) & (q.y >= lo.y) & (q.y <= hi.y) & (q.z >= lo.z);
    if (!lany(stray & ~inside)) return cn_sun_seen_from_ground(sun, q, shades);
    vec3 low = {INFINITY, INFINITY, INFINITY}, high = vscale(low, -1);
    for (int i = 0; i < CN_LANES; i++) {
        if (!stray[i]) continue;
        low = v3(least(low.x, q.x[i]), least(low.y, q.y[i]), least(low.z, q.z[i]));
        high = v3(most(high.x, q.x[i]), most(high.y, q.y[i]), most(high.z, q.z[i]));
    }
    cn_shades own;
    cn_sun_list(sun, low, high, &own);
    return cn_sun_seen_from_ground(sun, q, &own);
}

lanes cn_light_ground(const cn_stage *st, vecs d, lanes t, lane_mask stray, const cn_shades *shades,
                      vecs *colour)
{
    const cn_sky *sky = &st->sky;
    vecs p = vs_mad(vall(st->camera.pos), d, t);
    const lanes open = sky_open_above(st, p);
    p.y += LIFT;
    const lanes lit = sun_seen_from(&st->sun, p, stray, shades);
    const lanes sun = st->sun.direction.y * lit, ahead = t - 6.0f;
    const lanes far = lselect(ahead < 0, lall(0), ahead) * 0.016f;
    const lanes haze = 0.5f * far / (1.0f + far);
    const vec3 g = st->ground, h = sky->horizon;
    const vecs c = {g.x * (sky->ambient.x * open + sky->key.x * sun),
                    g.y * (sky->ambient.y * open + sky->key.y * sun),
                    g.z * (sky->ambient.z * open + sky->key.z * sun)};
    *colour = (vecs){c.x + (h.x - c.x) * haze, c.y + (h.y - c.y) * haze, c.z + (h.z - c.z) * haze};
    return lit;
}
