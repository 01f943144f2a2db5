/* SPDX-License-Identifier: Apache-2.0 */
/* golden_train.c - see golden_train.h.
 *
 * Each gradient and weight is known by its sum, its norm and its product with the seeded tensor
 * "probe.NAME". Tolerances: losses 1e-4, gradient norms (one tensor's and all) and weight norms
 * 1e-3 of the expected; sums and products 1e-3 of norm * sqrt(elements), their largest possible
 * value. A gradient under 1e-7 of the whole norm is zero but for rounding (a bias before a norm
 * with one channel per group): it must stay that small here too, and as AdamW makes full steps of
 * rounding, those weights are only held to the distance that such steps can reach.
 */
#include "golden_sdxl.h"
#include "golden_train.h"
#include "values.h"

#include "diffuse/schedule.h"
#include "model/checkpoint/config_io.h"
#include "model/nets/nets.h"
#include "model/checkpoint/weights.h"
#include "diffuse/objective.h"
#include "train/optimizer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double LOSS_TOLERANCE = 1e-4, NORM_TOLERANCE = 1e-3, ROUNDING = 1e-7;
/* |step| / lr of AdamW within its first steps */
static const double LARGEST_STEP = 3;

typedef struct digest {
    double sum, norm, probe;
} digest;

typedef struct learner {
    cn_param *q;
    char key[CN_NAME_MAX + 8]; /* "unet:" before the UNet's */
    int64_t n;
    float *w, *g, *probe; /* published layout */
    bool rounding;        /* its gradient is rounding only */
} learner;

typedef struct trainer {
    fixture *f;
    const char *mode;
    json_t *want;
    json_t *manifest[2];
    cn_params *control, *unet;
    cn_graph *g;
    cn_plan *plan;
    cn_node *x, *t, *context, *added, *condition, *target, *per, *loss;
    cn_tensors *text; /* the context, "last_hidden_state"; of SDXL all inputs, "context" */
    bool sdxl;
    int64_t number_dim;
    cn_schedule *schedule;
    cn_objective objective;
    cn_adamw *optimizer;
    learner *list;
    int64_t n;
} trainer;

static bool learns_in_decoder(const char *name)
{
    return !strncmp(name, "up_blocks.", 10) || !strncmp(name, "conv_norm_out.", 14) ||
           !strncmp(name, "conv_out.", 9);
}

/* Whether the UNet's parameter is trained too. */
static bool learns_in_base(const trainer *t, const char *name)
{
    return strcmp(cn_json_str(t->want, "unlock", "none"), "all") == 0 ||
           (strcmp(t->mode, "sd_unlocked") == 0 && learns_in_decoder(name));
}

static bool seeded_hint(const char *name)
{
    return !strncmp(name, "controlnet_cond_embedding", 25) && !strstr(name, "conv_out");
}

/* --- the graph -------------------------------------------------------------------------------- */

static const cn_tensor_info *context_of(const trainer *t)
{
    return cn_tensors_find(t->text, t->sdxl ? "context" : "last_hidden_state");
}

/* Of latents [N,h,w,C] and context [N,L,D]. */
typedef struct sizes {
    int64_t N, h, w, tokens, width;
} sizes;

static cn_status shapes(const trainer *t, sizes *out)
{
    const cn_tensor_info *c = context_of(t), *x = cn_tensors_find(t->text, "x");
    const json_t *config = json_object_get(t->manifest[1], "config");
    if (!c || c->ndim != 3)
        return cn_fail(t->f->env.ctx, CN_EMISMATCH, "no last_hidden_state [N,L,C]");
    out->N = (int64_t)json_array_size(json_array_get(json_object_get(t->want, "timesteps"), 0));
    if (!out->N) out->N = c->shape[0]; /* make_fixtures.py's own */
    out->tokens = c->shape[1];
    out->width = c->shape[2];
    if (!t->sdxl || !x || x->ndim != 4) {
        CN_TRY(cn_json_need_int(t->f->env.ctx, config, "sample_size", &out->h));
        out->w = out->h;
        return CN_OK;
    }
    out->h = x->shape[2];
    out->w = x->shape[3];
    return CN_OK;
}

static cn_status build(trainer *t)
{
    cn_ctx *ctx = t->f->env.ctx;
    cn_unet_config uc;
    cn_controlnet_config cc;
    sizes d;
    CN_TRY(shapes(t, &d));
    const int64_t N = d.N;
    CN_TRY(cn_controlnet_config_read(ctx, json_object_get(t->manifest[0], "config"), &cc));
    CN_TRY(cn_unet_config_read(ctx, json_object_get(t->manifest[1], "config"), &uc));
    cn_graph_destroy(t->g);
    t->g = NULL;
    CN_TRY(cn_graph_create(ctx, &t->g));
    int64_t up = 1 << (cc.hint_levels - 1);
    t->x = cn_input4(t->g, "x", N, d.h, d.w, uc.in_channels);
    t->t = cn_input(t->g, "t", CN_F32, 1, &N, false);
    t->context = cn_input(t->g, "ctx", CN_F32, 3, (int64_t[]){N, d.tokens, d.width}, false);
    t->number_dim = uc.added_number_dim;
    if (uc.added_dim)
        t->added = cn_input(t->g, "added", CN_F32, 2, (int64_t[]){N, uc.added_dim}, false);
    t->condition = cn_input4(t->g, "cond", N, d.h * up, d.w * up, cc.condition_channels);
    t->target = cn_input4(t->g, "target", N, d.h, d.w, uc.out_channels);
    t->per = cn_input(t->g, "per", CN_F32, 2, (int64_t[]){N, 2}, false);
    cn_graph_use(t->g, t->control);
    const cn_unet_inputs in = {.x = t->x, .t = t->t, .context = t->context, .added = t->added};
    cn_node *hint = cn_controlnet_hint_build(t->g, &cc, t->condition);
    cn_control_unit unit = {.kind = &cn_control_kind_net,
                            .config = &cc,
                            .params = t->control,
                            .in = in,
                            .hints = &hint,
                            .only_mid = !strcmp(t->mode, "only_mid")};
    cn_node *y = cn_controlled_unet_build(t->g, &uc, t->unet, &in, &unit, 1);
    t->loss = cn_objective_weighs(&t->objective)
                  ? cn_loss_weighted(t->g, t->objective.loss, y, t->target, t->per)
                  : cn_loss_node(t->g, t->objective.loss, y, t->target);
    return cn_graph_status(t->g);
}

/* The first build declares what can be made trainable, the second derives. */
static cn_status derive(trainer *t)
{
    CN_TRY(build(t));
    cn_params_set_trainable(t->control, true);
    for (int64_t i = 0; i < cn_params_count(t->unet); i++) {
        cn_param *q = cn_params_at(t->unet, i);
        q->trainable = learns_in_base(t, q->diffusers_name);
    }
    CN_TRY(build(t));
    CN_TRY(cn_graph_backward(t->g, t->loss));
    return cn_plan_create(t->f->env.ctx, t->g, t->f->env.backend, &t->loss, 1, true, &t->plan);
}

static cn_status fill(trainer *t)
{
    fixture *f = t->f;
    CN_TRY(fixture_fill(f, t->manifest[1], t->unet, NULL));
    if (strcmp(t->mode, "from_unet") != 0) return fixture_fill(f, t->manifest[0], t->control, NULL);
    CN_TRY(cn_control_init_from_unet(f->env.ctx, f->env.backend, t->unet, t->control, 0));
    return fixture_fill(f, t->manifest[0], t->control, seeded_hint);
}

/* --- learners --------------------------------------------------------------------------------- */

static float *floats(int64_t n)
{
    return test_alloc((size_t)n * sizeof(float));
}

static cn_status add_learners(trainer *t, const cn_params *p, const char *prefix)
{
    for (int64_t i = 0; i < cn_params_count(p); i++) {
        cn_param *q = cn_params_at(p, i);
        if (!q->trainable) continue;
        learner *l = &t->list[t->n++];
        l->q = q;
        l->n = cn_param_elements(q);
        snprintf(l->key, sizeof l->key, "%s%s", prefix, q->diffusers_name);
        l->w = floats(l->n);
        l->g = floats(l->n);
        l->probe = floats(l->n);
        char key[2 * CN_NAME_MAX];
        snprintf(key, sizeof key, "probe.%s", l->key);
        cn_seed_tensor(key, 0, 1, l->probe, l->n);
        CN_TRY(cn_param_get(t->f->env.backend, t->f->env.ctx, q, l->w));
    }
    return CN_OK;
}

static digest digest_of(const float *x, const float *probe, int64_t n)
{
    digest d = {0};
    for (int64_t i = 0; i < n; i++) {
        d.sum += (double)x[i];
        d.norm += (double)x[i] * (double)x[i];
        d.probe += (double)x[i] * (double)probe[i];
    }
    d.norm = sqrt(d.norm);
    return d;
}

/* False when the list has no such entry. */
static bool digest_wanted(const json_t *list, const char *key, digest *out)
{
    const json_t *e = json_object_get(list, key);
    if (json_array_size(e) != 3) return false;
    *out =
        (digest){json_number_value(json_array_get(e, 0)), json_number_value(json_array_get(e, 1)),
                 json_number_value(json_array_get(e, 2))};
    return true;
}

/* Largest deviation as a multiple of what is allowed; NaN counts as infinite. */
static double deviation(digest got, digest want, int64_t n, double slack)
{
    double norm = NORM_TOLERANCE * want.norm, root = sqrt((double)n);
    double worst = 0, parts[3] = {fabs(got.norm - want.norm) / (norm + slack),
                                  fabs(got.sum - want.sum) / ((norm + slack) * root),
                                  fabs(got.probe - want.probe) / ((norm + slack) * root)};
    if (want.norm == 0 && slack == 0) return got.norm == 0 ? 0 : INFINITY;
    for (int i = 0; i < 3; i++) worst = isfinite(parts[i]) ? fmax(worst, parts[i]) : INFINITY;
    return worst;
}

/* --- one step --------------------------------------------------------------------------------- */

/* Step k's timesteps; those of make_fixtures.py where the file has none. */
static cn_status get_timesteps(trainer *t, int k, int64_t N, float *out)
{
    static const float own[3][2] = {{10, 500}, {999, 0}, {250, 750}};
    const json_t *given = json_array_get(json_object_get(t->want, "timesteps"), (size_t)k);
    if (!given && (N != 2 || k >= 3))
        return cn_fail(t->f->env.ctx, CN_EMISMATCH,
                       "step %d with a batch of %lld: the script has 3 steps with 2", k,
                       (long long)N);
    for (int64_t i = 0; i < N; i++)
        out[i] = given ? (float)json_integer_value(json_array_get(given, (size_t)i)) : own[k][i];
    return CN_OK;
}

/* The seeded text's rows in turn. */
static cn_status set_context(trainer *t)
{
    const cn_tensor_info *info = context_of(t);
    const int64_t N = t->context->shape[0], each = cn_node_elements(t->context) / N;
    float *rows = floats(info->elements), *context = floats(N * each);
    cn_status s = cn_tensors_read(t->f->env.ctx, t->text, info, rows);
    for (int64_t i = 0; i < N; i++)
        memcpy(context + i * each, rows + i % info->shape[0] * each, (size_t)each * sizeof *rows);
    if (s == CN_OK) s = cn_plan_set(t->plan, t->context, context);
    free(rows);
    free(context);
    return s;
}

/* train.latent.K, train.noise.K and train.cond.K of make_fixtures.py. */
static cn_status set_inputs(trainer *t, int k)
{
    fixture *f = t->f;
    const int64_t n = cn_node_elements(t->x), pixels = cn_node_elements(t->condition);
    const int64_t N = t->x->shape[0], each = n / N;
    float *latent = floats(n), *noise = floats(n), *noisy = floats(n), *cond = floats(pixels);
    float *timesteps = floats(N), *per = floats(2 * N);
    char name[32];
    cn_status s = get_timesteps(t, k, N, timesteps);
    snprintf(name, sizeof name, "train.latent.%d", k);
    fixture_normal(f, name, n, latent);
    snprintf(name, sizeof name, "train.noise.%d", k);
    fixture_normal(f, name, n, noise);
    snprintf(name, sizeof name, "train.cond.%d", k);
    fixture_uniform(f, name, pixels, cond);
    for (int64_t i = 0; i < N && s == CN_OK; i++) {
        const int at = (int)timesteps[i];
        float *x = latent + i * each, *e = noise + i * each;
        cn_schedule_add_noise(t->schedule, at, x, e, noisy + i * each, each);
        if (t->schedule->config.v_prediction) cn_schedule_velocity(t->schedule, at, x, e, e, each);
        cn_objective_weigh(&t->objective, t->schedule, at, per + 2 * i);
    }
    if (s == CN_OK) s = fixture_set_nchw(f, t->plan, t->x, noisy);
    if (s == CN_OK) s = fixture_set_nchw(f, t->plan, t->target, noise);
    if (s == CN_OK) s = fixture_set_nchw(f, t->plan, t->condition, cond);
    if (s == CN_OK) s = cn_plan_set(t->plan, t->t, timesteps);
    if (s == CN_OK) s = cn_plan_set(t->plan, t->per, per);
    if (s == CN_OK) s = set_context(t);
    if (s == CN_OK && t->added)
        s = golden_sdxl_set_added(f, t->plan, t->added, t->text, t->number_dim);
    free(latent);
    free(noise);
    free(noisy);
    free(cond);
    free(timesteps);
    free(per);
    return s;
}

/* Fetches every gradient in the published layout (zeros where there is none); the norm of all. */
static double fetch_gradients(trainer *t)
{
    double sum = 0;
    for (int64_t i = 0; i < t->n; i++) {
        learner *l = &t->list[i];
        float *g = test_gradient_of(&t->f->env, t->plan, t->g, l->q);
        for (int64_t k = 0; k < l->n; k++) {
            l->g[k] = g ? g[k] : 0;
            sum += (double)l->g[k] * (double)l->g[k];
        }
        free(g);
    }
    return sqrt(sum);
}

typedef struct tally {
    int64_t compared, wrong, rounding;
    double worst;
    const char *name;
} tally;

static void tally_add(trainer *t, tally *s, const char *what, int step, const learner *l,
                      digest got, digest want, double deviates)
{
    s->compared++;
    if (deviates > s->worst || !s->name) {
        s->worst = deviates;
        s->name = l->key;
    }
    if (deviates <= 1) return;
    if (s->wrong++ < 8)
        printf("     %s step %d %s of %s: sum %.8g norm %.8g probe %.8g, should be %.8g %.8g "
               "%.8g\n",
               t->mode, step, what, l->key, got.sum, got.norm, got.probe, want.sum, want.norm,
               want.probe);
}

static void tally_end(trainer *t, const tally *s, const char *what, int step, size_t expected)
{
    report_check(&t->f->report, s->compared == (int64_t)expected && !s->wrong,
                 "train_%s step %d %s: %lld of %zu, %lld wrong, %lld rounding only, worst %.2g of "
                 "what is allowed (%s)",
                 t->mode, step, what, (long long)s->compared, expected, (long long)s->wrong,
                 (long long)s->rounding, s->worst, s->name ? s->name : "");
}

static void check_gradients(trainer *t, const json_t *step, int k)
{
    const json_t *list = json_object_get(step, "grads");
    double all = cn_json_number(step, "grad_norm", 0), floor = ROUNDING * all;
    tally s = {0};
    for (int64_t i = 0; i < t->n; i++) {
        learner *l = &t->list[i];
        digest want = {0}, got = digest_of(l->g, l->probe, l->n);
        bool expected = digest_wanted(list, l->key, &want);
        if (!expected && got.norm == 0) continue;
        double d = deviation(got, want, l->n, 0);
        if (expected && want.norm > 0 && want.norm < floor) {
            l->rounding = true;
            s.rounding++;
            d = got.norm / (10 * floor);
        }
        tally_add(t, &s, "gradient", k, l, got, want, expected ? d : INFINITY);
    }
    tally_end(t, &s, "gradients", k, json_object_size(list));
}

static void check_weights(trainer *t, const json_t *step, int k)
{
    const json_t *list = json_object_get(step, "weights_after");
    double reach = LARGEST_STEP * cn_json_number(t->want, "lr", 0) * (k + 1);
    tally s = {0};
    for (int64_t i = 0; i < t->n; i++) {
        const learner *l = &t->list[i];
        digest want = {0}, got = digest_of(l->w, l->probe, l->n);
        bool expected = digest_wanted(list, l->key, &want);
        s.rounding += l->rounding;
        double slack = l->rounding ? reach * sqrt((double)l->n) : 0;
        tally_add(t, &s, "weights", k, l, got, want,
                  expected ? deviation(got, want, l->n, slack) : INFINITY);
    }
    tally_end(t, &s, "weights", k, json_object_size(list));
}

/* One optimizer step on the gradients as they lie; then the weights in the published layout. */
static cn_status update(trainer *t, double *norm)
{
    const float **grads = test_alloc((size_t)t->n * sizeof(float *));
    for (int64_t i = 0; i < t->n; i++) {
        const cn_node *d = cn_param_grad(t->g, t->list[i].q);
        grads[i] = d ? cn_plan_address(t->plan, d) : NULL;
    }
    cn_status s = cn_adamw_run(t->optimizer, grads, cn_json_number(t->want, "lr", 0),
                               cn_json_number(t->want, "max_grad_norm", 0), norm);
    free(grads);
    for (int64_t i = 0; s == CN_OK && i < t->n; i++)
        s = cn_param_get(t->f->env.backend, t->f->env.ctx, t->list[i].q, t->list[i].w);
    return s;
}

static void check_scalar(trainer *t, const char *what, int k, double got, double want,
                         double tolerance)
{
    double err = fabs(got - want) / fabs(want);
    report_check(&t->f->report, err <= tolerance,
                 "train_%s step %d %s: %.8g, expected %.8g (%.2g, allowed %.0g)", t->mode, k, what,
                 got, want, err, tolerance);
}

static cn_status one_step(trainer *t, const json_t *step, int k)
{
    CN_TRY(set_inputs(t, k));
    CN_TRY(cn_plan_run(t->plan));
    double loss = (double)*(const float *)cn_plan_data(t->plan, t->loss);
    double norm = fetch_gradients(t);
    check_scalar(t, "loss", k, loss, cn_json_number(step, "loss", 0), LOSS_TOLERANCE);
    check_scalar(t, "grad_norm", k, norm, cn_json_number(step, "grad_norm", 0), NORM_TOLERANCE);
    check_gradients(t, step, k);
    double clipped;
    CN_TRY(update(t, &clipped));
    check_scalar(t, "optimizer's grad_norm", k, clipped, norm, 1e-5);
    check_weights(t, step, k);
    return CN_OK;
}

/* --- a mode ----------------------------------------------------------------------------------- */

static cn_status open_optimizer(trainer *t)
{
    const json_t *betas = json_object_get(t->want, "betas");
    cn_adamw_options o = {
        .beta1 = (float)json_number_value(json_array_get(betas, 0)),
        .beta2 = (float)json_number_value(json_array_get(betas, 1)),
        .eps = (float)cn_json_number(t->want, "eps", 0),
        .weight_decay = (float)cn_json_number(t->want, "weight_decay", 0),
    };
    cn_param **params = test_alloc((size_t)t->n * sizeof *params);
    for (int64_t i = 0; i < t->n; i++) params[i] = t->list[i].q;
    cn_status s =
        cn_adamw_create(t->f->env.ctx, t->f->env.backend, params, t->n, &o, &t->optimizer);
    free(params);
    return s;
}

/* What the file says of loss and noise, as a run's options. */
static cn_status open_objective(trainer *t)
{
    cn_train_options o;
    cn_schedule_config c;
    cn_schedule_config_default(&c);
    c.v_prediction = strcmp(cn_json_str(t->want, "prediction", "epsilon"), "v") == 0;
    c.zero_snr = cn_json_bool(t->want, "rescale_betas_zero_snr", false);
    CN_TRY(cn_schedule_create(t->f->env.ctx, &c, &t->schedule));
    cn_train_options_default(&o);
    o.loss_type = cn_json_str(t->want, "loss_type", NULL);
    o.huber_schedule = cn_json_str(t->want, "huber_schedule", NULL);
    o.huber_c = cn_json_number(t->want, "huber_c", o.huber_c);
    o.snr_gamma = cn_json_number(t->want, "snr_gamma", 0);
    return cn_objective_find(t->f->env.ctx, &o, t->schedule, &t->objective);
}

static cn_status open_trainer(trainer *t)
{
    fixture *f = t->f;
    char file[64];
    CN_TRY(cn_format(f->env.ctx, file, sizeof file, "train_%s.json", t->mode));
    CN_TRY(fixture_json(f, file, &t->want));
    CN_TRY(fixture_manifest(f, "controlnet", &t->manifest[0]));
    CN_TRY(fixture_manifest(f, "unet", &t->manifest[1]));
    CN_TRY(fixture_tensors(f, "text_encoder", &t->text));
    if (!cn_tensors_find(t->text, "last_hidden_state")) {
        t->sdxl = true;
        cn_tensors_close(t->text);
        t->text = NULL;
        CN_TRY(fixture_tensors(f, "inputs", &t->text));
    }
    CN_TRY(cn_net_params(f->env.ctx, CN_NET_CONTROL, &t->control));
    CN_TRY(cn_net_params(f->env.ctx, CN_NET_UNET, &t->unet));
    CN_TRY(open_objective(t));
    CN_TRY(derive(t));
    CN_TRY(fill(t));
    int64_t n = cn_params_count(t->control) + cn_params_count(t->unet);
    t->list = test_alloc((size_t)n * sizeof *t->list);
    CN_TRY(add_learners(t, t->control, ""));
    CN_TRY(add_learners(t, t->unet, "unet:"));
    return open_optimizer(t);
}

static void close_trainer(trainer *t)
{
    for (int64_t i = 0; i < t->n; i++) {
        free(t->list[i].w);
        free(t->list[i].g);
        free(t->list[i].probe);
    }
    free(t->list);
    cn_adamw_destroy(t->optimizer);
    cn_schedule_destroy(t->schedule);
    cn_plan_destroy(t->plan);
    cn_graph_destroy(t->g);
    cn_params_destroy(t->control);
    cn_params_destroy(t->unet);
    cn_tensors_close(t->text);
    json_decref(t->manifest[0]);
    json_decref(t->manifest[1]);
    json_decref(t->want);
}

cn_status golden_train(fixture *f, const char *mode)
{
    trainer t = {.f = f, .mode = mode};
    cn_status s = open_trainer(&t);
    const json_t *steps = json_object_get(t.want, "steps");
    for (size_t k = 0; s == CN_OK && k < json_array_size(steps); k++)
        s = one_step(&t, json_array_get(steps, k), (int)k);
    close_trainer(&t);
    return s;
}
