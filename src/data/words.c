/* SPDX-License-Identifier: Apache-2.0 */
/* words.c - see words.h: a hash table with open addressing that takes no more once it is half
 * full. */
#include "data/words.h"

#include <ctype.h>
#include <string.h>

enum { SLOTS = 1 << 17, MOST = SLOTS / 2 };

struct cn_words {
    int64_t distinct;
    cn_word_count slots[SLOTS];
};

cn_status cn_words_create(cn_ctx *ctx, cn_words **out)
{
    return (*out = cn_alloc0(ctx, sizeof **out)) ? CN_OK : CN_ENOMEM;
}

void cn_words_destroy(cn_words *w)
{
    cn_free(w);
}

static void count(cn_words *w, const char *word)
{
    size_t at = cn_hash64(word, strlen(word)) % SLOTS;
    while (w->slots[at].n && strcmp(w->slots[at].word, word) != 0) at = (at + 1) % SLOTS;
    if (!w->slots[at].n) {
        if (w->distinct == MOST) return;
        w->distinct++;
        memcpy(w->slots[at].word, word, strlen(word) + 1);
    }
    w->slots[at].n++;
}

static bool is_letter(char c)
{
    return isalnum((unsigned char)c) || (c & 0x80);
}

int64_t cn_words_add(cn_words *w, const char *text)
{
    char word[CN_WORD_BYTES];
    int64_t n = 0;
    while (*text) {
        size_t k = 0;
        for (; *text && is_letter(*text); text++)
            if (k + 1 < sizeof word) word[k++] = (char)tolower((unsigned char)*text);
        if (k) {
            word[k] = 0;
            count(w, word);
            n++;
        } else {
            text++;
        }
    }
    return n;
}

static bool before(const cn_word_count *a, const cn_word_count *b)
{
    return a->n != b->n ? a->n > b->n : strcmp(a->word, b->word) < 0;
}

int cn_words_top(const cn_words *w, cn_word_count *out, int n)
{
    int have = 0;
    for (size_t i = 0; i < SLOTS; i++) {
        if (!w->slots[i].n) continue;
        int at = have;
        while (at > 0 && before(&w->slots[i], &out[at - 1])) at--;
        if (at == n) continue;
        const int moved = (have < n ? have : n - 1) - at;
        memmove(out + at + 1, out + at, (size_t)moved * sizeof *out);
        out[at] = w->slots[i];
        if (have < n) have++;
    }
    return have;
}

int64_t cn_words_distinct(const cn_words *w)
{
    return w->distinct;
}
