/* SPDX-License-Identifier: Apache-2.0 */
/* frechet.c - see frechet.h. Matrices are small, so eigenvalues come from Jacobi's rotations. */
#include "pretrain/frechet.h"

#include <math.h>
#include <string.h>

enum { SWEEPS = 60 };

cn_status cn_moments_create(cn_ctx *ctx, int d, cn_moments *out)
{
    cn_moments m = {.d = d};
    m.sum = cn_alloc0(ctx, (size_t)d * sizeof *m.sum);
    m.product = cn_alloc0(ctx, (size_t)d * (size_t)d * sizeof *m.product);
    if (!m.sum || !m.product) {
        cn_moments_destroy(&m);
        return CN_ENOMEM;
    }
    *out = m;
    return CN_OK;
}

void cn_moments_destroy(cn_moments *m)
{
    cn_free(m->sum);
    cn_free(m->product);
    *m = (cn_moments){0};
}

void cn_moments_add(cn_moments *m, const float *x)
{
    for (int i = 0; i < m->d; i++) {
        m->sum[i] += (double)x[i];
        for (int k = 0; k < m->d; k++) m->product[i * m->d + k] += (double)x[i] * (double)x[k];
    }
    m->n++;
}

static void covariance(const cn_moments *m, double *out)
{
    const double n = (double)m->n;
    for (int i = 0; i < m->d; i++)
        for (int k = 0; k < m->d; k++)
            out[i * m->d + k] = (m->product[i * m->d + k] - m->sum[i] * m->sum[k] / n) / (n - 1);
}

/* One rotation that makes the symmetric a[p][q] zero; v's columns gather the eigenvectors. */
static void rotate(double *a, double *v, int d, int p, int q)
{
    const double theta = (a[q * d + q] - a[p * d + p]) / (2 * a[p * d + q]);
    const double t = (theta < 0 ? -1 : 1) / (fabs(theta) + sqrt(theta * theta + 1));
    const double c = 1 / sqrt(t * t + 1), s = t * c;
    for (int k = 0; k < d; k++) {
        const double x = a[k * d + p], y = a[k * d + q];
        a[k * d + p] = c * x - s * y;
        a[k * d + q] = s * x + c * y;
    }
    for (int k = 0; k < d; k++) {
        const double x = a[p * d + k], y = a[q * d + k];
        a[p * d + k] = c * x - s * y;
        a[q * d + k] = s * x + c * y;
    }
    for (int k = 0; k < d; k++) {
        const double x = v[k * d + p], y = v[k * d + q];
        v[k * d + p] = c * x - s * y;
        v[k * d + q] = s * x + c * y;
    }
}

/* Eigenvalues of the symmetric a onto its diagonal, eigenvectors into v's columns. */
static void diagonalise(double *a, double *v, int d)
{
    memset(v, 0, (size_t)d * (size_t)d * sizeof *v);
    for (int i = 0; i < d; i++) v[i * d + i] = 1;
    for (int sweep = 0; sweep < SWEEPS; sweep++) {
        double off = 0, all = 0;
        for (int i = 0; i < d * d; i++) {
            all += a[i] * a[i];
            if (i / d != i % d) off += a[i] * a[i];
        }
        if (off <= 1e-24 * all) return;
        for (int p = 0; p < d; p++)
            for (int q = p + 1; q < d; q++)
                if (fabs(a[p * d + q]) > 1e-300) rotate(a, v, d, p, q);
    }
}

static void multiply(const double *a, const double *b, int d, double *out)
{
    for (int i = 0; i < d; i++)
        for (int k = 0; k < d; k++) {
            double s = 0;
            for (int j = 0; j < d; j++) s += a[i * d + j] * b[j * d + k];
            out[i * d + k] = s;
        }
}

/* The root of the symmetric, positive a; a and v are used up. */
static void square_root(double *a, double *v, int d, double *out)
{
    diagonalise(a, v, d);
    for (int i = 0; i < d; i++)
        for (int k = 0; k < d; k++) {
            double s = 0;
            for (int j = 0; j < d; j++)
                s += v[i * d + j] * v[k * d + j] * sqrt(fmax(a[j * d + j], 0));
            out[i * d + k] = s;
        }
}

cn_status cn_frechet_distance(cn_ctx *ctx, const cn_moments *a, const cn_moments *b, double *out)
{
    const int d = a->d;
    const size_t n = (size_t)d * (size_t)d;
    if (b->d != d || a->n < 2 || b->n < 2)
        return cn_fail(ctx, CN_EINVAL, "a distance needs two vectors or more on either side");
    double *m = cn_alloc_array(ctx, 5 * n, sizeof *m);
    if (!m) return CN_ENOMEM;
    double *s1 = m, *s2 = m + n, *root = m + 2 * n, *v = m + 3 * n, *t = m + 4 * n;
    covariance(a, s1);
    covariance(b, s2);
    double sum = 0;
    for (int i = 0; i < d; i++) {
        const double apart = a->sum[i] / (double)a->n - b->sum[i] / (double)b->n;
        sum += apart * apart + s1[i * d + i] + s2[i * d + i];
    }
    square_root(s1, v, d, root);
    multiply(root, s2, d, t);
    multiply(t, root, d, s1);
    for (int i = 0; i < d; i++) /* symmetric but for rounding */
        for (int k = 0; k < i; k++)
            s1[i * d + k] = s1[k * d + i] = (s1[i * d + k] + s1[k * d + i]) / 2;
    diagonalise(s1, v, d);
    for (int i = 0; i < d; i++) sum -= 2 * sqrt(fmax(s1[i * d + i], 0));
    cn_free(m);
    *out = fmax(sum, 0);
    return CN_OK;
}
