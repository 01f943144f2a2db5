/* SPDX-License-Identifier: Apache-2.0 */
/* lookalikes.c - see lookalikes.h. */
#include "data/lookalikes.h"

#include <string.h>

enum { PARTS = 4, PART_BITS = 16, VALUES = 1 << PART_BITS };

/* One part's numbers sorted by its value, in each value by number. */
typedef struct table {
    int64_t begin[VALUES + 1];
    int32_t *numbers; /* [n] */
} table;

static unsigned part_of(uint64_t hash, int part)
{
    return (unsigned)(hash >> (PART_BITS * part)) & (VALUES - 1);
}

static void sort_part(table *t, const uint64_t *hashes, int64_t n, int part)
{
    memset(t->begin, 0, sizeof t->begin);
    for (int64_t i = 0; i < n; i++) t->begin[part_of(hashes[i], part) + 1]++;
    for (int v = 0; v < VALUES; v++) t->begin[v + 1] += t->begin[v];
    for (int64_t i = n - 1; i >= 0; i--) {
        /* filled from each value's end, which begin[] holds at v + 1 until the last is in place */
        const unsigned v = part_of(hashes[i], part);
        t->numbers[--t->begin[v + 1]] = (int32_t)i;
    }
    memmove(t->begin, t->begin + 1, VALUES * sizeof *t->begin);
    t->begin[VALUES] = n;
}

/* The lowest number below `end` that has the value in the part and is near number i; -1: none. */
static int32_t find_valued(const table *t, const uint64_t *hashes, const uint8_t *valid, int64_t i,
                           int64_t end, unsigned v, int bits)
{
    for (int64_t k = t->begin[v]; k < t->begin[v + 1] && t->numbers[k] < end; k++) {
        const int32_t j = t->numbers[k];
        if ((!valid || valid[j]) && __builtin_popcountll(hashes[i] ^ hashes[j]) <= bits) return j;
    }
    return -1;
}

/* The same of its own value and, where more bits may differ than there are parts, of those a bit
 * away. */
static int32_t find_earlier(const table *t, const uint64_t *hashes, const uint8_t *valid, int64_t i,
                            int part, int bits)
{
    const unsigned v = part_of(hashes[i], part);
    int32_t best = find_valued(t, hashes, valid, i, i, v, bits);
    for (int b = 0; bits >= PARTS && b < PART_BITS; b++) {
        const int32_t j = find_valued(t, hashes, valid, i, best >= 0 ? best : i, v ^ 1u << b, bits);
        if (j >= 0) best = j;
    }
    return best;
}

cn_status cn_lookalikes_find(cn_ctx *ctx, const uint64_t *hashes, const uint8_t *valid, int64_t n,
                             int bits, int32_t *earlier)
{
    if (bits < 0 || bits > CN_LOOKALIKE_MAX_BITS || n > INT32_MAX)
        return cn_fail(ctx, CN_EINVAL,
                       "look-alikes within %d bits of %lld pictures: 0 to %d, and "
                       "less than 2^31 are expected",
                       bits, (long long)n, CN_LOOKALIKE_MAX_BITS);
    table *t = cn_alloc(ctx, sizeof *t);
    if (t) t->numbers = cn_alloc_array(ctx, (size_t)CN_MAX(n, 1), sizeof *t->numbers);
    if (!t || !t->numbers) {
        cn_free(t);
        return CN_ENOMEM;
    }
    for (int64_t i = 0; i < n; i++) earlier[i] = -1;
    for (int part = 0; part < PARTS; part++) {
        sort_part(t, hashes, n, part);
#pragma omp parallel for schedule(dynamic, 4096) num_threads(cn_threads(ctx)) if (n > 65536)
        for (int64_t i = 0; i < n; i++) {
            const int32_t j =
                valid && !valid[i] ? -1 : find_earlier(t, hashes, valid, i, part, bits);
            if (j >= 0 && (earlier[i] < 0 || j < earlier[i])) earlier[i] = j;
        }
    }
    cn_free(t->numbers);
    cn_free(t);
    return CN_OK;
}
