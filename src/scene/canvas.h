/* SPDX-License-Identifier: Apache-2.0 */
/* canvas.h - a whole picture's samples, from which the picture and all maps are made. Internal to
 * src/scene. */
#ifndef CN_SCENE_CANVAS_H
#define CN_SCENE_CANVAS_H

#include "image/image.h"
#include "scene/stage.h"

/* Rows are `stride` long, a multiple of the tile, and so is their number; what lies beyond the
 * stage's size belongs to no picture. */
typedef struct cn_canvas {
    const cn_scene *scene; /* that was traced last */
    cn_stage *stage;
    cn_sample *samples;
    float *rgb[3];  /* the three colours' planes, linear, of pixel centres */
    uint8_t *plain; /* per row of a tile: whether its pixels are all alike, see render.c */
    int stride;
} cn_canvas;

static inline size_t cn_canvas_index(const cn_canvas *c, int x, int y)
{
    return (size_t)y * (size_t)c->stride + (size_t)x;
}

/* CN_EINVAL for a size or scene out of range. */
cn_status cn_scene_check(cn_ctx *ctx, const cn_scene *scene, int64_t size_px) CN_CHECKED;
/* Of size x size pixels. What has been taken when memory runs out is for cn_canvas_destroy, which
 * takes a zeroed canvas too. */
cn_status cn_canvas_create(cn_ctx *ctx, int size, cn_canvas *c) CN_CHECKED;
void cn_canvas_destroy(cn_canvas *c);
/* Fills the samples from pixel centres, and where `light` their light and colours. */
void cn_canvas_trace(cn_canvas *c, const cn_scene *scene, int size, bool light);
/* Whether an edge lies between two neighbouring pixels: another object, a crease, or a step of
 * depth. False where the second lies beyond the picture. */
bool cn_canvas_edge(const cn_canvas *c, int x, int y, int next_x, int next_y);

/* --- maps as pictures: each fills `out`, of the canvas's size divided by its fineness
 * ----------------------- */

/* outlines.c: how strong the boundary between neighbouring pixels is, 0..1, blurred; a white line
 * of about a pixel and a half where `firm`, else soft and by strength. */
cn_status cn_outlines_picture(cn_ctx *ctx, const cn_canvas *c, bool firm, cn_image *out) CN_CHECKED;
/* The canvas is lit. */
cn_status cn_toon_picture(cn_ctx *ctx, const cn_canvas *c, cn_image *out) CN_CHECKED;
/* straight.c: of the canvas's own size. */
void cn_straight_picture(const cn_canvas *c, cn_image *out);
/* keypoints.c: on a canvas of the picture's size. */
int cn_find_key_points(const cn_canvas *c, cn_scene_figure out[CN_SCENE_MAX_OBJECTS]);
cn_status cn_key_points_picture(cn_ctx *ctx, const cn_canvas *c, cn_image *out) CN_CHECKED;

#endif
