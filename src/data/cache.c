/* SPDX-License-Identifier: Apache-2.0 */
/* cache.c - runs the VAE's encoder and the text encoder over a data set. */
#include "data/cache.h"

#include "diffuse/sampling.h"
#include "io/checksum.h"
#include "data/encode.h"
#include "data/mirror.h"

#include <string.h>

void cn_cache_destroy(cn_cache *c)
{
    if (!c) return;
    for (int k = 0; c->moments && k < c->buckets->n; k++) cn_store_destroy(c->moments[k]);
    cn_free(c->moments);
    cn_store_destroy(c->contexts);
    cn_free(c);
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

/* --- stores ----------------------------------------------------------------------------------- */

/* Of the files that records come from: the network's, or all text encoders'. */
static cn_status identity_of(cn_ctx *ctx, const cn_base *base, cn_net net, uint64_t *out)
{
    const int n = net == CN_NET_TEXT ? cn_family_of(base)->n_text : 1;
    CN_TRY(cn_base_identity(ctx, base, net, out));
    for (int k = 1; k < n; k++) {
        uint64_t both[2] = {*out, 0};
        CN_TRY(cn_base_identity(ctx, base, cn_net_text(k), &both[1]));
        *out = cn_hash64(both, sizeof both);
    }
    return CN_OK;
}

/* One network's output for n records. */
typedef struct record_set {
    cn_net net;
    const char *size; /* of its pictures, for the file's name; "" */
    size_t bytes;     /* of each */
    int64_t n;
    size_t limit;   /* bytes of memory, beyond which a file is used */
    uint64_t *keys; /* of each, NULL without cache_dir */
} record_set;

/* Its store, which takes the keys over. */
static cn_status open_store(cn_ctx *ctx, const cn_base *base, const cn_cache_options *o,
                            const record_set *r, cn_store **out)
{
    char path[CN_PATH_BYTES];
    uint64_t identity = 0;
    if (!o->cache_dir) return cn_store_create(ctx, r->n, r->bytes, r->limit, o->dir, out);
    cn_status s = identity_of(ctx, base, r->net, &identity);
    if (s == CN_OK) s = cn_dir_make(ctx, o->cache_dir);
    if (s == CN_OK)
        s = cn_format(ctx, path, sizeof path, "%s/%s%s-%016llx.cache", o->cache_dir,
                      cn_net_kind_of(r->net)->name, r->size, (unsigned long long)identity);
    if (s != CN_OK) {
        cn_free(r->keys);
        return s;
    }
    return cn_store_open(ctx,
                         &(cn_store_file){.path = path,
                                          .identity = identity,
                                          .record_bytes = r->bytes,
                                          .n = r->n,
                                          .keys = r->keys,
                                          .progress = o->progress,
                                          .progress_user = o->progress_user},
                         out);
}

/* Ranks encode in two rounds: each its share of the groups, then, once all have, what nobody
 * could. */
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

/* The records of at..at+n that aren't there yet, from an encoder's output. Groups are always
 * encoded whole and at the same places, so that a build that was interrupted gives the bytes of one
 * that wasn't. */
static cn_status write_missing(cn_store *s, int64_t at, int64_t n, const char *out)
{
    const size_t bytes = cn_store_record_bytes(s);
    for (int64_t i = 0; i < n; i++)
        if (!cn_store_has(s, at + i)) CN_TRY(cn_store_write(s, at + i, out + (size_t)i * bytes));
    return CN_OK;
}

/* --- prompts ---------------------------------------------------------------------------------- */

/* The texts of prompts at..at+n; a short batch repeats its last. */
static cn_status put_texts(cn_ctx *ctx, cn_encoder *e, const cn_dataset *d, const cn_cache *c,
                           const cn_prompter *prompter, int64_t at, int64_t n, int32_t *ids)
{
    for (int64_t i = 0; i < e->batch; i++) {
        const int64_t item = c->prompts->item_of[at + CN_MIN(i, n - 1)];
        CN_TRY(cn_prompter_ids(ctx, prompter, d, item, NULL, ids));
        cn_encoder_put_ids(e, i, ids);
    }
    return CN_OK;
}

static cn_status run_batches(cn_ctx *ctx, cn_encoder *e, const cn_dataset *d, cn_cache *c,
                             const cn_cache_options *o, int round, int32_t *ids)
{
    const int64_t total = count_missing(c->contexts, 0, c->prompts->n);
    for (int64_t at = 0, done = 0; at < c->prompts->n; at += e->batch) {
        CN_TRY(check_cancelled(ctx));
        const int64_t n = CN_MIN(e->batch, c->prompts->n - at);
        const int64_t missing = count_missing(c->contexts, at, n);
        if (!missing || !is_mine(o, at / e->batch, round)) continue;
        CN_TRY(put_texts(ctx, e, d, c, o->prompter, at, n, ids));
        CN_TRY(cn_plan_run(e->plan));
        CN_TRY(cn_plan_expect_finite(e->plan, e->out));
        CN_TRY(write_missing(c->contexts, at, n, cn_plan_data(e->plan, e->out)));
        tell(o, "text", done += missing, total);
    }
    return CN_OK;
}

static cn_status run_text(cn_ctx *ctx, cn_encoder *e, const cn_dataset *d, cn_cache *c,
                          const cn_cache_options *o, int round)
{
    int32_t *ids = cn_alloc_array(ctx, (size_t)c->ids, sizeof *ids);
    const cn_status s = ids ? run_batches(ctx, e, d, c, o, round, ids) : CN_ENOMEM;
    cn_free(ids);
    return s;
}

typedef struct text_keys {
    cn_ctx *ctx;
    const cn_prompter *prompter;
    const cn_dataset *d;
    const int64_t *item_of;
    uint64_t *keys;
} text_keys;

static cn_status text_key(void *user, int64_t i)
{
    const text_keys *k = user;
    const size_t tokens = (size_t)k->prompter->ids;
    int32_t *ids = cn_alloc_array(k->ctx, tokens, sizeof *ids);
    if (!ids) return CN_ENOMEM;
    const cn_status s = cn_prompter_ids(k->ctx, k->prompter, k->d, k->item_of[i], NULL, ids);
    if (s == CN_OK) k->keys[i] = cn_hash64(ids, tokens * sizeof *ids);
    cn_free(ids);
    return s;
}

static cn_status open_contexts(cn_ctx *ctx, const cn_base *base, const cn_dataset *d,
                               const cn_cache_options *o, cn_cache *c)
{
    const size_t bytes = (size_t)c->text * sizeof(float);
    text_keys k = {ctx, o->prompter, d, c->prompts->item_of, NULL};
    if (o->cache_dir) {
        if (!(k.keys = cn_alloc_array(ctx, (size_t)c->prompts->n, sizeof *k.keys)))
            return CN_ENOMEM;
        const cn_status s = for_each(ctx, c->prompts->n, text_key, &k);
        if (s != CN_OK) {
            cn_free(k.keys);
            return s;
        }
    }
    const record_set r = {CN_NET_TEXT, "", bytes, c->prompts->n, o->memory_limit_bytes, k.keys};
    return open_store(ctx, base, o, &r, &c->contexts);
}

static cn_status open_text(cn_ctx *ctx, cn_backend *be, const cn_base *base,
                           cn_params *params[CN_MAX_TEXT_ENCODERS], cn_encoder *e)
{
    CN_TRY(cn_text_params_create(ctx, base, params));
    CN_TRY(cn_encoder_text(ctx, be, base, params, CN_ENCODE_MAX_PROMPTS, e));
    return cn_text_params_load(ctx, base, be, params);
}

/* The empty prompt's, which belongs to no pair. */
static cn_status take_texts(cn_ctx *ctx, const cn_cache_options *o, cn_cache *c)
{
    const size_t bytes = (size_t)c->text * sizeof(float);
    CN_TRY(cn_store_create(ctx, 1, bytes, SIZE_MAX, o->dir, &c->contexts));
    float *empty = cn_alloc(ctx, bytes);
    cn_status s = empty ? CN_OK : CN_ENOMEM;
    if (s == CN_OK) s = cn_shard_encodings_empty(c->ready.encodings, ctx, c->text, empty);
    if (s == CN_OK) s = cn_store_write(c->contexts, 0, empty);
    cn_free(empty);
    return cn_ranks_agree(o->ranks, s);
}

static cn_status encode_text(cn_ctx *ctx, cn_backend *be, const cn_base *base, const cn_dataset *d,
                             const cn_cache_options *o, cn_cache *c)
{
    cn_encoder e = {0};
    cn_params *params[CN_MAX_TEXT_ENCODERS] = {NULL};
    if (c->ready.texts) return take_texts(ctx, o, c);
    cn_status s = open_contexts(ctx, base, d, o, c);
    for (int round = 0; round < count_rounds(o) && s == CN_OK; round++) {
        if (count_missing(c->contexts, 0, c->prompts->n)) {
            if (!e.g) s = open_text(ctx, be, base, params, &e);
            if (s == CN_OK) s = run_text(ctx, &e, d, c, o, round);
        }
        s = end_round(o, c->contexts, s);
    }
    cn_encoder_close(&e);
    cn_text_params_destroy(params);
    return s;
}

/* --- pictures --------------------------------------------------------------------------------- */

/* The pictures of one size: its records are theirs in their order, then, mirrored, theirs again. */
typedef struct group {
    cn_ctx *ctx;
    const cn_dataset *d;
    const cn_cache *c;
    int bucket;
    int64_t n, records;
    int64_t *items; /* [n] */
    uint64_t *keys;
} group;

static int64_t count_items(const cn_cache *c, int bucket)
{
    return c->buckets->of ? c->buckets->list[bucket].count : c->n;
}

static int64_t count_records(const cn_cache *c, int bucket)
{
    return count_items(c, bucket) * (c->mirrored ? 2 : 1);
}

static cn_status group_open(cn_ctx *ctx, const cn_dataset *d, const cn_cache *c, int bucket,
                            group *g)
{
    *g = (group){.ctx = ctx, .d = d, .c = c, .bucket = bucket, .n = count_items(c, bucket)};
    g->records = count_records(c, bucket);
    g->items = cn_alloc_array(ctx, (size_t)CN_MAX(g->n, 1), sizeof *g->items);
    if (!g->items) return CN_ENOMEM;
    for (int64_t i = 0; i < c->n; i++)
        if (cn_buckets_of(c->buckets, i) == bucket) g->items[cn_buckets_place(c->buckets, i)] = i;
    return CN_OK;
}

/* From the target's file and how it is cropped. One that can't be looked at has a key too: reading
 * it will tell. */
static cn_status picture_key(void *user, int64_t record)
{
    const group *g = user;
    cn_dataset_item item;
    CN_TRY(cn_dataset_get(g->ctx, g->d, g->items[record % g->n], false, &item));
    const uint64_t mirrored = record >= g->n, shrunk = g->c->buckets->rules.no_upscale;
    const uint64_t parts[] = {cn_file_key(item.target.path), (uint64_t)item.target.position,
                              mirrored | shrunk << 1};
    g->keys[record] = cn_hash64(parts, sizeof parts);
    cn_dataset_item_free(&item);
    return CN_OK;
}

static size_t moments_bytes(const cn_cache *c, int bucket)
{
    const cn_train_bucket *b = &c->buckets->list[bucket];
    return (size_t)(b->width / c->factor * (b->height / c->factor) * 2 * c->latent_c) *
           sizeof(float);
}

/* What the records of all sizes take; SIZE_MAX where that can't be counted. */
static size_t all_moments_bytes(const cn_cache *c)
{
    size_t all = 0, one = 0;
    for (int k = 0; k < c->buckets->n; k++) {
        if (!cn_mul_size((size_t)count_records(c, k), moments_bytes(c, k), &one)) return SIZE_MAX;
        if (one > SIZE_MAX - all) return SIZE_MAX;
        all += one;
    }
    return all;
}

static cn_status open_moments(cn_ctx *ctx, const cn_base *base, const cn_cache_options *o,
                              cn_cache *c, group *g)
{
    char size[64];
    const cn_train_bucket *b = &c->buckets->list[g->bucket];
    const size_t limit = all_moments_bytes(c) <= o->memory_limit_bytes ? SIZE_MAX : 0;
    CN_TRY(
        cn_format(ctx, size, sizeof size, "-%lldx%lld", (long long)b->width, (long long)b->height));
    if (o->cache_dir) {
        g->keys = cn_alloc_array(ctx, (size_t)CN_MAX(g->records, 1), sizeof *g->keys);
        if (!g->keys) return CN_ENOMEM;
        const cn_status s = for_each(ctx, g->records, picture_key, g);
        if (s != CN_OK) {
            cn_free(g->keys);
            return s;
        }
    }
    const record_set r = {CN_NET_VAE, size,  moments_bytes(c, g->bucket),
                          g->records, limit, g->keys};
    return open_store(ctx, base, o, &r, &c->moments[g->bucket]);
}

/* A pair's target into x in [-1,1]; its condition is decoded too, to know that it can be. */
static cn_status load_one(cn_ctx *ctx, const group *g, int64_t record, float *x)
{
    cn_image *condition = NULL, *target = NULL;
    const cn_train_bucket *b = &g->c->buckets->list[g->bucket];
    CN_TRY(cn_buckets_load(ctx, g->d, g->c->buckets, g->bucket, g->items[record % g->n], 0.5, 0.5,
                           &condition, &target));
    if (record >= g->n) cn_mirror_picture(target);
    for (int64_t k = 0; k < b->width * b->height * 3; k++)
        x[k] = (float)target->rgb[k] / 127.5f - 1.0f;
    cn_image_destroy(condition);
    cn_image_destroy(target);
    return CN_OK;
}

/* The pictures of records at..at+n on all threads. bad[i]: one that can't be read, and may be left
 * out. */
static cn_status load_batch(cn_ctx *ctx, const group *g, const cn_cache_options *o, int64_t at,
                            int64_t n, float *x, bool *bad)
{
    const cn_train_bucket *b = &g->c->buckets->list[g->bucket];
    const int64_t each = b->width * b->height * 3;
    cn_status first = CN_OK;
#pragma omp parallel for schedule(dynamic, 1) num_threads(cn_threads(ctx))
    for (int64_t i = 0; i < n; i++) {
        /* a context of its own keeps this pair's message apart from the others' */
        cn_ctx *own = cn_ctx_fork(ctx, false);
        const cn_status s = own ? load_one(own, g, at + i, x + i * each) : CN_ENOMEM;
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

/* Says which pictures' entries in a cache were damaged. */
static cn_status name_damaged(cn_ctx *ctx, const group *g, int64_t at, int64_t n)
{
    char where[CN_PATH_BYTES];
    for (int64_t i = at; i < at + n; i++) {
        if (!cn_store_damaged(g->c->moments[g->bucket], i)) continue;
        CN_TRY(cn_dataset_where(ctx, g->d, g->items[i % g->n], where, sizeof where));
        cn_log(ctx, CN_LOG_WARN, "%s: its entry in the cache is damaged; it is encoded again",
               where);
    }
    return CN_OK;
}

/* How far all sizes together are. */
typedef struct tally {
    int64_t done, total;
    bool loaded; /* the VAE's weights */
} tally;

/* Latents that aren't finite would look like a training that diverges. */
static cn_status check_moments(cn_ctx *ctx, const group *g, cn_encoder *e, int64_t at)
{
    char where[CN_PATH_BYTES], why[1024];
    const int64_t n = cn_node_elements(e->out), each = n / e->batch;
    const int64_t bad = cn_first_nonfinite(CN_F32, cn_plan_data(e->plan, e->out), (size_t)n);
    if (bad < 0) return CN_OK;
    const cn_status s = cn_plan_expect_finite(e->plan, e->out);
    const int64_t record = CN_MIN(at + bad / each, g->records - 1);
    snprintf(why, sizeof why, "%s", cn_error(ctx));
    CN_TRY(cn_dataset_where(ctx, g->d, g->items[record % g->n], where, sizeof where));
    return cn_fail(ctx, s, "%s: its latents aren't finite: %s", where, why);
}

static cn_status run_vae(cn_ctx *ctx, const group *g, cn_encoder *e, const cn_cache_options *o,
                         int round, tally *told)
{
    cn_store *store = g->c->moments[g->bucket];
    const size_t bytes = cn_store_record_bytes(store);
    bool bad[CN_ENCODE_MAX_PICTURES];
    for (int64_t at = 0; at < g->records; at += e->batch) {
        CN_TRY(check_cancelled(ctx));
        const int64_t n = CN_MIN(e->batch, g->records - at);
        const int64_t missing = count_missing(store, at, n);
        if (!missing || !is_mine(o, at / e->batch, round)) continue;
        CN_TRY(name_damaged(ctx, g, at, n));
        CN_TRY(load_batch(ctx, g, o, at, n, cn_plan_data(e->plan, e->in), bad));
        CN_TRY(cn_plan_run(e->plan));
        CN_TRY(check_moments(ctx, g, e, at));
        const char *moments = cn_plan_data(e->plan, e->out);
        for (int64_t i = 0; i < n; i++)
            if (!bad[i]) CN_TRY(write_missing(store, at + i, 1, moments + (size_t)i * bytes));
        tell(o, "latents", told->done += missing, told->total);
    }
    return CN_OK;
}

/* What is missing of one size. */
static cn_status encode_group(cn_ctx *ctx, cn_backend *be, const cn_base *base, cn_params *vae,
                              const group *g, const cn_cache_options *o, int round, tally *told)
{
    cn_encoder e = {0};
    const cn_train_bucket *b = &g->c->buckets->list[g->bucket];
    if (!count_missing(g->c->moments[g->bucket], 0, g->records)) return CN_OK;
    cn_status s =
        cn_encoder_vae(ctx, be, base, vae, CN_ENCODE_MAX_PICTURES, b->width, b->height, &e);
    if (s == CN_OK && !told->loaded) s = cn_base_load(ctx, base, be, vae);
    told->loaded |= s == CN_OK;
    if (s == CN_OK) s = run_vae(ctx, g, &e, o, round, told);
    cn_encoder_close(&e);
    return s;
}

static cn_status encode_groups(cn_ctx *ctx, cn_backend *be, const cn_base *base,
                               const cn_cache_options *o, const cn_cache *c, group *groups)
{
    cn_params *vae = NULL;
    tally told = {0};
    cn_status s = cn_encoder_params(ctx, base, CN_NET_VAE, &vae);
    for (int round = 0; round < count_rounds(o) && s == CN_OK; round++) {
        told.done = told.total = 0;
        for (int k = 0; k < c->buckets->n; k++)
            told.total += count_missing(c->moments[k], 0, groups[k].records);
        for (int k = 0; k < c->buckets->n && s == CN_OK; k++)
            s = encode_group(ctx, be, base, vae, &groups[k], o, round, &told);
        s = cn_ranks_agree(o->ranks, s);
        for (int k = 0; k < c->buckets->n && s == CN_OK && o->ranks; k++)
            s = cn_store_refresh(c->moments[k]);
    }
    cn_params_destroy(vae);
    return s;
}

static cn_status encode_pictures(cn_ctx *ctx, cn_backend *be, const cn_base *base,
                                 const cn_dataset *d, const cn_cache_options *o, cn_cache *c)
{
    const int n = c->buckets->n;
    group *groups = cn_alloc0(ctx, (size_t)n * sizeof *groups);
    c->moments = cn_alloc0(ctx, (size_t)n * sizeof(cn_store *));
    cn_status s = groups && c->moments ? CN_OK : CN_ENOMEM;
    for (int k = 0; k < n && s == CN_OK && !c->ready.pictures; k++) {
        s = group_open(ctx, d, c, k, &groups[k]);
        if (s == CN_OK) s = open_moments(ctx, base, o, c, &groups[k]);
    }
    if (s == CN_OK && !c->ready.pictures) s = encode_groups(ctx, be, base, o, c, groups);
    for (int k = 0; groups && k < n; k++) cn_free(groups[k].items);
    cn_free(groups);
    return s;
}

/* --- the whole -------------------------------------------------------------------------------- */

static void set_sizes(cn_cache *c, const cn_base *base, const cn_dataset *d,
                      const cn_cache_options *o)
{
    const cn_train_bucket *largest = &o->buckets->list[cn_buckets_largest(o->buckets)];
    *c = (cn_cache){.n = d->n,
                    .ready = o->ready,
                    .buckets = o->buckets,
                    .prompts = o->prompts,
                    .mirrored = o->mirrored,
                    .width = largest->width,
                    .height = largest->height,
                    .factor = cn_vae_factor(&base->vae),
                    .latent_c = base->vae.latent_channels,
                    .tokens = cn_base_context_length(base),
                    .text = cn_base_text_elements(base)};
    c->ids = c->tokens * cn_family_of(base)->n_text;
    c->latent_w = c->width / c->factor;
    c->latent_h = c->height / c->factor;
}

cn_status cn_cache_build(cn_ctx *ctx, cn_backend *be, const cn_base *base, const cn_dataset *d,
                         const cn_cache_options *options, cn_cache **out)
{
    cn_cache *c = cn_alloc0(ctx, sizeof *c);
    if (!c) return CN_ENOMEM;
    set_sizes(c, base, d, options);
    cn_status s = options->prompts ? encode_text(ctx, be, base, d, options, c) : CN_OK;
    if (s == CN_OK && options->pictures) s = encode_pictures(ctx, be, base, d, options, c);
    if (s != CN_OK) {
        cn_cache_destroy(c);
        return s;
    }
    *out = c;
    return CN_OK;
}

bool cn_cache_has(const cn_cache *c, int64_t i)
{
    const int bucket = cn_buckets_of(c->buckets, i);
    if (bucket == CN_NO_BUCKET || (c->prompts && c->prompts->context_of[i] < 0)) return false;
    return !c->moments || c->ready.pictures ||
           cn_store_has(c->moments[bucket], cn_buckets_place(c->buckets, i));
}

cn_status cn_cache_moments(const cn_cache *c, cn_ctx *ctx, int64_t i, bool mirrored, float *out)
{
    const int bucket = cn_buckets_of(c->buckets, i);
    if (c->ready.pictures)
        return cn_shard_encodings_moments(c->ready.encodings, ctx, c->ready.data, i,
                                          (int64_t)(moments_bytes(c, bucket) / sizeof(float)), out);
    const int64_t record =
        cn_buckets_place(c->buckets, i) + (mirrored ? count_items(c, bucket) : 0);
    return cn_store_read(c->moments[bucket], ctx, record, out);
}

cn_status cn_cache_context(const cn_cache *c, cn_ctx *ctx, int64_t i, float *out)
{
    const int64_t k = i < 0 ? 0 : c->prompts->context_of[i];
    /* by the pair whose tokens were compared: others of this caption may hold an older one's */
    if (k && c->ready.texts)
        return cn_shard_encodings_text(c->ready.encodings, ctx, c->ready.data,
                                       c->prompts->item_of[k], c->text, out);
    return cn_store_read(c->contexts, ctx, k, out);
}

/* --- memory ----------------------------------------------------------------------------------- */

/* What records take that have `bytes` in all: beyond the limit they are in a file, with cache_dir
 * there is an index into one. */
static size_t store_bytes(const cn_cache_options *o, int64_t n, size_t bytes)
{
    if (o->cache_dir) return cn_store_index_bytes(n);
    return bytes <= o->memory_limit_bytes ? bytes : 0;
}

static cn_status plan_text(cn_ctx *ctx, cn_backend *be, const cn_base *base, size_t *bytes)
{
    cn_params *params[CN_MAX_TEXT_ENCODERS] = {NULL};
    cn_encoder e = {0};
    cn_status s = cn_text_params_create(ctx, base, params);
    if (s == CN_OK) s = cn_encoder_text(ctx, be, base, params, CN_ENCODE_MAX_PROMPTS, &e);
    if (s == CN_OK) *bytes = cn_text_params_bytes(params) + cn_encoder_bytes(&e);
    cn_encoder_close(&e);
    cn_text_params_destroy(params);
    return s;
}

static cn_status plan_pictures(cn_ctx *ctx, cn_backend *be, const cn_base *base,
                               const cn_buckets *buckets, size_t *bytes)
{
    cn_params *params = NULL;
    size_t most = 0;
    cn_status s = cn_encoder_params(ctx, base, CN_NET_VAE, &params);
    for (int k = 0; k < buckets->n && s == CN_OK; k++) {
        cn_encoder e = {0};
        s = cn_encoder_vae(ctx, be, base, params, CN_ENCODE_MAX_PICTURES, buckets->list[k].width,
                           buckets->list[k].height, &e);
        if (s == CN_OK) most = CN_MAX(most, cn_encoder_bytes(&e));
        cn_encoder_close(&e);
    }
    if (s == CN_OK) *bytes = cn_params_bytes(params) + most;
    cn_params_destroy(params);
    return s;
}

cn_status cn_cache_plan(cn_ctx *ctx, cn_backend *be, const cn_base *base, const cn_dataset *d,
                        const cn_cache_options *o, cn_cache_memory *out)
{
    cn_cache c = {0};
    size_t text = 0, pictures = 0, contexts = 0;
    int64_t records = 0;
    set_sizes(&c, base, d, o);
    *out = (cn_cache_memory){0};
    if (o->prompts && c.ready.texts) {
        out->kept_bytes += (size_t)c.text * sizeof(float);
    } else if (o->prompts) {
        const size_t context = (size_t)c.text * sizeof(float);
        CN_TRY(plan_text(ctx, be, base, &text));
        if (!cn_mul_size((size_t)o->prompts->n, context, &contexts)) contexts = SIZE_MAX;
        out->kept_bytes += store_bytes(o, o->prompts->n, contexts);
    }
    if (o->pictures && !c.ready.pictures) {
        CN_TRY(plan_pictures(ctx, be, base, o->buckets, &pictures));
        for (int k = 0; k < o->buckets->n; k++) records += count_records(&c, k);
        out->kept_bytes += store_bytes(o, records, all_moments_bytes(&c));
    }
    out->encoder_bytes = CN_MAX(text, pictures);
    return CN_OK;
}
