/* SPDX-License-Identifier: Apache-2.0 */
/* golden_control.c - networks that steer a UNet beside ControlNets; see golden_sdxl.h. */
#include "golden_sdxl.h"
#include "values.h"

#include "diffuse/added.h"
#include "model/checkpoint/config_io.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* --- Union ------------------------------------------------------------------------------------ */

/* The types of all samples, [N,types * dim]: the sinusoid of 1 where there is a condition, else of
 * 0. */
static cn_status set_types(cn_plan *plan, const cn_node *types, const cn_condition_spec *c, int n,
                           int64_t dim)
{
    const int64_t N = types->shape[0], row = cn_channels(types);
    float *given = test_alloc((size_t)n * sizeof *given);
    float *values = test_alloc((size_t)(N * row) * sizeof *values);
    for (int i = 0; i < n; i++) given[i] = 0;
    for (int i = 0; i < c->n; i++) given[c->types[i]] = 1;
    for (int64_t i = 0; i < N; i++) cn_added_embed(NULL, 0, given, n, dim, values + i * row);
    const cn_status s = cn_plan_set(plan, types, values);
    free(given);
    free(values);
    return s;
}

static cn_status run_union(fixture *f, golden_net *n, const cn_condition_spec *c,
                           const char *prefix)
{
    cn_controlnet_config config;
    golden_inputs s = {0};
    cn_node *second = NULL;
    cn_residuals r;
    CN_TRY(cn_controlnet_config_read(f->env.ctx, n->config, &config));
    cn_status status = golden_sdxl_inputs(f, n, &config.encoder, &s);
    if (status != CN_OK) goto done;
    const int64_t N = s.in.x->shape[0], *d = s.condition->shape;
    const int64_t types[] = {N, config.union_types * s.number_dim};
    s.in.types = cn_input(n->g, "types", CN_F32, 2, types, false);
    second = c->n > 1 ? cn_input4(n->g, "cond2", d[0], d[1], d[2], d[3]) : NULL;
    cn_node *const conditions[] = {s.condition, second};
    cn_node *hint = cn_union_hint_build(n->g, &config, c, conditions);
    cn_controlnet_build(n->g, &config, &s.in, hint, &r);
    if (c->n == 1) { /* one condition's strength is the residuals' */
        for (int i = 0; i < r.n; i++) r.down[i] = cn_scale(n->g, r.down[i], c->scales[0]);
        r.mid = cn_scale(n->g, r.mid, c->scales[0]);
    }
    golden_add_residuals(n, &r);
    status = cn_graph_status(n->g);
    if (status == CN_OK) status = golden_net_plan(f, n);
    if (status == CN_OK) status = fixture_fill(f, n->manifest, n->params, NULL);
    if (status == CN_OK) status = golden_sdxl_set(f, n, &s);
    if (status == CN_OK)
        status = set_types(n->plan, s.in.types, c, config.union_types, s.number_dim);
    if (status == CN_OK && second) status = golden_sdxl_condition(f, n->plan, "cond2", second);
    if (status == CN_OK) status = cn_plan_run(n->plan);
    if (status == CN_OK) golden_expect_residuals(f, n, &r, n->file, prefix);
done:
    cn_tensors_close(s.file);
    return status;
}

cn_status golden_sdxl_union(fixture *f)
{
    static const struct {
        const char *prefix;
        cn_condition_spec spec;
    } cases[] = {
        {"batch.one.", {.n = 1, .types = {3}, .scales = {0.9f}}},
        {"batch.two.", {.n = 2, .types = {3, 1}, .scales = {0.9f, 0.6f}}},
        {"conditions_only.two.",
         {.n = 2, .types = {3, 1}, .scales = {1, 1}, .among_conditions = true}},
    };
    for (size_t i = 0; i < CN_COUNT(cases); i++) {
        golden_net n;
        cn_status s = golden_net_open(f, "union", &n);
        if (s == CN_OK) s = run_union(f, &n, &cases[i].spec, cases[i].prefix);
        golden_net_close(&n);
        CN_TRY(s);
    }
    return CN_OK;
}

/* --- T2I-Adapter ------------------------------------------------------------------------------ */

/* The seeded picture `name` [N,H,W,3] as the adapter takes it. */
static cn_status set_adapter_image(const fixture *f, cn_plan *plan, const cn_adapter_config *c,
                                   const char *name, const cn_node *image)
{
    const int64_t N = image->shape[0], H = image->shape[1] * c->shrink;
    const int64_t W = image->shape[2] * c->shrink, n = N * H * W * 3;
    float *nchw = test_alloc((size_t)n * sizeof *nchw), *rgb = test_alloc((size_t)n * sizeof *rgb);
    float *filled = test_alloc((size_t)cn_node_elements(image) * sizeof *filled);
    fixture_uniform(f, name, n, nchw);
    test_nchw_to_nhwc(nchw, rgb, N, 3, H, W);
    for (int64_t i = 0; i < N; i++)
        cn_control_kind_adapter.fill(c, rgb + i * H * W * 3, H, W,
                                     filled + i * (cn_node_elements(image) / N));
    const cn_status s = cn_plan_set(plan, image, filled);
    free(nchw);
    free(rgb);
    free(filled);
    return s;
}

static cn_node *adapter_image(golden_net *n, const cn_adapter_config *c, int64_t N, int64_t H,
                              int64_t W)
{
    return cn_input4(n->g, "image", N, H / c->shrink, W / c->shrink,
                     c->image_channels * c->shrink * c->shrink);
}

/* picture: its name, N and size. */
static cn_status adapter(fixture *f, const char *name, const char *picture, int64_t N, int64_t H,
                         int64_t W)
{
    golden_net n;
    cn_adapter_config c;
    cn_node *out[CN_MAX_FEATURES], **taps = NULL;
    char key[32];
    cn_status s = golden_net_open(f, name, &n);
    if (s == CN_OK) s = cn_adapter_config_read(f->env.ctx, n.config, &c);
    if (s != CN_OK) goto done;
    cn_node *image = adapter_image(&n, &c, N, H, W);
    cn_adapter_build(n.g, &c, image, out);
    s = cn_graph_status(n.g);
    for (int i = 0; i < c.levels; i++) n.outputs[n.n++] = out[i];
    taps = test_alloc((size_t)cn_tensors_count(n.file) * sizeof(cn_node *));
    golden_add_taps(f, &n, taps);
    if (s == CN_OK) s = golden_net_plan(f, &n);
    if (s == CN_OK) s = fixture_fill(f, n.manifest, n.params, NULL);
    if (s == CN_OK) s = set_adapter_image(f, n.plan, &c, picture, image);
    if (s == CN_OK) s = cn_plan_run(n.plan);
    for (int i = 0; s == CN_OK && i < c.levels; i++) {
        snprintf(key, sizeof key, "feature.%d", i);
        fixture_expect(f, n.plan, out[i], n.file, key, GOLDEN_F32_TOLERANCE);
    }
    if (s == CN_OK) golden_expect_taps(f, &n, taps);
done:
    free(taps);
    golden_net_close(&n);
    return s;
}

/* The UNet with an adapter's features, half as strong: out_t2i_0.5. */
static cn_status adapted_unet(fixture *f, golden_net *u, golden_net *a, golden_inputs *s)
{
    cn_unet_config c;
    cn_adapter_config ac;
    cn_features features = {.n = 0};
    CN_TRY(cn_unet_config_read(f->env.ctx, u->config, &c));
    CN_TRY(cn_adapter_config_read(f->env.ctx, a->config, &ac));
    CN_TRY(golden_sdxl_inputs(f, u, &c, s));
    const int64_t *d = s->condition->shape;
    cn_node *image = adapter_image(u, &ac, d[0], d[1], d[2]);
    cn_graph_use(u->g, a->params);
    cn_adapter_build(u->g, &ac, image, features.of);
    for (features.n = 0; features.n < ac.levels; features.n++)
        features.of[features.n] = cn_scale(u->g, features.of[features.n], 0.5f);
    s->in.features = &features;
    s->in.n_features = 1;
    cn_graph_use(u->g, u->params);
    cn_node *y = u->outputs[u->n++] = cn_unet_build(u->g, &c, &s->in);
    s->in.features = NULL;
    s->in.n_features = 0;
    CN_TRY(cn_graph_status(u->g));
    CN_TRY(golden_net_plan(f, u));
    CN_TRY(fixture_fill(f, u->manifest, u->params, NULL));
    CN_TRY(fixture_fill(f, a->manifest, a->params, NULL));
    CN_TRY(golden_sdxl_set(f, u, s));
    CN_TRY(set_adapter_image(f, u->plan, &ac, "cond", image));
    CN_TRY(cn_plan_run(u->plan));
    fixture_expect(f, u->plan, y, u->file, "out_t2i_0.5", GOLDEN_F32_TOLERANCE);
    return CN_OK;
}

cn_status golden_sdxl_adapters(fixture *f)
{
    golden_net u, a = {0};
    golden_inputs in = {0};
    CN_TRY(adapter(f, "t2i_xl", "cond", 2, 64, 96));
    CN_TRY(adapter(f, "t2i_sd15", "image15", 1, 64, 128));
    CN_TRY(adapter(f, "t2i_sd15_light", "image15", 1, 64, 128));
    cn_status s = golden_net_open(f, "unet", &u);
    if (s == CN_OK) s = golden_net_open(f, "t2i_xl", &a);
    if (s == CN_OK) s = adapted_unet(f, &u, &a, &in);
    golden_net_close(&u);
    golden_net_close(&a);
    cn_tensors_close(in.file);
    return s;
}

/* --- LLLite ----------------------------------------------------------------------------------- */

/* A configuration from the manifest's names and shapes, by way of a file without values. */
static cn_status lllite_config(fixture *f, const json_t *manifest, cn_lllite_config **out)
{
    const json_t *list = json_object_get(manifest, "tensors");
    const size_t n = json_array_size(list);
    char path[] = "/tmp/controlnet-golden-XXXXXX";
    static const float zeros[1 << 20];
    cn_tensor_out *tensors = test_alloc(n * sizeof *tensors);
    cn_tensors *file = NULL;
    for (size_t i = 0; i < n; i++) {
        const json_t *e = json_array_get(list, i), *shape = json_object_get(e, "shape");
        tensors[i] = (cn_tensor_out){.name = cn_json_str(e, "name", ""),
                                     .dtype = CN_F32,
                                     .ndim = (int)json_array_size(shape),
                                     .data = zeros};
        for (int k = 0; k < tensors[i].ndim; k++)
            tensors[i].shape[k] = json_integer_value(json_array_get(shape, (size_t)k));
    }
    const int fd = mkstemp(path);
    cn_status s = fd >= 0 ? CN_OK : cn_fail(f->env.ctx, CN_EIO, "%s: can't be made", path);
    if (s == CN_OK)
        s = cn_safetensors_write(f->env.ctx, path, tensors, (int64_t)n, NULL, NULL, NULL);
    if (s == CN_OK) s = cn_tensors_open(f->env.ctx, path, &file);
    if (s == CN_OK) s = cn_lllite_config_from_shapes(f->env.ctx, file, out);
    cn_tensors_close(file);
    if (fd >= 0) close(fd);
    remove(path);
    free(tensors);
    return s;
}

/* The UNet with modules before its layers, whose condition differs from sample to sample. */
static cn_status patched_unet(fixture *f, golden_net *u, const cn_lllite_config *c,
                              const json_t *manifest, cn_params *params, golden_inputs *s)
{
    cn_unet_config uc;
    CN_TRY(cn_unet_config_read(f->env.ctx, u->config, &uc));
    CN_TRY(golden_sdxl_inputs(f, u, &uc, s));
    cn_node **embedded = test_alloc((size_t)c->n * sizeof(cn_node *));
    cn_graph_use(u->g, params);
    cn_lllite_embed_build(u->g, c, s->condition, embedded);
    cn_control_unit unit = {.kind = &cn_control_kind_lllite,
                            .config = c,
                            .params = params,
                            .hints = embedded,
                            .gated = true};
    cn_node *y = cn_controlled_unet_build(u->g, &uc, u->params, &s->in, &unit, 1);
    u->outputs[u->n++] = y;
    cn_status status = cn_graph_status(u->g);
    if (status == CN_OK) status = golden_net_plan(f, u);
    if (status == CN_OK) status = fixture_fill(f, u->manifest, u->params, NULL);
    if (status == CN_OK) status = fixture_fill(f, manifest, params, NULL);
    if (status == CN_OK) status = golden_sdxl_set(f, u, s);
    const int64_t pixels = cn_node_elements(s->condition);
    float *image = test_alloc((size_t)pixels * sizeof *image);
    fixture_uniform(f, "cond", pixels, image);
    for (int64_t i = 0; i < pixels; i++) image[i] = 2 * image[i] - 1;
    if (status == CN_OK) status = fixture_set_nchw(f, u->plan, s->condition, image);
    for (int i = 0; status == CN_OK && i < unit.n_gates; i++) {
        float *to = cn_plan_data(u->plan, unit.gate[i]);
        for (int64_t e = 0; e < cn_node_elements(unit.gate[i]); e++) to[e] = 0.7f;
    }
    if (status == CN_OK) status = cn_plan_run(u->plan);
    if (status == CN_OK)
        fixture_expect(f, u->plan, y, u->file, "out_lllite_0.7", GOLDEN_F32_TOLERANCE);
    free(image);
    free(embedded);
    return status;
}

cn_status golden_sdxl_lllite(fixture *f)
{
    golden_net u;
    golden_inputs in = {0};
    cn_params *params = NULL;
    json_t *manifest = NULL;
    cn_lllite_config *c = NULL;
    cn_status s = golden_net_open(f, "unet", &u);
    if (s == CN_OK) s = fixture_manifest(f, "lllite", &manifest);
    if (s == CN_OK) s = lllite_config(f, manifest, &c);
    if (s == CN_OK) s = cn_params_create(f->env.ctx, "lllite", &params);
    if (s == CN_OK) s = patched_unet(f, &u, c, manifest, params, &in);
    golden_net_close(&u);
    cn_tensors_close(in.file);
    cn_params_destroy(params);
    cn_free(c);
    json_decref(manifest);
    return s;
}
