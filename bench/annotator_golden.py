# SPDX-License-Identifier: Apache-2.0
"""annotator_golden.py OUT PICTURE: small cases for tests/golden/annotators, computed by PyTorch and OpenCV.

Each network of annotator_nets.py with seeded weights (a manifest says names, shapes and ranges; values follow from
the names as tests/support/seeded_file.c makes them) over one small picture with sides of multiples of 64. Folders
have the form that `build/tests/annotators` reads. Needs torch, numpy, safetensors and opencv-python-headless, the
latter without IPP.
"""
import json
import math
import os
import sys

import cv2
import numpy as np
import torch
from safetensors.numpy import save_file

from annotator_nets import NETWORKS
from seeded import seeded


def value_range(name, shape, gain, transposed):
    leaf = name.rsplit(".", 1)[-1]
    fixed = {"running_var": (1, 0.5), "running_mean": (0, 0.1), "bias": (0, 0.05)}
    if leaf in fixed:
        return fixed[leaf]
    if len(shape) == 1:
        return 1, 0.1
    return 0, gain * math.sqrt(3 / (shape[0] if transposed else np.prod(shape[1:])))


def build(out, folder, name, file, gain, heads=()):
    """A network with seeded weights, and its manifest as OUT/FOLDER/FILE. heads: (name, offset, scale)."""
    net = NETWORKS[name][0]().eval()
    transposed = {n + ".weight" for n, m in net.named_modules() if isinstance(m, torch.nn.ConvTranspose2d)}
    tensors, state = [], {}
    for key, value in net.state_dict().items():
        if key.endswith("num_batches_tracked"):
            continue
        shape = list(value.shape)
        offset, scale = value_range(key, shape, gain, key in transposed)
        for head, o, s in heads:
            if key.startswith(head):
                offset, scale = o, s
        offset, scale = float(np.float32(offset)), float(np.float32(scale))
        tensors.append({"name": key, "shape": shape, "offset": offset, "scale": scale})
        state[key] = torch.tensor(seeded(key, shape, offset, scale))
    net.load_state_dict(state, strict=False)
    with open(f"{out}/{folder}/{file}", "w") as f:
        rows = ",\n".join(json.dumps(t) for t in tensors)
        f.write(f'{{"model": "{name}", "tensors": [\n{rows}\n]}}\n')
    return net


def run(net, x):
    with torch.inference_mode():
        return net(torch.tensor(np.ascontiguousarray(x.transpose(2, 0, 1)))[None])


def hooked(net, names, x):
    """The network's result, and those of the modules so called."""
    seen, hooks = {}, []
    for name in names:
        keep = lambda module, args, y, name=name: seen.__setitem__(name, y)
        hooks.append(net.get_submodule(name).register_forward_hook(keep))
    y = run(net, x)
    for hook in hooks:
        hook.remove()
    return y, {k: v.numpy() for k, v in seen.items()}


def trunc8(x):
    return np.clip(x, 0, 255).astype(np.uint8)


def safe_step(x):
    return (x.astype(np.float32) * np.float32(3)).astype(np.int32).astype(np.float32) / 2


def scribble(edges):
    x = cv2.GaussianBlur(edges.astype(np.float32), (0, 0), 3)
    y = np.zeros_like(x)
    for f in ([[0, 0, 0], [1, 1, 1], [0, 0, 0]], [[0, 1, 0]] * 3, np.eye(3), np.eye(3)[::-1]):
        np.putmask(y, cv2.dilate(x, np.array(f, np.uint8)) == x, x)
    thin = np.where(y > 127, 255, 0).astype(np.uint8)
    blurred = cv2.GaussianBlur(thin, (0, 0), 3)
    return thin, blurred, np.where(blurred > 4, 255, 0).astype(np.uint8)


class Folder:
    def __init__(self, out, name):
        self.out, self.name = out, name
        os.makedirs(f"{out}/{name}", exist_ok=True)

    def picture(self, file, pixels):
        cv2.imwrite(f"{self.out}/{self.name}/{file}", pixels[..., ::-1] if pixels.ndim == 3 else pixels)
        return f"{self.name}/{file}"

    def tensors(self, file, values):
        save_file({k: np.ascontiguousarray(v) for k, v in values.items()}, f"{self.out}/{self.name}/{file}")
        return f"{self.name}/{file}"

    def json(self, file, value):
        with open(f"{self.out}/{self.name}/{file}", "w") as f:
            json.dump(value, f)
        return f"{self.name}/{file}"


def hed(out, rgb):
    f, h, w = Folder(out, "hed"), *rgb.shape[:2]
    heads = [(f"block{i + 1}.projection.weight", 0, 0.06 / math.sqrt(c)) for i, c in enumerate([64, 128, 256, 512, 512])]
    heads += [(f"block{i + 1}.projection.bias", 0, 0.5) for i in range(5)] + [("norm", 110, 15)]
    net = build(out, "hed", "hed", "apache2_manifest.json", math.sqrt(2), heads)
    blocks = [f"block{i + 1}.projection" for i in range(5)]
    _, sides = hooked(net, blocks, rgb.astype(np.float32))
    sides = [sides[b] for b in blocks]
    mean = np.mean([cv2.resize(s[0, 0], (w, h), interpolation=cv2.INTER_LINEAR) for s in sides], axis=0)
    p = 1 / (1 + np.exp(-mean.astype(np.float64)))
    case = {"variant": "apache2", "manifest": "hed/apache2_manifest.json", "input": f.picture("in.png", rgb),
            "raw": f.tensors("apache2.safetensors", {f"side{i + 1}": s for i, s in enumerate(sides)}),
            "edge": f.picture("apache2.png", trunc8(255 * p)),
            "edge_safe": f.picture("apache2_safe.png", trunc8(255 * safe_step(p)))}
    scores = [("moduleScore" + n + ".weight", 0, 0.06 / math.sqrt(c))
              for n, c in zip(["One", "Two", "Thr", "Fou", "Fiv"], [64, 128, 256, 512, 512])]
    net = build(out, "hed", "hed_bsds500", "bsds500_manifest.json", math.sqrt(2), scores + [("moduleCombine.0.weight", 0.2, 0.05)])
    mean = np.array([104.00698793, 116.66876762, 122.67891434], np.float32)
    p = run(net, rgb[..., ::-1].astype(np.float32) - mean)[0].numpy()
    first = {"variant": "bsds500", "manifest": "hed/bsds500_manifest.json", "input": "hed/in.png",
             "raw": f.tensors("bsds500.safetensors", {"edge_prob": p}), "edge": f.picture("bsds500.png", trunc8(255 * p[0]))}
    f.json("cases.json", [case, first])


def pidinet(out, rgb):
    f = Folder(out, "pidinet")
    net = build(out, "pidinet", "pidinet", "manifest.json", 1.2, [("classifier.weight", 0.4, 0.1)])
    p = run(net, rgb[..., ::-1].astype(np.float32) / 255)[0, 0].numpy()
    edge = trunc8(255 * p)
    thin, blurred, strokes = scribble(edge)
    f.json("cases.json", [{
        "manifest": "pidinet/manifest.json", "input": f.picture("in.png", rgb),
        "raw": f.tensors("raw.safetensors", {"edge": p[None, None]}), "edge": f.picture("edge.png", edge),
        "edge_safe": f.picture("edge_safe.png", trunc8(255 * safe_step(p))), "nms": f.picture("nms.png", thin),
        "nms_blurred": f.picture("nms_blurred.png", blurred), "scribble": f.picture("scribble.png", strokes)}])


def lines_of(maps, value, distance):
    heat = 1 / (1 + np.exp(-maps[0]))
    peaks = np.where(cv2.dilate(heat, np.ones((3, 3), np.uint8)) == heat, heat, 0)
    order = np.argsort(-peaks.ravel(), kind="stable")[:200]
    lines = []
    for y, x in zip(*np.unravel_index(order, peaks.shape)):
        dx, dy, ex, ey = maps[1:5, y, x]
        if peaks[y, x] > value and np.hypot(dx - ex, dy - ey) > distance:
            lines.append([float(2 * v) for v in (x + dx, y + dy, x + ex, y + ey)])
    return lines


def mlsd(out, rgb):
    f, h, w = Folder(out, "mlsd"), *rgb.shape[:2]
    x = np.concatenate([rgb, np.ones((h, w, 1))], 2).astype(np.float32) / np.float32(127.5) - 1
    raw = run(build(out, "mlsd", "mlsd_tiny", "tiny_manifest.json", 1.2, [("block16.conv3", 0, 1)]), x).numpy()
    decoded = []
    for value, distance in [(0.1, 0.1), (0.6, 1)]:
        lines, canvas = lines_of(raw[0], value, distance), np.zeros((h, w), np.uint8)
        for line in lines:
            a, b, c, d = (int(v) for v in line)
            cv2.line(canvas, (a, b), (c, d), 255, 1)
        name = f"v{value}_d{distance}"
        print("mlsd", name, len(lines), "lines")
        decoded.append(f.json(name + ".json", {"value_threshold": value, "distance_threshold": distance,
                                               "lines_xyxy": lines, "map": f.picture(name + ".png", canvas)}))
    case = {"name": "scene", "input": f.picture("in.png", rgb),
            "raw": f.tensors("tiny.safetensors", {"raw": raw[:, :5]}), "decoded": decoded}
    names = ["backbone.features.1", "backbone.features.13"]
    large, taps = hooked(build(out, "mlsd", "mlsd_large", "large_manifest.json", 1.2), names, x)
    large, c1, c5 = large.numpy(), taps[names[0]][:, :2], taps[names[1]][:, :8]
    f.json("cases.json", {"tiny": {"manifest": "mlsd/tiny_manifest.json", "cases": [case]},
                          "large": {"manifest": "mlsd/large_manifest.json", "input": "mlsd/in.png",
                                    "raw": f.tensors("large.safetensors", {"raw": large[:, :5], "c1": c1, "c5": c5})}})


def lineart(out, rgb):
    f = Folder(out, "lineart")
    net = build(out, "lineart", "lineart", "manifest.json", math.sqrt(2))
    y, taps = hooked(net, ["model0", "model2"], rgb.astype(np.float32) / 255)
    y = y[0, 0].numpy()
    raw = {"out": y[None, None], "model2_ch0_3": taps["model2"][:, :4]}
    f.json("cases.json", {"manifest": "lineart/manifest.json", "input": f.picture("in.png", rgb),
                          "raw": f.tensors("raw.safetensors", raw), "detector_output": f.picture("out.png", trunc8(255 * y))})


def lineart_anime(out, rgb):
    f, h, w = Folder(out, "lineart_anime"), *rgb.shape[:2]
    net = build(out, "lineart_anime", "lineart_anime", "manifest.json", math.sqrt(2), [("model.model.3.weight", 0, 0.02)])
    size = [256 * math.ceil(s / 256) for s in (w, h)]
    feed = cv2.resize(rgb, size, interpolation=cv2.INTER_CUBIC).astype(np.float32) / np.float32(127.5) - 1
    y = run(net, feed)[0, 0].numpy() * np.float32(127.5) + np.float32(127.5)
    y = cv2.resize(y, (w, h), interpolation=cv2.INTER_CUBIC)
    f.json("cases.json", {"manifest": "lineart_anime/manifest.json", "input": f.picture("in.png", rgb),
                          "detector_output": f.picture("out.png", trunc8(y))})


def main():
    out, rgb = sys.argv[1], cv2.imread(sys.argv[2])[..., ::-1]
    for make in (hed, pidinet, mlsd, lineart, lineart_anime):
        os.makedirs(f"{out}/{make.__name__}", exist_ok=True)
        make(out, np.ascontiguousarray(rgb))


if __name__ == "__main__":
    main()
