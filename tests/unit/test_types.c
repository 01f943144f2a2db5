/* SPDX-License-Identifier: Apache-2.0 */
/* test_types.c - 8-bit floats and GGUF files, against torch's and the gguf package's values
 * (tools/make-file-fixtures.py), and GGUF files that lie.
 */
#include "../support/unit/unit.h"
#include "../support/values.h"
#include "io/tensors.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define GOLDEN "tests/golden/files/"

static int set_up(void **state)
{
    (void)state;
    return unit_open(2);
}

/* Every tensor of `path` has the shape and exactly the values of the same in types_f32. */
static int64_t check_values(const char *path)
{
    cn_tensors *t = NULL, *want = NULL;
    must(cn_tensors_open(ctx, path, &t));
    must(cn_tensors_open(ctx, GOLDEN "types_f32.safetensors", &want));
    assert_int_equal(cn_tensors_skipped(t), 0);
    const int64_t count = cn_tensors_count(t);
    for (int64_t i = 0; i < count; i++) {
        const cn_tensor_info *a = cn_tensors_at(t, i), *b = cn_tensors_find(want, a->name);
        if (!b) fail_msg("%s isn't expected", a->name);
        assert_int_equal(a->ndim, b->ndim);
        assert_int_equal(a->elements, b->elements);
        for (int k = 0; k < a->ndim; k++) assert_int_equal(a->shape[k], b->shape[k]);
        float *got = test_alloc((size_t)a->elements * sizeof *got);
        float *expected = test_alloc((size_t)a->elements * sizeof *expected);
        must(cn_tensors_read(ctx, want, b, expected));
        must(cn_tensors_read(ctx, t, a, got));
        for (int64_t k = 0; k < a->elements; k++)
            if (isnan(expected[k]) ? !isnan(got[k]) : got[k] != expected[k])
                fail_msg("%s[%lld] is %g, wanted %g", a->name, (long long)k, (double)got[k],
                         (double)expected[k]);
        /* rows from the middle */
        if (a->ndim > 1 && a->shape[0] > 2) {
            const int64_t each = a->elements / a->shape[0];
            must(cn_tensors_read_rows(ctx, t, a, 1, 2, got));
            for (int64_t k = 0; k < 2 * each; k++)
                assert_true(got[k] == expected[each + k] || isnan(got[k]));
        }
        free(got);
        free(expected);
    }
    cn_tensors_close(want);
    cn_tensors_close(t);
    return count;
}

static void every_8_bit_float_is_torchs(void **state)
{
    (void)state;
    assert_int_equal(check_values(GOLDEN "types.safetensors"), 2);
}

static void every_block_is_ggmls(void **state)
{
    (void)state;
    cn_tensors *t = NULL;
    assert_int_equal(check_values(GOLDEN "types.gguf"), 14);
    must(cn_tensors_open(ctx, GOLDEN "types.gguf", &t));
    assert_string_equal(cn_tensors_format(t), "gguf");
    assert_string_equal(cn_dtype_name(cn_tensors_find(t, "q4_k")->dtype), "Q4_K");
    assert_int_equal(cn_dtype_size(CN_Q6_K, 512), 420);
    cn_tensors_close(t);
}

static void blocks_stay_within_their_bounds(void **state)
{
    (void)state;
    cn_tensors *t = NULL;
    int seen = 0;
    must(cn_tensors_open(ctx, GOLDEN "types.gguf", &t));
    for (int64_t i = 0; i < cn_tensors_count(t); i++) {
        const cn_tensor_info *info = cn_tensors_at(t, i);
        const size_t n = (size_t)info->elements;
        const float bound = cn_largest_bound(info->dtype, info->data, n);
        const float most = cn_largest(info->dtype, info->data, n);
        if (info->dtype < CN_DTYPE_COUNT) {
            assert_true(bound == INFINITY);
            continue;
        }
        seen++;
        if (!(bound >= most && bound <= 4 * most))
            fail_msg("%s: %g, bound %g", info->name, (double)most, (double)bound);
    }
    assert_true(seen >= CN_ANY_DTYPE_COUNT - CN_Q8);
    cn_tensors_close(t);
}

/* --- scales beside 8-bit weights -------------------------------------------------------------- */

/* types.safetensors' 8-bit tensors as weights, each with n scales under `ending`. */
static cn_status open_scaled(const char *ending, const float *scales, int64_t n, char path[256],
                             cn_tensors **out)
{
    cn_tensors *t = NULL;
    cn_tensor_out list[5];
    char names[5][64];
    int k = 0;
    must(cn_tensors_open(ctx, GOLDEN "types.safetensors", &t));
    for (; k < 4; k += 2) {
        const cn_tensor_info *info = cn_tensors_at(t, k / 2);
        snprintf(names[k], sizeof names[k], "%s.weight", info->name);
        snprintf(names[k + 1], sizeof names[k], "%s%s", info->name, ending);
        list[k] = (cn_tensor_out){.name = names[k],
                                  .dtype = info->dtype,
                                  .ndim = 2,
                                  .shape = {info->shape[0], info->shape[1]},
                                  .raw = info->data};
        list[k + 1] = (cn_tensor_out){
            .name = names[k + 1], .ndim = n > 1, .shape = {n}, .dtype = CN_F32, .data = scales};
    }
    list[k++] = (cn_tensor_out){
        .name = "scaled_fp8", .dtype = CN_F8_E4M3, .ndim = 1, .shape = {2}, .raw = "\0\0"};
    path_in(path, "scaled.safetensors");
    must(cn_safetensors_write(ctx, path, list, k, NULL, NULL, NULL));
    cn_tensors_close(t);
    return cn_tensors_open(ctx, path, out);
}

static void scales_are_multiplied_in(void **state)
{
    (void)state;
    enum { N = 16 };
    static const char *const endings[] = {".scale_weight", ".weight_scale"};
    float scales[N], got[N * N], want[N * N];
    for (int i = 0; i < N; i++) scales[i] = 0.37f + 0.11f * (float)i;
    for (int c = 0; c < 4; c++) {
        const int64_t n = c / 2 ? N : 1;
        char path[256];
        cn_tensors *t = NULL, *plain = NULL;
        must(open_scaled(endings[c % 2], scales, n, path, &t));
        must(cn_tensors_open(ctx, GOLDEN "types_f32.safetensors", &plain));
        for (int k = 0; k < 2; k++) {
            const char *name = k ? "f8_e5m2" : "f8_e4m3";
            char weight[64];
            snprintf(weight, sizeof weight, "%s.weight", name);
            const cn_tensor_info *w = cn_tensors_find(t, weight);
            must(cn_tensors_read(ctx, plain, cn_tensors_find(plain, name), want));
            must(cn_tensors_read(ctx, t, w, got));
            for (int i = 0; i < N * N; i++) want[i] *= scales[n > 1 ? i / N : 0];
            for (int i = 0; i < N * N; i++)
                assert_true(isnan(want[i]) ? isnan(got[i]) : got[i] == want[i]);
            must(cn_tensors_read_rows(ctx, t, w, 5, 2, got));
            for (int i = 0; i < 2 * N; i++) assert_true(got[i] == want[5 * N + i]);
        }
        cn_tensors_close(plain);
        /* Several files as one find them too. */
        must(cn_tensors_join(ctx, &t, 1, &plain));
        must(cn_tensors_read(ctx, plain, cn_tensors_find(plain, "f8_e4m3.weight"), got));
        assert_true(got[N + 1] == 0x1.2p-5f * scales[n > 1 ? 1 : 0]); /* of 0x11 */
        cn_tensors_close(plain);
    }
}

static void scales_of_another_number_are_refused(void **state)
{
    (void)state;
    static const float scales[3] = {1, 1, 1};
    char path[256];
    refused(open_scaled(".scale_weight", scales, 3, path, &(cn_tensors *){NULL}), CN_EFORMAT,
            "f8_e4m3.scale_weight has 3 numbers for the 16 rows of f8_e4m3.weight");
}

/* --- files that lie --------------------------------------------------------------------------- */

static void add(cn_str *s, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++) {
        const char b = (char)(v >> 8 * i);
        cn_str_add(s, &b, 1);
    }
}

static void add_text(cn_str *s, const char *text)
{
    add(s, strlen(text), 8);
    cn_str_adds(s, text);
}

/* One tensor [rows, columns] named w. */
static cn_str one_tensor(uint64_t columns, uint64_t rows, uint32_t type, uint64_t offset,
                         size_t data)
{
    cn_str s = {0};
    cn_str_adds(&s, "GGUF");
    add(&s, 3, 4);
    add(&s, 1, 8);
    add(&s, 0, 8);
    add_text(&s, "w");
    add(&s, 2, 4);
    add(&s, columns, 8);
    add(&s, rows, 8);
    add(&s, type, 4);
    add(&s, offset, 8);
    while (s.len % 32) add(&s, 0, 1);
    for (size_t i = 0; i < data; i++) add(&s, 0, 1);
    return s;
}

static void expect(cn_str s, const char *words)
{
    cn_tensors *t = NULL;
    const cn_status got = cn_tensors_open_memory(ctx, s.data, s.len, &t);
    if (words)
        refused(got, CN_EFORMAT, words);
    else
        must(got);
    cn_tensors_close(t);
    cn_str_free(&s);
}

static void lies_are_found(void **state)
{
    (void)state;
    expect(one_tensor(4, 2, 0, 0, 32), NULL);
    expect(one_tensor(4, 2, 0, 0, 31), "beyond the file's end");
    expect(one_tensor(4, 2, 0, 32, 32), "beyond the file's end");
    expect(one_tensor(4, 2, 0, UINT64_MAX, 32), "beyond the file's end");
    expect(one_tensor(UINT64_C(1) << 62, 8, 0, 0, 32), "too large");
    expect(one_tensor(UINT64_MAX, 1, 0, 0, 32), "too large");
    expect(one_tensor(UINT64_C(1) << 60, 1, 0, 0, 32), "beyond the file's end");
    expect(one_tensor(33, 1, 8, 0, 64), "rows of 33 elements are no blocks of 32");
    expect(one_tensor(32, 2, 8, 0, 68), NULL);
    expect(one_tensor(32, 2, 8, 0, 67), "beyond the file's end");
    cn_str s = one_tensor(4, 2, 0, 0, 32);
    for (size_t n = 4; n < s.len; n++) {
        cn_tensors *t = NULL;
        assert_int_equal(cn_tensors_open_memory(ctx, s.data, n, &t), CN_EFORMAT);
    }
    s.data[4] = 1;
    refused(cn_tensors_open_memory(ctx, s.data, s.len, &(cn_tensors *){NULL}), CN_EFORMAT,
            "version 1");
    cn_str_free(&s);
}

static void unknown_types_are_skipped_by_name(void **state)
{
    (void)state;
    cn_str s = one_tensor(256, 1, 19, 0, 64);
    cn_tensors *t = NULL;
    must(cn_tensors_open_memory(ctx, s.data, s.len, &t));
    assert_int_equal(cn_tensors_count(t), 0);
    assert_int_equal(cn_tensors_skipped(t), 1);
    assert_string_equal(cn_tensors_skipped_at(t, 0), "w");
    assert_string_equal(cn_tensors_skipped_why(t, "w"), "GGML type 19");
    assert_null(cn_tensors_skipped_why(t, "v"));
    cn_tensors_close(t);
    cn_str_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_8_bit_float_is_torchs),
        cmocka_unit_test(every_block_is_ggmls),
        cmocka_unit_test(blocks_stay_within_their_bounds),
        cmocka_unit_test(scales_are_multiplied_in),
        cmocka_unit_test(scales_of_another_number_are_refused),
        cmocka_unit_test(lies_are_found),
        cmocka_unit_test(unknown_types_are_skipped_by_name),
    };
    return cmocka_run_group_tests(tests, set_up, unit_close);
}
