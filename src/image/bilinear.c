/* SPDX-License-Identifier: Apache-2.0 */
/* bilinear.c - see bilinear.h. Positions and weights are floats, as torch computes them. */
#include "image/bilinear.h"

#include <string.h>

cn_tap cn_bilinear_tap(int64_t i, int64_t n, int64_t to, bool corners)
{
    float at = 0;
    if (!corners)
        at = (float)n / (float)to * ((float)i + 0.5f) - 0.5f;
    else if (to > 1)
        at = (float)(n - 1) / (float)(to - 1) * (float)i;
    at = CN_MAX(at, 0.0f);
    const int64_t a = CN_MIN((int64_t)at, n - 1);
    return (cn_tap){a, CN_MIN(a + 1, n - 1), CN_MIN(at - (float)a, 1.0f)};
}

void cn_bilinear_row(const float *above, const float *below, float down, int64_t w, int64_t C,
                     int64_t W, bool corners, float *out)
{
    if (w == W && down == 0) {
        memcpy(out, above, (size_t)(w * C) * sizeof *out);
        return;
    }
    for (int64_t x = 0; x < W; x++) {
        const cn_tap t = cn_bilinear_tap(x, w, W, corners);
        const float *a = above + t.a * C, *b = above + t.b * C;
        const float *c = below + t.a * C, *d = below + t.b * C;
        for (int64_t i = 0; i < C; i++)
            out[x * C + i] = (1 - down) * ((1 - t.t) * a[i] + t.t * b[i]) +
                             down * ((1 - t.t) * c[i] + t.t * d[i]);
    }
}
