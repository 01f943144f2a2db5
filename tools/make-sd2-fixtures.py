# SPDX-License-Identifier: Apache-2.0
"""Writes OUT_DIR/core and OUT_DIR/pipelines (tests/golden/sd2): a small Stable Diffusion 2.x (v prediction, OpenCLIP-style text encoder, heads of width 64,
linear projections) and its ControlNet, computed by PyPI's diffusers and transformers in float32 on the CPU.

Usage: make-sd2-fixtures.py OUT_DIR TOKENIZER_DIR [SALT]. Weights follow from names (the same generator as
cn_seed_tensor), so the folders hold manifests, inputs and expected outputs only. TOKENIZER_DIR: vocab.json and
merges.txt of the e2e tests' model.
"""
import json, os, sys
import numpy as np, torch
from safetensors.torch import save_file
from diffusers import (AutoencoderKL, ControlNetModel, DDIMScheduler, StableDiffusionControlNetPipeline,
                       StableDiffusionPipeline, UNet2DConditionModel)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer
from PIL import Image
from seeds import unit

out, pipelines = sys.argv[1] + "/core", sys.argv[1] + "/pipelines"
salt = sys.argv[3] if len(sys.argv) > 3 else ""
os.makedirs(out, exist_ok=True)
os.makedirs(pipelines, exist_ok=True)
torch.manual_seed(0)
torch.set_grad_enabled(False)

CH, HEADS = [64, 64, 128, 128], [1, 1, 2, 2]
CONFIG = {
    "unet": dict(sample_size=16, in_channels=4, out_channels=4, block_out_channels=CH, layers_per_block=1,
                 cross_attention_dim=64, attention_head_dim=HEADS, use_linear_projection=True, upcast_attention=True),
    "controlnet": dict(conditioning_embedding_out_channels=[16, 32, 96, 256], block_out_channels=CH, layers_per_block=1,
                       cross_attention_dim=64, attention_head_dim=HEADS, use_linear_projection=True, in_channels=4),
    "vae": dict(block_out_channels=[32, 32, 32, 32], down_block_types=["DownEncoderBlock2D"] * 4,
                up_block_types=["UpDecoderBlock2D"] * 4, layers_per_block=1, latent_channels=4, sample_size=128),
    "text_encoder": dict(vocab_size=49408, hidden_size=64, intermediate_size=128, num_hidden_layers=3,
                         num_attention_heads=1, max_position_embeddings=77, projection_dim=64, hidden_act="gelu",
                         eos_token_id=49407, bos_token_id=49406, pad_token_id=0),
}
KINDS = {"unet": UNet2DConditionModel, "controlnet": ControlNetModel, "vae": AutoencoderKL}

def manifest(state, prefix):
    entries = []
    for name, t in state.items():
        shape = list(t.shape)
        if name.endswith("position_ids"):
            continue
        if len(shape) >= 2:
            offset, scale = 0.0, float(np.float32((3.0 / np.prod(shape[1:])) ** 0.5))
            if "embedding" in name and len(shape) == 2 and "linear" not in name:
                scale = 0.5
        elif name.endswith("weight"):
            offset, scale = 1.0, 0.1
        else:
            offset, scale = 0.0, 0.05
        entries.append({"name": name, "key": prefix + name, "shape": shape, "offset": offset, "scale": scale})
    return entries


def seeded(name, net):
    state = net.state_dict()
    short = name == "text_encoder" and not any(k.startswith("text_model.") for k in state)
    entries = manifest({("text_model." if short else "") + k: v for k, v in state.items()}, salt + name + ".")
    weights = {e["name"].removeprefix("text_model.") if short else e["name"]:
               torch.from_numpy(np.float32(e["offset"]) + np.float32(e["scale"]) * unit(e["key"], e["shape"]))
               for e in entries}
    missing = net.load_state_dict(weights, strict=False).missing_keys
    assert all("position_ids" in k for k in missing), missing
    # One entry a line: small, and readable in a diff.
    lines = ",\n".join(json.dumps(e, separators=(",", ":")) for e in entries)
    with open(f"{out}/{name}.manifest.json", "w") as f:
        f.write('{"config": %s,\n"tensors": [\n%s\n]}\n' % (json.dumps(CONFIG[name]), lines))
    return net.eval()


def normal(name, *shape):
    return torch.from_numpy(sum(unit(f"{salt}input.{name}.{i}", shape) for i in range(4)) * np.float32(0.8660254))


def uniform(name, *shape):
    return torch.from_numpy((unit(f"{salt}input.{name}", shape) + 1) / 2)


def save(name, tensors):
    save_file({k: v.detach().contiguous().clone() for k, v in tensors.items()}, f"{out}/{name}.safetensors")


nets = {n: seeded(n, k(**CONFIG[n])) for n, k in KINDS.items()}
clip = seeded("text_encoder", CLIPTextModel(CLIPTextConfig(**CONFIG["text_encoder"])))
unet, cnet, vae = nets["unet"], nets["controlnet"], nets["vae"]

ids = torch.tensor([[49406, 320, 1125, 539, 320, 2368, 49407] + [0] * 70, [49406, 49407] + [0] * 75])
o = clip(ids, output_hidden_states=True)
ln = clip.text_model.final_layer_norm if hasattr(clip, "text_model") else clip.final_layer_norm
save("text_encoder", {"ids": ids.int(), "last_hidden_state": o.last_hidden_state,
                      "clip_skip_2": ln(o.hidden_states[-2])})
ctx = o.last_hidden_state

x, t, cond = normal("x", 2, 4, 8, 8), torch.tensor([7, 801]), uniform("cond", 2, 3, 64, 64)
taps = {}


def tap(prefix, net):
    kinds = ("ResnetBlock2D", "Transformer2DModel", "Downsample2D", "Upsample2D", "TimestepEmbedding")
    return [m.register_forward_hook(lambda _m, _i, y, n=n: taps.__setitem__(
        f"{prefix}.{n}", (y[0] if isinstance(y, tuple) else getattr(y, "sample", y)).half()))
        for n, m in net.named_modules() if m.__class__.__name__ in kinds]


down, mid = cnet(x, t, encoder_hidden_states=ctx, controlnet_cond=cond, return_dict=False)
hooks = tap("controlnet", cnet)
cnet(x, t, encoder_hidden_states=ctx, controlnet_cond=cond, return_dict=False)
[h.remove() for h in hooks]
save("controlnet", {"x": x, "t": t.int(), "ctx": ctx, "cond": cond, "mid": mid,
                    **{f"down.{i}": d for i, d in enumerate(down)}, **taps})
taps.clear()
guess_down, guess_mid = cnet(x, t, encoder_hidden_states=ctx, controlnet_cond=cond, guess_mode=True, return_dict=False)
both = unet(x, t, encoder_hidden_states=ctx, down_block_additional_residuals=[0.1 * d for d in down],
            mid_block_additional_residual=0.1 * mid).sample
hooks = tap("unet", unet)
plain = unet(x, t, encoder_hidden_states=ctx).sample
[h.remove() for h in hooks]
save("unet", {"x": x, "t": t.int(), "ctx": ctx, "out": plain, "out_controlled_0.1": both, "guess.mid": guess_mid,
              **{f"guess.down.{i}": d for i, d in enumerate(guess_down)}, **taps})

# --- pictures -----------------------------------------------------------------------------------------------------

schedule = dict(num_train_timesteps=1000, beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012,
                timestep_spacing="leading", steps_offset=1, clip_sample=False, set_alpha_to_one=False,
                prediction_type="v_prediction")
scheduler = DDIMScheduler(**schedule)
json.dump({"_class_name": "DDIMScheduler", **schedule}, open(f"{out}/scheduler_config.json", "w"), indent=1)
tokenizer = CLIPTokenizer.from_pretrained(sys.argv[2], pad_token="!", model_max_length=77)
assert tokenizer.pad_token_id == 0
base = dict(vae=vae, text_encoder=clip, tokenizer=tokenizer, unet=unet, scheduler=scheduler, safety_checker=None,
            feature_extractor=None, requires_safety_checker=False)

PROMPT, NEGATIVE = "a cute dog, best quality", "lowres, bad anatomy"
cases = {
    "txt2img": dict(kind="txt2img", sampler="ddim", steps=4, cfg_scale=7.5, seed=1),
    "skip": dict(kind="txt2img", sampler="ddim", steps=3, cfg_scale=5.0, seed=2, clip_skip=1),
    "control": dict(kind="controlnet", controlnet=["controlnet_a"], image=["condition.png"], scale=[0.8], sampler="ddim",
                    steps=4, cfg_scale=7.5, seed=3),
}
condition = np.zeros((64, 64, 3), np.uint8)
condition[16:48, 16] = condition[16:48, 47] = condition[16, 16:48] = condition[47, 16:48] = 255
Image.fromarray(condition).save(f"{pipelines}/condition.png")
# The e2e test's first ControlNet has the salt "a.".
control = KINDS["controlnet"](**CONFIG["controlnet"])
control.load_state_dict({e["name"]: torch.from_numpy(np.float32(e["offset"]) + np.float32(e["scale"]) *
                                                     unit("a." + e["key"], e["shape"]))
                         for e in manifest(control.state_dict(), salt + "controlnet.")})
for net in (unet, vae, clip, control):  # the e2e test writes them as F16
    net.half().float().eval()
if not hasattr(clip, "text_model"):
    clip.__dict__["text_model"] = clip  # diffusers asks for the name that transformers 5 dropped
latents = {}
for name, c in cases.items():
    c.update(prompt=PROMPT, negative_prompt=NEGATIVE, width=64, height=64)
    args = dict(prompt=PROMPT, negative_prompt=NEGATIVE, num_inference_steps=c["steps"], guidance_scale=c["cfg_scale"],
                generator=torch.Generator().manual_seed(c["seed"]), width=64, height=64)
    if "clip_skip" in c:
        args["clip_skip"] = c["clip_skip"]
    if c["kind"] == "controlnet":
        pipe = StableDiffusionControlNetPipeline(**base, controlnet=control)
        args |= dict(image=Image.open(f"{pipelines}/condition.png").convert("RGB"),
                     controlnet_conditioning_scale=c["scale"][0])
    else:
        pipe = StableDiffusionPipeline(**base)
    pipe.set_progress_bar_config(disable=True)
    kept = []
    args["callback_on_step_end"] = lambda pipe, i, t, d: (kept.append(d["latents"].clone()), d)[1]
    image = pipe(**args).images[0]
    image.save(f"{pipelines}/{name}.png")
    latents[name] = kept[-1].contiguous()
    print(name, float(kept[-1].abs().max()), np.asarray(image).std())
save_file(latents, f"{pipelines}/cases.safetensors")
json.dump(cases, open(f"{pipelines}/cases.json", "w"), indent=1)
json.dump({"salt": salt}, open(f"{out}/versions.json", "w"))
