/* SPDX-License-Identifier: Apache-2.0 */
/* env.h - a context with the CPU backend, and parameters filled with seeded values. */
#ifndef TEST_ENV_H
#define TEST_ENV_H

#include "graph/plan.h"

typedef struct test_env {
    cn_ctx *ctx;
    cn_backend *backend;
} test_env;

/* False when memory is out. threads as in cn_ctx_create. */
bool test_env_open(test_env *e, int threads);
void test_env_close(test_env *e);

/* Every parameter of p: cn_seed_tensor(key prefix + diffusers name, offset, scale). */
cn_status test_fill_params(test_env *e, cn_params *p, const char *prefix, float offset,
                           float scale) CN_CHECKED;
/* A node's values as floats, in a new array (free); NULL when the plan doesn't keep the node. A
 * parameter's gradient comes in the published layout. */
float *test_values_of(test_env *e, cn_plan *plan, const cn_node *x);
float *test_gradient_of(test_env *e, cn_plan *plan, const cn_graph *g, const cn_param *q);

#endif
