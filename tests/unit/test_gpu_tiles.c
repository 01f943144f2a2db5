/* SPDX-License-Identifier: Apache-2.0 */
/* test_gpu_tiles.c - tiles of products on a device (gpu/vk_tiles.h): each computes the same bytes,
 * what was fastest is chosen, kept in a file and used from then on. All but the choice is skipped
 * without a device. */
#include "../support/unit/device_layers.h"
#include "../support/unit/unit.h"

#include "device/device.h"
#include "gpu/gpu.h"
#include "gpu/vk_tiles.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Until every product of a layer has its tile, and one more: two runs with the first tile, two
 * samples of each, a run in which none is open, one that is recorded anew, one that is sent again.
 */
enum { RUNS = 5 + 2 * CN_VK_TILES };

static bool found;
static char cache[256];

static int set_up(void **state)
{
    (void)state;
    if (unit_open(1) != 0) return -1;
    found = unit_device_found();
    path_in(cache, "cache");
    return setenv("XDG_CACHE_HOME", cache, 1);
}

static cn_backend *open_device(void)
{
    cn_backend *b = NULL;
    must(cn_backend_create(ctx, "vulkan", &b));
    cn_gpu_without_matrices(b);
    return b;
}

static void run_layer(const device_layer *l, int runs, cn_gpu_counts *counts, device_values *out)
{
    cn_backend *b = open_device();
    device_layer_run(b, l, runs, out);
    cn_gpu_counts_get(b, counts);
    b->destroy(b);
}

/* With the first tile, whatever is measured. */
static void run_fixed(const device_layer *l, device_values *out)
{
    cn_backend *b = open_device();
    cn_gpu_tile(b, 0);
    device_layer_run(b, l, 2, out);
    b->destroy(b);
}

static void check_same(const device_values *a, const device_values *b)
{
    for (int i = 0; i < 3; i++) {
        assert_int_equal(a->n[i], b->n[i]);
        assert_memory_equal(a->data[i], b->data[i], (size_t)a->n[i] * sizeof(float));
    }
}

static void every_tile_computes_the_same(void **state)
{
    (void)state;
    cn_gpu_counts c;
    if (!found) skip();
    cn_backend *b = open_device();
    for (int halves = 0; halves < 2; halves++) {
        assert_true(b->multiply_in(b, halves ? CN_F16 : CN_F32));
        for (int k = 0; k < DEVICE_LAYERS; k++) {
            device_values first, other;
            for (int t = 0; t < CN_VK_TILES; t++) {
                cn_gpu_tile(b, t);
                device_layer_run(b, &device_layers[k], 1, t ? &other : &first);
                if (!t) continue;
                check_same(&first, &other);
                device_values_free(&other);
            }
            device_values_free(&first);
        }
    }
    cn_gpu_counts_get(b, &c);
    assert_int_equal(c.trials, 0);
    b->destroy(b);
}

/* The file of choices; false: there is none. */
static bool find_file(char path[600])
{
    char folder[300];
    bool any = false;
    snprintf(folder, sizeof folder, "%s/controlnet", cache);
    DIR *d = opendir(folder);
    for (const struct dirent *e; d && (e = readdir(d));) {
        const char *end = strrchr(e->d_name, '.');
        if (!end || strcmp(end, ".tiles") != 0) continue;
        snprintf(path, 600, "%s/%s", folder, e->d_name);
        any = true;
    }
    if (d) closedir(d);
    return any;
}

static const cn_vk_shape SHAPE = {1, 64, 1280, 320, 320, 0, 0};

/* Each tile tried in turn until it is decided: which is it? */
static int choose(const double seconds[CN_VK_TILES])
{
    cn_vk_chooser c = {.fixed = -1, .trying = true};
    int tile, trial, tries = 0;
    for (;;) {
        must(cn_vk_tiles_choose(ctx, &c, &SHAPE, &tile, &trial));
        if (trial < 0) break;
        assert_int_equal(tile, tries++ % CN_VK_TILES);
        /* of a tile's two samples the first is slow */
        cn_vk_tiles_took(&c, trial, tile, seconds[tile] * (tries <= CN_VK_TILES ? 3 : 1));
    }
    assert_int_equal(tries, 2 * CN_VK_TILES);
    assert_true(c.changed);
    cn_vk_tiles_close(&c); /* without a path nothing is written */
    return tile;
}

static void the_fastest_is_chosen(void **state)
{
    (void)state;
    assert_int_equal(choose((double[]){4, 3, 2, 1}), 3);
    assert_int_equal(choose((double[]){4, 1, 2, 3}), 1);
    assert_int_equal(choose((double[]){1, 2, 3, 4}), 0);
    /* so little isn't worth another than the first; behind that, the least counts */
    assert_int_equal(choose((double[]){1, 0.98, 0.99, 1}), 0);
    assert_int_equal(choose((double[]){1, 0.95, 0.94, 0.945}), 2);
}

/* Nobody waits for a choice: a plan that is recorded to be kept has the first tile until then. */
static void the_first_is_used_until_then(void **state)
{
    (void)state;
    cn_vk_chooser c = {.fixed = -1};
    int tile = -1, trial = 0;
    must(cn_vk_tiles_choose(ctx, &c, &SHAPE, &tile, &trial));
    assert_true(tile == 0 && trial == -1 && c.undecided == 1);
    c.fixed = 2;
    must(cn_vk_tiles_choose(ctx, &c, &SHAPE, &tile, &trial));
    assert_true(tile == 2 && trial == -1 && c.undecided == 1);
    cn_vk_tiles_close(&c);
}

static void choices_are_kept(void **state)
{
    (void)state;
    cn_gpu_counts c;
    device_values fixed, tried;
    char path[600];
    if (!found) skip();
    const device_layer *l = &device_layers[5];
    run_fixed(l, &fixed);
    assert_false(find_file(path));
    run_layer(l, RUNS, &c, &tried);
    check_same(&fixed, &tried);
    /* forward products by 3x3 and 1x1 and their gradients, each tile of each at least twice */
    assert_true(c.trials >= 6 * 2 * CN_VK_TILES);
    assert_true(c.replays >= 1);
    assert_true(find_file(path));
    device_values_free(&tried);
    run_layer(l, 3, &c, &tried); /* as the file says, from the first run on */
    check_same(&fixed, &tried);
    assert_int_equal(c.trials, 0);
    assert_true(c.replays >= 1);
    device_values_free(&tried);
    device_values_free(&fixed);
}

/* Another shape is tried, and those that were known stay so. */
static void more_shapes_are_added(void **state)
{
    (void)state;
    cn_gpu_counts c;
    device_values v;
    struct stat before, after;
    char path[600];
    if (!found) skip();
    assert_true(find_file(path));
    assert_int_equal(stat(path, &before), 0);
    run_layer(&device_layers[1], RUNS, &c, &v);
    device_values_free(&v);
    assert_true(c.trials > 0);
    assert_int_equal(stat(path, &after), 0);
    assert_true(after.st_size > before.st_size);
    for (int k = 0; k < 2; k++) {
        run_layer(&device_layers[k ? 1 : 5], 3, &c, &v);
        device_values_free(&v);
        assert_int_equal(c.trials, 0);
    }
}

/* Whatever is wrong with the file, shapes are tried again and it is whole afterwards. */
static void damage_is_mended(void **state)
{
    (void)state;
    cn_gpu_counts c;
    device_values fixed, v;
    char path[600], *whole = NULL;
    size_t n = 0;
    if (!found) skip();
    const device_layer *l = &device_layers[5];
    run_fixed(l, &fixed);
    assert_true(find_file(path));
    must(cn_file_read(ctx, path, 1 << 20, &whole, &n));
    for (int k = 0; k < 2; k++) {
        char *bad = malloc(n);
        memcpy(bad, whole, n);
        if (!k) bad[n - 1] ^= 1;
        must(cn_file_write(ctx, path, bad, k ? n - 1 : n));
        free(bad);
        run_layer(l, RUNS, &c, &v);
        check_same(&fixed, &v);
        device_values_free(&v);
        assert_true(c.trials > 0);
        run_layer(l, 3, &c, &v);
        device_values_free(&v);
        assert_int_equal(c.trials, 0);
    }
    cn_free(whole);
    device_values_free(&fixed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_tile_computes_the_same), cmocka_unit_test(the_fastest_is_chosen),
        cmocka_unit_test(the_first_is_used_until_then), cmocka_unit_test(choices_are_kept),
        cmocka_unit_test(more_shapes_are_added),        cmocka_unit_test(damage_is_mended),
    };
    return cmocka_run_group_tests(tests, set_up, unit_close);
}
