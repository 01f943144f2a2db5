/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer.h - CLIP's byte-pair tokenizer: a prompt to token ids, as transformers 5's
 * CLIPTokenizer.
 *
 * Works with any vocabulary in CLIP's conventions. The ids of <|startoftext|> (BOS) and
 * <|endoftext|> (EOS, and what unknown bytes become) are looked up by name. A tokenizer never
 * changes once it is shared, so many threads may encode with it at once, each with its own cn_ctx.
 */
#ifndef CN_MODEL_TEXT_TOKENIZER_H
#define CN_MODEL_TEXT_TOKENIZER_H

#include "base/base.h"

typedef struct cn_tokenizer cn_tokenizer;

/* What to tell a user whose model comes without a tokenizer. */
#define CN_TOKENIZER_HINT                                                  \
    "give --tokenizer DIR (vocab.json and merges.txt, tokenizer.json, or " \
    "bpe_simple_vocab_16e6.txt.gz; tools/clip-vocab.sh fetches it)"

#define CN_TOKENIZER_JSON "tokenizer.json"

/* path: a folder with vocab.json and merges.txt (pad token from tokenizer_config.json or
 * special_tokens_map.json beside them, EOS without), a folder with tokenizer.json of the tokenizers
 * package or with bpe_simple_vocab_16e6.txt.gz, or one of these two files itself, the latter packed
 * or not. Free with cn_tokenizer_close. */
cn_status cn_tokenizer_open(cn_ctx *ctx, const char *path, cn_tokenizer **out) CN_CHECKED;
/* The same from the content of vocab.json and merges.txt; pad_token NULL = EOS. */
cn_status cn_tokenizer_open_memory(cn_ctx *ctx, const char *vocab_json, size_t vocab_n,
                                   const char *merges, size_t merges_n, const char *pad_token,
                                   cn_tokenizer **out) CN_CHECKED;
void cn_tokenizer_close(cn_tokenizer *t);
/* Whether a file is tokenizer.json rather than CLIP's list, by its first character. */
bool cn_tokenizer_is_json(const char *path);

/* Number of tokens, special ones included; ids are 0 .. size-1. */
int64_t cn_tokenizer_size(const cn_tokenizer *t);
int32_t cn_tokenizer_bos(const cn_tokenizer *t);
int32_t cn_tokenizer_eos(const cn_tokenizer *t);
int32_t cn_tokenizer_pad(const cn_tokenizer *t);
/* Chooses another token for padding; only before the tokenizer is shared. 0 <= id < size. */
void cn_tokenizer_set_pad(cn_tokenizer *t, int32_t id);

/* ids[max_length] = BOS, tokens, EOS, padding; a longer text loses tokens at its end and keeps EOS.
 * max_length >= 2. *n_untruncated (may be NULL) = length with BOS and EOS before truncation. Broken
 * UTF-8 counts as U+FFFD. CN_EINVAL above 64 KiB of text. */
cn_status cn_tokenizer_encode(cn_ctx *ctx, const cn_tokenizer *t, const char *text, int32_t *ids,
                              int64_t max_length, int64_t *n_untruncated) CN_CHECKED;
/* All tokens with BOS and EOS; free *ids with cn_free. */
cn_status cn_tokenizer_encode_all(cn_ctx *ctx, const cn_tokenizer *t, const char *text,
                                  int32_t **ids, int64_t *n) CN_CHECKED;
/* The same for a text of n_bytes bytes, which may hold NUL. */
cn_status cn_tokenizer_encode_bytes(cn_ctx *ctx, const cn_tokenizer *t, const char *text,
                                    size_t n_bytes, int32_t **ids, int64_t *n) CN_CHECKED;
/* Truncates or pads n ids (with BOS and EOS) to max_length >= 2 of them. */
void cn_tokenizer_fit(const cn_tokenizer *t, const int32_t *ids, int64_t n, int32_t *out,
                      int64_t max_length);
/* Appends the text of n ids to *out: a blank between words, BOS, EOS and PAD left out. */
cn_status cn_tokenizer_decode(cn_ctx *ctx, const cn_tokenizer *t, const int32_t *ids, int64_t n,
                              cn_str *out) CN_CHECKED;

#endif
