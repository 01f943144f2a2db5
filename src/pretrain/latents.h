/* SPDX-License-Identifier: Apache-2.0 */
/* latents.h - scenes as the autoencoder encodes them, each encoded once and kept, on disk too.
 *
 * STATE/latents-KEY.f16 holds the latents' means times the scaling factor, scene after scene. KEY
 * follows from the autoencoder's file, the seed and the size, so other latents are never taken for
 * these.
 */
#ifndef CN_PRETRAIN_LATENTS_H
#define CN_PRETRAIN_LATENTS_H

#include "pretrain/pretrain.h"

typedef struct cn_latents cn_latents;

/* Reads the autoencoder's configuration and weights from the output folder into the run; room for
 * `scenes`. */
cn_status cn_latents_open(cn_pretrain_run *r, int64_t scenes, cn_latents **out) CN_CHECKED;
void cn_latents_close(cn_latents *l);
/* Encodes what is missing of the first n scenes. */
cn_status cn_latents_reach(cn_latents *l, int64_t n) CN_CHECKED;
/* Values in one scene's. */
int64_t cn_latents_size(const cn_latents *l);
/* One of the scenes that were reached. */
void cn_latents_get(const cn_latents *l, int64_t scene, float *out);

#endif
