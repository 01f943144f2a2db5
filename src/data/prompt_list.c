/* SPDX-License-Identifier: Apache-2.0 */
/* prompt_list.c - see prompt_list.h. */
#include "data/prompt_list.h"

#include <stdlib.h>
#include <string.h>

void cn_prompt_list_destroy(cn_prompt_list *p)
{
    if (!p) return;
    cn_free(p->context_of);
    cn_free(p->item_of);
    cn_free(p);
}

typedef struct prompt_ref {
    uint64_t hash;
    int64_t item; /* -1: it can't be read */
} prompt_ref;

static int by_hash(const void *a, const void *b)
{
    const prompt_ref *x = a, *y = b;
    if (x->hash != y->hash) return x->hash < y->hash ? -1 : 1;
    return x->item < y->item ? -1 : x->item > y->item;
}

static cn_status hash_prompt(cn_ctx *own, const cn_dataset *d, int64_t i, prompt_ref *out)
{
    cn_dataset_item item;
    CN_TRY(cn_dataset_get(own, d, i, true, &item));
    *out = (prompt_ref){cn_hash64(item.prompt, strlen(item.prompt)), i};
    cn_dataset_item_free(&item);
    return CN_OK;
}

enum { AT_A_TIME = 256 };

/* The prompts of items at.. with a context of their own, so that threads' messages don't mix. */
static cn_status hash_some(cn_ctx *ctx, const cn_dataset *d, bool skip_bad, int64_t at,
                           prompt_ref *refs)
{
    cn_status first = CN_OK;
    cn_ctx *own = cn_ctx_fork(ctx, false);
    if (!own) return cn_fail(ctx, CN_ENOMEM, "no memory to read prompts");
    for (int64_t i = at; i < CN_MIN(at + AT_A_TIME, d->n) && first == CN_OK; i++) {
        const cn_status s = hash_prompt(own, d, i, &refs[i]);
        if (s == CN_OK) continue;
        refs[i] = (prompt_ref){0, -1};
        if (skip_bad && s != CN_ENOMEM)
            cn_log(ctx, CN_LOG_WARN, "%s; the pair is left out", cn_error(own));
        else
#pragma omp critical(cn_prompt_list_status)
            first = cn_fail(ctx, s, "%s", cn_error(own));
    }
    cn_ctx_destroy(own);
    return first;
}

static cn_status hash_prompts(cn_ctx *ctx, const cn_dataset *d, bool skip_bad, prompt_ref *refs)
{
    cn_status first = CN_OK;
#pragma omp parallel for schedule(dynamic, 1) num_threads(cn_threads(ctx))
    for (int64_t at = 0; at < d->n; at += AT_A_TIME) {
        cn_status s;
#pragma omp atomic read
        s = first;
        if (s == CN_OK) s = hash_some(ctx, d, skip_bad, at, refs);
        if (s != CN_OK) {
#pragma omp atomic write
            first = s;
        }
    }
    return first;
}

/* Moves the readable ones to the front; how many. */
static int64_t compact(prompt_ref *refs, int64_t n)
{
    int64_t kept = 0;
    for (int64_t i = 0; i < n; i++)
        if (refs[i].item >= 0) refs[kept++] = refs[i];
    return kept;
}

/* Whether ref i of the sorted ones is the first with a prompt that isn't empty. */
static bool is_new(const prompt_ref *refs, int64_t i, uint64_t empty)
{
    return refs[i].hash != empty && (!i || refs[i].hash != refs[i - 1].hash);
}

static cn_status number(cn_ctx *ctx, cn_prompt_list *p, const prompt_ref *refs, int64_t n,
                        uint64_t empty)
{
    int64_t last = 0;
    p->n = 1;
    for (int64_t i = 0; i < n; i++) p->n += is_new(refs, i, empty);
    p->item_of = cn_alloc_array(ctx, (size_t)p->n, sizeof *p->item_of);
    if (!p->item_of) return CN_ENOMEM;
    p->item_of[0] = -1;
    for (int64_t i = 0; i < n; i++) {
        if (is_new(refs, i, empty)) p->item_of[++last] = refs[i].item;
        p->context_of[refs[i].item] = refs[i].hash == empty ? 0 : (int32_t)last;
    }
    return CN_OK;
}

static cn_status create(cn_ctx *ctx, const cn_dataset *d, bool skip_bad, prompt_ref *refs,
                        cn_prompt_list *p)
{
    const uint64_t empty = cn_hash64("", 0);
    if (d->n > INT32_MAX)
        return cn_fail(ctx, CN_EINVAL, "%s: more than %d pairs", d->dir, INT32_MAX);
    p->context_of = cn_alloc_array(ctx, (size_t)d->n, sizeof *p->context_of);
    if (!refs || !p->context_of) return CN_ENOMEM;
    CN_TRY(hash_prompts(ctx, d, skip_bad, refs));
    const int64_t n = compact(refs, d->n);
    if (n) qsort(refs, (size_t)n, sizeof *refs, by_hash);
    p->items = d->n;
    memset(p->context_of, 0xff, (size_t)d->n * sizeof *p->context_of); /* -1 */
    return number(ctx, p, refs, n, empty);
}

cn_status cn_prompt_list_create(cn_ctx *ctx, const cn_dataset *d, bool skip_bad,
                                cn_prompt_list **out)
{
    cn_prompt_list *p = cn_alloc0(ctx, sizeof *p);
    if (!p) return CN_ENOMEM;
    prompt_ref *refs = cn_alloc_array(ctx, (size_t)CN_MAX(d->n, 1), sizeof *refs);
    const cn_status s = create(ctx, d, skip_bad, refs, p);
    cn_free(refs);
    if (s != CN_OK) {
        cn_prompt_list_destroy(p);
        return s;
    }
    *out = p;
    return CN_OK;
}
