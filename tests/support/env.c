/* SPDX-License-Identifier: Apache-2.0 */
/* env.c - see env.h. */
#include "env.h"
#include "values.h"

#include "device/device.h"

#include <stdlib.h>
#include <string.h>

bool test_env_open(test_env *e, int threads)
{
    *e = (test_env){0};
    e->ctx = cn_ctx_create(threads);
    return e->ctx && cn_backend_create(e->ctx, getenv("CN_DEVICE"), &e->backend) == CN_OK;
}

void test_env_close(test_env *e)
{
    if (e->backend) e->backend->destroy(e->backend);
    cn_ctx_destroy(e->ctx);
    *e = (test_env){0};
}

cn_status test_fill_params(test_env *e, cn_params *p, const char *prefix, float offset, float scale)
{
    for (int64_t i = 0; i < cn_params_count(p); i++) {
        cn_param *q = cn_params_at(p, i);
        char key[2 * CN_NAME_MAX];
        snprintf(key, sizeof key, "%s%s", prefix, q->diffusers_name);
        float *f = test_alloc((size_t)cn_param_elements(q) * sizeof *f);
        cn_seed_tensor(key, offset, scale, f, cn_param_elements(q));
        cn_status s = cn_param_set(e->backend, e->ctx, q, f);
        free(f);
        if (s != CN_OK) return s;
    }
    return CN_OK;
}

float *test_values_of(test_env *e, cn_plan *plan, const cn_node *x)
{
    (void)e;
    if (!x || !cn_plan_data(plan, x)) return NULL;
    float *f = test_alloc((size_t)cn_node_elements(x) * sizeof *f);
    (void)cn_plan_get(plan, x, f);
    return f;
}

float *test_gradient_of(test_env *e, cn_plan *plan, const cn_graph *g, const cn_param *q)
{
    const cn_node *d = cn_param_grad(g, q);
    const float *physical = d ? cn_plan_address(plan, d) : NULL;
    if (!physical) return NULL;
    float *plain = test_alloc((size_t)cn_param_elements(q) * sizeof *plain);
    if (e->backend->to_plain(e->backend, e->ctx, q, CN_F32, physical, plain) == CN_OK) return plain;
    free(plain);
    return NULL;
}
