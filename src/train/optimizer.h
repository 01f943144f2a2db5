/* SPDX-License-Identifier: Apache-2.0 */
/* optimizer.h - AdamW over lists of parameters, as torch.optim.AdamW; matrices by Muon where asked.
 *
 * Everything of AdamW is elementwise in the parameter's physical layout, where gradients arrive
 * too; only states that are saved or loaded, and Muon's matrices, pass through the published
 * layout. Clipping is by the global
 * norm, as torch.nn.utils.clip_grad_norm_. Several backward passes may be summed before a step.
 */
#ifndef CN_TRAIN_OPTIMIZER_H
#define CN_TRAIN_OPTIMIZER_H

#include "graph/backend.h"
#include "dist/ranks.h"

typedef struct cn_adamw cn_adamw;

typedef struct cn_adamw_options {
    float beta1, beta2, eps, weight_decay;
    /* Moments in one byte an element and one F32 scale per 256 (base/quant8.h), as bitsandbytes
     * 0.50 has them (the paper's blocks had 2048); parameters below 4096 elements keep theirs in
     * F32. */
    bool use_8bit;
    /* Parameters of the network slow_network (NULL: of none) learn at this part of the learning
     * rate. */
    const char *slow_network;
    double slow_part;
    /* Matrices (weights of convolutions, [out, in * height * width], and of linear layers) learn by
     * Muon (Jordan et al., 2024) instead: a momentum of gradients, muon_momentum, looked ahead of
     * as Nesterov's, its singular values brought to about 1, times 0.2 sqrt(max(rows, columns)), so
     * that a step is as long as AdamW's at the same learning rate and decay (Liu et al., "Muon is
     * scalable for LLM training", 2025; torch.optim.Muon's match_rms_adamw). Its length doesn't
     * depend on the gradient's, so neither clipping nor a loss scale changes it. Biases, norms and
     * embeddings stay AdamW's. The backend must orthogonalize. */
    bool muon;
    float muon_momentum;
    bool accumulates; /* sums over several passes will be wanted (for cn_adamw_bytes) */
    /* A mean of the weights over the steps (EMA) is kept beside them, 0: none. After step n the old
     * mean counts min(n / (n + 9), ema_decay), as diffusers' EMAModel has it. */
    float ema_decay;
    /* Processes that train together; NULL: this one alone. Each keeps and updates the moments of
     * its share of the parameters, gradients are their sum over the ranks divided by their number.
     * Every rank makes the same calls: a step, an exchange with the mean and a save are done
     * together. */
    cn_ranks *ranks;
} cn_adamw_options;

#define CN_MUON_MOMENTUM 0.95F

/* 0.9, 0.999, 1e-8, 1e-2; AdamW alone, that momentum for Muon. */
void cn_adamw_options_default(cn_adamw_options *o);

/* The parameters stay the caller's, must be in their final layout (planned) and outlive *out. */
cn_status cn_adamw_create(cn_ctx *ctx, cn_backend *be, cn_param *const *params, int64_t n,
                          const cn_adamw_options *options, cn_adamw **out) CN_CHECKED;
/* The same, taking over what `from` (NULL: nothing) has of these parameters, and its count of
 * steps; other parameters begin here. What `from` had is gone then, after a failure too: destroy
 * it. Both have the same options. Memory is taken for new parameters alone. */
cn_status cn_adamw_continue(cn_ctx *ctx, cn_backend *be, cn_param *const *params, int64_t n,
                            const cn_adamw_options *options, cn_adamw *from,
                            cn_adamw **out) CN_CHECKED;
void cn_adamw_destroy(cn_adamw *a);
/* Adds one backward pass's gradients to the sum that the next step takes. grads[i] belongs to
 * params[i], physical, data_bytes long; NULL where the loss doesn't depend on it. */
cn_status cn_adamw_accumulate(cn_adamw *a, const float *const *grads) CN_CHECKED;
/* Takes gradient i of the step's last pass as soon as it is final: ranks begin to add theirs. Those
 * that weren't taken before are by cn_adamw_run. */
cn_status cn_adamw_take(cn_adamw *a, int64_t i, const float *grad) CN_CHECKED;
/* Gradients are those of the loss times `scale`, 1 at the start. */
void cn_adamw_set_loss_scale(cn_adamw *a, double scale);
/* The step that gradients were summed for isn't taken: they are forgotten. */
void cn_adamw_skip(cn_adamw *a);
/* One step with the mean of grads and what was accumulated since the last step. max_grad_norm <= 0:
 * no clipping. A parameter without gradient is left alone, weight decay included, as torch does.
 * *norm: the gradients' norm before clipping; may be NULL. When it isn't finite nothing changes and
 * the status is CN_EINVAL ("diverged"). */
cn_status cn_adamw_run(cn_adamw *a, const float *const *grads, double lr, double max_grad_norm,
                       double *norm) CN_CHECKED;
/* Exchanges the weights with their mean; a second call puts them back. Nothing without one. */
cn_status cn_adamw_swap_ema(cn_adamw *a) CN_CHECKED;
/* Steps taken; passes summed since, for the step to come. */
int64_t cn_adamw_steps(const cn_adamw *a);
int64_t cn_adamw_passes(const cn_adamw *a);
/* Memory that an optimizer over these parameters takes, known before it is made. */
size_t cn_adamw_bytes(cn_param *const *params, int64_t n, const cn_adamw_options *options);

/* Writes both moments (of Muon's the one) of every parameter as "m.NETWORK.NAME" and
 * "v.NETWORK.NAME" (diffusers names, F32; those in bytes with "m.scale.NETWORK.NAME"), the weights'
 * mean as "ema.NETWORK.NAME", to a safetensors file, and reads them back: exactly the same state,
 * gradients that were accumulated counted in ("sum.NETWORK.NAME"). F32 and 8-bit runs read each
 * other's; a mean that the file doesn't have begins at the weights. */
cn_status cn_adamw_save(const cn_adamw *a, const char *path) CN_CHECKED;
/* The same under another context, one that a cancelled run's saving doesn't stop at. Rank 0 writes,
 * the others send it what they have. more: further metadata, key, value, ..., NULL; or NULL. */
cn_status cn_adamw_save_with(cn_ctx *ctx, const cn_adamw *a, const char *path,
                             const char *const *more) CN_CHECKED;
cn_status cn_adamw_load(cn_adamw *a, const char *path) CN_CHECKED;

#endif
