/* SPDX-License-Identifier: Apache-2.0 */
/* attention.h - softmax(q k^T scale) v per head, and its gradients, by tiles of 32 queries and 32
 * keys whose scores are computed again wherever they are wanted. q [N,L,h D], k and v [N,M,h D].
 *   LSE    the logarithm of each query's sum, [N,h,L]
 *   OUT    y = sum over keys of exp(score - lse) v
 *   DELTA  sum over channels of dy y, [N,h,L]
 *   DQ     sum over keys of ds k, with ds = P (dy v^T - delta) scale
 *   DK DV  sums over queries of ds^T q and of P^T dy
 * A group has one tile of the result's rows, 64 of a head's channels (GROUP_Y), and a head of an
 * image (GROUP_Z). */
ARGS(F32 q; F32 k; F32 v; F32 y; F32 lse; F32 dy; F32 delta; F32 out_; int N; int L; int M; int D;
     int heads; int causal; float scale;)
SHARED(float, rows_tile, 8 * 32)
SHARED(float, columns_tile, 8 * 32)
SHARED(float, score, 32 * 33)
SHARED(float, values, 32 * 64)

#define NONE           -1e30f
#define HEAD           (GROUP_Z % p.heads)
#define IMAGE          (GROUP_Z / p.heads)
#define QUERY(b, l, d) AT(b, ((IMAGE * p.L + (l)) * p.heads + HEAD) * p.D + (d))
#define KEY(b, m, d)   AT(b, ((IMAGE * p.M + (m)) * p.heads + HEAD) * p.D + (d))
#define OF_ROW(b, l)   AT(b, GROUP_Z *p.L + (l))

#if defined(DELTA)
KERNEL(attention_delta, 64)
{
    const int l = GROUP_X * 64 + ITEM;
    if (l >= p.L) return;
    float sum = 0.0f;
    for (int d = 0; d < p.D; d++) sum += QUERY(p.dy, l, d) * QUERY(p.y, l, d);
    OF_ROW(p.out_, l) = sum;
}
#else

/* Items have 4 x 4 of the 32 x 32 products of rows of queries (q, or dy) with rows of keys (k, or
 * v): queries 4 (ITEM / 8) on, keys ITEM % 8 and every 8th behind it. */
#define PRODUCTS(r, queries, keys)                                                                \
    for (int i = 0; i < 16; i++) r[i] = 0.0f;                                                     \
    for (int d0 = 0; d0 < p.D; d0 += 8) {                                                         \
        for (int i = ITEM; i < 256; i += 64) {                                                    \
            const int e = i / 8, d = d0 + i % 8;                                                  \
            rows_tile[i % 8 * 32 + e] =                                                           \
                l0 + e < p.L && d < p.D ? QUERY(queries, l0 + e, d) : 0.0f;                       \
            columns_tile[i % 8 * 32 + e] = m0 + e < p.M && d < p.D ? KEY(keys, m0 + e, d) : 0.0f; \
        }                                                                                         \
        BARRIER();                                                                                \
        for (int d = 0; d < 8; d++)                                                               \
            for (int i = 0; i < 16; i++)                                                          \
                r[i] = FMA(rows_tile[d * 32 + ITEM / 8 * 4 + i / 4],                              \
                           columns_tile[d * 32 + ITEM % 8 + i % 4 * 8], r[i]);                    \
        BARRIER();                                                                                \
    }

/* A score, scaled; NONE where the key isn't there or comes later than the query. */
FUNC(float, scaled, float s, int l, int m)
{
    if (m >= p.M || l >= p.L || (p.causal != 0 && m > l)) return NONE;
    return s * p.scale;
}

#if defined(LSE)
KERNEL(attention_lse, 64)
{
    const int l0 = GROUP_X * 32;
    float most = NONE, sum = 0.0f, s[16]; /* of query l0 + ITEM */
    for (int m0 = 0; m0 < p.M; m0 += 32) {
        PRODUCTS(s, p.q, p.k)
        for (int i = 0; i < 16; i++) {
            const int l = ITEM / 8 * 4 + i / 4, m = ITEM % 8 + i % 4 * 8;
            score[l * 33 + m] = CALL(scaled, s[i], l0 + l, m0 + m);
        }
        BARRIER();
        if (ITEM < 32) {
            float here = most;
            for (int m = 0; m < 32; m++) here = max(here, score[ITEM * 33 + m]);
            sum = sum * exp(most - here);
            for (int m = 0; m < 32; m++)
                if (score[ITEM * 33 + m] > NONE) sum += exp(score[ITEM * 33 + m] - here);
            most = here;
        }
        BARRIER();
    }
    if (ITEM < 32 && l0 + ITEM < p.L) OF_ROW(p.out_, l0 + ITEM) = most + log(sum);
}
#else

/* P of the tile, or ds, into `score`, a row for each query. */
#if defined(DQ) || defined(DK)
#define FILL_SCORE()                                                                         \
    PRODUCTS(s, p.q, p.k)                                                                    \
    PRODUCTS(t, p.dy, p.v)                                                                   \
    for (int i = 0; i < 16; i++) {                                                           \
        const int l = ITEM / 8 * 4 + i / 4, m = ITEM % 8 + i % 4 * 8;                        \
        const float z = CALL(scaled, s[i], l0 + l, m0 + m);                                  \
        float r = 0.0f;                                                                      \
        if (z > NONE)                                                                        \
            r = exp(z - OF_ROW(p.lse, l0 + l)) * (t[i] - OF_ROW(p.delta, l0 + l)) * p.scale; \
        score[l * 33 + m] = r;                                                               \
    }
#else
#define FILL_SCORE()                                                  \
    PRODUCTS(s, p.q, p.k)                                             \
    for (int i = 0; i < 16; i++) {                                    \
        const int l = ITEM / 8 * 4 + i / 4, m = ITEM % 8 + i % 4 * 8; \
        const float z = CALL(scaled, s[i], l0 + l, m0 + m);           \
        float r = 0.0f;                                               \
        if (z > NONE) r = exp(z - OF_ROW(p.lse, l0 + l));             \
        score[l * 33 + m] = r;                                        \
    }
#endif

#if defined(OUT)
#define SUMMED p.v
#elif defined(DQ)
#define SUMMED p.k
#elif defined(DK)
#define SUMMED p.q
#else
#define SUMMED p.dy
#endif

/* The result's tile: 32 rows by 64 channels, an item 4 rows by 8 channels. */
KERNEL(attention_sum, 64)
{
    const int first = GROUP_X * 32, d0 = GROUP_Y * 64;
    float acc[32], s[16];
#if defined(DQ) || defined(DK)
    float t[16];
#endif
    for (int i = 0; i < 32; i++) acc[i] = 0.0f;
#if defined(DK) || defined(DV)
    const int m0 = first;
    for (int l0 = 0; l0 < p.L; l0 += 32) {
        FILL_SCORE()
        for (int i = ITEM; i < 2048; i += 64)
            values[i] = l0 + i / 64 < p.L && d0 + i % 64 < p.D
                            ? QUERY(SUMMED, l0 + i / 64, d0 + i % 64)
                            : 0.0f;
#else
    const int l0 = first;
    for (int m0 = 0; m0 < p.M; m0 += 32) {
        FILL_SCORE()
        for (int i = ITEM; i < 2048; i += 64)
            values[i] = m0 + i / 64 < p.M && d0 + i % 64 < p.D
                            ? KEY(SUMMED, m0 + i / 64, d0 + i % 64)
                            : 0.0f;
#endif
        BARRIER();
        for (int k = 0; k < 32; k++)
            for (int i = 0; i < 32; i++) {
                const int row = ITEM / 8 * 4 + i / 8, d = ITEM % 8 + i % 8 * 8;
#if defined(DK) || defined(DV)
                acc[i] = FMA(score[k * 33 + row], values[k * 64 + d], acc[i]);
#else
                acc[i] = FMA(score[row * 33 + k], values[k * 64 + d], acc[i]);
#endif
            }
        BARRIER();
    }
    for (int i = 0; i < 32; i++) {
        const int row = first + ITEM / 8 * 4 + i / 8, d = d0 + ITEM % 8 + i % 8 * 8;
        if (d >= p.D) continue;
#if defined(DK) || defined(DV)
        if (row < p.M) KEY(p.out_, row, d) = acc[i];
#else
        if (row < p.L) QUERY(p.out_, row, d) = acc[i];
#endif
    }
}
#endif
#endif
