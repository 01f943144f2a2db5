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
#include "train/held_out.h"

#include "base/memory.h"

#include <limits.h>
#include <string.h>

/* Gives up what a plan was made of, but what isn't trained. */
static void drop_plan(cn_run_nets *n)
{
    cn_sizes_destroy(&n->sizes);
    cn_params_destroy(n->control);
    cn_params_destroy(n->unet);
    n->control = n->unet = NULL;
    n->plan = (cn_train_plan){0};
    n->validation_flops = 0;
}

/* --- where it lies ---------------------------------------------------------------------------- */

/* What computes has memory of its own: weights, optimizer and activations are there, data sets and
 * the program are the host's. */
static bool is_apart(const cn_run_setup *r)
{
    return !r->be->addressable;
}

static cn_backend_memory device_memory(const cn_run_setup *r)
{
    cn_backend_memory m;
    r->be->memory(r->be, &m);
    return m;
}

/* The memory that is limited, 0: none is; and what a plan takes of it. */
static size_t limit_of(const cn_run_setup *r)
{
    const size_t asked = r->o.max_memory_bytes;
    if (!is_apart(r)) return asked;
    const cn_backend_memory m = device_memory(r);
    const size_t may = m.free + m.taken;
    return asked ? CN_MIN(asked, may) : may;
}

static size_t limited_bytes(const cn_run_setup *r, const cn_train_plan *p)
{
    return is_apart(r) ? p->device_bytes : p->peak_bytes;
}

/* --- the parts -------------------------------------------------------------------------------- */

static cn_dtype compute_type(const cn_train_options *o)
{
    return o->mixed_precision && strcmp(o->mixed_precision, "bf16") == 0 ? CN_BF16 : CN_F32;
}

static bool is_auto(const char *weight_type)
{
    return !weight_type || !strcmp(weight_type, "auto");
}

static cn_status create_unet(const cn_run_setup *r, cn_dtype compute, cn_params **out)
{
    cn_dtype storage;
    if (is_auto(r->o.weight_type))
        return cn_base_params_create(r->ctx, r->base, CN_NET_UNET, compute, out);
    if (!cn_storage_type_find(r->o.weight_type, &storage))
        return cn_fail(r->ctx, CN_EINTERNAL, "no weights are kept as %s", r->o.weight_type);
    return cn_base_params_create_as(r->ctx, r->base, CN_NET_UNET, compute, storage, out);
}

static cn_status make_sets(const cn_run_setup *r, cn_run_nets *n)
{
    const cn_dtype compute = compute_type(&r->o);
    cn_unlock whole_run;
    CN_TRY(cn_unlock_find(r->ctx, r->o.unlock, &whole_run));
    CN_TRY(create_unet(r, compute, &n->unet));
    cn_phase_prepare(n->unet, whole_run, n->phase);
    if (r->net.kind->low_rank) /* which layers have a weight to be changed */
        CN_TRY(cn_net_declare_into(r->ctx, CN_NET_UNET, &r->base->unet, n->unet));
    CN_TRY(cn_trained_params(r->ctx, &r->net, n->unet, compute, &n->low, &n->control));
    n->plan.compute_type = cn_weight_type_word(r->halves ? CN_F16 : compute);
    n->plan.base_type = cn_weight_type_word(cn_params_storage(n->unet));
    return CN_OK;
}

static void count_optimizer(const cn_run_setup *r, cn_run_nets *n)
{
    const cn_adamw_options adamw = cn_run_adamw_options(r);
    const cn_sizes *z = &n->sizes;
    n->plan.optimizer_bytes = cn_adamw_bytes(z->trained, z->n_trained, &adamw);
    n->plan.trained = 0;
    for (int64_t i = 0; i < z->n_trained; i++) n->plan.trained += cn_param_elements(z->trained[i]);
}

/* --- validation ------------------------------------------------------------------------------- */

/* The held-out loss, the drawings, their decoding and their annotating follow one another. */
static cn_status count_validation(const cn_run_setup *r, const cn_run_data *d, cn_run_nets *n,
                                  size_t *bytes)
{
    const double pictures = (double)d->n_held, drawings = (double)cn_run_data_drawings(d);
    cn_stepgraph_options so = cn_held_out_measure_options(r, n->sizes.steps[0]);
    cn_stepgraph *measure = NULL;
    cn_draw *draw = NULL;
    cn_decode *decode = NULL;
    cn_params *vae = NULL;
    cn_plan_info info;
    so.only_mid = false;
    const cn_draw_spec spec = cn_held_out_draw_spec(r, n->unet, n->control);
    const cn_draw_control control = cn_trained_control(&r->net, n->control);
    cn_status s =
        cn_stepgraph_create(r->ctx, r->be, &r->base->unet, n->unet, &control, &so, &measure);
    if (s != CN_OK) return s;
    cn_plan_info_get(measure->plan, &info);
    *bytes = info.arena_bytes;
    n->validation_flops = pictures * CN_TRAIN_BANDS / (double)so.batch * info.flops;
    cn_stepgraph_destroy(measure);
    s = cn_draw_create(r->ctx, r->be, &spec, &draw);
    if (s == CN_OK) {
        cn_draw_info(draw, &info);
        n->validation_flops += drawings * (double)r->o.validation_sampling_steps * info.flops;
        *bytes = CN_MAX(*bytes, info.arena_bytes);
    }
    cn_draw_destroy(draw);
    if (s == CN_OK) s = cn_held_out_decode_create(r, &vae, &decode);
    if (s == CN_OK) {
        cn_decode_info(decode, &info);
        n->validation_flops += drawings * info.flops;
        *bytes = CN_MAX(*bytes, info.arena_bytes + cn_params_bytes(vae));
    }
    cn_decode_destroy(decode);
    cn_params_destroy(vae);
    *bytes = CN_MAX(*bytes, r->comparison.cost.bytes);
    n->validation_flops += pictures * r->comparison.cost.flops;
    return s;
}

/* --- a plan ----------------------------------------------------------------------------------- */

/* Adds a data set's cache, if there is one. */
static cn_status count_cache(const cn_run_setup *r, const cn_dataset *d, const cn_cache_options *o,
                             cn_cache_memory *sum)
{
    cn_cache_memory one;
    if (!d) return CN_OK;
    CN_TRY(cn_cache_plan(r->ctx, r->be, r->base, d, o, &one));
    sum->kept_bytes += one.kept_bytes;
    sum->encoder_bytes = CN_MAX(sum->encoder_bytes, one.encoder_bytes);
    return CN_OK;
}

static cn_status count_data(const cn_run_setup *r, const cn_run_data *d, cn_cache_memory *out)
{
    const cn_cache_options cached = cn_run_data_cache_options(r, d);
    const cn_cache_options held = cn_run_data_held_cache_options(r, d);
    const cn_cache_options given = cn_run_data_prompts_cache_options(r, d);
    CN_TRY(count_cache(r, &d->train_view, &cached, out));
    CN_TRY(count_cache(r, d->held_data, &held, out));
    return count_cache(r, d->own.data, &given, out);
}

/* Plans the phase's steps and adds up what the run then has in memory beside the process. */
static cn_status count_phase(const cn_run_setup *r, const cn_buckets *buckets, cn_phase phase,
                             int recomputed, cn_run_nets *n)
{
    cn_plan_info info;
    cn_train_plan *p = &n->plan;
    cn_sizes *z = &n->sizes;
    cn_sizes_destroy(z);
    n->phase = phase;
    CN_TRY(cn_run_nets_make_sizes(r, buckets, recomputed, n));
    count_optimizer(r, n);
    cn_plan_info_get(z->steps[0]->plan, &info);
    p->blocks = z->steps[0]->segments;
    p->recomputed_blocks = CN_MIN(recomputed, p->blocks);
    p->gflop_per_pass = 0;
    for (int k = 0; k < z->n; k++)
        p->gflop_per_pass +=
            cn_sizes_share(buckets, cn_run_pass_samples(r), k) * cn_sizes_flops(z, k) / 1e9;
    p->base_bytes = cn_params_bytes(n->unet);
    p->control_bytes = cn_params_bytes(n->control);
    p->encoder_bytes = (n->vae ? cn_params_bytes(n->vae) : 0) + cn_text_params_bytes(n->text);
    p->gradient_bytes = info.gradient_bytes;
    if (r->ranks && !is_apart(r)) /* gradients on their way */
        p->optimizer_bytes += CN_MIN(info.gradient_bytes, (size_t)CN_RANKS_FLIGHT_BYTES);
    p->activation_bytes = z->arena_bytes - info.gradient_bytes;
    const size_t computed =
        p->base_bytes + p->control_bytes + p->encoder_bytes + p->optimizer_bytes + z->arena_bytes;
    p->training_bytes = p->data_bytes;
    if (!is_apart(r)) {
        p->training_bytes += computed;
    } else {
        p->device_training_bytes = device_memory(r).own + computed;
        if (r->ranks) p->training_bytes += info.gradient_bytes + CN_RANKS_FLIGHT_BYTES;
    }
    return CN_OK;
}

/* The same for every phase, from the last to the one to begin with, whose steps stay; the plan is
 * that of the phase that takes most. */
static cn_status count_phases(const cn_run_setup *r, const cn_buckets *buckets, int64_t first_step,
                              int recomputed, cn_run_nets *n)
{
    cn_phase_start list[CN_MAX_PHASES];
    cn_train_plan most = n->plan;
    const cn_phase first = n->phase;
    const int count = cn_phase_list(&r->o, first_step, r->total_steps, list);
    for (int i = count - 1; i >= 0; i--) {
        CN_TRY(count_phase(r, buckets, list[i].phase, recomputed, n));
        if (n->plan.training_bytes > most.training_bytes ||
            n->plan.device_training_bytes > most.device_training_bytes)
            most = n->plan;
    }
    if (!cn_phase_same(first, list[0].phase)) /* a checkpoint from the step before a border */
        CN_TRY(count_phase(r, buckets, first, recomputed, n));
    n->plan = most;
    return CN_OK;
}

/* What is counted, whatever the options that are tried. */
typedef struct counted {
    const cn_run_data *data;
    cn_cache_memory cache;
    int64_t first_step;
} counted;

/* Plans the run with this many blocks computed again, in the place of a plan that was made
 * before. */
static cn_status make_plan(const cn_run_setup *r, const counted *c, int recomputed, cn_run_nets *n)
{
    const cn_train_options *o = &r->o;
    cn_train_plan *p = &n->plan;
    size_t validation = 0;
    drop_plan(n);
    CN_TRY(make_sets(r, n));
    p->data_bytes = c->cache.kept_bytes + cn_run_data_loader_bytes(r, c->data);
    const bool validates = o->validation_steps && c->data->n_held;
    if (validates) /* condition, target, with, without */
        p->data_bytes +=
            (size_t)(cn_run_data_drawings(c->data) * o->resolution * o->resolution) * 4 * 3;
    CN_TRY(count_phases(r, c->data->buckets, c->first_step, recomputed, n));
    if (validates) CN_TRY(count_validation(r, c->data, n, &validation));
    p->process_bytes = cn_process_bytes(); /* graphs and plans counted in */
    p->encoding_bytes = p->process_bytes + c->cache.kept_bytes;
    p->training_bytes += p->process_bytes;
    p->validation_bytes = validates ? p->training_bytes : 0;
    const size_t step = p->gradient_bytes + p->activation_bytes;
    if (!is_apart(r)) {
        p->encoding_bytes += c->cache.encoder_bytes;
        if (validates) p->validation_bytes += validation - step;
    } else {
        p->device_encoding_bytes = device_memory(r).own + c->cache.encoder_bytes;
        if (validates) p->device_validation_bytes = p->device_training_bytes - step + validation;
        p->device_bytes = CN_MAX(p->device_training_bytes,
                                 CN_MAX(p->device_encoding_bytes, p->device_validation_bytes));
    }
    p->peak_bytes = CN_MAX(p->training_bytes, CN_MAX(p->encoding_bytes, p->validation_bytes));
    return CN_OK;
}

/* --- a plan that fits ------------------------------------------------------------------------- */

/* What else a user could ask for, cheapest in quality and time first. */
static const struct offer {
    const char *text;
    bool adam8, bf16, one, blind, q8;
} offers[] = {
    {"--use-8bit-adam", .adam8 = true},
    {"--mixed-precision bf16", .bf16 = true},
    {"--use-8bit-adam --mixed-precision bf16", .adam8 = true, .bf16 = true},
    {"--train-batch-size 1", .one = true},
    {"--use-8bit-adam --train-batch-size 1", .adam8 = true, .one = true},
    {"--use-8bit-adam --mixed-precision bf16 --train-batch-size 1", .adam8 = true, .bf16 = true,
     .one = true},
    {"--weight-type q8", .q8 = true},
    {"--use-8bit-adam --weight-type q8 --train-batch-size 1", .adam8 = true, .one = true,
     .q8 = true},
    {"--validation-steps 0", .blind = true},
    {"--use-8bit-adam --mixed-precision bf16 --train-batch-size 1 --validation-steps 0",
     .adam8 = true, .bf16 = true, .one = true, .blind = true},
    {"--use-8bit-adam --mixed-precision bf16 --weight-type q8 --train-batch-size 1 "
     "--validation-steps 0",
     .adam8 = true, .bf16 = true, .one = true, .blind = true, .q8 = true},
};

/* Changes the options to the offer's; false where that changes nothing or can't be had. */
static bool take(const struct offer *f, cn_backend *be, cn_train_options *o)
{
    const bool has_bf16 = compute_type(o) == CN_BF16;
    if ((f->adam8 && o->use_8bit_adam) || (f->bf16 && has_bf16) ||
        (f->one && o->train_batch_size == 1) || (f->blind && !o->validation_steps) ||
        (f->q8 && !is_auto(o->weight_type)))
        return false;
    if (f->bf16 && !be->computes(be, CN_BF16)) return false;
    if (f->adam8) o->use_8bit_adam = true;
    if (f->bf16) o->mixed_precision = "bf16";
    if (f->one) o->train_batch_size = 1;
    if (f->blind) o->validation_steps = 0;
    if (f->q8) o->weight_type = "q8";
    return true;
}

/* Lists the offers that fit; n is used to plan them. */
static cn_status try_offers(const cn_run_setup *r, const counted *c, cn_run_nets *n,
                            cn_offers *fits)
{
    for (size_t i = 0; i < CN_COUNT(offers) && !cn_offers_enough(fits); i++) {
        cn_run_setup other = *r;
        if ((r->muon && offers[i].adam8) || !take(&offers[i], r->be, &other.o)) continue;
        CN_TRY(make_plan(&other, c, INT_MAX, n));
        const size_t bytes = limited_bytes(r, &n->plan);
        if (bytes <= limit_of(r)) cn_offers_add(fits, offers[i].text, bytes);
    }
    return CN_OK;
}

/* "--max-memory allows 4.00 GiB" */
static void describe_limit(const cn_run_setup *r, char out[64])
{
    const size_t limit = limit_of(r);
    const bool asked = limit == r->o.max_memory_bytes;
    snprintf(out, 64, "%s %.2f GiB%s", asked ? "--max-memory allows" : "the device has",
             cn_gib(limit), asked ? "" : " free");
}

/* Nothing fits as asked, n's plan being the least: says what would. */
static cn_status refuse(const cn_run_setup *r, const counted *c, cn_run_nets *n)
{
    const cn_train_plan least = n->plan;
    const bool apart = is_apart(r);
    const size_t most = limited_bytes(r, &least);
    const size_t training = apart ? least.device_training_bytes : least.training_bytes;
    const size_t encoding = apart ? least.device_encoding_bytes : least.encoding_bytes;
    cn_offers fits = {0};
    char limit[64];
    describe_limit(r, limit);
    cn_status s = try_offers(r, c, n, &fits);
    const char *stage = most == training   ? "training"
                        : most == encoding ? "encoding the data set"
                                           : "validation";
    if (s == CN_OK && fits.n)
        s = cn_fail(r->ctx, CN_ENOMEM,
                    "%s; %s takes %.2f GiB even with every block computed again in the backward "
                    "pass. This would fit: %s",
                    limit, stage, cn_gib(most), fits.text.data ? fits.text.data : "");
    else if (s == CN_OK)
        s = cn_fail(r->ctx, CN_ENOMEM,
                    "%s; %s takes %.2f GiB even with every block computed again in the backward "
                    "pass, and no other option suffices; a smaller --resolution than %lld takes "
                    "less",
                    limit, stage, cn_gib(most), (long long)r->o.resolution);
    cn_offers_free(&fits);
    return s;
}

/* As few blocks computed again as fit; n holds the plan with all of them. */
static cn_status search(const cn_run_setup *r, const counted *c, cn_run_nets *n)
{
    int least = 1, most = n->plan.blocks, made = most;
    while (least < most) {
        made = least + (most - least) / 2;
        CN_TRY(make_plan(r, c, made, n));
        if (limited_bytes(r, &n->plan) <= limit_of(r))
            most = made;
        else
            least = made + 1;
    }
    return made == least ? CN_OK : make_plan(r, c, least, n);
}

cn_status cn_run_nets_plan(const cn_run_setup *r, const cn_run_data *d, int64_t first_step,
                           cn_run_nets *n)
{
    const size_t limit = limit_of(r);
    const bool all = r->o.gradient_checkpointing;
    counted c = {.data = d, .first_step = first_step};
    if (compute_type(&r->o) == CN_BF16 && !r->be->computes(r->be, CN_BF16))
        return cn_fail(r->ctx, CN_EINVAL, "--mixed-precision bf16: %s; leave it out",
                       r->be->addressable ? "this processor has no bfloat16 products (AVX-512 BF16 "
                                            "or AMX)"
                                          : "a device has fp16");
    if (!r->o.cache_latents) CN_TRY(cn_encoder_params(r->ctx, r->base, CN_NET_VAE, &n->vae));
    if (!r->o.cache_text) CN_TRY(cn_text_params_create(r->ctx, r->base, n->text));
    CN_TRY(count_data(r, d, &c.cache));
    CN_TRY(make_plan(r, &c, all ? INT_MAX : 0, n));
    if (limit && limited_bytes(r, &n->plan) > limit) {
        if (!all) CN_TRY(make_plan(r, &c, INT_MAX, n));
        if (limited_bytes(r, &n->plan) > limit) return refuse(r, &c, n);
        if (!all) CN_TRY(search(r, &c, n));
    }
    n->step = n->sizes.steps[0];
    return CN_OK;
}
