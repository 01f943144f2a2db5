/* SPDX-License-Identifier: Apache-2.0 */
/* text.c - see text.h.
 *
 * Two graphs, tokens to rows of the token table and rows to features (and the pooled output),
 * because an embedding's vectors replace rows between them. One chunk of every text makes a batch;
 * a base's encoders follow one another.
 */
#include "diffuse/text.h"

#include <string.h>

typedef struct encoder {
    cn_ctx *ctx;
    const cn_text_spec *spec;
    int which;                 /* of the spec's encoders */
    int64_t n, length, hidden; /* texts, tokens of a chunk, width */
    cn_graph *lookup, *layers;
    cn_plan *lookup_plan, *layers_plan;
    cn_node *ids, *rows, *x, *y;
    cn_node *end, *pooled; /* NULL: the encoder has no pooled output */
    int32_t *id_values;    /* [n, length] */
    float *row_values;     /* [n, length, hidden] */
    float *end_values;     /* [n, length] */
} encoder;

static void encoder_close(encoder *e)
{
    cn_plan_destroy(e->lookup_plan);
    cn_plan_destroy(e->layers_plan);
    cn_graph_destroy(e->lookup);
    cn_graph_destroy(e->layers);
    cn_free(e->id_values);
    cn_free(e->row_values);
    cn_free(e->end_values);
}

static bool all_loaded(const cn_params *p)
{
    for (int64_t i = 0; i < cn_params_count(p); i++)
        if (!cn_params_at(p, i)->loaded) return false;
    return true;
}

static cn_status build(encoder *e, cn_backend *be)
{
    const cn_text_encoder *s = &e->spec->encoders[e->which];
    int64_t id_shape[2] = {e->n, e->length}, shape[3] = {e->n, e->length, e->hidden};
    CN_TRY(cn_graph_create(e->ctx, &e->lookup));
    CN_TRY(cn_graph_create(e->ctx, &e->layers));
    cn_graph_use(e->lookup, s->params);
    cn_graph_use(e->layers, s->params);
    e->ids = cn_input(e->lookup, "ids", CN_I32, 2, id_shape, false);
    e->rows = cn_clip_embed_build(e->lookup, s->clip, e->ids);
    e->x = cn_input(e->layers, "rows", CN_F32, 3, shape, false);
    if (s->clip->projection) {
        const int64_t end[3] = {e->n, e->length, 1};
        e->end = cn_input(e->layers, "end", CN_F32, 3, end, false);
    }
    e->y = cn_clip_pooled_build(e->layers, s->clip, e->x, e->spec->skip, e->end, &e->pooled);
    CN_TRY(cn_graph_status(e->lookup));
    CN_TRY(cn_graph_status(e->layers));
    CN_TRY(cn_plan_create(e->ctx, e->lookup, be, &e->rows, 1, false, &e->lookup_plan));
    return cn_plan_create(e->ctx, e->layers, be, (cn_node *[]){e->y, e->pooled}, e->end ? 2 : 1,
                          false, &e->layers_plan);
}

static cn_status encoder_open(encoder *e, cn_backend *be)
{
    const cn_text_spec *s = e->spec;
    size_t tokens = (size_t)e->n * (size_t)e->length;
    CN_TRY(build(e, be));
    e->id_values = cn_alloc_array(e->ctx, tokens, sizeof *e->id_values);
    e->row_values = cn_alloc_array(e->ctx, tokens, (size_t)e->hidden * sizeof(float));
    e->end_values = cn_alloc_array(e->ctx, tokens, sizeof *e->end_values);
    if (!e->id_values || !e->row_values || !e->end_values) return CN_ENOMEM;
    cn_params *params = s->encoders[e->which].params;
    return s->load && !all_loaded(params) ? s->load(s->user, params) : CN_OK;
}

/* Chunk c of every text: its rows of the token table, with vectors where there are some. */
static cn_status look_up(encoder *e, const cn_text *texts, int c)
{
    size_t row = (size_t)e->hidden * sizeof(float);
    for (int64_t i = 0; i < e->n; i++)
        memcpy(e->id_values + i * e->length, texts[i].of[e->which]->ids + c * e->length,
               (size_t)e->length * sizeof *e->id_values);
    CN_TRY(cn_plan_set(e->lookup_plan, e->ids, e->id_values));
    CN_TRY(cn_plan_run(e->lookup_plan));
    CN_TRY(cn_plan_expect_finite(e->lookup_plan, e->rows));
    memcpy(e->row_values, cn_plan_data(e->lookup_plan, e->rows), (size_t)(e->n * e->length) * row);
    for (int64_t i = 0; i < e->n; i++)
        for (int64_t k = 0; k < e->length; k++) {
            const float *vector = texts[i].of[e->which]->vector[c * e->length + k];
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
static void apply_weights(const encoder *e, const cn_text *texts, int c, float *z)
{
    int64_t all = e->n * e->length * e->hidden;
    double before = mean_of(z, all);
    for (int64_t i = 0; i < e->n; i++)
        for (int64_t k = 0; k < e->length; k++) {
            float *row = z + (i * e->length + k) * e->hidden;
            float weight = texts[i].of[e->which]->weights[c * e->length + k];
            for (int64_t d = 0; d < e->hidden; d++) row[d] *= weight;
        }
    double after = mean_of(z, all);
    if (after == 0) return;
    float ratio = (float)(before / after);
    for (int64_t i = 0; i < all; i++) z[i] *= ratio;
}

/* 1 at each text's first end token, which has the highest id. */
static cn_status set_end(encoder *e)
{
    if (!e->end) return CN_OK;
    memset(e->end_values, 0, (size_t)(e->n * e->length) * sizeof *e->end_values);
    for (int64_t i = 0; i < e->n; i++) {
        const int32_t *ids = e->id_values + i * e->length;
        int64_t at = 0;
        for (int64_t k = 1; k < e->length; k++)
            if (ids[k] > ids[at]) at = k;
        e->end_values[i * e->length + at] = 1;
    }
    return cn_plan_set(e->layers_plan, e->end, e->end_values);
}

/* Where an encoder's features go: rows of `width`, of which its own begin at `offset`. */
typedef struct destination {
    float *features;
    float *pooled; /* NULL: not wanted */
    int64_t width, offset;
    int n_chunks;
    bool weighted, wants_pooled;
} destination;

static cn_status encode_chunk(encoder *e, const cn_text *texts, int c, const destination *to)
{
    CN_TRY(look_up(e, texts, c));
    CN_TRY(cn_plan_set(e->layers_plan, e->x, e->row_values));
    CN_TRY(set_end(e));
    CN_TRY(cn_plan_run(e->layers_plan));
    CN_TRY(cn_plan_expect_finite(e->layers_plan, e->y));
    if (c == 0 && e->pooled && to->pooled)
        memcpy(to->pooled, cn_plan_data(e->layers_plan, e->pooled),
               (size_t)cn_node_elements(e->pooled) * sizeof(float));
    float *z = cn_plan_data(e->layers_plan, e->y);
    if (to->weighted) apply_weights(e, texts, c, z);
    for (int64_t i = 0; i < e->n; i++)
        for (int64_t k = 0; k < e->length; k++) {
            const int64_t row = (i * to->n_chunks + c) * e->length + k;
            memcpy(to->features + row * to->width + to->offset, z + (i * e->length + k) * e->hidden,
                   (size_t)e->hidden * sizeof *z);
        }
    return CN_OK;
}

static cn_status check(cn_ctx *ctx, const cn_text_spec *s, int n)
{
    if (n < 1) return cn_fail(ctx, CN_EINVAL, "%d prompts cannot be encoded", n);
    for (int k = 0; k < s->n; k++) {
        const cn_clip_config *c = s->encoders[k].clip;
        const int64_t known = cn_tokenizer_size(s->encoders[k].tokenizer);
        if (s->skip < 0 || s->skip >= c->layers)
            return cn_fail(ctx, CN_EINVAL,
                           "clip skip: %d of the text encoder's %d layers left out; 0 to %d are "
                           "possible",
                           s->skip, c->layers, c->layers - 1);
        if (known > c->vocabulary)
            return cn_fail(ctx, CN_EMISMATCH,
                           "the tokenizer has %lld tokens, the text encoder knows %lld: this "
                           "tokenizer belongs to another model",
                           (long long)known, (long long)c->vocabulary);
        if (c->max_positions != cn_text_length(s))
            return cn_fail(ctx, CN_EMISMATCH,
                           "the text encoders take %lld and %lld tokens; one model's take equally "
                           "many",
                           (long long)cn_text_length(s), (long long)c->max_positions);
    }
    return CN_OK;
}

static encoder encoder_of(cn_ctx *ctx, const cn_text_spec *spec, int which, int n)
{
    return (encoder){.ctx = ctx,
                     .spec = spec,
                     .which = which,
                     .n = n,
                     .length = cn_text_length(spec),
                     .hidden = spec->encoders[which].clip->hidden};
}

int64_t cn_text_length(const cn_text_spec *spec)
{
    return spec->encoders[0].clip->max_positions;
}

int64_t cn_text_width(const cn_text_spec *spec)
{
    int64_t width = 0;
    for (int k = 0; k < spec->n; k++) width += spec->encoders[k].clip->hidden;
    return width;
}

int64_t cn_text_pooled_width(const cn_text_spec *spec)
{
    int64_t width = 0;
    for (int k = 0; k < spec->n; k++)
        if (spec->encoders[k].clip->projection) width = spec->encoders[k].clip->projection;
    return width;
}

static cn_status plan_one(cn_ctx *ctx, cn_backend *be, const cn_text_spec *spec, int which, int n,
                          cn_plan_info *out)
{
    encoder e = encoder_of(ctx, spec, which, n);
    cn_status s = build(&e, be);
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

cn_status cn_text_plan(cn_ctx *ctx, cn_backend *be, const cn_text_spec *spec, int n,
                       cn_plan_info *out)
{
    cn_plan_info most = {0};
    CN_TRY(check(ctx, spec, n));
    for (int k = 0; k < spec->n; k++) {
        cn_plan_info one;
        CN_TRY(plan_one(ctx, be, spec, k, n, &one));
        if (one.arena_bytes > most.arena_bytes) most = one;
    }
    *out = most;
    return CN_OK;
}

void cn_text_free(cn_text *t)
{
    for (int k = 0; k < CN_MAX_TEXT_ENCODERS; k++) cn_prompt_destroy(t->of[k]);
    *t = (cn_text){0};
}

cn_status cn_text_read(cn_ctx *ctx, const cn_text_spec *spec, cn_prompt_style style,
                       const char *text, const char *second, cn_text *out)
{
    *out = (cn_text){0};
    for (int k = 0; k < spec->n; k++)
        CN_TRY(cn_prompt_read(ctx, spec->encoders[k].tokenizer, spec->encoders[k].embeddings, style,
                              k && second ? second : text, cn_text_length(spec), &out->of[k]));
    return CN_OK;
}

static cn_status encode_all(encoder *e, cn_backend *be, const cn_text *texts, const destination *to)
{
    cn_status s = encoder_open(e, be);
    for (int c = 0; s == CN_OK && c < to->n_chunks; c++) s = encode_chunk(e, texts, c, to);
    encoder_close(e);
    return s;
}

/* Chunks of the longest, weights anywhere; shorter texts get chunks of an empty text. */
static cn_status prepare(cn_ctx *ctx, const cn_text_spec *spec, const cn_text *texts, int n,
                         destination *to)
{
    for (int i = 0; i < n; i++)
        for (int k = 0; k < spec->n; k++) {
            to->n_chunks = CN_MAX(to->n_chunks, texts[i].of[k]->n_chunks);
            to->weighted = to->weighted || texts[i].of[k]->weighted;
        }
    for (int i = 0; i < n; i++)
        for (int k = 0; k < spec->n; k++)
            CN_TRY(cn_prompt_pad(ctx, spec->encoders[k].tokenizer, texts[i].of[k], to->n_chunks));
    to->width = cn_text_width(spec);
    to->features = cn_alloc_array(ctx, (size_t)n * (size_t)to->n_chunks,
                                  (size_t)(cn_text_length(spec) * to->width) * sizeof(float));
    const size_t pooled = (size_t)cn_text_pooled_width(spec) * sizeof(float);
    if (to->wants_pooled && pooled) to->pooled = cn_alloc_array(ctx, (size_t)n, pooled);
    return to->features && (to->pooled || !to->wants_pooled || !pooled) ? CN_OK : CN_ENOMEM;
}

cn_status cn_text_encode_read(cn_ctx *ctx, cn_backend *be, const cn_text_spec *spec,
                              const cn_text *texts, int n, int min_chunks, float **out,
                              float **pooled)
{
    destination to = {.n_chunks = min_chunks, .wants_pooled = pooled != NULL};
    CN_TRY(check(ctx, spec, n));
    cn_status s = prepare(ctx, spec, texts, n, &to);
    for (int k = 0; s == CN_OK && k < spec->n; k++) {
        encoder e = encoder_of(ctx, spec, k, n);
        s = encode_all(&e, be, texts, &to);
        to.offset += e.hidden;
    }
    if (s != CN_OK) {
        cn_free(to.features);
        cn_free(to.pooled);
        return s;
    }
    *out = to.features;
    if (pooled) *pooled = to.pooled;
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
    cn_text *read = cn_alloc0(ctx, (size_t)CN_MAX(n, 1) * sizeof *read);
    cn_status s = read ? CN_OK : CN_ENOMEM;
    for (int i = 0; s == CN_OK && i < n; i++) {
        s = cn_text_read(ctx, spec, CN_PROMPT_PLAIN, texts[i], NULL, &read[i]);
        if (s == CN_OK) cn_prompt_report(ctx, read[i].of[0]);
    }
    if (s == CN_OK) s = cn_text_encode_read(ctx, be, spec, read, n, 1, out, NULL);
    for (int i = 0; read && i < n; i++) cn_text_free(&read[i]);
    cn_free(read);
    return s;
}
