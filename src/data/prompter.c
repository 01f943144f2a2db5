/* SPDX-License-Identifier: Apache-2.0 */
/* prompter.c - see prompter.h. */
#include "data/prompter.h"

void cn_prompter_close(cn_prompter *p)
{
    if (!p) return;
    for (int k = 0; k < CN_MAX_TEXT_ENCODERS; k++) cn_tokenizer_close(p->tokenizers[k]);
    cn_free(p);
}

static cn_status open_tokenizer(cn_ctx *ctx, const cn_base *base, int k, const char *dir,
                                cn_tokenizer **out)
{
    CN_TRY(cn_base_tokenizer(ctx, base, k, dir, out));
    if (cn_tokenizer_size(*out) <= base->text[k].vocabulary) return CN_OK;
    return cn_fail(ctx, CN_EMISMATCH,
                   "the tokenizer has %lld tokens, the text encoder's vocabulary %lld; they must "
                   "belong together",
                   (long long)cn_tokenizer_size(*out), (long long)base->text[k].vocabulary);
}

cn_status cn_prompter_open(cn_ctx *ctx, const cn_base *base, const char *tokenizer_dir,
                           const cn_tag_rules *tags, cn_prompter **out)
{
    cn_prompter *p = cn_alloc0(ctx, sizeof *p);
    if (!p) return CN_ENOMEM;
    p->tags = *tags;
    p->length = cn_base_context_length(base);
    cn_status s = CN_OK;
    for (int k = 0; s == CN_OK && k < cn_family_of(base)->n_text; k++) {
        s = open_tokenizer(ctx, base, k, tokenizer_dir, &p->tokenizers[k]);
        p->ids += p->length;
    }
    if (s != CN_OK) {
        cn_prompter_close(p);
        return s;
    }
    *out = p;
    return CN_OK;
}

cn_status cn_prompter_encode(cn_ctx *ctx, const cn_prompter *p, const char *text, int32_t *ids)
{
    for (int k = 0; k < CN_MAX_TEXT_ENCODERS && p->tokenizers[k]; k++)
        CN_TRY(
            cn_tokenizer_encode(ctx, p->tokenizers[k], text, ids + k * p->length, p->length, NULL));
    return CN_OK;
}

static cn_status encode_varied(cn_ctx *ctx, const cn_prompter *p, const char *prompt, cn_rng *rng,
                               int32_t *ids)
{
    if (!cn_tags_vary(&p->tags)) return cn_prompter_encode(ctx, p, prompt, ids);
    cn_str text = {0};
    cn_status s = cn_tags_write(ctx, &p->tags, prompt, rng, &text);
    if (s == CN_OK) s = cn_prompter_encode(ctx, p, text.data, ids);
    cn_str_free(&text);
    return s;
}

cn_status cn_prompter_ids(cn_ctx *ctx, const cn_prompter *p, const cn_dataset *d, int64_t i,
                          cn_rng *rng, int32_t *ids)
{
    cn_dataset_item pair = {0};
    if (i < 0) return cn_prompter_encode(ctx, p, "", ids);
    CN_TRY(cn_dataset_get(ctx, d, i, true, &pair));
    cn_status s = encode_varied(ctx, p, pair.prompt, rng, ids);
    if (s == CN_EINVAL) s = cn_fail_prefix(ctx, CN_EFORMAT, "%s", pair.where);
    cn_dataset_item_free(&pair);
    return s;
}
