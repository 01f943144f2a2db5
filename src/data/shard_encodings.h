/* SPDX-License-Identifier: Apache-2.0 */
/* shard_encodings.h - encoded pictures and captions beside their pairs in tar shards, so that
 * training has nothing to encode.
 *
 *   KEY.vae-512x512-HASH.npy    the VAE's moments of the picture, fitted to that size as training
 *                               does it: float32 [h,w,2c]
 *   KEY.text-HASH.npy           what the text encoders make of the caption: float32 [L,D], with a
 *                               pooled output [L*D+P]
 *   KEY.tokens.npy              the tokens that it is made of: int32 [L], of two encoders [2,L]
 *   DIR/empty.text-HASH.npy     the same of the empty caption
 *
 * HASH tells the weights (cn_base_fingerprint), so encodings of another model are never taken for
 * this one's, whatever became of the shards; captions that were changed have other tokens. That a
 * picture is still the one that was encoded is not checked.
 */
#ifndef CN_DATA_SHARD_ENCODINGS_H
#define CN_DATA_SHARD_ENCODINGS_H

#include "data/buckets.h"
#include "data/prompt_list.h"
#include "data/prompter.h"
#include "data/shard_writer.h"

#define CN_SHARD_TOKENS "tokens.npy"

/* Of what the model's encoders are. */
typedef struct cn_encoder_hashes {
    uint64_t vae, text;
} cn_encoder_hashes;

/* Reads their weights. */
cn_status cn_encoder_hashes_of(cn_ctx *ctx, const cn_base *base, cn_encoder_hashes *out) CN_CHECKED;

/* Endings of the members. */
void cn_shard_moments_ending(const cn_encoder_hashes *h, int64_t width, int64_t height,
                             char out[CN_SHARD_ENDING_BYTES]);
void cn_shard_text_ending(const cn_encoder_hashes *h, char out[CN_SHARD_ENDING_BYTES]);
/* The file of the empty caption's. */
cn_status cn_shard_empty_path(cn_ctx *ctx, const char *dir, const cn_encoder_hashes *h,
                              char out[CN_PATH_BYTES]) CN_CHECKED;

typedef struct cn_shard_encodings cn_shard_encodings;

/* What a data set's shards hold of them; *out NULL: nothing. d outlives it. base NULL: they are to
 * be copied, whatever model they are of. */
cn_status cn_shard_encodings_open(cn_ctx *ctx, const cn_dataset *d, const cn_base *base,
                                  cn_shard_encodings **out) CN_CHECKED;
void cn_shard_encodings_close(cn_shard_encodings *e);

/* Whether pair i of d has any; adds what it has to a sample, members as they are. */
bool cn_shard_encodings_has(const cn_shard_encodings *e, const cn_dataset *d, int64_t i);
cn_status cn_shard_encodings_add(const cn_shard_encodings *e, cn_ctx *ctx, const cn_dataset *d,
                                 int64_t i, cn_shard_sample *out) CN_CHECKED;
/* The empty captions' files to another folder, but those that are there. */
cn_status cn_shard_encodings_copy_empty(const cn_shard_encodings *e, cn_ctx *ctx,
                                        const char *dir) CN_CHECKED;

/* Why the encodings of a data set can't be taken; "": they can. */
typedef struct cn_encodings_refusal {
    char why[256];
} cn_encodings_refusal;

/* Whether all pictures of d, the data set or a slice of it, are there in their buckets' sizes. */
void cn_shard_encodings_check_pictures(const cn_shard_encodings *e, const cn_dataset *d,
                                       const cn_buckets *buckets, cn_encodings_refusal *out);
/* Whether all its prompts are, and are of the tokens that the prompter makes of them. */
cn_status cn_shard_encodings_check_texts(cn_ctx *ctx, const cn_shard_encodings *e,
                                         const cn_dataset *d, const cn_prompt_list *prompts,
                                         const cn_prompter *prompter,
                                         cn_encodings_refusal *out) CN_CHECKED;

/* The n values of picture i of d, of its caption; of the empty one. CN_EFORMAT where a member is
 * damaged. Any number of threads, a context each. */
cn_status cn_shard_encodings_moments(const cn_shard_encodings *e, cn_ctx *ctx, const cn_dataset *d,
                                     int64_t i, int64_t n, float *out) CN_CHECKED;
cn_status cn_shard_encodings_text(const cn_shard_encodings *e, cn_ctx *ctx, const cn_dataset *d,
                                  int64_t i, int64_t n, float *out) CN_CHECKED;
cn_status cn_shard_encodings_empty(const cn_shard_encodings *e, cn_ctx *ctx, int64_t n,
                                   float *out) CN_CHECKED;

#endif
