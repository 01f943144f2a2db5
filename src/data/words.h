/* SPDX-License-Identifier: Apache-2.0 */
/* words.h - how often words stand in many texts, in bounded memory. */
#ifndef CN_DATA_WORDS_H
#define CN_DATA_WORDS_H

#include "base/base.h"

enum { CN_WORD_BYTES = 24 };

typedef struct cn_word_count {
    char word[CN_WORD_BYTES]; /* small letters; longer ones are cut */
    int64_t n;
} cn_word_count;

typedef struct cn_words cn_words;

/* Room for 65,536 different words (3 MB), counted from when they are first met; others are only
 * counted as words. */
cn_status cn_words_create(cn_ctx *ctx, cn_words **out) CN_CHECKED;
void cn_words_destroy(cn_words *w);
/* Counts a text's words: letters, digits and bytes beyond ASCII, divided by anything else. The
 * number of them. */
int64_t cn_words_add(cn_words *w, const char *text);
/* The n most frequent ones, of equal ones in the alphabet's order; how many there are. */
int cn_words_top(const cn_words *w, cn_word_count *out, int n);
/* Different words, those of the room. */
int64_t cn_words_distinct(const cn_words *w);

#endif
