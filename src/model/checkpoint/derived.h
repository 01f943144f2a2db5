/* SPDX-License-Identifier: Apache-2.0 */
/* derived.h - parameters whose values follow from several tensors of the file, once, when they are
 * loaded.
 *
 * A batch norm that is part of the convolution before it, a weight that is standardised, a kernel
 * whose taps are differences of others: the graph declares what it computes with, and a rule hung
 * at that parameter makes its values, in the published layout, of what the file holds.
 * cn_source_load follows the rules (cn_derived, source.h).
 */
#ifndef CN_MODEL_CHECKPOINT_DERIVED_H
#define CN_MODEL_CHECKPOINT_DERIVED_H

#include "model/checkpoint/source.h"

/* Hangs a rule at a parameter's node; nothing where one hangs already (another graph over the same
 * parameters). other: a scope under the current one, or NULL. */
void cn_derived_set(cn_graph *g, cn_node *param, cn_derive_rule make, const char *other, float eps);
/* y = norm(conv(x)), for a convolution or linear layer just built with a bias: weight and bias take
 * the batch norm `norm` (weight, bias, running_mean, running_var) in. The file may lack the bias.
 * Returns y. */
cn_node *cn_derive_batch_norm(cn_graph *g, cn_node *y, const char *norm, float eps);
/* y = conv(norm(x)), for a pointwise convolution or linear layer just built with a bias: both take
 * the batch norm in. Returns y. */
cn_node *cn_derive_batch_norm_before(cn_graph *g, cn_node *y, const char *norm, float eps);
/* Every filter of y's weight by its own mean and (biased) deviation, sqrt(variance + eps). Returns
 * y. */
cn_node *cn_derive_standardised(cn_graph *g, cn_node *y, float eps);

/* For rules: the file's tensor of this whole name, which must have n elements; CN_EMISMATCH says
 * what is wrong. */
cn_status cn_derived_read(cn_ctx *ctx, const cn_source *s, const char *name, int64_t n,
                          float *out) CN_CHECKED;

#endif
