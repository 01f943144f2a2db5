/* SPDX-License-Identifier: Apache-2.0 */
/* bpe.c - see bpe.h. Sennrich et al., "Neural Machine Translation of Rare Words with Subword
 * Units", algorithm 1: count pairs of neighbours over the distinct words, merge the most frequent,
 * repeat. Counts are kept up to date word by word instead of being taken anew.
 */
#include "model/text/bpe.h"
#include "model/text/cliptext.h"
#include "model/text/symtab.h"
#include "io/json_text.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { MIN_PAIR_COUNT = 2, MAX_VOCAB = 1 << 20 };

typedef struct pair {
    int32_t left, right; /* left = -1: a free slot */
    int64_t count;
} pair;

typedef struct trainer {
    cn_ctx *ctx;
    cn_symtab words;
    int64_t *word_count;
    size_t word_cap;
    int32_t *symbols; /* word w's tokens: symbols[start[w]] on, len[w] of them */
    size_t *start;
    int32_t *len;
    cn_symtab tokens; /* number = id */
    pair *pairs;      /* open addressing, at most half full */
    size_t n_slots, n_pairs;
    cn_str merges; /* the text of merges.txt */
} trainer;

static void trainer_free(trainer *t)
{
    cn_symtab_free(&t->words);
    cn_symtab_free(&t->tokens);
    cn_free(t->word_count);
    cn_free(t->symbols);
    cn_free(t->start);
    cn_free(t->len);
    cn_free(t->pairs);
    cn_str_free(&t->merges);
}

/* --- words ------------------------------------------------------------------------------------ */

static cn_status count_word(void *user, const char *bytes, size_t n)
{
    trainer *t = user;
    int32_t w = cn_symtab_add(t->ctx, &t->words, bytes, n);
    if (w < 0) return CN_ENOMEM;
    if ((size_t)w >= t->word_cap) {
        size_t cap = t->word_cap * 2 + 256, old = t->word_cap * sizeof *t->word_count;
        int64_t *p = cn_regrow(t->ctx, t->word_count, old, cap * sizeof *p);
        if (!p) return CN_ENOMEM;
        memset(p + t->word_cap, 0, (cap - t->word_cap) * sizeof *p);
        t->word_count = p;
        t->word_cap = cap;
    }
    t->word_count[w]++;
    return CN_OK;
}

static cn_status count_words(trainer *t, const char *const *texts, int64_t n)
{
    cn_splitter *splitter;
    CN_TRY(cn_splitter_open(t->ctx, &splitter));
    cn_status s = CN_OK;
    for (int64_t i = 0; i < n && s == CN_OK; i++) {
        s = cn_splitter_words(t->ctx, splitter, texts[i], strlen(texts[i]), count_word, t);
        if (s != CN_OK) s = cn_fail_prefix(t->ctx, s, "text %lld", (long long)i);
    }
    cn_splitter_close(splitter);
    return s;
}

static cn_status spell_words(trainer *t)
{
    cn_byte_symbols bytes;
    cn_byte_symbols_init(&bytes);
    CN_TRY(cn_clip_add_bytes(t->ctx, &t->tokens));
    int32_t id[256];
    for (int i = 0; i < 256; i++) id[bytes.order[i]] = i;

    size_t n_words = (size_t)t->words.n;
    t->symbols = cn_alloc_array(t->ctx, t->words.bytes_len + 1, sizeof *t->symbols);
    t->start = cn_alloc_array(t->ctx, n_words + 1, sizeof *t->start);
    t->len = cn_alloc_array(t->ctx, n_words + 1, sizeof *t->len);
    if (!t->symbols || !t->start || !t->len) return CN_ENOMEM;
    size_t at = 0;
    for (size_t w = 0; w < n_words; w++) {
        size_t n;
        const char *word = cn_symtab_get(&t->words, (int32_t)w, &n);
        t->start[w] = at;
        t->len[w] = (int32_t)n;
        for (size_t i = 0; i < n; i++)
            t->symbols[at++] = id[(uint8_t)word[i]] + (i + 1 == n ? 256 : 0);
    }
    return CN_OK;
}

/* --- pairs ------------------------------------------------------------------------------------ */

static pair *pair_slot(const trainer *t, int32_t left, int32_t right)
{
    uint64_t h = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9e3779b97f4a7c15u;
    size_t mask = t->n_slots - 1, i = (size_t)(h >> 24) & mask;
    while (t->pairs[i].left >= 0 && (t->pairs[i].left != left || t->pairs[i].right != right))
        i = (i + 1) & mask;
    return &t->pairs[i];
}

static cn_status grow_pairs(trainer *t)
{
    trainer bigger = *t;
    bigger.n_slots = t->n_slots ? t->n_slots * 2 : 4096;
    bigger.pairs = cn_alloc_array(t->ctx, bigger.n_slots, sizeof *bigger.pairs);
    if (!bigger.pairs) return CN_ENOMEM;
    memset(bigger.pairs, 0xff, bigger.n_slots * sizeof *bigger.pairs);
    for (size_t i = 0; i < t->n_slots; i++) {
        const pair *p = &t->pairs[i];
        if (p->left >= 0) *pair_slot(&bigger, p->left, p->right) = *p;
    }
    cn_free(t->pairs);
    t->pairs = bigger.pairs;
    t->n_slots = bigger.n_slots;
    return CN_OK;
}

/* Adds `sign` times the word's count to each pair in it. */
static cn_status count_pairs(trainer *t, int32_t w, int sign)
{
    const int32_t *s = t->symbols + t->start[w];
    for (int32_t i = 0; i + 1 < t->len[w]; i++) {
        if (2 * t->n_pairs >= t->n_slots) CN_TRY(grow_pairs(t));
        pair *p = pair_slot(t, s[i], s[i + 1]);
        if (p->left < 0) {
            *p = (pair){s[i], s[i + 1], 0};
            t->n_pairs++;
        }
        p->count += sign * t->word_count[w];
    }
    return CN_OK;
}

static bool beats(const pair *a, const pair *b)
{
    if (a->count != b->count) return a->count > b->count;
    return a->left != b->left ? a->left < b->left : a->right < b->right;
}

/* false: none occurs often enough. */
static bool best_pair(const trainer *t, pair *out)
{
    pair best = {0, 0, MIN_PAIR_COUNT - 1};
    for (size_t i = 0; i < t->n_slots; i++) {
        const pair *p = &t->pairs[i];
        if (p->left >= 0 && p->count >= MIN_PAIR_COUNT && beats(p, &best)) best = *p;
    }
    *out = best;
    return best.count >= MIN_PAIR_COUNT;
}

static bool word_has(const trainer *t, int32_t w, const pair *p)
{
    const int32_t *s = t->symbols + t->start[w];
    for (int32_t i = 0; i + 1 < t->len[w]; i++) {
        if (s[i] == p->left && s[i + 1] == p->right) return true;
    }
    return false;
}

static void merge_in_word(trainer *t, int32_t w, const pair *p, int32_t merged)
{
    int32_t *s = t->symbols + t->start[w], n = 0;
    for (int32_t i = 0; i < t->len[w]; i++) {
        bool here = i + 1 < t->len[w] && s[i] == p->left && s[i + 1] == p->right;
        s[n++] = here ? merged : s[i];
        i += here;
    }
    t->len[w] = n;
}

static cn_status apply_merge(trainer *t, const pair *p)
{
    cn_str name = {0};
    size_t left_n, right_n;
    const char *left = cn_symtab_get(&t->tokens, p->left, &left_n);
    const char *right = cn_symtab_get(&t->tokens, p->right, &right_n);
    cn_str_add(&name, left, left_n);
    cn_str_add(&name, right, right_n);
    cn_str_addf(&t->merges, "%s %s\n", left, right);
    int32_t merged = -1;
    if (name.failed || t->merges.failed) {
        (void)cn_fail(t->ctx, CN_ENOMEM, "no memory for a vocabulary");
    } else {
        merged = cn_symtab_add(t->ctx, &t->tokens, name.data, name.len);
    }
    cn_str_free(&name);
    if (merged < 0) return CN_ENOMEM;
    for (int32_t w = 0; w < t->words.n; w++) {
        if (!word_has(t, w, p)) continue;
        CN_TRY(count_pairs(t, w, -1));
        merge_in_word(t, w, p, merged);
        CN_TRY(count_pairs(t, w, 1));
    }
    return CN_OK;
}

static cn_status learn_merges(trainer *t, int64_t vocab_size)
{
    for (int32_t w = 0; w < t->words.n; w++) CN_TRY(count_pairs(t, w, 1));
    cn_str_adds(&t->merges, "#version: 0.2\n");
    pair best;
    while (t->tokens.n < vocab_size - 2) {
        if (cn_cancelled(t->ctx)) return cn_fail(t->ctx, CN_ECANCELLED, "cancelled");
        if (!best_pair(t, &best)) break;
        CN_TRY(apply_merge(t, &best));
    }
    if (t->tokens.n < vocab_size - 2) {
        cn_log(t->ctx, CN_LOG_WARN,
               "the vocabulary has %d tokens instead of %lld: no pair is left that occurs twice",
               t->tokens.n + 2, (long long)vocab_size);
    }
    return cn_clip_add_specials(t->ctx, &t->tokens);
}

/* --- files ------------------------------------------------------------------------------------ */

static cn_status write_file(cn_ctx *ctx, const char *dir, const char *name, const char *text,
                            size_t n)
{
    char path[CN_PATH_BYTES];
    CN_TRY(cn_format(ctx, path, sizeof path, "%s/%s", dir, name));
    return cn_file_write(ctx, path, text, n);
}

/* Takes `value` over, NULL included. */
static cn_status write_json(cn_ctx *ctx, const char *dir, const char *name, json_t *value,
                            size_t flags)
{
    char *text = cn_json_text(value, flags);
    cn_status s = text ? write_file(ctx, dir, name, text, strlen(text))
                       : cn_fail(ctx, CN_ENOMEM, "no memory to write %s/%s", dir, name);
    free(text);
    json_decref(value);
    return s;
}

static json_t *vocab_json(const trainer *t)
{
    json_t *vocab = json_object();
    for (int32_t i = 0; vocab && i < t->tokens.n; i++) {
        if (json_object_set_new(vocab, cn_symtab_get(&t->tokens, i, NULL), json_integer(i)) == 0)
            continue;
        json_decref(vocab);
        vocab = NULL;
    }
    return vocab;
}

static cn_status write_files(const trainer *t, int64_t model_max_length, const char *dir)
{
    cn_ctx *ctx = t->ctx;
    CN_TRY(cn_dir_make(ctx, dir));
    CN_TRY(write_file(ctx, dir, "merges.txt", t->merges.data, t->merges.len));
    CN_TRY(write_json(ctx, dir, "vocab.json", vocab_json(t), JSON_COMPACT));
    json_t *names = json_pack("{s:s, s:s, s:s, s:s}", "bos_token", CN_CLIP_BOS, "eos_token",
                              CN_CLIP_EOS, "pad_token", CN_CLIP_EOS, "unk_token", CN_CLIP_EOS);
    CN_TRY(write_json(ctx, dir, "special_tokens_map.json", names, JSON_INDENT(2)));
    json_t *config = json_pack("{s:s, s:s, s:s, s:s, s:I, s:b, s:s}", "bos_token", CN_CLIP_BOS,
                               "eos_token", CN_CLIP_EOS, "pad_token", CN_CLIP_EOS, "unk_token",
                               CN_CLIP_EOS, "model_max_length", (json_int_t)model_max_length,
                               "do_lower_case", 1, "tokenizer_class", "CLIPTokenizer");
    return write_json(ctx, dir, "tokenizer_config.json", config, JSON_INDENT(2));
}

cn_status cn_bpe_train(cn_ctx *ctx, const char *const *texts, int64_t n, int64_t vocab_size,
                       int64_t model_max_length, const char *out_dir)
{
    if (vocab_size < CN_BPE_MIN_VOCAB || vocab_size > MAX_VOCAB) {
        return cn_fail(ctx, CN_EINVAL, "a vocabulary can't have %lld tokens: %d to %d",
                       (long long)vocab_size, CN_BPE_MIN_VOCAB, MAX_VOCAB);
    }
    if (model_max_length < 2) {
        return cn_fail(ctx, CN_EINVAL, "%lld tokens can't hold a prompt: at least 2",
                       (long long)model_max_length);
    }
    trainer t = {.ctx = ctx};
    cn_status s = count_words(&t, texts, n);
    if (s == CN_OK) s = spell_words(&t);
    if (s == CN_OK) s = learn_merges(&t, vocab_size);
    if (s == CN_OK) s = write_files(&t, model_max_length, out_dir);
    trainer_free(&t);
    return s;
}
