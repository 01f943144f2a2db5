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

/* What a thread adds up over the positions of its part: per channel two sums, made of blocks of
 * rows in float. */
typedef struct part_sums {
    double *first, *second;
    float *block_first, *block_second;
} part_sums;

/* Per part: two sums of C doubles, two rows of C floats; 12 floats' room a channel, two rows of
 * slack. */
static float *part_scratch(float *scratch, int64_t part, int64_t C)
{
    return scratch + part * 8 * C;
}

/* Those of one part, at 0. */
static part_sums part_sums_start(float *scratch, int64_t part, int64_t C)
{
    double *sum = (double *)part_scratch(scratch, part, C);
    float *rows = (float *)(sum + 2 * C);
    memset(sum, 0, (size_t)(2 * C) * sizeof *sum);
    return (part_sums){sum, sum + C, rows, rows + C};
}

/* Adds x - shift of these rows to the first sum and its square to the second. */
static void channel_sums(const float *x, const float *shift, int64_t rows, int64_t C,
                         const part_sums *to)
{
    float *s = to->block_first, *q = to->block_second;
    for (int64_t p = 0; p < rows; p += ROWS) {
        int64_t e = CN_MIN(p + ROWS, rows);
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
            to->first[c] += (double)s[c];
            to->second[c] += (double)q[c];
        }
    }
}

/* From the sums of image n's parts to mean and 1/deviation of each of its groups. */
static void group_stats(const cn_norm_args *a, int64_t n, int parts, float *stats)
{
    const int64_t P = a->P, C = a->C, width = C / a->groups;
    const float *x = a->x + n * P * C;
    for (int64_t k = 0; k < a->groups; k++) {
        double mean = 0, square = 0, m = (double)(P * width);
        for (int64_t c = k * width; c < (k + 1) * width; c++) {
            double s = 0;
            for (int j = 0; j < parts; j++)
                s += ((double *)part_scratch(a->scratch, n * parts + j, C))[c];
            mean += s + (double)P * (double)x[c];
        }
        mean /= m;
        for (int64_t c = k * width; c < (k + 1) * width; c++) {
            double s = 0, q = 0, d = (double)x[c] - mean; /* shift - mean */
            for (int j = 0; j < parts; j++) {
                s += ((double *)part_scratch(a->scratch, n * parts + j, C))[c];
                q += ((double *)part_scratch(a->scratch, n * parts + j, C))[C + c];
            }
            square += q + 2 * d * s + (double)P * d * d;
        }
        stats[2 * k] = (float)mean;
        stats[2 * k + 1] = (float)(1.0 / sqrt(CN_MAX(square / m, 0.0) + (double)a->eps));
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

/* The norm with an image's statistics as a factor and a term per channel. */
static void channel_affine(const cn_norm_args *n, const float *stats, float *a, float *b)
{
    int64_t width = n->C / n->groups;
    for (int64_t c = 0; c < n->C; c++) {
        a[c] = (n->gamma ? n->gamma[c] : 1) * stats[c / width * 2 + 1];
        b[c] = (n->beta ? n->beta[c] : 0) - a[c] * stats[c / width * 2];
    }
}

void CN_S(group_norm)(const cn_norm_args *a)
{
    const int64_t N = a->N, P = a->P, C = a->C;
    act_t *y = a->y;
    int parts = cn_parts(N, omp_get_max_threads());
    int64_t jobs = N * parts, step = (P + parts - 1) / parts, each = 2 * a->groups;
    float *own_stats = a->scratch + jobs * 8 * C, *affine = own_stats + N * each;
    float *stats = a->stats ? a->stats : own_stats;
#pragma omp parallel for schedule(static)
    for (int64_t j = 0; j < jobs; j++) {
        const float *image = a->x + j / parts * P * C;
        int64_t p0 = CN_MIN(P, j % parts * step), p1 = CN_MIN(P, p0 + step);
        const part_sums to = part_sums_start(a->scratch, j, C);
        channel_sums(image + p0 * C, image, p1 - p0, C, &to);
    }
#pragma omp parallel for schedule(static)
    for (int64_t n = 0; n < N; n++) {
        group_stats(a, n, parts, stats + n * each);
        const float *use = a->given && a->given[1] > 0 ? a->given : stats;
        channel_affine(a, use + n * each, affine + n * 2 * C, affine + n * 2 * C + C);
    }
    const bool silu = a->silu;
    const float *x = a->x;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < N * P; r++) {
        const float *k = affine + r / P * 2 * C;
        apply_row(x + r * C, k, k + C, y + r * C, C, silu);
    }
}

/* dy * silu'(z). Callers know at compile time whether there is a SiLU, so that their loops
 * vectorise. */
static inline float through_silu(float dy, float z)
{
    float g = fast_sigmoid(z);
    return dy * (g * (1.0f + z * (1.0f - g)));
}

/* Per image: a, b (affine of the forward), mean per channel, k1, k2 (dx = a dz - k1 - k2 (x -
 * mean)). */
enum { GRAD_ROWS = 5 };

/* dz = dy * act'(a x + b); adds dz to the first sum and dz * (x - mean) to the second, row by
 * row. co: the image's coefficients. */
static inline __attribute__((always_inline)) void grad_sums(const act_t *dy, const float *x,
                                                            const float *co, int64_t rows,
                                                            int64_t C, bool silu,
                                                            const part_sums *to)
{
    const float *a = co, *b = co + C, *mean = co + 2 * C;
    float *s = to->block_first, *q = to->block_second;
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
            to->first[c] += (double)s[c];
            to->second[c] += (double)q[c];
        }
    }
}

/* k1 and k2 of image n from its parts' sums. */
static void grad_coefficients(const cn_norm_args *a, int64_t n, int parts, float *co)
{
    const int64_t C = a->C, width = C / a->groups;
    const float *stats = a->given + n * 2 * a->groups;
    for (int64_t k = 0; k < a->groups; k++) {
        double s1 = 0, s2 = 0, m = (double)(a->P * width), rstd = (double)stats[2 * k + 1];
        for (int64_t c = k * width; c < (k + 1) * width; c++)
            for (int j = 0; j < parts; j++) {
                const double *sum = (double *)part_scratch(a->scratch, n * parts + j, C);
                s1 += (double)a->gamma[c] * sum[c];
                s2 += (double)a->gamma[c] * sum[C + c] * rstd;
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

/* The gradients of gamma and beta: over all images. */
static void grad_affine(const cn_norm_args *a, int parts)
{
    const int64_t C = a->C, width = C / a->groups, jobs = a->N * parts;
    for (int64_t c = 0; (a->dgamma || a->dbeta) && c < C; c++) {
        double g = 0, b = 0;
        for (int64_t j = 0; j < jobs; j++) {
            const double *sum = (double *)part_scratch(a->scratch, j, C);
            b += sum[c];
            g += sum[C + c] * (double)a->given[(j / parts * a->groups + c / width) * 2 + 1];
        }
        if (a->dgamma) a->dgamma[c] = (float)g;
        if (a->dbeta) a->dbeta[c] = (float)b;
    }
}

void CN_S(group_norm_grad)(const cn_norm_args *a)
{
    const int64_t N = a->N, P = a->P, C = a->C;
    const act_t *dy = a->dy;
    const float *x = a->x, *stats = a->given;
    float *dx = a->dx;
    const bool silu = a->silu;
    int parts = cn_parts(N, omp_get_max_threads());
    int64_t jobs = N * parts, step = (P + parts - 1) / parts, width = C / a->groups;
    float *co = a->scratch + jobs * 8 * C;
    for (int64_t n = 0; n < N; n++) {
        float *k = co + n * GRAD_ROWS * C;
        channel_affine(a, stats + n * 2 * a->groups, k, k + C);
        for (int64_t c = 0; c < C; c++) k[2 * C + c] = stats[n * 2 * a->groups + c / width * 2];
    }
#pragma omp parallel for schedule(static)
    for (int64_t j = 0; j < jobs; j++) {
        int64_t n = j / parts, p0 = CN_MIN(P, j % parts * step), p1 = CN_MIN(P, p0 + step);
        const float *k = co + n * GRAD_ROWS * C, *v = x + (n * P + p0) * C;
        const act_t *d = dy + (n * P + p0) * C;
        const part_sums to = part_sums_start(a->scratch, j, C);
        if (silu)
            grad_sums(d, v, k, p1 - p0, C, true, &to);
        else
            grad_sums(d, v, k, p1 - p0, C, false, &to);
    }
    grad_affine(a, parts);
    for (int64_t n = 0; n < N; n++) grad_coefficients(a, n, parts, co + n * GRAD_ROWS * C);
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < N * P; r++) {
        const float *k = co + r / P * GRAD_ROWS * C;
        if (silu)
            grad_row(dy + r * C, x + r * C, k, dx + r * C, C, true);
        else
            grad_row(dy + r * C, x + r * C, k, dx + r * C, C, false);
    }
}

void CN_S(layer_norm)(const cn_norm_args *a)
{
    const int64_t rows = a->N, C = a->C;
    const float *x = a->x, *gamma = a->gamma, *beta = a->beta, eps = a->eps;
    float *stats = a->stats;
    act_t *y = a->y;
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

void CN_S(layer_norm_grad)(const cn_norm_args *a)
{
    const int64_t rows = a->N, C = a->C;
    const float *x = a->x, *stats = a->given, *gamma = a->gamma;
    float *dx = a->dx, *dgamma = a->dgamma, *dbeta = a->dbeta, *scratch = a->scratch;
    const act_t *dy = a->dy;
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
