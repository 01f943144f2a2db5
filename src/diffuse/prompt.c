/* SPDX-License-Identifier: Apache-2.0 */
/* prompt.c - a prompt to chunks of tokens; see prompt.h.
 *
 * The webui style follows FrozenCLIPEmbedderWithCustomWordsBase.tokenize_line: each piece of one
 * weight is tokenized by itself; where a chunk is full and a comma stands among its last 20 tokens,
 * what follows the comma moves to the next chunk; an embedding's vectors never lie across two
 * chunks.
 */
#include "diffuse/prompt.h"

#include <string.h>

enum { COMMA_BACKTRACK = 20, MAX_CHUNKS = 1024 };

typedef struct writer {
    cn_ctx *ctx;
    const cn_tokenizer *t;
    const cn_inversions *embeddings;
    cn_prompt *p;
    int cap;       /* chunks that the arrays hold */
    int64_t fill;  /* tokens in the last chunk, BOS not counted */
    int64_t comma; /* of the last comma in it, -1: none */
    int32_t comma_id;
    cn_str left_out; /* ids, as bytes */
} writer;

void cn_prompt_destroy(cn_prompt *p)
{
    if (!p) return;
    cn_free(p->ids);
    cn_free(p->weights);
    cn_free(p->vector);
    cn_free(p->cut_text);
    cn_free(p);
}

/* A chunk's tokens behind BOS: at most this many. */
static int64_t room(const cn_prompt *p)
{
    return p->length - 2;
}

static cn_status regrow(cn_ctx *ctx, cn_prompt *p, int cap)
{
    size_t old = (size_t)p->n_chunks * (size_t)p->length, n = (size_t)cap * (size_t)p->length;
    int32_t *ids = cn_regrow(ctx, p->ids, old * sizeof *ids, n * sizeof *ids);
    if (ids) p->ids = ids;
    float *weights = cn_regrow(ctx, p->weights, old * sizeof *weights, n * sizeof *weights);
    if (weights) p->weights = weights;
    const float **vector = cn_regrow(ctx, p->vector, old * sizeof *vector, n * sizeof *vector);
    if (vector) p->vector = vector;
    return ids && weights && vector ? CN_OK : CN_ENOMEM;
}

/* An empty chunk: BOS, EOS, padding. */
static void clear_chunk(const cn_tokenizer *t, cn_prompt *p, int chunk)
{
    for (int64_t i = 0; i < p->length; i++) {
        int64_t at = chunk * p->length + i;
        p->ids[at] = i == 0   ? cn_tokenizer_bos(t)
                     : i == 1 ? cn_tokenizer_eos(t)
                              : cn_tokenizer_pad(t);
        p->weights[at] = 1;
        p->vector[at] = NULL;
    }
}

cn_status cn_prompt_pad(cn_ctx *ctx, const cn_tokenizer *t, cn_prompt *p, int n_chunks)
{
    if (n_chunks <= p->n_chunks) return CN_OK;
    CN_TRY(regrow(ctx, p, n_chunks));
    while (p->n_chunks < n_chunks) clear_chunk(t, p, p->n_chunks++);
    return CN_OK;
}

/* --- writing ---------------------------------------------------------------------------------- */

static cn_status next_chunk(writer *w)
{
    cn_prompt *p = w->p;
    if (p->n_chunks == MAX_CHUNKS)
        return cn_fail(w->ctx, CN_EINVAL, "the prompt is longer than %d chunks of %lld tokens",
                       (int)MAX_CHUNKS, (long long)room(p));
    if (p->n_chunks == w->cap) {
        CN_TRY(regrow(w->ctx, p, w->cap * 2 + 1));
        w->cap = w->cap * 2 + 1;
    }
    clear_chunk(w->t, p, p->n_chunks++);
    w->fill = 0;
    w->comma = -1;
    return CN_OK;
}

/* Puts one token behind the last; the caller has seen to it that there is room. */
static void put(writer *w, int32_t id, double weight, const float *vector)
{
    cn_prompt *p = w->p;
    int64_t at = (p->n_chunks - 1) * p->length + 1 + w->fill++;
    p->ids[at] = id;
    p->weights[at] = (float)weight;
    p->vector[at] = vector;
    p->weighted = p->weighted || (float)weight != 1;
    p->ids[at + 1] = cn_tokenizer_eos(w->t);
}

/* Ends the chunk behind its last comma and moves what followed to the next one. */
static cn_status break_at_comma(writer *w)
{
    int64_t from = w->comma + 1, n = w->fill - from;
    cn_prompt *p = w->p;
    CN_TRY(next_chunk(w));
    int64_t old = (p->n_chunks - 2) * p->length + 1 + from;
    for (int64_t i = 0; i < n; i++)
        put(w, p->ids[old + i], (double)p->weights[old + i], p->vector[old + i]);
    for (int64_t i = 0; i <= n; i++) {
        p->ids[old + i] = i ? cn_tokenizer_pad(w->t) : cn_tokenizer_eos(w->t);
        p->weights[old + i] = 1;
        p->vector[old + i] = NULL;
    }
    return CN_OK;
}

static cn_status put_embedding(writer *w, const cn_inversion *e, double weight)
{
    if (e->n > room(w->p))
        return cn_fail(w->ctx, CN_EINVAL, "embedding %s has %lld vectors; a prompt holds %lld",
                       e->word, (long long)e->n, (long long)room(w->p));
    if (w->fill + e->n > room(w->p)) CN_TRY(next_chunk(w));
    for (int64_t i = 0; i < e->n; i++) put(w, 0, weight, e->vectors + i * e->width);
    w->p->tokens += e->n;
    return CN_OK;
}

static cn_status put_piece(writer *w, const int32_t *ids, int64_t n, double weight)
{
    for (int64_t i = 0; i < n;) {
        bool full = w->fill == room(w->p);
        if (ids[i] == w->comma_id)
            w->comma = w->fill;
        else if (full && w->comma >= 0 && w->fill - w->comma <= COMMA_BACKTRACK)
            CN_TRY(break_at_comma(w));
        if (w->fill == room(w->p)) CN_TRY(next_chunk(w));
        const cn_inversion *e = cn_inversions_at_ids(w->embeddings, ids + i, n - i);
        if (e) {
            CN_TRY(put_embedding(w, e, weight));
            i += e->n_ids;
            continue;
        }
        put(w, ids[i++], weight, NULL);
        w->p->tokens++;
    }
    return CN_OK;
}

/* The token of "," at a word's end, as webui looks it up. */
static cn_status find_comma(writer *w)
{
    int32_t *ids;
    int64_t n;
    CN_TRY(cn_tokenizer_encode_all(w->ctx, w->t, ",", &ids, &n));
    w->comma_id = n == 3 ? ids[1] : -1;
    cn_free(ids);
    return CN_OK;
}

static cn_status read_webui(writer *w, const char *text)
{
    cn_prompt_piece *pieces = NULL;
    int n_pieces = 0;
    CN_TRY(find_comma(w));
    CN_TRY(cn_prompt_weigh(w->ctx, text, &pieces, &n_pieces));
    cn_status s = next_chunk(w);
    for (int i = 0; s == CN_OK && i < n_pieces; i++) {
        const cn_prompt_piece *piece = &pieces[i];
        if (cn_prompt_is_break(piece)) {
            s = next_chunk(w);
            continue;
        }
        int32_t *ids = NULL;
        int64_t n = 0;
        s = cn_tokenizer_encode_bytes(w->ctx, w->t, piece->text.data ? piece->text.data : "",
                                      piece->text.len, &ids, &n);
        if (s == CN_OK) s = put_piece(w, ids + 1, n - 2, piece->weight);
        cn_free(ids);
    }
    if (w->fill == 0 && w->p->n_chunks > 1) w->p->n_chunks--; /* BREAK at the end */
    cn_prompt_pieces_free(pieces, n_pieces);
    return s;
}

/* --- plain ------------------------------------------------------------------------------------ */

static void put_plain(writer *w, int32_t id, const float *vector)
{
    w->p->tokens++;
    if (w->fill < room(w->p)) {
        put(w, id, 1, vector);
        return;
    }
    w->p->cut++;
    if (!vector) cn_str_add(&w->left_out, (const char *)&id, sizeof id);
}

static cn_status plain_text(writer *w, const char *text, size_t n)
{
    int32_t *ids;
    int64_t count;
    CN_TRY(cn_tokenizer_encode_bytes(w->ctx, w->t, text, n, &ids, &count));
    for (int64_t i = 1; i < count - 1; i++) put_plain(w, ids[i], NULL);
    cn_free(ids);
    return CN_OK;
}

/* As diffusers: a word of an embedding is found in the text itself, before it is split into
 * tokens. */
static cn_status read_plain(writer *w, const char *text)
{
    size_t begin = 0, n = strlen(text);
    CN_TRY(next_chunk(w));
    for (size_t i = 0; i < n;) {
        const cn_inversion *e = cn_inversions_at_text(w->embeddings, text, n, i);
        if (!e) {
            i++;
            continue;
        }
        CN_TRY(plain_text(w, text + begin, i - begin));
        for (int64_t k = 0; k < e->n; k++) put_plain(w, 0, e->vectors + k * e->width);
        begin = i += strlen(e->word);
    }
    CN_TRY(plain_text(w, text + begin, n - begin));
    if (!w->left_out.len) return CN_OK;
    cn_str cut = {0};
    if (w->left_out.failed) return cn_fail(w->ctx, CN_ENOMEM, "out of memory for the prompt");
    cn_status s = cn_tokenizer_decode(w->ctx, w->t, (const int32_t *)(const void *)w->left_out.data,
                                      (int64_t)(w->left_out.len / sizeof(int32_t)), &cut);
    if (s == CN_OK && !(w->p->cut_text = cn_strdup(w->ctx, cut.data ? cut.data : "")))
        s = CN_ENOMEM;
    cn_str_free(&cut);
    return s;
}

cn_status cn_prompt_read(cn_ctx *ctx, const cn_tokenizer *t, const cn_inversions *embeddings,
                         cn_prompt_style style, const char *text, int64_t length, cn_prompt **out)
{
    if (length < 3)
        return cn_fail(ctx, CN_EINVAL, "%lld tokens can't hold a prompt: at least 3",
                       (long long)length);
    cn_prompt *p = cn_alloc0(ctx, sizeof *p);
    if (!p) return CN_ENOMEM;
    p->length = length;
    writer w = {.ctx = ctx, .t = t, .embeddings = embeddings, .p = p, .comma = -1};
    cn_status s = style == CN_PROMPT_WEBUI ? read_webui(&w, text) : read_plain(&w, text);
    cn_str_free(&w.left_out);
    if (s != CN_OK) {
        cn_prompt_destroy(p);
        return s;
    }
    *out = p;
    return CN_OK;
}
