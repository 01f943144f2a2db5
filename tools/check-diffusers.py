# SPDX-License-Identifier: Apache-2.0
"""Does diffusers load what the trainer saved, and draw the same picture? And does the trainer go on from what diffusers saved?

Usage: check-diffusers.py CONTROLNET_PROGRAM BASE_FOLDER WORK_FOLDER (build/controlnet models/tiny-sd /tmp/check)
Opt-in: needs PyPI's torch, diffusers and transformers. Trains a few steps of each kind that diffusers reads on scenes and draws with it
here and there from the same noise: of an SDXL base ControlNets whole and small, ControlNet Union and T2I-Adapter, of another a
T2I-Adapter and a ControlNet, converted to f32 and f16 in both layouts, at 60 dB. Exit status 1 when anything falls short.
"""
import json, math, os, subprocess, sys

os.environ["TQDM_DISABLE"] = "1"
import numpy as np, torch
from diffusers import (AutoencoderKL, ControlNetModel, ControlNetUnionModel, StableDiffusionAdapterPipeline, StableDiffusionControlNetPipeline,
                       StableDiffusionPipeline, StableDiffusionXLAdapterPipeline, StableDiffusionXLControlNetPipeline,
                       StableDiffusionXLControlNetUnionPipeline, T2IAdapter, UNet2DConditionModel)
from PIL import Image
from safetensors.torch import load_file, save_file

program, base, work = sys.argv[1:4]
os.makedirs(work, exist_ok=True)
torch.set_grad_enabled(False)
failed = 0


def run(*arguments):
    subprocess.run([program, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def report(what, good):
    global failed
    failed += not good
    print(("ok   " if good else "FAIL ") + what, flush=True)


def psnr(a, b):
    error = np.mean((np.asarray(a, np.float64) - np.asarray(b, np.float64)) ** 2)
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


scenes, out = f"{work}/scenes", f"{work}/trained"
run("dataset", "scenes", scenes, "--count", 24, "--size", 128, "--seed", 5, "--condition", "canny")
train = ["train", "-m", base, "--train-data-dir", scenes, "--resolution", 128, "--train-batch-size", 2, "--validation-steps", 0,
         "--checkpointing-steps", 0, "--seed", 1]
pair = json.loads(open(f"{scenes}/prompt.json").readline())
condition, prompt = f"{scenes}/{pair['source']}", pair["prompt"]
channels = UNet2DConditionModel.load_config(base, subfolder="unet")["in_channels"]
side = 128 >> (len(AutoencoderKL.load_config(base, subfolder="vae")["block_out_channels"]) - 1)
latents = torch.randn(1, channels, side, side, generator=torch.Generator().manual_seed(3))
save_file({"latents": latents}, f"{work}/latents.safetensors")


def check_kind(kind, network, pipeline, name, arguments, union=()):
    """Trains one of this kind; the program's folder and file and diffusers' pipeline draw the same."""
    to, picture, sampler = f"{work}/{kind}", Image.open(condition).convert("RGB"), "euler" if xl else "ddim"
    run(*train, "--output-dir", to, "--overwrite", "--control-kind", kind, *union, "--learning-rate", 3e-3, "--max-train-steps", 8)
    pipe = pipeline.from_pretrained(base, torch_dtype=torch.float32, **{name: network.from_pretrained(to, torch_dtype=torch.float32)},
                                    **({"add_watermarker": False} if xl else {"safety_checker": None}))
    pipe.set_progress_bar_config(disable=True)
    there = {}
    for strength in (1, 0):
        scale = "adapter_conditioning_scale" if name == "adapter" else "controlnet_conditioning_scale"
        there[strength] = pipe(prompt, **arguments(picture), latents=latents.clone(), num_inference_steps=8, guidance_scale=5, width=128,
                               height=128, **{scale: float(strength)}).images[0]
    report(f"{kind}: what it has learned changes the picture, {psnr(there[0], there[1]):.1f} dB", psnr(there[0], there[1]) < 50)
    for form in (to, f"{to}/control.safetensors"):
        run("generate", "-m", base, "--tokenizer", f"{base}/tokenizer", "--control-net", form, *union, "--control-image", condition, "-p",
            prompt, "--steps", 8, "--cfg-scale", 5, "-W", 128, "-H", 128, "--precision", "f32", "--sampling-method", sampler,
            "--init-latents", f"{work}/latents.safetensors", "-o", f"{work}/{kind}.png")
        db = psnr(Image.open(f"{work}/{kind}.png").convert("RGB"), there[1])
        report(f"{kind} from {os.path.basename(form)}: {db:.1f} dB", db >= 60)


xl = os.path.isdir(f"{base}/text_encoder_2")
adapter = (T2IAdapter, StableDiffusionXLAdapterPipeline if xl else StableDiffusionAdapterPipeline, "adapter", lambda picture: {"image": picture})
check_kind("t2i-adapter", *adapter)
if xl:
    for kind in ("controlnet", "controlnet-mid", "controlnet-small"):
        check_kind(kind, ControlNetModel, StableDiffusionXLControlNetPipeline, "controlnet", lambda picture: {"image": picture})
    check_kind("union", ControlNetUnionModel, StableDiffusionXLControlNetUnionPipeline, "controlnet",
               lambda picture: {"control_image": [picture], "control_mode": [3]}, ("--control-type", "canny"))
    sys.exit(1 if failed else 0)
run(*train, "--output-dir", out, "--overwrite", "--learning-rate", 1e-3, "--max-train-steps", 30, "--unlock", "decoder", "--unlock-after", 20)


def draw_here(control, model, name):
    run("generate", "-m", model, "--tokenizer", f"{base}/tokenizer", "--control-net", control, "--control-image", condition, "-p", prompt, "--steps", 20,
        "--cfg-scale", 5, "-W", 128, "-H", 128, "--precision", "f32", "--init-latents", f"{work}/latents.safetensors", "-o", f"{work}/{name}.png")
    return Image.open(f"{work}/{name}.png").convert("RGB")


def draw_there(control, model):
    pipe = StableDiffusionControlNetPipeline.from_pretrained(model, controlnet=control, safety_checker=None, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe(prompt, image=Image.open(condition).convert("RGB"), latents=latents.clone(), num_inference_steps=20, guidance_scale=5, width=128,
                height=128).images[0]


for dtype in ("f32", "f16"):
    for layout in ("diffusers", "single-file"):
        path = f"{work}/{dtype}" + (".safetensors" if layout == "single-file" else "")
        run("convert", out, path, "--to", layout, "--dtype", dtype)
        if layout == "diffusers":
            control = ControlNetModel.from_pretrained(path, torch_dtype=torch.float32)
        else:
            control = ControlNetModel.from_single_file(path, config=out, local_files_only=True, torch_dtype=torch.float32)
        for model in (base, f"{out}/base", f"{out}/base.safetensors"):
            db = psnr(draw_here(path, model, "here"), draw_there(control, model.removesuffix(".safetensors")))
            report(f"{layout} {dtype} with {model}: {db:.1f} dB", db >= 60)

trained, single = UNet2DConditionModel.from_pretrained(f"{out}/base", subfolder="unet").state_dict(), load_file(f"{out}/base.safetensors")
own = UNet2DConditionModel.from_pretrained(base, subfolder="unet").state_dict()
changed = [k for k in trained if not torch.equal(trained[k].float(), own[k].float())]
report(f"the saved base differs from its start in {len(changed)} tensors, all of the decoder",
       bool(changed) and all(k.startswith(("up_blocks.", "conv_norm_out.", "conv_out.")) for k in changed))
report("base.safetensors holds the same UNet", torch.equal(single["model.diffusion_model.out.2.weight"], trained["conv_out.weight"]))

torch.manual_seed(0)
fresh = ControlNetModel.from_unet(StableDiffusionPipeline.from_pretrained(base, safety_checker=None).unet,
                                  conditioning_embedding_out_channels=ControlNetModel.load_config(out)["conditioning_embedding_out_channels"])
for p in fresh.parameters():
    p.add_(torch.randn_like(p) * 1e-3)
fresh.save_pretrained(f"{work}/from-diffusers")
run(*train, "--output-dir", f"{work}/goes-on", "--controlnet-model-name-or-path", f"{work}/from-diffusers", "--overwrite", "--learning-rate", 0,
    "--adam-weight-decay", 0, "--max-train-steps", 2)
kept, before = load_file(f"{work}/goes-on/diffusion_pytorch_model.safetensors"), load_file(f"{work}/from-diffusers/diffusion_pytorch_model.safetensors")
report(f"training goes on from diffusers' own: {len(before)} tensors kept at learning rate 0",
       kept.keys() == before.keys() and all(torch.equal(kept[k], before[k]) for k in before))
run(*train, "--output-dir", f"{work}/goes-on", "--controlnet-model-name-or-path", f"{work}/from-diffusers", "--learning-rate", 1e-4, "--max-train-steps", 3,
    "--overwrite")
after = load_file(f"{work}/goes-on/diffusion_pytorch_model.safetensors")
report("and learns", all(not torch.equal(after[k], before[k]) for k in ("conv_in.weight", "controlnet_mid_block.weight")))
sys.exit(1 if failed else 0)
