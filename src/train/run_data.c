/* SPDX-License-Identifier: Apache-2.0 */
/* run_data.c - see run_data.h. */
#include "train/run_data.h"

#include "data/condition.h"
#include "diffuse/sampling.h"

static cn_dataset_options dataset_options(const cn_train_options *o, const char *dir)
{
    return (cn_dataset_options){.dir = dir,
                                .image_column = o->image_column,
                                .conditioning_image_column = o->conditioning_image_column,
                                .caption_column = o->caption_column,
                                .caption_extension = o->caption_extension,
                                .skip_bad = o->skip_bad_data};
}

/* Held-out pairs are encoded as they are wherever the others have other sizes or aren't all encoded
 * beforehand. */
static bool held_apart(const cn_train_options *o)
{
    return o->enable_bucket || !o->cache_latents || !o->cache_text;
}

/* How many pairs are held out, and how many are left to learn from. */
static cn_status split_data(const cn_run_setup *r, cn_run_data *d)
{
    const cn_train_options *o = &r->o;
    d->n_train = d->data->n;
    d->train_view = *d->data;
    if (!o->validation_steps) return CN_OK;
    if (o->validation_data_dir) {
        const cn_dataset_options held = dataset_options(o, o->validation_data_dir);
        CN_TRY(cn_dataset_open(r->ctx, &held, &d->held_data));
        d->n_held = d->held_data->n = CN_MIN(d->held_data->n, o->validation_count);
        return CN_OK;
    }
    d->n_held = CN_MIN(o->validation_count, d->data->n / 4);
    d->n_train -= d->n_held;
    if (d->n_held < o->validation_count)
        cn_log(r->ctx, CN_LOG_WARN,
               "%s: %lld pairs are few; %lld of them are held out for validation instead of %lld",
               o->train_data_dir, (long long)d->data->n, (long long)d->n_held,
               (long long)o->validation_count);
    if (!d->n_held || !held_apart(o)) return CN_OK;
    d->train_view = cn_dataset_slice(d->data, 0, d->n_train);
    d->held_view = cn_dataset_slice(d->data, d->n_train, d->n_held);
    d->held_data = &d->held_view;
    return CN_OK;
}

cn_dataset_options cn_run_dataset_options(const cn_train_options *o)
{
    cn_dataset_options all = dataset_options(o, o->train_data_dir);
    all.conditioning_dir = o->conditioning_data_dir;
    return all;
}

/* Black and white conditions are edges or masks. */
static cn_status look_at_conditions(cn_ctx *ctx, const cn_dataset *data, bool *black_and_white)
{
    enum { ENOUGH = 8 };
    *black_and_white = true;
    for (int64_t i = 0; i < CN_MIN(ENOUGH, data->n) && *black_and_white; i++) {
        cn_image *condition = NULL;
        CN_TRY(cn_dataset_load(ctx, data, i, 0, 0, &condition, NULL));
        *black_and_white =
            cn_condition_black_and_white(condition->rgb, condition->width * condition->height);
        cn_image_destroy(condition);
    }
    return CN_OK;
}

/* What mirroring means for these conditions: as told, as the data set's maker noted, or as they
 * look. */
static cn_status choose_mirror(const cn_run_setup *r, cn_run_data *d)
{
    char noted[512] = "";
    bool black_and_white = false;
    if (!r->o.random_flip) return CN_OK;
    if (r->o.conditioning_kind) {
        const cn_status s = cn_mirror_find(r->ctx, r->o.conditioning_kind, &d->mirror);
        return s == CN_OK ? s : cn_fail_prefix(r->ctx, s, "--random-flip");
    }
    CN_TRY(cn_condition_text(r->ctx, r->o.train_data_dir, noted));
    if (noted[0]) {
        if (cn_mirror_find(r->ctx, noted, &d->mirror) != CN_OK)
            cn_log(r->ctx, CN_LOG_WARN, "%s: --random-flip is off: %s", r->o.train_data_dir,
                   cn_error(r->ctx));
        return CN_OK;
    }
    CN_TRY(look_at_conditions(r->ctx, d->data, &black_and_white));
    if (black_and_white)
        d->mirror = CN_MIRROR_PLAIN;
    else
        cn_log(r->ctx, CN_LOG_WARN,
               "%s: --random-flip is off: what the conditions are isn't known; "
               "--conditioning-kind says it (depth, normal, segmentation, ...)",
               r->o.train_data_dir);
    return CN_OK;
}

/* "512 x 512 (120), 448 x 576 (13)" */
static void report_buckets(cn_ctx *ctx, const cn_buckets *b)
{
    cn_str text = {0};
    for (int k = 0; k < b->n; k++)
        cn_str_addf(&text, "%s%lld x %lld (%lld)", k ? ", " : "", (long long)b->list[k].width,
                    (long long)b->list[k].height, (long long)b->list[k].count);
    if (text.data) cn_log(ctx, CN_LOG_INFO, "buckets: %s", text.data);
    cn_str_free(&text);
}

/* Which sizes pictures have, and which prompts there are. */
static cn_status sort_data(const cn_run_setup *r, cn_run_data *d)
{
    const cn_train_options *o = &r->o;
    const bool skip_bad = o->skip_bad_data || o->dry_run;
    const cn_bucket_rules rules = cn_bucket_rules_of(o);
    CN_TRY(cn_buckets_create(r->ctx, &d->train_view, d->n_train, &rules, skip_bad, cn_run_on_stage,
                             cn_run_stage_user(r), &d->buckets));
    if (rules.enabled) report_buckets(r->ctx, d->buckets);
    if (o->cache_text) CN_TRY(cn_prompt_list_create(r->ctx, &d->train_view, skip_bad, &d->prompts));
    if (!d->held_data) return CN_OK;
    CN_TRY(cn_buckets_create_one(r->ctx, o->resolution, o->resolution, d->held_data->n,
                                 &d->held_sizes));
    return cn_prompt_list_create(r->ctx, d->held_data, skip_bad, &d->held_prompts);
}

/* Says what is taken of the shards' encodings, and why not. */
static void report_ready(cn_ctx *ctx, const char *what, const cn_encodings_refusal *no)
{
    if (no->why[0])
        cn_log(ctx, CN_LOG_WARN, "the shards' encoded %s aren't taken, but made anew: %s", what,
               no->why);
    else
        cn_log(ctx, CN_LOG_INFO, "the shards' encoded %s are taken", what);
}

/* The train view's, in what the options leave to be encoded before the first step. */
static cn_status check_ready(const cn_run_setup *r, cn_run_data *d)
{
    const cn_train_options *o = &r->o;
    cn_encodings_refusal pictures = {""}, texts = {""};
    cn_ctx *ctx = r->ctx;
    d->ready = (cn_cache_ready){.encodings = d->encodings, .data = &d->train_view};
    if (!o->cache_latents)
        snprintf(pictures.why, sizeof pictures.why, "pictures are encoded in their step");
    else if (d->mirror != CN_MIRROR_OFF)
        snprintf(pictures.why, sizeof pictures.why, "--random-flip takes mirrored ones too");
    else
        cn_shard_encodings_check_pictures(d->encodings, &d->train_view, d->buckets, &pictures);
    if (!o->cache_text)
        snprintf(texts.why, sizeof texts.why, "texts are encoded in their step");
    else
        CN_TRY(cn_shard_encodings_check_texts(ctx, d->encodings, &d->train_view, d->prompts,
                                              d->prompter, &texts));
    d->ready.pictures = !pictures.why[0];
    d->ready.texts = !texts.why[0];
    report_ready(ctx, "pictures", &pictures);
    report_ready(ctx, "captions", &texts);
    return CN_OK;
}

/* The same of a validation's pairs, where these are a part of the data apart from the others. */
static cn_status check_held_ready(const cn_run_setup *r, cn_run_data *d)
{
    cn_encodings_refusal pictures = {""}, texts = {""};
    if (d->held_data != &d->held_view) return CN_OK;
    cn_shard_encodings_check_pictures(d->encodings, &d->held_view, d->held_sizes, &pictures);
    CN_TRY(cn_shard_encodings_check_texts(r->ctx, d->encodings, &d->held_view, d->held_prompts,
                                          d->prompter, &texts));
    d->held_ready = (cn_cache_ready){.encodings = d->encodings,
                                     .data = &d->held_view,
                                     .pictures = !pictures.why[0],
                                     .texts = !texts.why[0]};
    return CN_OK;
}

/* Encodings are of a sample's main picture, which --image-column passes over. */
static cn_status find_encodings(const cn_run_setup *r, cn_run_data *d)
{
    if (r->o.image_column) return CN_OK;
    CN_TRY(cn_shard_encodings_open(r->ctx, d->data, r->base, &d->encodings));
    if (!d->encodings) return CN_OK;
    CN_TRY(check_ready(r, d));
    return check_held_ready(r, d);
}

/* Conditions that a validation draws beside the held-out ones. */
static cn_status open_data(const cn_run_setup *r, cn_run_data *d)
{
    const cn_train_options *o = &r->o;
    cn_validation_prompts *g = &d->own;
    if (!o->validation_images && !o->validation_prompts) return CN_OK;
    if (!o->validation_steps || !d->n_held)
        return cn_fail(r->ctx, CN_EINVAL,
                       "--validation-image is drawn at a validation, and there is none: %s",
                       o->validation_steps ? "the data has too few pairs to hold any out"
                                           : "--validation-steps is 0");
    CN_TRY(cn_dataset_open_listed(r->ctx, o->validation_images, o->validation_prompts, &g->data));
    CN_TRY(cn_buckets_create_one(r->ctx, o->resolution, o->resolution, g->data->n, &g->sizes));
    return cn_prompt_list_create(r->ctx, g->data, false, &g->prompts);
}

int64_t cn_run_data_drawings(const cn_run_data *d)
{
    return d->n_held + (d->own.data ? d->own.data->n : 0);
}

cn_status cn_run_data_open(const cn_run_setup *r, cn_run_data *d)
{
    const cn_tag_rules tags = cn_train_tag_rules(&r->o);
    cn_dataset_options o = cn_run_dataset_options(&r->o);
    CN_TRY(cn_prompter_open(r->ctx, r->base, r->o.tokenizer, &tags, &d->prompter));
    o.skip_bad |= r->o.dry_run; /* whose lint names them */
    CN_TRY(cn_dataset_open(r->ctx, &o, &d->data));
    cn_log(r->ctx, CN_LOG_INFO, "data: %s", d->data->found);
    if (r->o.max_train_samples) d->data->n = CN_MIN(d->data->n, r->o.max_train_samples);
    if (d->data->skipped)
        cn_log(r->ctx, CN_LOG_WARN, "%lld pairs were left out", (long long)d->data->skipped);
    CN_TRY(choose_mirror(r, d));
    CN_TRY(split_data(r, d));
    CN_TRY(open_data(r, d));
    CN_TRY(sort_data(r, d));
    return find_encodings(r, d);
}

cn_cache_options cn_run_data_cache_options(const cn_run_setup *r, const cn_run_data *d)
{
    return (cn_cache_options){.dir = r->o.output_dir,
                              .cache_dir = r->o.cache_dir,
                              .ready = d->ready,
                              .skip_bad = r->o.skip_bad_data,
                              .pictures = r->o.cache_latents,
                              .mirrored = d->mirror != CN_MIRROR_OFF,
                              .ranks = r->ranks,
                              .memory_limit_bytes = (size_t)1 << 30,
                              .buckets = d->buckets,
                              .prompts = d->prompts,
                              .prompter = d->prompter,
                              .progress = cn_run_on_stage,
                              .progress_user = cn_run_stage_user(r)};
}

/* Each rank for itself, in memory: they are few. */
cn_cache_options cn_run_data_held_cache_options(const cn_run_setup *r, const cn_run_data *d)
{
    cn_cache_options o = cn_run_data_cache_options(r, d);
    o.pictures = true;
    o.mirrored = false;
    o.ready = d->held_ready;
    o.buckets = d->held_sizes;
    o.prompts = d->held_prompts;
    if (d->held_data != &d->held_view) return o;
    o.cache_dir = NULL;
    o.ranks = NULL;
    return o;
}

/* As the held-out ones, but there is nothing to encode but the prompts. */
cn_cache_options cn_run_data_prompts_cache_options(const cn_run_setup *r, const cn_run_data *d)
{
    cn_cache_options o = cn_run_data_cache_options(r, d);
    o.pictures = false;
    o.mirrored = false;
    o.skip_bad = false;
    o.ready = (cn_cache_ready){0};
    o.buckets = d->own.sizes;
    o.prompts = d->own.prompts;
    o.cache_dir = NULL;
    o.ranks = NULL;
    return o;
}

static cn_status encode_held(const cn_run_setup *r, cn_run_data *d)
{
    const cn_cache_options o = cn_run_data_held_cache_options(r, d);
    if (!d->held_data) return CN_OK;
    d->held_first = 0;
    d->held_cache = NULL;
    return cn_cache_build(r->ctx, r->be, r->base, d->held_data, &o, &d->held_cache);
}

static cn_status encode_data(const cn_run_setup *r, cn_run_data *d)
{
    const cn_cache_options o = cn_run_data_prompts_cache_options(r, d);
    if (!d->own.data || cn_ranks_rank(r->ranks) > 0) return CN_OK;
    return cn_cache_build(r->ctx, r->be, r->base, d->own.data, &o, &d->own.cache);
}

cn_status cn_run_data_encode(const cn_run_setup *r, cn_run_data *d)
{
    const cn_cache_options o = cn_run_data_cache_options(r, d);
    CN_TRY(cn_cache_build(r->ctx, r->be, r->base, &d->train_view, &o, &d->cache));
    d->held_first = d->n_train;
    d->held_cache = d->cache;
    CN_TRY(encode_held(r, d));
    return encode_data(r, d);
}

static cn_batcher_options batcher_options(const cn_run_setup *r, const cn_run_data *d)
{
    return (cn_batcher_options){.cache = d->cache,
                                .data = d->data,
                                .prompter = d->prompter,
                                .schedule = r->schedule,
                                .objective = &r->objective,
                                .scaling_factor = r->base->vae.scaling_factor,
                                .skip_bad = r->o.skip_bad_data,
                                .mirror = d->mirror,
                                .count = d->n_train};
}

cn_batcher_options cn_run_data_held_options(const cn_run_setup *r, const cn_run_data *d)
{
    cn_batcher_options o = batcher_options(r, d);
    o.objective = NULL;
    o.cache = d->held_cache;
    o.data = d->held_data ? d->held_data : d->data;
    o.first = d->held_first;
    o.count = d->n_held;
    return o;
}

static cn_shuffle_options shuffle_options(const cn_run_setup *r, const cn_run_data *d)
{
    return (cn_shuffle_options){.seed = r->o.seed,
                                .buckets = d->buckets,
                                .unit = cn_run_pass_samples(r),
                                .timesteps = r->objective.timesteps,
                                .empty_proportion = r->o.proportion_empty_prompts,
                                .flips = d->mirror != CN_MIRROR_OFF,
                                .crops = r->o.random_crop};
}

cn_status cn_run_data_start_loader(const cn_run_setup *r, int64_t first_sample, cn_run_data *d)
{
    const cn_loader_options o = {
        .batcher = batcher_options(r, d),
        .shuffle = shuffle_options(r, d),
        .workers = (int)r->o.dataloader_num_workers,
        .batch = r->o.train_batch_size,
        .first_sample = first_sample + cn_ranks_rank(r->ranks) * r->o.train_batch_size,
        .stride = cn_run_pass_samples(r)};
    if (!r->o.cache_latents) CN_TRY(cn_batcher_create(r->ctx, &o.batcher, &d->mixer));
    return cn_loader_create(r->ctx, &o, &d->loader);
}

size_t cn_run_data_loader_bytes(const cn_run_setup *r, const cn_run_data *d)
{
    const cn_train_options *o = &r->o;
    const bool encodes = !o->cache_latents;
    const cn_train_bucket *largest = &d->buckets->list[cn_buckets_largest(d->buckets)];
    const cn_shuffle_options shuffle = shuffle_options(r, d);
    const int64_t factor = cn_vae_factor(&r->base->vae);
    const int64_t pixels = CN_MAX(largest->width * largest->height, o->resolution * o->resolution);
    const int64_t latent = pixels / (factor * factor) * r->base->vae.latent_channels;
    const int64_t context = cn_base_text_elements(r->base);
    const int64_t workers = o->dataloader_num_workers;
    const int64_t batchers = CN_MAX(workers, 1) + (o->validation_steps > 0) + encodes;
    const int64_t tokens = o->cache_text ? 0 : d->prompter->ids;
    const size_t pass = cn_pass_bytes(latent, context, tokens, pixels, encodes);
    /* a batcher: a pass of one, moments, noise, latent, and the pictures it decodes */
    const size_t batcher = pass + (size_t)(4 * latent) * sizeof(float) + (size_t)pixels * 6;
    const int64_t passes = cn_loader_passes((int)workers, o->train_batch_size);
    return (size_t)(passes * o->train_batch_size) * pass + (size_t)batchers * batcher +
           cn_shuffle_bytes(&shuffle);
}

void cn_run_data_close(cn_run_data *d)
{
    cn_loader_destroy(d->loader);
    cn_batcher_destroy(d->mixer);
    cn_cache_destroy(d->own.cache);
    if (d->held_cache != d->cache) cn_cache_destroy(d->held_cache);
    cn_cache_destroy(d->cache);
    cn_buckets_destroy(d->buckets);
    cn_buckets_destroy(d->held_sizes);
    cn_prompt_list_destroy(d->prompts);
    cn_prompt_list_destroy(d->held_prompts);
    cn_buckets_destroy(d->own.sizes);
    cn_prompt_list_destroy(d->own.prompts);
    cn_dataset_close(d->own.data);
    cn_shard_encodings_close(d->encodings);
    cn_prompter_close(d->prompter);
    if (d->held_data != &d->held_view) cn_dataset_close(d->held_data);
    cn_dataset_close(d->data);
}
