/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_tokenizer.c - three readers of untrusted bytes. The first byte chooses: text to encode with
 * a small vocabulary, vocab.json, or merges.txt (the other of the two files is then a good one).
 */
#include "model/text/tokenizer.h"

#include <string.h>

static const char good_vocab[] = "{\"a\":0,\"b\":1,\"a</w>\":2,\"b</w>\":3,\"ab\":4,\"ab</w>\":5,"
                                 "\"aba</w>\":6,\"'</w>\":7,\"s</w>\":8,\"<|startoftext|>\":9,"
                                 "\"<|endoftext|>\":10}";
static const char good_merges[] = "#version: 0.2\na b\na b</w>\nab a</w>\n";

static void encode(cn_ctx *ctx, const cn_tokenizer *t, const char *text, size_t n)
{
    int32_t *ids;
    int64_t n_ids;
    if (cn_tokenizer_encode_bytes(ctx, t, text, n, &ids, &n_ids) != CN_OK) return;
    int32_t fitted[8];
    cn_tokenizer_fit(t, ids, n_ids, fitted, 8);
    cn_str back = {0};
    if (cn_tokenizer_decode(ctx, t, ids, n_ids, &back) != CN_OK || ids[0] != cn_tokenizer_bos(t) ||
        fitted[0] != ids[0]) {
        __builtin_trap();
    }
    cn_str_free(&back);
    cn_free(ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    cn_ctx *ctx = cn_ctx_create(1);
    if (!ctx) return 0;
    const char *rest = (const char *)data + 1, *vocab = good_vocab, *merges = good_merges;
    size_t n = size - 1, vocab_n = sizeof good_vocab - 1, merges_n = sizeof good_merges - 1;
    if (data[0] % 3 == 1) {
        vocab = rest;
        vocab_n = n;
    } else if (data[0] % 3 == 2) {
        merges = rest;
        merges_n = n;
    }
    cn_tokenizer *t = NULL;
    if (cn_tokenizer_open_memory(ctx, vocab, vocab_n, merges, merges_n, NULL, &t) == CN_OK) {
        encode(ctx, t, rest, n);
        encode(ctx, t, "abab aba's", 10);
    }
    cn_tokenizer_close(t);
    cn_ctx_destroy(ctx);
    return 0;
}
