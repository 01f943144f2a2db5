/* SPDX-License-Identifier: Apache-2.0 */
/* test_gpu_profile.c - CN_PROFILE on a device: kernels' and operations' seconds are of the device's
 * clock, and no result changes. Skipped without a device. */
#include "../support/unit/unit.h"

#include "device/device.h"
#include "gpu/gpu.h"
#include "graph/plan.h"
#include "model/checkpoint/weights.h"

#include <stdlib.h>
#include <string.h>

enum { SIDE = 16, CHANNELS = 8, LAYERS = 6, OUT = SIDE * SIDE * CHANNELS, RUNS = 3, MANY = 5000 };

static int set_up(void **state)
{
    (void)state;
    return unit_open(1);
}

static char told[16384]; /* the log's lines */

static void keep_line(void *user, cn_log_level level, const char *line)
{
    (void)user, (void)level;
    const size_t n = strlen(told);
    snprintf(told + n, sizeof told - n, "%s\n", line);
}

/* The figures of the table's row `name`: the first number behind it, then the second. */
static void find_row(const char *name, double *calls, double *seconds)
{
    char begin[64];
    snprintf(begin, sizeof begin, "%s ", name);
    const char *row = told;
    while (row && strncmp(row, begin, strlen(begin)) != 0)
        row = (row = strchr(row, '\n')) ? row + 1 : NULL;
    if (!row) {
        fail_msg("%s isn't in the table:\n%s", name, told);
        return;
    }
    assert_int_equal(sscanf(row + strlen(begin), "%lf %lf", calls, seconds), 2);
}

static void open_device(const char *device, bool profile, cn_backend **out)
{
    if (profile)
        setenv("CN_PROFILE", "1", 1);
    else
        unsetenv("CN_PROFILE");
    told[0] = 0;
    cn_ctx_set_log(ctx, keep_line, NULL);
    if (cn_backend_create(ctx, device, out) == CN_OK) {
        if (!(*out)->addressable) cn_gpu_tile(*out, 0); /* none is tried: that is timed as well */
        return;
    }
    print_message("SKIP %s\n", cn_error(ctx));
    skip();
}

/* Convolutions behind each other, and a norm; the last result, and what the device did a run. */
static void run_chain(const char *device, bool profile, float out[OUT], cn_gpu_counts *each,
                      cn_gpu_counts *all)
{
    cn_backend *b = NULL;
    cn_params *params = NULL;
    cn_graph *g = NULL;
    cn_plan *plan = NULL;
    cn_gpu_counts before = {0};
    float x[OUT];
    open_device(device, profile, &b);
    const bool apart = !b->addressable;
    assert_true((b->time != NULL) == (profile && apart));
    *each = *all = before;
    must(cn_params_create(ctx, "chain", &params));
    must(cn_graph_create(ctx, &g));
    cn_graph_use(g, params);
    cn_node *in = cn_input4(g, "x", 1, SIDE, SIDE, CHANNELS), *y = in;
    for (int i = 0; i < LAYERS; i++) {
        char name[16];
        snprintf(name, sizeof name, "layer%d", i);
        y = cn_conv2d(g, name, y, CHANNELS, 3, 1, 1);
    }
    y = cn_group_norm(g, "norm", y, 2, 1e-5f, CN_ACT_SILU);
    must(cn_plan_create(ctx, g, b, &y, 1, false, &plan));
    must(cn_params_allocate(b, params));
    must(cn_params_init(ctx, b, params, 1));
    cn_seed_tensor("x", 0, 1, x, OUT);
    for (int k = 0; k < RUNS; k++) {
        if (apart) cn_gpu_counts_get(b, &before);
        must(cn_plan_set(plan, in, x));
        must(cn_plan_run(plan));
        if (apart) cn_gpu_counts_get(b, each);
        each->submissions -= before.submissions;
    }
    assert_true(cn_plan_get(plan, y, out));
    if (apart) cn_gpu_counts_get(b, all);
    cn_plan_destroy(plan);
    cn_graph_destroy(g);
    cn_params_destroy(params);
    b->destroy(b);
}

static void the_device_tells_its_time(void **state)
{
    (void)state;
    static float plain[OUT], profiled[OUT];
    double calls, seconds, of_steps, all;
    char counts[128];
    cn_gpu_counts each, n;
    run_chain("vulkan", false, plain, &each, &n);
    assert_int_equal(each.submissions,
                     1); /* a run is waited for once, by whoever reads its result */
    assert_string_equal(told, "");
    run_chain("vulkan", true, profiled, &each, &n);
    assert_memory_equal(plain, profiled, sizeof plain);
    assert_int_equal(each.submissions, 2); /* its times are read, then the result */
    find_row("product_forward", &calls, &seconds);
    assert_true(calls == LAYERS * RUNS && seconds >= 0);
    find_row("conv2d", &calls, &of_steps);
    assert_true(calls == LAYERS * RUNS);
    assert_true(of_steps >= seconds - 1e-3 && of_steps <= seconds + 1e-3); /* of three digits */
    find_row("norm", &calls, &seconds);
    assert_true(calls == RUNS);
    find_row("copy", &calls, &seconds);
    assert_true(calls >= 2 * RUNS);
    const char *row = strstr(told, "all kernels");
    assert_non_null(row);
    assert_int_equal(sscanf(row + strlen("all kernels"), "%lf", &all), 1);
    assert_true(all > 0);
    snprintf(counts, sizeof counts, ": %lld dispatches, %lld barriers, %lld submissions\n",
             (long long)n.dispatches, (long long)n.barriers, (long long)n.submissions);
    assert_non_null(strstr(told, counts));
}

/* On the CPU the host's clock does, step by step. */
static void the_host_tells_its_time(void **state)
{
    (void)state;
    static float plain[OUT], profiled[OUT];
    double calls, seconds;
    cn_gpu_counts none;
    run_chain("cpu", false, plain, &none, &none);
    assert_string_equal(told, "");
    run_chain("cpu", true, profiled, &none, &none);
    assert_memory_equal(plain, profiled, sizeof plain);
    find_row("conv2d", &calls, &seconds);
    assert_true(calls == LAYERS * RUNS && seconds >= 0);
    find_row("group_norm", &calls, &seconds);
    assert_true(calls == RUNS);
    assert_null(strstr(told, "kernel"));
}

/* More kernels than there is room for timestamps. */
static void none_is_lost(void **state)
{
    (void)state;
    cn_backend *b = NULL;
    double calls, seconds;
    open_device("vulkan", true, &b);
    float *x = b->alloc(b, ctx, 256), values[64] = {0};
    assert_non_null(x);
    must(b->write(b, ctx, x, values, sizeof values));
    for (int i = 0; i < MANY; i++) must(b->average(b, ctx, x, x, 0.5f, 64));
    must(b->read(b, ctx, values, x, sizeof values));
    b->free(b, x, 256);
    b->destroy(b);
    find_row("map", &calls, &seconds);
    assert_true(calls == MANY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_device_tells_its_time),
        cmocka_unit_test(the_host_tells_its_time),
        cmocka_unit_test(none_is_lost),
    };
    return cmocka_run_group_tests(tests, set_up, unit_close);
}
