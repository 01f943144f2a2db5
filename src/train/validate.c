/* SPDX-License-Identifier: Apache-2.0 */
/* validate.c - does it work yet? Held-out loss, agreement of drawings, zero convolutions, and the
 * verdict.
 *
 * The rule for "control learned at step N". All three must hold at N's validation: 1. held-out
 * pictures at fixed (timestep, noise) have a lower mean loss with control than without; 2. drawings
 * on fixed seeds agree with their conditions (by the measure of their kind, agreement.h) at least
 *      half again as well with control as without, or half way from there to perfect agreement
 *      where that is less;
 *   3. the gain in agreement, paired picture by picture, exceeds three standard errors of its mean.
 *   The third keeps a few lucky drawings from deciding: with 8 pictures that happens by chance
 *   about once in a hundred validations, and together with the others much more rarely. Where no
 *   annotator is known, the paired gain in held-out loss must exceed three of its standard errors
 *   instead.
 *
 * Without control nothing changes from one validation to the next while the base is locked, so that
 * half is measured once.
 */
#include "train/validate.h"

#include <math.h>
#include <string.h>

#define RULE_AGREEMENT                                                                      \
    "held-out loss lower with control; agreement of drawings (%s) at least 1.5 times that " \
    "without, or half way from it to 1; its paired gain above three standard errors"
#define RULE_LOSS "paired gain in held-out loss above three standard errors"

void cn_validator_destroy(cn_validator *v)
{
    if (!v) return;
    cn_batcher_destroy(v->batcher);
    cn_curves_close(v->curves);
    cn_free(v->loss_with);
    cn_free(v->loss_without);
    cn_free(v->agree_with);
    cn_free(v->agree_without);
    cn_free(v->gains);
    cn_free(v->condition);
    cn_free(v->target);
    cn_free(v->with);
    cn_free(v->without);
    cn_free(v);
}

static cn_status allocate(cn_validator *v)
{
    const size_t n = (size_t)v->n;
    const size_t bytes = (size_t)(v->width * v->height * 3);
    size_t pictures = 0;
    if (!cn_mul_size((size_t)v->drawn, bytes, &pictures)) return CN_ENOMEM;
    v->loss_with = cn_alloc0(v->ctx, n * sizeof(double));
    v->loss_without = cn_alloc0(v->ctx, n * sizeof(double));
    v->agree_with = cn_alloc0(v->ctx, n * sizeof *v->agree_with);
    v->agree_without = cn_alloc0(v->ctx, n * sizeof *v->agree_without);
    v->gains = cn_alloc0(v->ctx, n * sizeof(double));
    v->condition = cn_alloc(v->ctx, pictures);
    v->target = cn_alloc(v->ctx, n * bytes);
    v->with = cn_alloc(v->ctx, pictures);
    v->without = cn_alloc(v->ctx, pictures);
    const bool all = v->loss_with && v->loss_without && v->agree_with && v->agree_without &&
                     v->gains && v->condition && v->target && v->with && v->without;
    return all ? CN_OK : CN_ENOMEM;
}

/* The pictures, for comparison and for the sheets. */
static cn_status load_pictures(cn_validator *v, cn_trainer *t)
{
    const size_t bytes = (size_t)(v->width * v->height * 3);
    for (int64_t i = 0; i < v->drawn; i++) {
        cn_image *condition = NULL, *target = NULL;
        const cn_drawing d = cn_validator_drawing(v, t, i);
        CN_TRY(cn_dataset_load(v->ctx, d.data, d.item, v->width, v->height, &condition,
                               i < v->n ? &target : NULL));
        memcpy(v->condition + (size_t)i * bytes, condition->rgb, bytes);
        if (target) memcpy(v->target + (size_t)i * bytes, target->rgb, bytes);
        cn_image_destroy(condition);
        cn_image_destroy(target);
    }
    return CN_OK;
}

static cn_status fill(cn_validator *v, cn_trainer *t)
{
    const int64_t pixels = v->n * v->width * v->height;
    CN_TRY(allocate(v));
    CN_TRY(load_pictures(v, t));
    v->annotate = t->annotate;
    if (!t->annotator_told && cn_condition_black_and_white(v->condition, pixels))
        CN_TRY(cn_annotate_read(v->ctx, "canny", &v->annotate));
    if (!v->annotate.kind)
        cn_log(v->ctx, CN_LOG_INFO,
               "validation: no annotator is known for these conditions; drawings are saved but not "
               "compared (--validation-annotator)");
    const cn_batcher_options o = cn_trainer_held_options(t);
    return cn_batcher_create(v->ctx, &o, &v->batcher);
}

cn_status cn_validator_create(cn_trainer *t, cn_validator **out)
{
    cn_validator *v = cn_alloc0(t->ctx, sizeof *v);
    if (!v) return CN_ENOMEM;
    v->ctx = t->ctx;
    v->n = t->n_held;
    v->drawn = cn_trainer_drawings(t);
    v->width = t->held_cache->width;
    v->height = t->held_cache->height;
    cn_status s = fill(v, t);
    if (s != CN_OK) {
        cn_validator_destroy(v);
        return s;
    }
    *out = v;
    return CN_OK;
}

/* --- held-out loss ---------------------------------------------------------------------------- */

/* Measurement k: item k / CN_VALIDATION_TIMES at its fixed timestep, with its prompt and noise of
 * its own. */
static cn_sample fixed_sample(const cn_trainer *t, int64_t k)
{
    const int64_t band = k % CN_VALIDATION_TIMES;
    return (cn_sample){
        .item = t->held_first + k / CN_VALIDATION_TIMES,
        .timestep = (int)((2 * band + 1) * t->schedule->n / (2 * CN_VALIDATION_TIMES)),
        .noise_seed = 0x7e57u + (uint64_t)k};
}

static double squared_error(const float *a, const float *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)(a[i] - b[i]) * (double)(a[i] - b[i]);
    return sum / (double)n;
}

static cn_status measure_with(cn_validator *v, cn_trainer *t, cn_stepgraph *g, double *loss,
                              double band[CN_VALIDATION_TIMES])
{
    const int64_t batch = g->o.batch, count = v->n * CN_VALIDATION_TIMES;
    const int64_t each = cn_node_elements(g->target) / batch;
    memset(loss, 0, (size_t)v->n * sizeof *loss);
    memset(band, 0, CN_VALIDATION_TIMES * sizeof *band);
    for (int64_t at = 0; at < count; at += batch) {
        if (cn_cancelled(v->ctx)) return cn_fail(v->ctx, CN_ECANCELLED, "interrupted");
        for (int64_t i = 0; i < batch; i++) { /* the last batch repeats its last measurement */
            const cn_sample sample = fixed_sample(t, CN_MIN(at + i, count - 1));
            const cn_pass *one = NULL;
            CN_TRY(cn_batcher_one(v->batcher, &sample, &one));
            cn_stepgraph_put(g, i, one, 0);
        }
        CN_TRY(cn_plan_run(g->plan));
        const float *y = cn_plan_data(g->plan, g->prediction);
        const float *target = cn_plan_data(g->plan, g->target);
        for (int64_t i = 0; i < batch && at + i < count; i++) {
            const double error = squared_error(y + i * each, target + i * each, each);
            loss[(at + i) / CN_VALIDATION_TIMES] += error / (double)CN_VALIDATION_TIMES;
            band[(at + i) % CN_VALIDATION_TIMES] += error / (double)v->n;
        }
    }
    return CN_OK;
}

static cn_status measure(cn_validator *v, cn_trainer *t, bool control, double *loss,
                         double band[CN_VALIDATION_TIMES])
{
    cn_stepgraph_options o = cn_trainer_measure_options(t, t->step);
    cn_stepgraph *g = NULL;
    o.control = control;
    o.batch = CN_MIN(o.batch, v->n * CN_VALIDATION_TIMES);
    CN_TRY(cn_stepgraph_create(v->ctx, t->be, &t->base->unet, &t->config, t->unet, t->control, &o,
                               &g));
    const cn_status s = measure_with(v, t, g, loss, band);
    cn_stepgraph_destroy(g);
    return s;
}

/* --- zero convolutions ------------------------------------------------------------------------ */

static bool is_zero_conv(const cn_param *q)
{
    return q->ndim == 4 && (strncmp(q->diffusers_name, "controlnet_down_blocks.", 23) == 0 ||
                            strncmp(q->diffusers_name, "controlnet_mid_block.", 21) == 0);
}

/* Root mean square of each zero convolution's weights, the middle's last. Returns how many; at most
 * CN_MAX_RESIDUALS + 1. */
static int64_t zero_conv_rms(const cn_trainer *t, double rms[CN_MAX_RESIDUALS + 1])
{
    int64_t n = 0;
    for (int64_t i = 0; i < cn_params_count(t->control) && n <= CN_MAX_RESIDUALS; i++) {
        const cn_param *q = cn_params_at(t->control, i);
        if (!is_zero_conv(q)) continue;
        const double squares = t->be->sum_squares(t->be, q->data, cn_param_physical(q));
        rms[n++] = sqrt(squares / (double)cn_param_elements(q));
    }
    return n;
}

/* --- verdict ---------------------------------------------------------------------------------- */

static double mean(const double *x, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += x[i];
    return sum / (double)n;
}

/* The mean of score and error; the words are those of each. */
static cn_agreement mean_agreement(const cn_agreement *x, int64_t n)
{
    cn_agreement sum = x[0];
    for (int64_t i = 1; i < n; i++) {
        sum.score += x[i].score;
        sum.error += x[i].error;
    }
    sum.score /= (double)n;
    sum.error /= (double)n;
    return sum;
}

/* Whether the mean of what each pair gained exceeds three standard errors. One pair alone gives no
 * error to compare with. */
static bool significant(const double *gains, int64_t n)
{
    if (n < 2) return false;
    const double gain = mean(gains, n);
    double squares = 0;
    for (int64_t i = 0; i < n; i++) squares += (gains[i] - gain) * (gains[i] - gain);
    return gain > 3 * sqrt(squares / (double)(n - 1) / (double)n);
}

static void judge_drawings(cn_validator *v, cn_train_validation *out)
{
    out->agreement_with = mean_agreement(v->agree_with, v->n);
    out->agreement_without = mean_agreement(v->agree_without, v->n);
    snprintf(v->rule, sizeof v->rule, RULE_AGREEMENT, out->agreement_with.measure);
    for (int64_t i = 0; i < v->n; i++)
        v->gains[i] = v->agree_with[i].score - v->agree_without[i].score;
    const double baseline = out->agreement_without.score;
    out->learned = out->loss_with < out->loss_without &&
                   out->agreement_with.score >= fmin(1.5 * baseline, (1 + baseline) / 2) &&
                   significant(v->gains, v->n);
}

static void judge_losses(cn_validator *v, cn_train_validation *out)
{
    snprintf(v->rule, sizeof v->rule, RULE_LOSS);
    for (int64_t i = 0; i < v->n; i++) v->gains[i] = v->loss_without[i] - v->loss_with[i];
    out->learned = significant(v->gains, v->n);
}

static void judge(cn_validator *v, cn_trainer *t, cn_train_validation *out)
{
    out->step = t->state.step;
    out->loss_with = mean(v->loss_with, v->n);
    out->loss_without = mean(v->loss_without, v->n);
    memcpy(out->band_with, v->band_with, sizeof out->band_with);
    memcpy(out->band_without, v->band_without, sizeof out->band_without);
    out->has_agreement = v->annotate.kind != NULL;
    out->rule = v->rule;
    if (out->has_agreement)
        judge_drawings(v, out);
    else
        judge_losses(v, out);
    if (out->learned && t->state.learned_at_step < 0) t->state.learned_at_step = t->state.step;
    out->learned_at_step = t->state.learned_at_step;
}

/* Rules of thumb of the reference's docs/train.md and docs/faq.md; NULL text where control is
 * learned. */
static void advise(const cn_trainer *t, const cn_train_validation *r, cn_str *out)
{
    const cn_train_options *o = &t->o;
    const int64_t images = o->train_batch_size * o->gradient_accumulation_steps;
    if (r->learned_at_step >= 0) return;
    cn_str_addf(out,
                "Control isn't learned yet after %lld steps of %lld pictures. It tends to come "
                "suddenly, in the paper within 10,000 steps.",
                (long long)r->step, (long long)images);
    if (r->loss_with < r->loss_without)
        cn_str_adds(out, " Held-out loss is lower with control already: going on may do.");
    if (o->learning_rate < 1e-5)
        cn_str_addf(out, " --learning-rate %g is less than the paper's 1e-5.", o->learning_rate);
    if (images < 32)
        cn_str_addf(out,
                    " Its authors found more pictures a step better than more steps: "
                    "--gradient-accumulation-steps %lld makes 32.",
                    (long long)((32 + o->train_batch_size - 1) / o->train_batch_size));
    if (!o->only_mid_control)
        cn_str_adds(out,
                    " For few pictures or little time the reference suggests --only-mid-control; "
                    "--reconnect-after joins the rest later.");
}

static cn_status write_metrics(cn_trainer *t, const cn_train_validation *r, const double *rms,
                               int64_t n_rms, double seconds)
{
    cn_metrics *m = t->metrics;
    cn_metrics_begin(m);
    cn_metrics_string(m, "event", "validation");
    cn_metrics_int(m, "step", r->step);
    cn_metrics_number(m, "loss_with_control", r->loss_with);
    cn_metrics_number(m, "loss_without_control", r->loss_without);
    cn_metrics_numbers(m, "loss_with_by_band", r->band_with, CN_VALIDATION_TIMES);
    cn_metrics_numbers(m, "loss_without_by_band", r->band_without, CN_VALIDATION_TIMES);
    if (r->has_agreement) {
        cn_metrics_string(m, "agreement_measure", r->agreement_with.measure);
        cn_metrics_number(m, "agreement_with_control", r->agreement_with.score);
        cn_metrics_number(m, "agreement_without_control", r->agreement_without.score);
    }
    if (r->has_agreement && r->agreement_with.unit) {
        cn_metrics_string(m, "error_unit", r->agreement_with.unit);
        cn_metrics_number(m, "error_with_control", r->agreement_with.error);
        cn_metrics_number(m, "error_without_control", r->agreement_without.error);
    }
    cn_metrics_number(m, "zero_conv_rms_mean", r->zero_conv_rms);
    cn_metrics_numbers(m, "zero_conv_rms", rms, n_rms);
    cn_metrics_bool(m, "learned", r->learned);
    cn_metrics_int(m, "learned_at_step", r->learned_at_step);
    cn_metrics_string(m, "rule", r->rule);
    cn_metrics_string(m, "sheet", r->sheet);
    cn_metrics_number(m, "seconds", seconds);
    return cn_metrics_end(m);
}

static cn_status take_measures(cn_validator *v, cn_trainer *t, const char *dir)
{
    CN_TRY(measure(v, t, true, v->loss_with, v->band_with));
    CN_TRY(cn_validator_draw(v, t, true, v->with));
    CN_TRY(cn_validator_agreement(v, t, v->with, v->agree_with));
    if (!v->has_baseline || t->phase.unlock != CN_UNLOCK_NONE) {
        CN_TRY(measure(v, t, false, v->loss_without, v->band_without));
        CN_TRY(cn_validator_draw(v, t, false, v->without));
        CN_TRY(cn_validator_agreement(v, t, v->without, v->agree_without));
        v->has_baseline = true;
    }
    return cn_validator_save(v, t, dir);
}

/* The page, the log's advice at the end of a run, the callback. */
static cn_status tell(cn_validator *v, cn_trainer *t, cn_train_validation *r, const double *rms,
                      int64_t n_rms)
{
    cn_str advice = {0};
    advise(t, r, &advice);
    r->advice = advice.data;
    const cn_status s = cn_validator_report(v, t, r, rms, n_rms);
    if (r->advice && r->step == t->total_steps) cn_log(t->ctx, CN_LOG_INFO, "%s", r->advice);
    if (s == CN_OK && t->callbacks.validated) t->callbacks.validated(t->callbacks.user, r);
    cn_str_free(&advice);
    return s;
}

cn_status cn_validator_run(cn_validator *v, cn_trainer *t)
{
    const double start = cn_now_s();
    cn_plan_drop(t->step->plan); /* the step's values are done with; drawing needs the room */
    double rms[CN_MAX_RESIDUALS + 1];
    char dir[4096], sheet[4096];
    cn_train_validation r = {.sheet = sheet};
    CN_TRY(cn_format(v->ctx, dir, sizeof dir, "%s/validation/step_%lld", t->o.output_dir,
                     (long long)t->state.step));
    CN_TRY(cn_format(v->ctx, sheet, sizeof sheet, "%s/sheet.png", dir));
    CN_TRY(cn_adamw_swap_ema(t->adamw));
    const cn_status s = take_measures(v, t, dir);
    const int64_t n = zero_conv_rms(t, rms);
    CN_TRY(cn_adamw_swap_ema(t->adamw));
    CN_TRY(s);
    r.zero_conv_rms = n ? mean(rms, n) : 0;
    judge(v, t, &r);
    t->result.has_agreement = r.has_agreement;
    t->result.agreement_with_control = r.agreement_with.score;
    t->result.agreement_without_control = r.agreement_without.score;
    CN_TRY(write_metrics(t, &r, rms, n, cn_now_s() - start));
    return tell(v, t, &r, rms, n);
}
