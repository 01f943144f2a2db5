/* SPDX-License-Identifier: Apache-2.0 */
/* report_curves.c - a run's metrics.jsonl as SVG curves over the steps.
 *
 * Long runs are thinned to the means of neighbouring steps, so a curve's size in the page is
 * bounded. A validation's points carry their values as tooltips (SVG titles); the step at which
 * control was learned is marked in every curve.
 */
#include "eval/report.h"

#include "io/json.h"

#include <math.h>
#include <string.h>

/* The drawing's own units; the page scales it. */
enum { WIDTH = 460, HEIGHT = 262, LEFT = 68, RIGHT = 12, TOP = 26, BOTTOM = 36 };
enum { MAX_DRAWN = 1000, MAX_DOTS = 60, MAX_NAMED = 3, MAX_TICKS = 12 };

typedef struct series {
    double *x, *y;
    size_t n, cap;
} series;

/* What a metrics file holds. */
struct cn_curves {
    cn_ctx *ctx;
    cn_jsonl *lines;
    char name[128];                       /* of the file, for messages */
    series loss, loss_mean;               /* by training step */
    series held_with, held_without, zero; /* by validation */
    series agree_with, agree_without;
    series error_with, error_without;
    char measure[64], unit[64]; /* of agreement, of its error */
    int64_t learned_at_step;
    int64_t damaged;
    char named[MAX_NAMED][256]; /* the first damaged lines */
};

static void series_free(series *s)
{
    cn_free(s->x);
    cn_free(s->y);
}

void cn_curves_close(cn_curves *c)
{
    if (!c) return;
    cn_jsonl_close(c->lines);
    series_free(&c->loss);
    series_free(&c->loss_mean);
    series_free(&c->held_with);
    series_free(&c->held_without);
    series_free(&c->agree_with);
    series_free(&c->agree_without);
    series_free(&c->error_with);
    series_free(&c->error_without);
    series_free(&c->zero);
    cn_free(c);
}

cn_status cn_curves_open(cn_ctx *ctx, const char *metrics, cn_curves **out)
{
    const char *name = strrchr(metrics, '/');
    cn_curves *c = cn_alloc0(ctx, sizeof *c);
    if (!c) return CN_ENOMEM;
    c->ctx = ctx;
    c->learned_at_step = -1;
    snprintf(c->name, sizeof c->name, "%s", name ? name + 1 : metrics);
    const cn_status s = cn_jsonl_open(ctx, metrics, &c->lines);
    if (s != CN_OK) {
        cn_curves_close(c);
        return s;
    }
    *out = c;
    return CN_OK;
}

static cn_status series_add(cn_ctx *ctx, series *s, double x, double y)
{
    if (s->n == s->cap) {
        const size_t cap = s->cap ? 2 * s->cap : 256, old = s->cap * sizeof(double);
        double *more = cn_regrow(ctx, s->x, old, cap * sizeof(double));
        if (!more) return CN_ENOMEM;
        s->x = more;
        if (!(more = cn_regrow(ctx, s->y, old, cap * sizeof(double)))) return CN_ENOMEM;
        s->y = more;
        s->cap = cap;
    }
    s->x[s->n] = x;
    s->y[s->n++] = y;
    return CN_OK;
}

/* --- reading ---------------------------------------------------------------------------------- */

static cn_status take(cn_curves *c, series *s, const json_t *line, const char *key, double step)
{
    const json_t *v = json_object_get(line, key);
    /* null: it wasn't finite; a diverged run's last values would flatten all others. */
    if (!json_is_number(v) || fabs(json_number_value(v)) > 1e12) return CN_OK;
    return series_add(c->ctx, s, step, json_number_value(v));
}

static void name_damage(cn_curves *c, const char *text)
{
    cn_log(c->ctx, CN_LOG_WARN, "%s", text);
    if (c->damaged < MAX_NAMED)
        snprintf(c->named[c->damaged], sizeof c->named[0], "%.*s", (int)sizeof c->named[0] - 1,
                 text);
    c->damaged++;
}

static cn_status take_line(cn_curves *c, const json_t *line, const char *where)
{
    const json_t *step_value = json_object_get(line, "step");
    const double at = json_is_number(step_value) ? json_number_value(step_value) : -1;
    if (!(at >= 0 && at <= 1e12)) {
        char text[sizeof c->named[0]];
        snprintf(text, sizeof text, "%.200s: no \"step\" that is a number from 0", where);
        name_damage(c, text);
        return CN_OK;
    }
    if (strcmp(cn_json_str(line, "event", "step"), "validation") != 0)
        return take(c, &c->loss, line, "loss", at);
    const int64_t learned = cn_json_int(line, "learned_at_step", -1);
    if (learned >= 0) c->learned_at_step = learned;
    CN_TRY(take(c, &c->held_with, line, "loss_with_control", at));
    CN_TRY(take(c, &c->held_without, line, "loss_without_control", at));
    CN_TRY(take(c, &c->agree_with, line, "agreement_with_control", at));
    CN_TRY(take(c, &c->agree_without, line, "agreement_without_control", at));
    CN_TRY(take(c, &c->error_with, line, "error_with_control", at));
    CN_TRY(take(c, &c->error_without, line, "error_without_control", at));
    snprintf(c->measure, sizeof c->measure, "%s",
             cn_json_str(line, "agreement_measure", "edge F1"));
    snprintf(c->unit, sizeof c->unit, "%s", cn_json_str(line, "error_unit", ""));
    return take(c, &c->zero, line, "zero_conv_rms_mean", at);
}

static cn_status read_lines(cn_curves *c)
{
    for (;;) {
        json_t *line = NULL;
        char where[256];
        cn_status s = cn_jsonl_next(c->ctx, c->lines, &line);
        if (s == CN_EFORMAT) {
            name_damage(c, cn_error(c->ctx));
            continue;
        }
        if (s != CN_OK || !line) return s;
        snprintf(where, sizeof where, "%s:%lld", c->name, (long long)cn_jsonl_line(c->lines));
        s = take_line(c, line, where);
        json_decref(line);
        if (s != CN_OK) return s;
    }
}

/* The mean of the last steps, a twentieth of the run (5 to 100 steps). */
static cn_status running_mean(cn_curves *c)
{
    const series *s = &c->loss;
    const size_t window = CN_MAX((size_t)5, CN_MIN((size_t)100, s->n / 20));
    double sum = 0;
    c->loss_mean.n = 0; /* anew: the window grows with the run */
    for (size_t i = 0; i < s->n; i++) {
        sum += s->y[i];
        if (i >= window) sum -= s->y[i - window];
        if (i + 1 < CN_MIN(window, s->n)) continue;
        CN_TRY(series_add(c->ctx, &c->loss_mean, s->x[i], sum / (double)CN_MIN(window, i + 1)));
    }
    return CN_OK;
}

/* --- drawing ---------------------------------------------------------------------------------- */

typedef struct line {
    const series *s;
    const char *class_name; /* with, without, faint */
    const char *label;      /* NULL: not in the key */
    bool dots;
} line;

typedef struct chart {
    const char *title, *y_label;
    line lines[2];
    int n;
    bool from_zero;
    double x1;     /* the run's last step: all charts share it */
    double y0, y1; /* set by scale */
} chart;

/* 1, 2 or 5 times a power of ten, so that about `count` steps make up `span`. */
static double tick_step(double span, int count)
{
    const double raw = span / count, power = pow(10, floor(log10(raw)));
    const double f = raw / power;
    return power * (f <= 1 ? 1 : f <= 2 ? 2 : f <= 5 ? 5 : 10);
}

static void scale(chart *c)
{
    double lo = INFINITY, hi = -INFINITY;
    for (int k = 0; k < c->n; k++)
        for (size_t i = 0; i < c->lines[k].s->n; i++) {
            lo = fmin(lo, c->lines[k].s->y[i]);
            hi = fmax(hi, c->lines[k].s->y[i]);
        }
    if (c->from_zero) lo = fmin(lo, 0);
    if (!(hi - lo > fabs(lo) * 1e-9)) hi = lo + fmax(fabs(lo) * 0.1, 1e-12);
    const double step = tick_step(hi - lo, 4);
    c->y0 = floor(lo / step + 1e-9) * step;
    c->y1 = ceil(hi / step - 1e-9) * step;
}

static double at_x(const chart *c, double x)
{
    return LEFT + x / c->x1 * (WIDTH - LEFT - RIGHT);
}

static double at_y(const chart *c, double y)
{
    return HEIGHT - BOTTOM - (y - c->y0) / (c->y1 - c->y0) * (HEIGHT - TOP - BOTTOM);
}

static void add_axes(cn_str *out, const chart *c)
{
    const double y_step = tick_step(c->y1 - c->y0, 4), x_step = fmax(1, tick_step(c->x1, 6));
    for (int i = 0; i < MAX_TICKS; i++) {
        double v = c->y0 + i * y_step;
        if (v > c->y1 + y_step * 0.01) break;
        if (fabs(v) < y_step * 1e-6) v = 0;
        cn_str_addf(out,
                    "<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\" />"
                    "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.4g</text>\n",
                    LEFT, WIDTH - RIGHT, at_y(c, v), at_y(c, v), LEFT - 7, at_y(c, v) + 4, v);
    }
    for (int i = 0; i < MAX_TICKS && i * x_step <= c->x1 * 1.0001; i++)
        cn_str_addf(out,
                    "<line class=\"axis\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\" />"
                    "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.12g</text>\n",
                    at_x(c, i * x_step), at_x(c, i * x_step), HEIGHT - BOTTOM, HEIGHT - BOTTOM + 4,
                    at_x(c, i * x_step), HEIGHT - BOTTOM + 17, i * x_step);
    cn_str_addf(
        out,
        "<line class=\"axis\" x1=\"%d\" x2=\"%d\" y1=\"%d\" y2=\"%d\" />"
        "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">training step</text>\n"
        "<text transform=\"translate(11 %d) rotate(-90)\" text-anchor=\"middle\">%s</text>\n",
        LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - 4,
        (HEIGHT - BOTTOM + TOP) / 2, c->y_label);
}

static void add_line(cn_str *out, const chart *c, const line *l)
{
    const size_t n = l->s->n, each = (n + MAX_DRAWN - 1) / MAX_DRAWN;
    cn_str_addf(out, "<polyline class=\"c %s\" points=\"", l->class_name);
    for (size_t i = 0; i < n; i += each) {
        const size_t m = CN_MIN(each, n - i);
        double x = 0, y = 0;
        for (size_t k = i; k < i + m; k++) {
            x += l->s->x[k] / (double)m;
            y += l->s->y[k] / (double)m;
        }
        cn_str_addf(out, "%.1f,%.1f ", at_x(c, x), at_y(c, y));
    }
    cn_str_adds(out, "\" />\n");
    if (!l->dots || n > MAX_DOTS) return;
    for (size_t i = 0; i < n; i++)
        cn_str_addf(out,
                    "<circle class=\"d %s\" cx=\"%.1f\" cy=\"%.1f\" r=\"4\">"
                    "<title>step %.12g: %.4g</title></circle>\n",
                    l->class_name, at_x(c, l->s->x[i]), at_y(c, l->s->y[i]), l->s->x[i],
                    l->s->y[i]);
}

/* Its words stand above the curves. */
static void add_mark(cn_str *out, const chart *c, int64_t step)
{
    if (step < 0 || (double)step > c->x1) return;
    const double x = at_x(c, (double)step);
    const bool right = x > LEFT + 0.55 * (WIDTH - LEFT - RIGHT);
    cn_str_addf(out,
                "<line class=\"mark\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\" />"
                "<text class=\"marked\" x=\"%.1f\" y=\"%d\" text-anchor=\"%s\">control learned, "
                "step %lld</text>\n",
                x, x, TOP - 18, HEIGHT - BOTTOM, x + (right ? -6 : 6), TOP - 10,
                right ? "end" : "start", (long long)step);
}

static double last_step(const cn_curves *c)
{
    const series *const all[] = {&c->loss, &c->held_with, &c->agree_with, &c->zero};
    double last = 1;
    for (size_t k = 0; k < CN_COUNT(all); k++)
        for (size_t i = 0; i < all[k]->n; i++) last = fmax(last, all[k]->x[i]);
    return last;
}

static void add_chart(cn_str *out, chart *c, const cn_curves *from)
{
    bool any = false;
    for (int k = 0; k < c->n; k++) any = any || c->lines[k].s->n > 0;
    if (!any) return;
    c->x1 = last_step(from);
    scale(c);
    cn_str_addf(out, "<figure class=\"curve\"><figcaption><span>%s</span>", c->title);
    for (int k = 0; k < c->n; k++)
        if (c->lines[k].label)
            cn_str_addf(out, "<span class=\"key %s\">%s</span>", c->lines[k].class_name,
                        c->lines[k].label);
    cn_str_addf(out,
                "</figcaption>\n<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"%s over "
                "training steps\">\n",
                WIDTH, HEIGHT, c->title);
    add_axes(out, c);
    for (int k = 0; k < c->n; k++)
        if (c->lines[k].s->n) add_line(out, c, &c->lines[k]);
    add_mark(out, c, from->learned_at_step);
    cn_str_adds(out, "</svg></figure>\n");
}

static void add_damage(cn_str *out, const cn_curves *c)
{
    if (!c->damaged) return;
    cn_str_addf(out, "<p class=\"damaged\">%lld damaged line%s left out: ", (long long)c->damaged,
                c->damaged == 1 ? "" : "s");
    for (int64_t i = 0; i < CN_MIN(c->damaged, (int64_t)MAX_NAMED); i++) {
        if (i) cn_str_adds(out, "; ");
        cn_report_escape(out, c->named[i]);
    }
    if (c->damaged > MAX_NAMED)
        cn_str_addf(out, "; and %lld more", (long long)(c->damaged - MAX_NAMED));
    cn_str_adds(out, "</p>\n");
}

static void add_charts(cn_str *out, const cn_curves *c)
{
    chart agreement = {.title = "Agreement",
                       .y_label = c->measure,
                       .lines = {{&c->agree_without, "without", "without control", true},
                                 {&c->agree_with, "with", "with control", true}},
                       .n = 2,
                       .from_zero = true};
    chart error = {.title = "Error of what is found in drawings",
                   .y_label = c->unit,
                   .lines = {{&c->error_without, "without", "without control", true},
                             {&c->error_with, "with", "with control", true}},
                   .n = 2,
                   .from_zero = true};
    chart zero = {.title = "Zero convolutions",
                  .y_label = "RMS of their weights",
                  .lines = {{&c->zero, "with", NULL, true}},
                  .n = 1,
                  .from_zero = true};
    chart loss = {.title = "Training loss",
                  .y_label = "squared error of the noise",
                  .lines = {{&c->loss, "faint", "each step", false},
                            {&c->loss_mean, "with", "running mean", false}},
                  .n = 2};
    chart held = {.title = "Held-out loss",
                  .y_label = "squared error of the noise",
                  .lines = {{&c->held_without, "without", "without control", true},
                            {&c->held_with, "with", "with control", true}},
                  .n = 2};
    cn_str_adds(out, "<div class=\"curves\">\n");
    add_chart(out, &agreement, c);
    add_chart(out, &error, c);
    add_chart(out, &zero, c);
    add_chart(out, &loss, c);
    add_chart(out, &held, c);
    cn_str_adds(out, "</div>\n");
    add_damage(out, c);
}

cn_status cn_curves_draw(cn_curves *c, cn_str *out)
{
    CN_TRY(read_lines(c));
    CN_TRY(running_mean(c));
    add_charts(out, c);
    return CN_OK;
}
