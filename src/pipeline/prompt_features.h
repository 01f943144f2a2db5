/* SPDX-License-Identifier: Apache-2.0 */
/* prompt_features.h - a picture's two prompts to the features of every step. */
#ifndef CN_PIPELINE_PROMPT_FEATURES_H
#define CN_PIPELINE_PROMPT_FEATURES_H

#include "diffuse/sampling.h"
#include "diffuse/text.h"
#include "model/checkpoint/family.h"

/* Features of a prompt's stages, [n, length, width], and up to which step each holds. */
typedef struct cn_staged_text {
    float *features;
    float *pooled; /* [n, width of it]; NULL: the encoders have none */
    int *until;
    int n;
} cn_staged_text;

enum { CN_COND, CN_UNCOND, CN_TEXT_SIDES };
enum { CN_MAX_PASSES = 2 };

typedef struct cn_pictured_text {
    /* By pass and side. Empty: CN_UNCOND without guidance, and what a second pass has as the
     * first. */
    cn_staged_text staged[CN_MAX_PASSES][CN_TEXT_SIDES];
    int64_t length; /* tokens, the same for all: 77 times the number of chunks */
    cn_prompt_usage prompt, negative;
} cn_pictured_text;

typedef struct cn_prompt_job {
    const cn_generate_options *options;
    const char *prompt; /* for options->prompt: LoRAs' tags taken out */
    bool guidance;
    bool zeros_for_no_negative; /* the family's (cn_base) */
    cn_text_spec text;          /* skip is set here */
} cn_prompt_job;

/* "plain" or "webui"; NULL: plain. */
cn_status cn_prompt_style_find(cn_ctx *ctx, const char *name, cn_prompt_style *out) CN_CHECKED;
/* Both prompts as the text encoder gets them; no weights are read. */
typedef struct cn_prompts cn_prompts;
cn_status cn_prompts_read(cn_ctx *ctx, const cn_prompt_job *job, cn_prompts **out) CN_CHECKED;
void cn_prompts_destroy(cn_prompts *p);
/* Tokens of the features, the same for both: chunks times the encoders' positions. */
int64_t cn_prompts_length(const cn_prompts *p, const cn_base *b);
/* Declares the encoder's parameters and tells what encoding takes beside them. */
cn_status cn_prompts_plan(cn_ctx *ctx, cn_backend *be, cn_prompt_job *job, const cn_prompts *p,
                          cn_plan_info *out) CN_CHECKED;
/* *out: cn_pictured_text_free, also after a failure. */
cn_status cn_prompts_encode(cn_ctx *ctx, cn_backend *be, cn_prompt_job *job, const cn_prompts *p,
                            cn_pictured_text *out) CN_CHECKED;
void cn_pictured_text_free(cn_pictured_text *t);
/* What pass 0 or 1 draws with. */
const cn_staged_text *cn_pictured_text_of(const cn_pictured_text *t, int pass, int half);

#endif
