/* SPDX-License-Identifier: Apache-2.0 */
/* prompt.h - a prompt to the tokens, weights and vectors that the text encoder gets.
 *
 * Two styles. Plain, as diffusers reads prompts: every character counts as text, one chunk of 77
 * tokens, the rest is cut off. Webui, as stable-diffusion-webui does (modules/prompt_parser.py,
 * sd_hijack_clip.py, "Original" emphasis): (word), (word:1.2) and [word] weigh words, BREAK begins
 * a new chunk, prompts of more than 75 tokens go on in further chunks, [from:to:when] and [a|b]
 * change the prompt while sampling. Prompts joined by AND are not read: the word is text.
 */
#ifndef CN_DIFFUSE_PROMPT_H
#define CN_DIFFUSE_PROMPT_H

#include "model/text/inversion.h"
#include "model/text/tokenizer.h"

typedef enum cn_prompt_style { CN_PROMPT_PLAIN, CN_PROMPT_WEBUI } cn_prompt_style;

/* --- prompt_weights.c ------------------------------------------------------------------------- */

/* A stretch of text of one weight. "BREAK" with weight -1 begins a new chunk. */
typedef struct cn_prompt_piece {
    cn_str text;
    double weight;
} cn_prompt_piece;

/* The pieces of a webui prompt, at least one. *out: cn_prompt_pieces_free. CN_EINVAL for a weight
 * that is no number, "(a:1.2.3)". */
cn_status cn_prompt_weigh(cn_ctx *ctx, const char *text, cn_prompt_piece **out, int *n) CN_CHECKED;
void cn_prompt_pieces_free(cn_prompt_piece *pieces, int n);
bool cn_prompt_is_break(const cn_prompt_piece *p);

/* --- prompt_schedule.c ------------------------------------------------------------------------ */

/* The prompt that holds up to and with step `until`, counted from 0 as webui counts: it then takes
 * step 0 and 1 both for the first. */
typedef struct cn_prompt_stage {
    int until;
    char *text;
} cn_prompt_stage;

/* A webui prompt's stages over `steps` steps, at least one, by `until`; the last one's is `steps`.
 * A prompt whose brackets don't parse is one stage, as it stands. earlier: the first pass's steps
 * in a second pass, else 0; parts of the steps then count from 1, steps from there on. *out:
 * cn_prompt_stages_free. */
cn_status cn_prompt_schedule(cn_ctx *ctx, const char *text, int steps, int earlier,
                             cn_prompt_stage **out, int *n) CN_CHECKED;
void cn_prompt_stages_free(cn_prompt_stage *stages, int n);

/* --- prompt.c --------------------------------------------------------------------------------- */

/* What the text encoder gets: n_chunks rows of `length` tokens, each from BOS to EOS and
 * padding. */
typedef struct cn_prompt {
    int64_t length;
    int n_chunks;
    int32_t *ids;   /* [n_chunks, length] */
    float *weights; /* the same, 1 where nothing else was asked for */
    const float *
        *vector;    /* the same: NULL, or what stands for the token's row (of the embeddings) */
    int64_t tokens; /* of the text, BOS and EOS not counted */
    int64_t cut;    /* how many of them are left out */
    char *cut_text; /* these, decoded; NULL: none */
    bool weighted;  /* some weight isn't 1 */
} cn_prompt;

/* length: 77. embeddings may be NULL; must outlive *out. *out: cn_prompt_destroy. */
cn_status cn_prompt_read(cn_ctx *ctx, const cn_tokenizer *t, const cn_inversions *embeddings,
                         cn_prompt_style style, const char *text, int64_t length,
                         cn_prompt **out) CN_CHECKED;
void cn_prompt_destroy(cn_prompt *p);
/* Adds chunks of an empty text until there are n_chunks. */
cn_status cn_prompt_pad(cn_ctx *ctx, const cn_tokenizer *t, cn_prompt *p, int n_chunks) CN_CHECKED;

#endif
