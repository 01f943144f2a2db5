# SPDX-License-Identifier: Apache-2.0
"""Makes tests/golden/files: small files of the field's forms and what the programs that define them read from each.

Usage: make-file-fixtures.py OUT [PART...] (OUT: tests/golden/files; PART: masks, pictures, inpaint, lora, types, taesd; without one all)
Needs PyPI's pillow, pillow-jxl-plugin, opencv-python-headless, torch, diffusers, peft, lycoris-lora and gguf. The same versions give the same bytes.
"""
import io, json, os, sys

OUT = sys.argv[1]


def write(name, value):
    with open(os.path.join(OUT, name), "w") as f:
        f.write(json.dumps(value, separators=(",", ":")).replace('},{', '},\n{') + "\n")


def packed(data):
    return bytes(data).hex()


# --- masks: stable-diffusion-webui's create_binary_mask (modules/processing.py) before its threshold ---------------------------


def masks():
    from PIL import Image

    def mask_of(image):
        """Any transparency: the alpha is the mask; else the luminance. Files of other modes come to webui as RGBA."""
        rgba = image.convert("RGBA")
        if rgba.getextrema()[-1] != (255, 255):
            return rgba.split()[-1]
        return image.convert("RGB").convert("L")

    def pixels(mode, f, size=(6, 5)):
        image = Image.new(mode, size)
        image.putdata([f(x, y) for y in range(size[1]) for x in range(size[0])])
        return image

    def palette(indices):
        image = pixels("P", indices)
        image.putpalette([0, 0, 0, 255, 255, 255, 200, 30, 90, 10, 240, 60])
        return image

    corner = lambda x, y: x < 3 and y > 1
    white_on_clear = pixels("RGBA", lambda x, y: (255, 255, 255, 255 if corner(x, y) else 0))
    cases = {
        "white on transparent ground": (white_on_clear, "PNG", {}),
        "black on transparent ground": (pixels("RGBA", lambda x, y: (0, 0, 0, 255 if corner(x, y) else 0)), "PNG", {}),
        "degrees of alpha": (pixels("RGBA", lambda x, y: (40 * x, 50 * y, 7, 8 * (x + 6 * y))), "PNG", {}),
        "one pixel not opaque": (pixels("RGBA", lambda x, y: (40 * x, 50 * y, 90, 254 if x == y == 2 else 255)), "PNG", {}),
        "all transparent": (pixels("RGBA", lambda x, y: (255, 255, 255, 0)), "PNG", {}),
        "opaque alpha": (pixels("RGBA", lambda x, y: (40 * x, 50 * y, 90, 255)), "PNG", {}),
        "grey with alpha": (pixels("LA", lambda x, y: (20 * x, 255 - 50 * y)), "PNG", {}),
        "grey with opaque alpha": (pixels("LA", lambda x, y: (40 * x, 255)), "PNG", {}),
        "grey": (pixels("L", lambda x, y: 40 * x + y), "PNG", {}),
        "grey with a transparent value": (pixels("L", lambda x, y: 40 * x), "PNG", {"transparency": 80}),
        "colours": (pixels("RGB", lambda x, y: (40 * x, 50 * y, 30 * x + 10 * y)), "PNG", {}),
        "colours with a transparent one": (pixels("RGB", lambda x, y: (40 * x, 0, 9)), "PNG", {"transparency": (80, 0, 9)}),
        "palette": (palette(lambda x, y: (x + y) % 4), "PNG", {}),
        "palette with a transparent entry": (palette(lambda x, y: (x + y) % 4), "PNG", {"transparency": 1}),
        "palette with alpha": (palette(lambda x, y: (x + y) % 4), "PNG", {"transparency": bytes([255, 0, 128, 7])}),
        "one bit": (pixels("1", lambda x, y: 255 * corner(x, y)), "PNG", {}),
        "webp": (white_on_clear, "WEBP", {"lossless": True}),
        "webp with degrees of alpha": (pixels("RGBA", lambda x, y: (40 * x, 50 * y, 7, 8 * (x + 6 * y))), "WEBP",
                                       {"lossless": True, "exact": True}),
        "webp without alpha": (pixels("RGB", lambda x, y: (40 * x, 50 * y, 90)), "WEBP", {"lossless": True}),
        "jpeg": (pixels("L", lambda x, y: 255 * corner(x, y)), "JPEG", {"quality": 95}),
    }
    out = []
    for name, (image, kind, options) in cases.items():
        file = io.BytesIO()
        image.save(file, kind, **options)
        mask = mask_of(Image.open(io.BytesIO(file.getvalue())))
        out.append({"name": name, "width": mask.width, "height": mask.height, "file": packed(file.getvalue()), "mask": packed(mask.tobytes())})
    write("masks.json", out)


# --- LoRA files, written by LyCORIS, peft and diffusers, and what each changes -------------------------------------------------


def lora():
    """lora/CASE.safetensors or the folder lora/CASE, and in lora/changes.safetensors one of every 37 values of what they add to
    the weights of tests/golden/core's networks, as tests/support/tiny_model.c writes them: "CASE NETWORK PARAMETER"."""
    import shutil
    import numpy as np, peft, torch
    from diffusers import StableDiffusionPipeline, UNet2DConditionModel
    from diffusers.training_utils import _collate_lora_metadata
    from diffusers.utils import convert_state_dict_to_diffusers
    from lycoris.functional.general import weight_decompose
    from lycoris.modules.full import FullModule
    from lycoris.modules.ia3 import IA3Module
    from lycoris.modules.locon import LoConModule
    from lycoris.modules.loha import LohaModule
    from lycoris.modules.lokr import LokrModule
    from lycoris.modules.norms import NormModule
    from peft.utils import get_peft_model_state_dict
    from safetensors.torch import save_file
    from seeds import unit

    torch.set_grad_enabled(False)
    out, core = f"{OUT}/lora", f"{OUT}/../core"
    shutil.rmtree(out, ignore_errors=True)
    os.makedirs(out)
    changes = {}

    def new_unet():
        m = json.load(open(f"{core}/unet.manifest.json"))
        net = UNet2DConditionModel(**m["config"])
        net.load_state_dict({e["name"]: torch.from_numpy(np.float32(e["offset"]) + np.float32(e["scale"]) * unit(e["key"], e["shape"])).half().float()
                             for e in m["tensors"]})
        return net.eval()

    def fill(case, named):
        """Values of adapters, by their names, where they would start as zeros or by chance."""
        for n, p in named:
            scale = 0.3 if p.ndim > 1 else 0.1
            if "magnitude" in n or "dora_scale" in n:
                p.mul_(torch.from_numpy(1 + 0.4 * unit(f"lora.{case}.{n}", tuple(p.shape))))  # beside the weight's norms
            elif "ia3_l" in n:
                p.copy_(torch.from_numpy(1 + 0.5 * unit(f"lora.{case}.{n}", tuple(p.shape))))
            else:
                p.copy_(torch.from_numpy(scale * unit(f"lora.{case}.{n}", tuple(p.shape))))

    def note(case, name, change):
        changes[f"{case} unet {name}"] = change.float().flatten()[::37].contiguous()

    base = new_unet()
    ATTN = "down_blocks.0.attentions.0.transformer_blocks.0."
    CONV, SQUARE = "down_blocks.1.resnets.0.conv1", "mid_block.resnets.0.conv2"

    # LyCORIS: one file a class, several modules each
    def lycoris(case, modules):
        tensors = {}
        for cls, target, options in modules:
            layer = base.get_submodule(target)
            name = "lora_unet_" + target.replace(".", "_")
            options = dict(options)
            m = cls(name, layer, 1.0, **options)
            fill(case, [(f"{target}.{n}", p) for n, p in m.named_parameters()])
            state = {f"{name}.{k}": v.clone().contiguous() for k, v in m.state_dict().items()}
            if cls is FullModule:
                state = {f"{name}.diff": m.weight.data.clone(), f"{name}.diff_b": m.bias.data.clone()}
                note(case, target + ".weight", m.weight), note(case, target + ".bias", m.bias)
            elif cls is NormModule:
                w, b = m.get_merged_weight()
                note(case, target + ".weight", w - layer.weight), note(case, target + ".bias", b - layer.bias)
            elif cls in (LohaModule, LokrModule):  # as forward adds it: get_merged_weight of 4.1 scales it twice
                merged = layer.weight + m.get_weight(layer.weight.shape)
                if options.get("weight_decompose"):
                    merged = weight_decompose(merged, m.dora_scale, 1, m.wd_on_out)
                note(case, target + ".weight", merged - layer.weight)
            else:
                note(case, target + ".weight", m.get_merged_weight()[0] - layer.weight)
            tensors.update(state)
        save_file(tensors, f"{out}/{case}.safetensors")

    rank = {"lora_dim": 3, "alpha": 1.5}
    lycoris("locon", [(LoConModule, ATTN + "attn1.to_q", rank), (LoConModule, CONV, rank),
                      (LoConModule, SQUARE, {**rank, "use_tucker": True})])
    lycoris("loha", [(LohaModule, ATTN + "attn1.to_k", rank), (LohaModule, CONV, rank),
                     (LohaModule, SQUARE, {**rank, "use_tucker": True})])
    lycoris("lokr", [(LokrModule, ATTN + "attn1.to_v", {**rank, "lora_dim": 2}), (LokrModule, CONV, {**rank, "lora_dim": 1}),
                     (LokrModule, SQUARE, {**rank, "lora_dim": 2, "use_tucker": True}),
                     (LokrModule, ATTN + "ff.net.0.proj", {**rank, "lora_dim": 1, "decompose_both": True}),
                     (LokrModule, ATTN + "attn2.to_q", {**rank, "full_matrix": True})])
    lycoris("dora", [(LoConModule, ATTN + "attn1.to_q", {**rank, "weight_decompose": True}),
                     (LoConModule, ATTN + "ff.net.0.proj", {**rank, "weight_decompose": True, "wd_on_out": False}),
                     (LoConModule, CONV, {**rank, "weight_decompose": True}),
                     (LoConModule, "down_blocks.0.downsamplers.0.conv", {**rank, "weight_decompose": True, "wd_on_out": False}),
                     (LohaModule, ATTN + "attn1.to_k", {**rank, "weight_decompose": True}),
                     (LokrModule, ATTN + "attn1.to_v", {**rank, "lora_dim": 2, "weight_decompose": True, "wd_on_out": False})])
    lycoris("norms", [(NormModule, ATTN + "norm1", {}), (NormModule, "mid_block.resnets.0.norm1", {})])
    lycoris("full", [(FullModule, ATTN + "attn1.to_out.0", {})])
    lycoris("ia3", [(IA3Module, ATTN + "attn1.to_k", {}), (IA3Module, ATTN + "ff.net.2", {"train_on_input": True}), (IA3Module, CONV, {}),
                    (IA3Module, SQUARE, {"train_on_input": True})])

    # peft: folders, merged by peft
    def peft_folder(case, config):
        net = new_unet()
        model = peft.get_peft_model(net, config)
        adapter = [(n, p) for n, p in model.named_parameters() if any(k in n for k in ("lora_", "hada_", "lokr_", "ia3_"))]
        fill(case, adapter)
        model.save_pretrained(f"{out}/{case}")
        os.remove(f"{out}/{case}/README.md")
        merged = model.merge_and_unload().state_dict()
        for n, w in base.state_dict().items():
            if not torch.equal(merged[n], w):
                note(case, n, merged[n] - w)

    few = [ATTN + "attn1.to_q", ATTN + "attn1.to_k", ATTN + "attn2.to_out.0", CONV]
    peft_folder("peft-patterns", peft.LoraConfig(
        r=4, lora_alpha=2, target_modules=few, rank_pattern={"conv1": 2, r"attn1\.to_k": 3},
        alpha_pattern={r"down_blocks.*\.attn1\.to_[qv]": 16, "to_out.0": 5, "o_k": 99}))
    peft_folder("peft-rslora", peft.LoraConfig(r=4, lora_alpha=3, use_rslora=True, target_modules=few[:2]))
    peft_folder("peft-dora", peft.LoraConfig(r=2, lora_alpha=3, use_dora=True, target_modules=few[1:]))
    peft_folder("peft-bias", peft.LoraConfig(r=2, lora_alpha=3, lora_bias=True, target_modules=[few[2], few[3]]))
    peft_folder("peft-loha", peft.LoHaConfig(r=2, alpha=3, use_effective_conv2d=True, target_modules=[few[0], SQUARE],
                                             alpha_pattern={"to_q": 7}))
    peft_folder("peft-lokr", peft.LoKrConfig(r=2, alpha=3, use_effective_conv2d=True, target_modules=[few[0], SQUARE, few[2]],
                                             rank_pattern={"attn2.*": 99}))
    peft_folder("peft-ia3", peft.IA3Config(target_modules=[few[0], few[2], CONV, SQUARE, ATTN + "ff.net.2"],
                                           feedforward_modules=[ATTN + "ff.net.2", SQUARE]))

    # diffusers: peft's configuration in the file's metadata
    net = new_unet()
    net.add_adapter(peft.LoraConfig(r=3, lora_alpha=6, target_modules=few[:3], rank_pattern={"to_k": 2}, alpha_pattern={r"attn2.*": 1}))
    fill("diffusers", [(n, p) for n, p in net.named_parameters() if ".lora_" in n])
    StableDiffusionPipeline.save_lora_weights(out, unet_lora_layers=convert_state_dict_to_diffusers(get_peft_model_state_dict(net)),
                                              weight_name="diffusers.safetensors", **_collate_lora_metadata({"unet": net}))
    net.fuse_lora()
    for n in few[:3]:
        note("diffusers", n + ".weight", net.get_submodule(n).base_layer.weight - base.get_submodule(n).weight)
    save_file(changes, f"{out}/changes.safetensors")
    for name in sorted(changes):
        print(name, float(changes[name].abs().max()))


# --- element types: every 8-bit float, by torch; GGML's blocks, by gguf --------------------------------------------------------


def types():
    """types.safetensors and types.gguf, and what their tensors hold as F32 in types_f32.safetensors."""
    import gguf, numpy as np, torch
    from safetensors.torch import save_file

    expected, eight = {}, {}
    for name, dtype in (("f8_e4m3", torch.float8_e4m3fn), ("f8_e5m2", torch.float8_e5m2)):
        eight[name] = torch.arange(256, dtype=torch.uint8).view(dtype).reshape(16, 16)
        expected[name] = eight[name].float()
    save_file(eight, f"{OUT}/types.safetensors")
    kinds = gguf.GGMLQuantizationType
    halves = {kinds.Q8_0: [0], kinds.Q4_0: [0], kinds.Q4_1: [0, 2], kinds.Q5_0: [0], kinds.Q5_1: [0, 2], kinds.Q2_K: [80, 82],
              kinds.Q3_K: [108], kinds.Q4_K: [0, 2], kinds.Q5_K: [0, 2], kinds.Q6_K: [208]}
    writer, random = gguf.GGUFWriter(f"{OUT}/types.gguf", "sd1"), np.random.default_rng(7)
    writer.add_array("some.list", ["a", "b"])
    writer.add_bool("some.switch", True)
    for kind, at in halves.items():
        size, bytes_ = gguf.GGML_QUANT_SIZES[kind]
        rows = random.integers(0, 256, (3, 512 // size, bytes_), dtype=np.uint8)  # [3, 512]: any bits are values ...
        for i in at:  # ... but the scales, which must be finite
            rows[:, :, i:i + 2] = random.normal(0, 0.1, rows.shape[:2]).astype(np.float16)[..., None].view(np.uint8)
        rows = rows.reshape(3, -1)
        writer.add_tensor(kind.name.lower(), rows, raw_dtype=kind)
        expected[kind.name.lower()] = torch.from_numpy(gguf.quants.dequantize(rows, kind).copy())
    for name, dtype in (("f32", np.float32), ("f16", np.float16)):
        value = random.normal(0, 1, (2, 3, 1, 2)).astype(dtype)
        writer.add_tensor(name, value)
        expected[name] = torch.from_numpy(value.astype(np.float32))
    value = torch.from_numpy(random.normal(0, 1, (4, 5)).astype(np.float32)).bfloat16()
    writer.add_tensor("bf16", value.view(torch.uint8).numpy(), raw_dtype=kinds.BF16)
    expected["bf16"] = value.float()
    flat = random.integers(0, 256, (9, 18), dtype=np.uint8)  # as ComfyUI-GGUF: [1,32,3,3] in rows of 32
    flat[:, :2] = np.float16(0.25).reshape(1).view(np.uint8)
    writer.add_tensor("reshaped", flat, raw_dtype=kinds.Q4_0)
    writer.add_array("comfy.gguf.orig_shape.reshaped", [1, 32, 3, 3])
    expected["reshaped"] = torch.from_numpy(gguf.quants.dequantize(flat, kinds.Q4_0).copy()).reshape(1, 32, 3, 3)
    writer.write_header_to_file(), writer.write_kv_data_to_file(), writer.write_tensors_to_file(), writer.close()
    save_file({k: v.contiguous() for k, v in expected.items()}, f"{OUT}/types_f32.safetensors")


# --- pictures of every format but PNG, JPEG and WebP, as Pillow reads them ----------------------------------------------------


def pictures():
    import numpy as np
    from PIL import Image, ImageOps
    import pillow_jxl  # noqa: F401 (JPEG XL for Pillow)

    y, x = np.mgrid[:11, :13]
    rgb = Image.fromarray(np.stack([x * 19, y * 23, (x * y * 7) % 256], -1).astype(np.uint8))
    smooth = Image.fromarray(np.stack([x * 10 + 40, y * 12 + 30, x * 5 + y * 6 + 60], -1).astype(np.uint8))
    alpha = Image.fromarray(((x * 21 + y * 3) % 256).astype(np.uint8))
    rgba = rgb.copy()
    rgba.putalpha(alpha)
    grey = rgb.convert("L")
    palette = rgb.quantize(200)
    few = rgb.quantize(12)
    bits = grey.point(lambda v: 255 * (v > 60), "1")
    deep = Image.fromarray((x * 4000 + y * 900 + 37).astype(np.uint16))
    turned = lambda n: {"exif": (lambda e: (e.__setitem__(274, n), e.tobytes())[1])(Image.Exif())}
    cases = {
        "BMP of 24 bits": (rgb, "BMP", {}), "BMP of 32 bits": (rgba, "BMP", {}), "BMP of grey": (grey, "BMP", {}),
        "BMP of a palette": (palette, "BMP", {}), "BMP of 1 bit": (bits, "BMP", {}),
        "GIF": (palette, "GIF", {}), "GIF of grey": (grey, "GIF", {}), "GIF, interlaced": (palette, "GIF", {"interlace": 1}),
        "GIF with a transparent colour": (few, "GIF", {"transparency": 3}),
        "TIFF": (rgb, "TIFF", {}), "TIFF, LZW": (rgb, "TIFF", {"compression": "tiff_lzw"}),
        "TIFF, deflate": (rgb, "TIFF", {"compression": "tiff_adobe_deflate"}), "TIFF, PackBits": (grey, "TIFF", {"compression": "packbits"}),
        "TIFF, fax": (bits, "TIFF", {"compression": "group4"}), "TIFF of a palette": (palette, "TIFF", {}),
        "TIFF with alpha": (rgba, "TIFF", {}), "TIFF of 16 bits": (deep, "TIFF", {}),
        "TIFF, JPEG": (smooth, "TIFF", {"compression": "jpeg", "quality": 95}),
        **{f"TIFF, orientation {n}": (rgb, "TIFF", {"tiffinfo": {274: n}}) for n in range(2, 9)},
        "AVIF": (smooth, "AVIF", {"quality": 100, "subsampling": "4:4:4"}), "AVIF, half the colours": (smooth, "AVIF", {"quality": 80}),
        "AVIF with alpha": (rgba, "AVIF", {"quality": 100, "subsampling": "4:4:4"}),
        **{f"AVIF, orientation {n}": (smooth, "AVIF", {"quality": 100, "subsampling": "4:4:4", **turned(n)}) for n in range(2, 9)},
        "JPEG XL": (rgb, "JXL", {"lossless": True}), "JPEG XL of grey": (grey, "JXL", {"lossless": True}),
        "JPEG XL with alpha": (rgba, "JXL", {"lossless": True}), "JPEG XL, lossy": (smooth, "JXL", {"quality": 95}),
    }
    out = []
    for name, (image, kind, options) in cases.items():
        file = io.BytesIO()
        image.save(file, kind, **options)
        read = ImageOps.exif_transpose(Image.open(io.BytesIO(file.getvalue())))
        if read.mode.startswith("I;16"):
            read = Image.fromarray((np.asarray(read) >> 8).astype(np.uint8))
        read = np.asarray(read.convert("RGBA")).astype(np.float32)
        a = read[..., 3:] / np.float32(255)
        white = np.minimum(read[..., :3] * a + 255 * (1 - a), 255).astype(np.uint8)
        out.append({"name": name, "width": white.shape[1], "height": white.shape[0], "file": packed(file.getvalue()),
                    "rgb": packed(white.tobytes())})
    write("pictures.json", out)


# --- drawing under a mask: stable-diffusion-webui's steps (modules/processing.py, modules/masking.py) by Pillow and OpenCV -----


def inpaint():
    import cv2, numpy as np
    from PIL import Image, ImageFilter, ImageOps

    def soften(mask, blur):
        size = 2 * int(2.5 * blur + 0.5) + 1
        mask = cv2.GaussianBlur(np.array(mask), (size, 1), blur)
        return Image.fromarray(cv2.GaussianBlur(mask, (1, size), blur))

    def area(mask, padding, width, height):
        box = mask.getbbox()
        x1, y1 = max(box[0] - padding, 0), max(box[1] - padding, 0)
        x2, y2 = min(box[2] + padding, mask.width), min(box[3] + padding, mask.height)
        ratio = width / height

        def widen(low, high, wanted, limit):
            more = int(wanted - (high - low))
            low, high = low - more // 2, high + more - more // 2
            if high >= limit:
                low, high = low - (high - limit), limit
            if low < 0:
                low, high = 0, high - low
            return low, min(high, limit)

        if (x2 - x1) / (y2 - y1) > ratio:
            y1, y2 = widen(y1, y2, (x2 - x1) / ratio, mask.height)
        else:
            x1, x2 = widen(x1, x2, (y2 - y1) * ratio, mask.width)
        return [x1, y1, x2 - x1, y2 - y1]

    def outside(image, mask):
        kept = Image.new("RGBa", image.size)
        kept.paste(image.convert("RGBA").convert("RGBa"), mask=ImageOps.invert(mask))
        return kept

    def fill(image, mask):
        result = Image.new("RGBA", image.size)
        kept = outside(image, mask)
        for radius, times in [(256, 1), (64, 1), (16, 2), (4, 4), (2, 2), (0, 1)]:
            layer = kept.filter(ImageFilter.GaussianBlur(radius)).convert("RGBA")
            for _ in range(times):
                result.alpha_composite(layer)
        return result.convert("RGB")

    def overlay(drawn, original, mask):
        result = drawn.convert("RGBA")
        result.alpha_composite(outside(original, mask).convert("RGBA"))
        return result.convert("RGB")

    def picture(size, seed):
        y, x = np.mgrid[:size[1], :size[0]]
        return Image.fromarray(np.stack([(x * 7 + seed) % 256, (y * 5 + x * seed) % 256, (x * y + 3 * seed) % 256], -1).astype(np.uint8))

    def shape(size, box, second=None):
        mask = np.zeros((size[1], size[0]), np.uint8)
        for x1, y1, x2, y2 in filter(None, (box, second)):
            mask[y1:y2, x1:x2] = 255
        return Image.fromarray(mask)

    cases = {
        "a box": (shape((48, 40), (12, 9, 30, 20)), 4, 3, (64, 64)),
        "sharp": (shape((48, 40), (12, 9, 30, 20)), 0, 0, (64, 32)),
        "at the edge": (shape((40, 48), (33, 0, 40, 9)), 2, 5, (32, 64)),
        "two parts": (shape((64, 24), (2, 3, 9, 9), (50, 12, 60, 20)), 1, 32, (64, 64)),
        "one pixel": (shape((24, 64), (11, 60, 12, 61)), 3, 1, (96, 32)),
        "wider than the picture": (shape((16, 16), (4, 4, 12, 12)), 12, 0, (64, 64)),
        "all": (shape((24, 16), (0, 0, 24, 16)), 4, 32, (64, 64)),
    }
    out = []
    for name, (mask, blur, padding, size) in cases.items():
        soft = soften(mask, blur) if blur else mask
        image, drawn = picture(mask.size, 11), picture(mask.size, 90)
        latents = np.array(soft.convert("RGB").resize((mask.width // 8, mask.height // 8)), np.float32)[..., 0] / 255
        out.append({"name": name, "width": mask.width, "height": mask.height, "blur": blur, "padding": padding,
                    "draw": list(size), "mask": packed(mask.tobytes()), "soft": packed(soft.tobytes()),
                    "area": area(soft, padding, *size), "latents": packed(np.around(latents).astype(np.uint8).tobytes()),
                    "image": packed(image.tobytes()), "drawn": packed(drawn.tobytes()),
                    "filled": packed(fill(image, soft).tobytes()), "over": packed(overlay(drawn, image, soft).tobytes())})
    write("inpaint.json", out)


# --- TAESD: diffusers' AutoencoderTiny of small widths, as its folder and as the author's pair of files ---------------------------


def taesd():
    """taesd/: config.json and weights, taesd_encoder and taesd_decoder.safetensors, and expected.safetensors."""
    import shutil, torch
    from diffusers import AutoencoderTiny
    from safetensors.torch import save_file
    from seeds import unit

    torch.set_grad_enabled(False)
    out = f"{OUT}/taesd"
    shutil.rmtree(out, ignore_errors=True)
    net = AutoencoderTiny(encoder_block_out_channels=(8,) * 4, decoder_block_out_channels=(8,) * 4).eval()
    last = 0.01  # of the decoder's last layer, so that most of the picture isn't clipped
    state = {k: torch.from_numpy((0.1 if v.ndim < 2 else last if ".18." in k else 0.25) * unit("taesd." + k, tuple(v.shape))).half()
             for k, v in net.state_dict().items()}
    net.load_state_dict({k: v.float() for k, v in state.items()})
    net.half().save_pretrained(out)
    net.float()
    number = lambda k, ahead: ".".join([str(int(k.split(".")[2]) + ahead)] + k.split(".")[3:])  # noqa: E731
    for half, ahead in (("encoder", 0), ("decoder", 1)):  # taesd.py's decoder begins with its clamp
        save_file({number(k, ahead): v.contiguous() for k, v in state.items() if k.startswith(half)}, f"{out}/taesd_{half}.safetensors")
    image, z = torch.from_numpy(unit("taesd.image", (1, 3, 16, 24))), torch.from_numpy(4 * unit("taesd.z", (1, 4, 2, 3)))
    save_file({"image": image, "latents": net.encode(image).latents, "z": z, "decoded": net.decode(z).sample}, f"{out}/expected.safetensors")


PARTS = {"masks": masks, "pictures": pictures, "inpaint": inpaint, "lora": lora, "types": types, "taesd": taesd}
for part in sys.argv[2:] or PARTS:
    PARTS[part]()
