/* SPDX-License-Identifier: Apache-2.0 */
/* dataset_copy.c - controlnet.h's cn_dataset_copy: data sets converted, merged, sampled and split.
 *
 * Which pairs are taken, and to which side, follows from the seed and the pairs alone. A run that
 * goes on passes over the pairs that finished shards and the begun one hold; of folders it writes
 * every file anew, and the list last. From shards to shards, encoded pictures and captions go with
 * their pairs; elsewhere they are counted.
 */
#include "base/lock.h"
#include "base/option.h"
#include "io/settings.h"
#include "data/dataset.h"
#include "data/shard_encodings.h"
#include "data/shard_writer.h"
#include "pipeline/pair_list_internal.h"
#include "io/json_text.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SETS = 256, NAME_BYTES = 64, DEFAULT_SHARD_BYTES = 1 << 30 };

/* Where pairs go. */
typedef struct side {
    char dir[CN_PATH_BYTES];
    cn_dir_lock *lock;
    int64_t n;          /* pairs so far: the next one's key */
    cn_pair_list *list; /* of folders */
    cn_shard_writer *shard;
    int64_t shards; /* finished ones: the open one's number */
    int64_t held;   /* pairs that need not be written */
} side;

typedef struct copy {
    cn_ctx *ctx;
    const cn_dataset_copy_options *o;
    cn_dataset *sets[MAX_SETS];
    cn_shard_encodings *encodings[MAX_SETS]; /* NULL: that set has none */
    int n_sets;
    int64_t n; /* pairs of all */
    bool shards, keeps_encodings;
    int64_t encodings_left_out;
    cn_str settings;
    side sides[2];
    int n_sides;
} copy;

#define FIELD(member) CN_FIELD(cn_dataset_copy_options, member)

const cn_option cn_dataset_copy_option_rows[] = {
    {.help = "Options"},
    {"output", 'o', "the new data set", FIELD(output_dir), .arg = "DIR", .required = true},
    {"layout", 0, NULL, FIELD(layout),
     .words = (const char *const[]){"fill50k", "imagefolder", "webdataset", NULL},
     .preset = "fill50k"},
    {"shard-size", 0, "a shard of webdataset ends with the pair that reaches it",
     CN_FIELD_AS(CN_FIELD_BYTES, cn_dataset_copy_options, shard_size), .arg = "BYTES",
     .unset = "1G"},
    {"seed", 0, "of what is drawn at random", FIELD(seed), .preset = "0"},
    {"count", 'n', "so many pairs, drawn at random, in their order", FIELD(count), 1, 1e12,
     .unset = "all"},
    {"validation", 0,
     "this share of the pictures, drawn at random, goes to DIR/validation, the others to DIR/train",
     FIELD(validation), 0, 0.99, .arg = "SHARE", .unset = "all to DIR"},
    {0},
};

/* --- a pair ----------------------------------------------------------------------------------- */

typedef struct pair {
    int set;
    int64_t number; /* there */
    cn_dataset_item item;
} pair;

/* A picture as a file: as it is where other programs read its format too, else as PNG. */
typedef struct picture {
    char *bytes;
    size_t n;
    const char *ending;
} picture;

static cn_status read_picture(cn_ctx *ctx, const cn_dataset_file *file, picture *out)
{
    cn_image *image = NULL;
    CN_TRY(cn_dataset_read(ctx, file, &out->bytes, &out->n));
    out->ending = cn_image_ending_memory(out->bytes, out->n);
    if (out->ending) return CN_OK;
    cn_status s = cn_image_load_memory(ctx, out->bytes, out->n, &image);
    cn_free(out->bytes);
    out->bytes = NULL;
    if (s != CN_OK) return cn_fail_prefix(ctx, s, "%s", file->path);
    s = cn_png_encode(ctx, image, NULL, (uint8_t **)&out->bytes, &out->n);
    cn_image_destroy(image);
    out->ending = "png";
    return s;
}

static cn_status write_file(copy *c, const side *s, const char *folder, const picture *p,
                            char name[NAME_BYTES])
{
    char path[CN_PATH_BYTES];
    snprintf(name, NAME_BYTES, "%s/%09lld.%s", folder, (long long)s->n, p->ending);
    CN_TRY(cn_format(c->ctx, path, sizeof path, "%s/%s", s->dir, name));
    return cn_file_write(c->ctx, path, p->bytes, p->n);
}

static cn_status add_members(cn_ctx *ctx, const picture *condition, const picture *target,
                             const cn_dataset_item *item, cn_shard_sample *out)
{
    char ending[NAME_BYTES];
    CN_TRY(cn_shard_sample_add(ctx, out, target->ending, target->bytes, target->n));
    snprintf(ending, sizeof ending, "cond.%s", condition->ending);
    CN_TRY(cn_shard_sample_add(ctx, out, ending, condition->bytes, condition->n));
    CN_TRY(cn_shard_sample_add(ctx, out, "txt", item->prompt, strlen(item->prompt)));
    json_t *object =
        json_pack("{s:s,s:s,s:s}", "key", out->key, "source", item->where, "caption", item->prompt);
    char *text = cn_json_text(object, JSON_COMPACT);
    json_decref(object);
    if (!text) return cn_fail(ctx, CN_EFORMAT, "%s: its name or caption isn't UTF-8", item->where);
    const cn_status s = cn_shard_sample_add(ctx, out, "json", text, strlen(text));
    free(text);
    return s;
}

/* A shard's end follows from its pairs' bytes; what a run that goes on finds is as it was left. */
static cn_status end_shard(copy *c, side *s)
{
    if (!s->shard) return CN_OK;
    CN_TRY(cn_shard_finish(c->ctx, s->shard));
    cn_shard_close(s->shard);
    s->shard = NULL;
    s->shards++;
    return CN_OK;
}

static cn_status end_full_shard(copy *c, side *s)
{
    const size_t most = c->o->shard_size ? c->o->shard_size : DEFAULT_SHARD_BYTES;
    return (size_t)cn_shard_holds(s->shard)->bytes >= most ? end_shard(c, s) : CN_OK;
}

static cn_status add_encodings(const copy *c, const pair *p, cn_shard_sample *out)
{
    const cn_shard_encodings *e = c->keeps_encodings ? c->encodings[p->set] : NULL;
    return e ? cn_shard_encodings_add(e, c->ctx, c->sets[p->set], p->number, out) : CN_OK;
}

static cn_status put_in_shard(copy *c, side *s, const picture *condition, const picture *target,
                              const pair *p)
{
    cn_shard_sample sample = {0};
    if (!s->shard) CN_TRY(cn_shard_open(c->ctx, s->dir, s->shards, c->settings.data, &s->shard));
    snprintf(sample.key, sizeof sample.key, "%09lld", (long long)s->n);
    cn_status status = add_members(c->ctx, condition, target, &p->item, &sample);
    if (status == CN_OK) status = add_encodings(c, p, &sample);
    if (status == CN_OK) status = cn_shard_put(c->ctx, s->shard, &sample, NULL, "");
    cn_shard_sample_free(&sample);
    return status == CN_OK ? end_full_shard(c, s) : status;
}

static cn_status put_pair(copy *c, side *s, const pair *p)
{
    const cn_dataset_item *item = &p->item;
    char source[NAME_BYTES], file[NAME_BYTES];
    picture condition = {0}, target = {0};
    cn_status status = read_picture(c->ctx, &item->condition, &condition);
    if (status == CN_OK) status = read_picture(c->ctx, &item->target, &target);
    if (status == CN_OK && c->shards) {
        status = put_in_shard(c, s, &condition, &target, p);
    } else if (status == CN_OK) {
        status = write_file(c, s, "source", &condition, source);
        if (status == CN_OK) status = write_file(c, s, "target", &target, file);
        if (status == CN_OK) status = cn_pair_list_put(c->ctx, s->list, source, file, item->prompt);
    }
    cn_free(condition.bytes);
    cn_free(target.bytes);
    return status;
}

/* --- which pairs ------------------------------------------------------------------------------ */

/* By its picture, so that no picture is on both sides, as the set names it: wherever the set lies.
 */
static side *side_of(copy *c, const cn_dataset *set, const cn_dataset_item *item)
{
    if (c->n_sides == 1) return &c->sides[0];
    const size_t n = strlen(set->dir);
    const char *name = item->target.path;
    if (n && strncmp(name, set->dir, n) == 0 && name[n] == '/') name += n + 1;
    uint64_t parts[3] = {c->o->seed, cn_hash64(name, strlen(name)),
                         (uint64_t)item->target.position};
    cn_rng r;
    cn_rng_seed(&r, cn_hash64(parts, sizeof parts));
    return &c->sides[cn_rng_uniform(&r) < (float)c->o->validation];
}

static cn_status take_pair(copy *c, int64_t i)
{
    pair p = {.number = i};
    while (p.number >= c->sets[p.set]->n) p.number -= c->sets[p.set++]->n;
    const cn_dataset *set = c->sets[p.set];
    const cn_shard_encodings *e = c->encodings[p.set];
    CN_TRY(cn_dataset_get(c->ctx, set, p.number, true, &p.item));
    side *s = side_of(c, set, &p.item);
    cn_status status = CN_OK;
    if (s->held)
        s->held--;
    else
        status = put_pair(c, s, &p);
    s->n++;
    c->encodings_left_out += e && !c->keeps_encodings && cn_shard_encodings_has(e, set, p.number);
    cn_dataset_item_free(&p.item);
    return status;
}

/* Selection sampling (Knuth, TAOCP 2, 3.4.2, algorithm S): in order, in no memory. */
static cn_status take_pairs(copy *c)
{
    const int64_t want = c->o->count ? c->o->count : c->n;
    int64_t taken = 0;
    cn_rng r;
    cn_rng_seed(&r, c->o->seed);
    for (int64_t i = 0; i < c->n && taken < want; i++) {
        if (cn_cancelled(c->ctx))
            return cn_fail(c->ctx, CN_ECANCELLED, "stopped; the same command goes on from here");
        const double u = (double)(cn_rng_u64(&r) >> 11) * 0x1p-53;
        if (u * (double)(c->n - i) >= (double)(want - taken)) continue;
        CN_TRY(take_pair(c, i));
        taken++;
        if (c->o->progress) c->o->progress(c->o->user, taken, want);
    }
    return CN_OK;
}

/* --- opening and closing ---------------------------------------------------------------------- */

static cn_status open_sets(copy *c)
{
    bool encoded = false;
    for (const char *const *dir = c->o->dirs; dir && *dir; dir++) {
        cn_dataset_options d = c->o->data;
        d.dir = *dir;
        if (c->n_sets == MAX_SETS)
            return cn_fail(c->ctx, CN_EINVAL, "more than %d data sets", MAX_SETS);
        CN_TRY(cn_dataset_open(c->ctx, &d, &c->sets[c->n_sets]));
        const cn_dataset *set = c->sets[c->n_sets++];
        CN_TRY(cn_shard_encodings_open(c->ctx, set, NULL, &c->encodings[c->n_sets - 1]));
        encoded |= c->encodings[c->n_sets - 1] != NULL;
        c->n += set->n;
        cn_str_addf(&c->settings, "%s%s", c->n_sets > 1 ? ", " : "copy of ", *dir);
    }
    if (c->o->count > c->n)
        return cn_fail(c->ctx, CN_EINVAL, "%lld pairs of %lld", (long long)c->o->count,
                       (long long)c->n);
    cn_str_addf(&c->settings, "; layout=%s seed=%llu", c->o->layout ? c->o->layout : "fill50k",
                (unsigned long long)c->o->seed);
    if (c->o->count) cn_str_addf(&c->settings, " count=%lld", (long long)c->o->count);
    if (c->n_sides > 1) cn_str_addf(&c->settings, " validation=%g", c->o->validation);
    if (encoded && c->keeps_encodings) cn_str_adds(&c->settings, " with encodings");
    return c->settings.failed ? cn_fail(c->ctx, CN_ENOMEM, "no memory for settings") : CN_OK;
}

/* What finished shards and the begun one hold. */
static cn_status find_held(copy *c, side *s)
{
    cn_shard_counts counts;
    for (bool finished = true;; s->shards++) {
        CN_TRY(cn_shard_finished(c->ctx, s->dir, s->shards, &finished, &counts));
        if (!finished) break;
        s->held += counts.samples;
    }
    bool begun = false;
    CN_TRY(cn_shard_begun(c->ctx, s->dir, s->shards, &begun));
    if (!begun) return CN_OK;
    CN_TRY(cn_shard_open(c->ctx, s->dir, s->shards, c->settings.data, &s->shard));
    s->held += cn_shard_holds(s->shard)->samples;
    return end_full_shard(c, s);
}

static cn_status copy_empty_captions(const copy *c, const char *dir)
{
    for (int k = 0; k < c->n_sets && c->keeps_encodings; k++)
        if (c->encodings[k]) CN_TRY(cn_shard_encodings_copy_empty(c->encodings[k], c->ctx, dir));
    return CN_OK;
}

static cn_status open_side(copy *c, side *s, const char *below)
{
    static const char *const folders[] = {"source", "target"};
    char path[CN_PATH_BYTES];
    CN_TRY(cn_format(c->ctx, s->dir, sizeof s->dir, "%s%s", c->o->output_dir, below));
    CN_TRY(cn_dir_lock_take(c->ctx, s->dir, &s->lock));
    CN_TRY(cn_format(c->ctx, path, sizeof path, "%s/prepare.txt", s->dir));
    CN_TRY(cn_settings_keep(c->ctx, path, c->settings.data));
    CN_TRY(copy_empty_captions(c, s->dir));
    if (c->shards) return find_held(c, s);
    for (size_t i = 0; i < CN_COUNT(folders); i++) {
        CN_TRY(cn_format(c->ctx, path, sizeof path, "%s/%s", s->dir, folders[i]));
        CN_TRY(cn_dir_make(c->ctx, path));
    }
    CN_TRY(cn_pair_list_check(c->ctx, s->dir, c->o->layout));
    return cn_pair_list_open(c->ctx, s->dir, c->o->layout, &s->list);
}

static cn_status finish_side(copy *c, side *s)
{
    if (c->shards) return end_shard(c, s);
    cn_pair_list *list = s->list;
    s->list = NULL;
    return cn_pair_list_commit(c->ctx, list);
}

static cn_status run(copy *c)
{
    static const char *const below[] = {"/train", "/validation"};
    CN_TRY(cn_options_check(c->ctx, cn_dataset_copy_option_rows, c->o));
    if (!c->o->dirs || !c->o->dirs[0])
        return cn_fail(c->ctx, CN_EINVAL, "no data set; a folder of pairs is expected");
    c->shards = c->o->layout && strcmp(c->o->layout, "webdataset") == 0;
    /* they are of the picture that is found without a name for it, as training takes them */
    c->keeps_encodings = c->shards && !c->o->data.image_column;
    c->n_sides = c->o->validation > 0 ? 2 : 1;
    CN_TRY(open_sets(c));
    for (int k = 0; k < c->n_sides; k++)
        CN_TRY(open_side(c, &c->sides[k], c->n_sides > 1 ? below[k] : ""));
    CN_TRY(take_pairs(c));
    for (int k = 0; k < c->n_sides; k++) CN_TRY(finish_side(c, &c->sides[k]));
    return CN_OK;
}

cn_status cn_dataset_copy(cn_ctx *ctx, const cn_dataset_copy_options *options,
                          cn_dataset_copy_result *out)
{
    copy c = {.ctx = ctx, .o = options};
    const cn_status s = run(&c);
    if (out)
        *out = (cn_dataset_copy_result){.pairs = c.sides[0].n + c.sides[1].n,
                                        .validation = c.sides[1].n,
                                        .encodings_left_out = c.encodings_left_out};
    for (int k = 0; k < c.n_sides; k++) {
        cn_pair_list_abort(c.sides[k].list);
        cn_shard_close(c.sides[k].shard);
        cn_dir_lock_drop(c.sides[k].lock);
    }
    for (int k = 0; k < c.n_sets; k++) {
        cn_shard_encodings_close(c.encodings[k]);
        cn_dataset_close(c.sets[k]);
    }
    cn_str_free(&c.settings);
    return s;
}
