/* SPDX-License-Identifier: Apache-2.0 */
/* train_memory.c - what a run takes, known before anything is loaded, and how it is made to fit a
 * limit.
 *
 * Networks are declared and planned, which reserves addresses only. Everything that a stage then
 * has in memory at once is added up; the process itself is measured. Under --max-memory as few
 * blocks as possible give up their values for the backward pass to compute again; where all of them
 * don't suffice, the same plan is made with other options, so that the error can say which would
 * fit.
 */
#include "train/trainer.h"

#include "base/memory.h"

#include <limits.h>
#include <string.h>

/* A run's networks under some options. */
typedef struct networks {
    cn_params *unet, *control;
    cn_sizes sizes;
    cn_train_plan plan;
} networks;

static void networks_close(networks *n)
{
    cn_sizes_destroy(&n->sizes);
    cn_params_destroy(n->control);
    cn_params_destroy(n->unet);
    *n = (networks){0};
}

/* --- the parts -------------------------------------------------------------------------------- */

static cn_dtype compute_type(const cn_train_options *o)
{
    return o->mixed_precision && strcmp(o->mixed_precision, "bf16") == 0 ? CN_BF16 : CN_F32;
}

cn_adamw_options cn_trainer_adamw_options(const cn_trainer *t, const cn_train_options *o)
{
    return (cn_adamw_options){
        .beta1 = (float)o->adam_beta1,
        .beta2 = (float)o->adam_beta2,
        .eps = (float)o->adam_epsilon,
        .weight_decay = (float)o->adam_weight_decay,
        .use_8bit = o->use_8bit_adam,
        .slow_network = o->unlock_learning_rate > 0 ? cn_net_kind_of(CN_NET_UNET)->name : NULL,
        .slow_part = o->unlock_learning_rate / o->learning_rate,
        .ema_decay = o->use_ema ? (float)o->ema_decay : 0,
        .ranks = t->ranks,
        .accumulates = o->gradient_accumulation_steps > 1};
}

static cn_status make_sets(cn_trainer *t, const cn_train_options *o, networks *n)
{
    const cn_dtype compute = compute_type(o);
    cn_unlock whole_run;
    CN_TRY(cn_unlock_find(t->ctx, o->unlock, &whole_run));
    CN_TRY(cn_base_params_create(t->ctx, t->base, CN_NET_UNET, compute, &n->unet));
    cn_phase_prepare(n->unet, whole_run, t->phase);
    CN_TRY(cn_net_params(t->ctx, CN_NET_CONTROL, &n->control));
    cn_params_set_compute(n->control, compute);
    cn_params_set_trainable(n->control, true);
    n->plan.compute_type = cn_weight_type_word(compute);
    n->plan.base_type = cn_weight_type_word(cn_params_storage(n->unet));
    return CN_OK;
}

static void count_optimizer(const cn_trainer *t, const cn_train_options *o, networks *n)
{
    const cn_adamw_options adamw = cn_trainer_adamw_options(t, o);
    const cn_sizes *z = &n->sizes;
    n->plan.optimizer_bytes = cn_adamw_bytes(z->trained, z->n_trained, &adamw);
    n->plan.trained = 0;
    for (int64_t i = 0; i < z->n_trained; i++) n->plan.trained += cn_param_elements(z->trained[i]);
}

/* --- validation ------------------------------------------------------------------------------- */

/* Held-out pictures have the resolution's size, whatever the step's is. */
cn_stepgraph_options cn_trainer_measure_options(const cn_trainer *t, const cn_stepgraph *step)
{
    cn_stepgraph_options o = step->o;
    o.width = o.height = t->o.resolution;
    o.latent_w = o.latent_h = t->o.resolution / cn_vae_factor(&t->base->vae);
    o.gradients = false;
    o.loss = CN_LOSS_MSE;
    o.weighted = false;
    return o;
}

/* The held-out loss, the drawings, their decoding and their annotating follow one another. */
static cn_status count_validation(cn_trainer *t, const networks *n, size_t *bytes)
{
    const double pictures = (double)t->n_held, drawings = (double)cn_trainer_drawings(t);
    cn_stepgraph_options so = cn_trainer_measure_options(t, n->sizes.steps[0]);
    cn_stepgraph *measure = NULL;
    cn_draw *draw = NULL;
    cn_decode *decode = NULL;
    cn_params *vae = NULL;
    cn_plan_info info;
    so.only_mid = false;
    const cn_draw_spec spec = cn_trainer_draw_spec(t, n->unet, n->control);
    cn_status s = cn_stepgraph_create(t->ctx, t->be, &t->base->unet, &t->config, n->unet,
                                      n->control, &so, &measure);
    if (s != CN_OK) return s;
    cn_plan_info_get(measure->plan, &info);
    *bytes = info.arena_bytes;
    t->validation_flops = pictures * CN_TRAIN_BANDS / (double)so.batch * info.flops;
    cn_stepgraph_destroy(measure);
    s = cn_draw_create(t->ctx, t->be, &spec, &draw);
    if (s == CN_OK) {
        cn_draw_info(draw, &info);
        t->validation_flops += drawings * (double)t->o.validation_sampling_steps * info.flops;
        *bytes = CN_MAX(*bytes, info.arena_bytes);
    }
    cn_draw_destroy(draw);
    if (s == CN_OK) s = cn_trainer_decode_create(t, &vae, &decode);
    if (s == CN_OK) {
        cn_decode_info(decode, &info);
        t->validation_flops += drawings * info.flops;
        *bytes = CN_MAX(*bytes, info.arena_bytes + cn_params_bytes(vae));
    }
    cn_decode_destroy(decode);
    cn_params_destroy(vae);
    *bytes = CN_MAX(*bytes, t->comparison.cost.bytes);
    t->validation_flops += pictures * t->comparison.cost.flops;
    return s;
}

/* --- a plan ----------------------------------------------------------------------------------- */

/* Adds a data set's cache, if there is one. */
static cn_status count_cache(cn_trainer *t, const cn_dataset *d, const cn_cache_options *o,
                             cn_cache_memory *sum)
{
    cn_cache_memory one;
    if (!d) return CN_OK;
    CN_TRY(cn_cache_plan(t->ctx, t->be, t->base, d, o, &one));
    sum->kept_bytes += one.kept_bytes;
    sum->encoder_bytes = CN_MAX(sum->encoder_bytes, one.encoder_bytes);
    return CN_OK;
}

static cn_status count_data(cn_trainer *t, cn_cache_memory *out)
{
    const cn_cache_options cached = cn_trainer_cache_options(t);
    const cn_cache_options held = cn_trainer_held_cache_options(t);
    const cn_cache_options given = cn_trainer_prompts_cache_options(t);
    CN_TRY(count_cache(t, cn_trainer_cached_data(t), &cached, out));
    CN_TRY(count_cache(t, t->held_data, &held, out));
    return count_cache(t, t->own.data, &given, out);
}

/* Plans a phase's steps and adds up what the run then has in memory beside the process. */
static cn_status count_phase(cn_trainer *t, const cn_train_options *o, cn_phase phase,
                             int recomputed, networks *n)
{
    cn_plan_info info;
    cn_train_plan *p = &n->plan;
    cn_sizes *z = &n->sizes;
    cn_sizes_destroy(z);
    CN_TRY(cn_sizes_create(t, o, phase, recomputed, n->unet, n->control, z));
    count_optimizer(t, o, n);
    cn_plan_info_get(z->steps[0]->plan, &info);
    p->blocks = z->steps[0]->segments;
    p->recomputed_blocks = CN_MIN(recomputed, p->blocks);
    p->gflop_per_pass = 0;
    for (int k = 0; k < z->n; k++)
        p->gflop_per_pass += cn_sizes_share(t, k) * cn_sizes_flops(z, k) / 1e9;
    p->base_bytes = cn_params_bytes(n->unet);
    p->control_bytes = cn_params_bytes(n->control);
    p->encoder_bytes = (t->vae ? cn_params_bytes(t->vae) : 0) + cn_text_params_bytes(t->text);
    p->gradient_bytes = info.gradient_bytes;
    if (t->ranks) /* gradients on their way */
        p->optimizer_bytes += CN_MIN(info.gradient_bytes, (size_t)CN_RANKS_FLIGHT_BYTES);
    p->activation_bytes = z->arena_bytes - info.gradient_bytes;
    p->training_bytes = p->data_bytes + p->base_bytes + p->control_bytes + p->encoder_bytes +
                        p->optimizer_bytes + z->arena_bytes;
    return CN_OK;
}

/* The same for every phase, from the last to the one to begin with, whose steps stay; the plan is
 * that of the phase that takes most. */
static cn_status count_phases(cn_trainer *t, const cn_train_options *o, int recomputed, networks *n)
{
    cn_phase_start list[CN_MAX_PHASES];
    cn_train_plan most = n->plan;
    const int count = cn_phase_list(o, t->state.step, t->total_steps, list);
    for (int i = count - 1; i >= 0; i--) {
        CN_TRY(count_phase(t, o, list[i].phase, recomputed, n));
        if (n->plan.training_bytes > most.training_bytes) most = n->plan;
    }
    if (!cn_phase_same(t->phase, list[0].phase)) /* a checkpoint from the step before a border */
        CN_TRY(count_phase(t, o, t->phase, recomputed, n));
    n->plan = most;
    return CN_OK;
}

/* Plans the run under these options with this many blocks computed again. n is empty. */
static cn_status make_plan(cn_trainer *t, const cn_train_options *o, int recomputed,
                           const cn_cache_memory *data, networks *n)
{
    cn_train_plan *p = &n->plan;
    size_t validation = 0;
    CN_TRY(make_sets(t, o, n));
    p->data_bytes = data->kept_bytes + cn_trainer_loader_bytes(t, o);
    const bool validates = o->validation_steps && t->n_held;
    if (validates) /* condition, target, with, without */
        p->data_bytes += (size_t)(cn_trainer_drawings(t) * o->resolution * o->resolution) * 4 * 3;
    CN_TRY(count_phases(t, o, recomputed, n));
    if (validates) CN_TRY(count_validation(t, n, &validation));
    p->process_bytes = cn_process_bytes(); /* graphs and plans counted in */
    p->encoding_bytes = p->process_bytes + data->kept_bytes + data->encoder_bytes;
    p->training_bytes += p->process_bytes;
    const size_t step = p->gradient_bytes + p->activation_bytes;
    p->validation_bytes = validates ? p->training_bytes - step + validation : 0;
    p->peak_bytes = CN_MAX(p->training_bytes, CN_MAX(p->encoding_bytes, p->validation_bytes));
    return CN_OK;
}

/* The same, replacing what n held. */
static cn_status make_plan_again(cn_trainer *t, const cn_train_options *o, int recomputed,
                                 const cn_cache_memory *data, networks *n)
{
    networks_close(n);
    return make_plan(t, o, recomputed, data, n);
}

/* --- a plan that fits ------------------------------------------------------------------------- */

/* What else a user could ask for, cheapest in quality and time first. */
static const struct offer {
    const char *text;
    bool adam8, bf16, one, blind;
} offers[] = {
    {"--use-8bit-adam", true, false, false, false},
    {"--mixed-precision bf16", false, true, false, false},
    {"--use-8bit-adam --mixed-precision bf16", true, true, false, false},
    {"--train-batch-size 1", false, false, true, false},
    {"--use-8bit-adam --train-batch-size 1", true, false, true, false},
    {"--use-8bit-adam --mixed-precision bf16 --train-batch-size 1", true, true, true, false},
    {"--validation-steps 0", false, false, false, true},
    {"--use-8bit-adam --mixed-precision bf16 --train-batch-size 1 --validation-steps 0", true, true,
     true, true},
};

/* The options with the offer taken; false where it changes nothing or can't be had. */
static bool take(const cn_trainer *t, const struct offer *f, cn_train_options *o)
{
    *o = t->o;
    const bool has_bf16 = compute_type(o) == CN_BF16;
    if ((f->adam8 && o->use_8bit_adam) || (f->bf16 && has_bf16) ||
        (f->one && o->train_batch_size == 1) || (f->blind && !o->validation_steps))
        return false;
    if (f->bf16 && !t->be->computes(t->be, CN_BF16)) return false;
    if (f->adam8) o->use_8bit_adam = true;
    if (f->bf16) o->mixed_precision = "bf16";
    if (f->one) o->train_batch_size = 1;
    if (f->blind) o->validation_steps = 0;
    return true;
}

/* Nothing fits as asked: says what would. */
static cn_status refuse(cn_trainer *t, const cn_cache_memory *data, const cn_train_plan *least)
{
    const size_t limit = t->o.max_memory_bytes;
    cn_offers fits = {0};
    cn_status s = CN_OK;
    for (size_t i = 0; i < CN_COUNT(offers) && !cn_offers_enough(&fits) && s == CN_OK; i++) {
        cn_train_options o;
        networks n = {0};
        if (!take(t, &offers[i], &o)) continue;
        s = make_plan(t, &o, INT_MAX, data, &n);
        if (s == CN_OK && n.plan.peak_bytes <= limit)
            cn_offers_add(&fits, offers[i].text, n.plan.peak_bytes);
        networks_close(&n);
    }
    const char *stage = least->peak_bytes == least->training_bytes   ? "training"
                        : least->peak_bytes == least->encoding_bytes ? "encoding the data set"
                                                                     : "validation";
    if (s == CN_OK && fits.n)
        s = cn_fail(t->ctx, CN_ENOMEM,
                    "--max-memory allows %.2f GiB; %s takes %.2f GiB even with every block "
                    "computed again in the backward pass. This would fit: %s",
                    cn_gib(limit), stage, cn_gib(least->peak_bytes),
                    fits.text.data ? fits.text.data : "");
    else if (s == CN_OK)
        s = cn_fail(t->ctx, CN_ENOMEM,
                    "--max-memory allows %.2f GiB; %s takes %.2f GiB even with every block "
                    "computed again in the backward pass, and no other option suffices; a smaller "
                    "--resolution than %lld takes less",
                    cn_gib(limit), stage, cn_gib(least->peak_bytes), (long long)t->o.resolution);
    cn_offers_free(&fits);
    return s;
}

/* As few blocks computed again as fit; n holds the plan with all of them. */
static cn_status search(cn_trainer *t, const cn_cache_memory *data, networks *n)
{
    int least = 1, most = n->plan.blocks, made = most;
    while (least < most) {
        made = least + (most - least) / 2;
        CN_TRY(make_plan_again(t, &t->o, made, data, n));
        if (n->plan.peak_bytes <= t->o.max_memory_bytes)
            most = made;
        else
            least = made + 1;
    }
    return made == least ? CN_OK : make_plan_again(t, &t->o, least, data, n);
}

static cn_status choose(cn_trainer *t, networks *n)
{
    const size_t limit = t->o.max_memory_bytes;
    const bool all = t->o.gradient_checkpointing;
    cn_cache_memory data = {0};
    CN_TRY(count_data(t, &data));
    CN_TRY(make_plan(t, &t->o, all ? INT_MAX : 0, &data, n));
    if (!limit || n->plan.peak_bytes <= limit) return CN_OK;
    if (!all) CN_TRY(make_plan_again(t, &t->o, INT_MAX, &data, n));
    if (n->plan.peak_bytes > limit) return refuse(t, &data, &n->plan);
    return all ? CN_OK : search(t, &data, n);
}

cn_status cn_trainer_plan(cn_trainer *t)
{
    networks n = {0};
    if (compute_type(&t->o) == CN_BF16 && !t->be->computes(t->be, CN_BF16))
        return cn_fail(t->ctx, CN_EINVAL,
                       "--mixed-precision bf16: this processor has no bfloat16 products (AVX-512 "
                       "BF16 or AMX); leave it out");
    if (!t->o.cache_latents) CN_TRY(cn_encoder_params(t->ctx, t->base, CN_NET_VAE, &t->vae));
    if (!t->o.cache_text) CN_TRY(cn_text_params_create(t->ctx, t->base, t->text));
    cn_status s = choose(t, &n);
    if (s != CN_OK) {
        networks_close(&n);
        return s;
    }
    t->unet = n.unet;
    t->control = n.control;
    t->sizes = n.sizes;
    t->step = t->sizes.steps[0];
    t->plan = n.plan;
    return CN_OK;
}
