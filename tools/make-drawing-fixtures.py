# SPDX-License-Identifier: Apache-2.0
"""Writes OUT_DIR/drawing, OUT_DIR/inpainting and OUT_DIR/sampling (tests/golden): what diffusers' pipelines draw with
control modes, weights per block, region masks, several ControlNets with windows, initial images, masks, a second pass and
an inpainting UNet of 9 channels; and with every sampler from noise and from pictures, with masks, in a second pass, with
zero terminal SNR and rescaled guidance; and OUT_DIR/distilled, a UNet that is told the guidance scale. Float32 on the CPU.

Usage: make-drawing-fixtures.py OUT_DIR CORE_DIR TOKENIZER_DIR [NAME...]
(NAME: drawing, inpainting, distilled, conditions, sampling; without one all)
CORE_DIR: manifests of the small Stable Diffusion 1.5 (tests/golden/core); the weights follow from names (cn_seed_tensor).
What diffusers has no option for is done by a wrapper around the ControlNet's forward (the webui extension's
scripts/hook.py says what to do). Only final latents are kept.
"""
import json, os, sys
import cv2, numpy as np, torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from diffusers import *
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from seeds import unit

out, core, tokenizer_dir, *wanted = sys.argv[1:]
torch.set_grad_enabled(False)
W, H = 128, 64
PROMPT, NEGATIVE = "a cute dog, best quality", "lowres, bad anatomy"


def network(cls, name, salt="", in_channels=None, time_cond_proj_dim=None):
    m = json.load(open(f"{core}/{name}.manifest.json"))
    if in_channels:
        m["config"]["in_channels"] = in_channels
    if time_cond_proj_dim:
        m["config"]["time_cond_proj_dim"] = time_cond_proj_dim
        m["tensors"].append(dict(name="time_embedding.cond_proj.weight", key="unet.time_embedding.cond_proj.weight",
                                 shape=[m["config"]["block_out_channels"][0], time_cond_proj_dim], offset=0.0,
                                 scale=float(np.float32((3.0 / time_cond_proj_dim) ** 0.5))))
    state = {}
    for e in m["tensors"]:
        if in_channels and e["name"] == "conv_in.weight":
            e["shape"][1] = in_channels
        v = np.float32(e["offset"]) + np.float32(e["scale"]) * unit(salt + e["key"], e["shape"])
        state[e["name"]] = torch.from_numpy(v).half().float()
    net = cls(CLIPTextConfig(**m["config"])) if cls is CLIPTextModel else cls(**m["config"])
    names = net.state_dict()
    state = {(k if k in names else k.removeprefix("text_model.")): v for k, v in state.items()}
    missing = net.load_state_dict(state, strict=False).missing_keys
    assert all("position_ids" in k for k in missing), missing
    return net.eval()


class Steered(ControlNetModel):
    """A ControlNet whose residuals are weighed one by one and masked, as the webui extension does."""

    weights = region = None

    def forward(self, *args, conditioning_scale=1.0, guess_mode=False, **kw):
        down, mid = super().forward(*args, conditioning_scale=conditioning_scale, guess_mode=False, **kw)
        every = list(down) + [mid]
        if self.weights is not None:
            every = [r * w for r, w in zip(every, self.weights)]
        if self.region is not None:
            every = [r * F.interpolate(self.region, size=r.shape[2:], mode="bilinear") for r in every]
        return every[:-1], every[-1]


SOFT = [0.825 ** float(12 - i) for i in range(13)]
CURVE = [1, 0.9, 0, 0.8, 0.7, 0.6, 0.5, -0.4, 0.3, 0.2, 1.5, 0.1, 0.75]
schedule = dict(num_train_timesteps=1000, beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, steps_offset=1,
                clip_sample=False, set_alpha_to_one=False)
clip = network(CLIPTextModel, "text_encoder")
if not hasattr(clip, "text_model"):
    clip.__dict__["text_model"] = clip  # diffusers asks for the name that transformers 5 dropped
tokenizer = CLIPTokenizer.from_pretrained(tokenizer_dir, model_max_length=77)
vae = network(AutoencoderKL, "vae")
nets = {n: network(Steered, "controlnet", n[-1] + ".") for n in ("controlnet_a", "controlnet_b")}
nets["controlnet_pooled"] = network(Steered, "controlnet", "a.")
nets["controlnet_pooled"].register_to_config(global_pool_conditions=True)


def pictures(folder, cases):
    """Condition, second condition, photograph, mask and region, all of W x H, made from formulas."""
    y, x = np.mgrid[0:H, 0:W]
    edges = np.zeros((H, W, 3), np.uint8)
    cv2.rectangle(edges, (20, 12), (70, 50), (255, 255, 255), 1)
    cv2.circle(edges, (95, 30), 18, (255, 255, 255), 1)
    blocks = np.zeros((H, W, 3), np.uint8)
    blocks[10:40, 30:60] = (200, 60, 20)
    blocks[24:60, 80:120] = (10, 250, 130)
    photo = np.stack([x * 2 % 256, (y * 4 + x) % 256, 128 + 100 * np.sin(x / 9) * np.cos(y / 7)], -1).astype(np.uint8)
    mask = np.zeros((H, W), np.uint8)
    mask[11:45, 37:90] = 255
    region = np.clip((x - 40) * 8, 0, 255).astype(np.uint8)
    images = dict(edges=edges, blocks=blocks, photo=photo, mask=mask, region=region)
    used = json.dumps(cases)
    for name, a in images.items():
        if f'"{name}.png"' in used:
            Image.fromarray(a).save(f"{folder}/{name}.png", optimize=True)
    return {n: Image.fromarray(a) for n, a in images.items()}


def inpaint_condition(image, mask):
    """diffusers' make_inpaint_condition (StableDiffusionControlNetInpaintPipeline's documentation)."""
    image = np.asarray(image.convert("RGB"), np.float32) / 255
    image = np.where((np.asarray(mask.convert("L"), np.float32) / 255 > 0.5)[..., None], np.float32(-1), image)
    return torch.from_numpy(image.transpose(2, 0, 1)[None].copy())


def control(case, images):
    """The case's ControlNets set up, and the pipelines' arguments for them."""
    used = []
    for k, name in enumerate(case["controlnet"]):
        n = nets[name]
        mode = case.get("control_mode", ["balanced"] * 9)[k]
        n.weights = case["control_weights"][k] if case.get("control_weights", [None] * 9)[k] else \
            SOFT if mode != "balanced" else None
        region = case.get("control_mask", [None] * 9)[k]
        n.region = None
        if region:
            n.region = torch.from_numpy(np.asarray(images[region[:-4]], np.float32) / 255)[None, None]
        used.append(n)
    one = len(used) == 1
    first = (lambda v: v[0]) if one else (lambda v: v)
    # Guess mode's halves alone: the wrapper leaves its weights out.
    return dict(controlnet=first(used)), dict(
        controlnet_conditioning_scale=first(case["scale"]), guess_mode=case.get("control_mode", [""])[0] == "controlnet",
        control_guidance_start=case.get("start", 0.0), control_guidance_end=case.get("end", 1.0))


SAMPLERS = dict(ddim=DDIMScheduler, pndm=PNDMScheduler, ddpm=DDPMScheduler, euler=EulerDiscreteScheduler,
                euler_a=EulerAncestralDiscreteScheduler, heun=HeunDiscreteScheduler, dpmpp_2m=DPMSolverMultistepScheduler,
                dpmpp_2m_sde=DPMSolverMultistepScheduler, unipc=UniPCMultistepScheduler, lcm=LCMScheduler, tcd=TCDScheduler)


def scheduler_of(case):
    """The sampler's class with the model's schedule and the case's own settings, else its defaults."""
    name = case["sampler"].removesuffix("_karras")
    own = {k: case[k] for k in ("timestep_spacing", "rescale_betas_zero_snr") if k in case}
    if case.get("v_prediction"):
        own["prediction_type"] = "v_prediction"
    if name != case["sampler"]:
        own["use_karras_sigmas"] = True
    if name == "pndm":
        own["skip_prk_steps"] = True
    if name == "dpmpp_2m_sde":
        own["algorithm_type"] = "sde-dpmsolver++"
    return SAMPLERS[name].from_config({**schedule, **own})


def draw(unet, case, images):
    base = dict(vae=vae, text_encoder=clip, tokenizer=tokenizer, unet=unet, safety_checker=None, feature_extractor=None,
                requires_safety_checker=False, scheduler=scheduler_of(case))
    args = dict(prompt=PROMPT, negative_prompt=NEGATIVE, num_inference_steps=case["steps"], guidance_scale=case["cfg_scale"],
                generator=torch.Generator().manual_seed(case["seed"]), num_images_per_prompt=case.get("batch", 1),
                output_type="latent")
    if "guidance_rescale" in case:
        args["guidance_rescale"] = case["guidance_rescale"]
    nets_used = case.get("controlnet")
    hints = [images[i[:-4]].convert("RGB") for i in case.get("image", [])]
    hints = hints[0] if len(hints) == 1 else hints
    if "inpaint" in case.get("arguments", []):
        hints = inpaint_condition(hints, images["mask"])
    extra, more = control(case, images) if nets_used else ({}, {})
    args |= more
    if "mask" in case:
        kind = StableDiffusionControlNetInpaintPipeline if nets_used else StableDiffusionInpaintPipeline
        args |= dict(image=images["photo"], mask_image=images["mask"], strength=case["strength"], width=W, height=H)
        if nets_used:
            args["control_image"] = hints
    elif "init" in case:
        kind = StableDiffusionControlNetImg2ImgPipeline if nets_used else StableDiffusionImg2ImgPipeline
        args |= dict(image=images["photo"], strength=case["strength"])
        if nets_used:
            args["control_image"] = hints
    else:
        kind = StableDiffusionControlNetPipeline if nets_used else StableDiffusionPipeline
        args |= dict(image=hints) if nets_used else dict(width=W, height=H)
    pipe = kind(**base, **extra)
    pipe.set_progress_bar_config(disable=True)
    latents = pipe(**args).images
    return latents if "hires_scale" not in case else enlarge(case, base, extra, more, args, hints, pipe, latents)


def enlarge(case, base, extra, more, args, hint, pipe, latents):
    """The second pass: an img2img pipeline that starts from the enlarged result and goes on with the generator."""
    s = case["hires_scale"]
    size = (int(W * s), int(H * s))
    kind = StableDiffusionControlNetImg2ImgPipeline if extra else StableDiffusionImg2ImgPipeline
    start = F.interpolate(latents, scale_factor=s, mode="bilinear")
    if case["hires_upscaler"] == "pixel":
        decoded = vae.decode(latents / vae.config.scaling_factor).sample
        small = pipe.image_processor.postprocess(decoded, output_type="pil")
        start = [Image.fromarray(cv2.resize(np.asarray(i), size, interpolation=cv2.INTER_LANCZOS4)) for i in small]
    keep = ("prompt", "negative_prompt", "guidance_scale", "generator", "output_type", "num_images_per_prompt")
    again = {k: args[k] for k in keep} | more
    if case["hires_upscaler"] == "pixel":
        again |= dict(prompt=[PROMPT] * len(start), negative_prompt=[NEGATIVE] * len(start), num_images_per_prompt=1)
    if extra:
        larger = cv2.resize(np.asarray(hint), size, interpolation=cv2.INTER_LANCZOS4)
        again["control_image"] = Image.fromarray(larger)
    second = kind(**{**base, "scheduler": scheduler_of(case)}, **extra)
    second.set_progress_bar_config(disable=True)
    return second(**again, image=start, strength=case["hires_strength"], num_inference_steps=case["hires_steps"]).images


def write(name, unet, cases, config=None):
    if wanted and name not in wanted:
        return
    folder = f"{out}/{name}"
    os.makedirs(folder, exist_ok=True)
    images, latents = pictures(folder, cases), {}
    for label, c in cases.items():
        c.setdefault("sampler", "ddim")
        c.update(kind="drawing", prompt=PROMPT, negative_prompt=NEGATIVE, width=W, height=H)
        latents[label] = draw(unet, c, images).contiguous()
        print(name, label, tuple(latents[label].shape), float(latents[label].abs().max()))
    save_file(latents, f"{folder}/cases.safetensors")
    json.dump(cases, open(f"{folder}/cases.json", "w"), indent=1)
    if config:
        json.dump(config, open(f"{folder}/unet.json", "w"))


one = dict(controlnet=["controlnet_a"], image=["edges.png"], scale=[0.9], steps=3, cfg_scale=6.0)
write("drawing", network(UNet2DConditionModel, "unet"), {
    "mode_prompt": dict(one, seed=1, control_mode=["prompt"]),
    "mode_controlnet": dict(one, seed=2, control_mode=["controlnet"]),
    "weights": dict(one, seed=3, control_weights=[CURVE]),
    "region_mask": dict(one, seed=4, control_mask=["region.png"]),
    "two": dict(one, seed=5, controlnet=["controlnet_a", "controlnet_b"], image=["edges.png", "blocks.png"], scale=[0.7, 1.2],
                control_mask=[None, "region.png"], control_weights=[CURVE, None], start=[0.0, 0.3], end=[0.6, 1.0], steps=5),
    "image_batch": dict(steps=6, cfg_scale=5.0, seed=6, init="photo.png", strength=0.5, batch=2),
    "mask_part": dict(one, seed=7, init="photo.png", mask="mask.png", strength=0.7, steps=6, batch=2),
    "mask_alone": dict(steps=4, cfg_scale=5.0, seed=8, init="photo.png", mask="mask.png", strength=1.0),
    "second_latent": dict(one, seed=9, hires_scale=2.0, hires_steps=5, hires_strength=0.6, hires_upscaler="latent"),
    "second_pixel": dict(steps=3, cfg_scale=5.0, seed=10, batch=2, hires_scale=1.5, hires_steps=4, hires_strength=0.5,
                         hires_upscaler="pixel"),
})
write("inpainting", network(UNet2DConditionModel, "unet", in_channels=9), {
    "inpaint": dict(steps=4, cfg_scale=6.0, seed=11, init="photo.png", mask="mask.png", strength=1.0),
    "inpaint_part": dict(steps=6, cfg_scale=6.0, seed=12, init="photo.png", mask="mask.png", strength=0.6, batch=2),
    "inpaint_control": dict(one, seed=13, init="photo.png", mask="mask.png", strength=1.0),
}, {"in_channels": 9})
# The pipelines hand their own eta, 0, to the sampler.
write("distilled", network(UNet2DConditionModel, "unet", time_cond_proj_dim=32), {
    "lcm": dict(sampler="lcm", steps=4, cfg_scale=8.5, seed=14),
    "lcm_control": dict(one, sampler="lcm", cfg_scale=3.0, seed=15),
    "tcd": dict(sampler="tcd", steps=3, cfg_scale=1.0, seed=16, batch=2, arguments=["--eta=0"]),
    "image": dict(sampler="lcm", steps=6, cfg_scale=5.0, seed=17, init="photo.png", strength=0.5),
}, {"time_cond_proj_dim": 32})
write("conditions", network(UNet2DConditionModel, "unet"), {
    "pooled": dict(one, seed=14, controlnet=["controlnet_pooled"], image=["blocks.png"], batch=2),
    "blank": dict(one, seed=16, image=["photo.png"], init="photo.png", mask="mask.png", strength=1.0,
                  arguments=["--control-preprocessor", "inpaint"]),
    "blank_part": dict(one, seed=17, image=["photo.png"], init="photo.png", mask="mask.png", strength=0.7, steps=6,
                       arguments=["--control-preprocessor", "inpaint"]),
})

# Second-order and multistep methods, ancestral ones and those with timesteps of their own, in every way to start.
W, H = 64, 64
sampling = {}
for i, sampler in enumerate(s for s in SAMPLERS if s != "tcd"):
    case = dict(sampler=sampler, cfg_scale=4.0)
    sampling[f"{sampler}_image"] = dict(case, seed=20 + i, steps=5, init="photo.png", strength=0.6)
    sampling[f"{sampler}_mask"] = dict(case, seed=40 + i, steps=4, init="photo.png", mask="mask.png",
                                       strength=1.0 if i % 2 else 0.75)
    sampling[f"{sampler}_second"] = dict(case, seed=60 + i, steps=2, hires_scale=1.5, hires_steps=5, hires_strength=0.6,
                                         hires_upscaler="latent")
    if sampler in ("ddpm", "heun", "dpmpp_2m_sde", "lcm"):
        sampling[f"{sampler}_control"] = one | case | dict(seed=80 + i, steps=5, start=0.2, end=0.7)
for sampler in ("heun_karras", "dpmpp_2m_sde_karras", "unipc_karras", "euler_karras"):
    sampling[sampler] = dict(sampler=sampler, cfg_scale=4.0, seed=9, steps=4, batch=2)
for i, sampler in enumerate(("ddim", "euler", "euler_a", "dpmpp_2m", "unipc", "ddpm")):
    sampling[f"{sampler}_zero_snr"] = dict(sampler=sampler, cfg_scale=3.0, seed=101 + i, steps=4, v_prediction=True,
                                           rescale_betas_zero_snr=True, timestep_spacing="trailing", guidance_rescale=0.7,
                                           batch=1 + i % 2)
write("sampling", network(UNet2DConditionModel, "unet"), sampling)
