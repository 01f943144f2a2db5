/* feed.c - a run's data: opened and split, encoded, made ready in the order of its samples. */
#include "train/condition.h"
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

/* How many pairs are held out, and how many are left to learn from. */
static cn_status split_data(cn_trainer *t)
{
    const cn_train_options *o = &t->o;
    t->n_train = t->data->n;
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
    return CN_OK;
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

/* What mirroring means for these conditions: as told, as the data set's maker noted, or as they look. */
static cn_status settle_flip(cn_trainer *t)
{
    char noted[256] = "";
    bool black_and_white = false;
    if (!t->o.random_flip) return CN_OK;
    if (t->o.conditioning_kind) return cn_mirror_find(t->ctx, t->o.conditioning_kind, &t->mirror);
    CN_TRY(cn_condition_text(t->ctx, t->o.train_data_dir, noted));
    if (noted[0] && cn_mirror_find(t->ctx, noted, &t->mirror) == CN_OK) return CN_OK;
    if (!noted[0]) CN_TRY(look_at_conditions(t, &black_and_white));
    if (black_and_white)
        t->mirror = CN_MIRROR_PLAIN;
    else
        cn_log(t->ctx, CN_LOG_WARN,
               "%s: --random-flip is off: what the conditions are isn't known; "
               "--conditioning-kind says it (depth, normal, segmentation, ...)",
               t->o.train_data_dir);
    return CN_OK;
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
    return split_data(t);
}

static void cache_progress(void *user, const char *what, int64_t done, int64_t total)
{
    const cn_trainer *t = user;
    if (t->callbacks.progress)
        t->callbacks.progress(t->callbacks.user,
                              &(cn_train_progress){.stage = what, .done = done, .total = total});
}

cn_cache_options cn_trainer_cache_options(cn_trainer *t)
{
    return (cn_cache_options){.tokenizer_dir = t->o.tokenizer,
                              .dir = t->o.output_dir,
                              .cache_dir = t->o.cache_dir,
                              .skip_bad = t->o.skip_bad_data,
                              .mirrored = t->mirror != CN_MIRROR_OFF,
                              .ranks = t->ranks,
                              .memory_limit_bytes = (size_t)1 << 30,
                              .width = t->o.resolution,
                              .height = t->o.resolution,
                              .progress = cache_progress,
                              .progress_user = t};
}

static cn_status build_cache(cn_trainer *t, const cn_dataset *d, cn_cache **out)
{
    const cn_cache_options o = cn_trainer_cache_options(t);
    return cn_cache_build(t->ctx, t->be, t->base, d, &o, out);
}

cn_status cn_trainer_encode_data(cn_trainer *t)
{
    CN_TRY(build_cache(t, t->data, &t->cache));
    t->held_first = t->n_train;
    t->held_cache = t->cache;
    if (!t->held_data) return CN_OK;
    t->held_first = 0;
    t->held_cache = NULL;
    return build_cache(t, t->held_data, &t->held_cache);
}

static cn_batcher_options batcher_options(const cn_trainer *t)
{
    return (cn_batcher_options){.cache = t->cache,
                                .data = t->data,
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

cn_status cn_trainer_start_loader(cn_trainer *t)
{
    const cn_loader_options o = {
        .batcher = batcher_options(t),
        .workers = (int)t->o.dataloader_num_workers,
        .batch = t->o.train_batch_size,
        .first_sample = t->state.samples + cn_ranks_rank(t->ranks) * t->o.train_batch_size,
        .stride = t->o.train_batch_size * cn_ranks_count(t->ranks),
        .seed = t->o.seed,
        .empty_proportion = t->o.proportion_empty_prompts};
    return cn_loader_create(t->ctx, &o, &t->loader);
}

size_t cn_trainer_loader_bytes(const cn_trainer *t, const cn_train_options *o)
{
    const int64_t factor = cn_vae_factor(&t->base->vae), pixels = o->resolution * o->resolution;
    const int64_t latent = pixels / (factor * factor) * t->base->vae.latent_channels;
    const int64_t context = t->base->clip.max_positions * t->base->clip.hidden;
    const int64_t workers = o->dataloader_num_workers;
    const int64_t batchers = CN_MAX(workers, 1) + (o->validation_steps > 0);
    const size_t pass = cn_pass_bytes(latent, context, pixels);
    /* a batcher: a pass of one, moments, noise, latent, and the picture it decodes */
    const size_t batcher = pass + (size_t)(4 * latent) * sizeof(float) + (size_t)pixels * 3;
    return (size_t)(cn_loader_passes((int)workers) * o->train_batch_size) * pass +
           (size_t)batchers * batcher;
}
