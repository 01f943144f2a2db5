/* SPDX-License-Identifier: Apache-2.0 */
/* weight_prefetch.h - weights of a convolution that are prefetched a few lines at a time while a
 * product before them goes: they come as fast as memory gives them, and nothing waits. */
#ifndef CN_CPU_KERNELS_CONV_WEIGHT_PREFETCH_H
#define CN_CPU_KERNELS_CONV_WEIGHT_PREFETCH_H

#include "cpu/kernels/vectors.h"

enum { PREFETCH_GROUPS = 256, PREFETCH_DEPTH = 8 };

/* Groups of rows of memory, `rows` each, of which row i is at first + places[i * step] elements of
 * `bytes`; a row lies in one line, or two. `each` rows are prefetched with every PREFETCH_DEPTH of
 * a product, from `row` of `group` on. */
typedef struct cn_prefetch {
    int groups, rows, step, group, row, each;
    int64_t bytes;
    bool two_lines;
    struct {
        const char *first;
        const int64_t *places;
    } of[PREFETCH_GROUPS];
} cn_prefetch;

static inline __attribute__((always_inline)) void prefetch_next(cn_prefetch *s)
{
    for (int i = 0; i < s->each && s->group < s->groups; i++) {
        const int64_t place = s->of[s->group].places[s->row * s->step];
        const char *at = s->of[s->group].first + place * s->bytes;
        __builtin_prefetch(at, 0, 2);
        if (s->two_lines) __builtin_prefetch(at + 64, 0, 2);
        if (++s->row < s->rows) continue;
        s->row = 0;
        s->group++;
    }
}

/* All of it with so many calls. */
static inline void prefetch_evenly(cn_prefetch *s, int64_t calls)
{
    s->each = (int)((s->groups * s->rows + calls - 1) / calls);
    s->group = s->row = 0;
}

/* Whether a group of weights stands in runs, the place of the first, and those of its rows. */
typedef struct runs_at {
    bool whole, in_pairs;
    const char *first;
    const int64_t *places;
} runs_at;

static inline runs_at find_runs(const cn_conv_args *a, int64_t in, int64_t out, int tap)
{
    const bool of_inputs = a->runs == CN_RUNS_IN || a->runs == CN_PAIRS_IN;
    const bool whole = in + GROUP <= a->I && out + GROUP <= a->O && a->runs != CN_NO_RUNS;
    const int64_t at = a->at_tap[tap] + (of_inputs ? a->at_in[in] : a->at_out[out]);
    return (runs_at){
        .whole = whole,
        .in_pairs = a->runs == CN_PAIRS_IN || a->runs == CN_PAIRS_OUT,
        .first = (const char *)a->weights + at * (int64_t)cn_dtype_bytes(a->weight_type),
        .places = of_inputs ? a->at_out + out : a->at_in + in};
}

/* Nothing yet of a block of weights that will be taken. */
static inline void prefetch_none(const cn_conv_args *a, cn_prefetch *s)
{
    const int64_t each = (int64_t)cn_dtype_bytes(a->weight_type);
    const bool pairs = a->runs == CN_PAIRS_IN || a->runs == CN_PAIRS_OUT;
    const runs_at r = find_runs(a, 0, 0, 0);
    const bool beside = !pairs && each == 2 && r.places[1] == r.places[0] + GROUP;
    s->groups = 0;
    s->step = pairs || beside ? 2 : 1;
    s->rows = GROUP / s->step;
    s->bytes = each;
    s->two_lines = pairs && each == 4;
}

/* One more group. */
static inline void prefetch_group(const cn_conv_args *a, int64_t in, int64_t out, int tap,
                                  cn_prefetch *s)
{
    const runs_at r = find_runs(a, in, out, tap);
    if (!r.whole || s->groups == PREFETCH_GROUPS) return;
    s->of[s->groups].first = r.first;
    s->of[s->groups++].places = r.places;
}

#endif
