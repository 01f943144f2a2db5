/* SPDX-License-Identifier: Apache-2.0 */
/* render.c - casts one ray per pixel centre for the exact maps, eight more where the picture needs
 * smoothing.
 *
 * Depth, normals and segmentation come from the ray through the pixel's centre and nothing else.
 * The picture takes eight rays, spread over the pixel, wherever surface, normal, colour or shadow
 * differ from a neighbour's. It is made in tiles of 8x8 pixels, each of which meets only the parts
 * whose bounds overlap it. Light is shown through a square root (a display gamma of 2).
 */
#include "scene/canvas.h"

#include <omp.h>

/* One tile's rays and what they can meet. */
typedef struct tile {
    int x, y; /* of its first pixel */
    cn_rays rays;
    cn_hits hits;
    int n;
    uint16_t list[CN_MAX_SILHOUETTES];
    cn_shades shades;
} tile;

/* --- tiles ----------------------------------------------------------------------------------- */

static void list_parts(const cn_stage *st, int x, int y, tile *t)
{
    t->x = x;
    t->y = y;
    t->n = 0;
    for (int i = 0; i < st->n_parts; i++) {
        const cn_bounds *b = &st->bounds[i];
        if (b->x0 < x + CN_TILE && b->x1 >= x && b->y0 < y + CN_TILE && b->y1 >= y)
            t->list[t->n++] = (uint16_t)i;
    }
}

static void store_rays(cn_rays *rays, int i, vecs d)
{
    lstore(rays->x + i, d.x);
    lstore(rays->y + i, d.y);
    lstore(rays->z + i, d.z);
}

/* Through the centres of the tile's pixels. */
static void aim_tile(const cn_stage *st, tile *t)
{
    static const lanes centres = {0.5f, 1.5f, 2.5f, 3.5f};
    for (int i = 0; i < CN_RAYS; i += CN_LANES) {
        const lanes x = (float)(t->x + i % CN_TILE) + centres;
        store_rays(&t->rays, i, cn_stage_rays(st, x, lall((float)(t->y + i / CN_TILE) + 0.5f)));
    }
}

/* The ground or the sky, before any part. */
static void clear_hits(const cn_stage *st, int n, tile *t)
{
    for (int i = 0; i < n; i += CN_LANES) {
        const lanes y = lload(t->rays.y + i), zero = lall(0);
        const lane_mask below = y < 0, part = (below & CN_HIT_GROUND) | (~below & CN_HIT_SKY);
        lstore(t->hits.t + i, lselect(below, -st->camera.pos.y / y, lall(INFINITY)));
        memcpy(t->hits.part + i, &part, sizeof part);
        lstore(t->hits.nx + i, zero);
        lstore(t->hits.ny + i, lselect(below, lall(1), zero));
        lstore(t->hits.nz + i, zero);
    }
}

static void cast_normals(const cn_stage *st, int n, tile *t)
{
    bool seen[CN_MAX_SILHOUETTES] = {false};
    for (int i = 0; i < n; i++) {
        const int part = t->hits.part[i];
        if (part < 0 || seen[part]) continue;
        seen[part] = true;
        cn_rays_normals(st->parts[part], part, st->camera.pos, &t->rays, i & -CN_LANES, n,
                        &t->hits);
    }
}

/* Rays that are aimed meet the tile's parts. */
static void cast_tile(const cn_stage *st, tile *t)
{
    clear_hits(st, CN_RAYS, t);
    for (int k = 0; k < t->n; k++) {
        const int i = t->list[k];
        const cn_bounds *b = &st->bounds[i];
        const int first = CN_MAX(0, b->y0 - t->y), last = CN_MIN(CN_TILE - 1, b->y1 - t->y);
        cn_rays_meet(st->parts[i], i, st->camera.pos, &t->rays, first * CN_TILE,
                     (last + 1) * CN_TILE, &t->hits);
    }
    cast_normals(st, CN_RAYS, t);
}

static void read_hit(const cn_stage *st, const tile *t, int i, cn_sample *s)
{
    const int part = t->hits.part[i];
    s->t = t->hits.t[i];
    s->part = (int16_t)part;
    s->id = (uint8_t)(part >= 0 ? 2 + st->owner[part] : part == CN_HIT_GROUND);
    s->normal = v3(t->hits.nx[i], t->hits.ny[i], t->hits.nz[i]);
    s->lit = 1;
}

static vec3 ray_of(const tile *t, int i)
{
    return v3(t->rays.x[i], t->rays.y[i], t->rays.z[i]);
}

static void read_look(const cn_stage *st, const tile *t, int i, cn_sample *s)
{
    const int o = s->id - 2;
    const vec3 p = vmad(st->camera.pos, ray_of(t, i), s->t);
    s->look = cn_surface_look(&st->paints[o], &st->objects[o], st->parts[s->part], p, s->normal);
}

/* --- first pass: pixel centres --------------------------------------------------------------- */

/* With room for points that are lifted off their surface. */
static void list_box(const cn_stage *st, vec3 lo, vec3 hi, tile *t)
{
    const vec3 room = {0.01f, 0.01f, 0.01f};
    t->shades.n = 0;
    if (lo.x < INFINITY) cn_sun_list(&st->sun, vsub(lo, room), vadd(hi, room), &t->shades);
}

/* What may darken the points that the tile's pixels show. */
static void list_shades(const cn_canvas *c, tile *t)
{
    const cn_sun *sun = &c->stage->sun;
    const vecs x = vall(sun->across_x), y = vall(sun->across_y), z = vall(sun->direction);
    const vecs eye = vall(c->stage->camera.pos);
    vecs lo = vall(v3(INFINITY, INFINITY, INFINITY)), hi = vs_scale(lo, lall(-1));
    for (int i = 0; i < CN_RAYS; i += CN_LANES) {
        const cn_sample *s =
            c->samples + cn_canvas_index(c, t->x + i % CN_TILE, t->y + i / CN_TILE);
        const lanes far = {s[0].t, s[1].t, s[2].t, s[3].t};
        const vecs d = vload(t->rays.x + i, t->rays.y + i, t->rays.z + i);
        const vecs p = vs_mad(eye, d, far), q = {vs_dot(p, x), vs_dot(p, y), vs_dot(p, z)};
        const lane_mask there = far < INFINITY;
        lo = vs_select(there, (vecs){lleast(lo.x, q.x), lleast(lo.y, q.y), lleast(lo.z, q.z)}, lo);
        hi = vs_select(there, (vecs){lmost(hi.x, q.x), lmost(hi.y, q.y), lmost(hi.z, q.z)}, hi);
    }
    vec3 low = {lo.x[0], lo.y[0], lo.z[0]}, high = {hi.x[0], hi.y[0], hi.z[0]};
    for (int i = 1; i < CN_LANES; i++) {
        low = v3(least(low.x, lo.x[i]), least(low.y, lo.y[i]), least(low.z, lo.z[i]));
        high = v3(most(high.x, hi.x[i]), most(high.y, hi.y[i]), most(high.z, hi.z[i]));
    }
    list_box(c->stage, low, high, t);
}

static void put_colour(const cn_canvas *c, size_t k, vec3 colour)
{
    c->rgb[0][k] = colour.x;
    c->rgb[1][k] = colour.y;
    c->rgb[2][k] = colour.z;
}

static void light_four(const cn_canvas *c, const tile *t, int i, size_t k)
{
    vecs colour;
    cn_sample *s = c->samples + k;
    const vecs d = vload(t->rays.x + i, t->rays.y + i, t->rays.z + i);
    const lanes lit = cn_light_ground(c->stage, d, lload(t->hits.t + i), (lane_mask){0, 0, 0, 0},
                                      &t->shades, &colour);
    for (int n = 0; n < CN_LANES; n++) {
        if (s[n].id != 1) continue;
        s[n].lit = lit[n];
        put_colour(c, k + (size_t)n, v3(colour.x[n], colour.y[n], colour.z[n]));
    }
}

/* Colours of one row of the tile, which begins at sample k. */
static void light_row(const cn_canvas *c, const tile *t, int row, size_t k)
{
    const cn_stage *st = c->stage;
    cn_sample *s = c->samples + k;
    const int first = row * CN_TILE;
    const vec3 sky = cn_light_sky(st, ray_of(t, first));
    int count[3] = {0};
    for (int x = 0; x < CN_TILE; x++) {
        count[CN_MIN(s[x].id, 2)]++;
        if (s[x].id == 0) put_colour(c, k + (size_t)x, sky);
        if (s[x].id > 1)
            put_colour(c, k + (size_t)x,
                       cn_light_sample(st, ray_of(t, first + x), &t->shades, &s[x]));
    }
    for (int x = 0; x < CN_TILE && count[1] > 0; x += CN_LANES)
        light_four(c, t, first + x, k + (size_t)x);
    bool lit = true;
    for (int x = 0; x < CN_TILE; x++) lit = lit && s[x].lit == 1;
    c->plain[k / CN_TILE] = count[0] == CN_TILE          ? CN_ROW_SKY
                            : count[1] == CN_TILE && lit ? CN_ROW_LIT_GROUND
                                                         : CN_ROW_MIXED;
}

/* Of a tile that no part may be seen in. Its ground is a quadrangle, whose corners bound it. */
static void list_open_shades(const cn_stage *st, tile *t)
{
    vec3 lo = {INFINITY, INFINITY, INFINITY}, hi = vscale(lo, -1);
    int first = 0;
    while (first < CN_RAYS && !(t->rays.y[first] < 0)) first += CN_TILE;
    const int corners[4] = {first, first + CN_TILE - 1, CN_RAYS - CN_TILE, CN_RAYS - 1};
    for (int i = 0; i < 4 && first < CN_RAYS; i++) {
        const vec3 d = ray_of(t, corners[i]);
        const vec3 q = cn_sun_view(&st->sun, vmad(st->camera.pos, d, -st->camera.pos.y / d.y));
        lo = v3(least(lo.x, q.x), least(lo.y, q.y), least(lo.z, q.z));
        hi = v3(most(hi.x, q.x), most(hi.y, q.y), most(hi.z, q.z));
    }
    list_box(st, lo, hi, t);
}

static void open_row(const cn_canvas *c, const tile *t, int row, size_t k, bool rgb)
{
    const cn_stage *st = c->stage;
    const bool ground = t->rays.y[row * CN_TILE] < 0;
    const vec3 sky = rgb ? cn_light_sky(st, ray_of(t, row * CN_TILE)) : (vec3){0, 0, 0};
    const cn_sample s = {INFINITY, {0, ground ? 1 : 0, 0}, ground ? CN_HIT_GROUND : CN_HIT_SKY,
                         ground,   {{0, 0, 0}, 0},         1};
    bool lit = true;
    for (int x = 0; x < CN_TILE; x++) c->samples[k + (size_t)x] = s;
    c->plain[k / CN_TILE] = ground ? CN_ROW_LIT_GROUND : CN_ROW_SKY;
    if (c->wanted == CN_CANVAS_LINES) return;
    for (int x = 0; x < CN_TILE; x += CN_LANES) {
        const int i = row * CN_TILE + x;
        const size_t p = k + (size_t)x;
        vecs colour = vall(sky);
        if (ground) {
            const vecs d = vload(t->rays.x + i, t->rays.y + i, t->rays.z + i);
            const lanes far = -st->camera.pos.y / d.y;
            lanes seen = lall(1);
            if (rgb)
                seen = cn_light_ground(st, d, far, (lane_mask){0, 0, 0, 0}, &t->shades, &colour);
            lit = lit && !lany(seen != 1);
            for (int n = 0; n < CN_LANES; n++) {
                c->samples[p + (size_t)n].t = far[n];
                c->samples[p + (size_t)n].lit = seen[n];
            }
        }
        if (!rgb) continue;
        lstore(c->rgb[0] + p, colour.x);
        lstore(c->rgb[1] + p, colour.y);
        lstore(c->rgb[2] + p, colour.z);
    }
    if (!lit) c->plain[k / CN_TILE] = CN_ROW_MIXED;
}

static void first_pass(const cn_canvas *c, tile *t, bool rgb)
{
    const cn_stage *st = c->stage;
    aim_tile(st, t);
    if (t->n == 0) {
        if (rgb) list_open_shades(st, t);
        for (int row = 0; row < CN_TILE; row++)
            open_row(c, t, row, cn_canvas_index(c, t->x, t->y + row), rgb);
        return;
    }
    cast_tile(st, t);
    for (int i = 0; i < CN_RAYS; i++) {
        cn_sample *s = c->samples + cn_canvas_index(c, t->x + i % CN_TILE, t->y + i / CN_TILE);
        read_hit(st, t, i, s);
        if (s->id > 1) read_look(st, t, i, s);
    }
    for (int row = 0; row < CN_TILE; row++)
        c->plain[cn_canvas_index(c, t->x, t->y + row) / CN_TILE] = CN_ROW_MIXED;
    if (!rgb) return;
    list_shades(c, t);
    for (int row = 0; row < CN_TILE; row++)
        light_row(c, t, row, cn_canvas_index(c, t->x, t->y + row));
}

/* --- second pass: smoothing ------------------------------------------------------------------ */

static bool same_surface(const cn_sample *a, const cn_sample *b)
{
    if (a->id != b->id) return false;
    if (a->id < 2) return true;
    const vec3 p = a->look.colour, q = b->look.colour;
    return vdot(a->normal, b->normal) > 0.85f &&
           fabsf(p.x - q.x) + fabsf(p.y - q.y) + fabsf(p.z - q.z) < 0.02f;
}

/* Two pixels' shadow, so far as they differ by that alone. */
static bool shadow_between(const cn_sample *a, const cn_sample *b)
{
    return a->id == b->id && fabsf(a->lit - b->lit) > 0.30f;
}

enum { CALM, EDGE, SHADOW_EDGE };

/* Whether a pixel's four neighbours are of its surface and as much lit. */
static int roughness(const cn_canvas *c, int x, int y)
{
    const int size = c->stage->size;
    const cn_sample *s = c->samples + cn_canvas_index(c, x, y);
    const cn_sample *near[4] = {x > 0 ? s - 1 : s, x + 1 < size ? s + 1 : s,
                                y > 0 ? s - c->stride : s, y + 1 < size ? s + c->stride : s};
    int rough = CALM;
    for (int i = 0; i < 4; i++) {
        if (shadow_between(s, near[i])) return SHADOW_EDGE;
        if (!same_surface(s, near[i])) rough = EDGE;
    }
    return rough;
}

/* No two on one row or column: eight steps for edges near either (sixteenths of a pixel). */
static const float spread_x[CN_TILE] = {1, -1, 5, -3, -5, -7, 3, 7};
static const float spread_y[CN_TILE] = {-3, 3, 1, -5, 5, -1, 7, -7};

/* The pixel's eight rays; t->list are the parts it may meet. */
static void cast_spread(const cn_stage *st, int x, int y, tile *t)
{
    for (int i = 0; i < CN_TILE; i += CN_LANES) {
        const lanes px = (float)x + 0.5f + lload(spread_x + i) * (1.0f / 16);
        const lanes py = (float)y + 0.5f + lload(spread_y + i) * (1.0f / 16);
        store_rays(&t->rays, i, cn_stage_rays(st, px, py));
    }
    clear_hits(st, CN_TILE, t);
    for (int k = 0; k < t->n; k++) {
        const int i = t->list[k];
        const cn_bounds *b = &st->bounds[i];
        if (x < b->x0 || x > b->x1 || y < b->y0 || y > b->y1) continue;
        cn_rays_meet(st->parts[i], i, st->camera.pos, &t->rays, 0, CN_TILE, &t->hits);
    }
    cast_normals(st, CN_TILE, t);
}

/* Colours of the pixel's rays that met what no centre nearby did, or anything where `shadow`. */
static void light_spread(const cn_canvas *c, tile *t, cn_sample *s, const bool *known, vec3 *colour)
{
    for (int i = 0; i < CN_TILE; i++) {
        if (known[i] || s[i].id == 1) continue;
        colour[i] = s[i].id == 0 ? cn_light_sky(c->stage, ray_of(t, i))
                                 : cn_light_sample(c->stage, ray_of(t, i), &t->shades, &s[i]);
    }
    for (int i = 0; i < CN_TILE; i += CN_LANES) {
        lane_mask wanted = {0, 0, 0, 0};
        for (int k = 0; k < CN_LANES; k++) wanted[k] = !known[i + k] && s[i + k].id == 1 ? -1 : 0;
        if (!lany(wanted)) continue;
        vecs four;
        const vecs d = vload(t->rays.x + i, t->rays.y + i, t->rays.z + i);
        cn_light_ground(c->stage, d, lload(t->hits.t + i), wanted, &t->shades, &four);
        for (int k = 0; k < CN_LANES; k++)
            if (wanted[k]) colour[i + k] = v3(four.x[k], four.y[k], four.z[k]);
    }
}

/* The light of a surface changes little within a pixel: a ray that meets what the pixel's or a
 * neighbour's centre met shows that one's colour. Not where a shadow's edge crosses the pixel. */
static vec3 smooth_pixel(const cn_canvas *c, tile *t, int x, int y, bool shadow)
{
    const cn_stage *st = c->stage;
    const int size = st->size;
    const size_t k = cn_canvas_index(c, x, y);
    cn_sample s[CN_TILE];
    vec3 colour[CN_TILE], sum = {0, 0, 0};
    bool known[CN_TILE] = {false}, all = true;
    cast_spread(st, x, y, t);
    for (int i = 0; i < CN_TILE; i++) {
        const int nx = spread_x[i] < 0 ? x - 1 : x + 1, ny = spread_y[i] < 0 ? y - 1 : y + 1;
        const size_t near[3] = {k, nx >= 0 && nx < size ? cn_canvas_index(c, nx, y) : k,
                                ny >= 0 && ny < size ? cn_canvas_index(c, x, ny) : k};
        read_hit(st, t, i, &s[i]);
        if (s[i].id > 1) read_look(st, t, i, &s[i]);
        for (int n = 0; n < 3 && !known[i] && !shadow; n++) {
            known[i] = same_surface(&s[i], &c->samples[near[n]]);
            if (known[i])
                colour[i] = v3(c->rgb[0][near[n]], c->rgb[1][near[n]], c->rgb[2][near[n]]);
        }
        all = all && known[i];
    }
    if (!all) light_spread(c, t, s, known, colour);
    for (int i = 0; i < CN_TILE; i++)
        sum = vadd(sum, v3(least(colour[i].x, 1), least(colour[i].y, 1), least(colour[i].z, 1)));
    return vscale(sum, 1.0f / CN_TILE);
}

static uint8_t to_byte(float v)
{
    return (uint8_t)(sqrtf(clamp01(v)) * 255 + 0.5f);
}

static void put_byte_rgb(uint8_t *out, vec3 c)
{
    out[0] = to_byte(c.x);
    out[1] = to_byte(c.y);
    out[2] = to_byte(c.z);
}

/* Eight pixels in a row, all sky or all lit ground as those around them are, have nothing to
 * smooth. */
static bool is_plain(const cn_canvas *c, int x, int y)
{
    const uint8_t *p = c->plain + cn_canvas_index(c, x, y) / CN_TILE;
    const int wide = c->stride / CN_TILE, last = c->stage->size - 1;
    return *p != CN_ROW_MIXED && (x == 0 || p[-1] == *p) && (x + CN_TILE > last || p[1] == *p) &&
           (y == 0 || p[-wide] == *p) && (y == last || p[wide] == *p);
}

static void smooth_tile(const cn_canvas *c, tile *t, uint8_t *rgb)
{
    const int size = c->stage->size;
    bool listed = false;
    for (int y = t->y; y < CN_MIN(t->y + CN_TILE, size); y++) {
        if (is_plain(c, t->x, y)) continue;
        for (int x = t->x; x < CN_MIN(t->x + CN_TILE, size); x++) {
            const int rough = roughness(c, x, y);
            if (rough == CALM) continue;
            if (!listed) {
                list_parts(c->stage, t->x, t->y, t);
                aim_tile(c->stage, t);
                list_shades(c, t);
                listed = true;
            }
            put_byte_rgb(rgb + 3 * ((size_t)y * (size_t)size + (size_t)x),
                         smooth_pixel(c, t, x, y, rough == SHADOW_EDGE));
        }
    }
}

/* --- what is asked for ----------------------------------------------------------------------- */

static lane_mask bytes_of(const float *light)
{
    return __builtin_convertvector(lsqrt(lclamp01(lload(light))) * 255.0f + 0.5f, lane_mask);
}

static void write_bytes(const cn_canvas *c, uint8_t *rgb)
{
    const int size = c->stage->size;
    for (int y = 0; y < size; y++)
        for (int x = 0; x < size; x += CN_LANES) {
            const size_t k = cn_canvas_index(c, x, y);
            const lane_mask r = bytes_of(c->rgb[0] + k), g = bytes_of(c->rgb[1] + k),
                            b = bytes_of(c->rgb[2] + k);
            uint8_t *to = rgb + 3 * ((size_t)y * (size_t)size + (size_t)x);
            for (int i = 0; i < CN_MIN(CN_LANES, size - x); i++, to += 3) {
                to[0] = (uint8_t)r[i];
                to[1] = (uint8_t)g[i];
                to[2] = (uint8_t)b[i];
            }
        }
}

/* Where the ray through a pixel's centre ends, from the camera. */
static vec3 end_of_ray(const cn_canvas *c, int x, int y)
{
    const vecs d = cn_stage_rays(c->stage, lall((float)x + 0.5f), lall((float)y + 0.5f));
    return vscale(v3(d.x[0], d.y[0], d.z[0]), c->samples[cn_canvas_index(c, x, y)].t);
}

/* Silhouettes are told by the segment. */
bool cn_canvas_edge(const cn_canvas *c, int x, int y, int next_x, int next_y)
{
    if (next_x == c->stage->size || next_y == c->stage->size) return false;
    const cn_sample *a = c->samples + cn_canvas_index(c, x, y);
    const cn_sample *b = c->samples + cn_canvas_index(c, next_x, next_y);
    if (a->id != b->id) return true;
    if (a->id < 2) return false;
    if (cn_samples_crease(a, b)) return true;
    return cn_samples_step(c, a, b, vsub(end_of_ray(c, next_x, next_y), end_of_ray(c, x, y)));
}

static void write_geometry(const cn_canvas *c, int x, int y, size_t k, const cn_scene_maps *out)
{
    const cn_camera *camera = &c->stage->camera;
    const cn_sample *s = c->samples + cn_canvas_index(c, x, y);
    if (out->depth) out->depth[k] = s->t;
    if (out->segmentation) out->segmentation[k] = s->id;
    if (out->normal) {
        out->normal[3 * k] = vdot(s->normal, camera->right);
        out->normal[3 * k + 1] = vdot(s->normal, camera->up);
        out->normal[3 * k + 2] = -vdot(s->normal, camera->forward);
    }
    if (out->edges)
        out->edges[k] =
            cn_canvas_edge(c, x, y, x + 1, y) || cn_canvas_edge(c, x, y, x, y + 1) ? 255 : 0;
}

void cn_canvas_trace(cn_canvas *c, const cn_scene *scene, int size)
{
    tile t;
    c->scene = scene;
    c->ends_row[0] = c->ends_row[1] = -1;
    cn_stage_init(scene, size, c->stage);
    for (int y = 0, bound = 0; y < size; y += CN_TILE) {
        for (int x = 0; x < size; x += CN_TILE) {
            list_parts(c->stage, x, y, &t);
            first_pass(c, &t, c->wanted & CN_CANVAS_LIGHT);
        }
        const int end = y + CN_TILE < size ? y + CN_TILE - 1 : size;
        while (c->strength && bound < end) cn_canvas_bound_row(c, bound++);
    }
}

/* first: the number of pixels before this picture's in each buffer. */
static void render(const cn_scene *scene, int size, size_t first, const cn_scene_maps *out,
                   cn_canvas *c)
{
    tile t;
    const bool maps = out->depth || out->normal || out->segmentation || out->edges;
    cn_canvas_trace(c, scene, size);
    for (int y = 0; maps && y < size; y++)
        for (int x = 0; x < size; x++)
            write_geometry(c, x, y, first + (size_t)y * (size_t)size + (size_t)x, out);
    if (!out->rgb) return;
    uint8_t *rgb = out->rgb + 3 * first;
    write_bytes(c, rgb);
    for (int y = 0; y < size; y += CN_TILE)
        for (int x = 0; x < size; x += CN_TILE) {
            t.x = x;
            t.y = y;
            smooth_tile(c, &t, rgb);
        }
}

/* --- calls ------------------------------------------------------------------------------------ */

void cn_canvas_destroy(cn_canvas *c)
{
    cn_free(c->stage);
    cn_free(c->samples);
    cn_free(c->rgb[0]);
    cn_free(c->plain);
    cn_free(c->strength);
    cn_free(c->ends);
}

static cn_status create_light(cn_ctx *ctx, cn_canvas *c)
{
    const size_t pixels = (size_t)c->stride * (size_t)c->stride;
    c->rgb[0] = cn_alloc_array(ctx, pixels, 3 * sizeof(float));
    if (!c->rgb[0]) return CN_ENOMEM;
    c->rgb[1] = c->rgb[0] + pixels;
    c->rgb[2] = c->rgb[1] + pixels;
    return CN_OK;
}

static cn_status create_lines(cn_ctx *ctx, int size, cn_canvas *c)
{
    c->strength = cn_alloc_array(ctx, (size_t)size * (size_t)size, sizeof(float));
    c->ends = cn_alloc_array(ctx, (size_t)c->stride, 2 * 3 * sizeof(float));
    return c->strength && c->ends ? CN_OK : CN_ENOMEM;
}

cn_status cn_canvas_create(cn_ctx *ctx, int size, int wanted, cn_canvas *c)
{
    enum { BAND = 2 * CN_TILE };
    const int stride = (size + CN_TILE - 1) / CN_TILE * CN_TILE;
    const bool band = wanted == CN_CANVAS_LINES;
    *c = (cn_canvas){.stride = stride, .row_mask = band ? BAND - 1 : ~0, .wanted = wanted};
    const size_t n = (size_t)stride * (size_t)(band ? BAND : stride);
    c->stage = cn_alloc(ctx, sizeof *c->stage);
    c->samples = cn_alloc_array(ctx, n, sizeof *c->samples);
    c->plain = cn_alloc(ctx, n / CN_TILE);
    if (!c->stage || !c->samples || !c->plain) return CN_ENOMEM;
    if (wanted & CN_CANVAS_LIGHT) CN_TRY(create_light(ctx, c));
    return wanted & CN_CANVAS_LINES ? create_lines(ctx, size, c) : CN_OK;
}

static cn_status check_fields(cn_ctx *ctx, const cn_scene *s)
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

cn_status cn_scene_check(cn_ctx *ctx, const cn_scene *scene, int64_t size_px)
{
    if (size_px < CN_SCENE_MIN_PX || size_px > CN_SCENE_MAX_PX)
        return cn_fail(ctx, CN_EINVAL, "scene: size %lld px, expected %d to %d", (long long)size_px,
                       CN_SCENE_MIN_PX, CN_SCENE_MAX_PX);
    return check_fields(ctx, scene);
}

cn_status cn_scene_render(cn_ctx *ctx, const cn_scene *scene, int64_t size_px,
                          const cn_scene_maps *out)
{
    return cn_scene_render_batch(ctx, scene, 1, size_px, out);
}

cn_status cn_scene_render_batch(cn_ctx *ctx, const cn_scene *scenes, int64_t n, int64_t size_px,
                                const cn_scene_maps *out)
{
    for (int64_t i = 0; i < n; i++) CN_TRY(cn_scene_check(ctx, &scenes[i], size_px));
    const int threads = (int)CN_MAX(1, CN_MIN(n, (int64_t)cn_threads(ctx)));
    const size_t pixels = (size_t)(size_px * size_px);
    cn_canvas *own = cn_alloc_array(ctx, (size_t)threads, sizeof *own);
    cn_status status = own ? CN_OK : CN_ENOMEM;
    for (int i = 0; i < threads && own; i++) own[i] = (cn_canvas){0};
    for (int i = 0; i < threads && status == CN_OK; i++)
        status = cn_canvas_create(ctx, (int)size_px, out->rgb ? CN_CANVAS_LIGHT : 0, &own[i]);
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (int64_t i = 0; i < n; i++)
        if (status == CN_OK)
            render(&scenes[i], (int)size_px, (size_t)i * pixels, out, &own[omp_get_thread_num()]);
    for (int i = 0; i < threads && own; i++) cn_canvas_destroy(&own[i]);
    cn_free(own);
    return status;
}
