/* SPDX-License-Identifier: Apache-2.0 */
/* loss_steps.c - steps of losses, of the VAE's divergence and of its sample, and their gradients.
 */
#include "cpu/cpu_ops.h"

/* Of all elements alike, or sample by sample with its weight and c. */
static float mean_loss(const cpu_backend *b, const cn_step *st)
{
    const cn_node *x = st->node->in[0];
    const float *per = st->in[2], *a = st->in[0], *target = st->in[1];
    const int64_t samples = per ? x->shape[0] : 1, each = cn_node_elements(x) / samples;
    double sum = 0;
    for (int64_t i = 0; i < samples; i++) {
        const double weight = per ? (double)per[2 * i] : 1;
        sum += weight * b->k->loss(st->node->loss, per ? per[2 * i + 1] : 0, a + i * each,
                                   target + i * each, each);
    }
    return (float)(sum / (double)samples);
}

static cn_status run_loss(cpu_backend *b, cn_ctx *ctx, const cn_step *st)
{
    (void)ctx;
    *(float *)st->out = mean_loss(b, st);
    return CN_OK;
}

const cn_cpu_op cn_cpu_loss = {.run = run_loss};

static cn_status run_loss_dx(cpu_backend *b, cn_ctx *ctx, const cn_step *st)
{
    (void)ctx;
    const cn_node *x = st->node->in[0];
    const float *per = st->in[3], *a = st->in[0], *target = st->in[1];
    const int64_t samples = per ? x->shape[0] : 1, each = cn_node_elements(x) / samples;
    const float dy = *(const float *)st->in[2];
    float *dx = st->out;
    for (int64_t i = 0; i < samples; i++)
        b->k->loss_dx(st->node->loss, per ? per[2 * i + 1] : 0, a + i * each, target + i * each,
                      per ? dy * per[2 * i] / (float)samples : dy, dx + i * each, each);
    return CN_OK;
}

const cn_cpu_op cn_cpu_loss_dx = {.run = run_loss_dx};

static cn_status run_kl(cpu_backend *b, cn_ctx *ctx, const cn_step *st)
{
    (void)ctx;
    const cn_node *x = st->node->in[0];
    const double sum = b->k->kl(st->in[0], rows_of(x), cn_channels(x) / 2);
    *(float *)st->out = (float)(sum / (double)x->shape[0]);
    return CN_OK;
}

const cn_cpu_op cn_cpu_kl = {.run = run_kl};

static cn_status run_kl_dx(cpu_backend *b, cn_ctx *ctx, const cn_step *st)
{
    (void)ctx;
    const cn_node *x = st->node->in[0];
    b->k->kl_dx(st->in[0], *(const float *)st->in[1] / (float)x->shape[0], st->out, rows_of(x),
                cn_channels(x) / 2);
    return CN_OK;
}

const cn_cpu_op cn_cpu_kl_dx = {.run = run_kl_dx};

static cn_status run_gauss(cpu_backend *b, cn_ctx *ctx, const cn_step *st)
{
    (void)ctx;
    const cn_node *n = st->node;
    b->k->gauss(st->in[0], st->in[1], st->out, rows_of(n), cn_channels(n));
    return CN_OK;
}

const cn_cpu_op cn_cpu_gauss = {.run = run_gauss};

static cn_status run_gauss_dx(cpu_backend *b, cn_ctx *ctx, const cn_step *st)
{
    (void)ctx;
    const cn_node *n = st->node;
    b->k->gauss_dx(st->in[0], st->in[1], st->in[2], st->out, rows_of(n), cn_channels(n) / 2);
    return CN_OK;
}

const cn_cpu_op cn_cpu_gauss_dx = {.run = run_gauss_dx};
