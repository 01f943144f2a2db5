/* SPDX-License-Identifier: Apache-2.0 */
/* cliptext.h - what CLIP's tokenizer does to a text before byte-pair encoding: repair of broken
 * UTF-8, NFC, lower case, words; and the printable characters that stand for bytes in its
 * vocabulary.
 *
 * Follows transformers 5's CLIPTokenizer (normalizers NFC, whitespace, Lowercase; its Split
 * pattern).
 */
#ifndef CN_MODEL_TEXT_CLIPTEXT_H
#define CN_MODEL_TEXT_CLIPTEXT_H

#include "model/text/symtab.h"

/* Longest text taken. Putting combining marks in order takes quadratic time in the worst case. */
enum { CN_CLIP_TEXT_MAX_BYTES = 65536 };

#define CN_CLIP_BOS      "<|startoftext|>"
#define CN_CLIP_EOS      "<|endoftext|>"
#define CN_CLIP_WORD_END "</w>"

typedef struct cn_splitter cn_splitter;

/* Thread-safe after opening. */
cn_status cn_splitter_open(cn_ctx *ctx, cn_splitter **out) CN_CHECKED;
void cn_splitter_close(cn_splitter *s);
/* Calls word(user, bytes, n) for each word of the text in order; n >= 1, valid UTF-8. A status
 * other than CN_OK from it ends the walk and is returned. Bytes that aren't UTF-8 count as
 * U+FFFD. */
cn_status cn_splitter_words(cn_ctx *ctx, const cn_splitter *s, const char *text, size_t n_bytes,
                            cn_status (*word)(void *user, const char *bytes, size_t n),
                            void *user) CN_CHECKED;

/* symbol[b] = the character that stands for byte b, in UTF-8, 0-terminated; order[i] = the byte
 * whose symbol has id i in CLIP's vocabulary (bytes_to_unicode of openai/CLIP's
 * simple_tokenizer.py). */
typedef struct cn_byte_symbols {
    char symbol[256][4];
    uint8_t order[256];
} cn_byte_symbols;
void cn_byte_symbols_init(cn_byte_symbols *s);
/* Adds the 512 tokens each vocabulary in CLIP's order starts with: bytes, bytes at a word's end. */
cn_status cn_clip_add_bytes(cn_ctx *ctx, cn_symtab *tokens) CN_CHECKED;
/* Adds the two it ends with. */
cn_status cn_clip_add_specials(cn_ctx *ctx, cn_symtab *tokens) CN_CHECKED;
/* Writes the token of byte b, at a word's end or inside it, 0-terminated; its length. */
enum { CN_BYTE_TOKEN_BYTES = 8 };
size_t cn_byte_token(const cn_byte_symbols *s, int b, bool at_end, char out[CN_BYTE_TOKEN_BYTES]);
/* The byte that a code point stands for, or -1. */
int cn_byte_of_symbol(int32_t code_point);

#endif
