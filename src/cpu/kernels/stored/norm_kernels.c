/* SPDX-License-Identifier: Apache-2.0 */
/* norm_kernels.c - group norm (with SiLU) and layer norm, both directions.
 *
 * x and dx are the residual stream, float in every network; y and dy have the storage type. Group
 * norm reads x twice: once for per-channel sums (shifted by the first position's value, so that a
 * large mean costs no digits), once to apply y = act(a_c x + b_c). The gradient likewise.
 */
#include "cpu/kernels/math.h"
#include "cpu/kernels/stored/stored.h"

#include <math.h>
#include <omp.h>
#include <string.h>

enum { ROWS = 32 };

/* Adds rows [p0,p1) of x - shift to sum and its square to square, blocks of rows in float. */
static void channel_sums(const float *x, const float *shift, int64_t p0, int64_t p1, int64_t C,
                         double *sum, double *square, float *s, float *q)
{
    for (int64_t p = p0; p < p1; p += ROWS) {
        int64_t e = CN_MIN(p + ROWS, p1);
        memset(s, 0, (size_t)C * sizeof *s);
        memset(q, 0, (size_t)C * sizeof *q);
        for (int64_t r = p; r < e; r++) {
            const float *row = x + r * C;
#pragma omp simd
            for (int64_t c = 0; c < C; c++) {
                float d = row[c] - shift[c];
                s[c] += d;
                q[c] += d * d;
            }
        }
        for (int64_t c = 0; c < C; c++) {
            sum[c] += (double)s[c];
            square[c] += (double)q[c];
        }
    }
}

/* Per part: two sums of C doubles, two rows of C floats; 12 floats' room a channel, two rows of
 * slack. */
static float *part_scratch(float *scratch, int64_t part, int64_t C)
{
    return scratch + part * 8 * C;
}

/* From per-channel sums to mean and 1/deviation of each group. */
static void group_stats(const float *x, float *scratch, int64_t first_part, int parts, int64_t P,
                        int64_t C, int groups, float eps, float *stats)
{
    int64_t width = C / groups;
    for (int64_t k = 0; k < groups; k++) {
        double mean = 0, square = 0, m = (double)(P * width);
        for (int64_t c = k * width; c < (k + 1) * width; c++) {
            double s = 0;
            for (int j = 0; j < parts; j++)
                s += ((double *)part_scratch(scratch, first_part + j, C))[c];
            mean += s + (double)P * (double)x[c];
        }
        mean /= m;
        for (int64_t c = k * width; c < (k + 1) * width; c++) {
            double s = 0, q = 0, d = (double)x[c] - mean; /* shift - mean */
            for (int j = 0; j < parts; j++) {
                s += ((double *)part_scratch(scratch, first_part + j, C))[c];
                q += ((double *)part_scratch(scratch, first_part + j, C))[C + c];
            }
            square += q + 2 * d * s + (double)P * d * d;
        }
        stats[2 * k] = (float)mean;
        stats[2 * k + 1] = (float)(1.0 / sqrt(CN_MAX(square / m, 0.0) + (double)eps));
    }
}

static void apply_row(const float *x, const float *a, const float *b, act_t *y, int64_t C,
                      bool silu)
{
    if (silu) {
#pragma omp simd
        for (int64_t c = 0; c < C; c++) {
            float z = a[c] * x[c] + b[c];
            y[c] = st(z * fast_sigmoid(z));
        }
    } else {
#pragma omp simd
        for (int64_t c = 0; c < C; c++) y[c] = st(a[c] * x[c] + b[c]);
    }
}

static void channel_affine(const float *stats, const float *gamma, const float *beta, int64_t C,
                           int groups, float *a, float *b)
{
    int64_t width = C / groups;
    for (int64_t c = 0; c < C; c++) {
        a[c] = (gamma ? gamma[c] : 1) * stats[c / width * 2 + 1];
        b[c] = (beta ? beta[c] : 0) - a[c] * stats[c / width * 2];
    }
}

/* gamma and beta may be NULL: 1 and 0. given: statistics to use instead of x's own where their
 * deviation is above 0; stats gets x's own. */
void CN_S(group_norm)(const float *x, const float *gamma, const float *beta, const float *given,
                      void *out, float *stats, int64_t N, int64_t P, int64_t C, int groups,
                      float eps, bool silu, float *scratch)
{
    act_t *y = out;
    int parts = cn_parts(N, omp_get_max_threads());
    int64_t jobs = N * parts, step = (P + parts - 1) / parts;
    float *own_stats = scratch + jobs * 8 * C, *affine = own_stats + N * 2 * groups;
    if (!stats) stats = own_stats;
#pragma omp parallel for schedule(static)
    for (int64_t j = 0; j < jobs; j++) {
        const float *image = x + j / parts * P * C;
        int64_t p0 = CN_MIN(P, j % parts * step), p1 = CN_MIN(P, p0 + step);
        double *sum = (double *)part_scratch(scratch, j, C);
        float *rows = (float *)(sum + 2 * C);
        memset(sum, 0, (size_t)(2 * C) * sizeof *sum);
        channel_sums(image, image, p0, p1, C, sum, sum + C, rows, rows + C);
    }
#pragma omp parallel for schedule(static)
    for (int64_t n = 0; n < N; n++) {
        group_stats(x + n * P * C, scratch, n * parts, parts, P, C, groups, eps,
                    stats + n * 2 * groups);
        const float *use = given && given[1] > 0 ? given : stats;
        channel_affine(use + n * 2 * groups, gamma, beta, C, groups, affine + n * 2 * C,
                       affine + n * 2 * C + C);
    }
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < N * P; r++) {
        const float *a = affine + r / P * 2 * C;
        apply_row(x + r * C, a, a + C, y + r * C, C, silu);
    }
}

/* dy * silu'(z). Callers know at compile time whether there is a SiLU, so that their loops
 * vectorise. */
static inline float through_silu(float dy, float z)
{
    float g = fast_sigmoid(z);
    return dy * (g * (1.0f + z * (1.0f - g)));
}

/* dz = dy * act'(a x + b); adds dz to sum and dz * (x - mean) to dot, row by row. */
static inline __attribute__((always_inline)) void
grad_sums(const act_t *dy, const float *x, const float *a, const float *b, const float *mean,
          int64_t rows, int64_t C, bool silu, double *sum, double *dot, float *s, float *q)
{
    for (int64_t p = 0; p < rows; p += ROWS) {
        int64_t e = CN_MIN(p + ROWS, rows);
        memset(s, 0, (size_t)C * sizeof *s);
        memset(q, 0, (size_t)C * sizeof *q);
        for (int64_t r = p; r < e; r++) {
            const act_t *d = dy + r * C;
            const float *v = x + r * C;
#pragma omp simd
            for (int64_t c = 0; c < C; c++) {
                float value = v[c];
                float dz = silu ? through_silu(ld(d[c]), a[c] * value + b[c]) : ld(d[c]);
                s[c] += dz;
                q[c] += dz * (value - mean[c]);
            }
        }
        for (int64_t c = 0; c < C; c++) {
            sum[c] += (double)s[c];
            dot[c] += (double)q[c];
        }
    }
}

/* Per image: a, b (affine of the forward), mean per channel, k1, k2 (dx = a dz - k1 - k2 (x -
 * mean)). */
enum { GRAD_ROWS = 5 };

static void grad_coefficients(float *scratch, int64_t n, int parts, int64_t P, int64_t C,
                              int groups, const float *stats, const float *gamma, float *co)
{
    int64_t width = C / groups;
    for (int64_t k = 0; k < groups; k++) {
        double s1 = 0, s2 = 0, m = (double)(P * width), rstd = (double)stats[2 * k + 1];
        for (int64_t c = k * width; c < (k + 1) * width; c++)
            for (int j = 0; j < parts; j++) {
                const double *sum = (double *)part_scratch(scratch, n * parts + j, C);
                s1 += (double)gamma[c] * sum[c];
                s2 += (double)gamma[c] * sum[C + c] * rstd;
            }
        for (int64_t c = k * width; c < (k + 1) * width; c++) {
            co[3 * C + c] = (float)(rstd * s1 / m);
            co[4 * C + c] = (float)(rstd * rstd * s2 / m);
        }
    }
}

static inline __attribute__((always_inline)) void
grad_row(const act_t *dy, const float *x, const float *co, float *dx, int64_t C, bool silu)
{
    const float *a = co, *b = co + C, *mean = co + 2 * C, *k1 = co + 3 * C, *k2 = co + 4 * C;
#pragma omp simd
    for (int64_t c = 0; c < C; c++) {
        float v = x[c], dz = silu ? through_silu(ld(dy[c]), a[c] * v + b[c]) : ld(dy[c]);
        dx[c] = a[c] * dz - k1[c] - k2[c] * (v - mean[c]);
    }
}

void CN_S(group_norm_grad)(const void *gradient, const float *x, const float *stats,
                           const float *gamma, const float *beta, float *dx, float *dgamma,
                           float *dbeta, int64_t N, int64_t P, int64_t C, int groups, bool silu,
                           float *scratch)
{
    const act_t *dy = gradient;
    int parts = cn_parts(N, omp_get_max_threads());
    int64_t jobs = N * parts, step = (P + parts - 1) / parts, width = C / groups;
    float *co = scratch + jobs * 8 * C;
    for (int64_t n = 0; n < N; n++) {
        float *k = co + n * GRAD_ROWS * C;
        channel_affine(stats + n * 2 * groups, gamma, beta, C, groups, k, k + C);
        for (int64_t c = 0; c < C; c++) k[2 * C + c] = stats[n * 2 * groups + c / width * 2];
    }
#pragma omp parallel for schedule(static)
    for (int64_t j = 0; j < jobs; j++) {
        int64_t n = j / parts, p0 = CN_MIN(P, j % parts * step), p1 = CN_MIN(P, p0 + step);
        const float *k = co + n * GRAD_ROWS * C;
        double *sum = (double *)part_scratch(scratch, j, C);
        float *rows = (float *)(sum + 2 * C);
        memset(sum, 0, (size_t)(2 * C) * sizeof *sum);
        const act_t *d = dy + (n * P + p0) * C;
        const float *v = x + (n * P + p0) * C;
        if (silu)
            grad_sums(d, v, k, k + C, k + 2 * C, p1 - p0, C, true, sum, sum + C, rows, rows + C);
        else
            grad_sums(d, v, k, k + C, k + 2 * C, p1 - p0, C, false, sum, sum + C, rows, rows + C);
    }
    for (int64_t c = 0; (dgamma || dbeta) && c < C; c++) {
        double g = 0, b = 0;
        for (int64_t j = 0; j < jobs; j++) {
            const double *sum = (double *)part_scratch(scratch, j, C);
            b += sum[c];
            g += sum[C + c] * (double)stats[(j / parts * groups + c / width) * 2 + 1];
        }
        if (dgamma) dgamma[c] = (float)g;
        if (dbeta) dbeta[c] = (float)b;
    }
    for (int64_t n = 0; n < N; n++)
        grad_coefficients(scratch, n, parts, P, C, groups, stats + n * 2 * groups, gamma,
                          co + n * GRAD_ROWS * C);
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < N * P; r++) {
        const float *k = co + r / P * GRAD_ROWS * C;
        if (silu)
            grad_row(dy + r * C, x + r * C, k, dx + r * C, C, true);
        else
            grad_row(dy + r * C, x + r * C, k, dx + r * C, C, false);
    }
}

void CN_S(layer_norm)(const float *x, const float *gamma, const float *beta, void *out,
                      float *stats, int64_t rows, int64_t C, float eps)
{
    act_t *y = out;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        const float *v = x + r * C;
        act_t *o = y + r * C;
        float s = 0, q = 0;
#pragma omp simd reduction(+ : s)
        for (int64_t c = 0; c < C; c++) s += v[c];
        float mean = s / (float)C;
#pragma omp simd reduction(+ : q)
        for (int64_t c = 0; c < C; c++) q += (v[c] - mean) * (v[c] - mean);
        float rstd = 1.0f / sqrtf(q / (float)C + eps);
        if (stats) {
            stats[2 * r] = mean;
            stats[2 * r + 1] = rstd;
        }
#pragma omp simd
        for (int64_t c = 0; c < C; c++) o[c] = st((v[c] - mean) * rstd * gamma[c] + beta[c]);
    }
}

/* scratch: threads * 2 * C floats for dgamma and dbeta. */
void CN_S(layer_norm_grad)(const void *gradient, const float *x, const float *stats,
                           const float *gamma, float *dx, float *dgamma, float *dbeta, int64_t rows,
                           int64_t C, float *scratch)
{
    const act_t *dy = gradient;
    int parts = omp_get_max_threads();
    int64_t step = (rows + parts - 1) / parts;
#pragma omp parallel for schedule(static)
    for (int j = 0; j < parts; j++) {
        float *pg = scratch + j * 2 * C, *pb = pg + C;
        memset(pg, 0, (size_t)(2 * C) * sizeof *pg);
        for (int64_t r = j * step; r < CN_MIN(rows, (j + 1) * step); r++) {
            const act_t *d = dy + r * C;
            const float *v = x + r * C;
            float mean = stats[2 * r], rstd = stats[2 * r + 1], s1 = 0, s2 = 0;
#pragma omp simd reduction(+ : s1, s2)
            for (int64_t c = 0; c < C; c++) {
                float g = ld(d[c]), h = (v[c] - mean) * rstd;
                pg[c] += g * h;
                pb[c] += g;
                s1 += g * gamma[c];
                s2 += g * gamma[c] * h;
            }
            s1 /= (float)C;
            s2 /= (float)C;
#pragma omp simd
            for (int64_t c = 0; c < C; c++)
                dx[r * C + c] = rstd * (ld(d[c]) * gamma[c] - s1 - (v[c] - mean) * rstd * s2);
        }
    }
    for (int64_t c = 0; c < C; c++) {
        float g = 0, b = 0;
        for (int j = 0; j < parts; j++) {
            g += scratch[j * 2 * C + c];
            b += scratch[j * 2 * C + C + c];
        }
        if (dgamma) dgamma[c] = g;
        if (dbeta) dbeta[c] = b;
    }
}
