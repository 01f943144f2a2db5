/* SPDX-License-Identifier: Apache-2.0 */
/* heunpp.c - Heun++ of Wang et al., "Improved Order Analysis and Design of Exponential Integrator
 * for Diffusion Models Sampling", section 4: the slopes at a step's beginning, its end and the next
 * one's end, weighed by their sigmas.
 *
 * As ComfyUI's sample_heunpp2: three calls of the networks a step, two in the last but one, one in
 * the last.
 */
#include "diffuse/samplers/samplers.h"
#include "diffuse/samplers/sigmas.h"

#include <string.h>

enum { CALLS = 3, BEGIN = CALLS, SLOTS };

static cn_status prepare(cn_ctx *ctx, cn_sampler *s)
{
    CN_TRY(cn_sigmas_prepare(ctx, s, CN_SIGMAS_K));
    double *timesteps = s->timesteps;
    cn_level *levels = s->levels;
    cn_status status = cn_sampler_allocate(ctx, s, s->steps == 1 ? 1 : CALLS * (s->steps - 1));
    for (int i = 0; status == CN_OK && i < s->n; i++) {
        const int at = i + 1 == s->n ? s->steps - 1 : i / CALLS + i % CALLS;
        s->timesteps[i] = timesteps[at];
        s->levels[i] = levels[at];
    }
    if (status == CN_OK) s->levels[s->n] = levels[s->steps];
    cn_free(timesteps);
    cn_free(levels);
    return status;
}

/* Which of its step's calls i is, and how many that step has. */
static int call_of(const cn_sampler *s, int i, int *calls)
{
    *calls = i + 1 == s->n ? 1 : i >= s->n - CALLS ? 2 : CALLS;
    return *calls == 1 ? 0 : i % CALLS;
}

static cn_status step(cn_sampler *s, int i, const float *model_out, float *x, int64_t n,
                      cn_rng *rng)
{
    (void)rng;
    CN_TRY(cn_sampler_remember(s, SLOTS, n));
    int calls;
    const int call = call_of(s, i, &calls), at = i - call; /* the step's first call */
    const double now = s->levels[i].noise, begin = s->levels[at].noise;
    const double end = s->levels[at + 1].noise, most = s->levels[s->first].noise;
    const cn_estimate e = cn_sampler_estimate(s, s->levels[i]);
    if (call == 0) memcpy(s->slots[BEGIN], x, (size_t)n * sizeof *x);
    cn_sampler_sum((const cn_term[]){{e.e_x, x}, {e.e_m, model_out}}, 2, s->slots[call], n);
    if (call + 1 < calls) { /* on to where the next slope is taken */
        const double way = s->levels[i + 1].noise - now;
        cn_sampler_sum((const cn_term[]){{1, x}, {way, s->slots[call]}}, 2, x, n);
        return CN_OK;
    }
    cn_term terms[CALLS + 1] = {{1, s->slots[BEGIN]}};
    double rest = 1;
    for (int k = 1; k < calls; k++) {
        const double w = s->levels[at + k].noise / (calls * most);
        terms[k + 1] = (cn_term){(end - begin) * w, s->slots[k]};
        rest -= w;
    }
    terms[1] = (cn_term){(end - begin) * rest, s->slots[0]};
    cn_sampler_sum(terms, calls + 1, x, n);
    return CN_OK;
}

const cn_sampler_kind cn_sampler_heunpp = {.name = "heun++",
                                           .title = "Heun++",
                                           .class = "sample_heunpp2",
                                           .aliases = {"heunpp2"},
                                           .spacing = CN_SPACING_LINSPACE,
                                           .prepare = prepare,
                                           .step = step,
                                           .order = CALLS,
                                           .sigma_schedule = true};
