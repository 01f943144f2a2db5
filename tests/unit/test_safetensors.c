/* SPDX-License-Identifier: Apache-2.0 */
/* safetensors: reading, writing, element types, and files that lie. */
#include "io/tensors.h"

#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/cn-safetensors-XXXXXX";
static cn_ctx *ctx;

static int setup(void **state)
{
    (void)state;
    ctx = cn_ctx_create(1);
    return ctx && mkdtemp(folder) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    cn_ctx_destroy(ctx);
    return rmdir(folder);
}

static void path_of(char out[256], const char *name)
{
    snprintf(out, 256, "%s/%s", folder, name);
}

/* A file's bytes: header and `data` zero bytes. */
static size_t file_of(unsigned char *out, const char *header, size_t data)
{
    size_t n = strlen(header);
    memset(out, 0, 8 + n + data);
    for (int i = 0; i < 8; i++) out[i] = (unsigned char)(n >> (8 * i));
    memcpy(out + 8, header, n);
    return 8 + n + data;
}

static void expect_refused(const char *header, size_t data, const char *message)
{
    unsigned char file[4096];
    cn_tensors *t = NULL;
    size_t n = file_of(file, header, data);
    assert_int_equal(cn_tensors_open_memory(ctx, file, n, &t), CN_EFORMAT);
    assert_null(t);
    if (!strstr(cn_error(ctx), message)) fail_msg("%s: expected '%s'", cn_error(ctx), message);
}

static void lies_are_refused(void **state)
{
    (void)state;
    expect_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 4,
                   "truncated");
    expect_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}", 8,
                   "outside");
    expect_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[-8,0]}}", 8,
                   "outside");
    expect_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}}", 8,
                   "need 12");
    expect_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 12,
                   "belong to none");
    expect_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[NaN],\"data_offsets\":[0,8]}}", 8,
                   "header");
    expect_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[2.0],\"data_offsets\":[0,8]}}", 8,
                   "dimension 0");
    expect_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", 8,
                   "dimension 0");
    expect_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":\"2\",\"data_offsets\":[0,8]}}", 8,
                   "array");
    expect_refused("{\"a\":{\"dtype\":\"F31\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8,
                   "unknown dtype");
    expect_refused("{\"a\":{\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "no dtype");
    expect_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}", 8, "data_offsets");
    expect_refused("{\"a\":7}", 0, "object");
    expect_refused("{\"a\":{\"dtype\":\"U8\",\"shape\":[4611686018427387904,4611686018427387904],"
                   "\"data_offsets\":[0,0]}}",
                   0, "too large");
    expect_refused(
        "{\"a\":{\"dtype\":\"F64\",\"shape\":[2305843009213693952],\"data_offsets\":[0,0]}}", 0,
        "too large");
    expect_refused("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
                   "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[2,6]}}",
                   6, "overlaps");
    expect_refused("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
                   "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[6,10]}}",
                   10, "gap");
    expect_refused("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
                   "\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}",
                   2, "duplicate");
    expect_refused("{\"__metadata__\":{\"a\":1}}", 0, "must be a string");
    expect_refused("{\"a\":", 0, "header");
}

static void headers_that_lie_about_their_length(void **state)
{
    (void)state;
    unsigned char file[64] = {0};
    cn_tensors *t = NULL;
    file_of(file, "{}", 0);
    for (size_t n = 0; n < 10; n++)
        assert_int_equal(cn_tensors_open_memory(ctx, file, n, &t), CN_EFORMAT);
    file[0] = 200;
    assert_int_equal(cn_tensors_open_memory(ctx, file, 10, &t), CN_EFORMAT);
    assert_non_null(strstr(cn_error(ctx), "truncated"));
    memset(file, 0xff, 8);
    assert_int_equal(cn_tensors_open_memory(ctx, file, 10, &t), CN_EFORMAT);
    assert_non_null(strstr(cn_error(ctx), "100000000"));
    file_of(file, "{}", 0);
    assert_int_equal(cn_tensors_open_memory(ctx, file, 10, &t), CN_OK);
    assert_int_equal(cn_tensors_count(t), 0);
    cn_tensors_close(t);
}

/* JSON allows it, and trainers write it among tag frequencies. */
static void metadata_may_hold_nul(void **state)
{
    (void)state;
    unsigned char file[256];
    cn_tensors *t = NULL;
    const size_t n = file_of(file,
                             "{\"__metadata__\":{\"tags\":\"a\\u0000b\",\"format\":\"pt\"},"
                             "\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}",
                             1);
    assert_int_equal(cn_tensors_open_memory(ctx, file, n, &t), CN_OK);
    assert_string_equal(cn_tensors_metadata(t, "format"), "pt");
    assert_string_equal(cn_tensors_metadata(t, "tags"), "a");
    assert_int_equal(cn_tensors_count(t), 1);
    cn_tensors_close(t);
}

static void other_files_are_named(void **state)
{
    (void)state;
    cn_tensors *t = NULL;
    static const char *const cases[][2] = {
        {"\x80\x02}q.", "a pickle, but not torch.save's"},
        {"version https://git-lfs.github.com/spec/v1\n", "git-lfs"},
        {"<!DOCTYPE html>", "web page"},
        {"hello, world", "not a safetensors file"},
        {"", "empty"},
        {"GGUF\3", "GGUF"},
    };
    for (size_t i = 0; i < CN_COUNT(cases); i++) {
        size_t n = strlen(cases[i][0]);
        assert_int_equal(cn_tensors_open_memory(ctx, cases[i][0], n, &t), CN_EFORMAT);
        if (!strstr(cn_error(ctx), cases[i][1]))
            fail_msg("%s: expected %s", cn_error(ctx), cases[i][1]);
    }
    assert_int_equal(cn_tensors_open(ctx, "/nonexistent/file", &t), CN_EIO);
    assert_non_null(strstr(cn_error(ctx), "/nonexistent/file: "));
    assert_int_equal(cn_tensors_open(ctx, folder, &t), CN_EIO);
    assert_non_null(strstr(cn_error(ctx), "folder"));
}

static void what_has_no_place_here_is_counted(void **state)
{
    (void)state;
    unsigned char file[1024];
    cn_tensors *t = NULL;
    size_t n = file_of(file,
                       "{\"five\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,2],\"data_offsets\":[0,2]},"
                       "\"eight\":{\"dtype\":\"F8_E8M0\",\"shape\":[2],\"data_offsets\":[2,4]},"
                       "\"ok\":{\"dtype\":\"I8\",\"shape\":[],\"data_offsets\":[4,5]},"
                       "\"none\":{\"dtype\":\"I64\",\"shape\":[3,0],\"data_offsets\":[5,5]}}   ",
                       5);
    file[n - 1] = 0xfe;
    assert_int_equal(cn_tensors_open_memory(ctx, file, n, &t), CN_OK);
    assert_int_equal(cn_tensors_count(t), 2);
    assert_int_equal(cn_tensors_skipped(t), 2);
    assert_string_equal(cn_tensors_skipped_at(t, 0), "eight");
    assert_string_equal(cn_tensors_skipped_why(t, "eight"), "type F8_E8M0");
    assert_string_equal(cn_tensors_skipped_why(t, "five"), "more than 4 dimensions");
    const cn_tensor_info *ok = cn_tensors_find(t, "ok"), *none = cn_tensors_find(t, "none");
    float x = 0;
    assert_int_equal(ok->ndim, 0);
    assert_int_equal(ok->elements, 1);
    assert_int_equal(cn_tensors_read(ctx, t, ok, &x), CN_OK);
    assert_float_equal(x, -2, 0);
    assert_int_equal(none->elements, 0);
    assert_int_equal(cn_tensors_read(ctx, t, none, NULL), CN_OK);
    assert_null(cn_tensors_find(t, "five"));
    assert_int_equal(cn_tensors_read(ctx, t, NULL, &x), CN_EINVAL);
    cn_tensors_close(t);
}

static cn_status fill(void *user, int64_t i, float *out)
{
    if (*(int64_t *)user == i) return cn_fail(ctx, CN_EINTERNAL, "fill stops at %d", (int)i);
    for (int k = 0; k < 6; k++) out[k] = (float)k + 0.5f;
    return CN_OK;
}

static void written_files_read_back(void **state)
{
    (void)state;
    char path[256];
    path_of(path, "a.safetensors");
    float values[6] = {0, -1, 0.333333f, 65504, 1e-7f, 3};
    int64_t ints[3] = {-5, 0, 1LL << 40};
    const char *const metadata[] = {"format", "pt", "note", "d\xc3\xa9j\xc3\xa0 \"vu\"", NULL};
    cn_tensor_out list[] = {
        {"z.f32", CN_F32, 2, {2, 3}, values, NULL},       {"b.f16", CN_F16, 1, {6}, values, NULL},
        {"c.bf16", CN_BF16, 4, {1, 2, 3, 1}, NULL, NULL}, {"a.i64", CN_I64, 1, {3}, NULL, ints},
        {"scalar", CN_F32, 0, {0}, values + 5, NULL},     {"empty", CN_F32, 2, {4, 0}, NULL, NULL}};
    int64_t stop = -1;
    cn_tensors *t = NULL;
    float out[6];
    assert_int_equal(cn_safetensors_write(ctx, path, list, 6, fill, &stop, metadata), CN_OK);
    assert_int_equal(cn_tensors_open(ctx, path, &t), CN_OK);
    assert_string_equal(cn_tensors_format(t), "safetensors");
    assert_int_equal(cn_tensors_count(t), 6);
    assert_string_equal(cn_tensors_at(t, 0)->name, "a.i64");
    assert_null(cn_tensors_at(t, 6));
    assert_string_equal(cn_tensors_metadata(t, "note"), metadata[3]);
    assert_null(cn_tensors_metadata(t, "absent"));
    assert_int_equal((uintptr_t)cn_tensors_find(t, "z.f32")->data % 64, 0);
    assert_int_equal(cn_tensors_read(ctx, t, cn_tensors_find(t, "z.f32"), out), CN_OK);
    assert_memory_equal(out, values, sizeof values);
    assert_int_equal(cn_tensors_read(ctx, t, cn_tensors_find(t, "a.i64"), out), CN_OK);
    assert_float_equal(out[2], 0x1p40f, 0);
    assert_int_equal(cn_tensors_read(ctx, t, cn_tensors_find(t, "c.bf16"), out), CN_OK);
    assert_float_equal(out[5], 5.5f, 0);
    assert_int_equal(cn_tensors_read(ctx, t, cn_tensors_find(t, "b.f16"), out), CN_OK);
    assert_float_equal(out[3], 65504, 0);
    assert_float_equal(out[4], 0x1p-23f, 0); /* 1e-7 to the nearest multiple of 2^-24 */
    cn_tensors_close(t);

    stop = 2; /* a failed write leaves the file as it was */
    assert_int_equal(cn_safetensors_write(ctx, path, list, 3, fill, &stop, NULL), CN_EINTERNAL);
    assert_string_equal(cn_error(ctx), "fill stops at 2");
    assert_int_equal(cn_tensors_open(ctx, path, &t), CN_OK);
    assert_int_equal(cn_tensors_count(t), 6);
    cn_tensors_close(t);
    unlink(path);
}

static void bad_lists_are_not_written(void **state)
{
    (void)state;
    char path[256];
    path_of(path, "bad.safetensors");
    float v[4] = {0};
    cn_tensor_out twice[] = {{"a", CN_F32, 1, {4}, v, NULL}, {"a", CN_F32, 1, {4}, v, NULL}};
    cn_tensor_out bare = {"a", CN_F32, 1, {4}, NULL, NULL}, ints = {"a", CN_I64, 1, {4}, v, NULL};
    cn_tensor_out latin = {"\xe9", CN_F32, 1, {4}, v, NULL},
                  negative = {"a", CN_F32, 1, {-4}, v, NULL};
    assert_int_equal(cn_safetensors_write(ctx, path, twice, 2, NULL, NULL, NULL), CN_EINVAL);
    assert_int_equal(cn_safetensors_write(ctx, path, &bare, 1, NULL, NULL, NULL), CN_EINVAL);
    assert_int_equal(cn_safetensors_write(ctx, path, &ints, 1, NULL, NULL, NULL), CN_EINVAL);
    assert_int_equal(cn_safetensors_write(ctx, path, &latin, 1, NULL, NULL, NULL), CN_EINVAL);
    assert_int_equal(cn_safetensors_write(ctx, path, &negative, 1, NULL, NULL, NULL), CN_EINVAL);
    assert_int_equal(cn_safetensors_write(ctx, "/nonexistent/x", twice, 1, NULL, NULL, NULL),
                     CN_EIO);
    assert_false(cn_file_exists(path));
}

/* A limit on the size of files stands for the full disk: both make write() fail. */
static void full_disk_is_reported(void **state)
{
    (void)state;
    char path[256];
    path_of(path, "full.safetensors");
    static float v[50000];
    cn_tensor_out list = {"a", CN_F32, 1, {50000}, v, NULL};
    struct rlimit before, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = 65536;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    cn_status s = cn_safetensors_write(ctx, path, &list, 1, NULL, NULL, NULL);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(s, CN_EIO);
    assert_non_null(strstr(cn_error(ctx), "full.safetensors"));
    assert_false(cn_file_exists(path));
}

/* Every half and every bfloat16 goes to float and back unchanged (NaNs stay NaNs), whatever the
 * path: 65536 elements take the vector loop, one by one the scalar one. */
static void half_types_round_trip(void **state)
{
    (void)state;
    static uint16_t in[65536], out[65536];
    static float f[65536];
    static const cn_dtype types[] = {CN_F16, CN_BF16};
    for (size_t i = 0; i < 65536; i++) in[i] = (uint16_t)i;
    for (int k = 0; k < 2; k++) {
        cn_to_f32(types[k], in, f, 65536);
        cn_from_f32(types[k], f, out, 65536);
        for (size_t i = 0; i < 65536; i++) {
            float one;
            uint16_t back;
            cn_to_f32(types[k], &in[i], &one, 1);
            cn_from_f32(types[k], &one, &back, 1);
            assert_int_equal(back, out[i]);
            if (isnan(f[i])) {
                assert_true(isnan(one));
                continue;
            }
            assert_true(f[i] == one);
            assert_int_equal(out[i], in[i]);
        }
    }
}

static void halves_round_to_nearest_even(void **state)
{
    (void)state;
    static const struct {
        float f;
        uint16_t half, bf16;
    } cases[] = {
        {1.0f, 0x3c00, 0x3f80},
        {-2.0f, 0xc000, 0xc000},
        {65519.0f, 0x7bff, 0x4780},
        {65520.0f, 0x7c00, 0x4780},
        {0x1p-24f, 0x0001, 0x3380},
        {0x1p-25f, 0x0000, 0x3300},
        {0x1.8p-24f, 0x0002, 0x33c0},
        {1.0f + 0x1p-11f, 0x3c00, 0x3f80},
        {1.0f + 0x1.8p-10f, 0x3c02, 0x3f80},
        {1.0f + 0x1p-8f, 0x3c04, 0x3f80},
        {1.0f + 0x1.8p-7f, 0x3c0c, 0x3f82},
        {-0.0f, 0x8000, 0x8000},
        {INFINITY, 0x7c00, 0x7f80},
    };
    for (size_t i = 0; i < CN_COUNT(cases); i++) {
        float v[8];
        uint16_t h[8], b;
        for (int k = 0; k < 8; k++) v[k] = cases[i].f;
        cn_from_f32(CN_F16, v, h, 8);
        assert_int_equal(h[7], cases[i].half);
        cn_from_f32(CN_F16, v, h, 1);
        assert_int_equal(h[0], cases[i].half);
        cn_from_f32(CN_BF16, v, &b, 1);
        assert_int_equal(b, cases[i].bf16);
    }
}

static void other_types_convert_by_value(void **state)
{
    (void)state;
    unsigned char bytes[17];
    float f[2];
    double d[2] = {0.1, -3};
    int16_t s[2] = {-300, 7};
    uint8_t u[2] = {255, 2};
    memcpy(bytes + 1, d, sizeof d); /* misaligned on purpose */
    cn_to_f32(CN_F64, bytes + 1, f, 2);
    assert_true(f[0] == 0.1f && f[1] == -3.0f);
    cn_to_f32(CN_I16, s, f, 2);
    assert_true(f[0] == -300.0f && f[1] == 7.0f);
    cn_to_f32(CN_U8, u, f, 2);
    assert_true(f[0] == 255.0f && f[1] == 2.0f);
    cn_to_f32(CN_BOOL, u, f, 2);
    assert_true(f[0] == 1.0f && f[1] == 1.0f);
    assert_string_equal(cn_dtype_name(CN_BF16), "BF16");
    assert_int_equal(cn_dtype_bytes(CN_F64), 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lies_are_refused),
        cmocka_unit_test(headers_that_lie_about_their_length),
        cmocka_unit_test(metadata_may_hold_nul),
        cmocka_unit_test(other_files_are_named),
        cmocka_unit_test(what_has_no_place_here_is_counted),
        cmocka_unit_test(written_files_read_back),
        cmocka_unit_test(bad_lists_are_not_written),
        cmocka_unit_test(full_disk_is_reported),
        cmocka_unit_test(half_types_round_trip),
        cmocka_unit_test(halves_round_to_nearest_even),
        cmocka_unit_test(other_types_convert_by_value),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
