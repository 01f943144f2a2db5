/* SPDX-License-Identifier: Apache-2.0 */
/* prompt_list.h - the distinct prompts of a data set, numbered; 0 is the empty one. */
#ifndef CN_DATA_PROMPT_LIST_H
#define CN_DATA_PROMPT_LIST_H

#include "data/dataset.h"

typedef struct cn_prompt_list {
    int64_t items, n;    /* pairs; distinct prompts */
    int32_t *context_of; /* [items] number of a pair's prompt; -1: it can't be read */
    int64_t *item_of;    /* [n] a pair that has it; -1 for the empty one */
} cn_prompt_list;

/* Reads every prompt once. skip_bad: one that can't be read is named in the log; else it is an
 * error. */
cn_status cn_prompt_list_create(cn_ctx *ctx, const cn_dataset *d, bool skip_bad,
                                cn_prompt_list **out) CN_CHECKED;
void cn_prompt_list_destroy(cn_prompt_list *p);

#endif
