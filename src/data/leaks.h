/* SPDX-License-Identifier: Apache-2.0 */
/* leaks.h - pictures of one data set that look like one of another: a validation on them tells what
 * was learned by heart. */
#ifndef CN_DATA_LEAKS_H
#define CN_DATA_LEAKS_H

#include "base/base.h"

/* leaks[i] = 1 where picture i of n, by its perceptual hash (phash.h), looks like one of the data
 * set `other`; seen[i] == 0: it has none. Pictures of the other set that can't be read are passed
 * over. */
cn_status cn_leaks_find(cn_ctx *ctx, const cn_dataset_options *other, const uint64_t *hashes,
                        const uint8_t *seen, int64_t n, uint8_t *leaks) CN_CHECKED;

#endif
