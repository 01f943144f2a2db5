/* SPDX-License-Identifier: Apache-2.0 */
/* bench_train.c - a training step: forward, backward, AdamW; of a ControlNet beside a locked UNet,
 * or of the UNet itself. */
#include "bench.h"

#include "model/checkpoint/weights.h"
#include "train/optimizer.h"
#include "train/stepgraph.h"

#include <limits.h>
#include <string.h>

typedef struct train_work {
    cn_ctx *ctx;
    cn_backend *be;
    cn_params *unet, *control;
    cn_stepgraph *step;
    cn_adamw *adamw;
    const float **grads;
    bool tune; /* the UNet itself */
} train_work;

/* The optimizer over every parameter with a gradient. */
static cn_status optimizer(train_work *b, bool use_8bit)
{
    cn_adamw_options o;
    cn_param **list = NULL;
    int64_t n = 0;
    cn_adamw_options_default(&o);
    o.use_8bit = use_8bit;
    cn_status s = cn_stepgraph_trained(b->ctx, b->step, b->control, b->unet, &list, &b->grads, &n);
    if (s == CN_OK) s = cn_adamw_create(b->ctx, b->be, list, n, &o, &b->adamw);
    cn_free(list);
    return s;
}

static cn_status fill_input(train_work *b, const cn_node *x, const char *key, float offset,
                            float scale)
{
    float *to = cn_plan_data(b->step->plan, x);
    if (to) cn_seed_tensor(key, offset, scale, to, cn_node_elements(x));
    return CN_OK;
}

static cn_status set_up(train_work *b, const bench *o)
{
    CN_TRY(cn_net_params(b->ctx, CN_NET_UNET, &b->unet));
    CN_TRY(cn_net_params(b->ctx, CN_NET_CONTROL, &b->control));
    cn_params_set_trainable(b->tune ? b->unet : b->control, true);
    bench_types(o, b->unet);
    bench_types(o, b->control);
    const cn_stepgraph_options s = {.batch = o->batch,
                                    .width = o->px,
                                    .height = o->px,
                                    .latent_w = o->px / 8,
                                    .latent_h = o->px / 8,
                                    .tokens = 77,
                                    .control = !b->tune,
                                    .only_mid = o->only_mid,
                                    .gradients = true,
                                    .checkpointed = o->checkpointing ? INT_MAX : 0};
    const cn_draw_control control = {
        .kind = &cn_control_kind_net, .config = &o->control, .params = b->control};
    CN_TRY(cn_stepgraph_create(b->ctx, b->be, &o->base.unet, b->unet, &control, &s, &b->step));
    CN_TRY(cn_params_init(b->ctx, b->be, b->unet, 1));
    if (!b->tune) CN_TRY(cn_control_init_from_unet(b->ctx, b->be, b->unet, b->control, 1));
    CN_TRY(optimizer(b, o->use_8bit_adam));
    CN_TRY(fill_input(b, b->step->x, "noisy", 0, 1));
    CN_TRY(fill_input(b, b->step->t, "t", 500, 0));
    CN_TRY(fill_input(b, b->step->context, "context", 0, 1));
    if (b->step->added) CN_TRY(fill_input(b, b->step->added, "added", 0, 1));
    if (b->step->condition) CN_TRY(fill_input(b, b->step->condition, "condition", 0.5f, 0.5f));
    return fill_input(b, b->step->target, "target", 0, 1);
}

static cn_status train_step(void *user)
{
    train_work *b = user;
    CN_TRY(cn_plan_run(b->step->plan));
    CN_TRY(cn_adamw_run(b->adamw, b->grads, 1e-5, 1, NULL));
    return b->be->finish(b->be, b->ctx);
}

static cn_status measure(bench *b, const char *work, bool tune)
{
    train_work w = {.ctx = b->ctx, .be = b->backend, .tune = tune};
    bench_times times;
    cn_plan_info info;
    cn_status s = set_up(&w, b);
    if (s == CN_OK) s = bench_measure(b, train_step, &w, &times);
    if (s == CN_OK) {
        cn_plan_info_get(w.step->plan, &info);
        bench_report(b, work, &times, &info);
    }
    cn_adamw_destroy(w.adamw);
    cn_stepgraph_destroy(w.step);
    cn_params_destroy(w.unet);
    cn_params_destroy(w.control);
    cn_free(w.grads);
    return s;
}

cn_status bench_train(bench *b)
{
    return measure(b, "train", false);
}

cn_status bench_finetune(bench *b)
{
    return measure(b, "finetune", true);
}
