/* SPDX-License-Identifier: Apache-2.0 */
/* lora_merge.c - what a LoRA module's factors make, added to a weight.
 *
 * Every form comes down to products of two matrices, up [O,R] and down [R,n] with n = I kh kw: a
 * middle factor is multiplied into down first. Formulas: LyCORIS' functional/{general,loha,lokr}.py
 * and stable-diffusion-webui's lyco_helpers.py.
 */
#include "model/checkpoint/lora_internal.h"

#include <math.h>
#include <string.h>

/* A weight [O,I] or [O,I,kh,kw] as a matrix of O rows: n = I * area columns. */
typedef struct form {
    int64_t O, I, area, n;
} form;

static form form_of(int ndim, const int64_t *shape)
{
    form f = {shape[0], ndim > 1 ? shape[1] : 1, 1, 0};
    for (int i = 2; i < ndim; i++) f.area *= shape[i];
    f.n = f.I * f.area;
    return f;
}

/* A product up * down, or up * (mid * down). */
typedef struct factors {
    const cn_tensor_info *up, *down, *mid;
    bool up_is_transposed; /* [R,O] */
} factors;

static int64_t rank_of(const factors *f)
{
    return f->down->ndim ? f->down->shape[0] : 1;
}

static factors lora_factors(const cn_lora_module *m)
{
    return (factors){m->part[CN_LORA_UP], m->part[CN_LORA_DOWN], m->part[CN_LORA_MID], false};
}

static factors hada_factors(const cn_lora_module *m, int which)
{
    const cn_tensor_info *mid = m->part[which ? CN_LORA_T2 : CN_LORA_T1];
    return (factors){m->part[which ? CN_LORA_W2_A : CN_LORA_W1_A],
                     m->part[which ? CN_LORA_W2_B : CN_LORA_W1_B], mid, mid != NULL};
}

/* Of the Kronecker product's factor 1 or 2; whole when there is no down. */
static factors kron_factors(const cn_lora_module *m, int which)
{
    const cn_tensor_info *mid = which ? m->part[CN_LORA_KT2] : NULL;
    return (factors){m->part[which ? CN_LORA_K2_A : CN_LORA_K1_A],
                     m->part[which ? CN_LORA_K2_B : CN_LORA_K1_B], mid, mid != NULL};
}

/* --- shapes ----------------------------------------------------------------------------------- */

static bool has_size(const cn_tensor_info *t, int64_t rows, int64_t columns)
{
    int64_t n;
    if (!t || t->ndim < 1 || t->shape[0] != rows) return false;
    return !__builtin_mul_overflow(rows, columns, &n) && t->elements == n;
}

static bool factors_fit(const factors *f, const form *w)
{
    if (!f->up || !f->down || rank_of(f) < 1) return false;
    int64_t R = rank_of(f);
    int64_t up_rows = f->up_is_transposed ? R : w->O, up_columns = f->up_is_transposed ? w->O : R;
    if (!f->mid) return has_size(f->up, w->O, R) && has_size(f->down, R, w->n);
    return has_size(f->up, up_rows, up_columns) && has_size(f->down, R, w->I) &&
           f->mid->ndim >= 2 && f->mid->shape[1] == R && has_size(f->mid, R, R * w->area);
}

/* The forms of a Kronecker product's two factors: [O1,I1] and [O/O1, I/I1 * area]. */
static bool kron_forms(const cn_lora_module *m, const form *w, form *a, form *b)
{
    const cn_tensor_info *whole = m->part[CN_LORA_K1], *up = m->part[CN_LORA_K1_A],
                         *down = m->part[CN_LORA_K1_B];
    if (whole ? whole->ndim < 2 : !up || !down || up->ndim < 1 || down->ndim < 2) return false;
    a->O = whole ? whole->shape[0] : up->shape[0];
    a->I = whole ? whole->shape[1] : down->shape[1];
    a->area = 1;
    a->n = a->I;
    if (a->O < 1 || a->I < 1 || w->O % a->O || w->I % a->I) return false;
    *b = (form){w->O / a->O, w->I / a->I, w->area, w->I / a->I * w->area};
    const cn_tensor_info *second = m->part[CN_LORA_K2];
    factors f1 = kron_factors(m, 0), f2 = kron_factors(m, 1);
    return (whole ? has_size(whole, a->O, a->I) : factors_fit(&f1, a)) &&
           (second ? has_size(second, b->O, b->n) : factors_fit(&f2, b));
}

static bool is_hada(const cn_lora_module *m)
{
    return m->part[CN_LORA_W1_A] || m->part[CN_LORA_W2_A];
}

static bool is_kron(const cn_lora_module *m)
{
    return m->part[CN_LORA_K1] || m->part[CN_LORA_K1_A] || m->part[CN_LORA_K2] ||
           m->part[CN_LORA_K2_A];
}

static bool is_share(const cn_lora_module *m)
{
    return m->part[CN_LORA_IA3] || m->part[CN_LORA_IA3_FACTOR];
}

bool cn_lora_share_of_inputs(const cn_lora_module *m, int ndim, const int64_t *shape)
{
    const form w = form_of(ndim, shape);
    const cn_tensor_info *t = m->part[CN_LORA_IA3_FACTOR];
    if (!t) return false;
    if (t->ndim == 2) return t->shape[0] == 1;
    return w.O == w.I ? m->feedforward : t->elements == w.I;
}

static bool norms_fit(const cn_lora_module *m, const form *w)
{
    const cn_tensor_info *dora = m->part[CN_LORA_DORA], *rows = m->part[CN_LORA_MAGNITUDE];
    if (rows && rows->elements != w->O) return false;
    if (!dora) return true;
    return dora->elements == w->O || (dora->elements == w->I && dora->ndim && dora->shape[0] == 1);
}

static bool fits(const cn_lora_module *m, const form *w)
{
    const cn_tensor_info *diff = m->part[CN_LORA_DIFF];
    if (!norms_fit(m, w)) return false;
    if (diff) return has_size(diff, w->O, w->n);
    if (m->part[CN_LORA_WHOLE]) return has_size(m->part[CN_LORA_WHOLE], w->O, w->n);
    if (is_share(m)) {
        const cn_tensor_info *t = m->part[m->part[CN_LORA_IA3] ? CN_LORA_IA3 : CN_LORA_IA3_FACTOR];
        return t->elements == w->O || t->elements == w->I;
    }
    if (is_hada(m)) {
        factors a = hada_factors(m, 0), b = hada_factors(m, 1);
        return factors_fit(&a, w) && factors_fit(&b, w);
    }
    form a, b;
    if (is_kron(m)) return kron_forms(m, w, &a, &b);
    factors f = lora_factors(m);
    return factors_fit(&f, w);
}

static void add_shape(cn_str *s, int ndim, const int64_t *shape)
{
    for (int i = 0; i < ndim; i++) cn_str_addf(s, "%s%lld", i ? "," : "[", (long long)shape[i]);
    cn_str_adds(s, ndim ? "]" : "a single number");
}

bool cn_lora_changes_weight(const cn_lora_module *m)
{
    static const bool beside[CN_LORA_PARTS] = {
        [CN_LORA_ALPHA] = true,   [CN_LORA_SCALE] = true,      [CN_LORA_DIFF_BIAS] = true,
        [CN_LORA_UP_BIAS] = true, [CN_LORA_WHOLE_BIAS] = true, [CN_LORA_IA3_INPUT] = true};
    for (int i = 0; i < CN_LORA_PARTS; i++)
        if (!beside[i] && m->part[i]) return true;
    return false;
}

cn_status cn_lora_check(cn_ctx *ctx, const cn_lora_module *m, int ndim, const int64_t *shape)
{
    form w = form_of(ndim, shape);
    if (fits(m, &w)) return CN_OK;
    cn_str has = {0}, wants = {0};
    for (int i = 0; i < CN_LORA_PARTS; i++) {
        if (!m->part[i] || i == CN_LORA_ALPHA || i == CN_LORA_SCALE) continue;
        if (has.len) cn_str_adds(&has, " and ");
        add_shape(&has, m->part[i]->ndim, m->part[i]->shape);
    }
    add_shape(&wants, ndim, shape);
    cn_status s =
        cn_fail(ctx, CN_EMISMATCH,
                "%s: factors of %s don't make a weight of %s; it was made for another base "
                "model",
                m->key, has.data ? has.data : "?", wants.data ? wants.data : "?");
    cn_str_free(&has);
    cn_str_free(&wants);
    return s;
}

/* --- arithmetic ------------------------------------------------------------------------------- */

static cn_status read(cn_ctx *ctx, const cn_tensors *file, const cn_tensor_info *t, float **out)
{
    *out = cn_alloc_array(ctx, (size_t)t->elements, sizeof **out);
    return *out ? cn_tensors_read(ctx, file, t, *out) : CN_ENOMEM;
}

/* out [O,n] = up [O,R] * down [R,n]; up may be stored [R,O]. */
static void multiply(cn_ctx *ctx, const float *up, bool transposed, const float *down, int64_t O,
                     int64_t R, int64_t n, float *out)
{
#pragma omp parallel for num_threads(cn_threads(ctx)) schedule(static)
    for (int64_t o = 0; o < O; o++) {
        float *row = out + o * n;
        memset(row, 0, (size_t)n * sizeof *row);
        for (int64_t r = 0; r < R; r++) {
            const float *d = down + r * n;
            float u = transposed ? up[r * O + o] : up[o * R + r];
            for (int64_t i = 0; i < n; i++) row[i] += u * d[i];
        }
    }
}

/* out [R, I*area] = mid [R,R,area] * down [R,I]: sum over mid's second dimension. */
static void expand(const float *mid, const float *down, int64_t R, const form *w, float *out)
{
    memset(out, 0, (size_t)(R * w->n) * sizeof *out);
    for (int64_t r = 0; r < R; r++)
        for (int64_t m = 0; m < R; m++)
            for (int64_t i = 0; i < w->I; i++)
                for (int64_t k = 0; k < w->area; k++)
                    out[r * w->n + i * w->area + k] +=
                        mid[(r * R + m) * w->area + k] * down[m * w->I + i];
}

/* A product of factors as [O,n], in a new array. */
static cn_status compose(cn_ctx *ctx, const cn_tensors *file, const factors *f, const form *w,
                         float **out)
{
    float *up = NULL, *down = NULL, *mid = NULL, *wide = NULL, *made = NULL;
    int64_t R = rank_of(f);
    cn_status s = read(ctx, file, f->up, &up);
    if (s == CN_OK) s = read(ctx, file, f->down, &down);
    if (s == CN_OK && f->mid) {
        s = read(ctx, file, f->mid, &mid);
        wide = cn_alloc_array(ctx, (size_t)R, (size_t)w->n * sizeof *wide);
        if (s == CN_OK && !wide) s = CN_ENOMEM;
        if (s == CN_OK) expand(mid, down, R, w, wide);
    }
    if (s == CN_OK && !(made = cn_alloc_array(ctx, (size_t)w->O, (size_t)w->n * sizeof *made)))
        s = CN_ENOMEM;
    if (s == CN_OK) multiply(ctx, up, f->up_is_transposed, wide ? wide : down, w->O, R, w->n, made);
    cn_free(up);
    cn_free(down);
    cn_free(mid);
    cn_free(wide);
    if (s == CN_OK) *out = made;
    return s;
}

static cn_status compose_hada(cn_ctx *ctx, const cn_tensors *file, const cn_lora_module *m,
                              const form *w, float **out)
{
    factors a = hada_factors(m, 0), b = hada_factors(m, 1);
    float *first = NULL, *second = NULL;
    cn_status s = compose(ctx, file, &a, w, &first);
    if (s == CN_OK) s = compose(ctx, file, &b, w, &second);
    for (int64_t i = 0; s == CN_OK && i < w->O * w->n; i++) first[i] *= second[i];
    cn_free(second);
    if (s != CN_OK) {
        cn_free(first);
        return s;
    }
    *out = first;
    return CN_OK;
}

static cn_status kron_factor(cn_ctx *ctx, const cn_tensors *file, const cn_lora_module *m,
                             int which, const form *w, float **out)
{
    const cn_tensor_info *whole = m->part[which ? CN_LORA_K2 : CN_LORA_K1];
    factors f = kron_factors(m, which);
    return whole ? read(ctx, file, whole, out) : compose(ctx, file, &f, w, out);
}

static cn_status compose_kron(cn_ctx *ctx, const cn_tensors *file, const cn_lora_module *m,
                              const form *w, float **out)
{
    form a, b;
    float *x = NULL, *y = NULL, *made = NULL;
    if (!kron_forms(m, w, &a, &b)) return cn_fail(ctx, CN_EINTERNAL, "%s: unchecked", m->key);
    cn_status s = kron_factor(ctx, file, m, 0, &a, &x);
    if (s == CN_OK) s = kron_factor(ctx, file, m, 1, &b, &y);
    if (s == CN_OK && !(made = cn_alloc_array(ctx, (size_t)w->O, (size_t)w->n * sizeof *made)))
        s = CN_ENOMEM;
    for (int64_t o = 0; s == CN_OK && o < w->O; o++)
        for (int64_t i = 0; i < a.I; i++) {
            float u = x[o / b.O * a.I + i];
            const float *row = y + o % b.O * b.n;
            for (int64_t k = 0; k < b.n; k++) made[o * w->n + i * b.n + k] = u * row[k];
        }
    cn_free(x);
    cn_free(y);
    if (s == CN_OK) *out = made;
    return s;
}

/* The rank that alpha is divided by; 0: the module isn't scaled. */
static int64_t scaling_rank(const cn_lora_module *m)
{
    const cn_tensor_info *t = m->part[CN_LORA_DOWN];
    if (is_hada(m)) t = m->part[CN_LORA_W1_B];
    if (is_kron(m)) t = m->part[CN_LORA_K1_B] ? m->part[CN_LORA_K1_B] : m->part[CN_LORA_K2_B];
    return t && t->ndim ? t->shape[0] : 0;
}

static cn_status read_number(cn_ctx *ctx, const cn_tensors *file, const cn_lora_module *m,
                             cn_lora_part part, float *out)
{
    const cn_tensor_info *t = m->part[part];
    if (t->elements == 1) return cn_tensors_read(ctx, file, t, out);
    return cn_fail(ctx, CN_EFORMAT, "%s: one number is expected", t->name);
}

static cn_status scale_of(cn_ctx *ctx, const cn_tensors *file, const cn_lora_module *m,
                          double *scale)
{
    float value = 0;
    int64_t rank = scaling_rank(m);
    *scale = m->scale;
    if (m->part[CN_LORA_SCALE]) {
        CN_TRY(read_number(ctx, file, m, CN_LORA_SCALE, &value));
        *scale = (double)value;
        return CN_OK;
    }
    if (!m->part[CN_LORA_ALPHA] || !rank) return CN_OK;
    CN_TRY(read_number(ctx, file, m, CN_LORA_ALPHA, &value));
    *scale = value != 0 ? (double)value / (double)rank : 1;
    return CN_OK;
}

static void add_scaled(float *plain, const float *change, int64_t n, double factor)
{
    float f = (float)factor;
    for (int64_t i = 0; i < n; i++) plain[i] += f * change[i];
}

/* --- what depends on the weight itself -------------------------------------------------------- */

/* What multiplying the outputs' or inputs' weights adds to them. */
static cn_status compose_share(cn_ctx *ctx, const cn_tensors *file, const cn_lora_module *m,
                               const form *w, const float *plain, float **out)
{
    const cn_tensor_info *grows = m->part[CN_LORA_IA3];
    const cn_tensor_info *t = grows ? grows : m->part[CN_LORA_IA3_FACTOR];
    float *share = NULL, on_input = m->feedforward ? 1 : 0;
    cn_status s = CN_OK;
    if (grows && m->part[CN_LORA_IA3_INPUT])
        s = read_number(ctx, file, m, CN_LORA_IA3_INPUT, &on_input);
    const bool inputs = on_input != 0;
    if (s == CN_OK && t->elements != (inputs ? w->I : w->O))
        s = cn_fail(ctx, CN_EMISMATCH,
                    "%s: %lld numbers for %lld %s; it was made for another base "
                    "model",
                    t->name, (long long)t->elements, (long long)(inputs ? w->I : w->O),
                    inputs ? "inputs" : "outputs");
    if (s == CN_OK) s = read(ctx, file, t, &share);
    float *made =
        s == CN_OK ? cn_alloc_array(ctx, (size_t)w->O, (size_t)w->n * sizeof *made) : NULL;
    if (s == CN_OK && !made) s = CN_ENOMEM;
    for (int64_t o = 0; s == CN_OK && o < w->O; o++)
        for (int64_t i = 0; i < w->n; i++) {
            const float by = share[inputs ? i / w->area : o];
            made[o * w->n + i] = plain[o * w->n + i] * (grows ? by : by - 1);
        }
    cn_free(share);
    if (s == CN_OK) *out = made;
    return s;
}

/* What a weight adds that takes the other's place. */
static cn_status compose_whole(cn_ctx *ctx, const cn_tensors *file, const cn_tensor_info *t,
                               const float *plain, float **out)
{
    CN_TRY(read(ctx, file, t, out));
    for (int64_t i = 0; i < t->elements; i++) (*out)[i] -= plain[i];
    return CN_OK;
}

/* DoRA: the weight with its change gets the norms that were learned, of each row or column. change
 * becomes what that adds to the weight. Source: LyCORIS' weight_decompose, peft's DoraLinearLayer;
 * stable-diffusion-webui scales the whole by the LoRA's weight, as here. */
static cn_status decompose(cn_ctx *ctx, const cn_tensors *file, const cn_lora_module *m,
                           const form *w, const float *plain, float *change)
{
    const cn_tensor_info *dora = m->part[CN_LORA_DORA];
    const cn_tensor_info *t = dora ? dora : m->part[CN_LORA_MAGNITUDE];
    const bool columns = dora && dora->elements == w->I && dora->ndim && dora->shape[0] == 1;
    float *norms = NULL;
    double *sums = cn_alloc0(ctx, (size_t)(w->O + w->I) * sizeof *sums);
    cn_status s = sums ? read(ctx, file, t, &norms) : CN_ENOMEM;
    for (int64_t k = 0; s == CN_OK && k < w->O * w->n; k++) {
        const double sum = (double)plain[k] + (double)change[k];
        sums[columns ? k % w->n / w->area : k / w->n] += sum * sum;
    }
    for (int64_t k = 0; s == CN_OK && k < w->O * w->n; k++) {
        const int64_t at = columns ? k % w->n / w->area : k / w->n;
        const double factor = (double)norms[at] / (sqrt(sums[at]) + 1.1920928955078125e-07);
        change[k] = (float)(((double)plain[k] + (double)change[k]) * factor - (double)plain[k]);
    }
    cn_free(sums);
    cn_free(norms);
    return s;
}

/* --- one module ------------------------------------------------------------------------------- */

/* A sum's factors, unscaled. */
static cn_status compose_sum(cn_ctx *ctx, const cn_tensors *file, const cn_lora_module *m,
                             const form *w, float **out)
{
    factors f = lora_factors(m);
    if (m->part[CN_LORA_DIFF]) return read(ctx, file, m->part[CN_LORA_DIFF], out);
    if (is_hada(m)) return compose_hada(ctx, file, m, w, out);
    return is_kron(m) ? compose_kron(ctx, file, m, w, out) : compose(ctx, file, &f, w, out);
}

static cn_status add_to_weight(cn_ctx *ctx, const cn_tensors *file, const cn_lora_module *m,
                               const form *w, double weight, float *plain)
{
    const int64_t n = w->O * w->n;
    const bool norms = m->part[CN_LORA_DORA] || m->part[CN_LORA_MAGNITUDE];
    float *change = NULL;
    double scale = 1;
    cn_status s = scale_of(ctx, file, m, &scale);
    if (s == CN_OK && is_share(m))
        s = compose_share(ctx, file, m, w, plain, &change);
    else if (s == CN_OK && m->part[CN_LORA_WHOLE])
        s = compose_whole(ctx, file, m->part[CN_LORA_WHOLE], plain, &change);
    else if (s == CN_OK)
        s = compose_sum(ctx, file, m, w, &change);
    if (s == CN_OK && norms) {
        for (int64_t i = 0; i < n; i++) change[i] *= (float)scale;
        scale = 1;
        s = decompose(ctx, file, m, w, plain, change);
    }
    if (s == CN_OK) add_scaled(plain, change, n, weight * scale);
    cn_free(change);
    return s;
}

static cn_status add_to_bias(cn_ctx *ctx, const cn_tensors *file, const cn_lora_module *m,
                             int64_t n, double weight, float *plain)
{
    static const cn_lora_part parts[] = {CN_LORA_IA3_FACTOR, CN_LORA_DIFF_BIAS, CN_LORA_UP_BIAS,
                                         CN_LORA_WHOLE_BIAS};
    double scale = 1;
    CN_TRY(scale_of(ctx, file, m, &scale));
    for (size_t k = 0; k < CN_COUNT(parts); k++) {
        const cn_tensor_info *t = m->part[parts[k]];
        float *change = NULL;
        if (!t || t->elements != n) continue;
        CN_TRY(read(ctx, file, t, &change));
        for (int64_t i = 0; k == 0 && i < n; i++) change[i] = plain[i] * (change[i] - 1);
        for (int64_t i = 0; parts[k] == CN_LORA_WHOLE_BIAS && i < n; i++) change[i] -= plain[i];
        add_scaled(plain, change, n, parts[k] == CN_LORA_UP_BIAS ? weight * scale : weight);
        cn_free(change);
    }
    return CN_OK;
}

cn_status cn_lora_add_module(cn_ctx *ctx, const cn_tensors *file, const cn_lora_module *m,
                             const cn_param *q, double weight, float *plain)
{
    const form w = form_of(q->ndim, q->shape);
    if (m->bias && !strcmp(q->diffusers_name, m->bias))
        return add_to_bias(ctx, file, m, cn_param_elements(q), weight, plain);
    return add_to_weight(ctx, file, m, &w, weight, plain);
}
