/* SPDX-License-Identifier: Apache-2.0 */
/* muon.c - matrices by Muon (Jordan et al., "Muon: An optimizer for hidden layers in neural
 * networks", 2024): steps whose singular values are alike, so that directions which gradients
 * rarely name are learned as fast as the others. See cn_adamw_options.
 *
 * Momentum and weights stay in the physical layout, in the host's memory; a matrix gets its
 * singular values in the published one, where a convolution's weight is its matrix row by row.
 */
#include "train/optimizer_internal.h"

#include <math.h>

enum { PARALLEL_FROM = 32768 };

bool cn_muon_learns(const cn_adamw_options *o, const cn_param *q)
{
    return o->muon && q->ndim >= 2 && q->init != CN_INIT_NORMAL;
}

cn_status cn_muon_allocate(cn_adamw *a)
{
    int64_t plain = 0, physical = 0;
    for (int64_t i = 0; i < a->n; i++) {
        if (!cn_muon_learns(&a->o, a->params[i]) || !cn_adamw_owns(a, i)) continue;
        plain = CN_MAX(plain, cn_param_elements(a->params[i]));
        physical = CN_MAX(physical, cn_param_physical(a->params[i]));
    }
    if (!plain) return CN_OK;
    if (!a->be->orthogonalize)
        return cn_fail(a->ctx, CN_EINVAL, "Muon doesn't run on this device (%s); AdamW does",
                       a->be->name);
    a->matrix = cn_alloc_array(a->ctx, (size_t)plain, sizeof *a->matrix);
    a->update_bytes = (size_t)physical * sizeof *a->update;
    a->update = a->be->alloc(a->be, a->ctx, a->update_bytes);
    return a->matrix && a->update ? CN_OK : CN_ENOMEM;
}

void cn_muon_free(cn_adamw *a)
{
    cn_free(a->matrix);
    if (a->update) a->be->free(a->be, a->update, a->update_bytes);
}

/* out = keep x + (1 - keep) y */
static void blend(float *out, const float *x, float keep, const float *y, int64_t n, int threads)
{
#pragma omp parallel for simd schedule(static) num_threads(threads) if (parallel \
                                                                        : n > PARALLEL_FROM)
    for (int64_t k = 0; k < n; k++) out[k] = keep * x[k] + (1 - keep) * y[k];
}

/* w += step x + decay w */
static void take_step(float *w, const float *x, float step, float decay, int64_t n, int threads)
{
#pragma omp parallel for simd schedule(static) num_threads(threads) if (parallel \
                                                                        : n > PARALLEL_FROM)
    for (int64_t k = 0; k < n; k++) w[k] += step * x[k] + decay * w[k];
}

cn_status cn_muon_update(cn_adamw *a, int64_t i, const float *grad, double lr)
{
    const cn_param *q = a->params[i];
    cn_backend *be = a->be;
    const int threads = cn_threads(a->ctx);
    const int64_t n = cn_param_physical(q), rows = q->shape[0],
                  columns = cn_param_elements(q) / rows;
    const float keep = a->o.muon_momentum;
    float *m = a->m[i].f32;
    CN_TRY(be->average(be, a->ctx, m, grad, keep, n));
    blend(a->update, m, keep, grad, n, threads);
    CN_TRY(be->to_plain(be, a->ctx, q, CN_F32, a->update, a->matrix));
    CN_TRY(be->orthogonalize(be, a->ctx, a->matrix, rows, columns));
    CN_TRY(be->from_plain(be, a->ctx, q, CN_F32, a->matrix, CN_F32, a->update));
    const float step = (float)(-lr * 0.2 * sqrt((double)CN_MAX(rows, columns)));
    const float decay = (float)(-lr * (double)a->o.weight_decay);
    take_step(q->data, a->update, step, decay, n, threads);
    return CN_OK;
}
