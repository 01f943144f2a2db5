/* SPDX-License-Identifier: Apache-2.0 */
/* resize_area.c - the box average that OpenCV calls INTER_AREA, for pictures that shrink.
 *
 * Two forms with different roundings. Whole-number scales sum the block's pixels; other scales sum
 * float32 products, first along x for each source row, then the weighted rows from top to bottom.
 * Exact halves are common, so the order of the sums shows in the bytes.
 */
#include "image/resize_internal.h"

#include <float.h>
#include <math.h>
#include <string.h>

#ifdef __clang__
#pragma STDC FP_CONTRACT OFF
#endif

/* One source pixel's share in one output pixel. */
typedef struct share {
    int64_t from, to;
    float weight;
} share;

/* At most ceil(scale) + 2 shares per output; `shares` has room for n_in + 2 * n_out. */
static int64_t list_shares(int64_t n_in, int64_t n_out, double scale, share *shares)
{
    int64_t count = 0;
    for (int64_t d = 0; d < n_out; d++) {
        double from = (double)d * scale, to = from + scale;
        double cell = fmin(scale, (double)n_in - from);
        if (cell <= 0) { /* rounding of a given factor put this output past the last pixel */
            shares[count++] = (share){n_in - 1, d, 1.0f};
            continue;
        }
        int64_t first = (int64_t)ceil(from), last = CN_MIN((int64_t)floor(to), n_in - 1);
        first = CN_MIN(first, last);
        if ((double)first - from > 1e-3)
            shares[count++] = (share){first - 1, d, (float)(((double)first - from) / cell)};
        for (int64_t i = first; i < last; i++) shares[count++] = (share){i, d, (float)(1.0 / cell)};
        if (to - (double)last > 1e-3)
            shares[count++] =
                (share){last, d, (float)(fmin(fmin(to - (double)last, 1.0), cell) / cell)};
    }
    return count;
}

static inline uint8_t round_u8(float v)
{
    return (uint8_t)CN_MAX(0, CN_MIN(255, (int)lrintf(v)));
}

/* C is a constant where these are called for pictures, so that the loop over it unrolls. */
static inline void add_u8(const share *xs, int64_t n, int64_t C, const uint8_t *in, float *row)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t c = 0; c < C; c++)
            row[xs[i].to * C + c] += (float)in[xs[i].from * C + c] * xs[i].weight;
}

static inline void add_f32(const share *xs, int64_t n, int64_t C, const float *in, float *row)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t c = 0; c < C; c++)
            row[xs[i].to * C + c] += in[xs[i].from * C + c] * xs[i].weight;
}

static void row_along_x(const cn_resize_job *job, const share *xs, int64_t n, const void *in,
                        int64_t y, float *row)
{
    int64_t C = job->channels, offset = y * job->in_w * C;
    memset(row, 0, (size_t)(job->out_w * C) * sizeof *row);
    if (job->is_f32)
        add_f32(xs, n, C, (const float *)in + offset, row);
    else if (C == 3)
        add_u8(xs, n, 3, (const uint8_t *)in + offset, row);
    else
        add_u8(xs, n, C, (const uint8_t *)in + offset, row);
}

static void store_row(const cn_resize_job *job, const float *sum, int64_t y, void *out)
{
    int64_t n = job->out_w * job->channels;
    if (job->is_f32) {
        memcpy((float *)out + y * n, sum, (size_t)n * sizeof *sum);
        return;
    }
    for (int64_t i = 0; i < n; i++) ((uint8_t *)out)[y * n + i] = round_u8(sum[i]);
}

static cn_status resize_fraction(cn_ctx *ctx, const cn_resize_job *job, const void *in, void *out)
{
    cn_status s = CN_ENOMEM;
    size_t n = (size_t)(job->out_w * job->channels);
    share *xs = cn_alloc_array(ctx, (size_t)(job->in_w + 2 * job->out_w), sizeof *xs);
    share *ys = cn_alloc_array(ctx, (size_t)(job->in_h + 2 * job->out_h), sizeof *ys);
    float *row = cn_alloc_array(ctx, n, sizeof *row), *sum = cn_alloc_array(ctx, n, sizeof *sum);
    if (!xs || !ys || !row || !sum) goto done;
    int64_t n_x = list_shares(job->in_w, job->out_w, job->scale_x, xs);
    int64_t n_y = list_shares(job->in_h, job->out_h, job->scale_y, ys);
    for (int64_t j = 0; j < n_y; j++) {
        float w = ys[j].weight;
        row_along_x(job, xs, n_x, in, ys[j].from, row);
        if (j == 0 || ys[j].to != ys[j - 1].to)
            for (size_t i = 0; i < n; i++) sum[i] = w * row[i];
        else
            for (size_t i = 0; i < n; i++) sum[i] += w * row[i];
        if (j + 1 == n_y || ys[j + 1].to != ys[j].to) store_row(job, sum, ys[j].to, out);
    }
    s = CN_OK;
done:
    cn_free(xs);
    cn_free(ys);
    cn_free(row);
    cn_free(sum);
    return s;
}

/* A block that a given factor lets reach past the edge is averaged over what lies inside. */
static void resize_whole(const cn_resize_job *job, int64_t kx, int64_t ky, const void *in,
                         void *out)
{
    int64_t C = job->channels, at = 0;
    float inverse = 1.0f / (float)(kx * ky);
    for (int64_t y = 0; y < job->out_h; y++)
        for (int64_t x = 0; x < job->out_w; x++) {
            int64_t y0 = CN_MIN(y * ky, job->in_h - 1), y1 = CN_MIN(y0 + ky, job->in_h);
            int64_t x0 = CN_MIN(x * kx, job->in_w - 1), x1 = CN_MIN(x0 + kx, job->in_w);
            int64_t count = (y1 - y0) * (x1 - x0);
            for (int64_t c = 0; c < C; c++, at++) {
                int64_t sum = 0;
                float sum_f = 0;
                for (int64_t j = y0; j < y1; j++)
                    for (int64_t i = x0; i < x1; i++) {
                        int64_t from = (j * job->in_w + i) * C + c;
                        if (job->is_f32)
                            sum_f += ((const float *)in)[from];
                        else
                            sum += ((const uint8_t *)in)[from];
                    }
                if (job->is_f32)
                    ((float *)out)[at] = count == kx * ky ? sum_f * inverse : sum_f / (float)count;
                else if (count != kx * ky)
                    ((uint8_t *)out)[at] = round_u8((float)sum / (float)count);
                else if (kx == 2 && ky == 2)
                    ((uint8_t *)out)[at] = (uint8_t)((sum + 2) >> 2);
                else
                    ((uint8_t *)out)[at] = round_u8((float)sum * inverse);
            }
        }
}

cn_status cn_resize_area(cn_ctx *ctx, const cn_resize_job *job, const void *in, void *out)
{
    double kx = rint(job->scale_x), ky = rint(job->scale_y);
    if (fabs(job->scale_x - kx) >= DBL_EPSILON || fabs(job->scale_y - ky) >= DBL_EPSILON)
        return resize_fraction(ctx, job, in, out);
    resize_whole(job, (int64_t)kx, (int64_t)ky, in, out);
    return CN_OK;
}
