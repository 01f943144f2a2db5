/* SPDX-License-Identifier: Apache-2.0 */
/* text.h - prompts to the features that the UNet attends to. */
#ifndef CN_DIFFUSE_TEXT_H
#define CN_DIFFUSE_TEXT_H

#include "diffuse/prompt.h"
#include "graph/plan.h"
#include "model/nets/nets.h"

typedef struct cn_text_encoder {
    const cn_clip_config *clip;
    cn_params *params;
    const cn_tokenizer *tokenizer;
    const cn_inversions *embeddings; /* words with vectors of their own; NULL: none */
} cn_text_encoder;

/* A base's text encoders, whose features stand side by side; all take equally many tokens. skip:
 * their last layers left out. load fills an encoder's parameters once they are declared and laid
 * out, if any has no values yet; NULL when they all have. */
typedef struct cn_text_spec {
    cn_text_encoder encoders[CN_MAX_TEXT_ENCODERS];
    int n;
    int skip;
    cn_status (*load)(void *user, cn_params *params);
    void *user;
} cn_text_spec;

/* Tokens of a chunk, and the width of all encoders' features. */
int64_t cn_text_length(const cn_text_spec *spec);
int64_t cn_text_width(const cn_text_spec *spec);
/* Width of the pooled output, 0 without one. */
int64_t cn_text_pooled_width(const cn_text_spec *spec);

/* A text as each encoder gets it. */
typedef struct cn_text {
    cn_prompt *of[CN_MAX_TEXT_ENCODERS];
} cn_text;

/* second: what the encoders behind the first get instead; NULL: the same. *out: cn_text_free, also
 * after a failure. */
cn_status cn_text_read(cn_ctx *ctx, const cn_text_spec *spec, cn_prompt_style style,
                       const char *text, const char *second, cn_text *out) CN_CHECKED;
void cn_text_free(cn_text *t);

/* The features of n texts, [n, chunks * length, width], in a new array (cn_free). Those with fewer
 * chunks than the longest, or than min_chunks, get empty ones. Weights scale a token's features;
 * each chunk's mean over all n texts then goes back to what it was, encoder by encoder, as in
 * stable-diffusion-webui. pooled, where the encoders have such an output: [n,
 * cn_text_pooled_width], of each text's first chunk, without weights, a new array too; NULL: not
 * wanted. */
cn_status cn_text_encode_read(cn_ctx *ctx, cn_backend *be, const cn_text_spec *spec,
                              const cn_text *texts, int n, int min_chunks, float **out,
                              float **pooled) CN_CHECKED;
/* The same from plain texts, one chunk each. A text that is too long is cut, which is logged. */
cn_status cn_text_encode(cn_ctx *ctx, cn_backend *be, const cn_text_spec *spec,
                         const char *const *texts, int n, float **out) CN_CHECKED;
/* Declares the parameters and tells what encoding n texts at once takes beside them, encoder by
 * encoder; reads nothing. */
cn_status cn_text_plan(cn_ctx *ctx, cn_backend *be, const cn_text_spec *spec, int n,
                       cn_plan_info *out) CN_CHECKED;
/* Logs what of the prompt was left out, if anything. */
void cn_prompt_report(cn_ctx *ctx, const cn_prompt *p);

#endif
