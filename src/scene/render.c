/* SPDX-License-Identifier: Apache-2.0 */
/* render.c - casts one ray per pixel centre for the exact maps, nine more where the picture needs
 * smoothing.
 *
 * Depth, normals and segmentation come from the ray through the pixel's centre and nothing else.
 * The picture takes 3x3 rays wherever segment, normal or shadow differ from a neighbour's. A ray
 * only meets solids whose screen bounds hold it. Soft shadow edges need no smoothing: twelve lights
 * do it. Light is reckoned linear, and shown through a square root (a display gamma of 2). Light is
 * nearly white under every sky: a colour keeps its name.
 */
#include "scene/solids.h"

#include <omp.h>
#include <string.h>

enum { LIGHTS = 12, AA = 3 };

typedef struct hit {
    float t;
    vec3 n;
    int id; /* 0 sky, 1 ground, 2 + i object i */
} hit;

typedef struct stage {
    int n, size;
    cn_solid solid[CN_SCENE_MAX_OBJECTS];
    float box[CN_SCENE_MAX_OBJECTS][4];
    vec3 colour[CN_SCENE_MAX_OBJECTS];
    int material[CN_SCENE_MAX_OBJECTS];
    cn_camera camera;
    vec3 zenith, horizon, ground; /* linear */
    vec3 key, ambient;            /* light from the sun, and from everywhere */
    vec3 sun, lights[LIGHTS];     /* unit, towards the light; the lights are points of its disc */
    float sun_radius, fog;
    float ground_dim; /* at night the ground is kept darker than what stands on it */
} stage;

/* What one pixel centre met; kept for the whole picture to find where to smooth. */
typedef struct sample {
    hit h;
    float lit; /* share of the light's disc that is seen */
    vec3 rgb;
} sample;

static vec3 linear(int r, int g, int b)
{
    const float k = 1.0f / 255;
    return v3((float)(r * r) * k * k, (float)(g * g) * k * k, (float)(b * b) * k * k);
}

static void set_sky(stage *st, int sky)
{
    st->sun_radius = 0.06f;
    st->fog = 0.016f;
    st->ground_dim = 1;
    switch (sky) {
    case CN_SKY_SUNSET:
        st->zenith = linear(150, 92, 150);
        st->horizon = linear(255, 152, 92);
        st->key = v3(0.84f, 0.75f, 0.66f);
        st->ambient = v3(0.33f, 0.28f, 0.29f);
        break;
    case CN_SKY_NIGHT:
        st->zenith = linear(10, 14, 44);
        st->horizon = linear(44, 56, 108);
        st->key = v3(0.76f, 0.79f, 0.86f);
        st->ambient = v3(0.17f, 0.18f, 0.22f);
        st->ground_dim = 0.45f;
        break;
    case CN_SKY_GREY:
        st->zenith = linear(118, 125, 136);
        st->horizon = linear(180, 186, 193);
        st->key = v3(0.50f, 0.50f, 0.50f);
        st->ambient = v3(0.42f, 0.42f, 0.43f);
        st->sun_radius = 0.09f;
        break;
    default:
        st->zenith = linear(62, 138, 226);
        st->horizon = linear(186, 220, 246);
        st->key = v3(0.80f, 0.78f, 0.73f);
        st->ambient = v3(0.29f, 0.31f, 0.34f);
        break;
    }
}

static vec3 ground_albedo(int ground)
{
    switch (ground) {
    case CN_GROUND_GREEN: return linear(112, 160, 88);
    case CN_GROUND_BROWN: return linear(150, 112, 82);
    case CN_GROUND_WHITE: return linear(238, 238, 238);
    case CN_GROUND_YELLOW: return linear(220, 206, 128);
    case CN_GROUND_BLUE: return linear(116, 146, 190);
    case CN_GROUND_PINK: return linear(228, 178, 190);
    default: return linear(150, 151, 153);
    }
}

static void set_lights(stage *st, const cn_scene *s)
{
    const float ca = cosf(s->light_azimuth), sa = sinf(s->light_azimuth);
    const float ce = cosf(s->light_elevation), se = sinf(s->light_elevation);
    st->sun = v3(ce * sa, se, -ce * ca);
    const vec3 a = v3(ca, 0, sa), b = v3(-se * sa, ce, se * ca);
    for (int i = 0; i < LIGHTS; i++) {
        /* Sunflower points cover the disc evenly. */
        const float r = st->sun_radius * sqrtf(((float)i + 0.5f) / LIGHTS);
        const float phi = 2.39996323f * (float)i;
        st->lights[i] =
            vunit(vadd(st->sun, vadd(vscale(a, r * cosf(phi)), vscale(b, r * sinf(phi)))));
    }
}

static void stage_init(const cn_scene *s, int size, stage *st)
{
    st->n = s->n_objects;
    st->size = size;
    cn_camera_init(s, &st->camera);
    set_sky(st, s->sky);
    set_lights(st, s);
    st->ground = vscale(ground_albedo(s->ground), st->ground_dim);
    for (int i = 0; i < s->n_objects; i++) {
        uint8_t c[3];
        cn_scene_colour_rgb(s->objects[i].colour, c);
        st->colour[i] = linear(c[0], c[1], c[2]);
        st->material[i] = s->objects[i].material;
        cn_solid_init(&s->objects[i], &st->solid[i]);
        if (!cn_solid_bounds(&st->solid[i], &st->camera, st->box[i])) {
            const float all[4] = {-1, -1, 1, 1};
            memcpy(st->box[i], all, sizeof all);
        }
    }
}

/* --- rays ------------------------------------------------------------------------------------- */

static hit cast(const stage *st, float sx, float sy, vec3 *dir)
{
    const cn_camera *c = &st->camera;
    const vec3 d =
        vadd(c->forward, vscale(vadd(vscale(c->right, sx), vscale(c->up, sy)), c->tan_half_fov));
    hit h = {INFINITY, {0, 0, 0}, 0};
    *dir = d;
    if (d.y < 0) h = (hit){-c->pos.y / d.y, {0, 1, 0}, 1};
    for (int i = 0; i < st->n; i++) {
        const float *b = st->box[i];
        if (sx < b[0] || sx > b[2] || sy < b[1] || sy > b[3]) continue;
        if (cn_solid_hit(&st->solid[i], c->pos, d, 1e-3f, &h.t, &h.n)) h.id = 2 + i;
    }
    return h;
}

/* How many of the lights first, first + step, ... below `end` one of the solids hides from o. */
static int hidden_lights(const stage *st, const cn_solid *const *solids, int n_solids, vec3 o,
                         int first, int end, int step)
{
    int hidden = 0;
    for (int k = first; k < end; k += step)
        for (int i = 0; i < n_solids; i++) {
            float t = INFINITY;
            vec3 m;
            if (!cn_solid_hit(solids[i], o, st->lights[k], 1e-3f, &t, &m)) continue;
            hidden++;
            break;
        }
    return hidden;
}

/* Share of the light's disc that p sees; `self` (an object's index or -1) shades itself only if it
 * is a ring. part < 0: of all lights, the rest only where the four at the rim disagree; else of
 * every third light, for one of many rays through a pixel. */
static float light_seen(const stage *st, vec3 p, vec3 n, int self, int part)
{
    const vec3 o = vadd(p, vscale(n, 2e-3f));
    const cn_solid *near[CN_SCENE_MAX_OBJECTS];
    int n_near = 0;
    for (int i = 0; i < st->n; i++) {
        const cn_solid *s = &st->solid[i];
        if (i == self && s->shape != CN_SHAPE_RING) continue;
        const vec3 c = vsub(s->centre, o);
        const float along = vdot(c, st->sun);
        const float wide = s->radius + st->sun_radius * 1.1f * fabsf(along);
        if (along < -s->radius || vdot(c, c) - along * along > wide * wide) continue;
        near[n_near++] = s;
    }
    if (n_near == 0) return 1;
    if (part >= 0)
        return 1 - (float)hidden_lights(st, near, n_near, o, part, LIGHTS, 3) / (LIGHTS / 3);
    const int rim = hidden_lights(st, near, n_near, o, LIGHTS - 4, LIGHTS, 1);
    if (rim == 0 || rim == 4) return rim ? 0.0f : 1.0f;
    return 1 - (float)(rim + hidden_lights(st, near, n_near, o, 0, LIGHTS - 4, 1)) / LIGHTS;
}

/* --- light ------------------------------------------------------------------------------------ */

static vec3 sky_colour(const stage *st, vec3 d)
{
    /* By the slope along the view, not the exact elevation: rows of the sky are one colour. */
    const float up = d.y / sqrtf(d.y * d.y + d.z * d.z + 1e-12f);
    const float k = clamp01(up / 0.42f);
    return vmix(st->horizon, st->zenith, k * (2 - k) * 0.6f + 0.4f * k);
}

static vec3 surroundings(const stage *st, vec3 d)
{
    const vec3 sky = vmix(st->horizon, st->zenith, clamp01(d.y * 1.2f));
    const vec3 light = vadd(vscale(st->key, st->sun.y), st->ambient);
    return vmix(vscale(vmul(st->ground, light), 0.8f), sky, clamp01(d.y * 6 + 0.5f));
}

/* How much of the sky above p the objects leave free: each seen as a ball. */
static float sky_open(const stage *st, vec3 p, vec3 n, int self)
{
    float open = 1;
    for (int i = 0; i < st->n; i++) {
        if (i == self) continue;
        const cn_solid *s = &st->solid[i];
        const vec3 c = vsub(s->centre, p);
        const float r = 0.8f * s->half.y, d2 = most(vdot(c, c), r * r), up = vdot(n, c);
        if (up > 0) open *= 1 - 0.75f * up * r * r / (d2 * sqrtf(d2));
    }
    return open;
}

static vec3 shade_object(const stage *st, const hit *h, vec3 p, vec3 view, float lit)
{
    const int i = h->id - 2;
    const vec3 n = h->n, base = st->colour[i];
    const float facing = most(0, vdot(n, st->sun)), cosine = most(0, -vdot(n, view));
    const float open = sky_open(st, p, n, i);
    /* From above comes the sky's light, from below what the ground throws back. */
    const vec3 bounce = vscale(vmul(st->ground, st->key), 0.30f);
    const vec3 ambient = vscale(
        vadd(vmix(bounce, st->ambient, 0.5f + 0.5f * n.y), vscale(st->ambient, 0.35f)), open);
    vec3 c = vmul(base, vadd(ambient, vscale(st->key, facing * lit)));
    if (st->material[i] == CN_MATERIAL_MATTE) return c;

    const vec3 half = vunit(vsub(st->sun, view));
    const vec3 mirror = vsub(view, vscale(n, 2 * vdot(n, view)));
    const vec3 env = vscale(surroundings(st, mirror), 0.4f + 0.6f * open);
    const float f = 1 - cosine, f2 = f * f, fresnel = f2 * f2 * f;
    /* A flat face in the light's mirror would go white as a whole. */
    const int shape = st->solid[i].shape;
    const float polish = shape == CN_SHAPE_CUBE || shape == CN_SHAPE_PYRAMID ? 0.15f : 1;
    const float nh = most(0, vdot(n, half));
    if (st->material[i] == CN_MATERIAL_METALLIC) {
        const float light = 0.3f * env.x + 0.5f * env.y + 0.2f * env.z;
        c = vadd(vscale(c, 0.6f), vscale(base, 0.7f * light));
        const float glint = 1.1f * polish * lit * powf(nh, 28);
        return vadd(c, vmul(vmix(base, v3(1, 1, 1), 0.45f), vscale(st->key, glint)));
    }
    c = vadd(c, vscale(env, 0.03f + 0.4f * fresnel));
    return vadd(c, vscale(st->key, 1.5f * polish * lit * powf(nh, 110)));
}

static sample shade(const stage *st, float sx, float sy, int part)
{
    vec3 d;
    sample s = {.h = cast(st, sx, sy, &d), .lit = 1};
    if (s.h.id == 0) {
        s.rgb = sky_colour(st, d);
        return s;
    }
    const vec3 p = vadd(st->camera.pos, vscale(d, s.h.t));
    const float facing = vdot(s.h.n, st->sun);
    if (facing > 0) s.lit = light_seen(st, p, s.h.n, s.h.id - 2, part);
    if (s.h.id == 1) {
        const vec3 ambient = vscale(st->ambient, sky_open(st, p, s.h.n, -1));
        const vec3 c = vmul(st->ground, vadd(ambient, vscale(st->key, facing * s.lit)));
        const float far = most(0, s.h.t - 6) * st->fog;
        s.rgb = vmix(c, st->horizon, 0.42f * far / (1 + far));
        return s;
    }
    s.rgb = shade_object(st, &s.h, p, vunit(d), s.lit);
    return s;
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

/* --- the picture ------------------------------------------------------------------------------ */

static bool differ(const sample *a, const sample *b)
{
    return a->h.id != b->h.id || fabsf(a->lit - b->lit) > 0.34f ||
           (a->h.id > 1 && vdot(a->h.n, b->h.n) < 0.85f);
}

static bool needs_smoothing(const sample *s, int size, int x, int y)
{
    const sample *c = s + (size_t)y * size + x;
    return (x > 0 && differ(c, c - 1)) || (x + 1 < size && differ(c, c + 1)) ||
           (y > 0 && differ(c, c - size)) || (y + 1 < size && differ(c, c + size));
}

static vec3 smooth_pixel(const stage *st, int x, int y)
{
    const float scale = 2.0f / (float)st->size;
    vec3 sum = {0, 0, 0};
    for (int j = 0; j < AA; j++)
        for (int i = 0; i < AA; i++) {
            const float fx = (float)x + ((float)i + 0.5f) / AA;
            const float fy = (float)y + ((float)j + 0.5f) / AA;
            const vec3 c = shade(st, fx * scale - 1, 1 - fy * scale, (j + i) % 3).rgb;
            sum = vadd(sum, v3(least(c.x, 1), least(c.y, 1), least(c.z, 1)));
        }
    return vscale(sum, 1.0f / (AA * AA));
}

/* A crease or a step of depth within one object; silhouettes are told by the segment. */
static bool edge_between(const stage *st, const sample *a, const sample *b)
{
    if (a->h.id != b->h.id) return true;
    if (a->h.id < 2) return false;
    return vdot(a->h.n, b->h.n) < 0.8f ||
           fabsf(a->h.t - b->h.t) > 0.45f * st->solid[a->h.id - 2].half.x;
}

static void write_geometry(const stage *st, const sample *s, size_t k, size_t first,
                           const cn_scene_maps *out)
{
    const cn_camera *c = &st->camera;
    const hit *h = &s[k].h;
    if (out->depth) out->depth[first + k] = h->t;
    if (out->segmentation) out->segmentation[first + k] = (uint8_t)h->id;
    if (out->normal) {
        float *n = out->normal + 3 * (first + k);
        n[0] = vdot(h->n, c->right);
        n[1] = vdot(h->n, c->up);
        n[2] = -vdot(h->n, c->forward);
    }
    if (out->edges) {
        const size_t size = (size_t)st->size;
        const bool e = (k % size + 1 < size && edge_between(st, s + k, s + k + 1)) ||
                       (k / size + 1 < size && edge_between(st, s + k, s + k + size));
        out->edges[first + k] = e ? 255 : 0;
    }
}

static void render(const cn_scene *scene, int size, size_t first, const cn_scene_maps *out,
                   sample *s)
{
    stage st;
    stage_init(scene, size, &st);
    const float scale = 2.0f / (float)size;
    for (int y = 0; y < size; y++)
        for (int x = 0; x < size; x++) {
            const float sx = ((float)x + 0.5f) * scale - 1, sy = 1 - ((float)y + 0.5f) * scale;
            sample *k = s + (size_t)y * size + x;
            vec3 d;
            if (out->rgb)
                *k = shade(&st, sx, sy, -1);
            else
                *k = (sample){.h = cast(&st, sx, sy, &d)};
        }
    for (int y = 0; y < size; y++)
        for (int x = 0; x < size; x++) {
            const size_t k = (size_t)y * size + x;
            write_geometry(&st, s, k, first, out);
            if (!out->rgb) continue;
            const bool rough = needs_smoothing(s, size, x, y);
            put_rgb(out->rgb + 3 * (first + k), rough ? smooth_pixel(&st, x, y) : s[k].rgb);
        }
}

static cn_status check_scene(cn_ctx *ctx, const cn_scene *s)
{
    bool ok = s->n_objects >= 0 && s->n_objects <= CN_SCENE_MAX_OBJECTS &&
              cn_scene_ground_name(s->ground) && cn_scene_sky_name(s->sky) &&
              s->camera_height > 0 && s->tan_half_fov > 0;
    for (int i = 0; ok && i < s->n_objects; i++) {
        const cn_scene_object *o = &s->objects[i];
        ok = cn_scene_shape_name(o->shape) && cn_scene_colour_name(o->colour) &&
             cn_scene_material_name(o->material) && o->size > 0 && o->aspect > 0;
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
    CN_TRY(check_size(ctx, size_px));
    CN_TRY(check_scene(ctx, scene));
    sample *s = cn_alloc_array(ctx, (size_t)(size_px * size_px), sizeof *s);
    if (!s) return CN_ENOMEM;
    render(scene, (int)size_px, 0, out, s);
    cn_free(s);
    return CN_OK;
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
    if (!s) return CN_ENOMEM;
#pragma omp parallel num_threads(threads)
    {
        sample *own = s + pixels * (size_t)omp_get_thread_num();
#pragma omp for schedule(dynamic, 1)
        for (int64_t i = 0; i < n; i++)
            render(&scenes[i], (int)size_px, (size_t)i * pixels, out, own);
    }
    cn_free(s);
    return CN_OK;
}
