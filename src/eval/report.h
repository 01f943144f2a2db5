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

/* The curves of a metrics.jsonl as SVG figures: training loss, held-out loss, agreement, zero
 * convolutions, each when the file has it. Damaged lines are passed over, logged as warnings and
 * named under the curves. CN_EIO when the file can't be opened. */
cn_status cn_report_curves(cn_ctx *ctx, cn_str *out, const char *metrics) CN_CHECKED;

#endif
