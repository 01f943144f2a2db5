# SPDX-License-Identifier: Apache-2.0
"""Writes OUT_DIR (tests/golden/ip_adapter): a small CLIP image encoder, IP-Adapters in the forms that tencent-ailab publishes
(plain, plus, full-face as .bin), what transformers and diffusers make of a picture with them, what diffusers' pipelines draw
with them, and what a small SDXL UNet gives beside a plain one. Float32 on the CPU; weights follow from names (cn_seed_tensor).

Usage: make-ip-adapter-fixtures.py OUT_DIR CORE_DIR TOKENIZER_DIR [SDXL_DIR SDXL_OUT]
CORE_DIR: manifests of the small Stable Diffusion 1.5 (tests/golden/core). SDXL_DIR: a small SDXL model as a diffusers folder;
SDXL_OUT gets an IP-Adapter for it, cases.json and their latents, for `e2e SDXL_OUT` beside a link `model` to it.
"""
import json, os, sys
import numpy as np, torch
from PIL import Image
from safetensors.torch import save_file
from diffusers import (AutoencoderKL, ControlNetModel, DDIMScheduler, StableDiffusionControlNetPipeline,
                       StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel)
from diffusers.image_processor import IPAdapterMaskProcessor
from transformers import (CLIPImageProcessor, CLIPTextConfig, CLIPTextModel, CLIPTokenizer, CLIPVisionConfig,
                          CLIPVisionModelWithProjection)

from seeds import unit

out, core, tokenizer_dir, *sdxl = sys.argv[1:]
torch.set_grad_enabled(False)
os.makedirs(f"{out}/image_encoder", exist_ok=True)
W, H = 128, 64
PROMPT, NEGATIVE = "a cute dog, best quality", "lowres, bad anatomy"


def entry(name, key, shape):
    if len(shape) >= 2:
        return dict(name=name, key=key, shape=shape, offset=0.0, scale=float(np.float32((3.0 / np.prod(shape[1:])) ** 0.5)))
    weight = name.endswith("weight")
    return dict(name=name, key=key, shape=shape, offset=1.0 if weight else 0.0, scale=0.1 if weight else 0.05)


def values(e):
    return torch.from_numpy(np.float32(e["offset"]) + np.float32(e["scale"]) * unit(e["key"], e["shape"]))


def seeded(prefix, shapes):
    return {n: values(entry(n, prefix + n, list(s))).half() for n, s in shapes.items()}


def loaded(net, state):
    missing = net.load_state_dict({k: v.float() for k, v in state.items()}, strict=False).missing_keys
    assert all("position_ids" in k for k in missing), missing
    return net.eval()


# --- pictures ----------------------------------------------------------------------------------------------------

def picture(w, h, phase):
    y, x = np.mgrid[0:h, 0:w]
    a = [128 + 120 * np.sin(x / 7 + phase) * np.cos(y / 5), (x * 5 + y * 3 * phase) % 256, 255 * ((x // 9 + y // 6) % 2)]
    return Image.fromarray(np.stack(a, -1).astype(np.uint8))


one, two = picture(131, 83, 1), picture(40, 61, 2)  # both ways: shrunk and enlarged
region = np.zeros((H, W), np.uint8)
region[:, 64:] = 255  # no sample of diffusers' bicubic shrinking lies near its edge
edges = np.zeros((H, W, 3), np.uint8)
edges[12:50, 20] = edges[12:50, 70] = edges[12, 20:70] = edges[49, 20:70] = 255
one.save(f"{out}/one.png", optimize=True)
two.save(f"{out}/two.png", optimize=True)
Image.fromarray(region).save(f"{out}/region.png", optimize=True)
Image.fromarray(edges).save(f"{out}/edges.png", optimize=True)
two.resize((56, 85), Image.BICUBIC).save(f"{out}/two_56x85.png", optimize=True)
one.resize((88, 56), Image.BICUBIC).save(f"{out}/one_88x56.png", optimize=True)

# --- the image encoder -------------------------------------------------------------------------------------------

VISION = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=2, image_size=56, patch_size=14,
              projection_dim=24, hidden_act="gelu", num_channels=3, layer_norm_eps=1e-5)
encoder = CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION))
shapes = {k: v.shape for k, v in encoder.state_dict().items() if not k.endswith("position_ids")}
state = seeded("image_encoder.", shapes)
loaded(encoder, state)
assert any(k.startswith("vision_model.") for k in state), list(state)[:3]
save_file(state, f"{out}/image_encoder/model.safetensors")
json.dump(dict(architectures=["CLIPVisionModelWithProjection"], model_type="clip_vision_model", **VISION),
          open(f"{out}/image_encoder/config.json", "w"), indent=1)
processor = CLIPImageProcessor(size=56, crop_size=56)
pixels = processor(one, return_tensors="pt").pixel_values
seen = encoder(pixels, output_hidden_states=True)
golden = {"pixels": pixels, "projected": seen.image_embeds[:, None], "before": seen.hidden_states[-2],
          "before_zeros": encoder(torch.zeros_like(pixels), output_hidden_states=True).hidden_states[-2]}

# --- IP-Adapters -------------------------------------------------------------------------------------------------

HIDDEN, PROJECTED = VISION["hidden_size"], VISION["projection_dim"]


def pairs(unet, context):
    """Keys and values numbered as tencent-ailab's files are, in the order of the UNet's attention processors."""
    shapes, number = {}, 1
    for name in unet.attn_processors:
        if name.endswith("attn1.processor"):
            continue
        width = unet.get_submodule(name.removesuffix(".processor")).to_q.weight.shape[0]
        shapes |= {f"{number}.to_k_ip.weight": (width, context), f"{number}.to_v_ip.weight": (width, context)}
        number += 2
    return shapes


def plain(context, tokens=4):
    return {"proj.weight": (tokens * context, PROJECTED), "proj.bias": (tokens * context,), "norm.weight": (context,),
            "norm.bias": (context,)}


def full(context):
    return {"proj.0.weight": (HIDDEN, HIDDEN), "proj.0.bias": (HIDDEN,), "proj.2.weight": (context, HIDDEN),
            "proj.2.bias": (context,), "proj.3.weight": (context,), "proj.3.bias": (context,)}


def plus(context, tokens=6, width=48, heads=1, depth=4):  # diffusers reads four layers
    shapes = {"latents": (1, tokens, width), "proj_in.weight": (width, HIDDEN), "proj_in.bias": (width,),
              "proj_out.weight": (context, width), "proj_out.bias": (context,), "norm_out.weight": (context,),
              "norm_out.bias": (context,)}
    for i in range(depth):
        a, f = f"layers.{i}.0.", f"layers.{i}.1."
        shapes |= {a + n + s: (width,) for n in ("norm1", "norm2") for s in (".weight", ".bias")}
        shapes |= {a + "to_q.weight": (64 * heads, width), a + "to_kv.weight": (128 * heads, width),
                   a + "to_out.weight": (width, 64 * heads)}
        shapes |= {f + "0.weight": (width,), f + "0.bias": (width,), f + "1.weight": (4 * width, width),
                   f + "3.weight": (width, 4 * width)}
    return shapes


def adapter(name, folder, unet, context, proj):
    parts = {"image_proj": seeded(f"{name}.image_proj.", proj), "ip_adapter": seeded(f"{name}.ip_adapter.", pairs(unet, context))}
    if name.endswith(".bin"):
        torch.save(parts, f"{folder}/{name}")
    else:
        save_file({f"{p}.{k}": v for p, t in parts.items() for k, v in t.items()}, f"{folder}/{name}")
    return parts


# --- drawings ----------------------------------------------------------------------------------------------------

def network(cls, name, salt=""):
    m = json.load(open(f"{core}/{name}.manifest.json"))
    net = cls(CLIPTextConfig(**m["config"])) if cls is CLIPTextModel else cls(**m["config"])
    names, state = net.state_dict(), {}
    for e in m["tensors"]:
        e["key"] = salt + e["key"]
        state[e["name"] if e["name"] in names else e["name"].removeprefix("text_model.")] = values(e).half()
    return loaded(net, state)


unet = network(UNet2DConditionModel, "unet")
clip = network(CLIPTextModel, "text_encoder")
if not hasattr(clip, "text_model"):
    clip.__dict__["text_model"] = clip  # diffusers asks for the name that transformers 5 dropped
base = dict(vae=network(AutoencoderKL, "vae"), text_encoder=clip, unet=unet, safety_checker=None, requires_safety_checker=False,
            tokenizer=CLIPTokenizer.from_pretrained(tokenizer_dir, model_max_length=77), image_encoder=encoder,
            feature_extractor=processor,
            scheduler=DDIMScheduler(num_train_timesteps=1000, beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012,
                                    steps_offset=1, clip_sample=False, set_alpha_to_one=False))
control = network(ControlNetModel, "controlnet", "a.")
CONTEXT = unet.config.cross_attention_dim
adapters = {"plain.safetensors": plain(CONTEXT), "plus.safetensors": plus(CONTEXT), "full.bin": full(CONTEXT)}
for name, proj in adapters.items():
    adapter(name, out, unet, CONTEXT, proj)
PICTURES = {"one": one, "two": two}


def draw(pipe, case, folder, **args):
    """case["adapters"]: file, strength (number or diffusers' dict), pictures."""
    files = [a[0] for a in case["adapters"]]
    pipe.set_progress_bar_config(disable=True)
    pipe.load_ip_adapter([folder] * len(files), subfolder=[""] * len(files), weight_name=files, image_encoder_folder=None, low_cpu_mem_usage=False)
    scales = [a[1] for a in case["adapters"]]
    pipe.set_ip_adapter_scale(scales if len(scales) > 1 else scales[0])
    kept = []

    def after(p, i, t, d):
        if i + 1 == case.get("until"):
            p.set_ip_adapter_scale([0.0] * len(files))
        kept.append(d["latents"].clone())
        return d

    if "mask" in case:
        m = IPAdapterMaskProcessor().preprocess([Image.fromarray(region)], height=H, width=W)
        args["cross_attention_kwargs"] = {"ip_adapter_masks": [m]}
    pipe(prompt=PROMPT, negative_prompt=NEGATIVE, num_inference_steps=case["steps"], guidance_scale=case["cfg_scale"],
         generator=torch.Generator().manual_seed(case["seed"]), num_images_per_prompt=case.get("batch", 1),
         ip_adapter_image=[[PICTURES[n] for n in a[2]] for a in case["adapters"]], output_type="latent",
         callback_on_step_end=after, **args)
    pipe.unload_ip_adapter()
    return kept[-1].contiguous()


def arguments(case):
    """The same on the command line."""
    words = ["--image-encoder", "@image_encoder"]
    for k, (file, scale, names) in enumerate(case["adapters"]):
        words += [f"--ip-adapter", f"@{file}", f"--image-prompt-strength={1 if isinstance(scale, dict) else scale}"]
        for n in names:
            words += ["--image-prompt", f"@{n}.png"]
    return words + case.get("more", [])


LEVELS = [0.3, 0.9, 1.4, 0.5]  # of 64, 32, 16 and 8 latents a side, of 512 pixels
BLOCKS = {"down": {f"block_{i}": LEVELS[i] for i in range(3)}, "mid": LEVELS[3],
          "up": {f"block_{3 - i}": LEVELS[i] for i in range(3)}}
A, B, C = "plain.safetensors", "plus.safetensors", "full.bin"
cases = {
    "plain": dict(adapters=[(A, 0.8, ["one"])], steps=3, cfg_scale=6.0, seed=1),
    "plus": dict(adapters=[(B, 0.7, ["one"])], steps=3, cfg_scale=6.0, seed=2, batch=2),
    "full": dict(adapters=[(C, 1.0, ["two"])], steps=3, cfg_scale=6.0, seed=3),
    "no_cfg": dict(adapters=[(B, 0.9, ["two"])], steps=3, cfg_scale=1.0, seed=4),
    "two_images": dict(adapters=[(B, 0.6, ["one", "two"])], steps=3, cfg_scale=5.0, seed=5),
    "two_adapters": dict(adapters=[(A, 0.5, ["two"]), (B, 0.9, ["one", "two"])], steps=3, cfg_scale=5.0, seed=6),
    "window": dict(adapters=[(A, 1.0, ["one"])], steps=4, cfg_scale=6.0, seed=7, until=2, more=["--control-end=0.5"]),
    "mask": dict(adapters=[(B, 1.0, ["one"])], steps=3, cfg_scale=6.0, seed=8, mask=True,
                 more=["--control-mask", "@region.png"]),
    "blocks": dict(adapters=[(A, BLOCKS, ["one"])], steps=3, cfg_scale=6.0, seed=9,
                   more=["--control-weights=" + ",".join(map(str, LEVELS))]),
    "control": dict(adapters=[(A, 0.8, ["one"])], steps=3, cfg_scale=6.0, seed=10, controlnet=["controlnet_a"],
                    image=["edges.png"], scale=[0.9]),
}


def finish(folder, cases, latents):
    for c in cases.values():
        c.update(sampler="ddim", prompt=PROMPT, negative_prompt=NEGATIVE, width=W, height=H, arguments=arguments(c))
        for key in ("adapters", "until", "more", "mask"):
            c.pop(key, None)
    save_file(latents, f"{folder}/cases.safetensors")
    json.dump(cases, open(f"{folder}/cases.json", "w"), indent=1)


latents = {}
for label, c in cases.items():
    if "controlnet" in c:
        pipe = StableDiffusionControlNetPipeline(**base, controlnet=control)
        latents[label] = draw(pipe, c, out, image=Image.fromarray(edges), controlnet_conditioning_scale=c["scale"][0])
    else:
        latents[label] = draw(StableDiffusionPipeline(**base), c, out, width=W, height=H)
    print(label, tuple(latents[label].shape), float(latents[label].abs().max()))
finish(out, cases, latents)

# What the projections make of the encoder's output.
pipe = StableDiffusionPipeline(**base)
for name in adapters:
    pipe.load_ip_adapter(out, subfolder="", weight_name=name, image_encoder_folder=None, low_cpu_mem_usage=False)
    projection = unet.encoder_hid_proj.image_projection_layers[0]
    golden[f"tokens.{name}"] = projection(golden["projected"][:, 0] if name == A else golden["before"])
    pipe.unload_ip_adapter()
save_file({k: v.contiguous() for k, v in golden.items()}, f"{out}/golden.safetensors")

# --- SDXL's order of layers --------------------------------------------------------------------------------------

XL = dict(sample_size=16, block_out_channels=[32, 64, 64], layers_per_block=1, cross_attention_dim=24,
          down_block_types=["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
          up_block_types=["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"], attention_head_dim=[1, 1, 2],
          transformer_layers_per_block=[1, 1, 2], use_linear_projection=True, addition_embed_type="text_time",
          addition_time_embed_dim=4, projection_class_embeddings_input_dim=40, in_channels=4, out_channels=4)
xl = UNet2DConditionModel(**XL)
entries = [entry(k, "xl.unet." + k, list(v.shape)) for k, v in xl.state_dict().items()]
loaded(xl, {e["name"]: values(e) for e in entries})
lines = ",\n".join(json.dumps(e, separators=(",", ":")) for e in entries)
open(f"{out}/xl.manifest.json", "w").write('{"config": %s,\n"tensors": [\n%s\n]}\n' % (json.dumps(XL), lines))
parts = adapter("xl.safetensors", out, xl, 24, plain(24))
xl._load_ip_adapter_weights([parts], low_cpu_mem_usage=False)
for p in xl.attn_processors.values():
    if hasattr(p, "scale"):
        p.scale = [0.7]
rng = torch.Generator().manual_seed(5)
inputs = {"x": torch.randn(2, 4, 8, 12, generator=rng), "t": torch.tensor([7.0, 801.0]),
          "context": torch.randn(2, 5, 24, generator=rng), "text_embeds": torch.randn(2, 16, generator=rng),
          "time_ids": torch.tensor([[64.0, 96, 0, 0, 64, 96]] * 2), "image_embeds": torch.randn(2, PROJECTED, generator=rng)}
y = xl(inputs["x"], inputs["t"], encoder_hidden_states=inputs["context"],
       added_cond_kwargs=dict(text_embeds=inputs["text_embeds"], time_ids=inputs["time_ids"],
                              image_embeds=[inputs["image_embeds"][:, None]])).sample
save_file(inputs | {"out_ip_0.7": y}, f"{out}/xl_golden.safetensors")

if sdxl:
    model, folder = sdxl
    os.makedirs(folder, exist_ok=True)
    for name in ("one.png", "two.png"):
        Image.open(f"{out}/{name}").save(f"{folder}/{name}")
    if not os.path.exists(f"{folder}/image_encoder"):
        os.symlink(os.path.abspath(f"{out}/image_encoder"), f"{folder}/image_encoder")
    pipe = StableDiffusionXLPipeline.from_pretrained(model, torch_dtype=torch.float32, image_encoder=encoder,
                                                     feature_extractor=processor)
    if not hasattr(pipe.text_encoder, "text_model"):
        pipe.text_encoder.__dict__["text_model"] = pipe.text_encoder
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    context = pipe.unet.config.cross_attention_dim
    adapter("plain.safetensors", folder, pipe.unet, context, plain(context))
    adapter("plus.safetensors", folder, pipe.unet, context, plus(context))
    cases = {
        "plain": dict(adapters=[(A, 0.8, ["one"])], steps=4, cfg_scale=5.0, seed=1),
        "plus": dict(adapters=[(B, 0.8, ["one", "two"])], steps=4, cfg_scale=5.0, seed=2),
    }
    latents = {label: draw(pipe, c, folder, width=W, height=H) for label, c in cases.items()}
    finish(folder, cases, latents)
