/* SPDX-License-Identifier: Apache-2.0 */
/* test_nets.c - the networks as declared: names, shapes, what comes out, and what is refused.
 *
 * tests/golden/core: manifests of small networks as diffusers and transformers build them.
 * tests/golden/names.txt: "diffusers name<TAB>name in Stable Diffusion's single file" of the same
 * tensors. Nothing is run here; values are the golden tests' concern.
 */
#include "model/nets/nets.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

typedef struct net {
    cn_ctx *ctx;
    cn_graph *g;
    cn_params *p;
    json_t *manifest;
} net;

/* core: the network whose manifest is read, NULL for none. */
static net net_open(const char *network, const char *core)
{
    net n = {.ctx = cn_ctx_create(1)};
    assert_non_null(n.ctx);
    assert_int_equal(cn_graph_create(n.ctx, &n.g), CN_OK);
    assert_int_equal(cn_params_create(n.ctx, network, &n.p), CN_OK);
    cn_graph_use(n.g, n.p);
    if (!core) return n;
    char path[128];
    json_error_t error;
    snprintf(path, sizeof path, "tests/golden/core/%s.manifest.json", core);
    n.manifest = json_load_file(path, 0, &error);
    if (!n.manifest) fail_msg("%s: %s", path, error.text);
    return n;
}

static void net_close(net *n)
{
    json_decref(n->manifest);
    cn_graph_destroy(n->g);
    cn_params_destroy(n->p);
    cn_ctx_destroy(n->ctx);
}

static void assert_built(net *n)
{
    if (cn_graph_status(n->g) != CN_OK) fail_msg("%s", cn_error(n->ctx));
}

static void assert_refused(net *n, const char *words)
{
    assert_int_not_equal(cn_graph_status(n->g), CN_OK);
    if (!strstr(cn_error(n->ctx), words)) fail_msg("'%s' not in: %s", words, cn_error(n->ctx));
}

static void assert_shape(const cn_node *x, int ndim, const int64_t *shape)
{
    assert_non_null(x);
    assert_int_equal(x->ndim, ndim);
    for (int i = 0; i < ndim; i++) assert_int_equal(x->shape[i], shape[i]);
}

static void assert_shape4(const cn_node *x, int64_t N, int64_t H, int64_t W, int64_t C)
{
    assert_shape(x, 4, (int64_t[]){N, H, W, C});
}

static const json_t *config_of(const net *n)
{
    const json_t *c = json_object_get(n->manifest, "config");
    assert_non_null(c);
    return c;
}

static int64_t config_int(const json_t *c, const char *key)
{
    const json_t *v = json_object_get(c, key);
    if (!json_is_integer(v)) fail_msg("config: no integer '%s'", key);
    return json_integer_value(v);
}

static int config_list(const json_t *c, const char *key, int64_t *out)
{
    const json_t *list = json_object_get(c, key);
    size_t count = json_array_size(list);
    assert_in_range(count, 1, CN_MAX_LEVELS);
    for (size_t i = 0; i < count; i++) out[i] = json_integer_value(json_array_get(list, i));
    return (int)count;
}

/* As diffusers' defaults have it: attention at every level but the last. */
static cn_unet_config unet_config(const json_t *j)
{
    cn_unet_config c = {.norm_groups = 32, .out_channels = 4};
    c.in_channels = config_int(j, "in_channels");
    c.levels = config_list(j, "block_out_channels", c.channels);
    c.layers_per_block = (int)config_int(j, "layers_per_block");
    c.context_dim = config_int(j, "cross_attention_dim");
    for (int i = 0; i < c.levels; i++) {
        c.attention[i] = i + 1 < c.levels;
        c.heads[i] = (int)config_int(j, "attention_head_dim");
        c.transformer_layers[i] = 1;
    }
    return c;
}

/* Latent [N,h,w,4], timesteps and a context of 77 tokens. */
static cn_unet_inputs unet_inputs(cn_graph *g, const cn_unet_config *c, int64_t h, int64_t w)
{
    return (cn_unet_inputs){
        .x = cn_input4(g, "x", 2, h, w, c->in_channels),
        .t = cn_input(g, "t", CN_F32, 1, (int64_t[]){2}, false),
        .context = cn_input(g, "context", CN_F32, 3, (int64_t[]){2, 77, c->context_dim}, true),
    };
}

/* --- the names -------------------------------------------------------------------------------- */

/* {diffusers name: single-file name} of tests/golden/names.txt. */
static json_t *load_names(void)
{
    FILE *f = fopen("tests/golden/names.txt", "r");
    if (!f) fail_msg("tests/golden/names.txt is missing");
    json_t *names = json_object();
    char line[512];
    while (fgets(line, sizeof line, f)) {
        char *tab = strchr(line, '\t');
        assert_non_null(tab);
        *tab = 0;
        tab[1 + strcspn(tab + 1, "\n")] = 0;
        json_object_set_new(names, line, json_string(tab + 1));
    }
    fclose(f);
    return names;
}

static void check_param(const cn_param *q, const json_t *tensor)
{
    const json_t *shape = json_object_get(tensor, "shape");
    if ((size_t)q->ndim != json_array_size(shape))
        fail_msg("%s: %d dimensions, the manifest has %zu", q->diffusers_name, q->ndim,
                 json_array_size(shape));
    for (int i = 0; i < q->ndim; i++) {
        long long want = json_integer_value(json_array_get(shape, (size_t)i));
        if (q->shape[i] != want)
            fail_msg("%s: dimension %d is %lld, the manifest has %lld", q->diffusers_name, i,
                     (long long)q->shape[i], want);
    }
}

/* Every tensor of the manifest declared once with its shape and both names, and no other. */
static void check_declared(const net *n, bool same_names)
{
    const json_t *tensors = json_object_get(n->manifest, "tensors");
    json_t *names = same_names ? NULL : load_names();
    size_t count = json_array_size(tensors);
    assert_int_not_equal(count, 0);
    for (size_t i = 0; i < count; i++) {
        const json_t *tensor = json_array_get(tensors, i);
        const char *name = json_string_value(json_object_get(tensor, "name"));
        const cn_param *q = cn_params_find(n->p, name);
        if (!q) fail_msg("%s isn't declared", name);
        assert_string_equal(q->diffusers_name, name);
        check_param(q, tensor);
        const char *ldm = names ? json_string_value(json_object_get(names, name)) : name;
        if (!ldm) fail_msg("%s isn't in names.txt", name);
        assert_string_equal(q->ldm_name, ldm);
        assert_ptr_equal(cn_params_find(n->p, ldm), q);
    }
    assert_int_equal(cn_params_count(n->p), (int64_t)count);
    json_decref(names);
}

/* Every block that holds a tensor of the manifest has its result remembered under its path. */
static void check_taps(const net *n)
{
    static const char *const kinds[] = {".resnets.", ".attentions.", ".downsamplers.",
                                        ".upsamplers."};
    const json_t *tensors = json_object_get(n->manifest, "tensors");
    int found = 0;
    for (size_t i = 0; i < json_array_size(tensors); i++) {
        const json_t *name = json_object_get(json_array_get(tensors, i), "name");
        char path[CN_NAME_MAX];
        snprintf(path, sizeof path, "%s", json_string_value(name));
        for (size_t k = 0; k < CN_COUNT(kinds); k++) {
            char *at = strstr(path, kinds[k]);
            if (!at) continue;
            at += strlen(kinds[k]);
            at[strcspn(at, ".")] = 0;
            if (!cn_graph_tap(n->g, cn_params_network(n->p), path)) fail_msg("no tap %s", path);
            found++;
        }
    }
    assert_int_not_equal(found, 0);
}

static void test_unet(void **state)
{
    (void)state;
    net n = net_open("unet", "unet");
    cn_unet_config c = unet_config(config_of(&n));
    cn_unet_inputs in = unet_inputs(n.g, &c, 16, 16);
    cn_node *y = cn_unet_build(n.g, &c, &in);
    assert_built(&n);
    assert_shape4(y, 2, 16, 16, 4);
    check_declared(&n, false);
    check_taps(&n);
    assert_shape(cn_graph_tap(n.g, "unet", "time_embedding"), 2, (int64_t[]){2, 128});
    assert_shape4(cn_graph_tap(n.g, "unet", "down_blocks.0.resnets.0"), 2, 16, 16, 32);
    assert_shape4(cn_graph_tap(n.g, "unet", "down_blocks.2.attentions.1"), 2, 4, 4, 64);
    assert_shape4(cn_graph_tap(n.g, "unet", "down_blocks.0.downsamplers.0"), 2, 8, 8, 32);
    assert_shape4(cn_graph_tap(n.g, "unet", "mid_block.attentions.0"), 2, 2, 2, 64);
    assert_shape4(cn_graph_tap(n.g, "unet", "up_blocks.1.upsamplers.0"), 2, 8, 8, 64);
    assert_shape4(cn_graph_tap(n.g, "unet", "up_blocks.3.attentions.2"), 2, 16, 16, 32);
    assert_null(cn_graph_tap(n.g, "unet", "down_blocks.3.attentions.0"));
    net_close(&n);
}

static cn_controlnet_config controlnet_config(const json_t *j)
{
    cn_controlnet_config c = {.encoder = unet_config(j), .condition_channels = 3};
    c.hint_levels = config_list(j, "conditioning_embedding_out_channels", c.hint_channels);
    return c;
}

static void test_controlnet(void **state)
{
    (void)state;
    net n = net_open("controlnet", "controlnet");
    cn_controlnet_config c = controlnet_config(config_of(&n));
    cn_unet_inputs in = unet_inputs(n.g, &c.encoder, 16, 16);
    cn_node *condition = cn_input4(n.g, "condition", 2, 128, 128, 3);
    cn_node *hint = cn_controlnet_hint_build(n.g, &c, condition);
    assert_shape4(hint, 2, 16, 16, 32);
    assert_ptr_equal(cn_graph_tap(n.g, "controlnet", "controlnet_cond_embedding"), hint);
    cn_residuals r;
    cn_controlnet_build(n.g, &c, &in, hint, &r);
    assert_built(&n);
    check_declared(&n, false);
    check_taps(&n);
    static const int64_t sides[] = {16, 16, 16, 8, 8, 8, 4, 4, 4, 2, 2, 2};
    assert_int_equal(r.n, CN_COUNT(sides));
    for (int i = 0; i < r.n; i++) assert_shape4(r.down[i], 2, sides[i], sides[i], i < 7 ? 32 : 64);
    assert_shape4(r.mid, 2, 2, 2, 64);
    net_close(&n);
}

/* What training from scratch starts at 0: the 13 zero convolutions and the hint's last layer. */
static void test_zero_start(void **state)
{
    (void)state;
    net n = net_open("controlnet", "controlnet");
    cn_controlnet_config c = controlnet_config(config_of(&n));
    cn_unet_inputs in = unet_inputs(n.g, &c.encoder, 16, 16);
    cn_node *condition = cn_input4(n.g, "condition", 2, 128, 128, 3);
    cn_residuals r;
    cn_controlnet_build(n.g, &c, &in, cn_controlnet_hint_build(n.g, &c, condition), &r);
    assert_built(&n);
    int zero = 0;
    for (int64_t i = 0; i < cn_params_count(n.p); i++) {
        const cn_param *q = cn_params_at(n.p, i);
        bool joins = !strncmp(q->ldm_name, "zero_convs.", 11) ||
                     !strncmp(q->ldm_name, "middle_block_out.", 17) ||
                     !strncmp(q->ldm_name, "input_hint_block.14.", 20);
        if (joins && q->init != CN_INIT_ZERO) fail_msg("%s doesn't start at 0", q->ldm_name);
        if (q->ndim > 1 && q->init == CN_INIT_ZERO) zero++;
    }
    assert_int_equal(zero, 14);
    net_close(&n);
}

static cn_vae_config vae_config(const json_t *j)
{
    cn_vae_config c = {.image_channels = 3, .norm_groups = 32, .scaling_factor = 0.18215f};
    c.latent_channels = config_int(j, "latent_channels");
    c.levels = config_list(j, "block_out_channels", c.channels);
    c.layers_per_block = (int)config_int(j, "layers_per_block");
    return c;
}

static void test_vae(void **state)
{
    (void)state;
    net n = net_open("vae", "vae");
    cn_vae_config c = vae_config(config_of(&n));
    cn_node *moments = cn_vae_encode_build(n.g, &c, cn_input4(n.g, "image", 2, 128, 64, 3));
    cn_node *image = cn_vae_decode_build(n.g, &c, cn_input4(n.g, "z", 2, 16, 8, 4));
    assert_built(&n);
    assert_shape4(moments, 2, 16, 8, 8);
    assert_shape4(image, 2, 128, 64, 3);
    check_declared(&n, false);
    check_taps(&n);
    int as_conv = 0;
    for (int64_t i = 0; i < cn_params_count(n.p); i++) {
        const cn_param *q = cn_params_at(n.p, i);
        if (q->ldm_conv && q->ndim == 2) as_conv++;
    }
    assert_int_equal(as_conv, 8); /* q, k, v, proj_out in either half */
    net_close(&n);
}

static cn_clip_config clip_config(const json_t *j)
{
    return (cn_clip_config){
        .vocabulary = config_int(j, "vocab_size"),
        .hidden = config_int(j, "hidden_size"),
        .intermediate = config_int(j, "intermediate_size"),
        .max_positions = config_int(j, "max_position_embeddings"),
        .layers = (int)config_int(j, "num_hidden_layers"),
        .heads = (int)config_int(j, "num_attention_heads"),
        .act = CN_ACT_QUICK_GELU,
        .layer_norm_eps = 1e-5f,
    };
}

static void test_clip(void **state)
{
    (void)state;
    net n = net_open("text_encoder", "text_encoder");
    cn_clip_config c = clip_config(config_of(&n));
    cn_node *ids = cn_input(n.g, "ids", CN_I32, 2, (int64_t[]){2, 77}, true);
    cn_node *y = cn_clip_build(n.g, &c, ids, 0);
    assert_built(&n);
    assert_shape(y, 3, (int64_t[]){2, 77, 32});
    check_declared(&n, true);
    net_close(&n);
}

/* Leaving out the last layer declares neither it nor anything else less. */
static void test_clip_skip(void **state)
{
    (void)state;
    net n = net_open("text_encoder", "text_encoder");
    cn_clip_config c = clip_config(config_of(&n));
    cn_node *ids = cn_input(n.g, "ids", CN_I32, 2, (int64_t[]){1, 77}, true);
    cn_clip_build(n.g, &c, ids, 1);
    assert_built(&n);
    assert_null(cn_params_find(n.p, "text_model.encoder.layers.2.mlp.fc1.weight"));
    assert_non_null(cn_params_find(n.p, "text_model.encoder.layers.1.mlp.fc1.weight"));
    assert_non_null(cn_params_find(n.p, "text_model.final_layer_norm.weight"));
    cn_clip_build(n.g, &c, ids, 3);
    assert_refused(&n, "3 layers left out of 3");
    net_close(&n);
}

/* --- other level counts, control, and what is refused ----------------------------------------- */

static const cn_unet_config two_levels = {
    .in_channels = 4,
    .out_channels = 4,
    .levels = 2,
    .channels = {32, 64},
    .attention = {true, true},
    .heads = {4, 8},
    .transformer_layers = {1, 1},
    .layers_per_block = 1,
    .context_dim = 48,
    .linear_projection = true,
    .norm_groups = 32,
};

static void assert_named(const net *n, const char *diffusers, const char *ldm)
{
    const cn_param *q = cn_params_find(n->p, diffusers);
    if (!q) fail_msg("%s isn't declared", diffusers);
    assert_string_equal(q->ldm_name, ldm);
}

static void test_two_levels(void **state)
{
    (void)state;
    net n = net_open("unet", NULL);
    cn_unet_inputs in = unet_inputs(n.g, &two_levels, 6, 4);
    cn_node *y = cn_unet_build(n.g, &two_levels, &in);
    assert_built(&n);
    assert_shape4(y, 2, 6, 4, 4);
    assert_named(&n, "down_blocks.0.downsamplers.0.conv.weight", "input_blocks.2.0.op.weight");
    assert_named(&n, "down_blocks.1.resnets.0.conv1.bias", "input_blocks.3.0.in_layers.2.bias");
    assert_named(&n, "up_blocks.0.upsamplers.0.conv.bias", "output_blocks.1.2.conv.bias");
    assert_named(&n, "up_blocks.1.attentions.1.norm.bias", "output_blocks.3.1.norm.bias");
    const cn_param *q = cn_params_find(n.p, "mid_block.attentions.0.proj_in.weight");
    assert_non_null(q);
    assert_int_equal(q->ndim, 2);
    net_close(&n);
}

/* A NULL residual adds no node; one that is there adds one. */
static void test_residuals(void **state)
{
    (void)state;
    int size[3];
    for (int k = 0; k < 3; k++) {
        net n = net_open("unet", NULL);
        cn_unet_inputs in = unet_inputs(n.g, &two_levels, 4, 4);
        cn_residuals r = {.n = 4};
        cn_node *down = cn_input4(n.g, "down", 2, 4, 4, 32);
        cn_node *mid = cn_input4(n.g, "mid", 2, 2, 2, 64);
        if (k == 2) {
            r.down[1] = down;
            r.mid = mid;
        }
        in.residuals = k ? &r : NULL;
        cn_unet_build(n.g, &two_levels, &in);
        assert_built(&n);
        size[k] = cn_graph_size(n.g);
        net_close(&n);
    }
    assert_int_equal(size[1], size[0]);
    assert_int_equal(size[2], size[0] + 2);
}

/* Whichever allocation fails, the graph says so and nothing is lost. */
static void test_memory_out(void **state)
{
    (void)state;
    bool built = false;
    for (int64_t allowed = 0; !built && allowed < 20000; allowed += 13) {
        net n = net_open("unet", NULL);
        cn_ctx_fail_alloc_after(n.ctx, allowed);
        cn_unet_inputs in = unet_inputs(n.g, &two_levels, 4, 4);
        cn_unet_build(n.g, &two_levels, &in);
        cn_ctx_fail_alloc_after(n.ctx, -1);
        cn_status s = cn_graph_status(n.g);
        built = s == CN_OK;
        if (!built) assert_int_equal(s, CN_ENOMEM);
        net_close(&n);
    }
    assert_true(built);
}

static void refuse_unet(const cn_unet_config *c, int64_t h, int residuals, const char *words)
{
    net n = net_open("unet", NULL);
    cn_unet_inputs in = unet_inputs(n.g, c, h, 4);
    cn_residuals r = {.n = residuals};
    in.residuals = residuals ? &r : NULL;
    cn_unet_build(n.g, c, &in);
    assert_refused(&n, words);
    net_close(&n);
}

/* An odd side shrinks to its half, rounded up, and comes back to what the skip has. */
static void test_odd_side(void **state)
{
    (void)state;
    net n = net_open("unet", NULL);
    cn_unet_inputs in = unet_inputs(n.g, &two_levels, 5, 4);
    cn_node *y = cn_unet_build(n.g, &two_levels, &in);
    assert_built(&n);
    assert_int_equal(y->shape[1], 5);
    assert_int_equal(y->shape[2], 4);
    net_close(&n);
}

static void test_refused(void **state)
{
    (void)state;
    refuse_unet(&two_levels, 4, 13, "13 control residuals for 4");
    cn_unet_config c = two_levels;
    c.layers_per_block = 1000000000;
    refuse_unet(&c, 4, 0, "1000000000 layers");
    c = two_levels;
    c.levels = CN_MAX_LEVELS + 1;
    refuse_unet(&c, 4, 0, "9 levels");
    c = two_levels;
    c.heads[1] = 0;
    refuse_unet(&c, 4, 0, "0 heads");

    net n = net_open("controlnet", NULL);
    cn_controlnet_config cc = {.encoder = two_levels, .condition_channels = 3, .hint_levels = 4};
    cn_controlnet_hint_build(n.g, &cc, cn_input4(n.g, "condition", 1, 60, 64, 3));
    assert_refused(&n, "multiples of 8");
    net_close(&n);
    n = net_open("vae", "vae");
    cn_vae_config v = vae_config(config_of(&n));
    cn_vae_encode_build(n.g, &v, cn_input4(n.g, "image", 1, 64, 60, 3));
    assert_refused(&n, "multiples of 8");
    net_close(&n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unet),       cmocka_unit_test(test_controlnet),
        cmocka_unit_test(test_zero_start), cmocka_unit_test(test_vae),
        cmocka_unit_test(test_clip),       cmocka_unit_test(test_clip_skip),
        cmocka_unit_test(test_two_levels), cmocka_unit_test(test_residuals),
        cmocka_unit_test(test_memory_out), cmocka_unit_test(test_odd_side),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
