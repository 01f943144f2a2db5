/* feed.c - a run's data: opened and split, encoded, in the order of its samples. */
#include "train/trainer.h"

static cn_dataset_options dataset_options(const cn_train_options *o, const char *dir)
{
    return (cn_dataset_options){.dir = dir,
                                .image_column = o->image_column,
                                .conditioning_image_column = o->conditioning_image_column,
                                .caption_column = o->caption_column,
                                .caption_extension = o->caption_extension};
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

cn_status cn_trainer_open_data(cn_trainer *t)
{
    cn_dataset_options o = dataset_options(&t->o, t->o.train_data_dir);
    o.conditioning_dir = t->o.conditioning_data_dir;
    CN_TRY(cn_dataset_open(t->ctx, &o, &t->data));
    cn_log(t->ctx, CN_LOG_INFO, "data: %s", t->data->found);
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
    if (t->held_data) {
        t->held_first = 0;
        t->held_cache = NULL;
        CN_TRY(build_cache(t, t->held_data, &t->held_cache));
    }
    CN_TRY(cn_shuffle_create(t->ctx, t->o.seed, t->n_train, &t->shuffle));
    return cn_batcher_create(t->ctx, t->cache, t->schedule, t->base->vae.scaling_factor,
                             &t->batcher);
}
