/* cache.c - runs the VAE's encoder and the text encoder over a data set. */
#include "train/cache.h"

#include "graph/plan.h"
#include "model/nets.h"

#include <stdlib.h>
#include <string.h>

void cn_cache_destroy(cn_cache *c)
{
    if (!c) return;
    cn_store_destroy(c->moments);
    cn_store_destroy(c->conditions);
    cn_store_destroy(c->contexts);
    cn_free(c->context_of);
    cn_free(c);
}

/* One network with weights from the base, one input, one output. */
typedef struct encoder {
    cn_params *params;
    cn_graph *g;
    cn_plan *plan;
    cn_node *in, *out;
    int64_t batch;
} encoder;

static void encoder_close(encoder *e)
{
    cn_plan_destroy(e->plan);
    cn_graph_destroy(e->g);
    cn_params_destroy(e->params);
    *e = (encoder){0};
}

static cn_status encoder_begin(cn_ctx *ctx, const cn_base *base, const char *network, encoder *e)
{
    CN_TRY(cn_graph_create(ctx, &e->g));
    CN_TRY(cn_base_params_create(ctx, base, network, CN_F32, &e->params));
    cn_graph_use(e->g, e->params);
    return CN_OK;
}

/* What the encoder takes while it works: weights and buffers. Known before its weights are read. */
static size_t encoder_bytes(const encoder *e)
{
    cn_plan_info info;
    cn_plan_info_get(e->plan, &info);
    return cn_params_bytes(e->params) + info.arena_bytes;
}

static cn_status check_cancelled(cn_ctx *ctx)
{
    return cn_cancelled(ctx) ? cn_fail(ctx, CN_ECANCELLED, "stopped while encoding the data set")
                             : CN_OK;
}

static void tell(const cn_cache_options *o, const char *what, int64_t done, int64_t total)
{
    if (o->progress) o->progress(o->progress_user, what, done, total);
}

/* --- prompts ------------------------------------------------------------------------------------ */

typedef struct prompt_ref {
    uint64_t hash;
    int64_t item; /* -1: the empty prompt that every data set has */
} prompt_ref;

static int by_hash(const void *a, const void *b)
{
    const prompt_ref *x = a, *y = b;
    if (x->hash != y->hash) return x->hash < y->hash ? -1 : 1;
    return x->item < y->item ? -1 : x->item > y->item;
}

static cn_status hash_prompts(cn_ctx *ctx, const cn_dataset *d, prompt_ref *refs)
{
    refs[0] = (prompt_ref){cn_hash64("", 0), -1};
    for (int64_t i = 0; i < d->n; i++) {
        cn_dataset_item item;
        CN_TRY(cn_dataset_get(ctx, d, i, true, &item));
        refs[i + 1] = (prompt_ref){cn_hash64(item.prompt, strlen(item.prompt)), i};
        cn_dataset_item_free(&item);
    }
    return CN_OK;
}

/* Numbers the distinct prompts, 0 being the empty one; *item_of (cn_free) gives an item that has each. */
static cn_status number_prompts(cn_ctx *ctx, const cn_dataset *d, cn_cache *c, int64_t **item_of)
{
    prompt_ref *refs = cn_alloc_array(ctx, (size_t)d->n + 1, sizeof *refs);
    int64_t *items = cn_alloc_array(ctx, (size_t)d->n + 1, sizeof *items);
    c->context_of = cn_alloc_array(ctx, (size_t)d->n, sizeof *c->context_of);
    cn_status s = refs && items && c->context_of ? hash_prompts(ctx, d, refs) : CN_ENOMEM;
    if (s == CN_OK) {
        const uint64_t empty = refs[0].hash;
        int64_t n = 1, number = 0;
        items[0] = -1;
        qsort(refs, (size_t)d->n + 1, sizeof *refs, by_hash);
        for (int64_t i = 0; i <= d->n; i++) {
            if (refs[i].hash == empty)
                number = 0;
            else if (!i || refs[i].hash != refs[i - 1].hash)
                items[number = n++] = refs[i].item;
            if (refs[i].item >= 0) c->context_of[refs[i].item] = number;
        }
        c->n_contexts = n;
        *item_of = items;
    } else {
        cn_free(items);
    }
    cn_free(refs);
    return s;
}

static cn_status build_text(cn_ctx *ctx, cn_backend *be, const cn_base *base, encoder *e)
{
    CN_TRY(encoder_begin(ctx, base, "text_encoder", e));
    e->batch = 8;
    e->in =
        cn_input(e->g, "ids", CN_I32, 2, (int64_t[]){e->batch, base->clip.max_positions}, false);
    e->out = cn_clip_build(e->g, &base->clip, e->in, 0);
    return cn_plan_create(ctx, e->g, be, &e->out, 1, false, &e->plan);
}

/* The tokens of an item's prompt, -1: of the empty one. */
static cn_status tokenize(cn_ctx *ctx, const cn_tokenizer *t, const cn_dataset *d, int64_t item,
                          int64_t tokens, int32_t *ids)
{
    cn_dataset_item pair = {0};
    if (item >= 0) CN_TRY(cn_dataset_get(ctx, d, item, true, &pair));
    const cn_status s =
        cn_tokenizer_encode(ctx, t, item >= 0 ? pair.prompt : "", ids, tokens, NULL);
    cn_dataset_item_free(&pair);
    return s;
}

static cn_status run_text(cn_ctx *ctx, const cn_tokenizer *t, encoder *e, const cn_dataset *d,
                          cn_cache *c, const int64_t *item_of, const cn_cache_options *o)
{
    int32_t *ids = cn_plan_data(e->plan, e->in);
    const char *contexts = cn_plan_data(e->plan, e->out);
    const size_t bytes = cn_store_record_bytes(c->contexts);
    for (int64_t at = 0; at < c->n_contexts; at += e->batch) {
        CN_TRY(check_cancelled(ctx));
        const int64_t n = CN_MIN(e->batch, c->n_contexts - at);
        for (int64_t i = 0; i < e->batch; i++) /* a short batch repeats its last text */
            CN_TRY(tokenize(ctx, t, d, item_of[at + CN_MIN(i, n - 1)], c->tokens,
                            ids + i * c->tokens));
        CN_TRY(cn_plan_run(e->plan));
        for (int64_t i = 0; i < n; i++)
            CN_TRY(cn_store_write(c->contexts, at + i, contexts + (size_t)i * bytes));
        tell(o, "text", at + n, c->n_contexts);
    }
    return CN_OK;
}

static cn_status encode_text(cn_ctx *ctx, cn_backend *be, const cn_base *base, const cn_dataset *d,
                             const cn_cache_options *o, cn_cache *c)
{
    encoder e = {0};
    cn_tokenizer *t = NULL;
    int64_t *item_of = NULL;
    cn_status s = number_prompts(ctx, d, c, &item_of);
    if (s != CN_OK) return s;
    c->tokens = base->clip.max_positions;
    c->context_dim = base->clip.hidden;
    const size_t bytes = (size_t)c->tokens * (size_t)c->context_dim * sizeof(float);
    s = cn_base_tokenizer(ctx, base, o->tokenizer_dir, &t);
    if (s == CN_OK && cn_tokenizer_size(t) > base->clip.vocabulary)
        s = cn_fail(ctx, CN_EMISMATCH,
                    "the tokenizer has %lld tokens, the text encoder's vocabulary %lld; they must "
                    "belong together",
                    (long long)cn_tokenizer_size(t), (long long)base->clip.vocabulary);
    if (s == CN_OK)
        s = cn_store_create(ctx, c->n_contexts, bytes, o->memory_limit_bytes, o->dir, &c->contexts);
    if (s == CN_OK) s = build_text(ctx, be, base, &e);
    if (s == CN_OK) s = cn_base_load(ctx, base, be, e.params);
    if (s == CN_OK) s = run_text(ctx, t, &e, d, c, item_of, o);
    encoder_close(&e);
    cn_tokenizer_close(t);
    cn_free(item_of);
    return s;
}

/* --- pictures ----------------------------------------------------------------------------------- */

/* The pictures of items at..at+n, in parallel: targets into x in [-1,1], conditions to the store. */
static cn_status load_batch(cn_ctx *ctx, const cn_dataset *d, cn_cache *c, int64_t at, int64_t n,
                            float *x)
{
    const int64_t each = c->width * c->height * 3;
    cn_status first = CN_OK;
#pragma omp parallel for schedule(dynamic, 1) num_threads(cn_threads(ctx))
    for (int64_t i = 0; i < n; i++) {
        cn_image *condition = NULL, *target = NULL;
        cn_status s = cn_dataset_load(ctx, d, at + i, c->width, c->height, &condition, &target);
        if (s == CN_OK) s = cn_store_write(c->conditions, at + i, condition->rgb);
        for (int64_t k = 0; s == CN_OK && k < each; k++)
            x[i * each + k] = (float)target->rgb[k] / 127.5f - 1.0f;
        cn_image_destroy(condition);
        cn_image_destroy(target);
        if (s != CN_OK) {
#pragma omp critical(cn_cache_status)
            if (first == CN_OK) first = s;
        }
    }
    return first;
}

static cn_status build_vae(cn_ctx *ctx, cn_backend *be, const cn_base *base, int64_t width,
                           int64_t height, encoder *e)
{
    CN_TRY(encoder_begin(ctx, base, "vae", e));
    /* about a 512 px picture's work at a time */
    e->batch = CN_MAX(1, CN_MIN(16, 512 * 512 / (width * height)));
    e->in = cn_input4(e->g, "image", e->batch, height, width, base->vae.image_channels);
    e->out = cn_vae_encode_build(e->g, &base->vae, e->in);
    return cn_plan_create(ctx, e->g, be, &e->out, 1, false, &e->plan);
}

static cn_status run_vae(cn_ctx *ctx, const cn_dataset *d, encoder *e, cn_cache *c,
                         const cn_cache_options *o)
{
    const size_t bytes = cn_store_record_bytes(c->moments);
    for (int64_t at = 0; at < c->n; at += e->batch) {
        CN_TRY(check_cancelled(ctx));
        const int64_t n = CN_MIN(e->batch, c->n - at);
        CN_TRY(load_batch(ctx, d, c, at, n, cn_plan_data(e->plan, e->in)));
        CN_TRY(cn_plan_run(e->plan));
        const char *moments = cn_plan_data(e->plan, e->out);
        for (int64_t i = 0; i < n; i++)
            CN_TRY(cn_store_write(c->moments, at + i, moments + (size_t)i * bytes));
        tell(o, "latents", at + n, c->n);
    }
    return CN_OK;
}

static cn_status encode_pictures(cn_ctx *ctx, cn_backend *be, const cn_base *base,
                                 const cn_dataset *d, const cn_cache_options *o, cn_cache *c)
{
    encoder e = {0};
    cn_status s = build_vae(ctx, be, base, c->width, c->height, &e);
    if (s == CN_OK) s = cn_base_load(ctx, base, be, e.params);
    if (s != CN_OK) goto fail;
    c->latent_h = e.out->shape[1];
    c->latent_w = e.out->shape[2];
    c->latent_c = e.out->shape[3] / 2;
    const size_t moments = (size_t)(c->latent_h * c->latent_w * 2 * c->latent_c) * sizeof(float);
    const size_t pixels = (size_t)(c->width * c->height * 3);
    s = cn_store_create(ctx, c->n, moments, o->memory_limit_bytes, o->dir, &c->moments);
    if (s != CN_OK) goto fail;
    s = cn_store_create(ctx, c->n, pixels, o->memory_limit_bytes, o->dir, &c->conditions);
    if (s != CN_OK) goto fail;
    s = run_vae(ctx, d, &e, c, o);
fail:
    encoder_close(&e);
    return s;
}

cn_status cn_cache_build(cn_ctx *ctx, cn_backend *be, const cn_base *base, const cn_dataset *d,
                         const cn_cache_options *options, cn_cache **out)
{
    cn_cache *c = cn_alloc0(ctx, sizeof *c);
    if (!c) return CN_ENOMEM;
    c->n = d->n;
    c->width = options->width;
    c->height = options->height;
    cn_status s = encode_text(ctx, be, base, d, options, c);
    if (s == CN_OK) s = encode_pictures(ctx, be, base, d, options, c);
    if (s != CN_OK) {
        cn_cache_destroy(c);
        return s;
    }
    *out = c;
    return CN_OK;
}

/* --- memory ------------------------------------------------------------------------------------- */

/* A store's share of memory: beyond the limit it is a file. */
static size_t store_bytes(int64_t n, size_t record, size_t limit)
{
    size_t bytes = 0;
    return cn_mul_size((size_t)n, record, &bytes) && bytes <= limit ? bytes : 0;
}

cn_status cn_cache_plan(cn_ctx *ctx, cn_backend *be, const cn_base *base, const cn_dataset *d,
                        const cn_cache_options *o, cn_cache_memory *out)
{
    encoder text = {0}, vae = {0};
    cn_cache c = {0};
    int64_t *item_of = NULL;
    cn_status s = number_prompts(ctx, d, &c, &item_of);
    if (s == CN_OK) s = build_text(ctx, be, base, &text);
    if (s == CN_OK) s = build_vae(ctx, be, base, o->width, o->height, &vae);
    if (s == CN_OK) {
        const size_t context = (size_t)cn_node_elements(text.out) / (size_t)text.batch;
        const size_t moments = (size_t)cn_node_elements(vae.out) / (size_t)vae.batch;
        const size_t pixels = (size_t)(o->width * o->height * 3), limit = o->memory_limit_bytes;
        *out = (cn_cache_memory){
            .kept_bytes = store_bytes(c.n_contexts, context * sizeof(float), limit) +
                          store_bytes(d->n, moments * sizeof(float), limit) +
                          store_bytes(d->n, pixels, limit),
            .encoder_bytes = CN_MAX(encoder_bytes(&text), encoder_bytes(&vae))};
    }
    encoder_close(&text);
    encoder_close(&vae);
    cn_free(item_of);
    cn_free(c.context_of);
    return s;
}
