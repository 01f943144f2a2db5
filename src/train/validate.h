/* validate.h - what validate.c (measuring, judging) and validate_draw.c (pictures) share. */
#ifndef CN_TRAIN_VALIDATE_H
#define CN_TRAIN_VALIDATE_H

#include "train/condition.h"
#include "train/trainer.h"

struct cn_validator {
    cn_ctx *ctx;
    int64_t n;                        /* held-out items */
    int64_t width, height;            /* pixels */
    cn_batcher *batcher;              /* over the held-out cache */
    cn_annotate_args annotate;        /* kind NULL: no agreement */
    bool has_baseline;                /* the arrays "without" are filled */
    double *loss_with, *loss_without; /* [n] mean over the fixed timesteps */
    double *f1_with, *f1_without;     /* [n] */
    double band_with[CN_TRAIN_BANDS], band_without[CN_TRAIN_BANDS]; /* mean losses */
    uint8_t *condition, *target;                                    /* [n,H,W,3] */
    uint8_t *with, *without;                                        /* [n,H,W,3] drawings */
};

/* Draws every held-out condition; with control or by the base alone. rgb [n,H,W,3]. */
cn_status cn_validator_draw(cn_validator *v, cn_trainer *t, bool control, uint8_t *rgb) CN_CHECKED;
/* Edge F1 of each drawing and its condition. */
cn_status cn_validator_agreement(cn_validator *v, const uint8_t *rgb, double *f1) CN_CHECKED;
/* dir/0.png ... and dir/sheet.png: a row per item, condition | with control | without | target. */
cn_status cn_validator_save(cn_validator *v, const cn_trainer *t, const char *dir) CN_CHECKED;

/* Writes output_dir/report.html; rms: of the zero convolutions, the middle's last. */
cn_status cn_validator_report(const cn_validator *v, const cn_trainer *t,
                              const cn_train_validation *r, const double *rms,
                              int64_t n_rms) CN_CHECKED;

#endif
