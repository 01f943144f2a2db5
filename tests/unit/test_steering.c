/* SPDX-License-Identifier: Apache-2.0 */
/* test_steering.c - networks that steer a UNet beside ControlNets: T2I-Adapter, ControlNet-LLLite,
 * Control-LoRA, Union. What their files say, and what is refused, in one line; that each acts where
 * it is told to. Their values are the reference's in golden and e2e.
 */
#include "../support/tiny_base.h"
#include "../support/unit/unit.h"
#include "cpu/cpu.h"
#include "image/image.h"
#include "model/checkpoint/base_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static cn_backend *backend;
static char folder[256]; /* a small SDXL base */

typedef struct entry {
    const char *name;
    int ndim;
    int64_t shape[4];
} entry;

static int set_up(void **state)
{
    (void)state;
    if (unit_open(1) != 0 || cn_backend_cpu_create(ctx, &backend) != CN_OK) return -1;
    path_in(folder, "base");
    must(tiny_sdxl_write(ctx, folder));
    return 0;
}

static int tear_down(void **state)
{
    backend->destroy(backend);
    return unit_close(state);
}

/* A file of these tensors, every value the same. */
static void write_file(const char *path, const entry *list, int n, float value)
{
    enum { MOST = 1 << 18 };
    float *values = malloc(MOST * sizeof *values);
    cn_tensor_out out[32];
    assert_true(values && n <= 32);
    for (int i = 0; i < MOST; i++) values[i] = value;
    for (int i = 0; i < n; i++) {
        out[i] = (cn_tensor_out){
            .name = list[i].name, .dtype = CN_F32, .ndim = list[i].ndim, .data = values};
        memcpy(out[i].shape, list[i].shape, sizeof list[i].shape);
    }
    must(cn_safetensors_write(ctx, path, out, n, NULL, NULL, NULL));
    free(values);
}

/* What opening such a file, and joining it to the base, says; the words are in one line. */
static void refuses(const char *name, const entry *list, int n, const char *words)
{
    char path[256];
    cn_base *b = NULL;
    cn_control_file *c = NULL;
    path_in(path, name);
    write_file(path, list, n, 0);
    must(cn_base_open(ctx, folder, &b));
    cn_status s = cn_control_open_any(ctx, path, &c);
    if (s == CN_OK) s = cn_control_join(ctx, c, b);
    if (s == CN_OK) fail_msg("%s: taken", name);
    if (!strstr(cn_error(ctx), words) || strchr(cn_error(ctx), '\n'))
        fail_msg("%s: \"%s\" isn't in: %s", name, words, cn_error(ctx));
    cn_control_close(c);
    cn_base_close(b);
}

#define MODULE "lllite_unet_input_blocks_3_1_transformer_blocks_0_attn1_to_q."
#define LLLITE(name, features)                                                               \
    {name "conditioning1.0.weight", 4, {2, 3, 4, 4}}, {name "conditioning1.0.bias", 1, {2}}, \
        {name "down.0.weight", 2, {3, features}}, {name "down.0.bias", 1, {3}},              \
        {name "mid.0.weight", 2, {3, 5}}, {name "mid.0.bias", 1, {3}},                       \
        {name "up.0.weight", 2, {features, 3}},                                              \
    {                                                                                        \
        name "up.0.bias", 1,                                                                 \
        {                                                                                    \
            features                                                                         \
        }                                                                                    \
    }

static void what_does_not_fit_is_named(void **state)
{
    (void)state;
    static const entry small[] = {{"conv_in.weight", 4, {32, 256, 3, 3}},
                                  {"body.0.block1.weight", 4, {32, 32, 3, 3}},
                                  {"body.2.block1.weight", 4, {96, 96, 3, 3}}};
    static const entry of_sd15[] = {{"conv_in.weight", 4, {32, 192, 3, 3}},
                                    {"body.0.block1.weight", 4, {32, 32, 3, 3}}};
    static const entry odd[] = {{"conv_in.weight", 4, {32, 100, 3, 3}},
                                {"body.0.block1.weight", 4, {32, 32, 3, 3}}};
    static const entry flat[] = {{"body.0.block1.weight", 1, {32}}};
    static const entry unknown[] = {
        LLLITE("lllite_unet_input_blocks_9_1_transformer_blocks_0_attn1_to_q.", 64)};
    static const entry wide[] = {LLLITE(MODULE, 48)};
    static const entry cut[] = {{MODULE "conditioning1.0.weight", 4, {2, 3, 4, 4}}};
    static const entry oblong[] = {{MODULE "conditioning1.0.weight", 4, {2, 3, 4, 2}}};
    static const entry none[] = {{"lllite_unet_x.down.0.weight", 2, {2, 2}}};
    static const entry blank[] = {{"lora_controlnet", 1, {0}}};
#define REFUSES(name, list, words) refuses(name ".safetensors", list, (int)CN_COUNT(list), words)
    REFUSES("small", small, "the T2I-Adapter's widths (32 96, pictures shrunk 16 times)");
    REFUSES("of_sd15", of_sd15, "shrunk 8 times) don't fit the base model's (32 64 32, 16 times)");
    REFUSES("odd", odd, "must take 64, 192, 256 or 768 channels");
    REFUSES("flat", flat, "must take 64, 192, 256 or 768 channels");
    REFUSES("unknown", unknown, "stands before no layer of this base model");
    REFUSES("wide", wide, "is for layers of width 48, the base model's is 64");
    REFUSES("cut", cut, "down.0.weight is missing");
    REFUSES("oblong", oblong, "a square convolution is expected");
    REFUSES("none", none, "no module (lllite_unet_");
    REFUSES("blank", blank, "input_hint_block");
}

/* A ControlNet for the base, of Union's form where types are given, as a folder. */
static void write_control(const char *path, int types, uint64_t seed)
{
    cn_base *b = NULL;
    cn_params *p = NULL;
    must(cn_base_open(ctx, folder, &b));
    cn_controlnet_config c = {.encoder = b->unet,
                              .condition_channels = 3,
                              .hint_levels = 2,
                              .hint_channels = {8, 8},
                              .union_types = types,
                              .union_layers = 1,
                              .union_heads = 8};
    must(cn_net_declare(ctx, CN_NET_CONTROL, &c, &p));
    must(cn_params_init(ctx, backend, p, seed));
    for (int64_t i = 0; i < cn_params_count(p); i++) { /* zero convolutions that act */
        cn_param *q = cn_params_at(p, i);
        const int64_t n = cn_param_elements(q);
        if (q->init != CN_INIT_ZERO || q->ndim < 2) continue;
        float *v = calloc((size_t)n, sizeof *v);
        assert_non_null(v);
        for (int64_t k = 0; k < n; k++) v[k] = (float)(k % 7 - 3) / 20;
        must(cn_param_set(backend, ctx, q, v));
        free(v);
    }
    must(cn_control_save_folder(ctx, backend, &c, p, CN_F32, path, NULL));
    cn_params_destroy(p);
    cn_base_close(b);
}

/* --- a Control-LoRA's weights ----------------------------------------------------------------- */

static void a_control_lora_is_added_to_the_base(void **state)
{
    (void)state;
    static const entry list[] = {{"lora_controlnet", 1, {0}},
                                 {"input_blocks.0.0.up", 4, {32, 2, 1, 1}},
                                 {"input_blocks.0.0.down", 4, {2, 4, 3, 3}},
                                 {"input_hint_block.0.weight", 4, {8, 3, 3, 3}}};
    char path[256];
    cn_base *b = NULL;
    cn_control_file *c = NULL;
    cn_params *unet = NULL, *p = NULL;
    path_in(path, "lora.safetensors");
    write_file(path, list, (int)CN_COUNT(list), 0.5f);
    must(cn_base_open(ctx, folder, &b));
    must(cn_control_open_any(ctx, path, &c));
    assert_true(c->low_rank);
    refused(cn_control_join(ctx, c, b), CN_EMISMATCH, "input_hint_block.0.bias: it was made for");
    c->base = b;
    must(cn_net_declare(ctx, CN_NET_UNET, &b->unet, &unet));
    must(cn_base_load(ctx, b, backend, unet));
    must(cn_params_create(ctx, "controlnet", &p));
    cn_graph *g = NULL;
    must(cn_graph_create(ctx, &g));
    cn_graph_use(g, p);
    cn_conv2d_ex(g, "input_blocks.0.0|conv_in", cn_input4(g, "x", 1, 4, 4, 4), 32, 3, 1,
                 (int[]){1, 1, 1, 1}, CN_INIT_FAN_IN);
    cn_graph_destroy(g);
    refused(cn_control_load(ctx, c, backend, p), CN_EMISMATCH, "input_blocks.0.0.bias");
    const cn_source s = cn_control_source(c);
    char name[CN_PATH_BYTES];
    cn_tensors *opened = NULL;
    cn_source base, with = s;
    must(cn_base_source(ctx, b, CN_NET_UNET, name, &opened, &base));
    with.base = &base;
    cn_param *q = cn_params_find(p, "conv_in.weight"),
             *of_base = cn_params_find(unet, "conv_in.weight");
    float got[32 * 4 * 9], want[32 * 4 * 9];
    assert_true(q && q->derived && of_base);
    must(q->derived->make(ctx, &with, q, got));
    must(cn_param_get(backend, ctx, of_base, want));
    for (int i = 0; i < 32 * 4 * 9; i++) assert_float_equal(got[i], want[i] + 0.5f, 1e-6f);
    cn_tensors_close(opened);
    cn_params_destroy(p);
    cn_params_destroy(unet);
    cn_control_close(c);
    cn_base_close(b);
}

static void a_control_lora_of_another_base(void **state)
{
    (void)state;
    static const entry list[] = {{"lora_controlnet", 1, {0}},
                                 {"input_blocks.0.0.up", 4, {24, 2, 1, 1}},
                                 {"input_blocks.0.0.down", 4, {2, 4, 3, 3}},
                                 {"input_blocks.0.0.bias", 1, {32}},
                                 {"input_hint_block.0.weight", 4, {8, 3, 3, 3}}};
    char path[256];
    cn_base *b = NULL;
    cn_control_file *c = NULL;
    cn_params *p = NULL;
    cn_graph *g = NULL;
    path_in(path, "other.safetensors");
    write_file(path, list, (int)CN_COUNT(list), 0.5f);
    must(cn_base_open(ctx, folder, &b));
    must(cn_control_open_any(ctx, path, &c));
    refused(cn_control_join(ctx, c, b), CN_EMISMATCH, "input_hint_block.0.bias: it was made for");
    c->base = b;
    must(cn_params_create(ctx, "controlnet", &p));
    must(cn_graph_create(ctx, &g));
    cn_graph_use(g, p);
    cn_conv2d(g, "input_blocks.0.0|conv_in", cn_input4(g, "x", 1, 4, 4, 4), 32, 3, 1, 1);
    cn_graph_destroy(g);
    refused(cn_control_load(ctx, c, backend, p), CN_EMISMATCH, "belongs to another base");
    cn_params_destroy(p);
    cn_control_close(c);
    cn_base_close(b);
}

/* --- drawing ---------------------------------------------------------------------------------- */

static void draw(const char *control, const cn_control_options *c, uint8_t *rgb)
{
    cn_pipeline *p = NULL;
    cn_generated *g = NULL;
    cn_generate_options o;
    const cn_pipeline_options po = {
        .model = folder, .controls = &control, .n_controls = control ? 1 : 0};
    must(cn_pipeline_create(ctx, &po, &p));
    cn_generate_defaults(&o);
    o.prompt = "a red cube";
    o.controls = c;
    o.width = o.height = TINY_PX;
    o.steps = 2;
    o.seed = 3;
    must(cn_generate(p, &o, &g));
    memcpy(rgb, cn_image_rgb(g->images[0]), 3 * TINY_PX * TINY_PX);
    cn_generated_destroy(g);
    cn_pipeline_destroy(p);
}

/* Whether two sets of options draw the same. */
static bool same(const char *control, const cn_control_options *a, const cn_control_options *b)
{
    uint8_t x[3 * TINY_PX * TINY_PX], y[3 * TINY_PX * TINY_PX];
    draw(control, a, x);
    draw(control, b, y);
    return !memcmp(x, y, sizeof x);
}

static void a_unions_conditions(void **state)
{
    (void)state;
    char path[256];
    cn_image *picture = NULL, *other = NULL;
    path_in(path, "union");
    write_control(path, 6, 11);
    must(cn_image_create(ctx, TINY_PX, TINY_PX, &picture));
    must(cn_image_create(ctx, TINY_PX, TINY_PX, &other));
    for (int i = 0; i < 3 * TINY_PX * TINY_PX; i++) picture->rgb[i] = (uint8_t)(i % 251);
    memset(other->rgb, 200, 3 * TINY_PX * TINY_PX);
    const cn_control_options canny = {.image = picture, .type = "canny", .strength = 1, .end = 1};
    cn_control_options depth = canny, by_kind = canny, two = canny, turned = canny, weak = canny;
    depth.type = "depth";
    by_kind.type = "lineart"; /* the same type */
    const cn_control_options further = {.image = other, .type = "depth", .strength = 0.5, .end = 1};
    two.more = &further;
    two.n_more = 1;
    turned = further;
    turned.strength = 0.5;
    turned.more = &canny;
    turned.n_more = 1;
    weak = two;
    weak.strength = 0.25;
    assert_false(same(path, &canny, &depth));
    assert_true(same(path, &canny, &by_kind));
    assert_false(same(path, &canny, &two));
    assert_true(same(path, &two, &turned)); /* their order doesn't count */
    assert_false(same(path, &two, &weak));
    cn_control_options among = two, unknown = canny;
    among.union_attention = "conditions-only";
    assert_false(same(path, &two, &among));
    cn_pipeline *p = NULL;
    cn_generated *g = NULL;
    cn_generate_options o;
    const char *const paths[] = {path};
    const cn_pipeline_options po = {.model = folder, .controls = paths, .n_controls = 1};
    must(cn_pipeline_create(ctx, &po, &p));
    cn_generate_defaults(&o);
    o.prompt = "";
    o.controls = &unknown;
    unknown.type = "tile"; /* of ProMax's eight types */
    refused(cn_generate(p, &o, &g), CN_EINVAL, "--control-type tile: this ControlNet Union knows");
    unknown.type = NULL;
    refused(cn_generate(p, &o, &g), CN_EINVAL, "wants to know what the image shows");
    cn_pipeline_destroy(p);
    cn_image_destroy(picture);
    cn_image_destroy(other);
}

static void only_a_union_takes_types(void **state)
{
    (void)state;
    char path[256];
    cn_image *picture = NULL;
    cn_pipeline *p = NULL;
    cn_generated *g = NULL;
    cn_generate_options o;
    path_in(path, "plain");
    write_control(path, 0, 12);
    must(cn_image_create(ctx, TINY_PX, TINY_PX, &picture));
    const char *const paths[] = {path};
    const cn_control_options c = {.image = picture, .type = "canny", .strength = 1, .end = 1};
    const cn_pipeline_options po = {.model = folder, .controls = paths, .n_controls = 1};
    must(cn_pipeline_create(ctx, &po, &p));
    cn_generate_defaults(&o);
    o.prompt = "";
    o.controls = &c;
    refused(cn_generate(p, &o, &g), CN_EINVAL, "is no ControlNet Union");
    cn_pipeline_destroy(p);
    cn_image_destroy(picture);
}

/* From folder to file and back: the same picture from all three. */
static void a_union_is_converted(void **state)
{
    (void)state;
    char path[256], file[256], back[256];
    cn_control_file *c = NULL;
    uint8_t x[3 * TINY_PX * TINY_PX], y[3 * TINY_PX * TINY_PX];
    cn_image *picture = NULL;
    path_in(path, "union");
    path_in(file, "union-converted.safetensors");
    path_in(back, "union-again");
    const cn_convert_job to_file = {.in = path, .out = file, .single = true, .dtype = CN_F32};
    const cn_convert_job to_folder = {.in = file, .out = back, .dtype = CN_F32};
    must(cn_weights_convert(ctx, backend, &to_file));
    must(cn_weights_convert(ctx, backend, &to_folder));
    must(cn_control_open(ctx, file, &c));
    assert_int_equal(c->config.union_types, 6);
    cn_control_close(c);
    must(cn_image_create(ctx, TINY_PX, TINY_PX, &picture));
    memset(picture->rgb, 90, 3 * TINY_PX * TINY_PX);
    const cn_control_options o = {.image = picture, .type = "canny", .strength = 1, .end = 1};
    draw(path, &o, x);
    draw(file, &o, y);
    assert_memory_equal(x, y, sizeof x);
    draw(back, &o, y);
    assert_memory_equal(x, y, sizeof x);
    cn_image_destroy(picture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_does_not_fit_is_named),
        cmocka_unit_test(a_control_lora_is_added_to_the_base),
        cmocka_unit_test(a_control_lora_of_another_base),
        cmocka_unit_test(a_unions_conditions),
        cmocka_unit_test(only_a_union_takes_types),
        cmocka_unit_test(a_union_is_converted),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
