/* SPDX-License-Identifier: Apache-2.0 */
/* resize_taps.c - separable interpolation with 2, 4 or 8 taps, as OpenCV computes it.
 *
 * A row is resized along x once, into a ring of as many rows as there are taps; each output row is
 * then a weighted sum of ring rows. Bytes: 11-bit integer weights, exact int32 along x; along y
 * each filter has OpenCV's own rounding. Floats: the same taps in float32.
 */
#include "image/resize_internal.h"

#include <math.h>
#include <string.h>

#ifdef __clang__
#pragma STDC FP_CONTRACT OFF
#endif

enum { TAPS_MAX = 8, WEIGHT_ONE = 2048 };

/* For each output position of one axis: its first source index (may lie outside) and the
 * weights. */
typedef struct axis {
    int taps;
    int64_t *first;
    float *weight;  /* [n][taps] */
    int32_t *fixed; /* [n][taps], weight * 2048 rounded to even */
    int64_t *item;  /* along x: [n][taps], clamped source index times channels */
} axis;

static void axis_free(axis *a)
{
    cn_free(a->first);
    cn_free(a->weight);
    cn_free(a->fixed);
    cn_free(a->item);
}

static void cubic_weights(float t, float *w)
{
    const float a = -0.75f;
    w[0] = ((a * (t + 1) - 5 * a) * (t + 1) + 8 * a) * (t + 1) - 4 * a;
    w[1] = ((a + 2) * t - (a + 3)) * t * t + 1;
    w[2] = ((a + 2) * (1 - t) - (a + 3)) * (1 - t) * (1 - t) + 1;
    w[3] = 1.0f - w[0] - w[1] - w[2];
}

static void lanczos4_weights(float t, float *w)
{
    const double r = 0.70710678118654752440, quarter_pi = 3.14159265358979323846 * 0.25;
    const double turn[8][2] = {{1, 0},  {-r, -r}, {0, 1},  {r, -r},
                               {-1, 0}, {r, r},   {0, -1}, {-r, r}};
    double y0 = -(double)(t + 3) * quarter_pi, s0 = sin(y0), c0 = cos(y0);
    float sum = 0;
    for (int j = 0; j < 8; j++) {
        float d = t + 3 - (float)j;
        if (fabsf(d) < 1e-6f) {
            for (int i = 0; i < 8; i++) w[i] = i == j ? 1.0f : 0.0f;
            return;
        }
        double y = -(double)d * quarter_pi;
        w[j] = (float)((turn[j][0] * s0 + turn[j][1] * c0) / (y * y));
        sum += w[j];
    }
    sum = 1.0f / sum;
    for (int j = 0; j < 8; j++) w[j] *= sum;
}

/* Where output position d falls: the source index left of it and the fraction beyond it. */
static void locate(const cn_resize_job *job, bool along_x, int64_t d, int64_t *index, float *t)
{
    double scale = along_x ? job->scale_x : job->scale_y;
    int64_t n = along_x ? job->in_w : job->in_h;
    if (job->filter == CN_FILTER_AREA) {
        int64_t i = (int64_t)floor((double)d * scale);
        float f = (float)((double)(d + 1) - (double)(i + 1) * (1.0 / scale));
        f = f <= 0 ? 0.0f : f - floorf(f);
        *t = i >= n - 1 ? 0.0f : f;
        *index = CN_MIN(i, n - 1);
        return;
    }
    float f = (float)(((double)d + 0.5) * scale - 0.5);
    int64_t i = (int64_t)floorf(f);
    *t = f - (float)i;
    *index = i;
    /* Along y OpenCV clamps the rows only; both rows are then the same, but the weights still
     * round. */
    if (job->filter == CN_FILTER_LINEAR && along_x && (i < 0 || i >= n - 1)) {
        *t = 0;
        *index = i < 0 ? 0 : n - 1;
    }
}

static cn_status axis_init(cn_ctx *ctx, const cn_resize_job *job, bool along_x, axis *a)
{
    int64_t n = along_x ? job->out_w : job->out_h, src = along_x ? job->in_w : job->in_h;
    a->taps = job->filter == CN_FILTER_CUBIC ? 4 : job->filter == CN_FILTER_LANCZOS4 ? 8 : 2;
    size_t cells = (size_t)n * (size_t)a->taps;
    a->first = cn_alloc_array(ctx, (size_t)n, sizeof *a->first);
    a->weight = cn_alloc_array(ctx, cells, sizeof *a->weight);
    a->fixed = cn_alloc_array(ctx, cells, sizeof *a->fixed);
    a->item = cn_alloc_array(ctx, cells, sizeof *a->item);
    if (!a->first || !a->weight || !a->fixed || !a->item) return CN_ENOMEM;
    for (int64_t d = 0; d < n; d++) {
        float t, *w = a->weight + d * a->taps;
        int64_t index;
        locate(job, along_x, d, &index, &t);
        a->first[d] = index - (a->taps / 2 - 1);
        if (a->taps == 2) {
            w[0] = 1.0f - t;
            w[1] = t;
        } else if (a->taps == 4) {
            cubic_weights(t, w);
        } else {
            lanczos4_weights(t, w);
        }
        for (int k = 0; k < a->taps; k++) {
            int64_t i = CN_MAX(0, CN_MIN(src - 1, a->first[d] + k));
            a->item[d * a->taps + k] = i * job->channels;
            a->fixed[d * a->taps + k] = (int32_t)lrintf(w[k] * (float)WEIGHT_ONE);
        }
    }
    return CN_OK;
}

/* The two row passes. `taps` is a constant where they are called, so that the inner loops
 * unroll. */
static inline void row_x_u8(const axis *ax, int taps, const uint8_t *in, int64_t n, int64_t C,
                            int32_t *out)
{
    for (int64_t d = 0; d < n; d++) {
        const int32_t *w = ax->fixed + d * taps;
        const int64_t *item = ax->item + d * taps;
        for (int64_t c = 0; c < C; c++) {
            int32_t sum = 0;
            for (int k = 0; k < taps; k++) sum += w[k] * in[item[k] + c];
            *out++ = sum;
        }
    }
}

static inline void row_x_f32(const axis *ax, int taps, const float *in, int64_t n, int64_t C,
                             float *out)
{
    for (int64_t d = 0; d < n; d++) {
        const float *w = ax->weight + d * taps;
        const int64_t *item = ax->item + d * taps;
        for (int64_t c = 0; c < C; c++) {
            float sum = 0;
            for (int k = 0; k < taps; k++) sum += w[k] * in[item[k] + c];
            *out++ = sum;
        }
    }
}

static void row_x(const cn_resize_job *job, const axis *ax, const void *in, int64_t y, void *out)
{
    int64_t n = job->out_w, C = job->channels, offset = y * job->in_w * C;
    if (job->is_f32) {
        const float *row = (const float *)in + offset;
        if (ax->taps == 2) row_x_f32(ax, 2, row, n, C, out);
        if (ax->taps == 4) row_x_f32(ax, 4, row, n, C, out);
        if (ax->taps == 8) row_x_f32(ax, 8, row, n, C, out);
    } else {
        const uint8_t *row = (const uint8_t *)in + offset;
        if (ax->taps == 2) row_x_u8(ax, 2, row, n, C, out);
        if (ax->taps == 4) row_x_u8(ax, 4, row, n, C, out);
        if (ax->taps == 8) row_x_u8(ax, 8, row, n, C, out);
    }
}

static inline uint8_t clamp_u8(int32_t v)
{
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

static void row_y_linear(const int32_t *const *rows, const int32_t *b, int64_t n, uint8_t *out)
{
    const int32_t *r0 = rows[0], *r1 = rows[1];
    int32_t b0 = b[0], b1 = b[1];
    for (int64_t i = 0; i < n; i++)
        out[i] = clamp_u8(((b0 * (r0[i] >> 4) >> 16) + (b1 * (r1[i] >> 4) >> 16) + 2) >> 2);
}

/* Float products from the last tap to the first: the order of OpenCV's vector code. */
static void row_y_cubic(const int32_t *const *rows, const int32_t *b, int64_t n, uint8_t *out)
{
    const float unit = 1.0f / (float)(WEIGHT_ONE * WEIGHT_ONE);
    const float b0 = (float)b[0] * unit, b1 = (float)b[1] * unit, b2 = (float)b[2] * unit,
                b3 = (float)b[3] * unit;
    const int32_t *r0 = rows[0], *r1 = rows[1], *r2 = rows[2], *r3 = rows[3];
    for (int64_t i = 0; i < n; i++) {
        float v = (float)r3[i] * b3;
        v = (float)r2[i] * b2 + v;
        v = (float)r1[i] * b1 + v;
        v = (float)r0[i] * b0 + v;
        out[i] = clamp_u8((int32_t)lrintf(v));
    }
}

/* An axis' positive weights sum to at most P = 1.36, the negative ones to 1 - P: the sum stays
 * below 255 * 2^22 * (P^2 + (P - 1)^2) < 2^31. */
static void row_y_lanczos4(const int32_t *const *rows, const int32_t *b, int64_t n, uint8_t *out)
{
    for (int64_t i = 0; i < n; i++) {
        int32_t sum = 1 << 21;
        for (int k = 0; k < 8; k++) sum += rows[k][i] * b[k];
        out[i] = clamp_u8(sum >> 22);
    }
}

static void row_y_f32(const float *const *rows, const float *w, int taps, int64_t n, float *out)
{
    for (int64_t i = 0; i < n; i++) out[i] = rows[0][i] * w[0];
    for (int k = 1; k < taps; k++)
        for (int64_t i = 0; i < n; i++) out[i] += rows[k][i] * w[k];
}

static void row_y(const cn_resize_job *job, const axis *ay, int64_t y, const void *const *rows,
                  void *out)
{
    int64_t n = job->out_w * job->channels;
    const int32_t *b = ay->fixed + y * ay->taps;
    const int32_t *r[TAPS_MAX];
    const float *f[TAPS_MAX];
    for (int k = 0; k < ay->taps; k++) {
        r[k] = rows[k];
        f[k] = rows[k];
    }
    if (job->is_f32)
        row_y_f32(f, ay->weight + y * ay->taps, ay->taps, n, (float *)out + y * n);
    else if (ay->taps == 2)
        row_y_linear(r, b, n, (uint8_t *)out + y * n);
    else if (ay->taps == 4)
        row_y_cubic(r, b, n, (uint8_t *)out + y * n);
    else
        row_y_lanczos4(r, b, n, (uint8_t *)out + y * n);
}

/* Consecutive source rows never share a slot of the ring, and one output row needs at most
 * `taps`. */
static void resize_rows(const cn_resize_job *job, const axis *ax, const axis *ay, const void *in,
                        unsigned char *ring, size_t row_bytes, void *out)
{
    int64_t held[TAPS_MAX];
    const void *rows[TAPS_MAX];
    for (int k = 0; k < TAPS_MAX; k++) held[k] = -1;
    for (int64_t y = 0; y < job->out_h; y++) {
        for (int k = 0; k < ay->taps; k++) {
            int64_t sy = CN_MAX(0, CN_MIN(job->in_h - 1, ay->first[y] + k));
            int64_t slot = sy % ay->taps;
            unsigned char *row = ring + (size_t)slot * row_bytes;
            if (held[slot] != sy) row_x(job, ax, in, sy, row);
            held[slot] = sy;
            rows[k] = row;
        }
        row_y(job, ay, y, rows, out);
    }
}

cn_status cn_resize_taps(cn_ctx *ctx, const cn_resize_job *job, const void *in, void *out)
{
    axis ax = {0}, ay = {0};
    size_t row_bytes = (size_t)(job->out_w * job->channels) * sizeof(int32_t);
    unsigned char *ring = NULL;
    cn_status s = axis_init(ctx, job, true, &ax);
    if (s == CN_OK) s = axis_init(ctx, job, false, &ay);
    if (s == CN_OK) {
        ring = cn_alloc_array(ctx, (size_t)ay.taps, row_bytes);
        if (!ring) s = CN_ENOMEM;
    }
    if (s == CN_OK) resize_rows(job, &ax, &ay, in, ring, row_bytes, out);
    cn_free(ring);
    axis_free(&ax);
    axis_free(&ay);
    return s;
}
