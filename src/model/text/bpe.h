/* SPDX-License-Identifier: Apache-2.0 */
/* bpe.h - training a byte-pair vocabulary in CLIP's conventions, for a small model of one's own. */
#ifndef CN_MODEL_TEXT_BPE_H
#define CN_MODEL_TEXT_BPE_H

#include "base/base.h"

/* 256 bytes, 256 bytes at a word's end, 2 special tokens. */
enum { CN_BPE_MIN_VOCAB = 514 };

/* Writes vocab.json, merges.txt, tokenizer_config.json and special_tokens_map.json into out_dir
 * (made if missing), which cn_tokenizer_open and transformers' CLIPTokenizer read. Ids: bytes in
 * CLIP's order, the same at a word's end, merges, <|startoftext|>, <|endoftext|>. vocab_size >=
 * CN_BPE_MIN_VOCAB; it is smaller, with a log line, when the texts have no pair left that occurs
 * twice. model_max_length >= 2 (77 for SD) is what transformers truncates to. The same texts in any
 * order give the same files: among pairs that are equally frequent the one with the lower ids goes
 * first. Texts are 0-terminated, at most 64 KiB each. Time grows as distinct words x merges: meant
 * for vocabularies of some thousand tokens. */
cn_status cn_bpe_train(cn_ctx *ctx, const char *const *texts, int64_t n, int64_t vocab_size,
                       int64_t model_max_length, const char *out_dir) CN_CHECKED;

#endif
