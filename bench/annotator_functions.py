# SPDX-License-Identifier: Apache-2.0
"""OpenPose's, MiDaS's and UniFormer's networks in PyTorch, as functions of a dictionary of tensors under their published
names. Written from the papers and the published files' names and shapes.
"""
import json
import os

import torch
from torch.nn import functional as F

from seeded import seeded

GOLDEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tests/golden/annotators")


def conv(w, name, x, **options):
    return F.conv2d(x, w[name + ".weight"], w.get(name + ".bias"), **options)


def norm(w, name, x, eps):
    return F.layer_norm(x, x.shape[-1:], w[name + ".weight"], w[name + ".bias"], eps)


def linear(w, name, x):
    return F.linear(x, w[name + ".weight"], w[name + ".bias"])


def transformer_block(w, name, x, heads, eps):
    B, L, C = x.shape
    qkv = linear(w, name + "attn.qkv", norm(w, name + "norm1", x, eps))
    q, k, v = qkv.reshape(B, L, 3, heads, C // heads).permute(2, 0, 3, 1, 4)
    y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, L, C)
    x = x + linear(w, name + "attn.proj", y)
    y = F.gelu(linear(w, name + "mlp.fc1", norm(w, name + "norm2", x, eps)))
    return x + linear(w, name + "mlp.fc2", y)


# --- OpenPose ---------------------------------------------------------------------------------------------


def layer(w, name, x):
    return F.relu_(conv(w, name, x, padding=w[name + ".weight"].shape[-1] // 2))


def vgg(w, x):
    for block, layers in enumerate((2, 2, 4, 2)):
        if block:
            x = F.max_pool2d(x, 2, 2)
        for i in range(layers):
            x = layer(w, f"conv{block + 1}_{i + 1}", x)
    return x


def stage(w, number, branch, x):
    for i in range(1, 7):
        x = layer(w, f"Mconv{i}_stage{number}{branch}", x)
    return conv(w, f"Mconv7_stage{number}{branch}", x)


def body(w, x):
    features = layer(w, "conv4_4_CPM", layer(w, "conv4_3_CPM", vgg(w, x)))
    maps = []
    for branch in ("_L1", "_L2"):
        y = features
        for i in range(1, 5):
            y = layer(w, f"conv5_{i}_CPM{branch}", y)
        maps.append(conv(w, "conv5_5_CPM" + branch, y))
    for number in range(2, 7):
        x = torch.cat(maps + [features], 1)
        maps = [stage(w, number, branch, x) for branch in ("_L1", "_L2")]
    return {"paf": maps[0], "heat": F.relu(maps[1])}


def points(w, x):
    x = vgg(w, x)
    for name in ("conv4_3", "conv4_4", "conv5_1", "conv5_2"):
        x = layer(w, name, x)
    features = layer(w, "conv5_3_CPM", x)
    x = conv(w, "conv6_2_CPM", layer(w, "conv6_1_CPM", features))
    for number in range(2, 7):
        x = stage(w, number, "", torch.cat([x, features], 1))
    return x


def hand(w, x):
    return {"hand": points(w, x)}


def face(w, x):
    return {"heat": points(w, x)}


# --- MiDaS, DPT-hybrid ------------------------------------------------------------------------------------


def standardise(w):
    """Once: the weights of the ResNet's convolutions, each filter by its own mean and deviation."""
    for name, k in w.items():
        if ".backbone." in name and k.ndim == 4:
            var, mean = torch.var_mean(k, (1, 2, 3), unbiased=False, keepdim=True)
            w[name] = (k - mean) / torch.sqrt(var + 1e-8)


def same(x, kernel, stride, value=0.0):
    pad = []
    for n in (x.shape[3], x.shape[2]):
        total = max((-(-n // stride) - 1) * stride + kernel - n, 0)
        pad += [total // 2, total - total // 2]
    return F.pad(x, pad, value=value) if any(pad) else x


def conv_norm(w, name, norm_name, x, stride=1):
    x = conv(w, name, same(x, w[name + ".weight"].shape[-1], stride), stride=stride)
    return F.group_norm(x, 32, w[norm_name + ".weight"], w[norm_name + ".bias"])


def resnet(w, x):
    p = "pretrained.model.patch_embed.backbone."
    x = F.relu_(conv_norm(w, p + "stem.conv", p + "stem.norm", x, 2))
    x = F.max_pool2d(same(x, 3, 2, float("-inf")), 3, 2)
    levels = []
    for number, blocks in enumerate((3, 4, 9)):
        for i in range(blocks):
            b = f"{p}stages.{number}.blocks.{i}."
            stride = 2 if number and not i else 1
            shortcut = x if i else conv_norm(w, b + "downsample.conv", b + "downsample.norm", x, stride)
            x = F.relu_(conv_norm(w, b + "conv1", b + "norm1", x))
            x = F.relu_(conv_norm(w, b + "conv2", b + "norm2", x, stride))
            x = F.relu_(conv_norm(w, b + "conv3", b + "norm3", x) + shortcut)
        levels.append(x)
    return levels


def readout(w, name, tokens, H, W):
    x = torch.cat([tokens[:, 1:], tokens[:, :1].expand(-1, H * W, -1)], -1)
    x = F.gelu(linear(w, name + "0.project.0", x)).transpose(1, 2).reshape(1, -1, H, W)
    return conv(w, name + "3", x)


def residual_unit(w, name, x):
    y = conv(w, name + "conv1", F.relu(x), padding=1)
    return x + conv(w, name + "conv2", F.relu(y), padding=1)


def twice(x):
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)


def midas(w, x):
    H, W = x.shape[2] // 16, x.shape[3] // 16
    p = "pretrained.model."
    levels = resnet(w, x)
    x = conv(w, p + "patch_embed.proj", levels.pop()).flatten(2).transpose(1, 2)
    table = w[p + "pos_embed"]
    grid = F.interpolate(table[:, 1:].reshape(1, 24, 24, -1).permute(0, 3, 1, 2), (H, W), mode="bilinear")
    x = torch.cat([w[p + "cls_token"], x], 1) + torch.cat([table[:, :1], grid.flatten(2).transpose(1, 2)], 1)
    for i in range(12):
        x = transformer_block(w, f"{p}blocks.{i}.", x, 12, 1e-6)
        if i == 8:
            levels.append(readout(w, "pretrained.act_postprocess3.", x, H, W))
    x = readout(w, "pretrained.act_postprocess4.", x, H, W)
    levels.append(conv(w, "pretrained.act_postprocess4.4", x, stride=2, padding=1))
    x = None
    for i in (4, 3, 2, 1):
        level = conv(w, f"scratch.layer{i}_rn", levels[i - 1], padding=1)
        f = f"scratch.refinenet{i}."
        x = level if x is None else x + residual_unit(w, f + "resConfUnit1.", level)
        x = conv(w, f + "out_conv", twice(residual_unit(w, f + "resConfUnit2.", x)))
    x = twice(conv(w, "scratch.output_conv.0", x, padding=1))
    x = F.relu_(conv(w, "scratch.output_conv.2", x, padding=1))
    return {"depth": F.relu_(conv(w, "scratch.output_conv.4", x))}


# --- UniFormer-S with UPerNet -----------------------------------------------------------------------------


def batch_norm(w, name, x):
    return F.batch_norm(x, w[name + ".running_mean"], w[name + ".running_var"], w[name + ".weight"], w[name + ".bias"])


def channel_norm(w, name, x, eps):
    return norm(w, name, x.permute(0, 2, 3, 1), eps).permute(0, 3, 1, 2)


def uniformer_block(w, name, x, attends):
    C, H, W = x.shape[1:]
    x = x + conv(w, name + "pos_embed", x, padding=1, groups=C)
    if attends:
        x = transformer_block(w, name, x.flatten(2).transpose(1, 2), C // 64, 1e-6)
        return x.transpose(1, 2).reshape(1, C, H, W)
    y = conv(w, name + "conv1", batch_norm(w, name + "norm1", x))
    x = x + conv(w, name + "conv2", conv(w, name + "attn", y, padding=2, groups=C))
    return x + conv(w, name + "mlp.fc2", F.gelu(conv(w, name + "mlp.fc1", batch_norm(w, name + "norm2", x))))


def head_layer(w, name, x):
    name = "decode_head." + name
    x = conv(w, name + ".conv", x, padding=w[name + ".conv.weight"].shape[-1] // 2)
    return F.relu_(batch_norm(w, name + ".bn", x))


def to_size_of(x, like):
    return F.interpolate(x, like.shape[2:], mode="bilinear", align_corners=False)


def uniformer(w, x):
    levels = []
    for i, depth in enumerate((3, 4, 8, 3)):
        p = f"backbone.patch_embed{i + 1}."
        x = channel_norm(w, p + "norm", conv(w, p + "proj", x, stride=2 if i else 4), 1e-5)
        for k in range(depth):
            x = uniformer_block(w, f"backbone.blocks{i + 1}.{k}.", x, i >= 2)
        levels.append(channel_norm(w, f"backbone.norm{i + 1}", x, 1e-6))
    top = levels[3]
    means = [head_layer(w, f"psp_modules.{i}.1", F.adaptive_avg_pool2d(top, n)) for i, n in enumerate((1, 2, 3, 6))]
    maps = [head_layer(w, f"lateral_convs.{i}", levels[i]) for i in range(3)]
    maps.append(head_layer(w, "bottleneck", torch.cat([top] + [to_size_of(m, top) for m in means], 1)))
    for i in (3, 2, 1):
        maps[i - 1] = maps[i - 1] + to_size_of(maps[i], maps[i - 1])
    maps[:3] = [head_layer(w, f"fpn_convs.{i}", maps[i]) for i in range(3)]
    x = head_layer(w, "fpn_bottleneck", torch.cat([to_size_of(m, maps[0]) for m in maps], 1))
    return {"logits": conv(w, "decode_head.conv_seg", x)}


# --- as annotator_nets.py has its networks ------------------------------------------------------------------


class Named(torch.nn.Module):
    """A function with a manifest's seeded tensors. side: of its picture, for a picture of px."""

    def __init__(self, function, manifest, side=None, prepare=None):
        super().__init__()
        self.function = function
        self.side = side or (lambda px: px)
        with open(os.path.join(GOLDEN, manifest)) as f:
            self.tensors = {t["name"]: torch.from_numpy(seeded(t.get("key", t["name"]), t["shape"], t["offset"], t["scale"]))
                            for t in json.load(f)["tensors"]}
        if prepare:
            prepare(self.tensors)

    def to(self, memory_format):
        self.tensors = {k: v.contiguous(memory_format=memory_format) if v.ndim == 4 else v for k, v in self.tensors.items()}
        return self

    def forward(self, x):
        return self.function(self.tensors, x)


NETWORKS = {
    "openpose_body": (lambda: Named(body, "openpose/body_manifest.json", lambda px: 184), 3, "OpenPose (body)"),
    "openpose_hand": (lambda: Named(hand, "openpose/hand_manifest.json", lambda px: 368), 3, "OpenPose (hands)"),
    "openpose_face": (lambda: Named(face, "openpose/face_manifest.json", lambda px: 384), 3, "OpenPose (face)"),
    "midas": (lambda: Named(midas, "midas/manifest.json", lambda px: px * 3 // 4 // 32 * 32, standardise), 3,
              "MiDaS (DPT-hybrid)"),
    "uniformer": (lambda: Named(uniformer, "uniformer/manifest.json"), 3, "UniFormer-S with UPerNet"),
}
