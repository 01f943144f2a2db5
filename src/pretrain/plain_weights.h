/* SPDX-License-Identifier: Apache-2.0 */
/* plain_weights.h - a network's weights in one safetensors file by their diffusers names, as a
 * diffusers folder has them. */
#ifndef CN_PRETRAIN_PLAIN_WEIGHTS_H
#define CN_PRETRAIN_PLAIN_WEIGHTS_H

#include "graph/plan.h"

/* Every parameter of p, in F32. */
cn_status cn_plain_weights_write(cn_ctx *ctx, cn_backend *be, const cn_params *p,
                                 const char *path) CN_CHECKED;
/* Fills every declared parameter of p. CN_EMISMATCH names the first that the file hasn't in its
 * shape. */
cn_status cn_plain_weights_read(cn_ctx *ctx, cn_backend *be, const char *path,
                                cn_params *p) CN_CHECKED;

#endif
