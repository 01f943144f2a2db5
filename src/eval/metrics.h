/* SPDX-License-Identifier: Apache-2.0 */
/* metrics.h - metrics.jsonl: one JSON object per step or event, on disk as soon as it happened; and
 * the same numbers for TensorBoard, when asked for. */
#ifndef CN_EVAL_METRICS_H
#define CN_EVAL_METRICS_H

#include "base/base.h"
#include "image/image.h"

typedef struct cn_metrics cn_metrics;

/* Opens dir/metrics.jsonl. last_step >= 0: what an earlier run wrote up to that step is kept, later
 * lines (of steps that are about to be taken again) are dropped; -1: an empty file. tensorboard:
 * event files in dir/logs. */
cn_status cn_metrics_open(cn_ctx *ctx, const char *dir, int64_t last_step, bool tensorboard,
                          cn_metrics **out) CN_CHECKED;
void cn_metrics_close(cn_metrics *m);

/* One line: begin, any number of fields, end (which flushes). Numbers that aren't finite become
 * null. TensorBoard knows those behind "step" as EVENT/KEY, "train" without an "event". */
void cn_metrics_begin(cn_metrics *m);
void cn_metrics_int(cn_metrics *m, const char *key, int64_t value);
void cn_metrics_number(cn_metrics *m, const char *key, double value);
void cn_metrics_bool(cn_metrics *m, const char *key, bool value);
void cn_metrics_string(cn_metrics *m, const char *key, const char *value);
void cn_metrics_numbers(cn_metrics *m, const char *key, const double *values, int64_t n);
cn_status cn_metrics_end(cn_metrics *m) CN_CHECKED;
/* A picture for TensorBoard alone. */
cn_status cn_metrics_image(cn_metrics *m, const char *tag, int64_t step,
                           const cn_image *image) CN_CHECKED;

#endif
