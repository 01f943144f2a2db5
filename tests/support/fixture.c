/* SPDX-License-Identifier: Apache-2.0 */
/* fixture.c - see fixture.h. */
#include "fixture.h"
#include "values.h"

#include <stdlib.h>
#include <string.h>

/* Python's json writes -Infinity, which is no JSON, into a few samplers' configurations. */
static void blank_infinities(char *text)
{
    for (char *p = text; (p = strstr(p, "-Infinity")); p += 9) memcpy(p, "null     ", 9);
}

cn_status fixture_json(fixture *f, const char *file, json_t **out)
{
    char path[4096], *text = NULL;
    size_t n = 0;
    CN_TRY(cn_format(f->env.ctx, path, sizeof path, "%s/%s", f->dir, file));
    CN_TRY(cn_file_read(f->env.ctx, path, CN_JSON_MAX_BYTES, &text, &n));
    blank_infinities(text);
    cn_status s = cn_json_load_memory(f->env.ctx, path, text, n, out);
    cn_free(text);
    return s;
}

cn_status fixture_manifest(fixture *f, const char *network, json_t **out)
{
    char file[128];
    CN_TRY(cn_format(f->env.ctx, file, sizeof file, "%s.manifest.json", network));
    return fixture_json(f, file, out);
}

cn_status fixture_tensors(fixture *f, const char *name, cn_tensors **out)
{
    char path[4096];
    CN_TRY(cn_format(f->env.ctx, path, sizeof path, "%s/%s.safetensors", f->dir, name));
    return cn_tensors_open(f->env.ctx, path, out);
}

static int64_t elements_in(const json_t *shape)
{
    int64_t n = 1;
    for (size_t i = 0; i < json_array_size(shape); i++)
        n *= json_integer_value(json_array_get(shape, i));
    return n;
}

static cn_status fill_one(fixture *f, const json_t *entry, cn_param *q)
{
    int64_t n = elements_in(json_object_get(entry, "shape"));
    if (n != cn_param_elements(q))
        return cn_fail(f->env.ctx, CN_EMISMATCH, "%s has %lld elements, the manifest says %lld",
                       q->diffusers_name, (long long)cn_param_elements(q), (long long)n);
    float *values = test_alloc((size_t)n * sizeof *values);
    cn_seed_tensor(cn_json_str(entry, "key", ""), (float)cn_json_number(entry, "offset", 0),
                   (float)cn_json_number(entry, "scale", 0), values, n);
    cn_status s = cn_param_set(f->env.backend, f->env.ctx, q, values);
    free(values);
    return s;
}

cn_status fixture_fill(fixture *f, const json_t *manifest, cn_params *p,
                       bool (*chosen)(const char *name))
{
    const json_t *list = json_object_get(manifest, "tensors");
    int64_t filled = 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *entry = json_array_get(list, i);
        const char *name = cn_json_str(entry, "name", "");
        if (chosen && !chosen(name)) continue;
        cn_param *q = cn_params_find(p, name);
        if (!q)
            return cn_fail(f->env.ctx, CN_EMISMATCH, "the network declares no parameter %s", name);
        if (strcmp(q->diffusers_name, name) != 0)
            return cn_fail(f->env.ctx, CN_EMISMATCH, "%s is called %s", name, q->diffusers_name);
        CN_TRY(fill_one(f, entry, q));
        filled++;
    }
    for (int64_t i = 0; !chosen && i < cn_params_count(p); i++)
        if (!cn_params_at(p, i)->loaded)
            return cn_fail(f->env.ctx, CN_EMISMATCH, "%s is not in the manifest",
                           cn_params_at(p, i)->diffusers_name);
    return filled ? CN_OK : cn_fail(f->env.ctx, CN_EMISMATCH, "the manifest fills nothing");
}

void fixture_normal(const fixture *f, const char *name, int64_t n, float *out)
{
    float *part = test_alloc((size_t)n * sizeof *part);
    for (int k = 0; k < 4; k++) {
        char key[256];
        snprintf(key, sizeof key, "%s%s%s.%d", f->salt, f->inputs, name, k);
        cn_seed_tensor(key, 0, 1, part, n);
        for (int64_t i = 0; i < n; i++) out[i] = k ? out[i] + part[i] : part[i];
    }
    for (int64_t i = 0; i < n; i++) out[i] *= 0.8660254f;
    free(part);
}

void fixture_uniform(const fixture *f, const char *name, int64_t n, float *out)
{
    char key[256];
    snprintf(key, sizeof key, "%s%s%s", f->salt, f->inputs, name);
    cn_seed_tensor(key, 0, 1, out, n);
    for (int64_t i = 0; i < n; i++) out[i] = (out[i] + 1) / 2;
}

cn_status fixture_set_nchw(fixture *f, cn_plan *plan, const cn_node *x, const float *nchw)
{
    (void)f;
    float *nhwc = test_alloc((size_t)cn_node_elements(x) * sizeof *nhwc);
    test_nchw_to_nhwc(nchw, nhwc, x->shape[0], x->shape[3], x->shape[1], x->shape[2]);
    cn_status s = cn_plan_set(plan, x, nhwc);
    free(nhwc);
    return s;
}

static cn_status set_values(fixture *f, cn_plan *plan, const cn_node *x, const float *values)
{
    if (x->ndim == 4) return fixture_set_nchw(f, plan, x, values);
    if (x->dtype != CN_I32) return cn_plan_set(plan, x, values);
    int64_t n = cn_node_elements(x);
    int32_t *ids = test_alloc((size_t)n * sizeof *ids);
    for (int64_t i = 0; i < n; i++) ids[i] = (int32_t)values[i];
    cn_status s = cn_plan_set(plan, x, ids);
    free(ids);
    return s;
}

cn_status fixture_set(fixture *f, cn_plan *plan, const cn_node *x, const cn_tensors *file,
                      const char *key)
{
    const cn_tensor_info *info = cn_tensors_find(file, key);
    if (!info || info->elements != cn_node_elements(x))
        return cn_fail(f->env.ctx, CN_EMISMATCH, "no tensor %s with %lld elements", key,
                       (long long)cn_node_elements(x));
    float *values = test_alloc((size_t)info->elements * sizeof *values);
    cn_status s = cn_tensors_read(f->env.ctx, file, info, values);
    if (s == CN_OK) s = set_values(f, plan, x, values);
    free(values);
    return s;
}

float *fixture_want(fixture *f, const cn_tensors *file, const char *key, const cn_node *like)
{
    const cn_tensor_info *info = cn_tensors_find(file, key);
    if (!info || info->elements != cn_node_elements(like)) return NULL;
    float *want = test_alloc((size_t)info->elements * sizeof *want);
    if (cn_tensors_read(f->env.ctx, file, info, want) != CN_OK) {
        free(want);
        return NULL;
    }
    if (info->ndim != 4) return want;
    float *nhwc = test_alloc((size_t)info->elements * sizeof *nhwc);
    test_nchw_to_nhwc(want, nhwc, info->shape[0], info->shape[1], info->shape[2], info->shape[3]);
    free(want);
    return nhwc;
}

/* Of the largest value: roundings, of which reference/core shows 2.8 and 3.5. */
static const double BF16_TOLERANCE = 5 * 0x1p-8, F16_TOLERANCE = 7 * 0x1p-11;

void fixture_expect(fixture *f, cn_plan *plan, const cn_node *y, const cn_tensors *file,
                    const char *key, double tolerance)
{
    float *got = test_values_of(&f->env, plan, y);
    float *want = y ? fixture_want(f, file, key, y) : NULL;
    char label[160];
    const bool bf16 = f->compute == CN_BF16, f16 = f->compute == CN_F16;
    if (bf16 || f16) tolerance = bf16 ? BF16_TOLERANCE : F16_TOLERANCE;
    snprintf(label, sizeof label, "%s%s", key, bf16 ? " in bf16" : f16 ? " in f16" : "");
    if (!got)
        report_check(&f->report, false, "%s: the graph has no such value", key);
    else if (!want)
        report_check(&f->report, false, "%s: not in the file with %lld elements", key,
                     (long long)cn_node_elements(y));
    else
        report_close(&f->report, label, got, want, cn_node_elements(y), tolerance);
    free(want);
    free(got);
}
