/* SPDX-License-Identifier: Apache-2.0 */
/* inversion.h - textual inversion: words that stand for learned vectors instead of rows of the
 * token table.
 *
 * Files: stable-diffusion-webui's .pt (string_to_param) and .safetensors (emb_params), diffusers'
 * learned_embeds (.bin, .safetensors), whose tensor is named after the word. Told by content. The
 * word is the file's name without its ending; of diffusers' files the tensor's name as well.
 */
#ifndef CN_MODEL_TEXT_INVERSION_H
#define CN_MODEL_TEXT_INVERSION_H

#include "io/tensors.h"
#include "model/text/tokenizer.h"

typedef struct cn_inversion {
    char *word;
    int32_t *ids; /* the word's tokens, n_ids >= 1 */
    int64_t n_ids;
    float *vectors; /* [n, width] */
    int64_t n, width;
} cn_inversion;

typedef struct cn_inversions {
    cn_inversion *list;
    int n, cap;
} cn_inversions;

/* Reads a file. part: which of its vectors, where files have several encoders' ("clip_g"); NULL:
 * they have one's. width: the text encoder's (CN_EMISMATCH for vectors of another). */
cn_status cn_inversions_add(cn_ctx *ctx, cn_inversions *e, const cn_tokenizer *t, const char *path,
                            const char *part, int64_t width) CN_CHECKED;
/* Every .pt, .bin and .safetensors file of a folder; what is no embedding or doesn't fit is logged
 * and left out. */
cn_status cn_inversions_add_dir(cn_ctx *ctx, cn_inversions *e, const cn_tokenizer *t,
                                const char *dir, const char *part, int64_t width) CN_CHECKED;
/* Those that a LoRA's file holds, named bundle_emb.WORD.emb_params or .string_to_param.*; as of a
 * folder, what doesn't fit is logged and left out. path: for messages. */
cn_status cn_inversions_add_bundled(cn_ctx *ctx, cn_inversions *e, const cn_tokenizer *t,
                                    const cn_tensors *file, const char *path,
                                    int64_t width) CN_CHECKED;
/* Drops all but the first n. */
void cn_inversions_truncate(cn_inversions *e, int n);
void cn_inversions_free(cn_inversions *e);

/* The embedding whose word's tokens stand at ids[0..n), the longest of several; NULL. */
const cn_inversion *cn_inversions_at_ids(const cn_inversions *e, const int32_t *ids, int64_t n);
/* The one whose word stands at text[at] (letters A-Z as a-z), the longest of several; NULL. A word
 * that begins or ends with a letter or digit is not found inside a longer word. */
const cn_inversion *cn_inversions_at_text(const cn_inversions *e, const char *text, size_t n,
                                          size_t at);

#endif
