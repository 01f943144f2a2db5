/* SPDX-License-Identifier: Apache-2.0 */
/* pair_list_internal.h - the file that lists a folder's pairs, in the names of its layout. Only
 * src/pipeline includes it. */
#ifndef CN_PIPELINE_PAIR_LIST_INTERNAL_H
#define CN_PIPELINE_PAIR_LIST_INTERNAL_H

#include "base/base.h"

typedef struct cn_pair_list cn_pair_list;

/* "prompt.json" of the layout "fill50k" (or NULL), "metadata.jsonl" of "imagefolder". */
const char *cn_pair_list_name(const char *layout);
/* CN_EINVAL where the folder has a list of the other layout. */
cn_status cn_pair_list_check(cn_ctx *ctx, const char *dir, const char *layout) CN_CHECKED;
/* The list appears, whole, with commit; abort takes NULL and leaves the folder as it was. */
cn_status cn_pair_list_open(cn_ctx *ctx, const char *dir, const char *layout,
                            cn_pair_list **out) CN_CHECKED;
/* Names within the folder, or absolute. */
cn_status cn_pair_list_put(cn_ctx *ctx, cn_pair_list *l, const char *condition, const char *target,
                           const char *prompt) CN_CHECKED;
cn_status cn_pair_list_commit(cn_ctx *ctx, cn_pair_list *l) CN_CHECKED;
void cn_pair_list_abort(cn_pair_list *l);

#endif
