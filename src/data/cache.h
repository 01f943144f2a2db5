/* SPDX-License-Identifier: Apache-2.0 */
/* cache.h - what the encoders make of a data set: latents and texts, encoded once before training.
 *
 * Latents are kept as the VAE's moments, so every step draws its own sample, as diffusers does; the
 * encoders are loaded, used and freed here. Prompts are encoded once per distinct text. With
 * cache_dir both stay on disk: a file per size of pictures, in it a picture found again by its file
 * (path, place in a tar, length, time of change) and how it is cropped; a prompt by its tokens and
 * the text encoder's file. What tar shards hold encoded already (shard_encodings.h) is read from
 * there whenever it is asked for.
 */
#ifndef CN_DATA_CACHE_H
#define CN_DATA_CACHE_H

#include "model/checkpoint/weights.h"
#include "data/buckets.h"
#include "data/prompt_list.h"
#include "data/prompter.h"
#include "data/shard_encodings.h"
#include "dist/ranks.h"
#include "data/store.h"

/* What of a data set is read from its shards. */
typedef struct cn_cache_ready {
    const cn_shard_encodings *encodings; /* NULL: nothing */
    const cn_dataset *data;              /* whose pairs are meant; outlives the cache */
    bool pictures, texts;                /* all of them */
} cn_cache_ready;

typedef struct cn_cache {
    int64_t n;
    cn_cache_ready ready;
    const cn_buckets *buckets;     /* the sizes, and which picture has which */
    const cn_prompt_list *prompts; /* NULL: no texts */
    bool mirrored;                 /* every picture is there mirrored too */
    int64_t width, height;         /* pixels, of the size that has most of them */
    int64_t latent_w, latent_h, latent_c, factor;
    int64_t tokens;     /* of a context */
    int64_t text;       /* values kept of a text (cn_base_text_elements) */
    int64_t ids;        /* tokens that a prompt is made of, of every text encoder */
    cn_store **moments; /* [sizes] of records [h,w,2c] F32; none for a pair that was left out; NULL:
                           no pictures. Of ready pictures the list is there without stores */
    /* `text` F32 per distinct prompt, [L,D] first; of ready texts the empty prompt's alone; NULL:
     * no texts */
    cn_store *contexts;
} cn_cache;

/* what: "text", "latents" or "reading the cache". */
typedef void (*cn_cache_progress)(void *user, const char *what, int64_t done, int64_t total);

typedef struct cn_cache_options {
    const char *dir;               /* for what doesn't fit into memory */
    const char *cache_dir;         /* where it stays for later runs; NULL: it doesn't */
    size_t memory_limit_bytes;     /* for pictures, and for texts, without cache_dir */
    const cn_buckets *buckets;     /* these three outlive the cache */
    const cn_prompt_list *prompts; /* NULL: texts aren't encoded */
    const cn_prompter *prompter;
    cn_cache_ready ready;
    bool pictures;   /* false: they aren't encoded */
    bool mirrored;   /* pictures are encoded mirrored too */
    bool skip_bad;   /* pairs that can't be read are named in the log and left out */
    cn_ranks *ranks; /* that encode together, through cache_dir; NULL: this process alone */
    cn_cache_progress progress;
    void *progress_user;
} cn_cache_options;

/* CN_ECANCELLED after cn_cancel. */
cn_status cn_cache_build(cn_ctx *ctx, cn_backend *be, const cn_base *base, const cn_dataset *d,
                         const cn_cache_options *options, cn_cache **out) CN_CHECKED;
void cn_cache_destroy(cn_cache *c);
/* Whether all of pair i is there. */
bool cn_cache_has(const cn_cache *c, int64_t i);
/* Its picture's moments, of the picture's own size; its prompt's context (i < 0: the empty
 * prompt's). */
cn_status cn_cache_moments(const cn_cache *c, cn_ctx *ctx, int64_t i, bool mirrored,
                           float *out) CN_CHECKED;
cn_status cn_cache_context(const cn_cache *c, cn_ctx *ctx, int64_t i, float *out) CN_CHECKED;

/* What cn_cache_build will take, without doing it. */
typedef struct cn_cache_memory {
    size_t kept_bytes;    /* by the cache, from then on */
    size_t encoder_bytes; /* by the larger of both encoders while it works */
} cn_cache_memory;
cn_status cn_cache_plan(cn_ctx *ctx, cn_backend *be, const cn_base *base, const cn_dataset *d,
                        const cn_cache_options *options, cn_cache_memory *out) CN_CHECKED;

#endif
