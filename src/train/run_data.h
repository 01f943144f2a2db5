/* SPDX-License-Identifier: Apache-2.0 */
/* run_data.h - a run's data: opened and split, encoded, made ready in the order of its samples. */
#ifndef CN_TRAIN_RUN_DATA_H
#define CN_TRAIN_RUN_DATA_H

#include "data/loader.h"
#include "train/run_setup.h"

/* What --validation-image and --validation-prompt want drawn. */
typedef struct cn_validation_prompts {
    cn_dataset *data; /* NULL: nothing */
    cn_buckets *sizes;
    cn_prompt_list *prompts;
    cn_cache *cache; /* of the prompts alone */
} cn_validation_prompts;

/* Parts point at each other: it stays where it was opened. */
typedef struct cn_run_data {
    cn_dataset *data, *held_data;     /* held_data NULL: the last n_held items of data */
    cn_dataset train_view, held_view; /* data's parts; held_data may be the latter. What is cached
                                         is of train_view: all pairs, or those not held out */
    int64_t n_train, n_held;
    cn_buckets *buckets;    /* of the n_train pictures */
    cn_buckets *held_sizes; /* of held_data's, one size */
    cn_prompter *prompter;
    cn_prompt_list *prompts, *held_prompts; /* prompts NULL: texts are encoded in their step */
    cn_validation_prompts own;              /* the user's own conditions */
    cn_shard_encodings *encodings;          /* that the shards of `data` hold; NULL */
    cn_cache_ready ready, held_ready;       /* what is taken of them */
    cn_mirror mirror;                       /* what --random-flip does to conditions */
    /* once encoded */
    cn_cache *cache, *held_cache; /* held_cache may be cache */
    int64_t held_first;           /* first held-out item in held_cache */
    /* once passes are made */
    cn_loader *loader;
    cn_batcher *mixer; /* of passes whose pictures are encoded in their step; NULL */
} cn_run_data;

/* Where training pairs are. */
cn_dataset_options cn_run_dataset_options(const cn_train_options *o);
/* Opens the data sets and decides what is held out. *d is empty; closed after a failure too. */
cn_status cn_run_data_open(const cn_run_setup *r, cn_run_data *d) CN_CHECKED;
void cn_run_data_close(cn_run_data *d);
/* Encodes what is to be encoded before the first step. */
cn_status cn_run_data_encode(const cn_run_setup *r, cn_run_data *d) CN_CHECKED;
/* Starts the threads that make passes ready, from this sample of all ranks' on. */
cn_status cn_run_data_start_loader(const cn_run_setup *r, int64_t first_sample,
                                   cn_run_data *d) CN_CHECKED;
/* Memory of those passes and of validation's. */
size_t cn_run_data_loader_bytes(const cn_run_setup *r, const cn_run_data *d);
/* How validation's batcher gets held-out pairs. */
cn_batcher_options cn_run_data_held_options(const cn_run_setup *r, const cn_run_data *d);
/* The caches' options: sizes, limits, where they tell their progress; of held_data when there is
 * one; of the user's own prompts. */
cn_cache_options cn_run_data_cache_options(const cn_run_setup *r, const cn_run_data *d);
cn_cache_options cn_run_data_held_cache_options(const cn_run_setup *r, const cn_run_data *d);
cn_cache_options cn_run_data_prompts_cache_options(const cn_run_setup *r, const cn_run_data *d);
/* How many pictures a validation draws: those held out, then those given. */
int64_t cn_run_data_drawings(const cn_run_data *d);

#endif
