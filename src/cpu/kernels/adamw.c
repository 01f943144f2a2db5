/* SPDX-License-Identifier: Apache-2.0 */
/* adamw.c - AdamW and the gradient's norm, each one pass over memory.
 *
 * Moments in bytes are expanded, updated and rounded again a block at a time in the caches; the
 * step takes their values before rounding. The division into blocks doesn't depend on the number of
 * threads. */
#include "cpu/kernels/kernels.h"
#include "cpu/kernels/quant8_blocks.h"

enum { SLICES = 64, PARALLEL_FROM = 32768, BLOCK = CN_QUANT8_BLOCK };

static void adamw_f32(const cn_adamw_step *s)
{
    float *w = s->weights, *m = s->m.f32, *v = s->v.f32;
    const float *grad = s->grad;
    const float keep = 1.0f - s->lr * s->decay, step = s->lr / s->correct1,
                inv2 = 1.0f / s->correct2, beta1 = s->beta1, beta2 = s->beta2, eps = s->eps,
                scale = s->grad_scale;
    const int64_t n = s->n;
#pragma omp parallel for simd schedule(static) if (parallel : n > PARALLEL_FROM)
    for (int64_t i = 0; i < n; i++) {
        float g = grad[i] * scale;
        m[i] = beta1 * m[i] + (1.0f - beta1) * g;
        v[i] = beta2 * v[i] + (1.0f - beta2) * g * g;
        w[i] = w[i] * keep - step * m[i] / (__builtin_sqrtf(v[i] * inv2) + eps);
    }
}

/* --- moments in bytes ------------------------------------------------------------------------- */

static void adamw_block(const cn_adamw_step *s, int64_t at, int n)
{
    float m[BLOCK], v[BLOCK], most_m = 0, most_v = 0;
    float *w = s->weights + at;
    const float *grad = s->grad + at;
    float *m_scale = &s->m.scales[at / BLOCK], *v_scale = &s->v.scales[at / BLOCK];
    const float keep = 1.0f - s->lr * s->decay, step = s->lr / s->correct1,
                inv2 = 1.0f / s->correct2, beta1 = s->beta1, beta2 = s->beta2, eps = s->eps,
                scale = s->grad_scale;
    decode(s->m.map, true, s->m.codes + at, *m_scale, m, n);
    decode(s->v.map, false, s->v.codes + at, *v_scale, v, n);
#pragma omp simd reduction(max : most_m, most_v)
    for (int i = 0; i < n; i++) {
        const float g = grad[i] * scale;
        m[i] = beta1 * m[i] + (1.0f - beta1) * g;
        v[i] = beta2 * v[i] + (1.0f - beta2) * g * g;
        w[i] = w[i] * keep - step * m[i] / (__builtin_sqrtf(v[i] * inv2) + eps);
        const float size = __builtin_fabsf(m[i]);
        most_m = size > most_m ? size : most_m;
        most_v = v[i] > most_v ? v[i] : most_v;
    }
    *m_scale = most_m;
    *v_scale = most_v;
    encode(s->m.map, true, m, most_m, s->m.codes + at, n);
    encode(s->v.map, false, v, most_v, s->v.codes + at, n);
}

void CN_K(adamw)(const cn_adamw_step *s)
{
    const int64_t n = s->n;
    if (!s->m.codes) {
        adamw_f32(s);
        return;
    }
#pragma omp parallel for schedule(static) if (parallel : n > PARALLEL_FROM)
    for (int64_t at = 0; at < n; at += BLOCK) adamw_block(s, at, (int)CN_MIN(BLOCK, n - at));
}

/* --- the norm --------------------------------------------------------------------------------- */

static double squares_of(const float *x, int64_t n)
{
    double total = 0;
    for (int64_t b = 0; b < n; b += 4096) {
        const int64_t e = CN_MIN(b + 4096, n);
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = b; i < e; i++) sum += x[i] * x[i];
        total += (double)sum;
    }
    return total;
}

/* Slices are added in their order, so the result depends on neither threads nor their speed. */
double CN_K(sum_squares)(const float *x, int64_t n)
{
    double parts[SLICES], total = 0;
    const int64_t each = (n + SLICES - 1) / SLICES;
    if (n <= PARALLEL_FROM) return squares_of(x, n);
#pragma omp parallel for schedule(static)
    for (int i = 0; i < SLICES; i++) {
        const int64_t from = CN_MIN(i * each, n);
        parts[i] = squares_of(x + from, CN_MIN(each, n - from));
    }
    for (int i = 0; i < SLICES; i++) total += parts[i];
    return total;
}

void CN_K(average)(float *mean, const float *x, float keep, int64_t n)
{
    const float take = 1.0f - keep;
#pragma omp parallel for simd schedule(static) if (parallel : n > PARALLEL_FROM)
    for (int64_t i = 0; i < n; i++) mean[i] -= take * (mean[i] - x[i]);
}
