/* SPDX-License-Identifier: Apache-2.0 */
/* values.c - see values.h. */
#include "values.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void *test_alloc(size_t n)
{
    void *p = calloc(n ? n : 1, 1);
    if (!p) {
        fprintf(stderr, "the test needs %zu bytes and there are none\n", n);
        exit(1);
    }
    return p;
}

double *test_values(const char *key, float offset, float scale, int64_t n)
{
    float *f = test_alloc((size_t)n * sizeof *f);
    double *d = test_alloc((size_t)n * sizeof *d);
    cn_seed_tensor(key, offset, scale, f, n);
    for (int64_t i = 0; i < n; i++) d[i] = (double)f[i];
    free(f);
    return d;
}

static void note(test_error *e, double got, double want, int64_t i)
{
    double err = isfinite(got) ? fabs(got - want) : INFINITY;
    if (err > e->max_err) {
        e->max_err = err;
        e->at = i;
    }
    if (fabs(want) > e->max_want) e->max_want = fabs(want);
}

test_error test_compare(const float *got, const double *want, int64_t n)
{
    test_error e = {0};
    for (int64_t i = 0; i < n; i++) note(&e, (double)got[i], want[i], i);
    return e;
}

test_error test_compare_f32(const float *got, const float *want, int64_t n)
{
    test_error e = {0};
    for (int64_t i = 0; i < n; i++) note(&e, (double)got[i], (double)want[i], i);
    return e;
}

double test_relative(test_error e)
{
    return e.max_want > 0 ? e.max_err / e.max_want : e.max_err;
}

void test_nchw_to_nhwc(const float *in, float *out, int64_t N, int64_t C, int64_t H, int64_t W)
{
    for (int64_t n = 0; n < N; n++)
        for (int64_t c = 0; c < C; c++)
            for (int64_t i = 0; i < H * W; i++)
                out[(n * H * W + i) * C + c] = in[(n * C + c) * H * W + i];
}

void test_nhwc_to_nchw(const float *in, float *out, int64_t N, int64_t H, int64_t W, int64_t C)
{
    for (int64_t n = 0; n < N; n++)
        for (int64_t c = 0; c < C; c++)
            for (int64_t i = 0; i < H * W; i++)
                out[(n * C + c) * H * W + i] = in[(n * H * W + i) * C + c];
}

uint8_t *test_hex(const char *text, size_t *n)
{
    *n = strlen(text) / 2;
    uint8_t *bytes = test_alloc(*n);
    for (size_t i = 0; i < *n; i++) {
        unsigned byte = 0;
        if (sscanf(text + 2 * i, "%2x", &byte) != 1) abort();
        bytes[i] = (uint8_t)byte;
    }
    return bytes;
}
