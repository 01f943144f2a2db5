/* SPDX-License-Identifier: Apache-2.0 */
/* bench_optimizer.c - bytes a second of the optimizer's passes, beside those of copying memory.
 *
 * Counted are the bytes that a pass must read and write: AdamW 28 a weight (weight, both moments,
 * gradient), with moments in bytes 16, the norm 4, the copy 8. */
#include "bench.h"

#include <stdlib.h>
#include <string.h>

enum { ELEMENTS = 1 << 26, CHUNK = 1 << 20 };

typedef struct pass {
    const char *name;
    double bytes;
    cn_status (*run)(void *user);
} pass;

typedef struct optimizer_work {
    cn_backend *be;
    cn_ctx *ctx;
    cn_adamw_step full, bytes;
    double norm;
} optimizer_work;

static cn_status copy(void *user)
{
    const cn_adamw_step *s = &((optimizer_work *)user)->full;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < s->n; i += CHUNK)
        memcpy(s->m.f32 + i, s->grad + i, CHUNK * sizeof(float));
    return CN_OK;
}

static cn_status step_full(void *user)
{
    optimizer_work *w = user;
    return w->be->adamw(w->be, w->ctx, &w->full);
}

static cn_status step_bytes(void *user)
{
    optimizer_work *w = user;
    return w->be->adamw(w->be, w->ctx, &w->bytes);
}

static cn_status norm(void *user)
{
    optimizer_work *w = user;
    return w->be->sum_squares(w->be, w->ctx, &(cn_floats){w->full.grad, w->full.n}, 1, &w->norm);
}

static cn_status measure(bench *b, optimizer_work *w)
{
    const pass passes[] = {{"copy", 8, copy},
                           {"adamw", 28, step_full},
                           {"adamw 8-bit", 16, step_bytes},
                           {"norm", 4, norm}};
    for (size_t i = 0; i < CN_COUNT(passes); i++) {
        double best = 0;
        for (int k = -1; k < b->runs; k++) {
            const double begun = cn_now_s();
            CN_TRY(passes[i].run(w));
            const double took = cn_now_s() - begun;
            if (k == 0 || took < best) best = took;
        }
        printf("{\"work\": \"optimizer\", \"pass\": \"%s\", \"elements\": %d, \"threads\": %d, "
               "\"seconds_min\": %.4f, \"gbytes_per_s\": %.1f}\n",
               passes[i].name, ELEMENTS, cn_threads(b->ctx), best,
               passes[i].bytes * ELEMENTS / best / 1e9);
        fflush(stdout);
    }
    return CN_OK;
}

cn_status bench_optimizer(bench *b)
{
    const size_t n = ELEMENTS, blocks = n / CN_QUANT8_BLOCK;
    cn_quant8 maps[2];
    float *w = cn_alloc_array(b->ctx, n, sizeof *w), *g = cn_alloc_array(b->ctx, n, sizeof *g);
    float *m = cn_alloc0(b->ctx, n * sizeof *m), *v = cn_alloc0(b->ctx, n * sizeof *v);
    uint8_t *codes = cn_alloc0(b->ctx, 2 * n);
    float *scales = cn_alloc0(b->ctx, 2 * blocks * sizeof *scales);
    cn_status s = w && g && m && v && codes && scales ? CN_OK : CN_ENOMEM;
    if (s == CN_OK) {
        cn_quant8_init(&maps[0], true);
        cn_quant8_init(&maps[1], false);
        cn_seed_tensor("weights", 0, 1, w, (int64_t)n);
        cn_seed_tensor("gradients", 0, 1e-3f, g, (int64_t)n);
        memset(codes, maps[0].zero, n);
        optimizer_work o = {.be = b->backend,
                            .ctx = b->ctx,
                            .full = {.weights = w,
                                     .grad = g,
                                     .m = {.f32 = m},
                                     .v = {.f32 = v},
                                     .n = (int64_t)n,
                                     .grad_scale = 1,
                                     .lr = 1e-5f,
                                     .beta1 = 0.9f,
                                     .beta2 = 0.999f,
                                     .eps = 1e-8f,
                                     .decay = 1e-2f,
                                     .correct1 = 0.1f,
                                     .correct2 = 1e-3f}};
        o.bytes = o.full;
        o.bytes.m = (cn_moment){.codes = codes, .scales = scales, .map = &maps[0]};
        o.bytes.v = (cn_moment){.codes = codes + n, .scales = scales + blocks, .map = &maps[1]};
        s = measure(b, &o);
    }
    cn_free(w);
    cn_free(g);
    cn_free(m);
    cn_free(v);
    cn_free(codes);
    cn_free(scales);
    return s;
}
