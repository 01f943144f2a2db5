/* SPDX-License-Identifier: Apache-2.0 */
/* validate_internal.h - what validate.c (measuring, judging), validate_sheets.c (pictures),
 * compare.c and report_run.c share. */
#ifndef CN_EVAL_VALIDATE_INTERNAL_H
#define CN_EVAL_VALIDATE_INTERNAL_H

#include "eval/report.h"
#include "eval/validate.h"

struct cn_validator {
    cn_ctx *ctx;
    cn_validator_options o;                   /* its items are the validator's own */
    cn_annotate_args annotate;                /* kind NULL: no agreement */
    char rule[256];                           /* that judges */
    int64_t end_step;                         /* of the run, as known at the last validation */
    cn_curves *curves;                        /* of metrics.jsonl; NULL before the first page */
    bool has_baseline;                        /* the arrays "without" are filled */
    double *loss_with, *loss_without;         /* [n_held] mean over the fixed timesteps */
    cn_agreement *agree_with, *agree_without; /* [n_held] */
    double *gains;                            /* [n_held] what the verdict compares */
    double band_with[CN_TRAIN_BANDS], band_without[CN_TRAIN_BANDS]; /* mean losses */
    uint8_t *condition, *target; /* [n_items,H,W,3], [n_held,..] */
    uint8_t *with, *without;     /* [n_items,H,W,3] drawings */
};

/* Annotates each drawing of a held-out pair and compares what is found with its condition; nothing
 * where no annotator is known. */
cn_status cn_validator_agreement(cn_validator *v, const uint8_t *rgb, cn_agreement *out) CN_CHECKED;
/* "DIR/I.png", of the user's own conditions "DIR/given_I.png". */
cn_status cn_validator_path(const cn_validator *v, const char *dir, int64_t drawing,
                            char out[CN_PATH_BYTES]) CN_CHECKED;
/* Every drawing, and dir/sheet.png: a row per held-out pair, condition | with control | without |
 * target; of the user's own conditions dir/given.png, without the last. */
cn_status cn_validator_save(cn_validator *v, const char *dir, int64_t step) CN_CHECKED;
/* Writes output_dir/report.html; rms: of the zero convolutions, the middle's last. */
cn_status cn_validator_report(cn_validator *v, const cn_train_validation *r, const double *rms,
                              int64_t n_rms) CN_CHECKED;

#endif
