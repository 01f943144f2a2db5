/* SPDX-License-Identifier: Apache-2.0 */
/* report.h - what report.c (the page) and report_curves.c (a run's curves) share.
 *
 * cn_report_write itself is declared in controlnet.h. The page is well-formed XML too, so that a
 * small checker can prove its structure; nothing in it points outside the file.
 */
#ifndef CN_EVAL_REPORT_H
#define CN_EVAL_REPORT_H

#include "base/base.h"

/* Text for an element or a quoted attribute; control characters become spaces. NULL adds
 * nothing. */
void cn_report_escape(cn_str *out, const char *text);

/* What a metrics.jsonl has by now: a run that writes its page again and again keeps it and reads
 * each line once. */
typedef struct cn_curves cn_curves;
/* CN_EIO when the file can't be opened. */
cn_status cn_curves_open(cn_ctx *ctx, const char *metrics, cn_curves **out) CN_CHECKED;
void cn_curves_close(cn_curves *c);
/* Reads the lines that came since the last call and adds all as SVG figures: training loss,
 * held-out loss, agreement, zero convolutions, each when the file has it. Damaged lines are passed
 * over, logged as warnings and named under the curves. */
cn_status cn_curves_draw(cn_curves *c, cn_str *out) CN_CHECKED;

/* cn_report_write whose sections with metrics show these curves, which are of that file. */
cn_status cn_report_write_curves(cn_ctx *ctx, const cn_report_options *options,
                                 cn_curves *curves) CN_CHECKED;

#endif
