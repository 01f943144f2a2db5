/* SPDX-License-Identifier: Apache-2.0 */
/* test_gpu_cache.c - where compiled kernels are kept (gpu/vk_cache.h): the folder by the XDG Base
 * Directory specification, and files that are missing, damaged, of other kernels or can't be there
 * at all, none of which anybody is told of. The latter are skipped without a device. */
#include "../support/unit/unit.h"

#include "base/log.h"
#include "device/device.h"
#include "gpu/gpu.h"
#include "graph/plan.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { N = 1000 };

static bool found;
static char home[256], cache[256];

static int set_up(void **state)
{
    (void)state;
    if (unit_open(1) != 0) return -1;
    found = unit_device_found();
    path_in(home, "home");
    path_in(cache, "cache");
    return setenv("HOME", home, 1);
}

static void the_folder_is_the_users(void **state)
{
    (void)state;
    char dir[CN_PATH_BYTES], want[300];
    setenv("XDG_CACHE_HOME", "/var/cache/mine", 1);
    must(cn_cache_dir(dir));
    assert_string_equal(dir, "/var/cache/mine");
    snprintf(want, sizeof want, "%s/.cache", home);
    static const char *const none[] = {"", "relative/path"}; /* are to be ignored */
    for (size_t i = 0; i < CN_COUNT(none); i++) {
        setenv("XDG_CACHE_HOME", none[i], 1);
        must(cn_cache_dir(dir));
        assert_string_equal(dir, want);
    }
    unsetenv("XDG_CACHE_HOME");
    must(cn_cache_dir(dir));
    assert_string_equal(dir, want);
    static const char *const homeless[] = {"", "relative"};
    for (size_t i = 0; i < CN_COUNT(homeless); i++) {
        setenv("HOME", homeless[i], 1);
        assert_int_equal(cn_cache_dir(dir), CN_EIO);
    }
    unsetenv("HOME");
    assert_int_equal(cn_cache_dir(dir), CN_EIO);
    setenv("HOME", home, 1);
}

/* A device opened, two kernels run, and closed, with not a line of the log. */
static int lines;

static void count_line(void *user, cn_log_level level, const char *line)
{
    (void)user, (void)level, (void)line;
    lines++;
}

static void use_device(void)
{
    cn_backend *b = NULL;
    cn_graph *g = NULL;
    cn_plan *plan = NULL;
    float x[N], y[N];
    for (int i = 0; i < N; i++) x[i] = (float)i;
    lines = 0;
    cn_ctx_set_log(ctx, count_line, NULL);
    must(cn_backend_create(ctx, "vulkan", &b));
    must(cn_graph_create(ctx, &g));
    cn_node *in = cn_input(g, "x", CN_F32, 1, (int64_t[]){N}, false);
    cn_node *out = cn_scale(g, in, 2);
    must(cn_plan_create(ctx, g, b, &out, 1, false, &plan));
    must(cn_plan_set(plan, in, x));
    must(cn_plan_run(plan));
    assert_true(cn_plan_get(plan, out, y));
    for (int i = 0; i < N; i++) assert_true(y[i] == 2 * x[i]);
    cn_plan_destroy(plan);
    cn_graph_destroy(g);
    b->destroy(b);
    assert_int_equal(lines, 0);
}

/* The one file in the cache's folder; false: there is none. */
static bool find_file(const char *dir, char path[600])
{
    char folder[300];
    int n = 0;
    snprintf(folder, sizeof folder, "%s/controlnet", dir);
    DIR *d = opendir(folder);
    for (const struct dirent *e; d && (e = readdir(d));) {
        if (e->d_name[0] == '.') continue;
        assert_true(strncmp(e->d_name, "vulkan-", 7) == 0);
        snprintf(path, 600, "%s/%s", folder, e->d_name);
        n++;
    }
    if (d) closedir(d);
    assert_in_range(n, 0, 1);
    return n == 1;
}

static void read_file(const char *path, char **data, size_t *n)
{
    must(cn_file_read(ctx, path, 1 << 28, data, n));
}

static void it_is_written_once(void **state)
{
    (void)state;
    char path[600], again[600];
    struct stat a, b;
    if (!found) skip();
    setenv("XDG_CACHE_HOME", cache, 1);
    assert_false(find_file(cache, path));
    use_device();
    assert_true(find_file(cache, path));
    assert_int_equal(stat(path, &a), 0);
    use_device();
    assert_true(find_file(cache, again));
    assert_string_equal(path, again);
    assert_int_equal(stat(path, &b), 0);
    assert_true(a.st_ino == b.st_ino); /* the same content is left alone */
}

/* Whatever is wrong with it, the device computes and the file is whole again. */
static void damage_is_mended(void **state)
{
    (void)state;
    char path[600], *whole = NULL, *now = NULL;
    size_t n = 0, m = 0;
    if (!found) skip();
    assert_true(find_file(cache, path));
    read_file(path, &whole, &n);
    assert_true(n > 40);
    for (int k = 0; k < 6; k++) {
        char *bad = malloc(n);
        memcpy(bad, whole, n);
        if (k == 0) bad[0] ^= 1;        /* another format */
        if (k == 1) bad[9] ^= 1;        /* other kernels */
        if (k == 2) bad[n - 1] ^= 0x40; /* a bit of the data */
        const size_t bytes = k == 3 ? 0 : k == 4 ? 7 : k == 5 ? n - 1 : n;
        must(cn_file_write(ctx, path, bad, bytes));
        use_device();
        read_file(path, &now, &m);
        assert_int_equal(m, n);
        assert_memory_equal(now, whole, n);
        cn_free(now);
        free(bad);
    }
    cn_free(whole);
}

static void no_folder_is_no_fault(void **state)
{
    (void)state;
    char path[600], file[300];
    if (!found) skip();
    path_in(file, "a-file");
    must(cn_file_write(ctx, file, "x", 1));
    setenv("XDG_CACHE_HOME", file, 1);
    use_device();
    setenv("XDG_CACHE_HOME", "/dev/null", 1);
    use_device();
    setenv("XDG_CACHE_HOME", "/proc/nothing", 1);
    use_device();
    unsetenv("XDG_CACHE_HOME");
    unsetenv("HOME");
    use_device();
    setenv("HOME", home, 1);
    use_device();
    char dot[300];
    snprintf(dot, sizeof dot, "%s/.cache", home);
    assert_true(find_file(dot, path));
    /* a pipe in its place isn't waited for */
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    use_device();
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_true(S_ISFIFO(st.st_mode));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_folder_is_the_users),
        cmocka_unit_test(it_is_written_once),
        cmocka_unit_test(damage_is_mended),
        cmocka_unit_test(no_folder_is_no_fault),
    };
    return cmocka_run_group_tests(tests, set_up, unit_close);
}
