/* cache.h - what the encoders make of a data set: latents and texts, encoded once before training.
 *
 * Latents are kept as the VAE's moments, so every step draws its own sample, as diffusers does; the
 * encoders are loaded, used and freed here. Prompts are encoded once per distinct text. With cache_dir both stay
 * on disk: a picture is found again by its file (path, place in a tar, length, time of change), the size that it
 * is fitted to and the VAE's file, a prompt by its tokens and the text encoder's file.
 */
#ifndef CN_TRAIN_CACHE_H
#define CN_TRAIN_CACHE_H

#include "model/weights.h"
#include "train/dataset.h"
#include "train/ranks.h"
#include "train/store.h"

typedef struct cn_cache {
    int64_t n, width, height; /* pixels */
    int64_t latent_w, latent_h, latent_c;
    int64_t tokens, context_dim;
    int64_t records;     /* n, or 2 n: the mirrored pictures' behind the others */
    cn_store *moments;   /* [h,w,2c] F32 per record; none for a pair that skip_bad left out */
    cn_store *contexts;  /* [L,D] F32 per distinct prompt; 0 is the empty prompt's */
    int64_t *context_of; /* [n] */
    int64_t n_contexts;
} cn_cache;

/* what: "text", "latents" or "reading the cache". */
typedef void (*cn_cache_progress)(void *user, const char *what, int64_t done, int64_t total);

typedef struct cn_cache_options {
    const char *tokenizer_dir; /* NULL: the base's own */
    const char *dir;           /* for what doesn't fit into memory */
    const char *cache_dir;     /* where it stays for later runs; NULL: it doesn't */
    size_t memory_limit_bytes; /* per kind of record, without cache_dir */
    int64_t width, height;     /* multiples of the VAE's factor */
    bool mirrored;             /* pictures are encoded mirrored too */
    bool skip_bad;             /* pairs that can't be read are named in the log and left out */
    cn_ranks *ranks; /* that encode together, through cache_dir; NULL: this process alone */
    cn_cache_progress progress;
    void *progress_user;
} cn_cache_options;

/* CN_ECANCELLED after cn_cancel. */
cn_status cn_cache_build(cn_ctx *ctx, cn_backend *be, const cn_base *base, const cn_dataset *d,
                         const cn_cache_options *options, cn_cache **out) CN_CHECKED;
void cn_cache_destroy(cn_cache *c);

/* What cn_cache_build will take, without doing it. */
typedef struct cn_cache_memory {
    int64_t contexts;     /* distinct prompts, the empty one too */
    size_t kept_bytes;    /* by the cache, from then on */
    size_t encoder_bytes; /* by the larger of both encoders while it works */
} cn_cache_memory;
cn_status cn_cache_plan(cn_ctx *ctx, cn_backend *be, const cn_base *base, const cn_dataset *d,
                        const cn_cache_options *options, cn_cache_memory *out) CN_CHECKED;

#endif
