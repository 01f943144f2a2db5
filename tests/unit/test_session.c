/* SPDX-License-Identifier: Apache-2.0 */
/* test_session.c - annotators with networks: weight files told apart, sizes that change, folded
 * norms. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../support/env.h"
#include "../support/seeded_file.h"
#include "../support/tiny_model.h"
#include "annotate/network.h"
#include "graph/plan.h"
#include "io/tensors.h"
#include "model/checkpoint/derived.h"

static char root[] = "/tmp/cn-session-XXXXXX";
static char mlsd[512], other[512];

static cn_status write_files(cn_ctx *ctx)
{
    json_t *manifest = NULL;
    CN_TRY(cn_json_load_file(ctx, "tests/golden/annotators/mlsd/tiny_manifest.json", &manifest));
    cn_status s = cn_format(ctx, mlsd, sizeof mlsd, "%s/mlsd_tiny_512_fp32.safetensors", root);
    if (s == CN_OK) s = seeded_file_write(ctx, manifest, "", CN_F32, mlsd);
    json_decref(manifest);
    const float values[2] = {1, 2};
    const cn_tensor_out t = {"some.weight", CN_F32, 1, {2}, values, NULL};
    if (s == CN_OK) s = cn_format(ctx, other, sizeof other, "%s/other.safetensors", root);
    return s == CN_OK ? cn_safetensors_write(ctx, other, &t, 1, NULL, NULL, NULL) : s;
}

static int setup(void **state)
{
    static test_env env;
    if (!test_env_open(&env, 0) || !mkdtemp(root)) return -1;
    *state = &env;
    return write_files(env.ctx) == CN_OK ? 0 : -1;
}

static int teardown(void **state)
{
    tiny_model_remove(root);
    test_env_close(*state);
    return 0;
}

static cn_status open_mlsd(test_env *e, const char *a, const char *b, cn_session **out)
{
    const char *const weights[] = {a, b, NULL};
    cn_annotate_args args;
    CN_TRY(cn_annotate_read(e->ctx, "mlsd value_threshold=0.01", &args));
    args.weights = weights;
    return cn_session_open(e->ctx, &args, e->backend, out);
}

static cn_image *picture(test_env *e, int64_t width, int64_t height)
{
    cn_image *image = NULL;
    assert_int_equal(cn_image_create(e->ctx, width, height, &image), CN_OK);
    for (int64_t i = 0; i < width * height * 3; i++)
        image->rgb[i] = (uint8_t)(i % (3 * width) > 2 * (i / (3 * width)) ? 220 : 20);
    return image;
}

static void files_are_told_apart(void **state)
{
    test_env *e = *state;
    cn_session *s = NULL;
    assert_int_equal(open_mlsd(e, NULL, NULL, &s), CN_EINVAL);
    assert_non_null(strstr(cn_error(e->ctx), "mlsd_large_512_fp32.pth (https://"));
    assert_int_equal(open_mlsd(e, other, NULL, &s), CN_EMISMATCH);
    assert_non_null(strstr(cn_error(e->ctx), "no network known here (some.weight, ...)"));
    assert_int_equal(
        open_mlsd(e, "models/tiny-sd/vae/diffusion_pytorch_model.safetensors", NULL, &s),
        CN_EMISMATCH);
    assert_non_null(strstr(cn_error(e->ctx), "a VAE alone"));
    assert_int_equal(open_mlsd(e, mlsd, mlsd, &s), CN_EINVAL);
    assert_non_null(strstr(cn_error(e->ctx), "takes one of them"));
    assert_int_equal(open_mlsd(e, "models", NULL, &s), CN_EINVAL); /* a folder without it */
    assert_int_equal(open_mlsd(e, "missing.pth", NULL, &s), CN_EIO);
    assert_null(s);
}

static void a_folder_has_the_published_names(void **state)
{
    cn_session *s = NULL;
    assert_int_equal(open_mlsd(*state, root, NULL, &s), CN_OK);
    cn_session_close(s);
}

/* Pictures of other sizes come and go; each gets what it got before. */
static void sizes_change(void **state)
{
    enum { SIZES = 6 };
    static const int64_t sizes[SIZES][2] = {{64, 64},  {96, 64}, {70, 50},
                                            {32, 128}, {16, 16}, {80, 80}};
    test_env *e = *state;
    cn_session *s = NULL;
    cn_image *first[SIZES];
    assert_int_equal(open_mlsd(e, mlsd, NULL, &s), CN_OK);
    for (int i = 0; i < 2 * SIZES; i++) {
        const int64_t w = sizes[i % SIZES][0], h = sizes[i % SIZES][1];
        cn_image *in = picture(e, w, h), *out = NULL;
        assert_int_equal(cn_session_annotate(s, in, &out), CN_OK);
        assert_true(out->width == w && out->height == h);
        cn_image_destroy(in);
        if (i < SIZES) {
            first[i] = out;
            continue;
        }
        assert_memory_equal(out->rgb, first[i - SIZES]->rgb, (size_t)(w * h * 3));
        cn_image_destroy(out);
        cn_image_destroy(first[i - SIZES]);
    }
    cn_session_close(s);
}

/* What a kind can't see so small is enlarged for it, and the condition has the picture's size. */
static void the_smallest_pictures(void **state)
{
    static const struct {
        const char *kind, *manifest;
    } cases[] = {{"mlsd", "mlsd/tiny_manifest"},
                 {"hed", "hed/apache2_manifest"},
                 {"pidinet", "pidinet/manifest"},
                 {"scribble_pidinet", "pidinet/manifest"},
                 {"lineart", "lineart/manifest"}};
    static const int64_t sizes[][2] = {{1, 1}, {40, 1}, {1, 7}};
    test_env *e = *state;
    for (size_t i = 0; i < CN_COUNT(cases); i++) {
        char manifest_path[256], path[512];
        const char *const weights[] = {path, NULL};
        json_t *manifest = NULL;
        cn_annotate_args args;
        cn_session *s = NULL;
        snprintf(manifest_path, sizeof manifest_path, "tests/golden/annotators/%s.json",
                 cases[i].manifest);
        snprintf(path, sizeof path, "%s/smallest.safetensors", root);
        assert_int_equal(cn_json_load_file(e->ctx, manifest_path, &manifest), CN_OK);
        assert_int_equal(seeded_file_write(e->ctx, manifest, "", CN_F32, path), CN_OK);
        json_decref(manifest);
        assert_int_equal(cn_annotate_read(e->ctx, cases[i].kind, &args), CN_OK);
        args.weights = weights;
        assert_int_equal(cn_session_open(e->ctx, &args, e->backend, &s), CN_OK);
        for (size_t k = 0; k < CN_COUNT(sizes); k++) {
            cn_image *in = picture(e, sizes[k][0], sizes[k][1]), *out = NULL;
            if (cn_session_annotate(s, in, &out) != CN_OK)
                fail_msg("%s: %s", cases[i].kind, cn_error(e->ctx));
            assert_true(out->width == in->width && out->height == in->height);
            cn_image_destroy(in);
            cn_image_destroy(out);
        }
        cn_session_close(s);
    }
}

static cn_status annotate_on(test_env *e, const char *kind, const char *weights, const char *device,
                             const cn_image *in, cn_image **out)
{
    const char *const list[] = {weights, NULL};
    return cn_annotate_image(
        e->ctx, kind, &(cn_annotate_options){.weights = weights ? list : NULL, .device = device},
        in, out);
}

/* A device's condition is the CPU's but for roundings of its shades. */
static void a_device_annotates_alike(void **state)
{
    test_env *e = *state;
    char path[512], *text = NULL;
    json_t *manifest = NULL;
    cn_image *in = picture(e, 48, 64), *out[2] = {NULL, NULL}, *none = NULL;
    assert_int_equal(annotate_on(e, "canny", NULL, "vulkan", in, &none), CN_EINVAL);
    assert_non_null(strstr(cn_error(e->ctx), "canny has no network"));
    assert_int_equal(annotate_on(e, "mlsd", mlsd, "gpu", in, &none), CN_EINVAL);
    assert_non_null(strstr(cn_error(e->ctx), "--device gpu: auto, cpu, vulkan"));
    if (cn_devices(e->ctx, false, &text) != CN_OK) {
        print_message("SKIP %s\n", cn_error(e->ctx));
        cn_image_destroy(in);
        skip();
    }
    cn_free(text);
    snprintf(path, sizeof path, "%s/pidinet.safetensors", root);
    assert_int_equal(
        cn_json_load_file(e->ctx, "tests/golden/annotators/pidinet/manifest.json", &manifest),
        CN_OK);
    assert_int_equal(seeded_file_write(e->ctx, manifest, "", CN_F32, path), CN_OK);
    json_decref(manifest);
    for (int k = 0; k < 2; k++)
        assert_int_equal(annotate_on(e, "pidinet", path, k ? "vulkan" : "cpu", in, &out[k]), CN_OK);
    int most = 0;
    for (int64_t i = 0; i < 3 * in->width * in->height; i++)
        most = CN_MAX(most, abs(out[0]->rgb[i] - out[1]->rgb[i]));
    assert_true(most <= 1);
    cn_image_destroy(in);
    for (int k = 0; k < 2; k++) cn_image_destroy(out[k]);
}

static void resolutions_are_kept_apart(void **state)
{
    test_env *e = *state;
    const char *const weights[] = {mlsd, NULL};
    cn_annotate_args args;
    cn_session *s = NULL;
    cn_image *in = picture(e, 100, 150), *out = NULL;
    assert_int_equal(cn_annotate_read(e->ctx, "mlsd", &args), CN_OK);
    args.weights = weights;
    args.resolution = 192;
    args.detect_resolution = 64;
    assert_int_equal(cn_session_open(e->ctx, &args, e->backend, &s), CN_OK);
    assert_int_equal(cn_session_annotate(s, in, &out), CN_OK);
    assert_true(out->width == 192 && out->height == 256); /* 288 is halfway: to the even multiple */
    cn_image_destroy(in);
    cn_image_destroy(out);
    cn_session_close(s);
}

/* Whatever allocation fails, the session says so and leaves nothing behind. */
static void memory_runs_out_anywhere(void **state)
{
    test_env *e = *state;
    cn_image *in = picture(e, 32, 32);
    bool done = false;
    for (int64_t n = 0; !done; n += 1 + n / 6) {
        cn_session *s = NULL;
        cn_image *out = NULL;
        cn_ctx_fail_alloc_after(e->ctx, n);
        cn_status status = open_mlsd(e, mlsd, NULL, &s);
        if (status == CN_OK) status = cn_session_annotate(s, in, &out);
        cn_ctx_fail_alloc_after(e->ctx, -1);
        assert_true(status == CN_OK ? out != NULL : status == CN_ENOMEM && !out);
        done = status == CN_OK;
        /* with memory again it works */
        if (s && !done) assert_int_equal(cn_session_annotate(s, in, &out), CN_OK);
        cn_image_destroy(out);
        cn_session_close(s);
    }
    cn_image_destroy(in);
}

/* A picture that no memory could hold the network for. */
static void too_large_pictures_are_refused(void **state)
{
    test_env *e = *state;
    const char *const weights[] = {mlsd, NULL};
    cn_annotate_args args;
    cn_session *s = NULL;
    cn_network_values v;
    float x = 0;
    assert_true(cn_available_bytes() > 0);
    assert_int_equal(cn_annotate_read(e->ctx, "mlsd", &args), CN_OK);
    args.weights = weights;
    assert_int_equal(cn_session_open(e->ctx, &args, e->backend, &s), CN_OK);
    assert_int_equal(cn_session_run(s, cn_session_network(s, 0), 1 << 16, 1 << 16, &x, &v),
                     CN_ENOMEM);
    assert_non_null(strstr(cn_error(e->ctx), "65536x65536 needs"));
    cn_session_close(s);
}

static void names_and_settings_are_read(void **state)
{
    test_env *e = *state;
    cn_annotate_args args;
    assert_int_equal(cn_annotate_read(e->ctx, " canny low=50, high=60", &args), CN_OK);
    assert_true(args.values[0] == 50 && args.values[1] == 60);
    assert_int_equal(cn_annotate_read(e->ctx, "m_lsd", &args), CN_OK);
    assert_string_equal(args.kind->name, "mlsd");
    assert_int_equal(cn_annotate_read(e->ctx, "canny lo=50", &args), CN_EINVAL);
    assert_int_equal(cn_annotate_read(e->ctx, "", &args), CN_EINVAL);
    const char *name, *text;
    for (int i = 0; cn_kind_alias_at(i, &name, &text); i++) {
        assert_int_equal(cn_annotate_read(e->ctx, name, &args), CN_OK);
        assert_int_equal(cn_annotate_read(e->ctx, text, &args), CN_OK);
    }
}

/* --- folded parameters ------------------------------------------------------------------------ */

/* Three filters over two channels; the file has no bias for them. */
enum { O = 3, I = 2 };
static const float weight[O * I] = {1, 2, -3, 4, 0.5f, -1}, gamma_[O] = {1, 2, 3},
                              beta[O] = {0, -1, 2}, mean[O] = {0.5f, 1, -2},
                              variance[O] = {1, 4, 0.25f}, x[I] = {0.75f, -2};

static cn_status write_fold(cn_ctx *ctx, const char *path, int n)
{
    const cn_tensor_out list[] = {{"net.conv.weight", CN_F32, 4, {O, I, 1, 1}, weight, NULL},
                                  {"net.norm.bias", CN_F32, 1, {O}, beta, NULL},
                                  {"net.norm.running_mean", CN_F32, 1, {O}, mean, NULL},
                                  {"net.norm.running_var", CN_F32, 1, {O}, variance, NULL},
                                  {"net.norm.weight", CN_F32, 1, {O}, gamma_, NULL}};
    return cn_safetensors_write(ctx, path, list, n, NULL, NULL, NULL);
}

static cn_status run_fold(test_env *e, const char *path, bool standardise, float *out)
{
    cn_tensors *file = NULL;
    cn_params *p = NULL;
    cn_graph *g = NULL;
    cn_plan *plan = NULL;
    CN_TRY(cn_tensors_open(e->ctx, path, &file));
    assert_int_equal(cn_params_create(e->ctx, "net", &p), CN_OK);
    assert_int_equal(cn_graph_create(e->ctx, &g), CN_OK);
    cn_graph_use(g, p);
    cn_node *in = cn_input4(g, "x", 1, 1, 1, I);
    const cn_conv_spec spec = {.O = O, .kernel_h = 1, .kernel_w = 1, .no_bias = standardise};
    cn_scope_push(g, "net");
    cn_node *y = cn_convolution(g, "conv", in, &spec);
    y = standardise ? cn_derive_standardised(g, y, 0) : cn_derive_batch_norm(g, y, "norm", 1e-5f);
    cn_scope_pop(g);
    assert_int_equal(cn_plan_create(e->ctx, g, e->backend, &y, 1, false, &plan), CN_OK);
    const cn_source source = {
        .file = file, .path = path, .prefix = "", .layout = CN_LAYOUT_DIFFUSERS};
    cn_status s = cn_source_load(e->ctx, &source, e->backend, p);
    if (s == CN_OK) s = cn_plan_set(plan, in, x);
    if (s == CN_OK) s = cn_plan_run(plan);
    if (s == CN_OK) assert_true(cn_plan_get(plan, y, out));
    cn_plan_destroy(plan);
    cn_graph_destroy(g);
    cn_params_destroy(p);
    cn_tensors_close(file);
    return s;
}

static void norms_become_part_of_convolutions(void **state)
{
    test_env *e = *state;
    char path[512];
    float y[O];
    assert_int_equal(cn_format(e->ctx, path, sizeof path, "%s/fold.safetensors", root), CN_OK);
    assert_int_equal(write_fold(e->ctx, path, 5), CN_OK);
    assert_int_equal(run_fold(e, path, false, y), CN_OK);
    for (int o = 0; o < O; o++) {
        const double conv = weight[o * I] * x[0] + weight[o * I + 1] * x[1];
        const double want = (conv - mean[o]) / sqrt(variance[o] + 1e-5) * gamma_[o] + beta[o];
        assert_true(fabs(y[o] - want) < 1e-5);
    }
    assert_int_equal(run_fold(e, path, true, y), CN_OK);
    for (int o = 0; o < O; o++) { /* two values become 1 and -1 */
        const double sign = weight[o * I] > weight[o * I + 1] ? 1 : -1;
        assert_true(fabs(y[o] - sign * (x[0] - x[1])) < 1e-5);
    }
    assert_int_equal(write_fold(e->ctx, path, 4), CN_OK);
    assert_int_equal(run_fold(e, path, false, y), CN_EMISMATCH);
    assert_non_null(strstr(cn_error(e->ctx), "net.norm.weight is missing"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_are_told_apart),
        cmocka_unit_test(a_folder_has_the_published_names),
        cmocka_unit_test(sizes_change),
        cmocka_unit_test(the_smallest_pictures),
        cmocka_unit_test(a_device_annotates_alike),
        cmocka_unit_test(resolutions_are_kept_apart),
        cmocka_unit_test(memory_runs_out_anywhere),
        cmocka_unit_test(too_large_pictures_are_refused),
        cmocka_unit_test(names_and_settings_are_read),
        cmocka_unit_test(norms_become_part_of_convolutions),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
