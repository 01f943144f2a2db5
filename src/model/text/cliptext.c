/* SPDX-License-Identifier: Apache-2.0 */
/* cliptext.c - see cliptext.h.
 *
 * The reference also collapses white space to one blank. That can't be seen afterwards, since words
 * never hold white space, so it is left out here.
 */
#include "model/text/cliptext.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* \s spelled out as Unicode's White_Space: PCRE2's own also takes U+180E. */
#define SPACE                                                                                   \
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}" \
    "\\x{205f}\\x{3000}"
#define WORD_PATTERN                                                                         \
    "<\\|startoftext\\|>|<\\|endoftext\\|>|'s|'t|'re|'ve|'m|'ll|'d|\\p{L}++|\\p{N}|[^" SPACE \
    "\\p{L}\\p{N}]++"

struct cn_splitter {
    pcre2_code *word;
};

cn_status cn_splitter_open(cn_ctx *ctx, cn_splitter **out)
{
    cn_splitter *s = cn_alloc0(ctx, sizeof *s);
    if (!s) return CN_ENOMEM;
    int error;
    PCRE2_SIZE at;
    s->word = pcre2_compile((PCRE2_SPTR)WORD_PATTERN, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP,
                            &error, &at, NULL);
    if (!s->word) {
        cn_splitter_close(s);
        return cn_fail(ctx, CN_EINTERNAL,
                       "PCRE2 refuses the tokenizer's pattern at %zu (error %d); it must be built "
                       "with Unicode support",
                       (size_t)at, error);
    }
    *out = s;
    return CN_OK;
}

void cn_splitter_close(cn_splitter *s)
{
    if (!s) return;
    pcre2_code_free(s->word);
    cn_free(s);
}

static void add_code_point(cn_str *out, int32_t code_point)
{
    utf8proc_uint8_t utf8[4];
    utf8proc_ssize_t n = utf8proc_encode_char(code_point, utf8);
    cn_str_add(out, (const char *)utf8, (size_t)n);
}

/* Each byte that starts no valid sequence becomes U+FFFD. */
static void repair_utf8(const char *text, size_t n, cn_str *out)
{
    for (size_t i = 0; i < n;) {
        int32_t c;
        utf8proc_ssize_t used =
            utf8proc_iterate((const utf8proc_uint8_t *)text + i, (utf8proc_ssize_t)(n - i), &c);
        add_code_point(out, used > 0 ? c : 0xfffd);
        i += used > 0 ? (size_t)used : 1;
    }
}

/* Character by character, so no final sigma. U+0130 is the one whose lower case is two
 * characters. */
static void lower_utf8(const utf8proc_uint8_t *text, utf8proc_ssize_t n, cn_str *out)
{
    for (utf8proc_ssize_t i = 0; i < n;) {
        int32_t c;
        utf8proc_ssize_t used = utf8proc_iterate(text + i, n - i, &c);
        if (used <= 0) break;
        if (c == 0x130) {
            cn_str_adds(out, "i\xcc\x87");
        } else {
            add_code_point(out, utf8proc_tolower(c));
        }
        i += used;
    }
}

static cn_status normalize(cn_ctx *ctx, const char *text, size_t n, cn_str *out)
{
    cn_str valid = {0};
    repair_utf8(text, n, &valid);
    cn_status s = CN_OK;
    if (valid.failed) {
        s = cn_fail(ctx, CN_ENOMEM, "no memory for a prompt of %zu bytes", n);
    } else if (valid.len) {
        utf8proc_uint8_t *nfc = NULL;
        utf8proc_ssize_t nfc_n =
            utf8proc_map((const utf8proc_uint8_t *)valid.data, (utf8proc_ssize_t)valid.len, &nfc,
                         UTF8PROC_STABLE | UTF8PROC_COMPOSE);
        if (nfc_n < 0) {
            s = cn_fail(ctx, nfc_n == UTF8PROC_ERROR_NOMEM ? CN_ENOMEM : CN_EINTERNAL,
                        "can't normalize a prompt: %s", utf8proc_errmsg(nfc_n));
        } else {
            lower_utf8(nfc, nfc_n, out);
            if (out->failed) s = cn_fail(ctx, CN_ENOMEM, "no memory for a prompt of %zu bytes", n);
        }
        free(nfc);
    }
    cn_str_free(&valid);
    return s;
}

/* A special token's name in other letters ("<|ENDOFTEXT|>") is one match, which the reference's
 * byte-level step then splits where letters begin and end. */
static cn_status emit(const char *s, size_t n, cn_status (*word)(void *, const char *, size_t),
                      void *user)
{
    if (n <= 4 || (s[2] != 's' && s[2] != 'e') || s[0] != '<') return word(user, s, n);
    CN_TRY(word(user, s, 2));
    CN_TRY(word(user, s + 2, n - 4));
    return word(user, s + n - 2, 2);
}

static cn_status each_match(cn_ctx *ctx, const cn_splitter *sp, pcre2_match_data *match,
                            const cn_str *text, cn_status (*word)(void *, const char *, size_t),
                            void *user)
{
    for (size_t at = 0; at < text->len;) {
        int rc = pcre2_match(sp->word, (PCRE2_SPTR)text->data, text->len, at, PCRE2_NO_UTF_CHECK,
                             match, NULL);
        if (rc == PCRE2_ERROR_NOMATCH) break;
        if (rc < 0) {
            return cn_fail(ctx, rc == PCRE2_ERROR_NOMEMORY ? CN_ENOMEM : CN_EINTERNAL,
                           "PCRE2 can't split a prompt of %zu bytes (error %d)", text->len, rc);
        }
        const PCRE2_SIZE *span = pcre2_get_ovector_pointer(match);
        CN_TRY(emit(text->data + span[0], span[1] - span[0], word, user));
        at = span[1];
    }
    return CN_OK;
}

cn_status cn_splitter_words(cn_ctx *ctx, const cn_splitter *sp, const char *text, size_t n_bytes,
                            cn_status (*word)(void *user, const char *bytes, size_t n), void *user)
{
    if (n_bytes > CN_CLIP_TEXT_MAX_BYTES) {
        return cn_fail(ctx, CN_EINVAL, "a prompt of %zu bytes is too long: at most %d", n_bytes,
                       CN_CLIP_TEXT_MAX_BYTES);
    }
    cn_str clean = {0};
    pcre2_match_data *match = NULL;
    cn_status s = normalize(ctx, text, n_bytes, &clean);
    if (s != CN_OK) goto done;
    match = pcre2_match_data_create(1, NULL);
    if (!match) {
        s = cn_fail(ctx, CN_ENOMEM, "no memory to split a prompt");
        goto done;
    }
    s = each_match(ctx, sp, match, &clean, word, user);
done:
    pcre2_match_data_free(match);
    cn_str_free(&clean);
    return s;
}

/* Printable Latin-1 stands for itself, the other bytes for U+0100 and up, in order. */
static bool is_printable(int b)
{
    return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
}

void cn_byte_symbols_init(cn_byte_symbols *s)
{
    memset(s, 0, sizeof *s);
    int n = 0;
    for (int b = 0; b < 256; b++) {
        if (is_printable(b)) s->order[n++] = (uint8_t)b;
    }
    int n_printable = n;
    for (int b = 0; b < 256; b++) {
        if (!is_printable(b)) s->order[n++] = (uint8_t)b;
    }
    for (int i = 0; i < 256; i++) {
        int b = s->order[i];
        int32_t c = i < n_printable ? b : 256 + i - n_printable;
        utf8proc_encode_char(c, (utf8proc_uint8_t *)s->symbol[b]);
    }
}

size_t cn_byte_token(const cn_byte_symbols *s, int b, bool at_end, char out[CN_BYTE_TOKEN_BYTES])
{
    size_t n = strlen(s->symbol[b]);
    memset(out, 0, CN_BYTE_TOKEN_BYTES);
    memcpy(out, s->symbol[b], n);
    if (!at_end) return n;
    memcpy(out + n, CN_CLIP_WORD_END, sizeof CN_CLIP_WORD_END);
    return n + sizeof CN_CLIP_WORD_END - 1;
}

cn_status cn_clip_add_bytes(cn_ctx *ctx, cn_symtab *tokens)
{
    cn_byte_symbols symbols;
    cn_byte_symbols_init(&symbols);
    for (int i = 0; i < 512; i++) {
        char name[CN_BYTE_TOKEN_BYTES];
        size_t n = cn_byte_token(&symbols, symbols.order[i % 256], i >= 256, name);
        if (cn_symtab_add(ctx, tokens, name, n) < 0) return CN_ENOMEM;
    }
    return CN_OK;
}

cn_status cn_clip_add_specials(cn_ctx *ctx, cn_symtab *tokens)
{
    bool added = cn_symtab_add(ctx, tokens, CN_CLIP_BOS, sizeof CN_CLIP_BOS - 1) >= 0 &&
                 cn_symtab_add(ctx, tokens, CN_CLIP_EOS, sizeof CN_CLIP_EOS - 1) >= 0;
    return added ? CN_OK : CN_ENOMEM;
}

int cn_byte_of_symbol(int32_t c)
{
    if (c < 0 || c >= 256 + 68) return -1;
    if (c < 256) return is_printable(c) ? c : -1;
    int rank = c - 256;
    for (int b = 0; b < 256; b++) {
        if (!is_printable(b) && rank-- == 0) return b;
    }
    return -1;
}
