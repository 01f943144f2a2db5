# SPDX-License-Identifier: Apache-2.0
"""compare.py ENGINE WORK [--model sd15|sdxl] [--dtype f32|bf16] [--px 512] [--batch 1] [--runs 3] [--threads 2]

One work of build/bench as PyTorch (engine "torch") or OpenVINO ("openvino") does it: Stable Diffusion 1.5's or
XL's networks at their real size with random weights, prints the same line of JSON. PyTorch as one tunes it:
channels_last, fused AdamW, bfloat16 by autocast (training) or throughout (drawing), inference_mode.
OpenVINO: static shapes, its own precision hint. compare.sh sets the packages up and calls this.
"""
import argparse
import gc
import json
import resource
import statistics
import time

import torch


# The published models' configurations where diffusers' presets differ.
UNET = {
    "sd15": dict(cross_attention_dim=768, attention_head_dim=8, sample_size=64),
    "sdxl": dict(
        block_out_channels=[320, 640, 1280], transformer_layers_per_block=[1, 2, 10], attention_head_dim=[5, 10, 20],
        down_block_types=["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        up_block_types=["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        cross_attention_dim=2048, use_linear_projection=True, addition_embed_type="text_time",
        addition_time_embed_dim=256, projection_class_embeddings_input_dim=2816, sample_size=128)}
POOLED, NUMBERS = 1280, 6  # SDXL's pooled text and sizes


def networks(work, model):
    from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel

    torch.manual_seed(0)
    if work == "decode":
        blocks = 4
        return AutoencoderKL(
            block_out_channels=[128, 256, 512, 512], layers_per_block=2, latent_channels=4, sample_size=512,
            down_block_types=["DownEncoderBlock2D"] * blocks, up_block_types=["UpDecoderBlock2D"] * blocks)
    unet = UNet2DConditionModel(**UNET[model])
    control = ControlNetModel.from_unet(unet)
    for p in control.parameters():  # zero convolutions would be a special case of nothing
        if not p.any():
            torch.nn.init.normal_(p, std=1e-3)
    return unet, control


def predict(unet, control, x, t, context, image, *added):
    """What both networks make of their inputs, or the UNet alone; added: SDXL's pooled text and sizes."""
    more = dict(zip(("text_embeds", "time_ids"), added)) if added else None
    down = mid = None
    if control is not None:
        down, mid = control(x, t, encoder_hidden_states=context, controlnet_cond=image, added_cond_kwargs=more,
                            return_dict=False)
    return unet(x, t, encoder_hidden_states=context, down_block_additional_residuals=down,
                mid_block_additional_residual=mid, added_cond_kwargs=more, return_dict=False)[0]


class Draw(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.unet, self.control = networks("draw", model)

    def forward(self, x, t, context, image, *added):
        return predict(self.unet, self.control, x, t, context, image, *added)


class Decode(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.vae = networks("decode", model)

    def forward(self, z):
        return self.vae.decode(z, return_dict=False)[0]


def inputs(o, work):
    side = o.px // 8
    x = torch.randn(o.batch, 4, side, side)
    if work == "decode":
        return [x]
    width = UNET[o.model]["cross_attention_dim"]
    basic = [x, torch.full((o.batch,), 500.0), torch.randn(o.batch, 77, width), torch.rand(o.batch, 3, o.px, o.px)]
    added = [torch.randn(o.batch, POOLED), torch.full((o.batch, NUMBERS), float(o.px))]
    return basic + (added if o.model == "sdxl" else [])


def torch_infer(o):
    net = (Draw if o.work == "draw" else Decode)(o.model).eval().requires_grad_(False)
    dtype = torch.bfloat16 if o.dtype == "bf16" else torch.float32
    net = net.to(dtype).to(memory_format=torch.channels_last)
    args = [a.to(dtype) for a in inputs(o, o.work)]

    def run():
        with torch.inference_mode():
            net(*args)

    return run


def torch_train(o):
    """train: a ControlNet beside a locked UNet; finetune: the UNet itself, without one."""
    unet, control = networks("train", o.model)
    if o.work == "finetune":
        control, trained = None, unet
    else:
        trained = control
        unet.requires_grad_(False).to(torch.bfloat16 if o.dtype == "bf16" else torch.float32)
        unet.to(memory_format=torch.channels_last)
    trained.train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(trained.parameters(), lr=1e-5, fused=True)
    args = inputs(o, "train")
    target = torch.randn_like(args[0])

    def run():
        with torch.autocast("cpu", torch.bfloat16, enabled=o.dtype == "bf16"):
            y = predict(unet, control, *args)
        torch.nn.functional.mse_loss(y.float(), target).backward()
        torch.nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return run


def openvino_infer(o):
    import openvino as ov

    net = (Draw if o.work == "draw" else Decode)(o.model).eval().requires_grad_(False)
    args = inputs(o, o.work)
    with torch.no_grad():
        model = ov.convert_model(net, example_input=args, input=[list(a.shape) for a in args])
    del net
    gc.collect()
    compiled = ov.Core().compile_model(model, "CPU", {
        "INFERENCE_PRECISION_HINT": o.dtype, "INFERENCE_NUM_THREADS": o.threads, "PERFORMANCE_HINT": "LATENCY"})
    del model
    gc.collect()
    request = compiled.create_infer_request()
    data = [a.numpy() for a in args]
    return lambda: request.infer(data)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("engine", choices=["torch", "openvino"])
    p.add_argument("work", choices=["draw", "decode", "train", "finetune"])
    p.add_argument("--model", choices=list(UNET), default="sd15")
    p.add_argument("--dtype", choices=["f32", "bf16"], default="f32")
    p.add_argument("--px", type=int, default=512)
    p.add_argument("--batch", type=int, default=1)
    p.add_argument("--runs", type=int, default=3)
    p.add_argument("--threads", type=int, default=2)
    o = p.parse_args()
    torch.set_num_threads(o.threads)
    make = openvino_infer if o.engine == "openvino" else torch_train if o.work in ("train", "finetune") else torch_infer
    run = make(o)
    run()  # not counted
    seconds = []
    for _ in range(o.runs):
        begun = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begun)
    print(json.dumps({
        "engine": o.engine, "work": o.work, "model": o.model, "dtype": o.dtype, "px": o.px, "batch": o.batch, "threads": o.threads,
        "seconds_min": round(min(seconds), 4), "seconds_median": round(statistics.median(seconds), 4),
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}), flush=True)


main()
