/* SPDX-License-Identifier: Apache-2.0 */
/* prepare_internal.h - the layouts that cn_dataset_prepare writes. Only src/pipeline includes it.
 */
#ifndef CN_PIPELINE_PREPARE_INTERNAL_H
#define CN_PIPELINE_PREPARE_INTERNAL_H

#include "base/base.h"

/* The file in a data set's folder that says what all of it was made with. */
#define CN_PREPARE_SETTINGS "prepare.txt"

/* Options are checked; *r is zeroed before, and filled in any case. */
cn_status cn_prepare_folder(cn_ctx *ctx, const cn_prepare_options *o,
                            cn_prepare_result *r) CN_CHECKED;
cn_status cn_prepare_shards(cn_ctx *ctx, const cn_prepare_options *o,
                            cn_prepare_result *r) CN_CHECKED;
/* "2/3": the second of three parts; NULL is the first of one. */
cn_status cn_part_read(cn_ctx *ctx, const char *part, int64_t *k, int64_t *n) CN_CHECKED;

#endif
