/* SPDX-License-Identifier: Apache-2.0 */
/* condition.h - which annotator made a data set's conditions, to turn drawings back into
 * conditions. */
#ifndef CN_DATA_CONDITION_H
#define CN_DATA_CONDITION_H

#include "annotate/annotate.h"

/* args->kind NULL: nothing to compare with. Looked at in turn: --validation-annotator,
 * --conditioning-kind, what the data set's maker noted (scenes.txt, annotate.jsonl); *told: one of
 * them spoke. CN_EINVAL for an annotator or option asked for that isn't known, and for one whose
 * conditions no measure compares; what is merely noted may be either. */
cn_status cn_condition_find(cn_ctx *ctx, const cn_train_options *o, cn_annotate_args *args,
                            bool *told) CN_CHECKED;
/* The text after "condition " in dir/scenes.txt, or the settings of dir/annotate.jsonl; "" when
 * there is neither. */
cn_status cn_condition_text(cn_ctx *ctx, const char *dir, char out[512]) CN_CHECKED;
/* True when every one of the pixels is (nearly) black or white and both occur: edges. */
bool cn_condition_black_and_white(const uint8_t *rgb, int64_t pixels);

#endif
