/* SPDX-License-Identifier: Apache-2.0 */
/* leaks.c - see leaks.h. */
#include "data/leaks.h"

#include "image/phash.h"
#include "data/dataset.h"
#include "data/lookalikes.h"

#include <string.h>

static cn_status hash_picture(cn_ctx *ctx, const cn_dataset *d, int64_t i, uint64_t *hash)
{
    cn_image *target = NULL;
    CN_TRY(cn_dataset_load(ctx, d, i, 0, 0, NULL, &target));
    const cn_status s = cn_image_phash(ctx, target, hash);
    cn_image_destroy(target);
    return s;
}

static cn_status hash_pictures(cn_ctx *ctx, const cn_dataset *d, uint64_t *hashes, uint8_t *seen)
{
    bool memory = true;
#pragma omp parallel for schedule(dynamic, 8) num_threads(cn_threads(ctx))
    for (int64_t i = 0; i < d->n; i++) {
        if (cn_cancelled(ctx)) continue;
        cn_ctx *own = cn_ctx_fork(ctx, false);
        const cn_status s = own ? hash_picture(own, d, i, &hashes[i]) : CN_ENOMEM;
        seen[i] = s == CN_OK;
        if (s == CN_ENOMEM) {
#pragma omp atomic write
            memory = false;
        }
        cn_ctx_destroy(own);
    }
    if (cn_cancelled(ctx))
        return cn_fail(ctx, CN_ECANCELLED, "stopped before every picture was looked at");
    return memory ? CN_OK : cn_fail(ctx, CN_ENOMEM, "out of memory while looking at pictures");
}

/* The other set's hashes stand first, so that one of them is what a leaked picture looks like. */
static cn_status compare(cn_ctx *ctx, const cn_dataset *other, const uint64_t *mine,
                         const uint8_t *mine_seen, int64_t n, uint8_t *leaks)
{
    const int64_t m = other->n;
    uint64_t *hashes = cn_alloc_array(ctx, (size_t)(n + m), sizeof *hashes);
    uint8_t *seen = cn_alloc0(ctx, (size_t)(n + m));
    int32_t *earlier = cn_alloc_array(ctx, (size_t)(n + m), sizeof *earlier);
    cn_status s = hashes && seen && earlier ? hash_pictures(ctx, other, hashes, seen) : CN_ENOMEM;
    if (s == CN_OK) {
        memcpy(hashes + m, mine, (size_t)n * sizeof *hashes);
        memcpy(seen + m, mine_seen, (size_t)n);
        s = cn_lookalikes_find(ctx, hashes, seen, n + m, CN_LOOKALIKE_NEAR_BITS, earlier);
    }
    for (int64_t i = 0; s == CN_OK && i < n; i++)
        leaks[i] = earlier[m + i] >= 0 && earlier[m + i] < m;
    cn_free(hashes);
    cn_free(seen);
    cn_free(earlier);
    return s;
}

cn_status cn_leaks_find(cn_ctx *ctx, const cn_dataset_options *other, const uint64_t *hashes,
                        const uint8_t *seen, int64_t n, uint8_t *leaks)
{
    cn_dataset *d = NULL;
    CN_TRY(cn_dataset_open(ctx, other, &d));
    const cn_status s = compare(ctx, d, hashes, seen, n, leaks);
    cn_dataset_close(d);
    return s;
}
