/* SPDX-License-Identifier: Apache-2.0 */
/* averages.h - files from training that hold the averages (EMA) of a UNet's weights, beside the
 * weights or alone, under names without dots. */
#ifndef CN_MODEL_CHECKPOINT_AVERAGES_H
#define CN_MODEL_CHECKPOINT_AVERAGES_H

#include "io/tensors.h"

/* Averages over training (EMA) of the UNet's weights, in files from training: the name without
 * dots behind this. */
#define CN_PREFIX_EMA  "model_ema.diffusion_model"
#define CN_PREFIX_UNET "model.diffusion_model." /* that of the weights themselves */
/* Whether the file has the UNet's averages and not the weights themselves, so that these are its
 * weights. */
bool cn_tensors_ema_only(const cn_tensors *t);
/* The tensor prefix + name, of a UNet also by its average's name where the file has no other;
 * NULL. */
const cn_tensor_info *cn_tensors_find_in(const cn_tensors *t, const char *prefix, const char *name);
/* Whether the file has tensors of the network behind this prefix, or a UNet's averages alone. */
bool cn_tensors_have_network(const cn_tensors *t, const char *prefix);
/* Whether a tensor's name belongs to the network behind this prefix. */
bool cn_tensor_is_in(const cn_tensors *t, const char *prefix, const char *name);

#endif
