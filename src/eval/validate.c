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
#include "eval/validate_internal.h"

#include "data/condition.h"

#include <math.h>
#include <string.h>

#define RULE_AGREEMENT                                                                      \
    "held-out loss lower with control; agreement of drawings (%s) at least 1.5 times that " \
    "without, or half way from it to 1; its paired gain above three standard errors"
#define RULE_LOSS "paired gain in held-out loss above three standard errors"

void cn_validator_destroy(cn_validator *v)
{
    if (!v) return;
    cn_curves_close(v->curves);
    cn_free((void *)(uintptr_t)v->o.items);
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
    const size_t n = (size_t)v->o.n_held;
    const size_t bytes = (size_t)(v->o.width * v->o.height * 3);
    size_t pictures = 0;
    if (!cn_mul_size((size_t)v->o.n_items, bytes, &pictures)) return CN_ENOMEM;
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
static cn_status load_pictures(cn_validator *v)
{
    const int64_t width = v->o.width, height = v->o.height;
    const size_t bytes = (size_t)(width * height * 3);
    for (int64_t i = 0; i < v->o.n_items; i++) {
        cn_image *condition = NULL, *target = NULL;
        const cn_validation_item *d = &v->o.items[i];
        CN_TRY(cn_dataset_load(v->ctx, d->data, d->item, width, height, &condition,
                               i < v->o.n_held ? &target : NULL));
        memcpy(v->condition + (size_t)i * bytes, condition->rgb, bytes);
        if (target) memcpy(v->target + (size_t)i * bytes, target->rgb, bytes);
        cn_image_destroy(condition);
        cn_image_destroy(target);
    }
    return CN_OK;
}

static cn_status fill(cn_validator *v)
{
    const int64_t pixels = v->o.n_held * v->o.width * v->o.height;
    CN_TRY(allocate(v));
    CN_TRY(load_pictures(v));
    v->annotate = v->o.comparison->annotate;
    if (!v->o.comparison->settled && cn_condition_black_and_white(v->condition, pixels))
        CN_TRY(cn_annotate_read(v->ctx, "canny", &v->annotate));
    if (!v->annotate.kind)
        cn_log(v->ctx, CN_LOG_INFO,
               "validation: no annotator is known for these conditions; drawings are saved but not "
               "compared (--validation-annotator)");
    return CN_OK;
}

cn_status cn_validator_create(cn_ctx *ctx, const cn_validator_options *options, cn_validator **out)
{
    cn_validator *v = cn_alloc0(ctx, sizeof *v);
    if (!v) return CN_ENOMEM;
    const size_t n = (size_t)options->n_items;
    cn_validation_item *items = cn_alloc_array(ctx, n, sizeof *items);
    v->ctx = ctx;
    v->o = *options;
    v->o.items = items;
    cn_status s = items ? CN_OK : CN_ENOMEM;
    if (s == CN_OK) {
        memcpy(items, options->items, n * sizeof *items);
        s = fill(v);
    }
    if (s != CN_OK) {
        cn_validator_destroy(v);
        return s;
    }
    *out = v;
    return CN_OK;
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
    out->agreement_with = mean_agreement(v->agree_with, v->o.n_held);
    out->agreement_without = mean_agreement(v->agree_without, v->o.n_held);
    snprintf(v->rule, sizeof v->rule, RULE_AGREEMENT, out->agreement_with.measure);
    for (int64_t i = 0; i < v->o.n_held; i++)
        v->gains[i] = v->agree_with[i].score - v->agree_without[i].score;
    const double baseline = out->agreement_without.score;
    out->learned = out->loss_with < out->loss_without &&
                   out->agreement_with.score >= fmin(1.5 * baseline, (1 + baseline) / 2) &&
                   significant(v->gains, v->o.n_held);
}

static void judge_losses(cn_validator *v, cn_train_validation *out)
{
    snprintf(v->rule, sizeof v->rule, RULE_LOSS);
    for (int64_t i = 0; i < v->o.n_held; i++) v->gains[i] = v->loss_without[i] - v->loss_with[i];
    out->learned = significant(v->gains, v->o.n_held);
}

static void judge(cn_validator *v, int64_t step, int64_t *learned_at_step, cn_train_validation *out)
{
    out->step = step;
    out->loss_with = mean(v->loss_with, v->o.n_held);
    out->loss_without = mean(v->loss_without, v->o.n_held);
    memcpy(out->band_with, v->band_with, sizeof out->band_with);
    memcpy(out->band_without, v->band_without, sizeof out->band_without);
    out->has_agreement = v->annotate.kind != NULL;
    out->rule = v->rule;
    if (out->has_agreement)
        judge_drawings(v, out);
    else
        judge_losses(v, out);
    if (out->learned && *learned_at_step < 0) *learned_at_step = step;
    out->learned_at_step = *learned_at_step;
}

/* Rules of thumb of the reference's docs/train.md and docs/faq.md; NULL text where control is
 * learned. */
static void advise(const cn_train_options *o, bool links, const cn_train_validation *r, cn_str *out)
{
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
    if (!o->only_mid_control && links)
        cn_str_adds(out,
                    " For few pictures or little time the reference suggests --only-mid-control; "
                    "--reconnect-after joins the rest later.");
}

static cn_status write_metrics(cn_metrics *m, const cn_train_validation *r, const double *rms,
                               int64_t n_rms, double seconds)
{
    cn_metrics_begin(m);
    cn_metrics_string(m, "event", "validation");
    cn_metrics_int(m, "step", r->step);
    cn_metrics_number(m, "loss_with_control", r->loss_with);
    cn_metrics_number(m, "loss_without_control", r->loss_without);
    cn_metrics_numbers(m, "loss_with_by_band", r->band_with, CN_TRAIN_BANDS);
    cn_metrics_numbers(m, "loss_without_by_band", r->band_without, CN_TRAIN_BANDS);
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

static cn_status measure(cn_validator *v, bool control)
{
    const cn_validation_calls *calls = &v->o.calls;
    double *loss = control ? v->loss_with : v->loss_without;
    double *band = control ? v->band_with : v->band_without;
    uint8_t *rgb = control ? v->with : v->without;
    CN_TRY(calls->measure(calls->user, control, loss, band));
    CN_TRY(calls->draw(calls->user, control, v->condition, rgb));
    return cn_validator_agreement(v, rgb, control ? v->agree_with : v->agree_without);
}

/* The page, the log's advice at the end of a run, the callback. */
static cn_status report(cn_validator *v, cn_train_validation *r, const double *rms, int64_t n_rms)
{
    const cn_validation_calls *calls = &v->o.calls;
    cn_str advice = {0};
    advise(v->o.train, v->o.links, r, &advice);
    r->advice = advice.data;
    const cn_status s = cn_validator_report(v, r, rms, n_rms);
    if (r->advice && r->step == v->end_step) cn_log(v->ctx, CN_LOG_INFO, "%s", r->advice);
    if (s == CN_OK && calls->validated) calls->validated(calls->user, r);
    cn_str_free(&advice);
    r->advice = NULL;
    return s;
}

cn_status cn_validator_run(cn_validator *v, int64_t step, int64_t end_step, bool base_trained,
                           int64_t *learned_at_step, cn_train_validation *out)
{
    const double start = cn_now_s();
    v->end_step = end_step;
    double rms[CN_MAX_RESIDUALS + 1];
    char dir[CN_PATH_BYTES], sheet[CN_PATH_BYTES];
    cn_train_validation r = {.sheet = sheet};
    CN_TRY(cn_format(v->ctx, dir, sizeof dir, "%s/validation/step_%lld", v->o.train->output_dir,
                     (long long)step));
    CN_TRY(cn_format(v->ctx, sheet, sizeof sheet, "%s/sheet.png", dir));
    CN_TRY(measure(v, true));
    if (!v->has_baseline || base_trained) CN_TRY(measure(v, false));
    v->has_baseline = true;
    CN_TRY(cn_validator_save(v, dir, step));
    const int64_t n = v->o.calls.zero_convs(v->o.calls.user, rms);
    r.zero_conv_rms = n ? mean(rms, n) : 0;
    judge(v, step, learned_at_step, &r);
    CN_TRY(write_metrics(v->o.metrics, &r, rms, n, cn_now_s() - start));
    CN_TRY(report(v, &r, rms, n));
    *out = r;
    out->sheet = NULL;
    return CN_OK;
}
