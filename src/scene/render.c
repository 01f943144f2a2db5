/* SPDX-License-Identifier: Apache-2.0 */
/* render.c - casts one ray per pixel centre for the exact maps, eight more where the picture needs
 * smoothing.
 *
 * Depth, normals and segmentation come from the ray through the pixel's centre and nothing else.
 * The picture takes eight rays, spread over the pixel, wherever surface, normal, colour or shadow
 * differ from a neighbour's. A ray only meets parts whose screen bounds hold it. Light is reckoned
 * linear, and shown through a square root (a display gamma of 2). Light is nearly white under every
 * sky: a colour keeps its name.
 */
#include "scene/parts.h"
#include "scene/sunlight.h"
#include "scene/surface.h"

#include <omp.h>
#include <string.h>

/* A kind of sky and what light comes from it, linear. */
typedef struct sky {
    vec3 zenith, middle, horizon;
    vec3 key, ambient; /* light from the sun, and from everywhere */
    float disc;        /* softness of shadows */
    float ground_dim;  /* at night the ground is kept darker than what stands on it */
} sky;

typedef struct stage {
    int n, size;
    cn_object objects[CN_SCENE_MAX_OBJECTS];
    float boxes[CN_SCENE_MAX_OBJECTS][CN_OBJECT_PARTS][4];
    float object_boxes[CN_SCENE_MAX_OBJECTS][4];
    cn_paints paints[CN_SCENE_MAX_OBJECTS];
    cn_camera camera;
    sky sky;
    vec3 ground, bounce; /* its colour, and what it throws back */
    cn_sun sun;
} stage;

/* What one ray met; pixel centres' are kept for the whole picture to find where to smooth. */
typedef struct sample {
    cn_ray_hit hit;
    int id; /* 0 sky, 1 ground, 2 + i object i */
    const cn_part *part;
    cn_look look;
    float lit; /* share of the sun that is seen */
    vec3 rgb;
} sample;

/* --- the stage ------------------------------------------------------------------------------- */

static vec3 shown(uint8_t r, uint8_t g, uint8_t b)
{
    return cn_display_light((const uint8_t[3]){r, g, b});
}

static void set_sky(int kind, sky *s)
{
    s->disc = 0.065f;
    s->ground_dim = 1;
    switch (kind) {
    case CN_SKY_SUNSET:
        s->zenith = shown(104, 84, 158);
        s->middle = shown(226, 124, 128);
        s->horizon = shown(255, 190, 116);
        s->key = v3(0.86f, 0.75f, 0.66f);
        s->ambient = v3(0.32f, 0.28f, 0.30f);
        break;
    case CN_SKY_NIGHT:
        s->zenith = shown(9, 12, 40);
        s->middle = shown(22, 30, 74);
        s->horizon = shown(58, 70, 126);
        s->key = v3(0.74f, 0.76f, 0.82f);
        s->ambient = v3(0.22f, 0.23f, 0.27f);
        s->ground_dim = 0.76f;
        break;
    case CN_SKY_GREY:
        s->zenith = shown(122, 129, 140);
        s->middle = shown(160, 166, 174);
        s->horizon = shown(198, 202, 207);
        s->key = v3(0.52f, 0.52f, 0.52f);
        s->ambient = v3(0.40f, 0.40f, 0.41f);
        s->disc = 0.10f;
        break;
    default:
        s->zenith = shown(54, 122, 216);
        s->middle = shown(112, 176, 240);
        s->horizon = shown(206, 231, 247);
        s->key = v3(0.82f, 0.79f, 0.73f);
        s->ambient = v3(0.28f, 0.30f, 0.34f);
        break;
    }
}

static vec3 ground_colour(int ground)
{
    switch (ground) {
    case CN_GROUND_GREEN: return shown(116, 168, 92);
    case CN_GROUND_BROWN: return shown(156, 116, 84);
    case CN_GROUND_WHITE: return shown(240, 240, 240);
    case CN_GROUND_YELLOW: return shown(226, 208, 130);
    case CN_GROUND_BLUE: return shown(112, 148, 198);
    case CN_GROUND_PINK: return shown(232, 180, 194);
    default: return shown(154, 156, 159);
    }
}

static void bound_parts(stage *st, int i)
{
    static const float all[4] = {-1, -1, 1, 1};
    const cn_object *o = &st->objects[i];
    if (!cn_object_bounds(o, &st->camera, st->object_boxes[i]))
        memcpy(st->object_boxes[i], all, sizeof all);
    for (int k = 0; k < o->n_parts; k++)
        if (!cn_part_bounds(&o->parts[k], &st->camera, st->boxes[i][k]))
            memcpy(st->boxes[i][k], all, sizeof all);
}

static void stage_init(const cn_scene *s, int size, stage *st)
{
    st->n = s->n_objects;
    st->size = size;
    cn_camera_init(s, &st->camera);
    set_sky(s->sky, &st->sky);
    for (int i = 0; i < s->n_objects; i++) {
        cn_paints_init(&s->objects[i], &st->paints[i]);
        cn_object_build(&s->objects[i], &st->objects[i]);
        bound_parts(st, i);
    }
    cn_sun_init(&st->sun, s->light_azimuth, s->light_elevation, st->sky.disc, st->objects,
                s->n_objects);
    st->ground = vscale(ground_colour(s->ground), st->sky.ground_dim);
    st->bounce = vscale(vmul(st->ground, st->sky.key), 0.30f);
}

/* --- rays ------------------------------------------------------------------------------------ */

/* The direction whose length along the view is 1, through a point of the picture in pixels. */
static vec3 ray_through(const stage *st, float x, float y)
{
    const cn_camera *c = &st->camera;
    const float scale = 2.0f / (float)st->size, sx = x * scale - 1, sy = 1 - y * scale;
    return vadd(c->forward, vscale(vadd(vscale(c->right, sx), vscale(c->up, sy)), c->tan_half_fov));
}

static bool outside(const float box[4], float sx, float sy)
{
    return sx < box[0] || sx > box[2] || sy < box[1] || sy > box[3];
}

static void cast(const stage *st, float sx, float sy, sample *s, vec3 *dir)
{
    const cn_camera *c = &st->camera;
    const vec3 d =
        vadd(c->forward, vscale(vadd(vscale(c->right, sx), vscale(c->up, sy)), c->tan_half_fov));
    *dir = d;
    s->hit = (cn_ray_hit){INFINITY, {0, 0, 0}};
    s->id = 0;
    s->part = NULL;
    if (d.y < 0) {
        s->hit = (cn_ray_hit){-c->pos.y / d.y, {0, 1, 0}};
        s->id = 1;
    }
    for (int i = 0; i < st->n; i++) {
        if (outside(st->object_boxes[i], sx, sy)) continue;
        for (int k = 0; k < st->objects[i].n_parts; k++) {
            const cn_part *part = &st->objects[i].parts[k];
            if (outside(st->boxes[i][k], sx, sy)) continue;
            if (!cn_part_hit(part, c->pos, d, 1e-3f, &s->hit)) continue;
            s->id = 2 + i;
            s->part = part;
        }
    }
}

/* --- light ----------------------------------------------------------------------------------- */

static vec3 sky_colour(const sky *s, vec3 d)
{
    /* By the slope along the view, not the exact elevation: rows of the sky are one colour. */
    const float up = d.y / sqrtf(d.y * d.y + d.z * d.z + 1e-12f), k = clamp01(up / 0.40f);
    return k < 0.4f ? vmix(s->horizon, s->middle, k * 2.5f)
                    : vmix(s->middle, s->zenith, (k - 0.4f) * (1 / 0.6f));
}

/* What a polished surface mirrors: the lit ground, the horizon's haze, the sky. */
static vec3 surroundings(const stage *st, vec3 d)
{
    const vec3 up = vmix(st->sky.middle, st->sky.zenith, clamp01(d.y * 1.4f));
    const vec3 above = vmix(st->sky.horizon, up, smooth_step(0.0f, 0.35f, d.y));
    const vec3 light = vadd(vscale(st->sky.key, st->sun.direction.y), st->sky.ambient);
    const vec3 below = vscale(vmul(st->ground, light), mixed(0.85f, 0.45f, clamp01(-d.y)));
    return vmix(below, above, smooth_step(-0.06f, 0.06f, d.y));
}

/* Two upright bands of light, towards the sun and aside of it, that polished surfaces mirror as in
 * a studio. */
static float light_bands(const stage *st, vec3 d)
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
static float sky_open(const stage *st, vec3 p, vec3 n, int self)
{
    float open = 1;
    for (int i = 0; i < st->n; i++) {
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
static float gleam(const stage *st, const cn_object *o, vec3 p)
{
    const vec3 q = vscale(vsub(p, o->base), 1 / o->size);
    const float along =
        0.6f * vdot(q, st->sun.across_x) * (st->sun.direction.x > 0 ? 1.0f : -1.0f) + 0.8f * q.y;
    const float far = fabsf(along - 0.95f), second = fabsf(along - 0.42f);
    return 1 - smooth_step(0.10f, 0.24f, far) + 0.45f * (1 - smooth_step(0.04f, 0.14f, second));
}

static vec3 shade_object(const stage *st, const sample *s, vec3 p, vec3 view)
{
    const int i = s->id - 2;
    const vec3 n = s->hit.normal, base = s->look.colour;
    const float facing = most(0, vdot(n, st->sun.direction)), cosine = most(0, -vdot(n, view));
    const cn_object *o = &st->objects[i];
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
    const bool flat = s->part->kind == CN_PART_POLYHEDRON && !s->part->round;
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

/* What the ray through (sx, sy) meets, and the colour of it. */
static vec3 look(const stage *st, float sx, float sy, sample *s)
{
    vec3 d;
    cast(st, sx, sy, s, &d);
    s->look = (cn_look){st->ground, CN_MATERIAL_MATTE};
    if (s->id > 1) {
        const vec3 p = vmad(st->camera.pos, d, s->hit.t);
        s->look = cn_surface_look(&st->paints[s->id - 2], &st->objects[s->id - 2], s->part, p,
                                  s->hit.normal);
    }
    return d;
}

/* Of what `look` met along d: lit and rgb. */
static void shade(const stage *st, vec3 d, sample *s)
{
    s->lit = 1;
    if (s->id == 0) {
        s->rgb = sky_colour(&st->sky, d);
        return;
    }
    const vec3 p = vmad(st->camera.pos, d, s->hit.t), n = s->hit.normal;
    const float facing = vdot(n, st->sun.direction);
    if (facing > 0) s->lit = cn_sun_seen(&st->sun, vmad(p, n, 2e-3f), s->part);
    if (s->id == 1) {
        const vec3 ambient = vscale(st->sky.ambient, sky_open(st, p, n, -1));
        const vec3 c = vmul(st->ground, vmad(ambient, st->sky.key, facing * s->lit));
        const float far = most(0, s->hit.t - 6) * 0.016f;
        s->rgb = vmix(c, st->sky.horizon, 0.5f * far / (1 + far));
        return;
    }
    s->rgb = shade_object(st, s, p, vunit(d));
}

static uint8_t to_byte(float v)
{
    return (uint8_t)(sqrtf(clamp01(v)) * 255 + 0.5f);
}

static void put_rgb(uint8_t *out, vec3 c)
{
    out[0] = to_byte(c.x);
    out[1] = to_byte(c.y);
    out[2] = to_byte(c.z);
}

/* --- the picture ----------------------------------------------------------------------------- */

static bool same_surface(const sample *a, const sample *b)
{
    if (a->id != b->id) return false;
    if (a->id < 2) return true;
    const vec3 p = a->look.colour, q = b->look.colour;
    return vdot(a->hit.normal, b->hit.normal) > 0.85f &&
           fabsf(p.x - q.x) + fabsf(p.y - q.y) + fabsf(p.z - q.z) < 0.02f;
}

/* Two pixels' shadow, so far as they differ by that alone. */
static bool shadow_between(const sample *a, const sample *b)
{
    return a->id == b->id && fabsf(a->lit - b->lit) > 0.30f;
}

enum { CALM, EDGE, SHADOW_EDGE };

/* Whether a pixel's four neighbours are of its surface and as much lit. */
static int roughness(const sample *s, int size, int x, int y)
{
    const sample *c = s + (size_t)y * size + x;
    const sample *near[4] = {x > 0 ? c - 1 : c, x + 1 < size ? c + 1 : c, y > 0 ? c - size : c,
                             y + 1 < size ? c + size : c};
    int rough = CALM;
    for (int i = 0; i < 4; i++) {
        if (shadow_between(c, near[i])) return SHADOW_EDGE;
        if (!same_surface(c, near[i])) rough = EDGE;
    }
    return rough;
}

/* No two on one row or column: eight steps for edges near either (sixteenths of a pixel). */
static const float spread[8][2] = {{1, -3}, {-1, 3},  {5, 1}, {-3, -5},
                                   {-5, 5}, {-7, -1}, {3, 7}, {7, -7}};

/* The light of a surface changes little within a pixel: a ray that meets what the pixel's or a
 * neighbour's centre met shows that one's colour. Not where a shadow's edge crosses the pixel. */
static vec3 smooth_pixel(const stage *st, const sample *samples, int x, int y, bool shadow)
{
    const int size = st->size;
    const float scale = 2.0f / (float)size;
    const sample *c = samples + (size_t)y * size + x;
    vec3 sum = {0, 0, 0};
    for (int i = 0; i < 8; i++) {
        const float dx = spread[i][0], dy = spread[i][1];
        const float fx = (float)x + 0.5f + dx * (1.0f / 16),
                    fy = (float)y + 0.5f + dy * (1.0f / 16);
        const int nx = dx < 0 ? x - 1 : x + 1, ny = dy < 0 ? y - 1 : y + 1;
        const sample *const near[3] = {c, nx >= 0 && nx < size ? c + (nx - x) : c,
                                       ny >= 0 && ny < size ? c + (ny - y) * size : c};
        sample s;
        const vec3 d = look(st, fx * scale - 1, 1 - fy * scale, &s);
        bool known = false;
        for (int k = 0; k < 3 && !known && !shadow; k++) {
            known = same_surface(&s, near[k]);
            if (known) s.rgb = near[k]->rgb;
        }
        if (!known) shade(st, d, &s);
        sum = vadd(sum, v3(least(s.rgb.x, 1), least(s.rgb.y, 1), least(s.rgb.z, 1)));
    }
    return vscale(sum, 1.0f / 8);
}

/* Where the ray through pixel k's centre ends, from the camera. */
static vec3 end_of_ray(const stage *st, const sample *s, size_t k)
{
    const size_t size = (size_t)st->size;
    return vscale(ray_through(st, (float)(k % size) + 0.5f, (float)(k / size) + 0.5f), s[k].hit.t);
}

/* A crease within one object, or a step: neither's point lies near the plane of the other.
 * Silhouettes are told by the segment. */
static bool edge_between(const stage *st, const sample *s, size_t k, size_t next)
{
    const sample *a = s + k, *b = s + next;
    if (a->id != b->id) return true;
    if (a->id < 2) return false;
    if (vdot(a->hit.normal, b->hit.normal) < 0.8f) return true;
    const vec3 step = vsub(end_of_ray(st, s, next), end_of_ray(st, s, k));
    const float far = least(fabsf(vdot(a->hit.normal, step)), fabsf(vdot(b->hit.normal, step)));
    return far > 0.03f * st->objects[a->id - 2].size;
}

static void write_geometry(const stage *st, const sample *s, size_t k, size_t first,
                           const cn_scene_maps *out)
{
    const cn_camera *c = &st->camera;
    const cn_ray_hit *h = &s[k].hit;
    if (out->depth) out->depth[first + k] = h->t;
    if (out->segmentation) out->segmentation[first + k] = (uint8_t)s[k].id;
    if (out->normal) {
        float *n = out->normal + 3 * (first + k);
        n[0] = vdot(h->normal, c->right);
        n[1] = vdot(h->normal, c->up);
        n[2] = -vdot(h->normal, c->forward);
    }
    if (out->edges) {
        const size_t size = (size_t)st->size;
        const bool e = (k % size + 1 < size && edge_between(st, s, k, k + 1)) ||
                       (k / size + 1 < size && edge_between(st, s, k, k + size));
        out->edges[first + k] = e ? 255 : 0;
    }
}

static void render(const cn_scene *scene, int size, size_t first, const cn_scene_maps *out,
                   stage *st, sample *s)
{
    stage_init(scene, size, st);
    const float scale = 2.0f / (float)size;
    for (int y = 0; y < size; y++)
        for (int x = 0; x < size; x++) {
            const float sx = ((float)x + 0.5f) * scale - 1, sy = 1 - ((float)y + 0.5f) * scale;
            sample *k = s + (size_t)y * size + x;
            const vec3 d = look(st, sx, sy, k);
            if (out->rgb) shade(st, d, k);
        }
    for (int y = 0; y < size; y++)
        for (int x = 0; x < size; x++) {
            const size_t k = (size_t)y * size + x;
            write_geometry(st, s, k, first, out);
            if (!out->rgb) continue;
            const int rough = roughness(s, size, x, y);
            put_rgb(out->rgb + 3 * (first + k),
                    rough == CALM ? s[k].rgb : smooth_pixel(st, s, x, y, rough == SHADOW_EDGE));
        }
}

/* --- calls ----------------------------------------------------------------------------------- */

static cn_status check_scene(cn_ctx *ctx, const cn_scene *s)
{
    bool ok = s->n_objects >= 0 && s->n_objects <= CN_SCENE_MAX_OBJECTS &&
              cn_scene_ground_name(s->ground) && cn_scene_sky_name(s->sky) &&
              s->camera_height > 0 && s->tan_half_fov > 0;
    for (int i = 0; ok && i < s->n_objects; i++) {
        const cn_scene_object *o = &s->objects[i];
        ok = cn_scene_shape_name(o->shape) && cn_scene_colour_name(o->colour) &&
             cn_scene_material_name(o->material) && cn_scene_colour_name(o->trousers) &&
             cn_scene_posture_name(o->posture) && o->size > 0 && o->aspect > 0;
    }
    if (ok) return CN_OK;
    return cn_fail(ctx, CN_EINVAL,
                   "scene: a field is out of range; start from cn_scene_generate "
                   "or cn_scene_prompt");
}

static cn_status check_size(cn_ctx *ctx, int64_t size_px)
{
    if (size_px >= CN_SCENE_MIN_PX && size_px <= CN_SCENE_MAX_PX) return CN_OK;
    return cn_fail(ctx, CN_EINVAL, "scene: size %lld px, expected %d to %d", (long long)size_px,
                   CN_SCENE_MIN_PX, CN_SCENE_MAX_PX);
}

cn_status cn_scene_render(cn_ctx *ctx, const cn_scene *scene, int64_t size_px,
                          const cn_scene_maps *out)
{
    return cn_scene_render_batch(ctx, scene, 1, size_px, out);
}

cn_status cn_scene_render_batch(cn_ctx *ctx, const cn_scene *scenes, int64_t n, int64_t size_px,
                                const cn_scene_maps *out)
{
    CN_TRY(check_size(ctx, size_px));
    for (int64_t i = 0; i < n; i++) CN_TRY(check_scene(ctx, &scenes[i]));
    const size_t pixels = (size_t)(size_px * size_px);
    const int threads = (int)CN_MAX(1, CN_MIN(n, (int64_t)cn_threads(ctx)));
    size_t scratch;
    if (!cn_mul_size(pixels, (size_t)threads, &scratch))
        return cn_fail(ctx, CN_ENOMEM, "scene: %d threads of %lld px don't fit", threads,
                       (long long)size_px);
    sample *s = cn_alloc_array(ctx, scratch, sizeof *s);
    stage *st = cn_alloc_array(ctx, (size_t)threads, sizeof *st);
    cn_status status = s && st ? CN_OK : CN_ENOMEM;
#pragma omp parallel num_threads(threads)
    {
        sample *own = s + pixels * (size_t)omp_get_thread_num();
#pragma omp for schedule(dynamic, 1)
        for (int64_t i = 0; i < n; i++)
            if (status == CN_OK)
                render(&scenes[i], (int)size_px, (size_t)i * pixels, out, st + omp_get_thread_num(),
                       own);
    }
    cn_free(st);
    cn_free(s);
    return status;
}
