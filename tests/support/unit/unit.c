/* SPDX-License-Identifier: Apache-2.0 */
/* unit.c - see unit.h. */
#include "unit.h"

#include "../tiny_base.h"
#include "device/device.h"
#include "io/tensors.h"

#include <stdlib.h>
#include <string.h>

cn_ctx *ctx;
char root[64];

int unit_open(int threads)
{
    ctx = cn_ctx_create(threads);
    return ctx && tiny_dir_make(root) ? 0 : -1;
}

bool unit_device_found(void)
{
    char *list = NULL;
    const bool found = cn_devices(ctx, false, &list) == CN_OK;
    if (!found) print_message("SKIP %s\n", cn_error(ctx));
    cn_free(list);
    return found;
}

int unit_close(void **state)
{
    (void)state;
    if (root[0]) tiny_dir_remove(root);
    cn_ctx_destroy(ctx);
    return 0;
}

void must(cn_status s)
{
    if (s != CN_OK) fail_msg("%s: %s", cn_status_name(s), cn_error(ctx));
}

void refused(cn_status s, cn_status want, const char *words)
{
    if (s != want || !strstr(cn_error(ctx), words))
        fail_msg("%s: %s (wanted %s with \"%s\")", cn_status_name(s), cn_error(ctx),
                 cn_status_name(want), words);
}

void path_in(char out[256], const char *name)
{
    snprintf(out, 256, "%s/%s", root, name);
}

bool same_file(const char *dir_a, const char *dir_b, const char *name)
{
    char a[512], b[512], *x = NULL, *y = NULL;
    size_t n = 0, m = 0;
    snprintf(a, sizeof a, "%s/%s", dir_a, name);
    snprintf(b, sizeof b, "%s/%s", dir_b, name);
    must(cn_file_read(ctx, a, 1 << 26, &x, &n));
    must(cn_file_read(ctx, b, 1 << 26, &y, &m));
    const bool same = n == m && memcmp(x, y, n) == 0;
    cn_free(x);
    cn_free(y);
    return same;
}

bool same_tensors(const char *dir_a, const char *dir_b, const char *name)
{
    char path[512];
    cn_tensors *a = NULL, *b = NULL;
    snprintf(path, sizeof path, "%s/%s", dir_a, name);
    must(cn_tensors_open(ctx, path, &a));
    snprintf(path, sizeof path, "%s/%s", dir_b, name);
    must(cn_tensors_open(ctx, path, &b));
    bool same = cn_tensors_count(a) == cn_tensors_count(b) && cn_tensors_count(a) > 0;
    for (int64_t i = 0; same && i < cn_tensors_count(a); i++) {
        const cn_tensor_info *x = cn_tensors_at(a, i), *y = cn_tensors_at(b, i);
        size_t n = 0, m = 0;
        const void *from = cn_tensor_rows(x, 0, x->ndim ? x->shape[0] : 1, &n);
        const void *to = cn_tensor_rows(y, 0, y->ndim ? y->shape[0] : 1, &m);
        same = strcmp(x->name, y->name) == 0 && from && to && n == m && memcmp(from, to, n) == 0;
    }
    cn_tensors_close(a);
    cn_tensors_close(b);
    return same;
}

void copy_tensors(const char *from, const char *to, const char *mark)
{
    cn_tensors *t = NULL;
    must(cn_tensors_open(ctx, from, &t));
    const int64_t n = cn_tensors_count(t);
    cn_tensor_out *list = calloc((size_t)n + 1, sizeof *list);
    assert_non_null(list);
    for (int64_t i = 0; i < n; i++) {
        const cn_tensor_info *a = cn_tensors_at(t, i);
        list[i] =
            (cn_tensor_out){.name = a->name, .dtype = a->dtype, .ndim = a->ndim, .raw = a->data};
        memcpy(list[i].shape, a->shape, sizeof a->shape);
    }
    list[n] = (cn_tensor_out){.name = mark, .dtype = CN_F16, .ndim = 1, .raw = ""};
    must(cn_safetensors_write(ctx, to, list, mark ? n + 1 : n, NULL, NULL, NULL));
    free(list);
    cn_tensors_close(t);
}
