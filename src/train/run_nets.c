/* SPDX-License-Identifier: Apache-2.0 */
/* run_nets.c - see run_nets.h: weights, the optimizer, and from one phase of a run to the next. */
#include "train/run_nets.h"

#include <limits.h>
#include <string.h>

void cn_run_nets_close(cn_run_nets *n)
{
    cn_adamw_destroy(n->adamw);
    cn_free(n->order.list);
    cn_sizes_destroy(&n->sizes);
    cn_params_destroy(n->vae);
    cn_text_params_destroy(n->text);
    cn_params_destroy(n->control);
    cn_params_destroy(n->unet);
}

/* --- weights ---------------------------------------------------------------------------------- */

/* With the middle's link alone the decoder's links must be silent for whoever uses the result. */
static cn_status silence_links(cn_ctx *ctx, cn_backend *be, cn_params *control)
{
    for (int64_t i = 0; i < cn_params_count(control); i++) {
        cn_param *q = cn_params_at(control, i);
        if (strncmp(q->diffusers_name, "controlnet_down_blocks.", 23) != 0) continue;
        float *zeros = cn_alloc0(ctx, (size_t)cn_param_elements(q) * sizeof(float));
        if (!zeros) return CN_ENOMEM;
        const cn_status s = cn_param_set(be, ctx, q, zeros);
        cn_free(zeros);
        if (s != CN_OK) return s;
    }
    return CN_OK;
}

cn_status cn_run_nets_load(const cn_run_setup *r, cn_run_nets *n)
{
    CN_TRY(cn_base_load(r->ctx, r->base, r->be, n->unet));
    if (n->vae) CN_TRY(cn_base_load(r->ctx, r->base, r->be, n->vae));
    CN_TRY(cn_text_params_load(r->ctx, r->base, r->be, n->text));
    CN_TRY(cn_trained_init(r->ctx, &r->net, r->base, r->be, n->control, r->o.seed));
    return r->o.only_mid_control ? silence_links(r->ctx, r->be, n->control) : CN_OK;
}

/* --- the optimizer ---------------------------------------------------------------------------- */

cn_adamw_options cn_run_adamw_options(const cn_run_setup *r)
{
    const cn_train_options *o = &r->o;
    return (cn_adamw_options){
        .beta1 = (float)o->adam_beta1,
        .beta2 = (float)o->adam_beta2,
        .eps = (float)o->adam_epsilon,
        .weight_decay = (float)o->adam_weight_decay,
        .use_8bit = o->use_8bit_adam,
        .muon = r->muon,
        .muon_momentum = CN_MUON_MOMENTUM,
        .slow_network = o->unlock_learning_rate > 0 ? cn_net_kind_of(CN_NET_UNET)->name : NULL,
        .slow_part = o->unlock_learning_rate / o->learning_rate,
        .ema_decay = o->use_ema ? (float)o->ema_decay : 0,
        .ranks = r->ranks,
        .accumulates = o->gradient_accumulation_steps > 1};
}

cn_status cn_run_nets_create_optimizer(const cn_run_setup *r, cn_adamw *before, cn_run_nets *n)
{
    const cn_adamw_options o = cn_run_adamw_options(r);
    const cn_sizes *z = &n->sizes;
    CN_TRY(cn_adamw_continue(r->ctx, r->be, z->trained, z->n_trained, &o, before, &n->adamw));
    return cn_run_nets_use_size(r, 0, n);
}

cn_status cn_run_nets_switch_phase(const cn_run_setup *r, const cn_buckets *buckets, cn_phase phase,
                                   cn_run_nets *n)
{
    cn_adamw *before = n->adamw;
    cn_sizes_destroy(&n->sizes); /* before its successor reserves addresses */
    n->step = NULL;
    n->grads = NULL;
    n->adamw = NULL;
    n->phase = phase;
    const int recomputed = r->o.gradient_checkpointing ? INT_MAX : n->plan.recomputed_blocks;
    cn_status s = cn_run_nets_make_sizes(r, buckets, recomputed, n);
    if (s == CN_OK) s = cn_run_nets_create_optimizer(r, before, n);
    cn_adamw_destroy(before);
    return s;
}
