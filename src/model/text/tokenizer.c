/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer.c - encoding and decoding; tokenizer_open.c loads.
 *
 * A word's bytes start as one token each. The pair of neighbours with the lowest rank, the leftmost
 * of equals, is merged until no pair of the list is left. A heap of candidate pairs keeps this at n
 * log n: a word may be as long as the text. As in the tokenizers crate (models/bpe/word.rs), a
 * candidate is dropped when its tokens have changed since it was pushed.
 */
#include "model/text/tokenizer_internal.h"

#include <string.h>
#include <utf8proc.h>

typedef struct piece {
    int32_t id; /* -1: merged into the piece before it */
    int32_t prev, next;
} piece;

typedef struct candidate {
    int32_t rank, at, merged;
} candidate;

/* One call's working memory. pieces and heap hold the longest word so far. */
typedef struct encoder {
    cn_ctx *ctx;
    const cn_tokenizer *t;
    int32_t *ids;
    int64_t n, cap;
    piece *pieces;
    candidate *heap;
    size_t word_cap, heap_n;
} encoder;

int64_t cn_tokenizer_size(const cn_tokenizer *t)
{
    return t->tokens.n;
}

int32_t cn_tokenizer_bos(const cn_tokenizer *t)
{
    return t->bos;
}

int32_t cn_tokenizer_eos(const cn_tokenizer *t)
{
    return t->eos;
}

int32_t cn_tokenizer_pad(const cn_tokenizer *t)
{
    return t->pad;
}

void cn_tokenizer_set_pad(cn_tokenizer *t, int32_t id)
{
    t->pad = id;
}

static cn_status push_id(encoder *e, int32_t id)
{
    if (e->n == e->cap) {
        int64_t cap = e->cap * 2 + 80;
        int32_t *p = cn_regrow(e->ctx, e->ids, (size_t)e->n * sizeof *p, (size_t)cap * sizeof *p);
        if (!p) return CN_ENOMEM;
        e->ids = p;
        e->cap = cap;
    }
    e->ids[e->n++] = id;
    return CN_OK;
}

/* --- heap of candidates, lowest (rank, at) on top --------------------------------------------- */

static bool goes_before(const candidate *a, const candidate *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

static void heap_push(encoder *e, candidate c)
{
    size_t i = e->heap_n++;
    for (; i > 0 && goes_before(&c, &e->heap[(i - 1) / 2]); i = (i - 1) / 2)
        e->heap[i] = e->heap[(i - 1) / 2];
    e->heap[i] = c;
}

static candidate heap_pop(encoder *e)
{
    candidate top = e->heap[0], last = e->heap[--e->heap_n];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < e->heap_n; i = child) {
        if (child + 1 < e->heap_n && goes_before(&e->heap[child + 1], &e->heap[child])) child++;
        if (!goes_before(&e->heap[child], &last)) break;
        e->heap[i] = e->heap[child];
    }
    e->heap[i] = last;
    return top;
}

/* --- one word --------------------------------------------------------------------------------- */

static cn_status reserve_word(encoder *e, size_t n)
{
    if (n <= e->word_cap) return CN_OK;
    size_t cap = CN_MAX(n, e->word_cap * 2 + 32);
    /* n - 1 pairs at first, and each of the at most n - 1 merges adds two. */
    piece *pieces = cn_alloc_array(e->ctx, cap, sizeof *pieces);
    candidate *heap = cn_alloc_array(e->ctx, cap, 3 * sizeof *heap);
    if (!pieces || !heap) {
        cn_free(pieces);
        cn_free(heap);
        return CN_ENOMEM;
    }
    cn_free(e->pieces);
    cn_free(e->heap);
    e->pieces = pieces;
    e->heap = heap;
    e->word_cap = cap;
    return CN_OK;
}

/* Adds the pair of piece `at` and its successor when the list has it. */
static void consider(encoder *e, int32_t at)
{
    if (at < 0 || e->pieces[at].next < 0) return;
    const merge *m = merge_slot(e->t, e->pieces[at].id, e->pieces[e->pieces[at].next].id);
    if (m->left >= 0) heap_push(e, (candidate){m->rank, at, m->merged});
}

static void merge_pieces(encoder *e)
{
    piece *p = e->pieces;
    while (e->heap_n) {
        candidate c = heap_pop(e);
        piece *left = &p[c.at];
        if (left->id < 0 || left->next < 0) continue;
        piece *right = &p[left->next];
        const merge *m = merge_slot(e->t, left->id, right->id);
        if (m->left < 0 || m->merged != c.merged) continue;
        left->id = c.merged;
        left->next = right->next;
        if (right->next >= 0) p[right->next].prev = c.at;
        right->id = -1;
        consider(e, left->prev);
        consider(e, c.at);
    }
}

static cn_status encode_word(void *user, const char *bytes, size_t n)
{
    encoder *e = user;
    CN_TRY(reserve_word(e, n));
    for (size_t i = 0; i < n; i++) {
        uint8_t b = (uint8_t)bytes[i];
        bool last = i + 1 == n;
        e->pieces[i].id = last ? e->t->byte_end_id[b] : e->t->byte_id[b];
        e->pieces[i].prev = (int32_t)i - 1;
        e->pieces[i].next = last ? -1 : (int32_t)i + 1;
    }
    e->heap_n = 0;
    for (size_t i = 0; i < n; i++) consider(e, (int32_t)i);
    merge_pieces(e);
    for (int32_t i = 0; i >= 0; i = e->pieces[i].next) CN_TRY(push_id(e, e->pieces[i].id));
    return CN_OK;
}

/* --- one text --------------------------------------------------------------------------------- */

/* The special token whose name stands at the text's start, or -1; the longest wins. */
static int32_t special_at(const cn_tokenizer *t, const char *text, size_t n, size_t *name_n)
{
    const int32_t ids[] = {t->bos, t->eos, t->pad};
    int32_t found = -1;
    *name_n = 0;
    for (size_t i = 0; i < CN_COUNT(ids); i++) {
        size_t len;
        const char *name = cn_symtab_get(&t->tokens, ids[i], &len);
        if (len > *name_n && len <= n && memcmp(text, name, len) == 0) {
            found = ids[i];
            *name_n = len;
        }
    }
    return found;
}

/* Special tokens' names are cut out first, before anything else is done to the text. */
static cn_status encode_text(encoder *e, const char *text, size_t n)
{
    size_t begin = 0;
    for (size_t i = 0; i < n;) {
        size_t name_n;
        int32_t id = special_at(e->t, text + i, n - i, &name_n);
        if (id < 0) {
            i++;
            continue;
        }
        CN_TRY(cn_splitter_words(e->ctx, e->t->splitter, text + begin, i - begin, encode_word, e));
        CN_TRY(push_id(e, id));
        begin = i += name_n;
    }
    return cn_splitter_words(e->ctx, e->t->splitter, text + begin, n - begin, encode_word, e);
}

cn_status cn_tokenizer_encode_bytes(cn_ctx *ctx, const cn_tokenizer *t, const char *text,
                                    size_t n_bytes, int32_t **ids, int64_t *n)
{
    if (n_bytes > CN_CLIP_TEXT_MAX_BYTES) {
        return cn_fail(ctx, CN_EINVAL, "a prompt of %zu bytes is too long: at most %d", n_bytes,
                       CN_CLIP_TEXT_MAX_BYTES);
    }
    encoder e = {.ctx = ctx, .t = t};
    cn_status s = push_id(&e, t->bos);
    if (s == CN_OK) s = encode_text(&e, text, n_bytes);
    if (s == CN_OK) s = push_id(&e, t->eos);
    cn_free(e.pieces);
    cn_free(e.heap);
    if (s != CN_OK) {
        cn_free(e.ids);
        return s;
    }
    *ids = e.ids;
    *n = e.n;
    return CN_OK;
}

cn_status cn_tokenizer_encode_all(cn_ctx *ctx, const cn_tokenizer *t, const char *text,
                                  int32_t **ids, int64_t *n)
{
    return cn_tokenizer_encode_bytes(ctx, t, text, strlen(text), ids, n);
}

void cn_tokenizer_fit(const cn_tokenizer *t, const int32_t *ids, int64_t n, int32_t *out,
                      int64_t max_length)
{
    for (int64_t i = 0; i < max_length; i++) out[i] = i < n ? ids[i] : t->pad;
    if (n > max_length) out[max_length - 1] = t->eos;
}

cn_status cn_tokenizer_encode(cn_ctx *ctx, const cn_tokenizer *t, const char *text, int32_t *ids,
                              int64_t max_length, int64_t *n_untruncated)
{
    if (max_length < 2) {
        return cn_fail(ctx, CN_EINVAL, "%lld tokens can't hold a prompt: at least 2",
                       (long long)max_length);
    }
    int32_t *all;
    int64_t n;
    CN_TRY(cn_tokenizer_encode_all(ctx, t, text, &all, &n));
    cn_tokenizer_fit(t, all, n, ids, max_length);
    cn_free(all);
    if (n_untruncated) *n_untruncated = n;
    return CN_OK;
}

/* --- decoding --------------------------------------------------------------------------------- */

/* A token's characters back to the bytes they stand for; characters that stand for none are
 * kept. */
static void decode_token(const char *token, size_t n, cn_str *out)
{
    const size_t end_n = sizeof CN_CLIP_WORD_END - 1;
    bool ends = n >= end_n && memcmp(token + n - end_n, CN_CLIP_WORD_END, end_n) == 0;
    if (ends) n -= end_n;
    for (size_t i = 0; i < n;) {
        int32_t c;
        utf8proc_ssize_t used =
            utf8proc_iterate((const utf8proc_uint8_t *)token + i, (utf8proc_ssize_t)(n - i), &c);
        if (used <= 0) break;
        int b = cn_byte_of_symbol(c);
        char byte = (char)b;
        cn_str_add(out, b >= 0 ? &byte : token + i, b >= 0 ? 1 : (size_t)used);
        i += (size_t)used;
    }
    if (ends) cn_str_adds(out, " ");
}

cn_status cn_tokenizer_decode(cn_ctx *ctx, const cn_tokenizer *t, const int32_t *ids, int64_t n,
                              cn_str *out)
{
    for (int64_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= t->tokens.n) {
            return cn_fail(ctx, CN_EINVAL, "token id %d is not in the vocabulary: 0 to %d", ids[i],
                           t->tokens.n - 1);
        }
    }
    size_t start = out->len;
    for (int64_t i = 0; i < n; i++) {
        if (ids[i] == t->bos || ids[i] == t->eos || ids[i] == t->pad) continue;
        size_t len;
        const char *token = cn_symtab_get(&t->tokens, ids[i], &len);
        decode_token(token, len, out);
    }
    if (!out->failed && out->len > start && out->data[out->len - 1] == ' ') {
        out->data[--out->len] = 0;
    }
    return out->failed ? cn_fail(ctx, CN_ENOMEM, "no memory for a decoded text") : CN_OK;
}
