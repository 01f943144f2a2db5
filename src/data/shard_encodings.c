/* SPDX-License-Identifier: Apache-2.0 */
/* shard_encodings.c - see shard_encodings.h. What stays in memory of a pair is 32 bytes. */
#include "data/shard_encodings.h"

#include "data/dataset_internal.h"
#include "io/npy.h"
#include "io/tar.h"

#include <libgen.h>
#include <string.h>

enum { MOMENTS, TEXT, TOKENS, PARTS };
enum { MAX_ENDINGS = 1024, NO_ENDING = 0xffff, MAX_MEMBER_BYTES = 1 << 30 };

#define NO_PLACE UINT64_MAX

static const char *const leads[] = {[MOMENTS] = "vae-", [TEXT] = "text-"};

/* Of one pair. */
typedef struct places {
    uint64_t of[PARTS];
    uint16_t endings[2]; /* of MOMENTS and TEXT */
} places;

struct cn_shard_encodings {
    const cn_dataset *d;
    const uint64_t *index;                  /* d's when it was opened: slices begin further on */
    places *pairs;                          /* [d->n] */
    char (*endings)[CN_SHARD_ENDING_BYTES]; /* [n_endings] */
    int n_endings;
    bool has[2];
    cn_encoder_hashes hashes;
    char dir[CN_PATH_BYTES]; /* of the first shard */
};

/* --- names ------------------------------------------------------------------------------------ */

cn_status cn_encoder_hashes_of(cn_ctx *ctx, const cn_base *base, cn_encoder_hashes *out)
{
    CN_TRY(cn_base_fingerprint(ctx, base, CN_NET_VAE, &out->vae));
    CN_TRY(cn_base_fingerprint(ctx, base, CN_NET_TEXT, &out->text));
    for (int k = 1; k < cn_family_of(base)->n_text; k++) {
        uint64_t both[2] = {out->text, 0};
        CN_TRY(cn_base_fingerprint(ctx, base, cn_net_text(k), &both[1]));
        out->text = cn_hash64(both, sizeof both);
    }
    return CN_OK;
}

void cn_shard_moments_ending(const cn_encoder_hashes *h, int64_t width, int64_t height,
                             char out[CN_SHARD_ENDING_BYTES])
{
    snprintf(out, CN_SHARD_ENDING_BYTES, "vae-%lldx%lld-%016llx.npy", (long long)width,
             (long long)height, (unsigned long long)h->vae);
}

void cn_shard_text_ending(const cn_encoder_hashes *h, char out[CN_SHARD_ENDING_BYTES])
{
    snprintf(out, CN_SHARD_ENDING_BYTES, "text-%016llx.npy", (unsigned long long)h->text);
}

cn_status cn_shard_empty_path(cn_ctx *ctx, const char *dir, const cn_encoder_hashes *h,
                              char out[CN_PATH_BYTES])
{
    char ending[CN_SHARD_ENDING_BYTES];
    cn_shard_text_ending(h, ending);
    return cn_format(ctx, out, CN_PATH_BYTES, "%s/empty.%s", dir, ending);
}

/* --- what is there ---------------------------------------------------------------------------- */

/* The key that is being gathered. */
typedef struct scan {
    cn_ctx *ctx;
    cn_shard_encodings *e;
    char key[2048];
    uint64_t shard;
    places found;
    int64_t pair; /* that it is; -1: none so far */
    int64_t next; /* pair to come */
} scan;

static const places nothing = {{NO_PLACE, NO_PLACE, NO_PLACE}, {NO_ENDING, NO_ENDING}};

static void end_key(scan *c)
{
    if (c->pair >= 0) c->e->pairs[c->pair] = c->found;
    c->pair = -1;
    c->found = nothing;
}

/* Its number among the endings seen; NO_ENDING for one too many. */
static uint16_t number_of(cn_shard_encodings *e, const char *ending)
{
    int k = 0;
    while (k < e->n_endings && strcmp(e->endings[k], ending) != 0) k++;
    if (k == MAX_ENDINGS || strlen(ending) >= CN_SHARD_ENDING_BYTES) return NO_ENDING;
    if (k == e->n_endings) memcpy(e->endings[e->n_endings++], ending, strlen(ending) + 1);
    return (uint16_t)k;
}

static void take_encoding(scan *c, int part, const cn_shard_member *m)
{
    cn_shard_encodings *e = c->e;
    c->found.endings[part] = number_of(e, m->ending);
    c->found.of[part] = m->place;
    e->has[part] = true;
}

static void take_member(void *user, const cn_shard_member *m)
{
    scan *c = user;
    const cn_dataset *d = c->e->d;
    if (c->shard != m->shard || strlen(c->key) != m->key_bytes ||
        memcmp(c->key, m->key, m->key_bytes) != 0) {
        end_key(c);
        c->shard = m->shard;
        memcpy(c->key, m->key, m->key_bytes);
        c->key[m->key_bytes] = 0;
    }
    if (c->next < d->n && m->place == cn_shard_members_target(d, c->next)) c->pair = c->next++;
    for (int k = MOMENTS; k <= TEXT; k++)
        if (strncmp(m->ending, leads[k], strlen(leads[k])) == 0) take_encoding(c, k, m);
    if (strcmp(m->ending, CN_SHARD_TOKENS) == 0) c->found.of[TOKENS] = m->place;
}

static cn_status look(cn_ctx *ctx, cn_shard_encodings *e)
{
    char path[CN_PATH_BYTES];
    int64_t position;
    scan c = {.ctx = ctx, .e = e, .pair = -1, .found = nothing};
    e->pairs = cn_alloc_array(ctx, (size_t)e->d->n, sizeof *e->pairs);
    e->endings = cn_alloc_array(ctx, MAX_ENDINGS, sizeof *e->endings);
    if (!e->pairs || !e->endings) return CN_ENOMEM;
    for (int64_t i = 0; i < e->d->n; i++) e->pairs[i] = nothing;
    CN_TRY(cn_shard_members_visit(ctx, e->d, take_member, &c));
    end_key(&c);
    CN_TRY(cn_format(ctx, path, sizeof path, "%s",
                     cn_shard_members_path(e->d, cn_shard_members_target(e->d, 0), &position)));
    return cn_format(ctx, e->dir, sizeof e->dir, "%s", dirname(path));
}

cn_status cn_shard_encodings_open(cn_ctx *ctx, const cn_dataset *d, const cn_base *base,
                                  cn_shard_encodings **out)
{
    *out = NULL;
    if (!cn_shard_members_there(d) || !d->n) return CN_OK;
    cn_shard_encodings *e = cn_alloc0(ctx, sizeof *e);
    if (!e) return CN_ENOMEM;
    e->d = d;
    e->index = d->index;
    cn_status s = look(ctx, e);
    const bool any = s == CN_OK && (e->has[MOMENTS] || e->has[TEXT]);
    if (any && base) s = cn_encoder_hashes_of(ctx, base, &e->hashes);
    if (any && s == CN_OK)
        *out = e;
    else
        cn_shard_encodings_close(e);
    return s;
}

void cn_shard_encodings_close(cn_shard_encodings *e)
{
    if (!e) return;
    cn_free(e->pairs);
    cn_free(e->endings);
    cn_free(e);
}

static const places *places_of(const cn_shard_encodings *e, const cn_dataset *d, int64_t i)
{
    return &e->pairs[(d->index - e->index) / d->words + i];
}

/* --- copies ----------------------------------------------------------------------------------- */

bool cn_shard_encodings_has(const cn_shard_encodings *e, const cn_dataset *d, int64_t i)
{
    const places *p = places_of(e, d, i);
    return p->endings[MOMENTS] != NO_ENDING || p->endings[TEXT] != NO_ENDING;
}

static cn_status add_member(const cn_shard_encodings *e, cn_ctx *ctx, uint64_t place,
                            const char *ending, cn_shard_sample *out)
{
    char *data = NULL;
    size_t bytes = 0;
    int64_t position;
    const char *path = cn_shard_members_path(e->d, place, &position);
    CN_TRY(cn_tar_read(ctx, path, position, MAX_MEMBER_BYTES, NULL, &data, &bytes));
    const cn_status s = cn_shard_sample_add(ctx, out, ending, data, bytes);
    cn_free(data);
    return s;
}

cn_status cn_shard_encodings_add(const cn_shard_encodings *e, cn_ctx *ctx, const cn_dataset *d,
                                 int64_t i, cn_shard_sample *out)
{
    const places *p = places_of(e, d, i);
    for (int k = MOMENTS; k <= TEXT; k++)
        if (p->endings[k] != NO_ENDING)
            CN_TRY(add_member(e, ctx, p->of[k], e->endings[p->endings[k]], out));
    return p->of[TOKENS] == NO_PLACE ? CN_OK
                                     : add_member(e, ctx, p->of[TOKENS], CN_SHARD_TOKENS, out);
}

static cn_status copy_file(cn_ctx *ctx, const char *from, const char *to)
{
    char *data = NULL;
    size_t bytes = 0;
    CN_TRY(cn_file_read(ctx, from, MAX_MEMBER_BYTES, &data, &bytes));
    const cn_status s = cn_file_write(ctx, to, data, bytes);
    cn_free(data);
    return s;
}

cn_status cn_shard_encodings_copy_empty(const cn_shard_encodings *e, cn_ctx *ctx, const char *dir)
{
    char from[CN_PATH_BYTES], to[CN_PATH_BYTES];
    for (int k = 0; k < e->n_endings; k++) {
        CN_TRY(cn_format(ctx, from, sizeof from, "%s/empty.%s", e->dir, e->endings[k]));
        CN_TRY(cn_format(ctx, to, sizeof to, "%s/empty.%s", dir, e->endings[k]));
        if (cn_file_exists(from) && !cn_file_exists(to)) CN_TRY(copy_file(ctx, from, to));
    }
    return CN_OK;
}

/* --- whether they are this model's ------------------------------------------------------------ */

static int find_ending(const cn_shard_encodings *e, const char *ending)
{
    for (int k = 0; k < e->n_endings; k++)
        if (strcmp(e->endings[k], ending) == 0) return k;
    return -1;
}

/* Whether two endings differ in their hash alone. */
static bool differ_in_weights(const char *a, const char *b)
{
    const char *end = strrchr(a, '-');
    return end && strncmp(a, b, (size_t)(end - a) + 1) == 0;
}

/* Says of the first pair that hasn't what is wanted what it has instead. */
static void refuse(const cn_shard_encodings *e, const places *p, int part, const char *wanted,
                   int64_t missing, int64_t n, cn_encodings_refusal *out)
{
    const uint16_t k = p->endings[part];
    const char *found = k == NO_ENDING ? "" : e->endings[k];
    snprintf(out->why, sizeof out->why, "%lld of %lld have no .%s%s%s%s", (long long)missing,
             (long long)n, wanted, *found ? ", one has ." : "", found,
             !differ_in_weights(wanted, found) ? ""
             : part == MOMENTS                 ? ", of another VAE"
                                               : ", of another text encoder");
}

void cn_shard_encodings_check_pictures(const cn_shard_encodings *e, const cn_dataset *d,
                                       const cn_buckets *buckets, cn_encodings_refusal *out)
{
    int numbers[CN_MAX_BUCKETS];
    char ending[CN_SHARD_ENDING_BYTES];
    int64_t missing = 0, first = 0;
    out->why[0] = 0;
    if (buckets->rules.no_upscale && buckets->resized) {
        snprintf(out->why, sizeof out->why,
                 "--bucket-no-upscale crops in another way, unless pictures were prepared with it");
        return;
    }
    for (int k = 0; k < buckets->n; k++) {
        cn_shard_moments_ending(&e->hashes, buckets->list[k].width, buckets->list[k].height,
                                ending);
        numbers[k] = find_ending(e, ending);
    }
    for (int64_t i = 0; i < d->n; i++) {
        const int bucket = cn_buckets_of(buckets, i);
        if (bucket == CN_NO_BUCKET) continue;
        if (places_of(e, d, i)->endings[MOMENTS] == numbers[bucket]) continue;
        if (!missing++) first = i;
    }
    if (!missing) return;
    const cn_train_bucket *b = &buckets->list[cn_buckets_of(buckets, first)];
    cn_shard_moments_ending(&e->hashes, b->width, b->height, ending);
    refuse(e, places_of(e, d, first), MOMENTS, ending, missing, d->n, out);
}

static cn_status read_array(const cn_shard_encodings *e, cn_ctx *ctx, uint64_t place, int64_t n,
                            cn_npy **out)
{
    char *name = NULL, *data = NULL;
    size_t bytes = 0;
    int64_t position;
    const char *path = cn_shard_members_path(e->d, place, &position);
    CN_TRY(cn_tar_read(ctx, path, position, MAX_MEMBER_BYTES, &name, &data, &bytes));
    cn_npy *a = NULL;
    cn_status s = cn_npy_load_memory(ctx, data, bytes, &a);
    if (s == CN_OK && a->elements != n)
        s = cn_fail(ctx, CN_EFORMAT, "%lld values, %lld are expected", (long long)a->elements,
                    (long long)n);
    if (s != CN_OK) {
        s = cn_fail_prefix(ctx, s, "%s: %s", path, name);
        cn_npy_free(a);
        a = NULL;
    }
    cn_free(name);
    cn_free(data);
    *out = a;
    return s;
}

/* Whether the caption of pair i is still the one that was encoded. */
static cn_status compare_tokens(cn_ctx *ctx, const cn_shard_encodings *e, const cn_dataset *d,
                                const cn_prompter *prompter, int64_t i, bool *same)
{
    cn_npy *tokens = NULL;
    *same = false;
    const uint64_t place = places_of(e, d, i)->of[TOKENS];
    if (place == NO_PLACE) return CN_OK;
    int32_t *ids = cn_alloc_array(ctx, (size_t)prompter->ids, sizeof *ids);
    if (!ids) return CN_ENOMEM;
    cn_status s = cn_prompter_ids(ctx, prompter, d, i, NULL, ids);
    if (s == CN_OK) {
        const cn_status read = read_array(e, ctx, place, prompter->ids, &tokens);
        *same = read == CN_OK;
        if (read != CN_OK && read != CN_EFORMAT) s = read;
    }
    for (int64_t k = 0; *same && k < prompter->ids; k++) *same = tokens->values[k] == ids[k];
    cn_npy_free(tokens);
    cn_free(ids);
    return s;
}

/* How many prompts have other tokens, on all threads. */
static cn_status count_changed(cn_ctx *ctx, const cn_shard_encodings *e, const cn_dataset *d,
                               const cn_prompt_list *prompts, const cn_prompter *prompter,
                               int64_t *changed)
{
    cn_status first = CN_OK;
    int64_t n = 0;
#pragma omp parallel for schedule(dynamic, 64) num_threads(cn_threads(ctx)) reduction(+ : n)
    for (int64_t k = 1; k < prompts->n; k++) {
        cn_status s;
        bool same = false;
#pragma omp atomic read
        s = first;
        if (s != CN_OK || cn_cancelled(ctx)) continue;
        cn_ctx *own = cn_ctx_fork(ctx, false);
        s = own ? compare_tokens(own, e, d, prompter, prompts->item_of[k], &same) : CN_ENOMEM;
        n += !same;
        if (s != CN_OK) {
#pragma omp critical(cn_encodings_status)
            if (first == CN_OK) first = cn_fail(ctx, s, "%s", own ? cn_error(own) : "no memory");
        }
        cn_ctx_destroy(own);
    }
    if (first == CN_OK && cn_cancelled(ctx))
        return cn_fail(ctx, CN_ECANCELLED, "stopped while looking at encoded captions");
    *changed = n;
    return first;
}

cn_status cn_shard_encodings_check_texts(cn_ctx *ctx, const cn_shard_encodings *e,
                                         const cn_dataset *d, const cn_prompt_list *prompts,
                                         const cn_prompter *prompter, cn_encodings_refusal *out)
{
    char ending[CN_SHARD_ENDING_BYTES], path[CN_PATH_BYTES];
    int64_t missing = 0, first = 0, changed = 0;
    out->why[0] = 0;
    cn_shard_text_ending(&e->hashes, ending);
    const int wanted = find_ending(e, ending);
    for (int64_t k = 1; k < prompts->n; k++) {
        const int64_t i = prompts->item_of[k];
        if (places_of(e, d, i)->endings[TEXT] == wanted) continue;
        if (!missing++) first = i;
    }
    if (missing) {
        refuse(e, places_of(e, d, first), TEXT, ending, missing, prompts->n - 1, out);
        return CN_OK;
    }
    CN_TRY(cn_shard_empty_path(ctx, e->dir, &e->hashes, path));
    if (!cn_file_exists(path)) {
        snprintf(out->why, sizeof out->why, "there is no empty.%s beside the shards", ending);
        return CN_OK;
    }
    CN_TRY(count_changed(ctx, e, d, prompts, prompter, &changed));
    if (changed)
        snprintf(out->why, sizeof out->why, "%lld of %lld captions have other tokens by now",
                 (long long)changed, (long long)(prompts->n - 1));
    return CN_OK;
}

/* --- reading ---------------------------------------------------------------------------------- */

static void copy_values(const cn_npy *a, float *out)
{
    for (int64_t k = 0; k < a->elements; k++) out[k] = (float)a->values[k];
}

static cn_status read_floats(const cn_shard_encodings *e, cn_ctx *ctx, uint64_t place, int64_t n,
                             float *out)
{
    cn_npy *a = NULL;
    CN_TRY(read_array(e, ctx, place, n, &a));
    copy_values(a, out);
    cn_npy_free(a);
    return CN_OK;
}

cn_status cn_shard_encodings_moments(const cn_shard_encodings *e, cn_ctx *ctx, const cn_dataset *d,
                                     int64_t i, int64_t n, float *out)
{
    return read_floats(e, ctx, places_of(e, d, i)->of[MOMENTS], n, out);
}

cn_status cn_shard_encodings_text(const cn_shard_encodings *e, cn_ctx *ctx, const cn_dataset *d,
                                  int64_t i, int64_t n, float *out)
{
    return read_floats(e, ctx, places_of(e, d, i)->of[TEXT], n, out);
}

cn_status cn_shard_encodings_empty(const cn_shard_encodings *e, cn_ctx *ctx, int64_t n, float *out)
{
    char path[CN_PATH_BYTES];
    cn_npy *a = NULL;
    CN_TRY(cn_shard_empty_path(ctx, e->dir, &e->hashes, path));
    CN_TRY(cn_npy_load(ctx, path, &a));
    const bool fits = a->elements == n;
    if (fits) copy_values(a, out);
    cn_npy_free(a);
    return fits ? CN_OK
                : cn_fail(ctx, CN_EFORMAT, "%s: %lld values are expected", path, (long long)n);
}
