/* SPDX-License-Identifier: Apache-2.0 */
/* canvas.h - a whole picture's samples, from which the picture and all maps are made. Internal to
 * src/scene. */
#ifndef CN_SCENE_CANVAS_H
#define CN_SCENE_CANVAS_H

#include "image/image.h"
#include "scene/stage.h"

/* Of a row of a tile; ground in shadow is MIXED too. */
enum { CN_ROW_MIXED, CN_ROW_SKY, CN_ROW_LIT_GROUND };

/* What is made beside the samples. */
enum {
    CN_CANVAS_LIGHT = 1, /* the samples' light, and colours */
    CN_CANVAS_LINES = 2  /* boundaries' strength */
};

/* Rows are `stride` long, a multiple of the tile, and so is their number; what lies beyond the
 * stage's size belongs to no picture. A canvas of lines alone keeps the samples of the last two
 * rows of tiles only, without the ground's depth: what a fine canvas doesn't take, the system
 * needn't clear for each picture. */
typedef struct cn_canvas {
    const cn_scene *scene; /* that was traced last */
    cn_stage *stage;
    cn_sample *samples;
    float *rgb[3];   /* with LIGHT, the three colours' planes, linear, of pixel centres */
    uint8_t *plain;  /* per row of a tile: what all its pixels are */
    float *strength; /* with LINES, [size,size]: the strongest boundary at any side of a pixel */
    float *ends;     /* with LINES, of outlines.c: where the rays of two rows end */
    int ends_row[2]; /* which rows */
    int stride, row_mask, wanted;
} cn_canvas;

static inline size_t cn_canvas_index(const cn_canvas *c, int x, int y)
{
    return (size_t)(y & c->row_mask) * (size_t)c->stride + (size_t)x;
}

/* CN_EINVAL for a size or scene out of range. */
cn_status cn_scene_check(cn_ctx *ctx, const cn_scene *scene, int64_t size_px) CN_CHECKED;
/* Of size x size pixels. What has been taken when memory runs out is for cn_canvas_destroy, which
 * takes a zeroed canvas too. */
cn_status cn_canvas_create(cn_ctx *ctx, int size, int wanted, cn_canvas *c) CN_CHECKED;
void cn_canvas_destroy(cn_canvas *c);
/* Fills the samples from pixel centres, and what else is wanted of them. */
void cn_canvas_trace(cn_canvas *c, const cn_scene *scene, int size);
/* Whether an edge lies between two neighbouring pixels: another object, a crease, or a step of
 * depth. False where the second lies beyond the picture. */
bool cn_canvas_edge(const cn_canvas *c, int x, int y, int next_x, int next_y);
/* Of two samples of one object: a step, where their rays' ends, `step` apart, both lie far from the
 * plane of the other. */
static inline bool cn_samples_step(const cn_canvas *c, const cn_sample *a, const cn_sample *b,
                                   vec3 step)
{
    const float far = least(fabsf(vdot(a->normal, step)), fabsf(vdot(b->normal, step)));
    return far > 0.03f * c->stage->objects[a->id - 2].size;
}
static inline bool cn_samples_crease(const cn_sample *a, const cn_sample *b)
{
    return vdot(a->normal, b->normal) < 0.8f;
}
/* outlines.c: of a canvas with LINES, row y, when the samples of the next are there. */
void cn_canvas_bound_row(cn_canvas *c, int y);

/* --- maps as pictures: each fills `out`, of the canvas's size divided by its fineness
 * ----------------------- */

/* outlines.c, on a canvas with LINES: how strong the boundary between neighbouring pixels is, 0..1,
 * blurred; a white line of about a pixel and a half where `firm`, else soft and by strength. out:
 * width x width bytes. */
cn_status cn_outlines_map(cn_ctx *ctx, const cn_canvas *c, bool firm, int width,
                          uint8_t *out) CN_CHECKED;
cn_status cn_outlines_picture(cn_ctx *ctx, const cn_canvas *c, bool firm, cn_image *out) CN_CHECKED;
/* The canvas is lit. */
cn_status cn_toon_picture(cn_ctx *ctx, const cn_canvas *c, cn_image *out) CN_CHECKED;
/* straight.c: of the canvas's own size. */
void cn_straight_picture(const cn_canvas *c, cn_image *out);
/* keypoints.c: on a canvas of the picture's size. */
int cn_find_key_points(const cn_canvas *c, cn_scene_figure out[CN_SCENE_MAX_OBJECTS]);
cn_status cn_key_points_picture(cn_ctx *ctx, const cn_canvas *c, cn_image *out) CN_CHECKED;

#endif
