/* bench.h - what the works of the benchmark share. */
#ifndef BENCH_H
#define BENCH_H

#include "graph/plan.h"
#include "model/config.h"

typedef struct bench {
    cn_ctx *ctx;
    cn_backend *backend;
    cn_unet_config unet;
    cn_controlnet_config control;
    cn_vae_config vae;
    int64_t size_px, batch;
    int repeat;
    bool no_control, no_guidance, small;
} bench;

/* Gives every parameter of p seeded values of the right magnitude, whatever its layout. */
cn_status bench_fill(bench *b, cn_params *p);

/* Seconds of `repeat` runs after a first one. */
typedef struct bench_times {
    double first_s, best_s, mean_s;
} bench_times;
cn_status bench_measure(bench *b, cn_status (*run)(void *user), void *user, bench_times *out);
/* One line: name, sizes, seconds, GFLOP/s, memory. */
void bench_report(const bench *b, const char *name, const bench_times *t, const cn_plan_info *info);

#endif
