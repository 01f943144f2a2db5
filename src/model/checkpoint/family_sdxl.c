/* SPDX-License-Identifier: Apache-2.0 */
/* family_sdxl.c - Stable Diffusion XL (Podell et al., "SDXL: Improving Latent Diffusion Models for
 * High-Resolution Image Synthesis").
 *
 * Two text encoders, CLIP ViT-L and OpenCLIP ViT-bigG, whose features stand side by side, each of
 * the layer before the last. The second one's pooled output, with six numbers (original size, crop,
 * target size), goes into the UNet as an added embedding, by which a base is told apart.
 *
 * The refiner, a smaller UNet for the last steps, has the second encoder alone, which its folders
 * call text_encoder_2; of its five numbers the last is an aesthetic score.
 */
#include "model/checkpoint/family.h"

static bool fits_sdxl(const cn_base *b)
{
    return b->unet.added_dim > 0 && b->text[1].hidden > 0;
}

const cn_family cn_family_sdxl = {
    .name = "Stable Diffusion XL",
    .pipeline = "StableDiffusionXLPipeline",
    .nets = {{.net = CN_NET_UNET, .prefix = "model.diffusion_model."},
             {.net = CN_NET_VAE, .prefix = "first_stage_model."},
             {.net = CN_NET_TEXT,
              .prefix = "conditioner.embedders.0.transformer.",
              .penultimate = true,
              .embedding = "clip_l"},
             {.net = CN_NET_TEXT + 1,
              .prefix = "conditioner.embedders.1.model.",
              .note = "OpenCLIP",
              .pads_with_zero = true,
              .penultimate = true,
              .pools = true,
              .embedding = "clip_g"}},
    .n_nets = 4,
    .n_text = 2,
    .context_dim = 2048,
    .scaling_factor = 0.13025f,
    .sample_size = 128,
    .sample_size_v = 128,
    .zeros_for_no_negative = true,
    .spacing = CN_SPACING_LEADING,
    .added_numbers = 6,
    .fits = fits_sdxl,
};

static bool fits_refiner(const cn_base *b)
{
    return b->unet.added_dim > 0 && b->text[1].hidden == 0;
}

const cn_family cn_family_sdxl_refiner = {
    .name = "Stable Diffusion XL's refiner",
    .pipeline = "StableDiffusionXLImg2ImgPipeline",
    .nets = {{.net = CN_NET_UNET, .prefix = "model.diffusion_model."},
             {.net = CN_NET_VAE, .prefix = "first_stage_model."},
             {.net = CN_NET_TEXT,
              .prefix = "conditioner.embedders.0.model.",
              .note = "OpenCLIP",
              .pads_with_zero = true,
              .penultimate = true,
              .pools = true,
              .second = true,
              .embedding = "clip_g"}},
    .n_nets = 3,
    .n_text = 1,
    .context_dim = 1280,
    .scaling_factor = 0.13025f,
    .sample_size = 128,
    .sample_size_v = 128,
    .spacing = CN_SPACING_LEADING,
    .added_numbers = 5,
    .fits = fits_refiner,
};
