/* SPDX-License-Identifier: Apache-2.0 */
/* lora_choice.h - which LoRAs a picture wants: those of the pipeline and those its prompt names. */
#ifndef CN_PIPELINE_LORA_CHOICE_H
#define CN_PIPELINE_LORA_CHOICE_H

#include "model/checkpoint/lora.h"
#include "model/checkpoint/weights.h"

/* The set that base->loras points to. The first n_fixed are the pipeline's own. */
typedef struct cn_pipeline_loras {
    cn_lora_set set;
    int n_fixed;
    char *dir;    /* where a prompt's are; NULL: a prompt may name none */
    char *wanted; /* the tags of the prompt that the set belongs to; NULL: none */
} cn_pipeline_loras;

/* Opens the pipeline's own and has the base merge them while it loads. */
cn_status cn_pipeline_loras_open(cn_ctx *ctx, cn_base *base, const cn_pipeline_options *o,
                                 cn_pipeline_loras *out) CN_CHECKED;
/* Takes <lora:name:weight> out of a prompt: the rest goes to *text (cn_free), and the set becomes
 * that of the prompt. *changed: weights that are loaded are those of another set. In a plain prompt
 * without a folder of LoRAs such a tag is text. */
cn_status cn_pipeline_loras_choose(cn_ctx *ctx, cn_base *base, cn_pipeline_loras *l,
                                   const char *prompt, bool webui, char **text,
                                   bool *changed) CN_CHECKED;
void cn_pipeline_loras_close(cn_pipeline_loras *l);

#endif
