/* SPDX-License-Identifier: Apache-2.0 */
/* test_device_matrices.c - products of F16 on matrix units beside those of the kernels without, of
 * the same operands: results and both gradients. Skipped where no device has such units; Mesa's
 * software Vulkan from 24 on has (tools/fetch-vulkan.sh). tests/ops compares with references. */
#include "../support/unit/device_layers.h"
#include "../support/unit/unit.h"

#include "device/device.h"
#include "gpu/gpu.h"

#include <math.h>
#include <stdio.h>

/* Both add the same products of F16 in F32, in another order. */
static const double TOLERANCE = 1e-5;

static bool open_device(cn_backend **b)
{
    cn_gpu_device all[CN_GPU_MAX_DEVICES];
    int n = 0;
    bool any = false;
    char name[32] = "";
    if (cn_gpu_devices(ctx, all, &n) != CN_OK) n = 0;
    for (int i = n - 1; i >= 0; i--) {
        if (!all[i].matrix[0] || all[i].missing) continue;
        snprintf(name, sizeof name, "vulkan:%d", i);
        any = true;
    }
    if (!any) {
        print_message("SKIP no device has matrix units here\n");
        return false;
    }
    must(cn_backend_create(ctx, name, b));
    assert_true((*b)->multiply_in(*b, CN_F16));
    return true;
}

static void compute(const device_layer *l, bool matrices, device_values *out)
{
    cn_backend *b = NULL;
    cn_gpu_counts c;
    assert_true(open_device(&b));
    if (!matrices) cn_gpu_without_matrices(b);
    device_layer_run(b, l, 1, out);
    cn_gpu_counts_get(b, &c);
    assert_true(matrices ? c.matrix_dispatches >= 3 : c.matrix_dispatches == 0);
    b->destroy(b);
}

static int set_up(void **state)
{
    (void)state;
    return unit_open(2);
}

static void matrices_compute_the_same(void **state)
{
    (void)state;
    cn_backend *b = NULL;
    if (!open_device(&b)) skip();
    b->destroy(b);
    for (size_t k = 0; k < DEVICE_LAYERS; k++) {
        device_values with, without;
        compute(&device_layers[k], true, &with);
        compute(&device_layers[k], false, &without);
        for (int i = 0; i < 3; i++) {
            double most = 0, apart = 0;
            assert_int_equal(with.n[i], without.n[i]);
            for (int64_t e = 0; e < with.n[i]; e++) {
                most = fmax(most, fabs((double)without.data[i][e]));
                apart = fmax(apart, fabs((double)with.data[i][e] - (double)without.data[i][e]));
            }
            print_message("layer %zu, %s: %.2g apart, largest %.3g\n", k,
                          i == 0   ? "result"
                          : i == 1 ? "gradient of x"
                                   : "of its weight",
                          apart, most);
            assert_true(most > 0 && apart <= TOLERANCE * most);
        }
        device_values_free(&with);
        device_values_free(&without);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(matrices_compute_the_same)};
    return cmocka_run_group_tests(tests, set_up, unit_close);
}
