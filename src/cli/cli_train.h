/* SPDX-License-Identifier: Apache-2.0 */
/* cli_train.h - what the files of `controlnet train` share.
 *
 *   cli_train.c          the options
 *   cli_train_foreign.c  other programs' options
 *   cli_train_show.c     what is said while it runs
 */
#ifndef CN_CLI_TRAIN_H
#define CN_CLI_TRAIN_H

#include "cli/cli.h"

/* Options and values of other programs' training scripts: without effect, or refused. */
extern const cn_option train_idle_rows[], train_refused_rows[];
extern const cli_idle_value train_idle_values[];

typedef struct train_display {
    cli_progress other; /* stages besides "train" */
    double shown_s;
    bool terminal, line_open, json, dry_run, validates;
} train_display;

/* What shows a run on `d`, which must outlive it. */
cn_train_callbacks train_callbacks(train_display *d);
/* Ends the line that is rewritten in place. */
void train_end_line(train_display *d);
void train_show_result(const train_display *d, const cn_train_result *result);

#endif
