/* SPDX-License-Identifier: Apache-2.0 */
/* str.c - a growing byte string, and formatting into a fixed buffer.
 *
 * A cn_str starts as {0}. Its failure is sticky: append as much as is wanted and look at `failed`
 * once.
 */
#include "base/base.h"

#include <string.h>

/* Room for `more` bytes and the closing 0. */
static bool reserve(cn_str *s, size_t more)
{
    if (s->failed) return false;
    size_t need;
    if (__builtin_add_overflow(s->len, more, &need) || need > PTRDIFF_MAX / 2) {
        s->failed = true;
        return false;
    }
    need++;
    if (need <= s->cap) return true;
    size_t cap = CN_MAX(need, CN_MAX(s->cap * 2, (size_t)64));
    char *data = cn_regrow(NULL, s->data, s->len, cap);
    if (!data) {
        s->failed = true;
        return false;
    }
    s->data = data;
    s->cap = cap;
    return true;
}

void cn_str_add(cn_str *s, const char *bytes, size_t n)
{
    if (!reserve(s, n)) return;
    if (n) memcpy(s->data + s->len, bytes, n);
    s->len += n;
    s->data[s->len] = 0;
}

void cn_str_adds(cn_str *s, const char *text)
{
    cn_str_add(s, text, strlen(text));
}

void cn_str_addf(cn_str *s, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0) {
        s->failed = true;
    } else if (reserve(s, (size_t)n)) {
        vsnprintf(s->data + s->len, (size_t)n + 1, fmt, again);
        s->len += (size_t)n;
    }
    va_end(again);
}

void cn_str_free(cn_str *s)
{
    cn_free(s->data);
    *s = (cn_str){0};
}

cn_status cn_format(cn_ctx *ctx, char *out, size_t cap, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(out, cap, fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < cap) return CN_OK;
    return cn_fail(ctx, CN_EINVAL,
                   "path or text too long: \"%.60s...\" needs %d bytes, at most %zu fit",
                   cap ? out : "", n, cap ? cap - 1 : 0);
}

static cn_status fail_word(cn_ctx *ctx, const char *option, const char *word,
                           const char *const *words)
{
    cn_str all = {0};
    for (int i = 0; words[i]; i++)
        cn_str_addf(&all, "%s%s", !i ? "" : words[i + 1] ? ", " : " or ", words[i]);
    const cn_status s = cn_fail(ctx, CN_EINVAL, "--%s %s: must be %s", option, word,
                                all.data ? all.data : "another word");
    cn_str_free(&all);
    return s;
}

cn_status cn_word_find(cn_ctx *ctx, const char *option, const char *word, const char *const *words,
                       int *out)
{
    for (int i = 0; words[i]; i++) {
        if (word && strcmp(word, words[i]) != 0) continue;
        *out = i;
        return CN_OK;
    }
    return fail_word(ctx, option, word, words);
}
