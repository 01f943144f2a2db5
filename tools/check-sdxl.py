# SPDX-License-Identifier: Apache-2.0
"""Draws with SDXL here and in diffusers what the reference's cases don't have: a refiner's last steps, the refiner by itself, an inpainting
UNet of 9 channels, and the few steps without guidance of Turbo and Lightning models.

Usage: check-sdxl.py CONTROLNET_PROGRAM SDXL_FOLDER WORK_FOLDER (build/controlnet reference/sdxl/model /tmp/check)
Opt-in: needs PyPI's torch and diffusers. WORK_FOLDER gets a small refiner and an inpainting model with random weights, which share the SDXL
folder's other networks. Final latents of both programs must be within 1e-3 of the largest. Exit status 1 when anything falls short.
"""
import os, subprocess, sys
import numpy as np, torch
from PIL import Image
from diffusers import (DDIMScheduler, EulerAncestralDiscreteScheduler, EulerDiscreteScheduler, HeunDiscreteScheduler,
                       StableDiffusionXLImg2ImgPipeline, StableDiffusionXLInpaintPipeline, StableDiffusionXLPipeline,
                       UNet2DConditionModel)
from safetensors.torch import load_file

program, model, work = sys.argv[1:4]
os.makedirs(work, exist_ok=True)
torch.set_grad_enabled(False)
base = StableDiffusionXLPipeline.from_pretrained(model, torch_dtype=torch.float32)
torch.manual_seed(7)
width, projection = base.text_encoder_2.config.hidden_size, base.text_encoder_2.config.projection_dim
unet = UNet2DConditionModel(
    sample_size=base.unet.config.sample_size, block_out_channels=(32, 64, 64, 32), layers_per_block=2, cross_attention_dim=width,
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), attention_head_dim=(1, 1, 1, 1),
    transformer_layers_per_block=(1, 2, 1, 1), use_linear_projection=True, addition_embed_type="text_time",
    addition_time_embed_dim=16, projection_class_embeddings_input_dim=projection + 5 * 16)


def fill(net):
    """No layer may start at 0."""
    for p in net.parameters():
        if p.ndim >= 2:
            p.normal_(0, (1 / np.prod(p.shape[1:])) ** 0.5)


fill(unet)
refiner = StableDiffusionXLImg2ImgPipeline(
    vae=base.vae, text_encoder=None, text_encoder_2=base.text_encoder_2, tokenizer=None, tokenizer_2=base.tokenizer_2, unet=unet,
    scheduler=base.scheduler, requires_aesthetics_score=True, force_zeros_for_empty_prompt=False)
refiner.save_pretrained(f"{work}/refiner")
for pipe in (base, refiner):
    pipe.set_progress_bar_config(disable=True)
y, x = np.mgrid[0:96, 0:128]
photo = Image.fromarray(np.stack([x * 2 % 256, (y * 4 + x) % 256, (x * y) % 256], -1).astype(np.uint8))
photo.save(f"{work}/photo.png")
PROMPT, NEGATIVE = "a cute dog, best quality", "lowres, bad anatomy"
kinds = dict(euler=EulerDiscreteScheduler, ddim=DDIMScheduler, heun=HeunDiscreteScheduler)
failed = 0


def here(*words):
    subprocess.run([program, "generate", "-p", PROMPT, "-W", "128", "-H", "96", "--seed", "3", "--cfg-scale", "5", "-o",
                    f"{work}/out.png", "--save-latents", f"{work}/out.safetensors", *map(str, words)], check=True,
                   stdout=subprocess.DEVNULL)
    return load_file(f"{work}/out.safetensors")["latents"]


def compare(what, got, want):
    global failed
    error = float((got - want).abs().max() / want.abs().max())
    failed += not error <= 1e-3
    print(f"{'ok  ' if error <= 1e-3 else 'FAIL'} {what}: {error:.2g} of the largest", flush=True)


def refined(sampler, steps, start, words=(), negative=NEGATIVE, **more):
    for pipe in (base, refiner):
        pipe.scheduler = kinds[sampler].from_config(pipe.scheduler.config)
    g = torch.Generator().manual_seed(3)
    same = dict(prompt=PROMPT, negative_prompt=negative, num_inference_steps=steps, guidance_scale=5, generator=g, output_type="latent")
    middle = base(**same, width=128, height=96, denoising_end=start).images
    want = refiner(**same, image=middle, denoising_start=start, original_size=(96, 128), target_size=(96, 128), **more).images
    words = list(words) + (["-n", negative] if negative is not None else [])
    got = here("-m", model, "--refiner", f"{work}/refiner", "--refiner-start", start, "--sampling-method", sampler, "--steps", steps,
               *words)
    compare(f"{sampler}, {steps} steps, {start} {' '.join(words[:2])}", got, want)


refined("euler", 5, 0.6)
refined("euler", 5, 0.6, ("--aesthetic-score=3", "--negative-aesthetic-score=7"), aesthetic_score=3.0, negative_aesthetic_score=7.0)
refined("euler", 4, 0.8, negative=None)
refined("ddim", 6, 0.5)
refined("heun", 4, 0.5)
g = torch.Generator().manual_seed(3)
refiner.scheduler = EulerDiscreteScheduler.from_config(refiner.scheduler.config)
want = refiner(PROMPT, negative_prompt=NEGATIVE, image=photo, strength=0.6, num_inference_steps=5, guidance_scale=5, generator=g,
               output_type="latent").images
got = here("-m", f"{work}/refiner", "-n", NEGATIVE, "-i", f"{work}/photo.png", "--strength", 0.6, "--steps", 5, "--sampling-method", "euler")
compare("the refiner by itself over a picture", got, want)

# Turbo and Lightning: few steps from the last timestep on, without guidance.
for sampler, cls, steps in (("euler_a", EulerAncestralDiscreteScheduler, 1), ("euler_a", EulerAncestralDiscreteScheduler, 3),
                            ("euler", EulerDiscreteScheduler, 4)):
    base.scheduler = cls.from_config(base.scheduler.config, timestep_spacing="trailing")
    want = base(PROMPT, num_inference_steps=steps, guidance_scale=0, generator=torch.Generator().manual_seed(3), width=128, height=96,
                output_type="latent").images
    got = here("-m", model, "--steps", steps, "--sampling-method", sampler, "--timestep-spacing", "trailing", "--cfg-scale", 1)
    compare(f"{sampler}, {steps} steps of trailing spacing, without guidance", got, want)

mask = np.zeros((96, 128), np.uint8)
mask[24:72, 40:104] = 255
mask = Image.fromarray(mask)
mask.save(f"{work}/mask.png")
nine = UNet2DConditionModel.from_config({**base.unet.config, "in_channels": 9})
fill(nine)
inpaint = StableDiffusionXLInpaintPipeline(
    vae=base.vae, text_encoder=base.text_encoder, text_encoder_2=base.text_encoder_2, tokenizer=base.tokenizer,
    tokenizer_2=base.tokenizer_2, unet=nine, scheduler=EulerDiscreteScheduler.from_config(refiner.scheduler.config))
inpaint.set_progress_bar_config(disable=True)
inpaint.save_pretrained(f"{work}/inpaint")
for strength in (1.0, 0.6):
    want = inpaint(PROMPT, negative_prompt=NEGATIVE, image=photo, mask_image=mask, strength=strength, num_inference_steps=5,
                   guidance_scale=5, generator=torch.Generator().manual_seed(3), width=128, height=96, output_type="latent").images
    got = here("-m", f"{work}/inpaint", "-n", NEGATIVE, "-i", f"{work}/photo.png", "--mask", f"{work}/mask.png", "--mask-style", "diffusers",
               "--strength", strength, "--steps", 5, "--sampling-method", "euler")
    compare(f"an inpainting UNet, strength {strength}", got, want)
sys.exit(failed > 0)
