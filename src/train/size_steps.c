/* SPDX-License-Identifier: Apache-2.0 */
/* size_steps.c - a step for every size that pictures have, all computing in one arena.
 *
 * Every size is planned before the run begins, so its memory is known and a pass of another size
 * costs nothing but another list of steps. Where pictures or texts are encoded in their step the
 * encoders share the arena too: their values are gone before the step begins.
 */
#include "train/trainer.h"

#include <string.h>

void cn_sizes_destroy(cn_sizes *z)
{
    for (int k = 0; k < z->n; k++) {
        if (z->steps) cn_stepgraph_destroy(z->steps[k]);
        if (z->encoders) cn_encoder_close(&z->encoders[k]);
        if (z->grads) cn_free(z->grads[k]);
    }
    cn_encoder_close(&z->text);
    cn_free(z->steps);
    cn_free(z->encoders);
    cn_free(z->grads);
    cn_free(z->trained);
    *z = (cn_sizes){0};
}

static cn_status make_step(cn_trainer *t, const cn_train_options *o, cn_phase phase, int recomputed,
                           cn_params *unet, cn_params *control, const cn_train_bucket *size,
                           cn_stepgraph **out)
{
    const int64_t factor = cn_vae_factor(&t->base->vae);
    const cn_stepgraph_options so = {.batch = o->train_batch_size,
                                     .width = size->width,
                                     .height = size->height,
                                     .latent_w = size->width / factor,
                                     .latent_h = size->height / factor,
                                     .tokens = cn_base_context_length(t->base),
                                     .control = true,
                                     .only_mid = phase.only_mid,
                                     .gradients = true,
                                     .loss = t->objective.loss,
                                     .weighted = cn_objective_weighs(&t->objective),
                                     .checkpointed = recomputed};
    return cn_stepgraph_create(t->ctx, t->be, &t->base->unet, &t->config, unet, control, &so, out);
}

/* The largest plan lends its arena to the others. */
static cn_status share_arena(cn_sizes *z)
{
    cn_plan *plans[2 * CN_MAX_BUCKETS + 1], *largest = NULL;
    cn_plan_info info;
    int n = 0;
    for (int k = 0; k < z->n; k++) {
        plans[n++] = z->steps[k]->plan;
        if (z->encoders) plans[n++] = z->encoders[k].plan;
    }
    if (z->text.plan) plans[n++] = z->text.plan;
    for (int k = 0; k < n; k++) {
        cn_plan_info_get(plans[k], &info);
        if (largest && info.arena_bytes <= z->arena_bytes) continue;
        z->arena_bytes = info.arena_bytes;
        largest = plans[k];
    }
    for (int k = 0; k < n; k++) CN_TRY(cn_plan_borrow(plans[k], largest));
    return CN_OK;
}

/* The list of what is trained is the same for every size; where its gradients lie isn't. */
static cn_status find_gradients(cn_trainer *t, const cn_params *unet, const cn_params *control,
                                cn_sizes *z)
{
    for (int k = 0; k < z->n; k++) {
        cn_free(z->trained);
        z->trained = NULL;
        CN_TRY(cn_stepgraph_trained(t->ctx, z->steps[k], control, unet, &z->trained, &z->grads[k],
                                    &z->n_trained));
    }
    return CN_OK;
}

static cn_status create(cn_trainer *t, const cn_train_options *o, cn_phase phase, int recomputed,
                        cn_params *unet, cn_params *control, cn_sizes *z)
{
    const cn_train_bucket *list = t->buckets->list;
    z->n = t->buckets->n;
    z->steps = cn_alloc0(t->ctx, (size_t)z->n * sizeof(cn_stepgraph *));
    z->grads = cn_alloc0(t->ctx, (size_t)z->n * sizeof *z->grads);
    if (t->vae) z->encoders = cn_alloc0(t->ctx, (size_t)z->n * sizeof *z->encoders);
    if (!z->steps || !z->grads || (t->vae && !z->encoders)) return CN_ENOMEM;
    cn_params_set_trainable(unet, phase.unlock != CN_UNLOCK_NONE);
    for (int k = 0; k < z->n; k++) {
        CN_TRY(make_step(t, o, phase, recomputed, unet, control, &list[k], &z->steps[k]));
        if (!t->vae) continue;
        CN_TRY(cn_encoder_vae(t->ctx, t->be, t->base, t->vae, o->train_batch_size, list[k].width,
                              list[k].height, &z->encoders[k]));
    }
    if (t->text[0])
        CN_TRY(cn_encoder_text(t->ctx, t->be, t->base, t->text,
                               CN_MIN(o->train_batch_size, CN_ENCODE_MAX_PROMPTS), &z->text));
    CN_TRY(share_arena(z));
    return find_gradients(t, unet, control, z);
}

cn_status cn_sizes_create(cn_trainer *t, const cn_train_options *o, cn_phase phase, int recomputed,
                          cn_params *unet, cn_params *control, cn_sizes *out)
{
    cn_sizes z = {0};
    const cn_status s = create(t, o, phase, recomputed, unet, control, &z);
    if (s == CN_OK)
        *out = z;
    else
        cn_sizes_destroy(&z);
    return s;
}

bool cn_trainer_encodes(const cn_trainer *t)
{
    return t->vae || t->text[0];
}

double cn_sizes_share(const cn_trainer *t, int bucket)
{
    const int64_t unit = t->buckets->rules.enabled ? cn_trainer_unit(t) : 1;
    const int64_t samples = (t->buckets->list[bucket].count + unit - 1) / unit * unit;
    return (double)samples / (double)cn_buckets_epoch(t->buckets, unit);
}

/* For a pass of `batch` samples. */
static double encoder_flops(const cn_encoder *e, int64_t batch)
{
    cn_plan_info info;
    const int64_t times = (batch + e->batch - 1) / e->batch;
    cn_plan_info_get(e->plan, &info);
    return (double)times * info.flops;
}

double cn_sizes_flops(const cn_sizes *z, int bucket)
{
    cn_plan_info info;
    const int64_t batch = z->steps[bucket]->o.batch;
    cn_plan_info_get(z->steps[bucket]->plan, &info);
    double flops = info.flops;
    if (z->encoders) flops += encoder_flops(&z->encoders[bucket], batch);
    if (z->text.plan) flops += encoder_flops(&z->text, batch);
    return flops;
}

cn_status cn_trainer_use_size(cn_trainer *t, int bucket)
{
    cn_stepgraph *step = t->sizes.steps[bucket];
    if (t->step == step && t->grads == t->sizes.grads[bucket]) return CN_OK;
    t->step = step;
    t->grads = t->sizes.grads[bucket];
    cn_plan_touch(step->plan);
    return cn_trainer_follow(t, t->sizes.trained, t->sizes.n_trained);
}

/* n pictures to the encoder's input; the places of missing ones repeat the first. */
static void put_pictures(cn_encoder *e, const uint8_t *rgb, int64_t n)
{
    const int64_t each = cn_node_elements(e->in) / e->batch;
    float *x = cn_plan_data(e->plan, e->in);
    for (int64_t i = 0; i < e->batch; i++) {
        const uint8_t *from = rgb + (i < n ? i : 0) * each;
        for (int64_t k = 0; k < each; k++) x[i * each + k] = (float)from[k] / 127.5f - 1.0f;
    }
}

static cn_status encode_pictures(cn_trainer *t, cn_pass *p)
{
    cn_encoder *e = &t->sizes.encoders[p->bucket];
    const int64_t pixels = cn_node_elements(e->in) / e->batch;
    const int64_t each = cn_node_elements(e->out) / e->batch;
    for (int64_t at = 0; at < p->batch; at += e->batch) {
        const int64_t n = CN_MIN(e->batch, p->batch - at);
        put_pictures(e, p->picture + at * pixels, n);
        CN_TRY(cn_plan_run(e->plan));
        const float *moments = cn_plan_data(e->plan, e->out);
        for (int64_t i = 0; i < n; i++) cn_batcher_mix(t->mixer, p, at + i, moments + i * each);
    }
    return CN_OK;
}

static cn_status encode_texts(cn_trainer *t, cn_pass *p)
{
    cn_encoder *e = &t->sizes.text;
    const int64_t each = cn_node_elements(e->out) / e->batch;
    for (int64_t at = 0; at < p->batch; at += e->batch) {
        const int64_t n = CN_MIN(e->batch, p->batch - at);
        for (int64_t i = 0; i < e->batch; i++)
            cn_encoder_put_ids(e, i, p->ids + (at + (i < n ? i : 0)) * t->prompter->ids);
        CN_TRY(cn_plan_run(e->plan));
        memcpy(p->context + at * each, cn_plan_data(e->plan, e->out),
               (size_t)(n * each) * sizeof(float));
    }
    return CN_OK;
}

cn_status cn_trainer_encode_pass(cn_trainer *t, cn_pass *p)
{
    if (!cn_trainer_encodes(t)) return CN_OK;
    if (p->picture) CN_TRY(encode_pictures(t, p));
    if (p->ids) CN_TRY(encode_texts(t, p));
    cn_plan_touch(t->step->plan); /* whose arena this was */
    return CN_OK;
}
