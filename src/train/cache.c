/* cache.c - runs the VAE's encoder and the text encoder over a data set. */
#include "train/cache.h"

#include "diffuse/draw.h"
#include "graph/plan.h"
#include "io/checksum.h"
#include "model/nets.h"
#include "train/mirror.h"

#include <stdlib.h>
#include <string.h>

void cn_cache_destroy(cn_cache *c)
{
    if (!c) return;
    cn_store_destroy(c->moments);
    cn_store_destroy(c->contexts);
    cn_free(c->context_of);
    cn_free(c);
}

enum { MAX_PICTURES = 16 }; /* encoded at a time */

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

/* fn(user, i) for every i on all threads; the first failure's status. */
static cn_status for_each(cn_ctx *ctx, int64_t n, cn_status (*fn)(void *user, int64_t i),
                          void *user)
{
    cn_status first = CN_OK;
#pragma omp parallel for schedule(dynamic, 256) num_threads(cn_threads(ctx))
    for (int64_t i = 0; i < n; i++) {
        cn_status s;
#pragma omp atomic read
        s = first;
        if (s == CN_OK) s = fn(user, i);
        if (s != CN_OK) {
#pragma omp atomic write
            first = s;
        }
    }
    return first;
}

/* --- stores ------------------------------------------------------------------------------------- */

/* A store for n records of one network's output; keys (taken over) are theirs, NULL without cache_dir. */
static cn_status open_store(cn_ctx *ctx, const cn_base *base, const char *network, const char *size,
                            const cn_cache_options *o, size_t record_bytes, int64_t n,
                            uint64_t *keys, cn_store **out)
{
    char path[4096];
    uint64_t identity = 0;
    if (!o->cache_dir)
        return cn_store_create(ctx, n, record_bytes, o->memory_limit_bytes, o->dir, out);
    cn_status s = cn_base_identity(ctx, base, network, &identity);
    if (s == CN_OK) s = cn_dir_make(ctx, o->cache_dir);
    if (s == CN_OK)
        s = cn_format(ctx, path, sizeof path, "%s/%s%s-%016llx.cache", o->cache_dir, network, size,
                      (unsigned long long)identity);
    if (s != CN_OK) {
        cn_free(keys);
        return s;
    }
    return cn_store_open(ctx,
                         &(cn_store_file){.path = path,
                                          .identity = identity,
                                          .record_bytes = record_bytes,
                                          .n = n,
                                          .keys = keys,
                                          .progress = o->progress,
                                          .progress_user = o->progress_user},
                         out);
}

/* Ranks encode in two rounds: each its share of the groups, then, once all have, what nobody could. */
static int count_rounds(const cn_cache_options *o)
{
    return o->ranks ? 2 : 1;
}

static bool is_mine(const cn_cache_options *o, int64_t group, int round)
{
    return round || group % cn_ranks_count(o->ranks) == cn_ranks_rank(o->ranks);
}

/* The end of a round: all ranks are done, and what they added is looked up. */
static cn_status end_round(const cn_cache_options *o, cn_store *store, cn_status s)
{
    s = cn_ranks_agree(o->ranks, s);
    return s == CN_OK && o->ranks ? cn_store_refresh(store) : s;
}

/* Of the records at..at+n. */
static int64_t count_missing(const cn_store *s, int64_t at, int64_t n)
{
    int64_t missing = 0;
    for (int64_t i = at; i < at + n; i++) missing += !cn_store_has(s, i);
    return missing;
}

/* The records of at..at+n that aren't there yet, from an encoder's output. Groups are always encoded whole and
 * at the same places, so that a build that was interrupted gives the bytes of one that wasn't. */
static cn_status write_missing(cn_store *s, int64_t at, int64_t n, const char *out)
{
    const size_t bytes = cn_store_record_bytes(s);
    for (int64_t i = 0; i < n; i++)
        if (!cn_store_has(s, at + i)) CN_TRY(cn_store_write(s, at + i, out + (size_t)i * bytes));
    return CN_OK;
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

typedef struct prompts {
    cn_ctx *ctx;
    const cn_dataset *d;
    prompt_ref *refs;
} prompts;

static cn_status hash_prompt(void *user, int64_t i)
{
    const prompts *p = user;
    cn_dataset_item item;
    CN_TRY(cn_dataset_get(p->ctx, p->d, i, true, &item));
    p->refs[i + 1] = (prompt_ref){cn_hash64(item.prompt, strlen(item.prompt)), i};
    cn_dataset_item_free(&item);
    return CN_OK;
}

static cn_status hash_prompts(cn_ctx *ctx, const cn_dataset *d, prompt_ref *refs)
{
    refs[0] = (prompt_ref){cn_hash64("", 0), -1};
    return for_each(ctx, d->n, hash_prompt, &(prompts){ctx, d, refs});
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

static cn_status open_text(cn_ctx *ctx, cn_backend *be, const cn_base *base, encoder *e)
{
    CN_TRY(build_text(ctx, be, base, e));
    return cn_base_load(ctx, base, be, e->params);
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
                          cn_cache *c, const int64_t *item_of, const cn_cache_options *o, int round)
{
    int32_t *ids = cn_plan_data(e->plan, e->in);
    const int64_t total = count_missing(c->contexts, 0, c->n_contexts);
    for (int64_t at = 0, done = 0; at < c->n_contexts; at += e->batch) {
        CN_TRY(check_cancelled(ctx));
        const int64_t n = CN_MIN(e->batch, c->n_contexts - at);
        const int64_t missing = count_missing(c->contexts, at, n);
        if (!missing || !is_mine(o, at / e->batch, round)) continue;
        for (int64_t i = 0; i < e->batch; i++) /* a short batch repeats its last text */
            CN_TRY(tokenize(ctx, t, d, item_of[at + CN_MIN(i, n - 1)], c->tokens,
                            ids + i * c->tokens));
        CN_TRY(cn_plan_run(e->plan));
        CN_TRY(write_missing(c->contexts, at, n, cn_plan_data(e->plan, e->out)));
        tell(o, "text", done += missing, total);
    }
    return CN_OK;
}

typedef struct text_keys {
    cn_ctx *ctx;
    const cn_tokenizer *t;
    const cn_dataset *d;
    const int64_t *item_of;
    int64_t tokens;
    uint64_t *keys;
} text_keys;

static cn_status text_key(void *user, int64_t i)
{
    const text_keys *k = user;
    int32_t *ids = cn_alloc_array(k->ctx, (size_t)k->tokens, sizeof *ids);
    if (!ids) return CN_ENOMEM;
    const cn_status s = tokenize(k->ctx, k->t, k->d, k->item_of[i], k->tokens, ids);
    if (s == CN_OK) k->keys[i] = cn_hash64(ids, (size_t)k->tokens * sizeof *ids);
    cn_free(ids);
    return s;
}

static cn_status open_contexts(cn_ctx *ctx, const cn_base *base, const cn_tokenizer *t,
                               const cn_dataset *d, const int64_t *item_of,
                               const cn_cache_options *o, cn_cache *c)
{
    const size_t bytes = (size_t)c->tokens * (size_t)c->context_dim * sizeof(float);
    text_keys k = {ctx, t, d, item_of, c->tokens, NULL};
    if (o->cache_dir) {
        if (!(k.keys = cn_alloc_array(ctx, (size_t)c->n_contexts, sizeof *k.keys)))
            return CN_ENOMEM;
        const cn_status s = for_each(ctx, c->n_contexts, text_key, &k);
        if (s != CN_OK) {
            cn_free(k.keys);
            return s;
        }
    }
    return open_store(ctx, base, "text_encoder", "", o, bytes, c->n_contexts, k.keys, &c->contexts);
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
    s = cn_base_tokenizer(ctx, base, o->tokenizer_dir, &t);
    if (s == CN_OK && cn_tokenizer_size(t) > base->clip.vocabulary)
        s = cn_fail(ctx, CN_EMISMATCH,
                    "the tokenizer has %lld tokens, the text encoder's vocabulary %lld; they must "
                    "belong together",
                    (long long)cn_tokenizer_size(t), (long long)base->clip.vocabulary);
    if (s == CN_OK) s = open_contexts(ctx, base, t, d, item_of, o, c);
    for (int round = 0; round < count_rounds(o) && s == CN_OK; round++) {
        if (count_missing(c->contexts, 0, c->n_contexts)) {
            if (!e.g) s = open_text(ctx, be, base, &e);
            if (s == CN_OK) s = run_text(ctx, t, &e, d, c, item_of, o, round);
        }
        s = end_round(o, c->contexts, s);
    }
    encoder_close(&e);
    cn_tokenizer_close(t);
    cn_free(item_of);
    return s;
}

/* --- pictures ----------------------------------------------------------------------------------- */

typedef struct picture_keys {
    cn_ctx *ctx;
    const cn_dataset *d;
    uint64_t *keys;
} picture_keys;

/* From the target's file. One that can't be looked at has a key too: reading it will tell. */
static cn_status picture_key(void *user, int64_t i)
{
    const picture_keys *k = user;
    cn_dataset_item item;
    CN_TRY(cn_dataset_get(k->ctx, k->d, i % k->d->n, false, &item));
    const uint64_t parts[] = {cn_file_key(item.target.path), (uint64_t)item.target.position,
                              i >= k->d->n};
    k->keys[i] = cn_hash64(parts, sizeof parts);
    cn_dataset_item_free(&item);
    return CN_OK;
}

static cn_status open_moments(cn_ctx *ctx, const cn_base *base, const cn_dataset *d,
                              const cn_cache_options *o, cn_cache *c)
{
    char size[64];
    picture_keys k = {ctx, d, NULL};
    const size_t bytes = (size_t)(c->latent_h * c->latent_w * 2 * c->latent_c) * sizeof(float);
    CN_TRY(
        cn_format(ctx, size, sizeof size, "-%lldx%lld", (long long)c->width, (long long)c->height));
    if (o->cache_dir) {
        if (!(k.keys = cn_alloc_array(ctx, (size_t)c->records, sizeof *k.keys))) return CN_ENOMEM;
        const cn_status s = for_each(ctx, c->records, picture_key, &k);
        if (s != CN_OK) {
            cn_free(k.keys);
            return s;
        }
    }
    return open_store(ctx, base, "vae", size, o, bytes, c->records, k.keys, &c->moments);
}

/* A pair's target into x in [-1,1]; its condition is decoded too, to know that it can be. */
static cn_status load_one(cn_ctx *ctx, const cn_dataset *d, const cn_cache *c, int64_t record,
                          float *x)
{
    cn_image *condition = NULL, *target = NULL;
    CN_TRY(cn_dataset_load(ctx, d, record % c->n, c->width, c->height, &condition, &target));
    if (record >= c->n) cn_mirror_picture(target);
    for (int64_t k = 0; k < c->width * c->height * 3; k++)
        x[k] = (float)target->rgb[k] / 127.5f - 1.0f;
    cn_image_destroy(condition);
    cn_image_destroy(target);
    return CN_OK;
}

/* The pictures of items at..at+n on all threads. bad[i]: one that can't be read, and may be left out. */
static cn_status load_batch(cn_ctx *ctx, const cn_dataset *d, const cn_cache *c,
                            const cn_cache_options *o, int64_t at, int64_t n, float *x, bool *bad)
{
    const int64_t each = c->width * c->height * 3;
    cn_status first = CN_OK;
#pragma omp parallel for schedule(dynamic, 1) num_threads(cn_threads(ctx))
    for (int64_t i = 0; i < n; i++) {
        /* a context of its own keeps this pair's message apart from the others' */
        cn_ctx *own = cn_ctx_create(1);
        const cn_status s = own ? load_one(own, d, c, at + i, x + i * each) : CN_ENOMEM;
        bad[i] = s != CN_OK;
        if (bad[i]) memset(x + i * each, 0, (size_t)each * sizeof *x);
        if (bad[i] && o->skip_bad && s != CN_ENOMEM) {
            cn_log(ctx, CN_LOG_WARN, "%s; the pair is left out", cn_error(own));
        } else if (bad[i]) {
#pragma omp critical(cn_cache_status)
            if (first == CN_OK) first = cn_fail(ctx, s, "%s", own ? cn_error(own) : "no memory");
        }
        cn_ctx_destroy(own);
    }
    return first;
}

static cn_status build_vae(cn_ctx *ctx, cn_backend *be, const cn_base *base, int64_t width,
                           int64_t height, encoder *e)
{
    CN_TRY(encoder_begin(ctx, base, "vae", e));
    /* about a 512 px picture's work at a time */
    e->batch = CN_MAX(1, CN_MIN(MAX_PICTURES, 512 * 512 / (width * height)));
    e->in = cn_input4(e->g, "image", e->batch, height, width, base->vae.image_channels);
    e->out = cn_vae_encode_build(e->g, &base->vae, e->in);
    return cn_plan_create(ctx, e->g, be, &e->out, 1, false, &e->plan);
}

static cn_status open_vae(cn_ctx *ctx, cn_backend *be, const cn_base *base, int64_t width,
                          int64_t height, encoder *e)
{
    CN_TRY(build_vae(ctx, be, base, width, height, e));
    return cn_base_load(ctx, base, be, e->params);
}

/* Says which pictures' entries in a cache were damaged. */
static cn_status name_damaged(cn_ctx *ctx, const cn_dataset *d, const cn_cache *c, int64_t at,
                              int64_t n)
{
    char where[4096];
    for (int64_t i = at; i < at + n; i++) {
        if (!cn_store_damaged(c->moments, i)) continue;
        CN_TRY(cn_dataset_where(ctx, d, i % c->n, where, sizeof where));
        cn_log(ctx, CN_LOG_WARN, "%s: its entry in the cache is damaged; it is encoded again",
               where);
    }
    return CN_OK;
}

static cn_status run_vae(cn_ctx *ctx, const cn_dataset *d, encoder *e, cn_cache *c,
                         const cn_cache_options *o, int round)
{
    const size_t bytes = cn_store_record_bytes(c->moments);
    const int64_t total = count_missing(c->moments, 0, c->records);
    bool bad[MAX_PICTURES];
    for (int64_t at = 0, done = 0; at < c->records; at += e->batch) {
        CN_TRY(check_cancelled(ctx));
        const int64_t n = CN_MIN(e->batch, c->records - at);
        const int64_t missing = count_missing(c->moments, at, n);
        if (!missing || !is_mine(o, at / e->batch, round)) continue;
        CN_TRY(name_damaged(ctx, d, c, at, n));
        CN_TRY(load_batch(ctx, d, c, o, at, n, cn_plan_data(e->plan, e->in), bad));
        CN_TRY(cn_plan_run(e->plan));
        const char *moments = cn_plan_data(e->plan, e->out);
        for (int64_t i = 0; i < n; i++)
            if (!bad[i]) CN_TRY(write_missing(c->moments, at + i, 1, moments + (size_t)i * bytes));
        tell(o, "latents", done += missing, total);
    }
    return CN_OK;
}

static cn_status encode_pictures(cn_ctx *ctx, cn_backend *be, const cn_base *base,
                                 const cn_dataset *d, const cn_cache_options *o, cn_cache *c)
{
    encoder e = {0};
    const int64_t factor = cn_vae_factor(&base->vae);
    c->latent_h = c->height / factor;
    c->latent_w = c->width / factor;
    c->latent_c = base->vae.latent_channels;
    cn_status s = open_moments(ctx, base, d, o, c);
    for (int round = 0; round < count_rounds(o) && s == CN_OK; round++) {
        if (count_missing(c->moments, 0, c->records)) {
            if (!e.g) s = open_vae(ctx, be, base, c->width, c->height, &e);
            if (s == CN_OK) s = run_vae(ctx, d, &e, c, o, round);
        }
        s = end_round(o, c->moments, s);
    }
    encoder_close(&e);
    return s;
}

cn_status cn_cache_build(cn_ctx *ctx, cn_backend *be, const cn_base *base, const cn_dataset *d,
                         const cn_cache_options *options, cn_cache **out)
{
    cn_cache *c = cn_alloc0(ctx, sizeof *c);
    if (!c) return CN_ENOMEM;
    c->n = d->n;
    c->records = options->mirrored ? 2 * d->n : d->n;
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

/* What a store takes: beyond the limit it is a file, with cache_dir an index into one. */
static size_t store_bytes(const cn_cache_options *o, int64_t n, size_t record)
{
    size_t bytes = 0;
    if (o->cache_dir) return cn_store_index_bytes(n);
    return cn_mul_size((size_t)n, record, &bytes) && bytes <= o->memory_limit_bytes ? bytes : 0;
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
        *out = (cn_cache_memory){
            .contexts = c.n_contexts,
            .kept_bytes = store_bytes(o, c.n_contexts, context * sizeof(float)) +
                          store_bytes(o, (o->mirrored ? 2 : 1) * d->n, moments * sizeof(float)),
            .encoder_bytes = CN_MAX(encoder_bytes(&text), encoder_bytes(&vae))};
    }
    encoder_close(&text);
    encoder_close(&vae);
    cn_free(item_of);
    cn_free(c.context_of);
    return s;
}
