/* SPDX-License-Identifier: Apache-2.0 */
/* ranges.h - weights with values that a narrower type can't hold.
 *
 * F16 ends at 65504, Q8's scale at 127 times that, and a file of F32 or BF16 can have values
 * beyond. Such a weight stays F32, and the log names it. Types are chosen before plans are made and
 * weights are read, so the file is looked through once, where its tensors are wider than what they
 * are to become.
 */
#ifndef CN_MODEL_CHECKPOINT_RANGES_H
#define CN_MODEL_CHECKPOINT_RANGES_H

#include "graph/graph.h"

struct cn_source;

/* What is known of the values of a base's networks, or of a ControlNet. */
typedef struct cn_ranges cn_ranges;

cn_status cn_ranges_create(cn_ctx *ctx, cn_ranges **out) CN_CHECKED;
void cn_ranges_destroy(cn_ranges *r);
/* Whether s has tensors that may have values beyond what `storage` holds. */
bool cn_ranges_matter(const struct cn_source *s, cn_dtype storage);
/* The weights that p's storage type can't hold stay F32 (cn_params_keep_f32). `declared` are p's
 * network's parameters, without values; s is where they come from. */
cn_status cn_ranges_apply(cn_ctx *ctx, cn_ranges *r, const struct cn_source *s,
                          const cn_params *declared, cn_params *p) CN_CHECKED;

#endif
