/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer_json.c - tokenizer.json, the tokenizers package's one file with vocabulary and merges.
 *
 * Of it are read "model" (vocab, merges as "LEFT RIGHT" or as [LEFT, RIGHT], end_of_word_suffix),
 * "added_tokens" and "padding". What it says of normalizing and splitting isn't looked at: for CLIP
 * that is always what tokenizer.c does. Untrusted, as the other files are.
 */
#include "model/text/tokenizer_internal.h"

#include "io/json.h"

#include <string.h>

bool cn_tokenizer_is_json(const char *path)
{
    char *head = NULL;
    size_t n = 0;
    if (cn_file_read_head(NULL, path, 1, &head, &n) != CN_OK) return false;
    const bool json = n && head[0] == '{';
    cn_free(head);
    return json;
}

/* The list as merges.txt has it. */
static cn_status merges_text(cn_ctx *ctx, const json_t *list, cn_str *out)
{
    if (!json_is_array(list)) return cn_fail(ctx, CN_EFORMAT, "\"merges\" must be a list");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *e = json_array_get(list, i);
        const char *left = json_string_value(json_array_get(e, 0));
        const char *right = json_string_value(json_array_get(e, 1));
        if (json_is_string(e))
            cn_str_addf(out, "%s\n", json_string_value(e));
        else if (json_array_size(e) == 2 && left && right)
            cn_str_addf(out, "%s %s\n", left, right);
        else
            return cn_fail(ctx, CN_EFORMAT, "merge %zu is neither \"LEFT RIGHT\" nor a pair", i);
    }
    return out->failed ? cn_fail(ctx, CN_ENOMEM, "no memory for a vocabulary") : CN_OK;
}

/* Tokens that aren't in the model's vocabulary, as far as they have ids. */
static cn_status add_tokens(cn_ctx *ctx, const json_t *list, json_t *vocab)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *e = json_array_get(list, i), *id = json_object_get(e, "id");
        const char *content = json_string_value(json_object_get(e, "content"));
        if (!content || !json_is_integer(id))
            return cn_fail(ctx, CN_EFORMAT, "added token %zu has no \"content\" or \"id\"", i);
        if (json_object_get(vocab, content)) continue;
        if (json_object_set(vocab, content, (json_t *)(uintptr_t)id))
            return cn_fail(ctx, CN_ENOMEM, "no memory for a vocabulary");
    }
    return CN_OK;
}

static cn_status check_model(cn_ctx *ctx, const json_t *model)
{
    const char *type = json_string_value(json_object_get(model, "type"));
    const char *end = json_string_value(json_object_get(model, "end_of_word_suffix"));
    if (!json_is_object(model))
        return cn_fail(ctx, CN_EFORMAT, "no \"model\"; not a tokenizer's file");
    if (type && strcmp(type, "BPE") != 0)
        return cn_fail(ctx, CN_EMISMATCH, "a %.40s tokenizer; CLIP's is of type BPE", type);
    if (!end || strcmp(end, "</w>") != 0)
        return cn_fail(ctx, CN_EMISMATCH,
                       "words end in \"%.20s\"; in CLIP's tokenizer they end in \"</w>\"",
                       end ? end : "");
    return CN_OK;
}

static cn_status read_root(cn_ctx *ctx, const json_t *root, const char *pad, cn_tokenizer **out)
{
    const json_t *model = json_object_get(root, "model");
    json_t *vocab = json_object_get(model, "vocab");
    cn_str merges = {0};
    if (!pad)
        pad = json_string_value(json_object_get(json_object_get(root, "padding"), "pad_token"));
    CN_TRY(check_model(ctx, model));
    if (!json_is_object(vocab))
        return cn_fail(ctx, CN_EFORMAT, "the vocabulary is not an object of tokens and their ids");
    CN_TRY(add_tokens(ctx, json_object_get(root, "added_tokens"), vocab));
    cn_status s = merges_text(ctx, json_object_get(model, "merges"), &merges);
    if (s == CN_OK)
        s = cn_tokenizer_of(ctx, vocab, merges.data ? merges.data : "", merges.len, pad, out);
    cn_str_free(&merges);
    return s;
}

cn_status cn_tokenizer_open_json(cn_ctx *ctx, const char *path, cn_tokenizer **out)
{
    char dir[CN_PATH_BYTES], *text = NULL, *pad = NULL;
    const char *slash = strrchr(path, '/');
    size_t n;
    json_error_t error;
    CN_TRY(cn_format(ctx, dir, sizeof dir, "%.*s", slash ? (int)(slash - path) : 1,
                     slash ? path : "."));
    CN_TRY(cn_file_read(ctx, path, CN_TOKENIZER_MAX_BYTES, &text, &n));
    json_t *root = cn_json_parse(text, n, 0, &error);
    cn_free(text);
    if (!root)
        return cn_fail(ctx, CN_EFORMAT, "%s, line %d: %s", path, error.line,
                       cn_json_reason(&error));
    cn_status s = cn_tokenizer_read_pad(ctx, dir, &pad);
    if (s == CN_OK && (s = read_root(ctx, root, pad, out)) != CN_OK)
        s = cn_fail_prefix(ctx, s, "%s", path);
    cn_free(pad);
    json_decref(root);
    return s;
}
