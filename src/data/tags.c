/* SPDX-License-Identifier: Apache-2.0 */
/* tags.c - see tags.h. */
#include "data/tags.h"

#include <string.h>

/* A piece of the caption. */
typedef struct tag {
    const char *text;
    size_t n;
} tag;

typedef struct tags {
    tag *list;
    int64_t n, kept; /* the first `kept` stay, as do those from `last` on */
    int64_t last;
} tags;

bool cn_tags_vary(const cn_tag_rules *r)
{
    return r->shuffle || r->dropout > 0;
}

static bool is_blank(char c)
{
    return c && strchr(" \t\r\n\v\f", c);
}

/* Adds what lies between begin and end, without blanks around it. */
static void add(tags *t, const char *begin, const char *end)
{
    while (begin < end && is_blank(*begin)) begin++;
    while (end > begin && is_blank(end[-1])) end--;
    if (begin < end) t->list[t->n++] = (tag){begin, (size_t)(end - begin)};
}

/* The first place of `words` between begin and end; end: there is none. */
static const char *find(const char *begin, const char *end, const char *words)
{
    const char *at = memmem(begin, (size_t)(end - begin), words, strlen(words));
    return at ? at : end;
}

static void cut(tags *t, const char *begin, const char *end, const char *separator)
{
    const size_t step = strlen(separator);
    for (;;) {
        const char *at = find(begin, end, separator);
        add(t, begin, at);
        if (at == end) return;
        begin = at + step;
    }
}

static void split(tags *t, const cn_tag_rules *r, const char *caption)
{
    const char *end = caption + strlen(caption), *words = r->keep_separator;
    const char *first = words && words[0] ? find(caption, end, words) : end;
    if (first == end) {
        cut(t, caption, end, r->separator);
        t->kept = CN_MIN(r->keep, t->n);
        t->last = t->n;
        return;
    }
    const size_t step = strlen(words);
    const char *second = find(first + step, end, words);
    cut(t, caption, first, r->separator);
    t->kept = t->n;
    cut(t, first + step, second, r->separator);
    t->last = t->n;
    if (second < end) cut(t, second + step, end, r->separator);
}

static void shuffle(tags *t, cn_rng *rng)
{
    for (int64_t i = t->last - 1; i > t->kept; i--) {
        const int64_t k = t->kept + cn_rng_below(rng, i - t->kept + 1);
        const tag moved = t->list[i];
        t->list[i] = t->list[k];
        t->list[k] = moved;
    }
}

cn_status cn_tags_write(cn_ctx *ctx, const cn_tag_rules *r, const char *caption, cn_rng *rng,
                        cn_str *out)
{
    /* every tag has a character, and but for the last one a separator's behind it */
    tags t = {.list = cn_alloc_array(ctx, strlen(caption) / 2 + 1, sizeof *t.list)};
    bool any = false;
    if (!t.list) return CN_ENOMEM;
    split(&t, r, caption);
    if (rng && r->shuffle) shuffle(&t, rng);
    for (int64_t i = 0; i < t.n; i++) {
        const bool stays = i < t.kept || i >= t.last || !rng || r->dropout <= 0;
        if (!stays && (double)cn_rng_uniform(rng) < r->dropout) continue;
        if (any) cn_str_adds(out, ", ");
        cn_str_add(out, t.list[i].text, t.list[i].n);
        any = true;
    }
    cn_free(t.list);
    if (!any) cn_str_adds(out, "");
    return out->failed ? cn_fail(ctx, CN_ENOMEM, "no memory for a caption") : CN_OK;
}
