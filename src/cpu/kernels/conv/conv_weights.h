/* SPDX-License-Identifier: Apache-2.0 */
/* conv_weights.h - weights of a convolution between their places and groups of 16 inputs by 16
 * outputs. */
#ifndef CN_CPU_KERNELS_CONV_CONV_WEIGHTS_H
#define CN_CPU_KERNELS_CONV_CONV_WEIGHTS_H

#include "cpu/kernels/prefetch.h"
#include "cpu/kernels/transpose.h"
#include "cpu/kernels/vectors.h"
#include "cpu/kernels/widen.h"

/* g [in][out] of GROUP times GROUP weights of one tap, read one by one where they don't stand in
 * runs or end. */
static inline void gather(const cn_conv_args *a, int64_t in, int64_t out, int tap, float *g,
                          int64_t stride)
{
    const size_t each = cn_dtype_bytes(a->weight_type);
    for (int i = 0; i < GROUP; i++) memset(g + i * stride, 0, GROUP * sizeof *g);
    for (int64_t i = 0; i < CN_MIN(GROUP, a->I - in); i++)
        for (int64_t o = 0; o < CN_MIN(GROUP, a->O - out); o++) {
            const int64_t at = a->at_in[in + i] + a->at_out[out + o] + a->at_tap[tap];
            widen(a->weight_type, (const char *)a->weights + (size_t)at * each, g + i * stride + o,
                  1);
        }
}

/* GROUP runs of weights of one tap, each at `first` plus its own place. Those at `ahead` are asked
 * for: their pattern is beyond the processor's own foresight, and small pictures wait for little
 * else. */
static inline void read_runs(const cn_conv_args *a, int64_t first, const int64_t *places,
                             int64_t ahead, float *g, int64_t stride)
{
    const size_t each = cn_dtype_bytes(a->weight_type);
    const char *from = (const char *)a->weights + (size_t)first * each;
    for (int i = 0; i < GROUP; i++) {
        const char *run = from + (size_t)places[i] * each;
        __builtin_prefetch(run + ahead);
        widen(a->weight_type, run, g + i * stride, GROUP);
    }
}

/* The same where elements of two rows alternate in each of GROUP / 2 runs. */
static inline void read_pairs(const cn_conv_args *a, int64_t first, const int64_t *places,
                              int64_t ahead, float *g, int64_t stride)
{
    const size_t each = cn_dtype_bytes(a->weight_type);
    const char *from = (const char *)a->weights + (size_t)first * each;
    for (int i = 0; i < GROUP; i += 2, g += 2 * stride) {
        const char *run = from + (size_t)places[i] * each;
        float both[2 * GROUP];
        __builtin_prefetch(run + ahead);
        widen(a->weight_type, run, both, 2 * GROUP);
        for (int l = 0; l < GROUP; l++) {
            g[l] = both[2 * l];
            g[stride + l] = both[2 * l + 1];
        }
    }
}

/* g [in][out], rows `stride` apart, of one tap, a group of inputs and a group of outputs. */
static inline void read_weights(const cn_conv_args *a, int64_t in, int64_t out, int tap, float *g,
                                int64_t stride)
{
    const bool whole = in + GROUP <= a->I && out + GROUP <= a->O;
    const int64_t next = in + 2 * GROUP <= a->I ? a->at_in[in + GROUP] - a->at_in[in] : 0;
    const int64_t ahead = next * (int64_t)cn_dtype_bytes(a->weight_type);
    const int64_t at_in = a->at_in[in] + a->at_tap[tap];
    const int64_t at_out = a->at_out[out] + a->at_tap[tap];
    float transposed[GROUP * GROUP];
    switch (whole ? a->runs : CN_NO_RUNS) {
    case CN_NO_RUNS: gather(a, in, out, tap, g, stride); return;
    case CN_RUNS_OUT: read_runs(a, at_out, a->at_in + in, ahead, g, stride); return;
    case CN_PAIRS_OUT: read_pairs(a, at_out, a->at_in + in, ahead, g, stride); return;
    case CN_RUNS_IN: read_runs(a, at_in, a->at_out + out, ahead, transposed, GROUP); break;
    case CN_PAIRS_IN: read_pairs(a, at_in, a->at_out + out, ahead, transposed, GROUP); break;
    }
    transpose(transposed, GROUP, GROUP, GROUP, 1, g, stride);
}

/* Sets or adds to whole groups. What is set goes past the caches, where that can be: it is larger
 * than they are. */
static inline void put(float *to, const float *x, int64_t n, bool add)
{
    for (int64_t i = 0; i < n; i += LANES)
        if (add)
            store(to + i, load(to + i) + load(x + i));
        else
            store_away(to + i, load(x + i));
}

/* g [in][out] of one tap, one by one. */
static inline void scatter(const cn_conv_args *a, int64_t in, int64_t out, int tap, const float *g,
                           int64_t stride, bool add)
{
    for (int64_t i = 0; i < CN_MIN(GROUP, a->I - in); i++)
        for (int64_t o = 0; o < CN_MIN(GROUP, a->O - out); o++) {
            float *to = a->dw + a->at_in[in + i] + a->at_out[out + o] + a->at_tap[tap];
            *to = g[i * stride + o] + (add ? *to : 0);
        }
}

/* g [row][GROUP] in runs, each at `first` plus the row's own place. */
static inline void write_runs(float *first, const int64_t *places, const float *g, int64_t stride,
                              bool add)
{
    for (int i = 0; i < GROUP; i++) put(first + places[i], g + i * stride, GROUP, add);
}

/* The same with elements of two rows in turn. */
static inline void write_pairs(float *first, const int64_t *places, const float *g, int64_t stride,
                               bool add)
{
    for (int i = 0; i < GROUP; i += 2, g += 2 * stride) {
        float both[2 * GROUP];
        for (int l = 0; l < GROUP; l++) {
            both[2 * l] = g[l];
            both[2 * l + 1] = g[stride + l];
        }
        put(first + places[i], both, 2 * GROUP, add);
    }
}

/* Asks for the places that write_weights() will add to; what it only writes needn't be read
 * before. */
static inline void prefetch_weights(const cn_conv_args *a, int64_t in, int64_t out, int tap,
                                    bool add)
{
    const bool runs_out = a->runs == CN_RUNS_OUT || a->runs == CN_PAIRS_OUT;
    if (!add || a->runs == CN_NO_RUNS || in + GROUP > a->I || out + GROUP > a->O) return;
    const float *first = a->dw + a->at_tap[tap] + (runs_out ? a->at_out[out] : a->at_in[in]);
    const int64_t *places = runs_out ? a->at_in + in : a->at_out + out;
    for (int i = 0; i < GROUP; i++) prefetch_line(first + places[i]);
}

/* g [in][out], rows `stride` apart, of one tap, a group of inputs and a group of outputs, to where
 * the gradient's weights stand. */
static inline void write_weights(const cn_conv_args *a, int64_t in, int64_t out, int tap,
                                 const float *g, int64_t stride, bool add)
{
    const bool whole = in + GROUP <= a->I && out + GROUP <= a->O;
    float *at_in = a->dw + a->at_in[in] + a->at_tap[tap];
    float *at_out = a->dw + a->at_out[out] + a->at_tap[tap];
    float transposed[GROUP * GROUP];
    switch (whole ? a->runs : CN_NO_RUNS) {
    case CN_NO_RUNS: scatter(a, in, out, tap, g, stride, add); return;
    case CN_RUNS_OUT: write_runs(at_out, a->at_in + in, g, stride, add); return;
    case CN_PAIRS_OUT: write_pairs(at_out, a->at_in + in, g, stride, add); return;
    default: transpose(g, stride, GROUP, GROUP, 1, transposed, GROUP);
    }
    if (a->runs == CN_RUNS_IN)
        write_runs(at_in, a->at_out + out, transposed, GROUP, add);
    else
        write_pairs(at_in, a->at_out + out, transposed, GROUP, add);
}

/* The same of g [out][in] where runs are of inputs. */
static inline void write_transposed(const cn_conv_args *a, int64_t in, int64_t out, int tap,
                                    const float *g, int64_t stride, bool add)
{
    float *at_in = a->dw + a->at_in[in] + a->at_tap[tap];
    float transposed[GROUP * GROUP];
    if (in + GROUP > a->I || out + GROUP > a->O) {
        transpose(g, stride, GROUP, GROUP, 1, transposed, GROUP);
        scatter(a, in, out, tap, transposed, GROUP, add);
    } else if (a->runs == CN_RUNS_IN) {
        write_runs(at_in, a->at_out + out, g, stride, add);
    } else {
        write_pairs(at_in, a->at_out + out, g, stride, add);
    }
}

#endif
