/* SPDX-License-Identifier: Apache-2.0 */
/* eval_internal.h - what the measures of a base model share. */
#ifndef CN_PRETRAIN_EVAL_INTERNAL_H
#define CN_PRETRAIN_EVAL_INTERNAL_H

#include "model/checkpoint/weights.h"
#include "pretrain/classifier.h"

/* Held-out scenes begin here in the sequence, each measure's own behind the one before. */
#define CN_HELD_OUT      ((uint64_t)1 << 30)
#define CN_HELD_OUT_PART ((uint64_t)1 << 24)
enum {
    CN_PART_RECONSTRUCTION,
    CN_PART_CLASSIFIER,
    CN_PART_CAPTIONS,
    CN_PART_REAL,
    CN_PART_OTHER,
    CN_PART_PAIRS
};

typedef struct cn_eval {
    cn_ctx *ctx;
    cn_backend *be;
    const cn_pretrain_evaluate_options *o;
    cn_classifier *classifier; /* NULL: none */
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

/* eval_reconstruct.c: PSNR and edges of held-out scenes behind the VAE. */
cn_status cn_eval_reconstruction(cn_eval *v, const cn_base *b) CN_CHECKED;
/* eval_draw.c: prompts of one object; the Frechet distance; pairs under control. */
cn_status cn_eval_prompts(cn_eval *v, cn_pipeline *p) CN_CHECKED;
cn_status cn_eval_distance(cn_eval *v, cn_pipeline *p) CN_CHECKED;
cn_status cn_eval_pairs(cn_eval *v) CN_CHECKED;

#endif
