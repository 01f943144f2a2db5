/* SPDX-License-Identifier: Apache-2.0 */
/* train_data.c - a run's data: opened and split, encoded, made ready in the order of its
 * samples. */
#include "data/condition.h"
#include "train/trainer.h"

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
static cn_status split_data(cn_trainer *t)
{
    const cn_train_options *o = &t->o;
    t->n_train = t->data->n;
    t->train_view = *t->data;
    if (!o->validation_steps) return CN_OK;
    if (o->validation_data_dir) {
        const cn_dataset_options held = dataset_options(o, o->validation_data_dir);
        CN_TRY(cn_dataset_open(t->ctx, &held, &t->held_data));
        t->n_held = t->held_data->n = CN_MIN(t->held_data->n, o->validation_count);
        return CN_OK;
    }
    t->n_held = CN_MIN(o->validation_count, t->data->n / 4);
    t->n_train -= t->n_held;
    if (t->n_held < o->validation_count)
        cn_log(t->ctx, CN_LOG_WARN,
               "%s: %lld pairs are few; %lld of them are held out for validation instead of %lld",
               o->train_data_dir, (long long)t->data->n, (long long)t->n_held,
               (long long)o->validation_count);
    if (!t->n_held || !held_apart(o)) return CN_OK;
    t->train_view = cn_dataset_slice(t->data, 0, t->n_train);
    t->held_view = cn_dataset_slice(t->data, t->n_train, t->n_held);
    t->held_data = &t->held_view;
    return CN_OK;
}

const cn_dataset *cn_trainer_cached_data(const cn_trainer *t)
{
    return &t->train_view;
}

cn_dataset_options cn_trainer_data_options(const cn_trainer *t)
{
    cn_dataset_options o = dataset_options(&t->o, t->o.train_data_dir);
    o.conditioning_dir = t->o.conditioning_data_dir;
    return o;
}

/* Black and white conditions are edges or masks. */
static cn_status look_at_conditions(cn_trainer *t, bool *black_and_white)
{
    enum { ENOUGH = 8 };
    *black_and_white = true;
    for (int64_t i = 0; i < CN_MIN(ENOUGH, t->data->n) && *black_and_white; i++) {
        cn_image *condition = NULL;
        CN_TRY(cn_dataset_load(t->ctx, t->data, i, 0, 0, &condition, NULL));
        *black_and_white =
            cn_condition_black_and_white(condition->rgb, condition->width * condition->height);
        cn_image_destroy(condition);
    }
    return CN_OK;
}

/* What mirroring means for these conditions: as told, as the data set's maker noted, or as they
 * look. */
static cn_status settle_flip(cn_trainer *t)
{
    char noted[512] = "";
    bool black_and_white = false;
    if (!t->o.random_flip) return CN_OK;
    if (t->o.conditioning_kind) {
        const cn_status s = cn_mirror_find(t->ctx, t->o.conditioning_kind, &t->mirror);
        return s == CN_OK ? s : cn_fail_prefix(t->ctx, s, "--random-flip");
    }
    CN_TRY(cn_condition_text(t->ctx, t->o.train_data_dir, noted));
    if (noted[0]) {
        if (cn_mirror_find(t->ctx, noted, &t->mirror) != CN_OK)
            cn_log(t->ctx, CN_LOG_WARN, "%s: --random-flip is off: %s", t->o.train_data_dir,
                   cn_error(t->ctx));
        return CN_OK;
    }
    CN_TRY(look_at_conditions(t, &black_and_white));
    if (black_and_white)
        t->mirror = CN_MIRROR_PLAIN;
    else
        cn_log(t->ctx, CN_LOG_WARN,
               "%s: --random-flip is off: what the conditions are isn't known; "
               "--conditioning-kind says it (depth, normal, segmentation, ...)",
               t->o.train_data_dir);
    return CN_OK;
}

static void tell_progress(void *user, const char *what, int64_t done, int64_t total)
{
    cn_trainer_report_stage(user, what, done, total);
}

/* "512 x 512 (120), 448 x 576 (13)" */
static void tell_buckets(const cn_trainer *t)
{
    cn_str text = {0};
    for (int k = 0; k < t->buckets->n; k++)
        cn_str_addf(&text, "%s%lld x %lld (%lld)", k ? ", " : "",
                    (long long)t->buckets->list[k].width, (long long)t->buckets->list[k].height,
                    (long long)t->buckets->list[k].count);
    if (text.data) cn_log(t->ctx, CN_LOG_INFO, "buckets: %s", text.data);
    cn_str_free(&text);
}

/* Which sizes pictures have, and which prompts there are. */
static cn_status sort_data(cn_trainer *t)
{
    const cn_train_options *o = &t->o;
    const bool skip_bad = o->skip_bad_data || o->dry_run;
    const cn_bucket_rules rules = cn_bucket_rules_of(o);
    CN_TRY(cn_buckets_create(t->ctx, &t->train_view, t->n_train, &rules, skip_bad, tell_progress, t,
                             &t->buckets));
    if (rules.enabled) tell_buckets(t);
    if (o->cache_text) CN_TRY(cn_prompt_list_create(t->ctx, &t->train_view, skip_bad, &t->prompts));
    if (!t->held_data) return CN_OK;
    CN_TRY(cn_buckets_create_one(t->ctx, o->resolution, o->resolution, t->held_data->n,
                                 &t->held_sizes));
    return cn_prompt_list_create(t->ctx, t->held_data, skip_bad, &t->held_prompts);
}

/* Conditions that a validation draws beside the held-out ones. */
static cn_status open_given(cn_trainer *t)
{
    const cn_train_options *o = &t->o;
    cn_validation_prompts *g = &t->own;
    if (!o->validation_images && !o->validation_prompts) return CN_OK;
    if (!o->validation_steps || !t->n_held)
        return cn_fail(t->ctx, CN_EINVAL,
                       "--validation-image is drawn at a validation, and there is none: %s",
                       o->validation_steps ? "the data has too few pairs to hold any out"
                                           : "--validation-steps is 0");
    CN_TRY(cn_dataset_open_listed(t->ctx, o->validation_images, o->validation_prompts, &g->data));
    CN_TRY(cn_buckets_create_one(t->ctx, o->resolution, o->resolution, g->data->n, &g->sizes));
    return cn_prompt_list_create(t->ctx, g->data, false, &g->prompts);
}

int64_t cn_trainer_drawings(const cn_trainer *t)
{
    return t->n_held + (t->own.data ? t->own.data->n : 0);
}

cn_status cn_trainer_open_data(cn_trainer *t)
{
    cn_dataset_options o = cn_trainer_data_options(t);
    o.skip_bad |= t->o.dry_run; /* whose lint names them */
    CN_TRY(cn_dataset_open(t->ctx, &o, &t->data));
    cn_log(t->ctx, CN_LOG_INFO, "data: %s", t->data->found);
    if (t->data->skipped)
        cn_log(t->ctx, CN_LOG_WARN, "%lld pairs were left out", (long long)t->data->skipped);
    CN_TRY(settle_flip(t));
    CN_TRY(split_data(t));
    CN_TRY(open_given(t));
    return sort_data(t);
}

cn_cache_options cn_trainer_cache_options(cn_trainer *t)
{
    return (cn_cache_options){.dir = t->o.output_dir,
                              .cache_dir = t->o.cache_dir,
                              .skip_bad = t->o.skip_bad_data,
                              .pictures = t->o.cache_latents,
                              .mirrored = t->mirror != CN_MIRROR_OFF,
                              .ranks = t->ranks,
                              .memory_limit_bytes = (size_t)1 << 30,
                              .buckets = t->buckets,
                              .prompts = t->prompts,
                              .prompter = t->prompter,
                              .progress = tell_progress,
                              .progress_user = t};
}

/* Each rank for itself, in memory: they are few. */
cn_cache_options cn_trainer_held_cache_options(cn_trainer *t)
{
    cn_cache_options o = cn_trainer_cache_options(t);
    o.pictures = true;
    o.mirrored = false;
    o.buckets = t->held_sizes;
    o.prompts = t->held_prompts;
    if (t->held_data != &t->held_view) return o;
    o.cache_dir = NULL;
    o.ranks = NULL;
    return o;
}

/* As the held-out ones, but there is nothing to encode but the prompts. */
cn_cache_options cn_trainer_prompts_cache_options(cn_trainer *t)
{
    cn_cache_options o = cn_trainer_cache_options(t);
    o.pictures = false;
    o.mirrored = false;
    o.skip_bad = false;
    o.buckets = t->own.sizes;
    o.prompts = t->own.prompts;
    o.cache_dir = NULL;
    o.ranks = NULL;
    return o;
}

static cn_status encode_held(cn_trainer *t)
{
    const cn_cache_options o = cn_trainer_held_cache_options(t);
    if (!t->held_data) return CN_OK;
    t->held_first = 0;
    t->held_cache = NULL;
    return cn_cache_build(t->ctx, t->be, t->base, t->held_data, &o, &t->held_cache);
}

static cn_status encode_given(cn_trainer *t)
{
    const cn_cache_options o = cn_trainer_prompts_cache_options(t);
    if (!t->own.data || cn_ranks_rank(t->ranks) > 0) return CN_OK;
    return cn_cache_build(t->ctx, t->be, t->base, t->own.data, &o, &t->own.cache);
}

cn_status cn_trainer_encode_data(cn_trainer *t)
{
    const cn_cache_options o = cn_trainer_cache_options(t);
    CN_TRY(cn_cache_build(t->ctx, t->be, t->base, &t->train_view, &o, &t->cache));
    t->held_first = t->n_train;
    t->held_cache = t->cache;
    CN_TRY(encode_held(t));
    return encode_given(t);
}

static cn_batcher_options batcher_options(const cn_trainer *t)
{
    return (cn_batcher_options){.cache = t->cache,
                                .data = t->data,
                                .prompter = t->prompter,
                                .schedule = t->schedule,
                                .objective = &t->objective,
                                .scaling_factor = t->base->vae.scaling_factor,
                                .skip_bad = t->o.skip_bad_data,
                                .mirror = t->mirror,
                                .count = t->n_train};
}

cn_batcher_options cn_trainer_held_options(const cn_trainer *t)
{
    cn_batcher_options o = batcher_options(t);
    o.objective = NULL;
    o.cache = t->held_cache;
    o.data = t->held_data ? t->held_data : t->data;
    o.first = t->held_first;
    o.count = t->n_held;
    return o;
}

static cn_shuffle_options shuffle_options(const cn_trainer *t)
{
    return (cn_shuffle_options){.seed = t->o.seed,
                                .buckets = t->buckets,
                                .unit = cn_trainer_unit(t),
                                .timesteps = t->objective.timesteps,
                                .empty_proportion = t->o.proportion_empty_prompts,
                                .flips = t->mirror != CN_MIRROR_OFF,
                                .crops = t->o.random_crop};
}

cn_status cn_trainer_start_loader(cn_trainer *t)
{
    const cn_loader_options o = {
        .batcher = batcher_options(t),
        .shuffle = shuffle_options(t),
        .workers = (int)t->o.dataloader_num_workers,
        .batch = t->o.train_batch_size,
        .first_sample = t->state.samples + cn_ranks_rank(t->ranks) * t->o.train_batch_size,
        .stride = cn_trainer_unit(t)};
    if (t->vae) CN_TRY(cn_batcher_create(t->ctx, &o.batcher, &t->mixer));
    return cn_loader_create(t->ctx, &o, &t->loader);
}

size_t cn_trainer_loader_bytes(const cn_trainer *t, const cn_train_options *o)
{
    const cn_train_bucket *largest = &t->buckets->list[cn_buckets_largest(t->buckets)];
    const cn_shuffle_options shuffle = shuffle_options(t);
    const int64_t factor = cn_vae_factor(&t->base->vae);
    const int64_t pixels = CN_MAX(largest->width * largest->height, o->resolution * o->resolution);
    const int64_t latent = pixels / (factor * factor) * t->base->vae.latent_channels;
    const int64_t context = cn_base_context_length(t->base) * cn_base_context_dim(t->base);
    const int64_t workers = o->dataloader_num_workers;
    const int64_t batchers = CN_MAX(workers, 1) + (o->validation_steps > 0) + (t->vae != NULL);
    const int64_t tokens = t->text[0] ? t->prompter->ids : 0;
    const size_t pass = cn_pass_bytes(latent, context, tokens, pixels, t->vae != NULL);
    /* a batcher: a pass of one, moments, noise, latent, and the pictures it decodes */
    const size_t batcher = pass + (size_t)(4 * latent) * sizeof(float) + (size_t)pixels * 6;
    return (size_t)(cn_loader_passes((int)workers) * o->train_batch_size) * pass +
           (size_t)batchers * batcher + cn_shuffle_bytes(&shuffle);
}
