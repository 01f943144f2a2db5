/* SPDX-License-Identifier: Apache-2.0 */
/* text.h - prompts to the features that the UNet attends to. */
#ifndef CN_DIFFUSE_TEXT_H
#define CN_DIFFUSE_TEXT_H

#include "diffuse/prompt.h"
#include "graph/plan.h"
#include "model/nets/nets.h"

/* skip: the text encoder's last layers left out. load fills the parameters once they are declared
 * and laid out, if any has no values yet; NULL when they all have. */
typedef struct cn_text_spec {
    const cn_clip_config *clip;
    cn_params *params;
    const cn_tokenizer *tokenizer;
    int skip;
    cn_status (*load)(void *user, cn_params *params);
    void *user;
} cn_text_spec;

/* The features of n prompts, [n, chunks * length, hidden], in a new array (cn_free). Those with
 * fewer chunks than the longest, or than min_chunks, get empty ones. Weights scale a token's
 * features; each chunk's mean over all n prompts then goes back to what it was, as in
 * stable-diffusion-webui. */
cn_status cn_text_encode_prompts(cn_ctx *ctx, cn_backend *be, const cn_text_spec *spec,
                                 cn_prompt *const *prompts, int n, int min_chunks,
                                 float **out) CN_CHECKED;
/* The same from plain texts, one chunk each. A text that is too long is cut, which is logged. */
cn_status cn_text_encode(cn_ctx *ctx, cn_backend *be, const cn_text_spec *spec,
                         const char *const *texts, int n, float **out) CN_CHECKED;
/* Declares the parameters and tells what encoding n prompts at once takes beside them; reads
 * nothing. */
cn_status cn_text_plan(cn_ctx *ctx, cn_backend *be, const cn_text_spec *spec, int n,
                       cn_plan_info *out) CN_CHECKED;
/* Logs what of the prompt was left out, if anything. */
void cn_prompt_report(cn_ctx *ctx, const cn_prompt *p);

#endif
