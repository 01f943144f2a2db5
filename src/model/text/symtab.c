/* SPDX-License-Identifier: Apache-2.0 */
/* symtab.c - see symtab.h. Hashing is FNV-1a with linear probing, at most half full. */
#include "model/text/symtab.h"

#include <string.h>

void cn_symtab_free(cn_symtab *t)
{
    cn_free(t->bytes);
    cn_free(t->start);
    cn_free(t->slots);
    memset(t, 0, sizeof *t);
}

const char *cn_symtab_get(const cn_symtab *t, int32_t i, size_t *n)
{
    if (n) *n = t->start[i + 1] - t->start[i] - 1;
    return t->bytes + t->start[i];
}

/* The slot that holds the string, or the free one where it belongs. Needs n_slots > 0. */
static size_t find_slot(const cn_symtab *t, const char *s, size_t n)
{
    size_t mask = t->n_slots - 1, i = (size_t)cn_hash64(s, n) & mask;
    for (; t->slots[i] >= 0; i = (i + 1) & mask) {
        size_t have_n;
        const char *have = cn_symtab_get(t, t->slots[i], &have_n);
        if (have_n == n && (n == 0 || memcmp(have, s, n) == 0)) break;
    }
    return i;
}

int32_t cn_symtab_find(const cn_symtab *t, const char *s, size_t n)
{
    return t->n_slots ? t->slots[find_slot(t, s, n)] : -1;
}

static bool grow_slots(cn_ctx *ctx, cn_symtab *t)
{
    size_t n_slots = t->n_slots ? t->n_slots * 2 : 64;
    int32_t *slots = cn_alloc_array(ctx, n_slots, sizeof *slots);
    if (!slots) return false;
    memset(slots, 0xff, n_slots * sizeof *slots);
    cn_free(t->slots);
    t->slots = slots;
    t->n_slots = n_slots;
    for (int32_t i = 0; i < t->n; i++) {
        size_t n;
        const char *s = cn_symtab_get(t, i, &n);
        slots[find_slot(t, s, n)] = i;
    }
    return true;
}

static bool grow_storage(cn_ctx *ctx, cn_symtab *t, size_t n)
{
    if (n >= SIZE_MAX / 4 - t->bytes_len || t->n >= INT32_MAX / 4) {
        (void)cn_fail(ctx, CN_ENOMEM, "a table of strings would hold more than 500 million");
        return false;
    }
    size_t need = t->bytes_len + n + 1;
    if (need > t->bytes_cap) {
        size_t cap = CN_MAX(need, t->bytes_cap * 2 + 256);
        char *p = cn_regrow(ctx, t->bytes, t->bytes_len, cap);
        if (!p) return false;
        t->bytes = p;
        t->bytes_cap = cap;
    }
    if (t->n + 2 > t->start_cap) {
        int32_t cap = t->start_cap * 2 + 64;
        size_t used = t->start ? (size_t)t->n + 1 : 0;
        size_t *p = cn_regrow(ctx, t->start, used * sizeof *p, (size_t)cap * sizeof *p);
        if (!p) return false;
        if (!used) p[0] = 0;
        t->start = p;
        t->start_cap = cap;
    }
    return true;
}

int32_t cn_symtab_add(cn_ctx *ctx, cn_symtab *t, const char *s, size_t n)
{
    if ((size_t)t->n * 2 >= t->n_slots && !grow_slots(ctx, t)) return -1;
    size_t slot = find_slot(t, s, n);
    if (t->slots[slot] >= 0) return t->slots[slot];
    if (!grow_storage(ctx, t, n)) return -1;
    if (n) memcpy(t->bytes + t->bytes_len, s, n);
    t->bytes[t->bytes_len + n] = 0;
    t->bytes_len += n + 1;
    t->start[t->n + 1] = t->bytes_len;
    t->slots[slot] = t->n;
    return t->n++;
}
