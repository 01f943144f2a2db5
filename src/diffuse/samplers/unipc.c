/* SPDX-License-Identifier: Apache-2.0 */
/* unipc.c - Zhao, Bai, Rao, Zhou and Lu, "UniPC: A Unified Predictor-Corrector Framework for Fast
 * Sampling of Diffusion Models", predicting the picture.
 *
 * As diffusers' UniPCMultistepScheduler: each step first corrects its beginning with the model's
 * estimate there, then predicts its end. Both are the same sum of estimates; the corrector's has
 * the estimate at the end too. Order 2 unless the model's scheduler_config.json says otherwise.
 */
#include "diffuse/samplers/samplers.h"
#include "diffuse/samplers/sigmas.h"

#include <math.h>
#include <string.h>

enum { MOST_ORDER = 3, LAST = MOST_ORDER, NOW, SLOTS };

static cn_status prepare(cn_ctx *ctx, cn_sampler *s)
{
    return cn_sigmas_prepare(ctx, s, CN_SIGMAS_SOLVER);
}

static int order_of(const cn_sampler *s, int i)
{
    const cn_schedule_config *c = &s->schedule->config;
    int order = CN_MIN(c->solver_order, i - s->first + 1);
    bool clean =
        s->levels[i + 1].noise == 0; /* infinitely far in lambda: differences say nothing */
    return c->full_order_final && !clean ? order : CN_MIN(order, s->n - i);
}

static double lambda(const cn_sampler *s, int i)
{
    return log(s->levels[i].signal / s->levels[i].noise);
}

/* Solves sum over k of r[k]^j rho[k] = b[j], j < n. */
static void solve(int n, const double *r, const double *b, double *rho)
{
    double m[MOST_ORDER][MOST_ORDER + 1];
    for (int j = 0; j < n; j++) {
        for (int k = 0; k < n; k++) m[j][k] = pow(r[k], j);
        m[j][n] = b[j];
    }
    for (int p = 0; p < n; p++) {
        int pivot = p;
        for (int j = p + 1; j < n; j++)
            if (fabs(m[j][p]) > fabs(m[pivot][p])) pivot = j;
        for (int k = 0; k <= n; k++) {
            double swapped = m[p][k];
            m[p][k] = m[pivot][k];
            m[pivot][k] = swapped;
        }
        for (int j = 0; j < n; j++) {
            double f = j == p ? 0 : m[j][p] / m[p][p];
            for (int k = p; k <= n; k++) m[j][k] -= f * m[p][k];
        }
    }
    for (int p = 0; p < n; p++) rho[p] = m[p][n] / m[p][p];
}

/* From level i to level i+1 with slots[0..order), the newest first, and `end`, the estimate there,
 * unless NULL. */
static void advance(const cn_sampler *s, int i, int order, const float *x, const float *end,
                    float *out, int64_t n)
{
    const cn_level from = s->levels[i], to = s->levels[i + 1];
    double h = lambda(s, i + 1) - lambda(s, i), whole = expm1(-h), phi = whole / -h - 1;
    double base = s->schedule->config.bh1_solver ? -h : whole, factorial = 1;
    double r[MOST_ORDER], b[MOST_ORDER], rho[MOST_ORDER] = {0.5};
    for (int k = 1; k <= order; k++) {
        r[k - 1] = k < order ? (lambda(s, i - k) - lambda(s, i)) / h : 1;
        b[k - 1] = phi * factorial / base;
        factorial *= k + 1;
        phi = phi / -h - 1 / factorial;
    }
    /* A single unknown is 1/2, the solution's limit for small h. */
    int unknowns = end ? order : order - 1;
    if (unknowns > 1) solve(unknowns, r, b, rho);
    cn_term terms[MOST_ORDER + 2] = {{to.noise / from.noise, x}, {-to.signal * whole, s->slots[0]}};
    int n_terms = 2;
    for (int k = 0; k < unknowns; k++) {
        double weight = -to.signal * base * rho[k] / r[k];
        bool last = k == order - 1;
        terms[n_terms++] = (cn_term){weight, last ? end : s->slots[k + 1]};
        terms[1].weight -= weight;
    }
    cn_sampler_sum(terms, n_terms, out, n);
}

static cn_status step(cn_sampler *s, int i, const float *model_out, float *x, int64_t n,
                      cn_rng *rng)
{
    (void)rng;
    CN_TRY(cn_sampler_remember(s, SLOTS, n));
    float *now = s->slots[NOW];
    cn_sampler_denoise(s, i, model_out, x, now, n);
    if (i > s->first) advance(s, i - 1, order_of(s, i - 1), s->slots[LAST], now, x, n);
    cn_sampler_rotate(s, MOST_ORDER);
    memcpy(s->slots[0], now, (size_t)n * sizeof *now);
    memcpy(s->slots[LAST], x, (size_t)n * sizeof *x);
    advance(s, i, order_of(s, i), x, NULL, x, n);
    return CN_OK;
}

const cn_sampler_kind cn_sampler_unipc = {.name = "unipc",
                                          .title = "UniPC",
                                          .class = "UniPCMultistepScheduler",
                                          .aliases = {"unipcbh2"},
                                          .spacing = CN_SPACING_LINSPACE,
                                          .prepare = prepare,
                                          .step = step,
                                          .sigma_schedule = true};
