/* SPDX-License-Identifier: Apache-2.0 */
/* prompter.c - see prompter.h. */
#include "data/prompter.h"

void cn_prompter_close(cn_prompter *p)
{
    if (!p) return;
    cn_tokenizer_close(p->tokenizer);
    cn_free(p);
}

cn_status cn_prompter_open(cn_ctx *ctx, const cn_base *base, const char *tokenizer_dir,
                           const cn_tag_rules *tags, cn_prompter **out)
{
    cn_prompter *p = cn_alloc0(ctx, sizeof *p);
    if (!p) return CN_ENOMEM;
    p->tags = *tags;
    p->tokens = base->clip.max_positions;
    cn_status s = cn_base_tokenizer(ctx, base, tokenizer_dir, &p->tokenizer);
    if (s == CN_OK && cn_tokenizer_size(p->tokenizer) > base->clip.vocabulary)
        s = cn_fail(ctx, CN_EMISMATCH,
                    "the tokenizer has %lld tokens, the text encoder's vocabulary %lld; they must "
                    "belong together",
                    (long long)cn_tokenizer_size(p->tokenizer), (long long)base->clip.vocabulary);
    if (s != CN_OK) {
        cn_prompter_close(p);
        return s;
    }
    *out = p;
    return CN_OK;
}

static cn_status encode(cn_ctx *ctx, const cn_prompter *p, const char *prompt, cn_rng *rng,
                        int32_t *ids)
{
    if (!cn_tags_vary(&p->tags))
        return cn_tokenizer_encode(ctx, p->tokenizer, prompt, ids, p->tokens, NULL);
    cn_str text = {0};
    cn_status s = cn_tags_write(ctx, &p->tags, prompt, rng, &text);
    if (s == CN_OK) s = cn_tokenizer_encode(ctx, p->tokenizer, text.data, ids, p->tokens, NULL);
    cn_str_free(&text);
    return s;
}

cn_status cn_prompter_ids(cn_ctx *ctx, const cn_prompter *p, const cn_dataset *d, int64_t i,
                          cn_rng *rng, int32_t *ids)
{
    cn_dataset_item pair = {0};
    if (i < 0) return cn_tokenizer_encode(ctx, p->tokenizer, "", ids, p->tokens, NULL);
    CN_TRY(cn_dataset_get(ctx, d, i, true, &pair));
    cn_status s = encode(ctx, p, pair.prompt, rng, ids);
    if (s == CN_EINVAL) s = cn_fail_prefix(ctx, CN_EFORMAT, "%s", pair.where);
    cn_dataset_item_free(&pair);
    return s;
}
