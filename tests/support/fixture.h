/* SPDX-License-Identifier: Apache-2.0 */
/* fixture.h - a folder of reference data: manifests (configuration, tensors' keys, offsets and
 * scales), inputs and expected outputs. Weights and inputs follow from names
 * (reference/seedweights.py). */
#ifndef TEST_FIXTURE_H
#define TEST_FIXTURE_H

#include "env.h"
#include "report.h"

#include "io/json.h"
#include "io/tensors.h"

typedef struct fixture {
    const char *dir;
    test_env env;
    test_report report;
    cn_dtype compute; /* F32; BF16, of all values; F16, of products' operands */
    char salt[128];
    const char *inputs; /* what stands between the salt and an input's name: "input." */
} fixture;

cn_status fixture_manifest(fixture *f, const char *network, json_t **out) CN_CHECKED;
cn_status fixture_json(fixture *f, const char *file, json_t **out) CN_CHECKED;
cn_status fixture_tensors(fixture *f, const char *name, cn_tensors **out) CN_CHECKED;

/* Gives every parameter of p its values; CN_EMISMATCH when the manifest and p don't hold the same
 * names and sizes. A NULL `chosen` takes all, else only names for which it returns true, and p may
 * hold more. */
cn_status fixture_fill(fixture *f, const json_t *manifest, cn_params *p,
                       bool (*chosen)(const char *name)) CN_CHECKED;

/* About normal: four unit tensors summed, scaled to variance 1. */
void fixture_normal(const fixture *f, const char *name, int64_t n, float *out);
/* In [0,1). */
void fixture_uniform(const fixture *f, const char *name, int64_t n, float *out);

/* Sets an input from the file's tensor `key`: [N,C,H,W] to NHWC when the input has 4 dimensions,
 * whole numbers to the input's type. */
cn_status fixture_set(fixture *f, cn_plan *plan, const cn_node *x, const cn_tensors *file,
                      const char *key) CN_CHECKED;
/* Sets a 4-dimensional input from values in NCHW. */
cn_status fixture_set_nchw(fixture *f, cn_plan *plan, const cn_node *x,
                           const float *nchw) CN_CHECKED;

/* The expected tensor in the graph's order (NHWC), in a new array; NULL when absent or of another
 * size. */
float *fixture_want(fixture *f, const cn_tensors *file, const char *key, const cn_node *like);
/* Compares y's value with the file's tensor `key`, one line in the report. tolerance is that of
 * F32; in BF16 and F16 it is 5 and 7 roundings of its largest value, 2^-8 and 2^-11 each. */
void fixture_expect(fixture *f, cn_plan *plan, const cn_node *y, const cn_tensors *file,
                    const char *key, double tolerance);

#endif
