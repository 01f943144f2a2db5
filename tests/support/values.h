/* SPDX-License-Identifier: Apache-2.0 */
/* values.h - test data and comparison: seeded values, layouts, errors relative to the largest
 * value. */
#ifndef TEST_VALUES_H
#define TEST_VALUES_H

#include "base/base.h"

/* Memory that the test can't go on without: leaves the program with a message when there is
 * none. */
void *test_alloc(size_t n);

/* n seeded values offset + scale * u, u in [-1,1), as double (exactly the floats). */
double *test_values(const char *key, float offset, float scale, int64_t n);

/* Largest |got - want| and largest |want|; NaN in `got` counts as infinite. */
typedef struct test_error {
    double max_err, max_want;
    int64_t at; /* where the largest error is */
} test_error;
test_error test_compare(const float *got, const double *want, int64_t n);
test_error test_compare_f32(const float *got, const float *want, int64_t n);
/* max_err / max_want; the plain error when everything wanted is 0. */
double test_relative(test_error e);

/* [N,C,H,W] to [N,H,W,C] and back. */
void test_nchw_to_nhwc(const float *in, float *out, int64_t N, int64_t C, int64_t H, int64_t W);
void test_nhwc_to_nchw(const float *in, float *out, int64_t N, int64_t H, int64_t W, int64_t C);

/* The bytes of text in hexadecimal, n of them; free it. */
uint8_t *test_hex(const char *text, size_t *n);

#endif
