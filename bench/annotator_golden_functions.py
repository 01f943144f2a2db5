# SPDX-License-Identifier: Apache-2.0
"""annotator_golden_functions.py OUT: small cases for tests/golden/annotators of annotator_functions.py's networks. OUT holds the
manifests already; it gets inputs, outputs and, but for OpenPose's scenes, cases.json.
"""
import json
import os
import sys

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file

import annotator_functions as nets
from seeded import seeded

out = sys.argv[1]
torch.set_grad_enabled(False)


def picture(key, h, w):
    """Soft colours, so that resizing and networks have something to see."""
    coarse = torch.from_numpy(seeded(key, (1, 3, 4, 5), 0, 1))
    x = F.interpolate(coarse, (h, w), mode="bicubic", align_corners=True)[0]
    return (x * 110 + 128).clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()


def write(path, image):
    Image.fromarray(image).save(os.path.join(out, path), optimize=True)


def run(name, x):
    return nets.NETWORKS[name][0]()(x)


def as_input(image):
    return torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None]


def keep(path, tensors):
    save_file({k: v.contiguous() for k, v in tensors.items()}, os.path.join(out, path))


def openpose():
    x = torch.from_numpy(seeded("openpose", (1, 3, 40, 24), 0, 0.5))
    raw = {"input": x} | run("openpose_body", x) | run("openpose_hand", x)
    keep("openpose/net_raw.safetensors", raw)
    keep("openpose/face_raw.safetensors", {"input": x} | run("openpose_face", x))


def depth_picture(depth):
    d = depth - depth.min()
    return np.repeat(((d / d.max()) * 255).clamp(0, 255).numpy().astype(np.uint8)[..., None], 3, 2)


def normal_picture(depth, a, threshold):
    """Sobel's derivatives with mirrored borders; none where the normalised depth is below the threshold."""
    p = F.pad(depth[None, None], (1, 1, 1, 1), mode="reflect")
    k = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    x, y = (F.conv2d(p, m[None, None])[0, 0] for m in (k, k.T))
    d = depth - depth.min()
    far = d / d.max() < threshold
    x[far], y[far] = 0, 0
    n = torch.stack([x, y, torch.full_like(x, a)], -1)
    n = n / n.pow(2).sum(-1, keepdim=True).sqrt()
    return (n * 127.5 + 127.5).clamp(0, 255).numpy().astype(np.uint8)


def midas():
    raw = {}
    a, threshold = 2 * np.pi, 0.4
    for key, name, h, wd in (("depth", "in", 64, 32), ("depth2", "in2", 32, 96)):
        image = picture(name, h, wd)
        write(f"midas/{name}.png", image)
        raw[key] = run("midas", as_input(image) / 127.5 - 1)["depth"][0]
    keep("midas/raw.safetensors", raw)
    write("midas/depth.png", depth_picture(raw["depth"][0]))
    write("midas/normal.png", normal_picture(raw["depth"][0], a, threshold))
    stored = {"depth": "midas/raw.safetensors", "depth_divisor": 1, "a": a, "bg_threshold": threshold,
              "depth_u8": "midas/depth.png", "normal_rgb": "midas/normal.png"}
    return {"network": {"manifest": "midas/manifest.json", "input": "midas/in.png", "input2": "midas/in2.png",
                        "raw": "midas/raw.safetensors", "depth_u8": "midas/depth.png", "normal_rgb": "midas/normal.png",
                        "normal_a": a, "normal_bg_threshold": threshold}, "conversions": [stored]}


def uniformer():
    image = picture("seg", 36, 52)  # sizes that the strides don't divide
    mean, deviation = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
    x = (as_input(image[..., ::-1].copy()) - mean[:, None, None]) / deviation[:, None, None]
    logits = run("uniformer", x)["logits"]
    full = F.interpolate(logits, x.shape[2:], mode="bilinear", align_corners=False)[0]
    best = full.topk(2, 0).values
    write("uniformer/in.png", image)
    keep("uniformer/raw.safetensors", {"input": x, "logits": logits, "margin": best[0] - best[1],
                                       "argmax": full.argmax(0).to(torch.uint8)})
    return {"manifest": "uniformer/manifest.json",
            "network": {"input": "uniformer/in.png", "raw": "uniformer/raw.safetensors"}}


openpose()
for name, make in (("midas", midas), ("uniformer", uniformer)):
    with open(os.path.join(out, name, "cases.json"), "w") as f:
        json.dump(make(), f, indent=1)
