/* SPDX-License-Identifier: Apache-2.0 */
/* inversion.c - see inversion.h. */
#include "model/text/inversion.h"

#include "io/listing.h"
#include "model/checkpoint/lora.h"
#include "model/checkpoint/source.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char *const endings[] = {".safetensors", ".pt", ".bin", NULL};

/* The length of a file's name without folder and ending; *from is where it begins. */
static size_t stem(const char *path, const char **from)
{
    const char *slash = strrchr(path, '/');
    *from = slash ? slash + 1 : path;
    size_t n = strlen(*from);
    for (size_t i = 0; endings[i]; i++) {
        size_t e = strlen(endings[i]);
        if (n > e && !strcasecmp(*from + n - e, endings[i])) return n - e;
    }
    return n;
}

static void embedding_free(cn_inversion *e)
{
    cn_free(e->word);
    cn_free(e->ids);
    cn_free(e->vectors);
}

void cn_inversions_truncate(cn_inversions *e, int n)
{
    while (e->n > n) embedding_free(&e->list[--e->n]);
}

void cn_inversions_free(cn_inversions *e)
{
    cn_inversions_truncate(e, 0);
    cn_free(e->list);
    *e = (cn_inversions){0};
}

static cn_status reserve(cn_ctx *ctx, cn_inversions *e)
{
    if (e->n < e->cap) return CN_OK;
    int cap = e->cap * 2 + 8;
    cn_inversion *list =
        cn_regrow(ctx, e->list, (size_t)e->n * sizeof *list, (size_t)cap * sizeof *list);
    if (!list) return CN_ENOMEM;
    e->list = list;
    e->cap = cap;
    return CN_OK;
}

/* The word's tokens without BOS and EOS. */
static cn_status tokenize(cn_ctx *ctx, const cn_tokenizer *t, cn_inversion *e)
{
    int64_t n = 0;
    CN_TRY(cn_tokenizer_encode_all(ctx, t, e->word, &e->ids, &n));
    e->n_ids = n - 2;
    memmove(e->ids, e->ids + 1, (size_t)e->n_ids * sizeof *e->ids);
    if (e->n_ids < 1) return cn_fail(ctx, CN_EINVAL, "its word \"%s\" has no tokens", e->word);
    return CN_OK;
}

static cn_status add_word(cn_ctx *ctx, cn_inversions *e, const cn_tokenizer *t, const char *word,
                          size_t word_n, const cn_tensors *file, const cn_tensor_info *info)
{
    CN_TRY(reserve(ctx, e));
    cn_inversion one = {.width = info->shape[info->ndim - 1]};
    one.n = info->elements / one.width;
    one.word = cn_alloc(ctx, word_n + 1);
    one.vectors = cn_alloc_array(ctx, (size_t)info->elements, sizeof *one.vectors);
    cn_status s = one.word && one.vectors ? CN_OK : CN_ENOMEM;
    if (s == CN_OK) {
        memcpy(one.word, word, word_n);
        one.word[word_n] = 0;
        s = tokenize(ctx, t, &one);
    }
    if (s == CN_OK) s = cn_tensors_read(ctx, file, info, one.vectors);
    if (s == CN_OK && cn_first_nonfinite(CN_F32, one.vectors, (size_t)info->elements) >= 0)
        s = cn_fail(ctx, CN_EFORMAT,
                    "%s has a value that isn't finite; the file is damaged, or its training "
                    "diverged",
                    info->name);
    if (s != CN_OK) {
        embedding_free(&one);
        return s;
    }
    e->list[e->n++] = one;
    return CN_OK;
}

/* The file's tensor of vectors; *named when its name is the word. */
static cn_status find_vectors(cn_ctx *ctx, const cn_tensors *t, const char *part,
                              const cn_tensor_info **out, bool *named)
{
    static const char param[] = "string_to_param.";
    int64_t found = 0;
    *named = false;
    if (part) {
        *out = cn_tensors_find(t, part);
        return *out ? CN_OK
                    : cn_fail(ctx, CN_EMISMATCH,
                              "has no %s: an embedding of SDXL (clip_l, clip_g) is expected", part);
    }
    if (cn_tensors_find(t, "clip_l") || cn_tensors_find(t, "clip_g"))
        return cn_fail(ctx, CN_EMISMATCH, "holds an SDXL embedding (clip_l, clip_g)");
    *out = cn_tensors_find(t, "emb_params");
    *named = false;
    if (*out) return CN_OK;
    for (int64_t i = 0; i < cn_tensors_count(t); i++)
        if (!strncmp(cn_tensors_at(t, i)->name, param, sizeof param - 1)) {
            *out = cn_tensors_at(t, i);
            found++;
        }
    if (!found && cn_tensors_count(t) == 1) {
        *out = cn_tensors_at(t, 0);
        *named = true;
        found = 1;
    }
    if (found == 1) return CN_OK;
    return cn_fail(
        ctx, CN_EMISMATCH,
        "holds %s; a textual inversion embedding of one word (string_to_param, emb_params "
        "or a single tensor) is expected",
        found ? "embeddings of several words" : cn_content_name(cn_content_of(t)));
}

static cn_status check_shape(cn_ctx *ctx, const cn_tensor_info *info, int64_t width)
{
    if (info->ndim < 1 || info->ndim > 2 || info->elements < 1)
        return cn_fail(ctx, CN_EFORMAT, "%s: vectors [n, %lld] are expected, not %d dimensions",
                       info->name, (long long)width, info->ndim);
    int64_t is = info->shape[info->ndim - 1];
    if (is == width) return CN_OK;
    return cn_fail(ctx, CN_EMISMATCH, "its vectors are %lld wide%s, the text encoder's are %lld%s",
                   (long long)is,
                   is == 768    ? " (Stable Diffusion 1.x)"
                   : is == 1024 ? " (Stable Diffusion 2.x)"
                                : "",
                   (long long)width,
                   width == 768    ? " (Stable Diffusion 1.x)"
                   : width == 1024 ? " (Stable Diffusion 2.x)"
                                   : "");
}

static cn_status add_file(cn_ctx *ctx, cn_inversions *e, const cn_tokenizer *t, const char *path,
                          const char *part, const cn_tensors *file, int64_t width)
{
    const cn_tensor_info *info = NULL;
    bool named = false;
    const char *from;
    size_t n = stem(path, &from);
    CN_TRY(find_vectors(ctx, file, part, &info, &named));
    CN_TRY(check_shape(ctx, info, width));
    CN_TRY(add_word(ctx, e, t, from, n, file, info));
    if (!named || (strlen(info->name) == n && !memcmp(info->name, from, n))) return CN_OK;
    return add_word(ctx, e, t, info->name, strlen(info->name), file, info);
}

cn_status cn_inversions_add(cn_ctx *ctx, cn_inversions *e, const cn_tokenizer *t, const char *path,
                            const char *part, int64_t width)
{
    cn_tensors *file = NULL;
    CN_TRY(cn_tensors_open(ctx, path, &file));
    cn_status s = add_file(ctx, e, t, path, part, file, width);
    cn_tensors_close(file);
    return s == CN_OK ? CN_OK : cn_fail_prefix(ctx, s, "%s", path);
}

/* --- in a LoRA's file ------------------------------------------------------------------------- */

/* The word in bundle_emb.WORD.KIND, and KIND; false for another name. */
static bool bundled(const char *name, const char **word, size_t *word_n, const char **kind)
{
    static const char *const kinds[] = {".emb_params", ".string_to_param."};
    if (strncmp(name, CN_LORA_BUNDLE, strlen(CN_LORA_BUNDLE)) != 0) return false;
    *word = name + strlen(CN_LORA_BUNDLE);
    for (size_t i = 0; i < CN_COUNT(kinds); i++) {
        const char *at = strstr(*word, kinds[i]);
        if (!at || at == *word || (i == 0 && at[strlen(kinds[i])])) continue;
        *word_n = (size_t)(at - *word);
        *kind = at + 1;
        return true;
    }
    return false;
}

cn_status cn_inversions_add_bundled(cn_ctx *ctx, cn_inversions *e, const cn_tokenizer *t,
                                    const cn_tensors *file, const char *path, int64_t width)
{
    for (int64_t i = 0; i < cn_tensors_count(file); i++) {
        const cn_tensor_info *info = cn_tensors_at(file, i);
        const char *word, *kind;
        size_t n;
        if (strncmp(info->name, CN_LORA_BUNDLE, strlen(CN_LORA_BUNDLE)) != 0) continue;
        const bool known = bundled(info->name, &word, &n, &kind);
        if (known && check_shape(NULL, info, width) == CN_OK) {
            const cn_status s = add_word(ctx, e, t, word, n, file, info);
            if (s != CN_OK) return cn_fail_prefix(ctx, s, "%s: %s", path, info->name);
            cn_log(ctx, CN_LOG_INFO, "%s: brings the word %.*s", path, (int)n, word);
        } else {
            cn_log(ctx, CN_LOG_WARN,
                   "%s: %s is left out: an embedding of vectors %lld wide is "
                   "expected",
                   path, info->name, (long long)width);
        }
    }
    return CN_OK;
}

/* --- folders ---------------------------------------------------------------------------------- */

/* A quiet context of its own keeps the failures of single files out of ctx. */
static cn_status add_or_log(cn_ctx *ctx, cn_ctx *quiet, cn_inversions *e, const cn_tokenizer *t,
                            const char *path, const char *part, int64_t width)
{
    cn_status s = cn_inversions_add(quiet, e, t, path, part, width);
    if (s == CN_ENOMEM) return cn_fail(ctx, s, "%s", cn_error(quiet));
    if (s != CN_OK) cn_log(ctx, CN_LOG_WARN, "left out: %s", cn_error(quiet));
    return CN_OK;
}

cn_status cn_inversions_add_dir(cn_ctx *ctx, cn_inversions *e, const cn_tokenizer *t,
                                const char *dir, const char *part, int64_t width)
{
    const cn_listing_rules rules = {.endings = endings};
    cn_listing list = {0};
    CN_TRY(cn_listing_read(ctx, dir, &rules, &list));
    cn_ctx *quiet = cn_ctx_create(1);
    cn_status s = quiet ? CN_OK : cn_fail(ctx, CN_ENOMEM, "out of memory for the embeddings");
    for (int64_t i = 0; s == CN_OK && i < list.n; i++) {
        char path[CN_PATH_BYTES];
        s = cn_format(ctx, path, sizeof path, "%s/%s", dir, list.names[i]);
        if (s == CN_OK) s = add_or_log(ctx, quiet, e, t, path, part, width);
    }
    cn_listing_free(&list);
    cn_ctx_destroy(quiet);
    return s;
}

/* --- in a prompt ------------------------------------------------------------------------------ */

static bool is_word(char c)
{
    unsigned char u = (unsigned char)c;
    return u >= 0x80 || (u >= '0' && u <= '9') || ((u | 32) >= 'a' && (u | 32) <= 'z');
}

const cn_inversion *cn_inversions_at_ids(const cn_inversions *e, const int32_t *ids, int64_t n)
{
    const cn_inversion *best = NULL;
    for (int i = 0; e && i < e->n; i++) {
        const cn_inversion *one = &e->list[i];
        if (one->n_ids > n || memcmp(ids, one->ids, (size_t)one->n_ids * sizeof *ids) != 0)
            continue;
        if (!best || one->n_ids > best->n_ids) best = one;
    }
    return best;
}

/* Whether text[i] goes on with the word that c belongs to. Bytes of other alphabets count as
 * letters. */
static bool continues(char c, const char *text, size_t n, size_t i)
{
    return i < n && is_word(c) && is_word(text[i]);
}

const cn_inversion *cn_inversions_at_text(const cn_inversions *e, const char *text, size_t n,
                                          size_t at)
{
    const cn_inversion *best = NULL;
    size_t longest = 0;
    for (int i = 0; e && i < e->n; i++) {
        const char *word = e->list[i].word;
        size_t len = strlen(word);
        if (len > n - at || len <= longest || strncasecmp(text + at, word, len) != 0) continue;
        if (continues(word[0], text, n, at - 1) || continues(word[len - 1], text, n, at + len))
            continue;
        best = &e->list[i];
        longest = len;
    }
    return best;
}
