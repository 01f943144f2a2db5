/* SPDX-License-Identifier: Apache-2.0 */
/* test_stepgraph.c - a training step's graph: gradient checkpointing changes memory and nothing
 * else. */
#include "../support/env.h"

#include "model/checkpoint/config_io.h"
#include "model/checkpoint/weights.h"
#include "train/stepgraph.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* Stable Diffusion's shape at a tenth of its width, pictures of 128 px. */
typedef struct nets {
    test_env env;
    cn_unet_config unet_config;
    cn_controlnet_config control_config;
    cn_params *unet, *control;
} nets;

static void open_nets(nets *n)
{
    *n = (nets){0};
    assert_true(test_env_open(&n->env, 2));
    json_t *empty = json_object();
    assert_int_equal(cn_unet_config_read(n->env.ctx, empty, &n->unet_config), CN_OK);
    assert_int_equal(cn_controlnet_config_read(n->env.ctx, empty, &n->control_config), CN_OK);
    json_decref(empty);
    for (int i = 0; i < n->unet_config.levels; i++)
        n->unet_config.channels[i] = n->control_config.encoder.channels[i] /= 10;
    n->unet_config.context_dim = n->control_config.encoder.context_dim = 48;
    assert_int_equal(cn_net_params(n->env.ctx, CN_NET_UNET, &n->unet), CN_OK);
    assert_int_equal(cn_net_params(n->env.ctx, CN_NET_CONTROL, &n->control), CN_OK);
    cn_params_set_trainable(n->control, true);
}

static void close_nets(nets *n)
{
    cn_params_destroy(n->unet);
    cn_params_destroy(n->control);
    test_env_close(&n->env);
}

static cn_stepgraph *make(nets *n, int checkpointed)
{
    const cn_stepgraph_options o = {.batch = 1,
                                    .width = 128,
                                    .height = 128,
                                    .latent_w = 16,
                                    .latent_h = 16,
                                    .tokens = 7,
                                    .control = true,
                                    .gradients = true,
                                    .checkpointed = checkpointed};
    const cn_draw_control control = {
        .kind = &cn_control_kind_net, .config = &n->control_config, .params = n->control};
    cn_stepgraph *s = NULL;
    assert_int_equal(
        cn_stepgraph_create(n->env.ctx, n->env.backend, &n->unet_config, n->unet, &control, &o, &s),
        CN_OK);
    return s;
}

static void fill(cn_stepgraph *s, const cn_node *x, const char *key, float offset, float scale)
{
    float *to = cn_plan_data(s->plan, x);
    assert_non_null(to);
    cn_seed_tensor(key, offset, scale, to, cn_node_elements(x));
}

/* Runs one step and returns all gradients one after the other; *bytes: the plan's arena. */
static float *gradients(nets *n, cn_stepgraph *s, size_t *count, size_t *bytes)
{
    fill(s, s->x, "x", 0, 1);
    fill(s, s->t, "t", 500, 0);
    fill(s, s->context, "context", 0, 1);
    fill(s, s->condition, "condition", 0.5f, 0.5f);
    fill(s, s->target, "target", 0, 1);
    assert_int_equal(cn_plan_run(s->plan), CN_OK);
    int64_t params = 0;
    cn_param **list = NULL;
    const float **grads = NULL;
    assert_int_equal(
        cn_stepgraph_trained(n->env.ctx, s, n->control, n->unet, &list, &grads, &params), CN_OK);
    assert_int_equal(params, cn_params_count(n->control));
    *count = 0;
    for (int64_t i = 0; i < params; i++) *count += (size_t)cn_param_physical(list[i]);
    float *all = malloc(*count * sizeof *all), *to = all;
    for (int64_t i = 0; i < params; i++) {
        size_t each = (size_t)cn_param_physical(list[i]);
        memcpy(to, grads[i], each * sizeof *to);
        to += each;
    }
    cn_free(list);
    cn_free(grads);
    cn_plan_info info;
    cn_plan_info_get(s->plan, &info);
    *bytes = info.arena_bytes;
    assert_true(info.gradient_bytes >= *count * sizeof(float));
    assert_true(info.gradient_bytes < info.arena_bytes);
    return all;
}

static void checkpointing_gives_the_same_bytes_in_less_memory(void **state)
{
    (void)state;
    nets n;
    open_nets(&n);
    cn_stepgraph *whole = make(&n, 0);
    assert_int_equal(cn_params_init(n.env.ctx, n.env.backend, n.unet, 1), CN_OK);
    assert_int_equal(cn_control_init_from_unet(n.env.ctx, n.env.backend, n.unet, n.control, 1),
                     CN_OK);
    for (int64_t i = 0; i < cn_params_count(n.control);
         i++) { /* links that let gradients through */
        cn_param *q = cn_params_at(n.control, i);
        if (q->ndim == 4 && q->init == CN_INIT_ZERO)
            cn_seed_tensor(q->ldm_name, 0, 0.05f, q->data, cn_param_physical(q));
    }
    size_t count, bytes, before;
    float *want = gradients(&n, whole, &count, &before);
    const int segments = whole->segments;
    assert_true(segments > 20);
    cn_stepgraph_destroy(whole);
    const int some[] = {1, segments / 2, INT_MAX};
    for (size_t i = 0; i < CN_COUNT(some); i++) {
        cn_stepgraph *s = make(&n, some[i]);
        float *got = gradients(&n, s, &count, &bytes);
        assert_memory_equal(got, want, count * sizeof *got);
        assert_true(bytes <= before);
        before = bytes;
        free(got);
        cn_stepgraph_destroy(s);
    }
    free(want);
    close_nets(&n);
}

static void a_dropped_plan_gives_the_same_again(void **state)
{
    (void)state;
    nets n;
    open_nets(&n);
    cn_stepgraph *s = make(&n, 0);
    assert_int_equal(cn_params_init(n.env.ctx, n.env.backend, n.unet, 1), CN_OK);
    assert_int_equal(cn_control_init_from_unet(n.env.ctx, n.env.backend, n.unet, n.control, 1),
                     CN_OK);
    size_t count, bytes;
    float *want = gradients(&n, s, &count, &bytes);
    cn_plan_drop(s->plan);
    float *got = gradients(&n, s, &count, &bytes);
    assert_memory_equal(got, want, count * sizeof *got);
    free(want);
    free(got);
    cn_stepgraph_destroy(s);
    close_nets(&n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(checkpointing_gives_the_same_bytes_in_less_memory),
        cmocka_unit_test(a_dropped_plan_gives_the_same_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
