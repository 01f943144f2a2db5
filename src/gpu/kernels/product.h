/* SPDX-License-Identifier: Apache-2.0 */
/* product.h - a convolution and both its gradients as products over gathered elements; a linear
 * layer is a convolution by 1x1 over a picture of one row. x [N,H,W,C], w [O,kh,kw,C], y
 * [N,OH,OW,O].
 *   FWD  y[pixel][o]    = sum over (ky,kx,c) x(pixel at ky,kx)[c] w[o][ky,kx,c], then the sums
 *                         behind it and the activation
 *   DX   dx[pixel][c]   = sum over (ky,kx,o) dy(pixel from ky,kx)[o] w[o][ky,kx,c]
 *   DW   dw[o][ky,kx,c] = sum over pixels dy[pixel][o] x(pixel at ky,kx)[c]; part z of the result
 *                         has `share` of them
 * A group makes 8 IM x 8 IN results, an item IM x IN; where MATRIX is defined a group makes 64 x
 * 64, four subgroups 32 x 32 each by matrix units, which multiply F16 and add F32. */
ARGS(F32 a; U32 b; F32 c; F32 bias; F32 residual; F32 shift; int rows; int cols; int depth;
     int share; int H; int W; int C; int OH; int OW; int O; int kernel; int pad; int flags;
     int positions; float alpha;)
#ifdef MATRIX
#define DEEP 32 /* of a tile */
#define ROW  40 /* halves from one of its rows to the next: not all in the same bank */
SHARED(HALF, as, 64 * ROW)
SHARED(HALF, bs, 64 * ROW)
SHARED(float, cs, 4 * 256)
#else
CONSTANT(0, IM, 8) /* at most 8 */
CONSTANT(1, IN, 8)
#define M (8 * IM)
#define N (8 * IN)
SHARED(float, as, 1024)
SHARED(float, bs, 1024)
#endif

#include "gpu/kernels/functions.h"
#include "gpu/kernels/stored_weights.h"

/* Where x has what kernel position and channel t see from output pixel q; -1: outside. */
FUNC(int, gather, int q, int t)
{
    const int c = t % p.C, kx = t / p.C % KW, ky = t / p.C / KW;
    const int ox = q % p.OW, oy = q / p.OW % p.OH, n = q / p.OW / p.OH;
    const int y = oy * STRIDE + ky * DILATION - TOP, x = ox * STRIDE + kx * DILATION - LEFT;
    if (y < 0 || y >= p.H || x < 0 || x >= p.W) return -1;
    return ((n * p.H + y) * p.W + x) * p.C + c;
}

#if defined(FWD)
FUNC(float, a_at, int m, int k)
{
    const int i = CALL(gather, m, k);
    return i < 0 ? 0.0f : AT(p.a, i);
}
FUNC(float, b_at, int k, int n)
{
    return CALL(b_element, n * p.depth + k);
}
#elif defined(DX)
FUNC(float, a_at, int m, int k)
{
    const int o = k % p.O, kx = k / p.O % KW, ky = k / p.O / KW;
    const int x = m % p.W + LEFT - kx * DILATION, y = m / p.W % p.H + TOP - ky * DILATION;
    const int n = m / p.W / p.H;
    if (x < 0 || y < 0 || x % STRIDE != 0 || y % STRIDE != 0) return 0.0f;
    if (x / STRIDE >= p.OW || y / STRIDE >= p.OH) return 0.0f;
    return AT(p.a, ((n * p.OH + y / STRIDE) * p.OW + x / STRIDE) * p.O + o);
}
FUNC(float, b_at, int k, int n)
{
    return CALL(b_element, (k % p.O * KH * KW + k / p.O) * p.C + n);
}
#else
FUNC(float, a_at, int m, int k)
{
    return AT(p.a, k * p.O + m);
}
FUNC(float, b_at, int k, int n)
{
    const int i = CALL(gather, k, n);
    return i < 0 ? 0.0f : FLOAT_OF_BITS(AT(p.b, i));
}
#endif

/* A sum as it is stored: with what is behind a forward product. */
FUNC(void, store, int m, int n, float sum)
{
    float r = sum;
    if (m >= p.rows || n >= p.cols) return;
#ifdef FWD
    if (HAS_BIAS) r += AT(p.bias, n);
    if (HAS_SHIFT) r += AT(p.shift, m / p.positions * p.cols + n);
    if (HAS_RESIDUAL) r += AT(p.residual, m * p.cols + n);
    if (ACT != 0) r = CALL(activate, ACT, p.alpha, r);
#endif
    AT(p.c, (GROUP_Z * p.rows + m) * p.cols + n) = r;
}

#ifdef MATRIX
/* Neighbouring items read neighbouring elements: along the depth, or along the results. */
#if defined(DW)
#define DEPTH_OF_A(i) (i / 64)
#define ROW_OF_A(i)   (i % 64)
#else
#define DEPTH_OF_A(i) (i % DEEP)
#define ROW_OF_A(i)   (i / DEEP)
#endif
#if defined(FWD)
#define DEPTH_OF_B(i) (i % DEEP)
#define ROW_OF_B(i)   (i / DEEP)
#else
#define DEPTH_OF_B(i) (i / 64)
#define ROW_OF_B(i)   (i % 64)
#endif

KERNEL_MATRIX(product)
{
    const int t = ITEM, w = SUBGROUP_NUMBER, m0 = GROUP_Y * 64, n0 = GROUP_X * 64;
    const int from = GROUP_Z * p.share, to = min(from + p.share, p.depth);
    MATRIX_SUM acc[32 / TM * (32 / TN)];
    for (int i = 0; i < 32 / TM * (32 / TN); i++) MATRIX_ZERO(acc[i]);
    for (int k0 = from; k0 < to; k0 += DEEP) {
        for (int i = t; i < 64 * DEEP; i += 4 * SUBGROUP) {
            const int k = k0 + DEPTH_OF_A(i), r = ROW_OF_A(i);
            float x = 0.0f;
            if (k < to && m0 + r < p.rows) x = CALL(a_at, m0 + r, k);
            as[r * ROW + DEPTH_OF_A(i)] = HALF(x);
        }
        for (int i = t; i < 64 * DEEP; i += 4 * SUBGROUP) {
            const int k = k0 + DEPTH_OF_B(i), r = ROW_OF_B(i);
            float x = 0.0f;
            if (k < to && n0 + r < p.cols) x = CALL(b_at, k, n0 + r);
            bs[r * ROW + DEPTH_OF_B(i)] = HALF(x);
        }
        BARRIER();
        for (int k = 0; k < DEEP; k += TK)
            for (int j = 0; j < 32 / TN; j++) {
                MATRIX_RIGHT y;
                MATRIX_LOAD_COLUMNS(y, bs, (w % 2 * 32 + j * TN) * ROW + k, ROW);
                for (int i = 0; i < 32 / TM; i++) {
                    MATRIX_LEFT x;
                    MATRIX_LOAD_ROWS(x, as, (w / 2 * 32 + i * TM) * ROW + k, ROW);
                    MATRIX_ADD_PRODUCT(acc[i * (32 / TN) + j], x, y);
                }
            }
        BARRIER();
    }
    /* a matrix of each subgroup at a time through shared memory */
    for (int i = 0; i < 32 / TM * (32 / TN); i++) {
        MATRIX_STORE(acc[i], cs, w * 256, TN);
        BARRIER();
        for (int e = t; e < 4 * TM * TN; e += 4 * SUBGROUP) {
            const int of = e / (TM * TN), at = e % (TM * TN);
            const int m = m0 + of / 2 * 32 + i / (32 / TN) * TM + at / TN;
            const int n = n0 + of % 2 * 32 + i % (32 / TN) * TN + at % TN;
            CALL(store, m, n, cs[of * 256 + at]);
        }
        BARRIER();
    }
}
#else
KERNEL(product, 64)
{
    const int t = ITEM, tx = t % 8, ty = t / 8, m0 = GROUP_Y * M, n0 = GROUP_X * N;
    const int from = GROUP_Z * p.share, to = min(from + p.share, p.depth);
    float acc[8][8];
    for (int i = 0; i < IM; i++)
        for (int j = 0; j < IN; j++) acc[i][j] = 0.0f;
    for (int k0 = from; k0 < to; k0 += 16) {
        for (int i = t; i < 16 * M; i += 64) {
            const int k = k0 + i / M, r = i % M;
            as[i] = 0.0f;
            if (k < to && m0 + r < p.rows) as[i] = CALL(operand, CALL(a_at, m0 + r, k));
        }
        for (int i = t; i < 16 * N; i += 64) {
            const int k = k0 + i / N, r = i % N;
            bs[i] = 0.0f;
            if (k < to && n0 + r < p.cols) bs[i] = CALL(operand, CALL(b_at, k, n0 + r));
        }
        BARRIER();
        for (int k = 0; k < 16; k++) {
            float u[8], v[8];
            for (int i = 0; i < IM; i++) u[i] = as[k * M + ty * IM + i];
            for (int i = 0; i < IN; i++) v[i] = bs[k * N + tx + 8 * i];
            for (int i = 0; i < IM; i++)
                for (int j = 0; j < IN; j++) acc[i][j] = FMA(u[i], v[j], acc[i][j]);
        }
        BARRIER();
    }
    for (int i = 0; i < IM; i++)
        for (int j = 0; j < IN; j++) CALL(store, m0 + ty * IM + i, n0 + tx + 8 * j, acc[i][j]);
}
#endif
