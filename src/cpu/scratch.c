/* SPDX-License-Identifier: Apache-2.0 */
/* scratch.c - how much scratch the own kernels want; the layouts stand in kernels/. */
#include "cpu/kernels/kernels.h"

enum { TQ = CN_TILE_Q, TK = CN_TILE_K };

size_t cn_norm_scratch_bytes(int64_t N, int64_t C, int threads)
{
    size_t parts = (size_t)(N * cn_parts(N, threads));
    return (parts * 8 * (size_t)C + 7 * (size_t)(N * C)) * sizeof(float);
}

size_t cn_attention_scratch_bytes(int64_t N, int64_t L, int64_t M, int64_t D, int heads,
                                  int threads, bool grad)
{
    size_t all = (size_t)(N * heads), workers = (size_t)threads, tile = (size_t)TQ * TK;
    size_t keys = (size_t)((M + TK - 1) / TK * TK * D); /* of one head, in whole tiles */
    size_t transposed = 2 * (size_t)(D * TQ);
    if (!grad)
        return (all * keys + 16 + workers * (tile + transposed + 3 * TQ + 16)) * sizeof(float);
    size_t copies = 2 * workers * 2 * keys; /* heads * parts < 2 * threads */
    (void)L;
    if (all >= workers) copies = 0;
    return (copies + 16 + workers * (2 * tile + transposed + TQ + 4 * keys + 16)) * sizeof(float);
}

size_t cn_orthogonalize_bytes(int64_t rows, int64_t columns)
{
    const size_t m = (size_t)CN_MIN(rows, columns), n = (size_t)CN_MAX(rows, columns);
    return (m * n + 4 * m * m) * sizeof(float);
}
