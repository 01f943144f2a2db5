/* SPDX-License-Identifier: Apache-2.0 */
/* orthogonalize.c - a matrix towards the nearest one with orthonormal rows or columns, by Newton
 * and Schulz's iteration with the coefficients of Jordan et al., "Muon: An optimizer for hidden
 * layers in neural networks" (2024): X <- aX + (bA + cA^2)X with A = X X^T, five times.
 *
 * Every step multiplies X by a polynomial of A, so all of them together are Q X, where Q and A are
 * small: sides of the smaller of rows and columns. X itself is read twice, for A = X X^T at the
 * beginning and for Q X at the end. All matrices of that size are symmetric and commute.
 */
#include "cpu/kernels/kernels.h"
#include "cpu/kernels/small_product.h"
#include "cpu/kernels/transpose.h"

#include <math.h>

enum { STEPS = 5, PART_M = 64, PART_N = 32, PART_K = 256, PARALLEL_FROM = 32768, TRANSPOSED = 32 };
static const float A1 = 3.4445f, A2 = -4.7750f, A3 = 2.0315f;

/* Column-major c[m,n] = a[m,k] b[k,n], without gaps but in a and b. */
typedef struct product {
    int64_t m, n, k;
    const float *a, *b;
    int64_t lda, ldb;
    float *c;
    bool symmetric; /* c is: what is above its diagonal is mirrored */
} product;

/* Above the diagonal's parts what is below them; parts are written by one thread each. */
static void mirror(float *c, int64_t m)
{
#pragma omp parallel for schedule(static, 1)
    for (int64_t j = 0; j < m; j += PART_N) {
        const int64_t from = j + PART_N, width = CN_MIN(PART_N, m - j);
        if (from < m) transpose(c + from + j * m, m, width, m - from, 1, c + j + from * m, m);
    }
}

static void multiply_part(const product *p, int64_t i, int64_t j)
{
    for (int64_t k = 0; k < p->k; k += PART_K)
        small_product(CN_MIN(PART_M, p->m - i), CN_MIN(PART_N, p->n - j), CN_MIN(PART_K, p->k - k),
                      p->a + i + k * p->lda, p->lda, p->b + k + j * p->ldb, p->ldb, k > 0,
                      p->c + i + j * p->m, p->m);
}

static void multiply(const product *p)
{
#pragma omp parallel for collapse(2) schedule(dynamic)
    for (int64_t j = 0; j < p->n; j += PART_N)
        for (int64_t i = 0; i < p->m; i += PART_M)
            if (!p->symmetric || i + PART_M > j) multiply_part(p, i, j);
    if (p->symmetric) mirror(p->c, p->m);
}

static void multiply_square(int64_t m, const float *a, const float *b, float *c)
{
    multiply(&(product){
        .m = m, .n = m, .k = m, .a = a, .lda = m, .b = b, .ldb = m, .c = c, .symmetric = true});
}

/* p = A1 I + A2 a + A3 square */
static void polynomial(int64_t m, const float *a, const float *square, float *p)
{
#pragma omp parallel for simd schedule(static) if (parallel : m * m > PARALLEL_FROM)
    for (int64_t i = 0; i < m * m; i++) p[i] = A2 * a[i] + A3 * square[i];
    for (int64_t i = 0; i < m; i++) p[i * m + i] += A1;
}

/* a = X X^T in the first of four rooms [m,m]; where Q is then. */
static float *iterate(int64_t m, float *room)
{
    float *a = room, *p = room + m * m, *q = room + 2 * m * m, *other = room + 3 * m * m;
    for (int i = 0; i < STEPS; i++) {
        multiply_square(m, a, a, other);
        polynomial(m, a, other, i ? p : q);
        const float *by = i ? p : q; /* what X was multiplied by in this step */
        if (i) {
            multiply_square(m, p, q, other);
            float *before = q;
            q = other;
            other = before;
        }
        if (i + 1 == STEPS) break;
        multiply_square(m, by, a, other);
        multiply_square(m, other, by, a);
    }
    return q;
}

void CN_K(orthogonalize)(float *x, int64_t rows, int64_t columns, float *scratch)
{
    const int64_t m = CN_MIN(rows, columns), n = CN_MAX(rows, columns);
    const bool tall = rows > columns;
    float *turned = scratch, *room = scratch + m * n;
    double squares = 0;
#pragma omp parallel for schedule(static) if (m * n > PARALLEL_FROM)
    for (int64_t i = 0; i < rows; i += TRANSPOSED)
        transpose(x + i * columns, columns, CN_MIN(TRANSPOSED, rows - i), columns, 1, turned + i,
                  rows);
    const float *wide = tall ? turned : x, *high = tall ? x : turned; /* [m,n], [n,m] */
    multiply(&(product){.m = m,
                        .n = m,
                        .k = n,
                        .a = high,
                        .lda = m,
                        .b = wide,
                        .ldb = n,
                        .c = room,
                        .symmetric = true});
    for (int64_t i = 0; i < m; i++) squares += (double)room[i * m + i];
    const float scale = squares > 0 ? (float)(1 / squares) : 0;
    for (int64_t i = 0; i < m * m; i++) room[i] *= scale;
    float *q = iterate(m, room);
    const float length = sqrtf(scale);
    for (int64_t i = 0; i < m * m; i++) q[i] *= length;
    if (tall)
        multiply(
            &(product){.m = m, .n = n, .k = m, .a = q, .lda = m, .b = high, .ldb = m, .c = turned});
    else
        multiply(
            &(product){.m = n, .n = m, .k = m, .a = wide, .lda = n, .b = q, .ldb = m, .c = turned});
#pragma omp parallel for simd schedule(static) if (parallel : m * n > PARALLEL_FROM)
    for (int64_t i = 0; i < m * n; i++) x[i] = turned[i];
}
