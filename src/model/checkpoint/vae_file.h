/* SPDX-License-Identifier: Apache-2.0 */
/* vae_file.h - a VAE by itself: what a base takes instead of its own, or previews are made with. */
#ifndef CN_MODEL_CHECKPOINT_VAE_FILE_H
#define CN_MODEL_CHECKPOINT_VAE_FILE_H

#include "model/checkpoint/source.h"

typedef struct cn_vae_file {
    char path[CN_PATH_BYTES];
    cn_tensors *file;
    const char *prefix;
    cn_layout layout;
    cn_vae_config config;
    bool guessed; /* from shapes, which don't say the scaling factor */
} cn_vae_file;

/* path: a VAE's file under either naming, its folder, a whole base model of which the VAE is taken,
 * or TAESD: a half's file, beside which the other half lies, or diffusers' folder or file. *out:
 * cn_vae_file_close. */
cn_status cn_vae_file_open(cn_ctx *ctx, const char *path, cn_vae_file **out) CN_CHECKED;
void cn_vae_file_close(cn_vae_file *v);
/* Fills every declared parameter of p. */
cn_status cn_vae_file_load(cn_ctx *ctx, const cn_vae_file *v, cn_backend *be,
                           cn_params *p) CN_CHECKED;

#endif
