/* SPDX-License-Identifier: Apache-2.0 */
/* derived.c - the rules that several networks share; see derived.h. */
#include "model/checkpoint/derived.h"

#include <math.h>
#include <string.h>

void cn_derived_set(cn_graph *g, cn_node *param, cn_derive_rule make, const char *other, float eps)
{
    if (cn_poisoned(g) || param->param->derived) return;
    cn_derived *f = cn_alloc0(cn_graph_ctx(g), sizeof *f);
    if (!f) {
        cn_poison_memory(g, "out of memory for %s", param->param->diffusers_name);
        return;
    }
    f->make = make;
    f->eps = eps;
    if (other) cn_scope_name(g, other, f->other);
    param->param->derived = f;
}

static const cn_tensor_info *find(const cn_source *s, const char *name)
{
    char full[CN_NAME_MAX + 64];
    int n = snprintf(full, sizeof full, "%s%s", s->prefix, name);
    return n > 0 && (size_t)n < sizeof full ? cn_tensors_find(s->file, full) : NULL;
}

cn_status cn_derived_read(cn_ctx *ctx, const cn_source *s, const char *name, int64_t n, float *out)
{
    const cn_tensor_info *t = find(s, name);
    if (!t)
        return cn_fail(ctx, CN_EMISMATCH, "%s: tensor %s%s is missing", s->path, s->prefix, name);
    if (t->elements != n)
        return cn_fail(ctx, CN_EMISMATCH, "%s: %s has %lld elements instead of %lld", s->path,
                       t->name, (long long)t->elements, (long long)n);
    return cn_tensors_read(ctx, s->file, t, out);
}

/* --- batch norm ------------------------------------------------------------------------------- */

static cn_status read_norm(cn_ctx *ctx, const cn_source *s, const cn_derived *f, const char *what,
                           int64_t n, float *out)
{
    char name[CN_NAME_MAX + 16];
    CN_TRY(cn_format(ctx, name, sizeof name, "%s.%s", f->other, what));
    return cn_derived_read(ctx, s, name, n, out);
}

/* scale[i] = gamma / sqrt(variance + eps) of n channels; work holds n. */
static cn_status norm_scale(cn_ctx *ctx, const cn_source *s, const cn_derived *f, int64_t n,
                            float *work, float *scale)
{
    CN_TRY(read_norm(ctx, s, f, "weight", n, scale));
    CN_TRY(read_norm(ctx, s, f, "running_var", n, work));
    for (int64_t i = 0; i < n; i++) scale[i] /= sqrtf(work[i] + f->eps);
    return CN_OK;
}

static cn_status norm_weight(cn_ctx *ctx, const cn_source *s, const cn_param *q, float *out)
{
    const int64_t O = q->shape[0], each = cn_param_elements(q) / O;
    float *scale = cn_alloc_array(ctx, (size_t)O, 2 * sizeof *scale);
    if (!scale) return CN_ENOMEM;
    cn_status status = norm_scale(ctx, s, q->derived, O, scale + O, scale);
    if (status == CN_OK) status = cn_derived_read(ctx, s, q->diffusers_name, O * each, out);
    for (int64_t i = 0; status == CN_OK && i < O * each; i++) out[i] *= scale[i / each];
    cn_free(scale);
    return status;
}

/* (bias - mean) * scale + beta */
static cn_status norm_bias(cn_ctx *ctx, const cn_source *s, const cn_param *q, float *out)
{
    const int64_t O = q->shape[0];
    float *scale = cn_alloc_array(ctx, (size_t)O, 2 * sizeof *scale);
    if (!scale) return CN_ENOMEM;
    float *work = scale + O;
    memset(out, 0, (size_t)O * sizeof *out);
    cn_status status = norm_scale(ctx, s, q->derived, O, work, scale);
    if (status == CN_OK && find(s, q->diffusers_name))
        status = cn_derived_read(ctx, s, q->diffusers_name, O, out);
    if (status == CN_OK) status = read_norm(ctx, s, q->derived, "running_mean", O, work);
    for (int64_t i = 0; status == CN_OK && i < O; i++) out[i] = (out[i] - work[i]) * scale[i];
    if (status == CN_OK) status = read_norm(ctx, s, q->derived, "bias", O, work);
    for (int64_t i = 0; status == CN_OK && i < O; i++) out[i] += work[i];
    cn_free(scale);
    return status;
}

cn_node *cn_derive_batch_norm(cn_graph *g, cn_node *y, const char *norm, float eps)
{
    if (cn_poisoned(g)) return y;
    if (!y->in[2]) return cn_poison(g, "%s: a layer without bias can't take a norm in", norm);
    cn_derived_set(g, y->in[1], norm_weight, norm, eps);
    cn_derived_set(g, y->in[2], norm_bias, norm, eps);
    return y;
}

/* y = conv(norm(x)): the weight's input channels scaled, what the norm adds becomes bias. */
static cn_status before_weight(cn_ctx *ctx, const cn_source *s, const cn_param *q, float *out)
{
    const int64_t O = q->shape[0], I = q->shape[1];
    float *scale = cn_alloc_array(ctx, (size_t)I, 2 * sizeof *scale);
    if (!scale) return CN_ENOMEM;
    cn_status status = norm_scale(ctx, s, q->derived, I, scale + I, scale);
    if (status == CN_OK) status = cn_derived_read(ctx, s, q->diffusers_name, O * I, out);
    for (int64_t i = 0; status == CN_OK && i < O * I; i++) out[i] *= scale[i % I];
    cn_free(scale);
    return status;
}

/* bias + weight (beta - mean * scale) */
static cn_status before_bias(cn_ctx *ctx, const cn_source *s, const cn_param *q, float *out)
{
    const cn_derived *f = q->derived;
    const int64_t O = q->shape[0], I = f->inputs;
    const size_t stem = strlen(q->diffusers_name) - strlen("bias");
    char weight[CN_NAME_MAX + 8];
    CN_TRY(cn_format(ctx, weight, sizeof weight, "%.*sweight", (int)stem, q->diffusers_name));
    float *w = cn_alloc_array(ctx, (size_t)((O + 3) * I), sizeof *w);
    if (!w) return CN_ENOMEM;
    float *scale = w + O * I, *mean = scale + I, *beta = mean + I;
    cn_status status = norm_scale(ctx, s, f, I, mean, scale);
    if (status == CN_OK) status = read_norm(ctx, s, f, "running_mean", I, mean);
    if (status == CN_OK) status = read_norm(ctx, s, f, "bias", I, beta);
    if (status == CN_OK) status = cn_derived_read(ctx, s, weight, O * I, w);
    if (status == CN_OK) status = cn_derived_read(ctx, s, q->diffusers_name, O, out);
    for (int64_t o = 0; status == CN_OK && o < O; o++) {
        double sum = 0;
        for (int64_t i = 0; i < I; i++)
            sum += (double)w[o * I + i] * ((double)beta[i] - (double)mean[i] * (double)scale[i]);
        out[o] += (float)sum;
    }
    cn_free(w);
    return status;
}

cn_node *cn_derive_batch_norm_before(cn_graph *g, cn_node *y, const char *norm, float eps)
{
    if (cn_poisoned(g)) return y;
    cn_param *w = y->in[1]->param;
    if (!y->in[2] || cn_param_elements(w) != w->shape[0] * w->shape[1])
        return cn_poison(g, "%s: a norm goes into a pointwise layer with bias alone", norm);
    cn_derived_set(g, y->in[1], before_weight, norm, eps);
    cn_derived_set(g, y->in[2], before_bias, norm, eps);
    if (!cn_poisoned(g)) y->in[2]->param->derived->inputs = w->shape[1];
    return y;
}

/* --- weight standardisation ------------------------------------------------------------------- */

static cn_status standardise(cn_ctx *ctx, const cn_source *s, const cn_param *q, float *out)
{
    const int64_t O = q->shape[0], each = cn_param_elements(q) / O;
    CN_TRY(cn_derived_read(ctx, s, q->diffusers_name, O * each, out));
    for (int64_t o = 0; o < O; o++) {
        float *w = out + o * each;
        double mean = 0, var = 0;
        for (int64_t i = 0; i < each; i++) mean += w[i];
        mean /= (double)each;
        for (int64_t i = 0; i < each; i++) var += (w[i] - mean) * (w[i] - mean);
        const double scale = 1 / sqrt(var / (double)each + (double)q->derived->eps);
        for (int64_t i = 0; i < each; i++) w[i] = (float)((w[i] - mean) * scale);
    }
    return CN_OK;
}

cn_node *cn_derive_standardised(cn_graph *g, cn_node *y, float eps)
{
    if (!cn_poisoned(g)) cn_derived_set(g, y->in[1], standardise, NULL, eps);
    return y;
}
