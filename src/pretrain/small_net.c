/* SPDX-License-Identifier: Apache-2.0 */
/* small_net.c - see small_net.h. */
#include "pretrain/small_net.h"

#include "pretrain/learner.h"

enum { PX = CN_SMALL_NET_PX, GROUPS = 8 };
static const float NOISE = 0.04f; /* deviation in [-1,1] */

cn_node *cn_small_net_block(cn_graph *g, const char *name, cn_node *x, int64_t O, int stride)
{
    cn_scope_push(g, name);
    x = cn_conv2d(g, "conv", x, O, 3, stride, 1);
    x = cn_group_norm(g, "norm", x, GROUPS, 1e-5f, CN_ACT_SILU);
    cn_scope_pop(g);
    return x;
}

void cn_small_net_see(const uint8_t *rgb, int64_t px, float *out)
{
    const int64_t f = px / PX;
    for (int64_t y = 0; y < PX; y++)
        for (int64_t x = 0; x < PX * 3; x++) {
            int64_t sum = 0;
            for (int64_t j = 0; j < f; j++)
                for (int64_t i = 0; i < f; i++)
                    sum += rgb[((y * f + j) * px + x / 3 * f + i) * 3 + x % 3];
            out[y * PX * 3 + x] = (float)sum / (float)(f * f) / 127.5f - 1;
        }
}

void cn_small_net_see_noisy(const uint8_t *rgb, int64_t n, cn_rng *rng, float *noise, float *out)
{
    const int64_t values = n * PX * PX * 3;
    cn_rng_normal(rng, noise, values);
    for (int64_t i = 0; i < values; i++) out[i] = (float)rgb[i] / 127.5f - 1 + NOISE * noise[i];
}

cn_status cn_small_net_learn(cn_ctx *ctx, cn_backend *be, const cn_small_net_training *t)
{
    const cn_learner_options o = {.lr = 2e-3,
                                  .weight_decay = 1e-2,
                                  .beta2 = 0.99f,
                                  .max_grad_norm = 1,
                                  .steps = t->o->steps,
                                  .warmup_steps = CN_MIN(100, t->o->steps / 10),
                                  .decay_part = 1,
                                  .passes = 1};
    cn_params *const sets[] = {t->params};
    cn_learner *l = NULL;
    cn_rng rng;
    CN_TRY(cn_learner_create(ctx, be, t->g, t->plan, sets, 1, &o, &l));
    cn_status s = CN_OK;
    while (s == CN_OK && l->step < t->o->steps) {
        if (cn_cancelled(ctx)) {
            s = cn_fail(ctx, CN_ECANCELLED, "interrupted");
            break;
        }
        cn_rng_seed(&rng, t->o->seed * 9000011u + (uint64_t)l->step);
        s = t->fill(t->fill_user, &rng, l->step);
        if (s == CN_OK) s = cn_plan_run(t->plan);
        if (s == CN_OK) s = cn_learner_step(l, NULL);
        if (s == CN_OK && t->o->progress) t->o->progress(t->o->user, l->step, t->o->steps);
    }
    cn_learner_destroy(l);
    return s;
}
