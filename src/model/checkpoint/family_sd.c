/* SPDX-License-Identifier: Apache-2.0 */
/* family_sd.c - Stable Diffusion 1.x and 2.x.
 *
 * They differ in the text encoder (CLIP ViT-L; OpenCLIP ViT-H, under OpenCLIP's names in single
 * files), in the context's width, and in what 2.x leaves open: the same shapes predict the noise
 * (trained at 512 px) or v (at 768 px), see prediction.c. Linear projections and heads of width 64
 * follow from shapes (config_shapes.c). Some programs write 2.x's text encoder into single files
 * under transformers' names, as that of 1.x; this is 2.x's second row.
 */
#include "model/checkpoint/family.h"

#include "graph/graph.h"

#define UNET_AND_VAE                                          \
    {.net = CN_NET_UNET, .prefix = "model.diffusion_model."}, \
    {                                                         \
        .net = CN_NET_VAE, .prefix = "first_stage_model."     \
    }

static bool fits_sd1(const cn_base *b)
{
    return !b->text[0].open_clip && b->text[0].act != CN_ACT_GELU;
}

const cn_family cn_family_sd1 = {
    .name = "Stable Diffusion 1.x",
    .pipeline = "StableDiffusionPipeline",
    .nets = {UNET_AND_VAE, {.net = CN_NET_TEXT, .prefix = "cond_stage_model.transformer."}},
    .n_nets = 3,
    .n_text = 1,
    .context_dim = 768,
    .scaling_factor = CN_SD_SCALING_FACTOR,
    .sample_size = 64,
    .sample_size_v = 64,
    .fits = fits_sd1,
};

static bool fits_sd2(const cn_base *b)
{
    return b->text[0].open_clip;
}

static bool fits_sd2_hf(const cn_base *b)
{
    return !b->text[0].open_clip && b->text[0].act == CN_ACT_GELU;
}

#define SD2(text_prefix, text_note, fits_it)                                                   \
    {                                                                                          \
        .name = "Stable Diffusion 2.x", .pipeline = "StableDiffusionPipeline",                 \
        .nets = {UNET_AND_VAE,                                                                 \
                 {.net = CN_NET_TEXT,                                                          \
                  .prefix = text_prefix,                                                       \
                  .note = text_note,                                                           \
                  .pads_with_zero = true,                                                      \
                  .leaves_last = true}},                                                       \
        .n_nets = 3, .n_text = 1, .context_dim = 1024, .scaling_factor = CN_SD_SCALING_FACTOR, \
        .sample_size = 64, .sample_size_v = 96, .prediction_open = true, .fits = fits_it,      \
    }

const cn_family cn_family_sd2 = SD2("cond_stage_model.model.", "OpenCLIP", fits_sd2);
const cn_family cn_family_sd2_hf = SD2("cond_stage_model.transformer.", NULL, fits_sd2_hf);
