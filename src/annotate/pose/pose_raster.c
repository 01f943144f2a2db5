/* SPDX-License-Identifier: Apache-2.0 */
/* pose_raster.c - people, hands and faces in the colours that the published ControlNets were
 * trained with.
 *
 * Version 1.0 draws parts, then limbs over them, each mixed with what is there; version 1.1 limbs,
 * all of it darkened, then parts. Points of version 1.1 come as parts of the picture's size and are
 * brought to pixels by truncation.
 */
#include "annotate/pose/pose.h"

#include "image/raster.h"

#include <math.h>
#include <string.h>

enum { DRAWN_LIMBS = 17, PART_RADIUS = 4, FACE_RADIUS = 3, HAND_EDGES = 20 };

const uint8_t cn_pose_colors[CN_POSE_PARTS][3] = {
    {255, 0, 0}, {255, 85, 0}, {255, 170, 0}, {255, 255, 0}, {170, 255, 0}, {85, 255, 0},
    {0, 255, 0}, {0, 255, 85}, {0, 255, 170}, {0, 255, 255}, {0, 170, 255}, {0, 85, 255},
    {0, 0, 255}, {85, 0, 255}, {170, 0, 255}, {255, 0, 255}, {255, 0, 170}, {255, 0, 85}};

static const int limbs[DRAWN_LIMBS][2] = {{1, 2}, {1, 5},  {2, 3},   {3, 4},  {5, 6},   {6, 7},
                                          {1, 8}, {8, 9},  {9, 10},  {1, 11}, {11, 12}, {12, 13},
                                          {1, 0}, {0, 14}, {14, 16}, {0, 15}, {15, 17}};

/* --- bodies ----------------------------------------------------------------------------------- */

/* Where a peak is drawn: version 1.1 divides by the picture's size and multiplies again, which may
 * lose a pixel. */
static cn_pose_point place(const cn_pose_drawing *d, int64_t peak)
{
    const cn_pose_peak *p = &d->pose->peaks[peak];
    const double W = (double)d->pose->width, H = (double)d->pose->height;
    const double x = (double)p->x, y = (double)p->y;
    if (d->version == CN_POSE_V10) return (cn_pose_point){x, y};
    return (cn_pose_point){x / W * W, y / H * H};
}

static int64_t part_radius(const cn_pose_drawing *d)
{
    return d->radius ? d->radius : PART_RADIUS;
}

static void draw_parts(const cn_pose_drawing *d, cn_image *canvas)
{
    for (int i = 0; i < CN_POSE_PARTS; i++)
        for (int64_t n = 0; n < d->pose->n_people; n++) {
            const int64_t peak = d->pose->people[n].part[i];
            if (peak < 0) continue;
            const cn_pose_point p = place(d, peak);
            cn_draw_disk(canvas, (cn_point){(int64_t)p.x, (int64_t)p.y}, part_radius(d),
                         cn_pose_colors[i]);
        }
}

static void draw_limb(cn_image *canvas, cn_pose_point a, cn_pose_point b, int64_t radius,
                      const uint8_t rgb[3])
{
    cn_point corners[CN_ELLIPSE_POINTS];
    const double dx = a.x - b.x, dy = a.y - b.y, length = sqrt(dx * dx + dy * dy);
    const cn_point centre = {(int64_t)((a.x + b.x) / 2), (int64_t)((a.y + b.y) / 2)};
    const double degrees = atan2(dy, dx) * (180.0 / M_PI);
    const int n = cn_ellipse_polygon(centre, (int64_t)(length / 2), radius, (int)degrees, corners);
    cn_draw_convex(canvas, corners, n, rgb);
}

/* canvas = 0.4 canvas + 0.6 copy, to the nearest (there are no halves); the copy becomes equal to
 * it. */
static void mix(cn_image *canvas, cn_image *copy)
{
    const size_t bytes = (size_t)(canvas->width * canvas->height * 3);
    for (size_t i = 0; i < bytes; i++)
        copy->rgb[i] = canvas->rgb[i] = (uint8_t)((2 * canvas->rgb[i] + 3 * copy->rgb[i] + 2) / 5);
}

/* copy: NULL draws straight onto the canvas, else limbs are mixed with it. */
static void draw_limbs(const cn_pose_drawing *d, cn_image *canvas, cn_image *copy)
{
    for (int i = 0; i < DRAWN_LIMBS; i++)
        for (int64_t n = 0; n < d->pose->n_people; n++) {
            const int64_t *part = d->pose->people[n].part;
            if (part[limbs[i][0]] < 0 || part[limbs[i][1]] < 0) continue;
            draw_limb(copy ? copy : canvas, place(d, part[limbs[i][0]]),
                      place(d, part[limbs[i][1]]), part_radius(d), cn_pose_colors[i]);
            if (copy) mix(canvas, copy);
        }
}

static cn_status draw_bodies(cn_ctx *ctx, const cn_pose_drawing *d, cn_image *canvas)
{
    const size_t bytes = (size_t)(canvas->width * canvas->height * 3);
    if (d->version == CN_POSE_V11) {
        draw_limbs(d, canvas, NULL);
        for (size_t i = 0; i < bytes; i++) canvas->rgb[i] = (uint8_t)(canvas->rgb[i] * 0.6);
        draw_parts(d, canvas);
        return CN_OK;
    }
    cn_image *copy = NULL;
    CN_TRY(cn_image_create(ctx, canvas->width, canvas->height, &copy));
    draw_parts(d, canvas);
    memcpy(copy->rgb, canvas->rgb, bytes);
    draw_limbs(d, canvas, copy);
    cn_image_destroy(copy);
    return CN_OK;
}

/* --- hands and faces -------------------------------------------------------------------------- */

static cn_point pixel(const cn_pose_drawing *d, cn_pose_point p)
{
    const bool parts = d->version == CN_POSE_V11;
    return (cn_point){(int64_t)(p.x * (parts ? (double)d->pose->width : 1)),
                      (int64_t)(p.y * (parts ? (double)d->pose->height : 1))};
}

static bool is_there(cn_point p)
{
    return p.x > 0 && p.y > 0;
}

/* Hue i/20 at full saturation, by the arithmetic that decides which of two bytes a half becomes. */
static void edge_color(int i, uint8_t rgb[3])
{
    /* per sixth of the circle: which components are full, rise, fall */
    static const int full[6] = {0, 1, 1, 2, 2, 0}, rises[6] = {1, -1, 2, -1, 0, -1},
                     falls[6] = {-1, 0, -1, 1, -1, 2};
    const double hue = (double)i / HAND_EDGES * 6, f = hue - floor(hue);
    const int sixth = (int)hue;
    for (int c = 0; c < 3; c++) {
        const double v = c == full[sixth]    ? 1
                         : c == rises[sixth] ? 1 - (1 - f)
                         : c == falls[sixth] ? 1 - f
                                             : 0;
        rgb[c] = (uint8_t)lrint(255 * v);
    }
}

/* Five fingers of four edges from the wrist. */
static void draw_hand(const cn_pose_drawing *d, const cn_pose_hand *hand, cn_image *canvas)
{
    static const uint8_t blue[3] = {0, 0, 255};
    for (int i = 0; i < HAND_EDGES; i++) {
        uint8_t rgb[3];
        edge_color(i, rgb);
        const cn_point a = pixel(d, hand->points[i % 4 ? i : 0]), b = pixel(d, hand->points[i + 1]);
        if (is_there(a) && is_there(b)) cn_draw_wide_line(canvas, a, b, 2, rgb);
    }
    for (int i = 0; i < CN_POSE_HAND_POINTS; i++) {
        const cn_point p = pixel(d, hand->points[i]);
        if (d->version == CN_POSE_V10 || is_there(p)) cn_draw_disk(canvas, p, PART_RADIUS, blue);
    }
}

static void draw_face(const cn_pose_drawing *d, const cn_pose_face *face, cn_image *canvas)
{
    static const uint8_t white[3] = {255, 255, 255};
    for (int i = 0; i < face->n; i++) {
        const cn_point p = pixel(d, face->points[i]);
        if (is_there(p)) cn_draw_disk(canvas, p, FACE_RADIUS, white);
    }
}

cn_status cn_pose_draw(cn_ctx *ctx, const cn_pose_drawing *d, cn_image **out)
{
    cn_image *canvas = NULL;
    CN_TRY(cn_image_create(ctx, d->pose->width, d->pose->height, &canvas));
    cn_status s = draw_bodies(ctx, d, canvas);
    if (s != CN_OK) {
        cn_image_destroy(canvas);
        return s;
    }
    for (int64_t i = 0; i < d->n_hands; i++) draw_hand(d, &d->hands[i], canvas);
    for (int64_t i = 0; i < d->n_faces; i++) draw_face(d, &d->faces[i], canvas);
    *out = canvas;
    return CN_OK;
}
