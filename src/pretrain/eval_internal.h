/* SPDX-License-Identifier: Apache-2.0 */
/* eval_internal.h - what the measures of a base model share. */
#ifndef CN_PRETRAIN_EVAL_INTERNAL_H
#define CN_PRETRAIN_EVAL_INTERNAL_H

#include "model/checkpoint/weights.h"
#include "pretrain/classifier.h"
#include "pretrain/reader.h"

/* Held-out scenes begin here in the sequence, each measure's own behind the one before. */
#define CN_HELD_OUT      ((uint64_t)1 << 30)
#define CN_HELD_OUT_PART ((uint64_t)1 << 24)
enum {
    CN_PART_RECONSTRUCTION,
    CN_PART_CLASSIFIER,
    CN_PART_CAPTIONS,
    CN_PART_REAL,
    CN_PART_OTHER,
    CN_PART_CONTROL
};

typedef struct cn_eval {
    cn_ctx *ctx;
    cn_backend *be;
    const cn_pretrain_evaluate_options *o;
    cn_classifier *classifier; /* NULL: none */
    cn_reader *reader;         /* NULL: none */
    cn_pretrain_evaluation *e;
} cn_eval;

/* The number of a part's first scene. */
static inline uint64_t cn_eval_scene(int part)
{
    return CN_HELD_OUT + (uint64_t)part * CN_HELD_OUT_PART;
}

/* Scene i of a part, one of the simple ones where these were asked for. */
void cn_eval_make_scene(const cn_eval *v, int part, int64_t i, cn_scene *out);
/* Whether simple scenes were not asked for, or it is one: CN_SCENE_SIMPLE_SHAPES, no patterns, and
 * no relation. */
bool cn_eval_wanted(const cn_eval *v, const cn_scene *scene);

static inline void cn_eval_report(const cn_eval *v, const char *stage, int64_t done, int64_t total)
{
    if (v->o->progress) v->o->progress(v->o->user, stage, done, total);
}

/* eval_reconstruct.c: a VAE for `batch` pictures at once, the model's own size. */
typedef struct cn_eval_vae {
    cn_graph *g;
    cn_plan *plan;
    cn_node *image, *out;
    cn_params *params;
    float *pixels;
    int64_t batch, px;
} cn_eval_vae;

/* What has been made when it fails is for cn_eval_vae_destroy, which takes a zeroed one too. */
cn_status cn_eval_vae_create(cn_eval *v, const cn_base *b, int64_t batch,
                             cn_eval_vae *out) CN_CHECKED;
void cn_eval_vae_destroy(cn_eval_vae *a);
/* rgb and back: [batch,px,px,3]. */
cn_status cn_eval_vae_run(cn_eval_vae *a, const uint8_t *rgb, uint8_t *back) CN_CHECKED;
/* PSNR and edges of held-out scenes behind the VAE. */
cn_status cn_eval_reconstruction(cn_eval *v, const cn_base *b) CN_CHECKED;
/* eval_draw.c: one picture of the model's size, by ddim. control: one for each of the pipeline's
 * ControlNets. */
cn_status cn_eval_draw(cn_eval *v, cn_pipeline *p, const char *prompt, uint64_t seed,
                       const cn_control_options *control, cn_generated **out) CN_CHECKED;
/* Prompt i's noise and chances, other ones for other seeds. */
uint64_t cn_eval_seed(const cn_eval *v, int64_t i);
/* Copies a picture to `left`, `top` of a sheet that has room for it. */
void cn_eval_put(cn_image *sheet, int64_t left, int64_t top, const cn_image *picture);
/* Prompts of one object; the Frechet distance; pairs under control. */
cn_status cn_eval_prompts(cn_eval *v, cn_pipeline *p) CN_CHECKED;
cn_status cn_eval_distance(cn_eval *v, cn_pipeline *p) CN_CHECKED;
cn_status cn_eval_pairs(cn_eval *v) CN_CHECKED;
/* eval_control.c: held-out scenes drawn with their conditions and without. */
cn_status cn_eval_control(cn_eval *v, const cn_base *b) CN_CHECKED;

#endif
