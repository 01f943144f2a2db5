/* SPDX-License-Identifier: Apache-2.0 */
/* prompter.h - a pair's prompt as the tokens that the text encoders take. */
#ifndef CN_DATA_PROMPTER_H
#define CN_DATA_PROMPTER_H

#include "model/text/tokenizer.h"
#include "model/checkpoint/weights.h"
#include "data/dataset.h"
#include "data/tags.h"

typedef struct cn_prompter {
    cn_tokenizer *tokenizers[CN_MAX_TEXT_ENCODERS]; /* NULL behind the last */
    cn_tag_rules tags;
    int64_t length; /* tokens L that an encoder takes */
    int64_t ids;    /* of a prompt: L for each encoder */
} cn_prompter;

/* With the base's own tokenizer where tokenizer_dir is NULL. */
cn_status cn_prompter_open(cn_ctx *ctx, const cn_base *base, const char *tokenizer_dir,
                           const cn_tag_rules *tags, cn_prompter **out) CN_CHECKED;
void cn_prompter_close(cn_prompter *p);
/* ids of a text as it stands, [L] for each text encoder. */
cn_status cn_prompter_encode(cn_ctx *ctx, const cn_prompter *p, const char *text,
                             int32_t *ids) CN_CHECKED;
/* ids of item i's prompt, [L] for each text encoder, i < 0: of the empty one. rng: what its tags
 * are varied by; NULL: they aren't. */
cn_status cn_prompter_ids(cn_ctx *ctx, const cn_prompter *p, const cn_dataset *d, int64_t i,
                          cn_rng *rng, int32_t *ids) CN_CHECKED;

#endif
