/* SPDX-License-Identifier: Apache-2.0 */
/* text.c - see text.h.
 *
 * Two graphs, tokens to rows of the token table and rows to features, because an embedding's
 * vectors replace rows between them. One chunk of every prompt makes a batch.
 */
#include "diffuse/text.h"

#include <string.h>

typedef struct encoder {
    cn_ctx *ctx;
    const cn_text_spec *spec;
    int64_t n, length, hidden; /* prompts, tokens of a chunk, width */
    cn_graph *lookup, *layers;
    cn_plan *lookup_plan, *layers_plan;
    cn_node *ids, *rows, *x, *y;
    int32_t *id_values; /* [n, length] */
    float *row_values;  /* [n, length, hidden] */
} encoder;

static void encoder_close(encoder *e)
{
    cn_plan_destroy(e->lookup_plan);
    cn_plan_destroy(e->layers_plan);
    cn_graph_destroy(e->lookup);
    cn_graph_destroy(e->layers);
    cn_free(e->id_values);
    cn_free(e->row_values);
}

static bool all_loaded(const cn_params *p)
{
    for (int64_t i = 0; i < cn_params_count(p); i++)
        if (!cn_params_at(p, i)->loaded) return false;
    return true;
}

static cn_status build(encoder *e, cn_backend *be)
{
    const cn_text_spec *s = e->spec;
    int64_t id_shape[2] = {e->n, e->length}, shape[3] = {e->n, e->length, e->hidden};
    CN_TRY(cn_graph_create(e->ctx, &e->lookup));
    CN_TRY(cn_graph_create(e->ctx, &e->layers));
    cn_graph_use(e->lookup, s->params);
    cn_graph_use(e->layers, s->params);
    e->ids = cn_input(e->lookup, "ids", CN_I32, 2, id_shape, false);
    e->rows = cn_clip_embed_build(e->lookup, s->clip, e->ids);
    e->x = cn_input(e->layers, "rows", CN_F32, 3, shape, false);
    e->y = cn_clip_layers_build(e->layers, s->clip, e->x, s->skip);
    CN_TRY(cn_graph_status(e->lookup));
    CN_TRY(cn_graph_status(e->layers));
    CN_TRY(cn_plan_create(e->ctx, e->lookup, be, &e->rows, 1, false, &e->lookup_plan));
    return cn_plan_create(e->ctx, e->layers, be, &e->y, 1, false, &e->layers_plan);
}

static cn_status encoder_open(encoder *e, cn_backend *be)
{
    const cn_text_spec *s = e->spec;
    size_t tokens = (size_t)e->n * (size_t)e->length;
    CN_TRY(build(e, be));
    e->id_values = cn_alloc_array(e->ctx, tokens, sizeof *e->id_values);
    e->row_values = cn_alloc_array(e->ctx, tokens, (size_t)e->hidden * sizeof(float));
    if (!e->id_values || !e->row_values) return CN_ENOMEM;
    return s->load && !all_loaded(s->params) ? s->load(s->user, s->params) : CN_OK;
}

/* Chunk c of every prompt: its rows of the token table, with vectors where there are some. */
static cn_status look_up(encoder *e, cn_prompt *const *prompts, int c)
{
    size_t row = (size_t)e->hidden * sizeof(float);
    for (int64_t i = 0; i < e->n; i++)
        memcpy(e->id_values + i * e->length, prompts[i]->ids + c * e->length,
               (size_t)e->length * sizeof *e->id_values);
    CN_TRY(cn_plan_set(e->lookup_plan, e->ids, e->id_values));
    CN_TRY(cn_plan_run(e->lookup_plan));
    memcpy(e->row_values, cn_plan_data(e->lookup_plan, e->rows), (size_t)(e->n * e->length) * row);
    for (int64_t i = 0; i < e->n; i++)
        for (int64_t k = 0; k < e->length; k++) {
            const float *vector = prompts[i]->vector[c * e->length + k];
            if (vector) memcpy(e->row_values + (i * e->length + k) * e->hidden, vector, row);
        }
    return CN_OK;
}

static double mean_of(const float *x, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)x[i];
    return sum / (double)n;
}

/* "Original" emphasis: every token's features times its weight, then all times old mean / new
 * mean. */
static void apply_weights(const encoder *e, cn_prompt *const *prompts, int c, float *z)
{
    int64_t all = e->n * e->length * e->hidden;
    double before = mean_of(z, all);
    for (int64_t i = 0; i < e->n; i++)
        for (int64_t k = 0; k < e->length; k++) {
            float *row = z + (i * e->length + k) * e->hidden;
            float weight = prompts[i]->weights[c * e->length + k];
            for (int64_t d = 0; d < e->hidden; d++) row[d] *= weight;
        }
    double after = mean_of(z, all);
    if (after == 0) return;
    float ratio = (float)(before / after);
    for (int64_t i = 0; i < all; i++) z[i] *= ratio;
}

static cn_status encode_chunk(encoder *e, cn_prompt *const *prompts, int c, bool weighted,
                              int n_chunks, float *out)
{
    size_t chunk = (size_t)(e->length * e->hidden);
    CN_TRY(look_up(e, prompts, c));
    CN_TRY(cn_plan_set(e->layers_plan, e->x, e->row_values));
    CN_TRY(cn_plan_run(e->layers_plan));
    float *z = cn_plan_data(e->layers_plan, e->y);
    if (weighted) apply_weights(e, prompts, c, z);
    for (int64_t i = 0; i < e->n; i++)
        memcpy(out + (size_t)(i * n_chunks + c) * chunk, z + (size_t)i * chunk,
               chunk * sizeof *out);
    return CN_OK;
}

static cn_status check(cn_ctx *ctx, const cn_text_spec *s, int n)
{
    const cn_clip_config *c = s->clip;
    if (s->skip < 0 || s->skip >= c->layers)
        return cn_fail(
            ctx, CN_EINVAL,
            "clip skip: %d of the text encoder's %d layers left out; 0 to %d are possible", s->skip,
            c->layers, c->layers - 1);
    if (n < 1) return cn_fail(ctx, CN_EINVAL, "%d prompts cannot be encoded", n);
    if (cn_tokenizer_size(s->tokenizer) > c->vocabulary)
        return cn_fail(ctx, CN_EMISMATCH,
                       "the tokenizer has %lld tokens, the text encoder knows %lld: this tokenizer "
                       "belongs to another model",
                       (long long)cn_tokenizer_size(s->tokenizer), (long long)c->vocabulary);
    return CN_OK;
}

static encoder encoder_of(cn_ctx *ctx, const cn_text_spec *spec, int n)
{
    return (encoder){.ctx = ctx,
                     .spec = spec,
                     .n = n,
                     .length = spec->clip->max_positions,
                     .hidden = spec->clip->hidden};
}

cn_status cn_text_plan(cn_ctx *ctx, cn_backend *be, const cn_text_spec *spec, int n,
                       cn_plan_info *out)
{
    encoder e = encoder_of(ctx, spec, n);
    cn_status s = check(ctx, spec, n);
    if (s == CN_OK) s = build(&e, be);
    if (s == CN_OK) {
        cn_plan_info lookup;
        cn_plan_info_get(e.layers_plan, out);
        cn_plan_info_get(e.lookup_plan, &lookup);
        out->arena_bytes += lookup.arena_bytes;
        out->arena_bytes += (size_t)(e.n * e.length * e.hidden) * sizeof *e.row_values;
    }
    encoder_close(&e);
    return s;
}

cn_status cn_text_encode_prompts(cn_ctx *ctx, cn_backend *be, const cn_text_spec *spec,
                                 cn_prompt *const *prompts, int n, int min_chunks, float **out)
{
    int chunks = min_chunks;
    bool weighted = false;
    CN_TRY(check(ctx, spec, n));
    for (int i = 0; i < n; i++) {
        chunks = CN_MAX(chunks, prompts[i]->n_chunks);
        weighted = weighted || prompts[i]->weighted;
    }
    for (int i = 0; i < n; i++) CN_TRY(cn_prompt_pad(ctx, spec->tokenizer, prompts[i], chunks));
    encoder e = encoder_of(ctx, spec, n);
    float *features = cn_alloc_array(ctx, (size_t)n * (size_t)chunks,
                                     (size_t)(e.length * e.hidden) * sizeof *features);
    cn_status s = features ? encoder_open(&e, be) : CN_ENOMEM;
    for (int c = 0; s == CN_OK && c < chunks; c++)
        s = encode_chunk(&e, prompts, c, weighted, chunks, features);
    encoder_close(&e);
    if (s != CN_OK) {
        cn_free(features);
        return s;
    }
    *out = features;
    return CN_OK;
}

void cn_prompt_report(cn_ctx *ctx, const cn_prompt *p)
{
    if (!p->cut) return;
    cn_log(ctx, CN_LOG_WARN,
           "the prompt has %lld tokens; the model reads %lld in one piece, the last %lld are left "
           "out%s%s%s",
           (long long)p->tokens, (long long)p->length - 2, (long long)p->cut,
           p->cut_text ? ": \"" : "", p->cut_text ? p->cut_text : "", p->cut_text ? "\"" : "");
}

cn_status cn_text_encode(cn_ctx *ctx, cn_backend *be, const cn_text_spec *spec,
                         const char *const *texts, int n, float **out)
{
    cn_prompt **prompts = cn_alloc0(ctx, (size_t)CN_MAX(n, 1) * sizeof *prompts);
    cn_status s = prompts ? CN_OK : CN_ENOMEM;
    for (int i = 0; s == CN_OK && i < n; i++) {
        s = cn_prompt_read(ctx, spec->tokenizer, NULL, CN_PROMPT_PLAIN, texts[i],
                           spec->clip->max_positions, &prompts[i]);
        if (s == CN_OK) cn_prompt_report(ctx, prompts[i]);
    }
    if (s == CN_OK) s = cn_text_encode_prompts(ctx, be, spec, prompts, n, 1, out);
    for (int i = 0; prompts && i < n; i++) cn_prompt_destroy(prompts[i]);
    cn_free(prompts);
    return s;
}
