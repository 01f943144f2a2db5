/* SPDX-License-Identifier: Apache-2.0 */
/* test_narrow.c - values that a narrower type can't hold: they never become infinite or smaller
 * without a word, in files that are written and in weights that are loaded.
 *
 * F16's largest value is 65504 and the next step would be 65536, so from 65520 on rounding gives
 * infinity (IEEE 754); BF16's border is half a step above its largest value; blocks of Q8 have an
 * F16 scale of a 127th of their largest magnitude.
 */
#include "../support/tiny_base.h"
#include "../support/unit/unit.h"
#include "cpu/cpu.h"
#include "model/checkpoint/base_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static cn_backend *backend;
static cn_str told; /* the log's lines */

static void take_line(void *user, cn_log_level level, const char *line)
{
    (void)user;
    if (level == CN_LOG_WARN) cn_str_addf(&told, "%s\n", line);
}

static int set_up(void **state)
{
    (void)state;
    if (unit_open(2) != 0) return -1;
    cn_ctx_set_log(ctx, take_line, NULL);
    return cn_backend_cpu_create(ctx, &backend) == CN_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    backend->destroy(backend);
    cn_str_free(&told);
    return unit_close(state);
}

static const char *log_since(size_t from)
{
    return told.data && told.len > from ? told.data + from : "";
}

/* --- types ------------------------------------------------------------------------------------ */

static float through(cn_dtype type, float x)
{
    unsigned char stored[64];
    float back;
    cn_from_f32(type, &x, stored, 1);
    cn_to_f32(type, stored, &back, 1);
    return back;
}

static void limits_are_where_values_break(void **state)
{
    (void)state;
    static const cn_dtype halves[] = {CN_F16, CN_BF16};
    static const float largest[] = {65504, 0x1.fep127f};
    for (int i = 0; i < 2; i++) {
        const float limit = cn_dtype_limit(halves[i]), below = nextafterf(limit, 0);
        assert_true(through(halves[i], limit) == INFINITY);
        assert_true(through(halves[i], -limit) == -INFINITY);
        assert_true(through(halves[i], below) == largest[i]);
        assert_true(through(halves[i], -below) == -largest[i]);
    }
    const float q8 = cn_dtype_limit(CN_Q8);
    assert_true(through(CN_Q8, nextafterf(q8, 0)) == 127 * 65504.0f);
    assert_true(through(CN_Q8, 2 * q8) == 127 * 65504.0f); /* saturates, which must be told */
    assert_true(cn_dtype_limit(CN_F32) == INFINITY && cn_dtype_limit(CN_F64) == INFINITY);
}

static void largest_magnitudes_are_finite(void **state)
{
    (void)state;
    enum { N = 3000 };
    static float x[N];
    static unsigned char stored[4 * N + 1];
    static const cn_dtype types[] = {CN_F32, CN_F16, CN_BF16};
    cn_seed_tensor("values", 0, 3, x, N);
    x[7] = NAN;
    x[1700] = -INFINITY;
    x[2999] = -60000;
    for (int t = 0; t < 3; t++) {
        cn_from_f32(types[t], x, stored + 1, N);
        assert_true(cn_largest(types[t], stored + 1, N) == -through(types[t], -60000));
        assert_true(cn_largest(types[t], stored + 1, 0) == 0);
    }
    const double doubles[] = {1, -3e5, 2};
    assert_true(cn_largest(CN_F64, doubles, 3) == 3e5f);
}

static void many_elements_are_measured_by_all_threads(void **state)
{
    (void)state;
    const size_t n = 3000001;
    float *x = calloc(n, sizeof *x);
    assert_non_null(x);
    x[n - 1] = -77777;
    assert_true(cn_largest(CN_F32, x, n) == 77777);
    free(x);
}

/* --- files ------------------------------------------------------------------------------------ */

static cn_status fill_second(void *user, int64_t i, float *out)
{
    int *calls = user;
    (*calls)++;
    for (int k = 0; k < 4; k++) out[k] = i == 1 ? 1e6f * (float)k : 0.5f;
    return CN_OK;
}

static void a_file_keeps_what_its_type_cannot_hold(void **state)
{
    (void)state;
    static const float small[] = {1, -65504, 65519, 0}, infinite[] = {INFINITY, 1, 2, 3};
    const cn_tensor_out list[] = {
        {.name = "small", .dtype = CN_F16, .ndim = 1, .shape = {4}, .data = small},
        {.name = "filled", .dtype = CN_F16, .ndim = 1, .shape = {4}},
        {.name = "infinite", .dtype = CN_F16, .ndim = 1, .shape = {4}, .data = infinite}};
    char path[256];
    cn_tensors *t = NULL;
    float v[4];
    int calls = 0;
    const size_t from = told.len;
    path_in(path, "kept.safetensors");
    must(cn_safetensors_write(ctx, path, list, 3, fill_second, &calls, NULL));
    assert_non_null(
        strstr(log_since(from), "kept.safetensors: 1 tensor is written as F32: filled"));
    assert_non_null(strstr(log_since(from), "3e+06, beyond F16"));
    assert_int_equal(calls, 2);
    must(cn_tensors_open(ctx, path, &t));
    assert_int_equal(cn_tensors_find(t, "small")->dtype, CN_F16);
    assert_int_equal(cn_tensors_find(t, "infinite")->dtype, CN_F16); /* as it came */
    assert_int_equal(cn_tensors_find(t, "filled")->dtype, CN_F32);
    must(cn_tensors_read(ctx, t, cn_tensors_find(t, "filled"), v));
    for (int k = 0; k < 4; k++) assert_true(v[k] == 1e6f * (float)k);
    must(cn_tensors_read(ctx, t, cn_tensors_find(t, "small"), v));
    assert_true(v[1] == -65504 && v[2] == 65504);
    cn_tensors_close(t);
}

static void many_tensors_are_counted(void **state)
{
    (void)state;
    static const float big[] = {1e5f};
    static char names[9][8];
    cn_tensor_out list[9];
    char path[256];
    const size_t from = told.len;
    for (int i = 0; i < 9; i++) {
        snprintf(names[i], sizeof names[i], "t%d", i);
        list[i] = (cn_tensor_out){
            .name = names[i], .dtype = CN_F16, .ndim = 1, .shape = {1}, .data = big};
    }
    path_in(path, "many.safetensors");
    must(cn_safetensors_write(ctx, path, list, 9, NULL, NULL, NULL));
    assert_non_null(strstr(log_since(from), "9 tensors are written as F32: t0"));
    assert_non_null(strstr(log_since(from), "and 4 more"));
}

/* --- models ----------------------------------------------------------------------------------- */

static const char weight[] = "down_blocks.0.resnets.0.conv1.weight";
static const char bias[] = "down_blocks.0.resnets.0.conv1.bias";

/* A tiny base whose UNet has one weight and one bias of `value`, the other values as they are. */
static void make_base(const char *dir, float value, cn_dtype dtype)
{
    char path[512];
    cn_tensors *t = NULL;
    must(tiny_base_write(ctx, dir, 8));
    snprintf(path, sizeof path, "%s/unet/diffusion_pytorch_model.safetensors", dir);
    must(cn_tensors_open(ctx, path, &t));
    const int64_t n = cn_tensors_count(t);
    cn_tensor_out *list = calloc((size_t)n, sizeof *list);
    assert_non_null(list);
    for (int64_t i = 0; i < n; i++) {
        const cn_tensor_info *info = cn_tensors_at(t, i);
        float *v = malloc((size_t)info->elements * sizeof *v);
        assert_non_null(v);
        must(cn_tensors_read(ctx, t, info, v));
        if (!strcmp(info->name, weight) || !strcmp(info->name, bias)) v[0] = value;
        list[i] =
            (cn_tensor_out){.name = info->name, .dtype = dtype, .ndim = info->ndim, .data = v};
        memcpy(list[i].shape, info->shape, sizeof info->shape);
    }
    must(cn_safetensors_write(ctx, path, list, n, NULL, NULL, NULL));
    for (int64_t i = 0; i < n; i++) free((void *)(uintptr_t)list[i].data);
    free(list);
    cn_tensors_close(t);
}

/* The UNet's parameters as its layers keep them in `storage`, loaded. */
static cn_params *load_unet(const cn_base *b, cn_dtype storage)
{
    cn_params *p = NULL, *declared = NULL;
    must(cn_net_declare(ctx, CN_NET_UNET, &b->unet, &declared));
    cn_params_set_storage(declared, storage);
    must(cn_base_keep_ranges(ctx, b, declared));
    must(cn_base_load(ctx, b, backend, declared));
    p = declared;
    return p;
}

static float first_value(const cn_params *p, const char *name)
{
    const cn_param *q = cn_params_find(p, name);
    assert_non_null(q);
    float *v = malloc((size_t)cn_param_elements(q) * sizeof *v), first;
    assert_non_null(v);
    must(cn_param_get(backend, ctx, q, v));
    first = v[0];
    free(v);
    return first;
}

static void weights_beyond_the_storage_type_stay_f32(void **state)
{
    (void)state;
    static const struct {
        float value;
        cn_dtype in_file, storage, kept;
    } cases[] = {{70000, CN_F32, CN_F16, CN_F32},   {70000, CN_F32, CN_Q8, CN_Q8},
                 {9e6f, CN_F32, CN_Q8, CN_F32},     {9e6f, CN_F32, CN_F16, CN_F32},
                 {65504, CN_F32, CN_F16, CN_F16},   {-1e30f, CN_BF16, CN_F16, CN_F32},
                 {70000, CN_F32, CN_BF16, CN_BF16}, {70000, CN_F32, CN_F32, CN_F32}};
    for (size_t i = 0; i < CN_COUNT(cases); i++) {
        char dir[256], name[32];
        cn_base *b = NULL;
        snprintf(name, sizeof name, "range%zu", i);
        path_in(dir, name);
        make_base(dir, cases[i].value, cases[i].in_file);
        must(cn_base_open(ctx, dir, &b));
        const size_t from = told.len;
        cn_params *p = load_unet(b, cases[i].storage);
        assert_int_equal(cn_params_find(p, weight)->dtype, cases[i].kept);
        assert_int_equal(cn_params_find(p, "down_blocks.0.resnets.0.conv2.weight")->dtype,
                         cases[i].storage);
        const float got = first_value(p, weight),
                    in_file = through(cases[i].in_file, cases[i].value);
        if (cases[i].kept == CN_F32) assert_true(got == in_file);
        assert_true(fabsf(got - in_file) < fabsf(in_file) / 120);
        assert_true(first_value(p, bias) == in_file);
        const bool wide = cases[i].kept == CN_F32 && cases[i].storage != CN_F32;
        assert_true((strstr(log_since(from), weight) != NULL) == wide);
        cn_params_destroy(p);
        const size_t told_once = told.len;
        cn_params_destroy(load_unet(b, cases[i].storage));
        assert_int_equal(told.len, told_once);
        cn_base_close(b);
    }
}

/* One weight of the UNet as 8-bit ones with a scale beside them. */
static void scale_weight_in(const char *dir, float scale)
{
    char path[512], base_name[64], scale_name[96];
    cn_tensors *t = NULL;
    snprintf(path, sizeof path, "%s/unet/diffusion_pytorch_model.safetensors", dir);
    must(cn_tensors_open(ctx, path, &t));
    const int64_t n = cn_tensors_count(t);
    cn_tensor_out *list = calloc((size_t)n + 1, sizeof *list);
    void *ones = malloc((size_t)cn_tensors_find(t, weight)->elements);
    assert_true(list && ones);
    memset(ones, 0x38, (size_t)cn_tensors_find(t, weight)->elements);
    for (int64_t i = 0; i < n; i++) {
        const cn_tensor_info *info = cn_tensors_at(t, i);
        const bool it = !strcmp(info->name, weight);
        list[i] = (cn_tensor_out){.name = info->name,
                                  .dtype = it ? CN_F8_E4M3 : info->dtype,
                                  .ndim = info->ndim,
                                  .raw = it ? ones : info->data};
        memcpy(list[i].shape, info->shape, sizeof info->shape);
    }
    snprintf(base_name, sizeof base_name, "%.*s", (int)(sizeof weight - sizeof ".weight"), weight);
    snprintf(scale_name, sizeof scale_name, "%s.scale_weight", base_name);
    list[n] = (cn_tensor_out){.name = scale_name, .dtype = CN_F32, .data = &scale};
    must(cn_safetensors_write(ctx, path, list, n + 1, NULL, NULL, NULL));
    cn_tensors_close(t);
    free(ones);
    free(list);
}

static void scaled_weights_beyond_the_storage_type_stay_f32(void **state)
{
    (void)state;
    static const float scales[] = {70000, 0.25f};
    for (size_t i = 0; i < CN_COUNT(scales); i++) {
        char dir[256], name[32];
        cn_base *b = NULL;
        snprintf(name, sizeof name, "scaled%zu", i);
        path_in(dir, name);
        make_base(dir, 1, CN_F16);
        scale_weight_in(dir, scales[i]);
        must(cn_base_open(ctx, dir, &b));
        cn_params *p = load_unet(b, CN_F16);
        assert_int_equal(cn_params_find(p, weight)->dtype, i ? CN_F16 : CN_F32);
        assert_true(first_value(p, weight) == scales[i]);
        cn_params_destroy(p);
        cn_base_close(b);
    }
}

static cn_dtype type_in(const char *dir, const char *name)
{
    char path[512];
    cn_tensors *t = NULL;
    snprintf(path, sizeof path, "%s/unet/diffusion_pytorch_model.safetensors", dir);
    must(cn_tensors_open(ctx, path, &t));
    const cn_dtype type = cn_tensors_find(t, name)->dtype;
    cn_tensors_close(t);
    return type;
}

static void a_model_is_converted_without_loss_of_range(void **state)
{
    (void)state;
    char dir[256], out[256], refused_out[256];
    cn_base *b = NULL;
    path_in(dir, "convert");
    path_in(out, "converted");
    path_in(refused_out, "refused");
    make_base(dir, 123456, CN_F32);
    const size_t from = told.len;
    must(cn_convert(ctx, dir, out, NULL));
    assert_non_null(strstr(log_since(from), "2 tensors are written as F32"));
    assert_non_null(strstr(log_since(from), weight));
    assert_int_equal(type_in(out, weight), CN_F32);
    assert_int_equal(type_in(out, bias), CN_F32);
    assert_int_equal(type_in(out, "conv_in.weight"), CN_F16);
    /* Most of it is F16, so its layers keep F16, but for this one. */
    must(cn_base_open(ctx, out, &b));
    cn_params *p = NULL;
    must(cn_base_params_create(ctx, b, CN_NET_UNET, CN_F32, &p));
    assert_int_equal(cn_params_storage(p), CN_F16);
    cn_params_destroy(p);
    p = load_unet(b, CN_F16);
    assert_true(first_value(p, weight) == 123456);
    cn_params_destroy(p);
    cn_base_close(b);
    refused(cn_convert(ctx, dir, refused_out, &(cn_convert_options){.refuse_out_of_range = true}),
            CN_EMISMATCH, "2 tensors are beyond the range of F16");
    assert_non_null(strstr(cn_error(ctx), "conv1.weight (123456)"));
    assert_false(cn_file_exists(refused_out));
    must(cn_convert(ctx, dir, refused_out,
                    &(cn_convert_options){.dtype = "bf16", .refuse_out_of_range = true}));
    assert_int_equal(type_in(refused_out, weight), CN_BF16);
}

/* --- drawings --------------------------------------------------------------------------------- */

static cn_generated *draw(const char *model, const char *type)
{
    cn_pipeline *p = NULL;
    cn_generated *g = NULL;
    cn_generate_options o;
    cn_generate_defaults(&o);
    o.prompt = "a red cube";
    o.steps = 2;
    must(cn_pipeline_create(ctx, &(cn_pipeline_options){.model = model, .weight_type = type}, &p));
    must(cn_generate(p, &o, &g));
    cn_pipeline_destroy(p);
    return g;
}

static void narrow_weights_still_draw(void **state)
{
    (void)state;
    static const char *const types[] = {"f16", "q8"};
    char dir[256];
    path_in(dir, "drawn");
    make_base(dir, 1e7f, CN_F32);
    cn_generated *want = draw(dir, "f32");
    const int64_t n = want->width * want->height * 3;
    for (int i = 0; i < 2; i++) {
        const size_t from = told.len;
        cn_generated *got = draw(dir, types[i]);
        int64_t far = 0;
        for (int64_t k = 0; k < n; k++)
            far += abs(cn_image_rgb(got->images[0])[k] - cn_image_rgb(want->images[0])[k]) > 24;
        assert_true(far * 20 < n);
        assert_non_null(strstr(log_since(from), weight));
        cn_generated_destroy(got);
    }
    cn_generated_destroy(want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(limits_are_where_values_break),
        cmocka_unit_test(largest_magnitudes_are_finite),
        cmocka_unit_test(many_elements_are_measured_by_all_threads),
        cmocka_unit_test(a_file_keeps_what_its_type_cannot_hold),
        cmocka_unit_test(many_tensors_are_counted),
        cmocka_unit_test(weights_beyond_the_storage_type_stay_f32),
        cmocka_unit_test(scaled_weights_beyond_the_storage_type_stay_f32),
        cmocka_unit_test(a_model_is_converted_without_loss_of_range),
        cmocka_unit_test(narrow_weights_still_draw),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
