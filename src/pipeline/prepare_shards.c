/* SPDX-License-Identifier: Apache-2.0 */
/* prepare_shards.c - pictures with their conditions to WebDataset shards.
 *
 *   OUT/00000.tar ...    KEY.jpg or .png, KEY.cond.png (of several conditions KEY.canny.png, ...),
 *                        KEY.txt, KEY.json (what was done); beside it 00000.idx, 00000_stats.json
 *   OUT/prepare.txt      what all of it was made with: a run with other settings is refused
 *   OUT/shards.json      how entries are divided among shards
 *   OUT/annotate.jsonl   the kind of a single condition
 *   OUT/empty.text-HASH.npy   with --encode, see sample_encoder.c
 *   OUT/lookalikes.bin   with duplicates left out, see prepare_lookalikes.c
 *
 * Entry i of the sources has key i and belongs to shard i / E, wherever it is made: so parts,
 * processes and runs that go on write the same bytes. E follows from the wanted size and a sample
 * of entries, which every run draws alike. Entries are made a chunk at a time, each thread one
 * after another, and written in order.
 */
#include "pipeline/prepare_internal.h"

#include "base/lock.h"
#include "io/json.h"
#include "io/settings.h"
#include "pipeline/samples_internal.h"

#include <stdlib.h>
#include <string.h>

enum {
    SAMPLE_ENTRIES = 32,
    FORECAST_ENTRIES = 128,
    CHUNK_PER_THREAD = 16,
    DEFAULT_SHARD_BYTES = 1 << 30
};

typedef struct shards {
    cn_ctx *ctx;
    const cn_prepare_options *o;
    cn_prepare_result *r;
    cn_sample_maker maker;
    uint8_t *alike;   /* [entries] or NULL */
    cn_sample *chunk; /* [chunk_size] */
    int64_t chunk_size;
    int64_t per_shard, n; /* entries in one, how many shards */
    int64_t first, end;   /* shards of this part */
    int64_t done, total;  /* entries of this part */
    int64_t sampled_bytes;
    int threads;
} shards;

/* --- a chunk ---------------------------------------------------------------------------------- */

static cn_status add_stages(shards *p, const cn_sample *s)
{
    for (int i = 0; i < CN_STAGES; i++) p->r->stages[i].seconds += s->seconds[i];
    return s->status == CN_OK ? CN_OK : cn_fail(p->ctx, s->status, "%s", s->text);
}

/* Each thread has a context of its own, so that messages stay apart. */
static void make_one(shards *p, int64_t index, bool start, cn_sample *s)
{
    cn_ctx *ctx = cn_ctx_fork(p->ctx, true);
    if (ctx) {
        if (start) cn_sample_start(&p->maker, ctx, index, s);
        if (!start || !p->maker.networks) cn_sample_encode(&p->maker, ctx, s);
    } else {
        s->status = CN_ENOMEM;
        s->reason = "failed";
        snprintf(s->text, sizeof s->text, "no memory for a picture");
    }
    cn_ctx_destroy(ctx);
}

/* Number i of a chunk: the entries from `first` on, or, of != 0, of so many spread evenly over all.
 */
static int64_t entry_of(const shards *p, int64_t first, int64_t of, int64_t i)
{
    return of ? (int64_t)((double)p->maker.sources.n * (double)(first + i) / (double)of)
              : first + i;
}

/* Networks take all threads for one picture, what is before and behind them one thread each;
 * encoders come last, since they read what was written. */
static cn_status make_chunk(shards *p, int64_t first, int64_t of, int64_t n)
{
    memset(p->chunk, 0, (size_t)n * sizeof *p->chunk);
#pragma omp parallel for schedule(dynamic, 1) num_threads(p->threads) if (p->threads > 1)
    for (int64_t i = 0; i < n; i++)
        if (!cn_cancelled(p->ctx)) make_one(p, entry_of(p, first, of, i), true, &p->chunk[i]);
    if (p->maker.networks) {
        for (int64_t i = 0; i < n && !cn_cancelled(p->ctx); i++)
            cn_sample_run_networks(&p->maker, p->ctx, &p->chunk[i]);
#pragma omp parallel for schedule(dynamic, 1) num_threads(p->threads) if (p->threads > 1)
        for (int64_t i = 0; i < n; i++)
            if (!cn_cancelled(p->ctx)) make_one(p, 0, false, &p->chunk[i]);
    }
    if (p->maker.encoder)
        for (int64_t i = 0; i < n && !cn_cancelled(p->ctx); i++)
            cn_sample_run_encoder(&p->maker, p->ctx, &p->chunk[i]);
    return cn_cancelled(p->ctx) ? cn_fail(p->ctx, CN_ECANCELLED, "%s", "") : CN_OK;
}

static void free_chunk(shards *p, int64_t n)
{
    for (int64_t i = 0; i < n; i++) cn_sample_free(&p->chunk[i]);
}

/* --- how many entries a shard has ------------------------------------------------------------- */

/* Entries spread evenly over all, each handed to `take`. */
static cn_status sample(shards *p, int64_t count, cn_status (*take)(shards *p, const cn_sample *s))
{
    for (int64_t i = 0; i < count; i += p->chunk_size) {
        const int64_t n = CN_MIN(p->chunk_size, count - i);
        cn_status s = make_chunk(p, i, count, n);
        for (int64_t k = 0; s == CN_OK && k < n; k++) s = take(p, &p->chunk[k]);
        free_chunk(p, n);
        CN_TRY(s);
    }
    return CN_OK;
}

static cn_status add_bytes(shards *p, const cn_sample *s)
{
    p->sampled_bytes += (int64_t)s->made.tar.len;
    return s->status == CN_OK ? CN_OK : cn_fail(p->ctx, s->status, "%s", s->text);
}

/* By the mean of a sample: what is left out has no bytes but counts, as a shard has it too. */
static cn_status count_entries(shards *p)
{
    const int64_t all = p->maker.sources.n, n = CN_MIN(all, SAMPLE_ENTRIES);
    p->sampled_bytes = 0;
    CN_TRY(sample(p, n, add_bytes));
    const double want = (double)(p->o->shard_size ? p->o->shard_size : DEFAULT_SHARD_BYTES);
    const double fit = p->sampled_bytes ? want * (double)n / (double)p->sampled_bytes : (double)all;
    p->per_shard = fit < 1 ? 1 : fit < (double)all ? (int64_t)fit : all;
    return CN_OK;
}

/* A run that goes on, and the other parts of one, divide as the first did. */
static cn_status read_division(shards *p, const char *path)
{
    json_t *plan = NULL;
    CN_TRY(cn_json_load_file(p->ctx, path, &plan));
    const int64_t entries = cn_json_int(plan, "entries", 0);
    p->per_shard = cn_json_int(plan, "entries_per_shard", 0);
    json_decref(plan);
    if (entries != p->maker.sources.n)
        return cn_fail(p->ctx, CN_EMISMATCH,
                       "%s: the shards are of %lld pictures, the sources now have %lld; another "
                       "folder is expected",
                       path, (long long)entries, (long long)p->maker.sources.n);
    return p->per_shard > 0 ? CN_OK
                            : cn_fail(p->ctx, CN_EFORMAT, "%s: no \"entries_per_shard\"", path);
}

static cn_status divide(shards *p)
{
    char path[CN_PATH_BYTES];
    CN_TRY(cn_format(p->ctx, path, sizeof path, "%s/shards.json", p->o->output_dir));
    if (cn_file_exists(path)) {
        CN_TRY(read_division(p, path));
    } else {
        CN_TRY(count_entries(p));
        json_t *plan = json_pack("{s:I,s:I}", "entries", (json_int_t)p->maker.sources.n,
                                 "entries_per_shard", (json_int_t)p->per_shard);
        const cn_status s = plan ? cn_json_save_file(p->ctx, path, plan)
                                 : cn_fail(p->ctx, CN_ENOMEM, "no memory for %s", path);
        json_decref(plan);
        CN_TRY(s);
    }
    p->n = (p->maker.sources.n + p->per_shard - 1) / p->per_shard;
    return CN_OK;
}

cn_status cn_part_read(cn_ctx *ctx, const char *part, int64_t *k, int64_t *n)
{
    char rest = 0;
    long long a = 1, b = 1;
    if (part && (sscanf(part, "%lld/%lld%c", &a, &b, &rest) != 2 || b < 1 || a < 1 || a > b ||
                 b > INT32_MAX))
        return cn_fail(ctx, CN_EINVAL, "part \"%s\": K/N is expected, the K-th of N parts (2/3)",
                       part);
    *k = a;
    *n = b;
    return CN_OK;
}

/* "2/3": the shards of the second third. */
static cn_status choose_part(shards *p)
{
    int64_t k = 1, n = 1;
    CN_TRY(cn_part_read(p->ctx, p->o->part, &k, &n));
    p->first = p->n * (k - 1) / n;
    p->end = p->n * k / n;
    p->total = CN_MIN(p->end * p->per_shard, p->maker.sources.n) -
               CN_MIN(p->first * p->per_shard, p->maker.sources.n);
    return CN_OK;
}

/* --- shards ----------------------------------------------------------------------------------- */

static void add_counts(shards *p, const cn_shard_counts *c)
{
    cn_prepare_result *r = p->r;
    r->pictures += c->entries;
    r->pairs += c->samples;
    r->bytes += c->bytes;
    for (int i = 0; i < c->n_reasons; i++) {
        int k = 0;
        while (r->left_out[k].reason[0] && strcmp(r->left_out[k].reason, c->reasons[i].name) != 0)
            k++;
        if (k + 1 >= CN_PREPARE_REASONS) continue;
        snprintf(r->left_out[k].reason, sizeof r->left_out[k].reason, "%s", c->reasons[i].name);
        r->left_out[k].count += c->reasons[i].n;
        if (strcmp(c->reasons[i].name, "failed") == 0) r->failed += c->reasons[i].n;
    }
}

static cn_status put_sample(shards *p, cn_shard_writer *w, const cn_sample *s)
{
    CN_TRY(add_stages(p, s));
    if (!s->reason) {
        p->r->made++;
        return cn_shard_put(p->ctx, w, &s->made, NULL, "");
    }
    if (s->text[0] && p->o->problem) p->o->problem(p->o->user, s->text);
    if (s->text[0] && p->o->on_bad && strcmp(p->o->on_bad, "stop") == 0)
        return cn_fail(p->ctx, CN_EFORMAT, "%s", s->text);
    return cn_shard_put(p->ctx, w, NULL, s->reason, s->text);
}

/* Entries in order; the first that ends the run is the last that is written. */
static cn_status write_chunk(shards *p, cn_shard_writer *w, int64_t n)
{
    const double begun = cn_now_s();
    cn_status s = CN_OK;
    for (int64_t i = 0; s == CN_OK && i < n; i++) s = put_sample(p, w, &p->chunk[i]);
    p->r->stages[CN_STAGE_WRITE].seconds += cn_now_s() - begun;
    return s;
}

static cn_status fill_shard(shards *p, cn_shard_writer *w, int64_t first, int64_t end)
{
    for (int64_t i = first; i < end;) {
        const int64_t n = CN_MIN(p->chunk_size, end - i);
        cn_status s = make_chunk(p, i, 0, n);
        if (s == CN_OK) s = write_chunk(p, w, n);
        free_chunk(p, n);
        CN_TRY(s);
        i += n;
        p->done += n;
        if (p->o->progress) p->o->progress(p->o->user, "samples", p->done, p->total);
    }
    return CN_OK;
}

static cn_status run_shard(shards *p, int64_t number)
{
    const int64_t first = number * p->per_shard,
                  end = CN_MIN(first + p->per_shard, p->maker.sources.n);
    bool finished = false;
    cn_shard_counts counts = {0};
    cn_shard_writer *w = NULL;
    CN_TRY(cn_shard_finished(p->ctx, p->o->output_dir, number, &finished, &counts));
    if (finished) {
        p->r->shards_kept++;
        p->r->kept += counts.samples;
        p->done += end - first;
        add_counts(p, &counts);
        return CN_OK;
    }
    CN_TRY(cn_shard_open(p->ctx, p->o->output_dir, number, p->maker.settings.data, &w));
    const int64_t held = cn_shard_holds(w)->entries;
    p->r->kept += cn_shard_holds(w)->samples;
    p->done += held;
    cn_status s = fill_shard(p, w, first + held, end);
    if (s == CN_OK) s = cn_shard_finish(p->ctx, w);
    add_counts(p, cn_shard_holds(w));
    cn_shard_close(w);
    return s;
}

/* --- the whole -------------------------------------------------------------------------------- */

/* Where each source is, so that another one of the same length isn't taken for it. */
static cn_status keep_settings(shards *p)
{
    char path[CN_PATH_BYTES];
    cn_str *all = &p->maker.settings;
    for (int k = 0; k < p->maker.sources.count; k++)
        cn_str_addf(all, "%s%s", k ? ", " : "; of ", p->maker.sources.list[k].text);
    if (p->o->source_weights) cn_str_addf(all, "; source weights=%s", p->o->source_weights);
    if (p->o->quality) cn_str_addf(all, "; quality=%lld", (long long)p->o->quality);
    if (p->o->png_level) cn_str_addf(all, "; png-level=%lld", (long long)p->o->png_level);
    if (all->failed) return cn_fail(p->ctx, CN_ENOMEM, "no memory for a run's settings");
    CN_TRY(cn_format(p->ctx, path, sizeof path, "%s/" CN_PREPARE_SETTINGS, p->o->output_dir));
    return cn_settings_keep(p->ctx, path, all->data);
}

/* The kind of a single condition, as other layouts note it, for training's flips and validation. */
static cn_status note_kind(shards *p)
{
    char path[CN_PATH_BYTES];
    const cn_made_condition *c = &p->maker.conditions[0];
    if (p->maker.n_conditions > 1 || c->exact >= 0) return CN_OK;
    CN_TRY(cn_format(p->ctx, path, sizeof path, "%s/annotate.jsonl", p->o->output_dir));
    json_t *line = json_pack("{s:s}", "settings", c->settings.data);
    char *text = cn_json_text(line, JSON_COMPACT);
    json_decref(line);
    cn_str all = {0};
    if (text) cn_str_addf(&all, "%s\n", text);
    free(text);
    const cn_status s = all.data && !all.failed
                            ? cn_file_write(p->ctx, path, all.data, all.len)
                            : cn_fail(p->ctx, CN_ENOMEM, "no memory for %s", path);
    cn_str_free(&all);
    return s;
}

static cn_status take_chunk(shards *p)
{
    p->chunk_size =
        p->maker.networks || p->maker.encoder ? 2 * p->threads : CHUNK_PER_THREAD * p->threads;
    p->chunk = cn_alloc_array(p->ctx, (size_t)p->chunk_size, sizeof *p->chunk);
    return p->chunk ? CN_OK : CN_ENOMEM;
}

static cn_status run(shards *p)
{
    CN_TRY(keep_settings(p));
    CN_TRY(note_kind(p));
    if (p->maker.encoder)
        CN_TRY(cn_sample_encoder_write_empty(p->maker.encoder, p->ctx, p->o->output_dir));
    CN_TRY(take_chunk(p));
    CN_TRY(cn_prepare_lookalikes(p->ctx, &p->maker, &p->alike));
    p->maker.alike = p->alike;
    CN_TRY(divide(p));
    CN_TRY(choose_part(p));
    p->r->shards = p->end - p->first;
    for (int64_t i = p->first; i < p->end; i++) CN_TRY(run_shard(p, i));
    return CN_OK;
}

static cn_status add_forecast(shards *p, const cn_sample *s)
{
    cn_shard_counts one = {.entries = 1, .samples = !s->reason};
    if (s->reason) cn_shard_count_reason(&one, s->reason, 1);
    if (s->text[0] && p->o->problem) p->o->problem(p->o->user, s->text);
    add_counts(p, &one);
    p->r->made += !s->reason;
    for (int i = 0; i < CN_STAGES; i++) p->r->stages[i].seconds += s->seconds[i];
    return add_bytes(p, s);
}

/* What all entries would take, by the rate at which a sample of them was made. */
static cn_status forecast(shards *p)
{
    const double begun = cn_now_s();
    CN_TRY(take_chunk(p));
    CN_TRY(count_entries(p));
    p->sampled_bytes = 0;
    p->r->sampled = CN_MIN(p->maker.sources.n, FORECAST_ENTRIES);
    const double sampling = cn_now_s();
    CN_TRY(sample(p, p->r->sampled, add_forecast));
    const double k = (double)p->maker.sources.n / (double)p->r->sampled;
    for (int i = 0; i < CN_STAGES; i++) p->r->stages[i].seconds *= k;
    p->r->bytes = (int64_t)((double)p->sampled_bytes * k);
    p->r->shards = (p->maker.sources.n + p->per_shard - 1) / p->per_shard;
    p->r->seconds = (cn_now_s() - sampling) * k + (sampling - begun);
    return CN_OK;
}

static cn_status fail_stopped(const shards *p, cn_status s)
{
    if (s != CN_ECANCELLED) return s;
    return cn_fail(p->ctx, s,
                   "stopped with %lld of %lld pictures done; the same command goes on from here",
                   (long long)p->done, (long long)p->total);
}

/* Parts of one run share the folder: each shard's own lock keeps them, and other runs, apart. */
static cn_status run_locked(shards *p)
{
    cn_dir_lock *lock = NULL;
    if (p->o->part)
        CN_TRY(cn_dir_make(p->ctx, p->o->output_dir));
    else
        CN_TRY(cn_dir_lock_take(p->ctx, p->o->output_dir, &lock));
    const cn_status s = run(p);
    cn_dir_lock_drop(lock);
    return fail_stopped(p, s);
}

cn_status cn_prepare_shards(cn_ctx *ctx, const cn_prepare_options *o, cn_prepare_result *r)
{
    static const char *const stages[CN_STAGES] = {"decode", "annotate", "encode", "write"};
    const double begun = cn_now_s();
    shards p = {.ctx = ctx, .o = o, .r = r, .threads = cn_threads(ctx)};
    for (int i = 0; i < CN_STAGES; i++) r->stages[i].name = stages[i];
    r->threads = p.threads;
    cn_status s = cn_sample_maker_open(ctx, o, &p.maker);
    if (p.maker.encoder) r->encoder_bytes = cn_sample_encoder_bytes(p.maker.encoder);
    if (s == CN_OK) s = o->dry_run ? forecast(&p) : run_locked(&p);
    cn_sample_maker_close(&p.maker);
    cn_free(p.chunk);
    cn_free(p.alike);
    if (o->dry_run) return s;
    r->seconds = cn_now_s() - begun;
    if (s != CN_OK || !r->failed || (o->on_bad && strcmp(o->on_bad, "skip") == 0)) return s;
    return cn_fail(ctx, CN_EFORMAT, "%lld of %lld pictures failed; %lld samples are there",
                   (long long)r->failed, (long long)r->pictures, (long long)r->pairs);
}
