/* SPDX-License-Identifier: Apache-2.0 */
/* unit_pairs.h - what tests of data sets share. */
#ifndef TEST_UNIT_PAIRS_H
#define TEST_UNIT_PAIRS_H

#include "data/dataset.h"

cn_status open_at(const char *dir, cn_dataset **d);
/* Condition and target of pair i are pictures whose first bytes are these. */
void expect_pictures(const cn_dataset *d, int64_t i, int condition, int target);

#endif
