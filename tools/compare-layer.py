#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""compare-layer.py MODEL LAYER FILE - a layer of diffusers' UNet at the first of two DDIM steps, for the
prompt "a red cube" and seed 1, against what CN_DUMP wrote (docs/debugging.md). MODEL is a diffusers folder."""
import sys

import diffusers
import numpy
import torch

model, layer, path = sys.argv[1:]
pipe = diffusers.StableDiffusionPipeline.from_pretrained(model, torch_dtype=torch.float32, safety_checker=None)
pipe.scheduler = diffusers.DDIMScheduler.from_config(pipe.scheduler.config)
pipe.set_progress_bar_config(disable=True)
seen = []
pipe.unet.get_submodule(layer).register_forward_hook(lambda module, given, result: seen.append(result.detach()))
pipe("a red cube", num_inference_steps=2, generator=torch.Generator().manual_seed(1))
theirs, ours = seen[0].numpy(), numpy.load(path)
if theirs.ndim == 4:
    theirs = theirs.transpose(0, 2, 3, 1)  # NCHW to NHWC
print(f"{layer}: relative difference {abs(ours - theirs).max() / abs(theirs).max():.2g}")
