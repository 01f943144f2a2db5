/* agreement.h - how well a generated picture follows its condition, in numbers. */
#ifndef CN_ANNOTATE_AGREEMENT_H
#define CN_ANNOTATE_AGREEMENT_H

#include "base/base.h"

/* F1 of two edge maps of height x width bytes, nonzero = edge: `found` (detected in the generated
 * picture) against `wanted` (the condition). An edge pixel counts as met when the other map has one
 * within tolerance_px in x and in y (0: the same pixel). precision: share of found that is wanted;
 * recall: share of wanted that is found. Two empty maps agree (1); an empty one and a nonempty one don't
 * (0). precision and recall may be NULL. */
double cn_edge_f1(const uint8_t *found, const uint8_t *wanted, int64_t width, int64_t height,
                  int tolerance_px, double *precision, double *recall);

#endif
