/* SPDX-License-Identifier: Apache-2.0 */
/* test_device.c - devices by their names, and the memory of the first that Vulkan has; without one
 * the latter is skipped. tests/ops runs operations on it. */
#include "../support/unit/unit.h"

#include "device/device.h"
#include "gpu/gpu.h"
#include "graph/plan.h"
#include "model/checkpoint/weights.h"

#include <stdlib.h>
#include <string.h>

static cn_backend *be; /* NULL: there is no device */

static int set_up(void **state)
{
    (void)state;
    if (unit_open(2) != 0) return -1;
    if (cn_backend_create(ctx, "vulkan", &be) != CN_OK) print_message("SKIP %s\n", cn_error(ctx));
    return 0;
}

static int tear_down(void **state)
{
    if (be) be->destroy(be);
    return unit_close(state);
}

static void names_are_checked(void **state)
{
    (void)state;
    static const char *const wrong[] = {"gpu",      "",          "vulkan:",   "vulkan:-1",
                                        "vulkan:x", "vulkan:1x", "vulkan:99", "vulkan1"};
    cn_backend *b = NULL;
    for (size_t i = 0; i < CN_COUNT(wrong); i++)
        refused(cn_backend_create(ctx, wrong[i], &b), CN_EINVAL, "vulkan:N");
    static const char *const cpu[] = {NULL, "auto", "cpu"};
    for (size_t i = 0; i < CN_COUNT(cpu); i++) {
        must(cn_backend_create(ctx, cpu[i], &b));
        assert_true(b->addressable);
        b->destroy(b);
    }
    if (be) refused(cn_backend_create(ctx, "vulkan:15", &b), CN_EINVAL, "the last is vulkan:");
}

/* More than the staging memory, of odd length, to a place of its own. */
static void bytes_come_back(void **state)
{
    (void)state;
    if (!be) skip();
    enum { BYTES = 40000003, AT = 64 };
    unsigned char *in = malloc(BYTES), *out = malloc(BYTES);
    char *at = be->alloc(be, ctx, BYTES + 2 * AT);
    assert_true(in && out && at);
    for (size_t i = 0; i < BYTES; i++) in[i] = (unsigned char)(i * 2654435761u >> 13);
    must(be->write(be, ctx, at + AT, in, BYTES));
    must(be->write(be, ctx, at + AT + 5, in + 100, 11)); /* behind the first, though it overlaps */
    must(be->read(be, ctx, out, at + AT, BYTES));
    memcpy(in + 5, in + 100, 11);
    assert_memory_equal(in, out, BYTES);
    be->free(be, at, BYTES + 2 * AT);
    free(in);
    free(out);
}

static size_t taken(void)
{
    cn_gpu_counts c;
    cn_gpu_counts_get(be, &c);
    return c.memory_bytes;
}

/* A reservation takes memory when it is used, a drop gives it back, its addresses stay. */
static void memory_is_taken_when_used(void **state)
{
    (void)state;
    if (!be) skip();
    const size_t before = taken(), bytes = 1 << 20;
    float x[3] = {1, 2, 3}, y[3] = {0};
    char *at = be->reserve(be, ctx, bytes);
    assert_non_null(at);
    assert_int_equal(taken(), before);
    for (int k = 0; k < 2; k++) {
        cn_gpu_counts start, end;
        cn_gpu_counts_get(be, &start);
        must(be->write(be, ctx, at + bytes - sizeof x, x, sizeof x));
        must(be->read(be, ctx, y, at + bytes - sizeof y, sizeof y));
        cn_gpu_counts_get(be, &end);
        assert_int_equal(end.submissions, start.submissions + 1); /* there and back */
        assert_memory_equal(x, y, sizeof x);
        assert_true(taken() >= before + bytes);
        be->drop(be, at, bytes);
        assert_int_equal(taken(), before);
    }
    be->release_reserved(be, at, bytes);
    refused(be->write(be, ctx, at, x, sizeof x), CN_EINTERNAL, "none of the device's");
}

static void too_much_is_refused(void **state)
{
    (void)state;
    if (!be) skip();
    cn_gpu_device all[CN_GPU_MAX_DEVICES];
    int n = 0;
    must(cn_gpu_devices(ctx, all, &n));
    size_t most = 0;
    for (int i = 0; i < n; i++) most = CN_MAX(most, all[i].largest_bytes);
    if (most > (size_t)1 << 44) skip(); /* a driver that names no limit */
    assert_null(be->alloc(be, ctx, most + 1));
    assert_non_null(strstr(cn_error(ctx), "at once"));
}

/* --- small allocations ------------------------------------------------------------------------ */

enum { SIDE = 32, CHANNELS = 32, LAYERS = 8, OUT = SIDE * SIDE * CHANNELS };

/* A chain of convolutions whose results are all kept, on a device of its own; the last two results.
 * limit: of an allocation, 0: the device's own. */
static void run_chain(size_t limit, float out[2 * OUT])
{
    cn_backend *b = NULL;
    cn_params *params = NULL;
    cn_graph *g = NULL;
    cn_plan *plan = NULL;
    cn_node *y[LAYERS + 1];
    float x[OUT];
    must(cn_backend_create(ctx, "vulkan", &b));
    if (limit) cn_gpu_limit(b, limit);
    must(cn_params_create(ctx, "chain", &params));
    must(cn_graph_create(ctx, &g));
    cn_graph_use(g, params);
    y[0] = cn_input4(g, "x", 1, SIDE, SIDE, CHANNELS);
    for (int i = 0; i < LAYERS; i++) {
        char name[16];
        snprintf(name, sizeof name, "layer%d", i);
        y[i + 1] = cn_conv2d(g, name, y[i], CHANNELS, 3, 1, 1);
    }
    must(cn_plan_create(ctx, g, b, y + 1, LAYERS, false, &plan));
    must(cn_params_allocate(b, params));
    must(cn_params_init(ctx, b, params, 1));
    cn_seed_tensor("x", 0, 1, x, OUT);
    must(cn_plan_set(plan, y[0], x));
    must(cn_plan_run(plan));
    for (int i = 0; i < 2; i++) assert_true(cn_plan_get(plan, y[LAYERS - i], out + i * OUT));
    cn_plan_destroy(plan);
    cn_graph_destroy(g);
    cn_params_destroy(params);
    b->destroy(b);
}

/* Memory in pieces, one of which has two values at most, computes the same bytes. */
static void pieces_compute_the_same(void **state)
{
    (void)state;
    if (!be) skip();
    static float whole[2 * OUT], pieces[2 * OUT];
    run_chain(0, whole);
    run_chain(2 * OUT * sizeof(float) + 256, pieces);
    assert_memory_equal(whole, pieces, sizeof whole);
}

static void a_value_beyond_the_limit_is_refused(void **state)
{
    (void)state;
    if (!be) skip();
    cn_backend *b = NULL;
    cn_graph *g = NULL;
    cn_plan *plan = NULL;
    must(cn_backend_create(ctx, "vulkan", &b));
    cn_gpu_limit(b, 1024);
    must(cn_graph_create(ctx, &g));
    cn_node *x = cn_input4(g, "x", 1, SIDE, SIDE, 1);
    cn_node *y = cn_scale(g, x, 2);
    refused(cn_plan_create(ctx, g, b, &y, 1, false, &plan), CN_ENOMEM, "gives at most 0.00 GiB");
    cn_graph_destroy(g);
    b->destroy(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_checked),
        cmocka_unit_test(bytes_come_back),
        cmocka_unit_test(memory_is_taken_when_used),
        cmocka_unit_test(too_much_is_refused),
        cmocka_unit_test(pieces_compute_the_same),
        cmocka_unit_test(a_value_beyond_the_limit_is_refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
