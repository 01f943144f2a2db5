/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer_internal.h - what tokenizer.c (encoding), tokenizer_open.c and tokenizer_json.c
 * (loading) share. */
#ifndef CN_MODEL_TEXT_TOKENIZER_INTERNAL_H
#define CN_MODEL_TEXT_TOKENIZER_INTERNAL_H

#include "model/text/cliptext.h"
#include "model/text/symtab.h"
#include "model/text/tokenizer.h"

#include <jansson.h>

enum { CN_TOKENIZER_MAX_BYTES = 64 << 20 }; /* of any of its files */

/* Two neighbouring tokens that become one; lower ranks go first. */
typedef struct merge {
    int32_t left, right; /* left = -1: a free slot */
    int32_t rank, merged;
} merge;

struct cn_tokenizer {
    cn_symtab tokens; /* number = id */
    merge *merges;    /* open addressing over (left, right); a power of two, at most half full */
    size_t n_merge_slots;
    int32_t bos, eos, pad;
    int32_t byte_id[256];     /* of a byte inside a word */
    int32_t byte_end_id[256]; /* of a word's last byte */
    cn_splitter *splitter;
};

/* vocab: an object of tokens and their ids; merges: lines of "LEFT RIGHT"; pad_token NULL = EOS. */
cn_status cn_tokenizer_of(cn_ctx *ctx, json_t *vocab, const char *merges, size_t merges_n,
                          const char *pad_token, cn_tokenizer **out) CN_CHECKED;
/* pad_token of tokenizer_config.json or special_tokens_map.json in the folder: a string, or an
 * object with "content". *out stays NULL where neither has one; free with cn_free. */
cn_status cn_tokenizer_read_pad(cn_ctx *ctx, const char *dir, char **out) CN_CHECKED;
/* The file of the tokenizers package, which has vocabulary and merges inside. */
cn_status cn_tokenizer_open_json(cn_ctx *ctx, const char *path, cn_tokenizer **out) CN_CHECKED;

/* The slot of the pair, or the free one where it belongs. */
static inline merge *merge_slot(const cn_tokenizer *t, int32_t left, int32_t right)
{
    uint64_t h = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9e3779b97f4a7c15u;
    size_t mask = t->n_merge_slots - 1, i = (size_t)(h >> 24) & mask;
    while (t->merges[i].left >= 0 && (t->merges[i].left != left || t->merges[i].right != right))
        i = (i + 1) & mask;
    return &t->merges[i];
}

#endif
