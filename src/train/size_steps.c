/* SPDX-License-Identifier: Apache-2.0 */
/* size_steps.c - a step for every size that pictures have, all computing in one arena.
 *
 * Every size is planned before the run begins, so its memory is known and a pass of another size
 * costs nothing but another list of steps. Where pictures or texts are encoded in their step the
 * encoders share the arena too: their values are gone before the step begins.
 */
#include "train/run_nets.h"

#include "diffuse/sampling.h"

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

static cn_status make_step(const cn_run_setup *r, const cn_run_nets *n, const cn_train_bucket *size,
                           int recomputed, cn_stepgraph **out)
{
    const int64_t factor = cn_vae_factor(&r->base->vae);
    const cn_stepgraph_options so = {.batch = r->o.train_batch_size,
                                     .width = size->width,
                                     .height = size->height,
                                     .latent_w = size->width / factor,
                                     .latent_h = size->height / factor,
                                     .tokens = cn_base_context_length(r->base),
                                     .control = true,
                                     .only_mid = n->phase.only_mid,
                                     .gradients = true,
                                     .scaled = r->halves,
                                     .loss = r->objective.loss,
                                     .weighted = cn_objective_weighs(&r->objective),
                                     .checkpointed = recomputed};
    const cn_draw_control control = cn_trained_control(&r->net, n->control);
    return cn_stepgraph_create(r->ctx, r->be, &r->base->unet, n->unet, &control, &so, out);
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
static cn_status find_gradients(cn_ctx *ctx, cn_run_nets *n)
{
    cn_sizes *z = &n->sizes;
    for (int k = 0; k < z->n; k++) {
        cn_free(z->trained);
        z->trained = NULL;
        CN_TRY(cn_stepgraph_trained(ctx, z->steps[k], n->control, n->unet, &z->trained,
                                    &z->grads[k], &z->n_trained));
    }
    return CN_OK;
}

static cn_status make_sizes(const cn_run_setup *r, const cn_buckets *buckets, int recomputed,
                            cn_run_nets *n)
{
    const int64_t batch = r->o.train_batch_size;
    cn_sizes *z = &n->sizes;
    z->n = buckets->n;
    z->steps = cn_alloc0(r->ctx, (size_t)z->n * sizeof(cn_stepgraph *));
    z->grads = cn_alloc0(r->ctx, (size_t)z->n * sizeof *z->grads);
    if (n->vae) z->encoders = cn_alloc0(r->ctx, (size_t)z->n * sizeof *z->encoders);
    if (!z->steps || !z->grads || (n->vae && !z->encoders)) return CN_ENOMEM;
    cn_params_set_trainable(n->unet, n->phase.unlock != CN_UNLOCK_NONE);
    for (int k = 0; k < z->n; k++) {
        const cn_train_bucket *size = &buckets->list[k];
        CN_TRY(make_step(r, n, size, recomputed, &z->steps[k]));
        if (!n->vae) continue;
        CN_TRY(cn_encoder_vae(r->ctx, r->be, r->base, n->vae, batch, size->width, size->height,
                              &z->encoders[k]));
    }
    if (n->text[0])
        CN_TRY(cn_encoder_text(r->ctx, r->be, r->base, n->text,
                               CN_MIN(batch, CN_ENCODE_MAX_PROMPTS), &z->text));
    CN_TRY(share_arena(z));
    return find_gradients(r->ctx, n);
}

cn_status cn_run_nets_make_sizes(const cn_run_setup *r, const cn_buckets *buckets, int recomputed,
                                 cn_run_nets *n)
{
    const cn_status s = make_sizes(r, buckets, recomputed, n);
    if (s != CN_OK) cn_sizes_destroy(&n->sizes);
    return s;
}

double cn_sizes_share(const cn_buckets *b, int64_t pass_samples, int bucket)
{
    const int64_t unit = b->rules.enabled ? pass_samples : 1;
    const int64_t samples = (b->list[bucket].count + unit - 1) / unit * unit;
    return (double)samples / (double)cn_buckets_epoch(b, unit);
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

cn_status cn_run_nets_use_size(const cn_run_setup *r, int bucket, cn_run_nets *n)
{
    cn_stepgraph *step = n->sizes.steps[bucket];
    if (n->step == step && n->grads == n->sizes.grads[bucket]) return CN_OK;
    n->step = step;
    n->grads = n->sizes.grads[bucket];
    cn_plan_touch(step->plan);
    return cn_run_nets_follow(r, n);
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

static cn_status encode_pictures(cn_encoder *e, cn_batcher *mixer, cn_pass *p)
{
    const int64_t pixels = cn_node_elements(e->in) / e->batch;
    const int64_t each = cn_node_elements(e->out) / e->batch;
    for (int64_t at = 0; at < p->batch; at += e->batch) {
        const int64_t n = CN_MIN(e->batch, p->batch - at);
        put_pictures(e, p->picture + at * pixels, n);
        CN_TRY(cn_plan_run(e->plan));
        CN_TRY(cn_plan_expect_finite(e->plan, e->out));
        const float *moments = cn_plan_data(e->plan, e->out);
        for (int64_t i = 0; i < n; i++) cn_batcher_mix(mixer, p, at + i, moments + i * each);
    }
    return CN_OK;
}

static cn_status encode_texts(cn_encoder *e, int64_t ids, cn_pass *p)
{
    const int64_t each = cn_node_elements(e->out) / e->batch;
    for (int64_t at = 0; at < p->batch; at += e->batch) {
        const int64_t n = CN_MIN(e->batch, p->batch - at);
        for (int64_t i = 0; i < e->batch; i++)
            cn_encoder_put_ids(e, i, p->ids + (at + (i < n ? i : 0)) * ids);
        CN_TRY(cn_plan_run(e->plan));
        CN_TRY(cn_plan_expect_finite(e->plan, e->out));
        memcpy(p->context + at * each, cn_plan_data(e->plan, e->out),
               (size_t)(n * each) * sizeof(float));
    }
    return CN_OK;
}

cn_status cn_run_nets_encode_pass(const cn_run_data *d, cn_run_nets *n, cn_pass *p)
{
    if (!p->picture && !p->ids) return CN_OK;
    if (p->picture) CN_TRY(encode_pictures(&n->sizes.encoders[p->bucket], d->mixer, p));
    if (p->ids) CN_TRY(encode_texts(&n->sizes.text, d->prompter->ids, p));
    cn_plan_touch(n->step->plan); /* whose arena this was */
    return CN_OK;
}
