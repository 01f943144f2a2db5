/* SPDX-License-Identifier: Apache-2.0 */
/* validate.h - what validate.c (measuring, judging), validate_draw.c (pictures) and compare.c
 * share. */
#ifndef CN_TRAIN_VALIDATE_H
#define CN_TRAIN_VALIDATE_H

#include "data/condition.h"
#include "eval/report.h"
#include "train/trainer.h"

struct cn_validator {
    cn_ctx *ctx;
    int64_t n,
        drawn; /* held-out items; with those given, which come behind them and have no target */
    int64_t width, height;                    /* pixels */
    cn_batcher *batcher;                      /* over the held-out cache */
    cn_annotate_args annotate;                /* kind NULL: no agreement */
    char rule[256];                           /* that judges */
    cn_curves *curves;                        /* of metrics.jsonl; NULL before the first page */
    bool has_baseline;                        /* the arrays "without" are filled */
    double *loss_with, *loss_without;         /* [n] mean over the fixed timesteps */
    cn_agreement *agree_with, *agree_without; /* [n] */
    double *gains;                            /* [n] what the verdict compares */
    double band_with[CN_TRAIN_BANDS], band_without[CN_TRAIN_BANDS]; /* mean losses */
    uint8_t *condition, *target;                                    /* [drawn,H,W,3], [n,H,W,3] */
    uint8_t *with, *without;                                        /* [drawn,H,W,3] drawings */
};

/* Which pair a drawing is of. */
typedef struct cn_drawing {
    const cn_dataset *data;
    const cn_cache *cache;
    int64_t item; /* of both */
} cn_drawing;
cn_drawing cn_validator_drawing(const cn_validator *v, const cn_trainer *t, int64_t drawing);
/* Draws every condition; with control or by the base alone. rgb [drawn,H,W,3]. */
cn_status cn_validator_draw(cn_validator *v, cn_trainer *t, bool control, uint8_t *rgb) CN_CHECKED;
/* Annotates each drawing and compares what is found with its condition; nothing where no annotator
 * is known. */
cn_status cn_validator_agreement(cn_validator *v, cn_trainer *t, const uint8_t *rgb,
                                 cn_agreement *out) CN_CHECKED;
/* "DIR/I.png", of those given "DIR/given_I.png". */
cn_status cn_validator_path(const cn_validator *v, const char *dir, int64_t drawing,
                            char out[4096]) CN_CHECKED;
/* Every drawing, and dir/sheet.png: a row per held-out item, condition | with control | without |
 * target; of those given dir/given.png, without the last. */
cn_status cn_validator_save(cn_validator *v, const cn_trainer *t, const char *dir) CN_CHECKED;

/* Writes output_dir/report.html; rms: of the zero convolutions, the middle's last. */
cn_status cn_validator_report(cn_validator *v, const cn_trainer *t, const cn_train_validation *r,
                              const double *rms, int64_t n_rms) CN_CHECKED;

#endif
