# SPDX-License-Identifier: Apache-2.0
"""Writes the losses and gradients that training each kind of control network must give: OUT/{sd,sdxl}_KIND.json (tests/golden/kinds).

Usage: make-kind-fixtures.py tests/golden/kinds
Computed by PyPI's torch and diffusers in float32 on the CPU: T2IAdapter, ControlNetModel and ControlNetUnionModel are diffusers' own; a
Control-LoRA is ControlNetModel with base + up @ down for every weight of two or more dimensions that the UNet has too (ComfyUI's
ControlLoraOps); ControlNet-LLLite's module is written out below (kohya's networks/control_net_lllite.py). Weights and inputs follow from
names; `fill` has the rule, which tests/support/golden_kinds.c has as well.
"""
import json, math, sys
import numpy as np, torch
from diffusers import ControlNetModel, ControlNetUnionModel, T2IAdapter, UNet2DConditionModel
from seeds import unit

out = sys.argv[1]
HINT, RANK, EMB, HIDDEN, PX, TOKENS = [16, 32, 96, 256], 3, 6, 5, 128, 7
BASES = {
    "sd": {"sample_size": 16, "in_channels": 4, "out_channels": 4, "block_out_channels": [32, 32, 64, 64], "layers_per_block": 1,
           "cross_attention_dim": 24, "attention_head_dim": 4},
    "sdxl": {"sample_size": 16, "in_channels": 4, "out_channels": 4, "block_out_channels": [32, 64, 64], "layers_per_block": 1,
             "cross_attention_dim": 40, "attention_head_dim": [1, 2, 2], "use_linear_projection": True,
             "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
             "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"], "transformer_layers_per_block": [1, 1, 2],
             "addition_embed_type": "text_time", "addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 60},
}
POOLED = 60 - 6 * 8


def values(kind, name, shape):
    """A parameter's values: norms about 1, biases small, weights by their inputs."""
    u = unit(f"kinds.{kind}.{name}", shape)
    if len(shape) > 1:
        return u * np.float32(1 / math.sqrt(np.prod(shape[1:])))
    return np.float32(1) + np.float32(0.1) * u if "norm" in name and name.endswith(".weight") else np.float32(0.05) * u


def fill(kind, net):
    net.load_state_dict({k: torch.from_numpy(values(kind, k, tuple(v.shape))) for k, v in net.state_dict().items()})
    return net


def tensor(name, *shape):
    return torch.from_numpy(unit(f"kinds.{name}", shape))


def inputs(n, config):
    """As a training pass has them: latents of 16 x 16, conditions of whole numbers in 255ths."""
    context = tensor("context", n, TOKENS, config["cross_attention_dim"])
    pixels = np.floor((unit("kinds.condition", (n, PX, PX, 3)) + 1) * 128).clip(0, 255).astype(np.float32)
    condition = torch.from_numpy(pixels / np.float32(255)).permute(0, 3, 1, 2)
    added = None
    if "addition_embed_type" in config:
        added = {"text_embeds": tensor("pooled", n, POOLED), "time_ids": torch.tensor([[PX, PX, 0, 0, PX, PX]] * n).float()}
    return tensor("x", n, 4, 16, 16), torch.tensor([10, 500][:n]), context, added, condition, tensor("target", n, 4, 16, 16)


def digests(named):
    """Of each gradient: its sum, its norm, its product with the seeded tensor probe.NAME."""
    r = {}
    for name, g in named:
        g = g.detach().double().numpy()
        r[name] = [float(f"{v:.7g}") for v in (g.sum(), (g * g).sum() ** 0.5, (g * unit("probe." + name, g.shape).astype(np.float64)).sum())]
    return r


def finish(base, kind, n, more, loss, named):
    loss.backward()
    named = [(k, p.grad if p.grad is not None else torch.zeros_like(p)) for k, p in named]
    json.dump({"unet": BASES[base], "batch": n, "pooled": POOLED, **more, "loss": float(loss.detach()), "grads": digests(named)},
              open(f"{out}/{base}_{kind.replace('-', '_')}.json", "w"), separators=(",", ":"))
    print(base, kind, float(loss.detach()), len(named))


def locked_unet(base):
    net = fill("unet", UNet2DConditionModel(**BASES[base]))
    return net.requires_grad_(False)


def mse(net, x, t, context, added, target, **residuals):
    y = net(x, t, encoder_hidden_states=context, added_cond_kwargs=added, **residuals).sample
    return torch.nn.functional.mse_loss(y, target)


def adapter(base):
    xl = base == "sdxl"
    widths = BASES[base]["block_out_channels"]
    config = {"in_channels": 3, "channels": widths + widths[-1:] if xl else widths, "num_res_blocks": 2,
              "downscale_factor": 16 if xl else 8, "adapter_type": "full_adapter_xl" if xl else "full_adapter"}
    net, n = fill("t2i-adapter", T2IAdapter(**config)), 2
    x, t, context, added, condition, target = inputs(n, BASES[base])
    loss = mse(locked_unet(base), x, t, context, added, target, down_intrablock_additional_residuals=[f for f in net(condition)])
    finish(base, "t2i-adapter", n, {"control": config}, loss, net.named_parameters())


def encoder(base):
    c = {k: v for k, v in BASES[base].items() if k not in ("sample_size", "out_channels", "up_block_types")}
    return {**c, "conditioning_embedding_out_channels": HINT}


def control_lora(base):
    config, n, unet = encoder(base), 2, locked_unet(base)
    net, own, weights = ControlNetModel(**config), {}, {}
    of_base = dict(unet.named_parameters())
    for name, p in net.named_parameters():
        if name in of_base and p.ndim > 1:
            rows, columns, narrow = p.shape[0], p[0].numel(), name.removesuffix(".weight")
            r = min(RANK, rows, columns)
            up, down = [rows, r] + [1, 1] * (p.ndim == 4), [r, *p.shape[1:]]
            for which, shape in (("up", up), ("down", down)):
                own[f"{narrow}.{which}"] = torch.from_numpy(values("control-lora", f"{narrow}.{which}", tuple(shape))).requires_grad_()
            weights[name] = of_base[name] + (own[f"{narrow}.up"].flatten(1) @ own[f"{narrow}.down"].flatten(1)).reshape(p.shape)
        else:
            own[name] = weights[name] = torch.from_numpy(values("control-lora", name, tuple(p.shape))).requires_grad_()
    x, t, context, added, condition, target = inputs(n, BASES[base])
    down, mid = torch.func.functional_call(net, weights, (x, t), {"encoder_hidden_states": context, "controlnet_cond": condition,
                                                                  "added_cond_kwargs": added, "return_dict": False})
    loss = mse(unet, x, t, context, added, target, down_block_additional_residuals=down, mid_block_additional_residual=mid)
    finish(base, "control-lora", n, {"control": config, "rank": RANK}, loss, own.items())


def union(base):
    config = {**encoder(base), "num_control_type": 8, "num_trans_channel": 32, "num_proj_channel": 32, "num_trans_head": 8,
              "addition_time_embed_dim": 8}
    # a picture alone in its batch: there an entry attends to itself in either reading of the code
    net, n, kind = fill("union", ControlNetUnionModel(**config)), 1, 3
    x, t, context, added, condition, target = inputs(n, BASES[base])
    given = torch.nn.functional.one_hot(torch.tensor([kind] * n), 8).float()
    down, mid = net(x, t, encoder_hidden_states=context, controlnet_cond=[condition], control_type=given, control_type_idx=[kind],
                    added_cond_kwargs=added, conditioning_scale=[1.0] * 8, return_dict=False)
    loss = mse(locked_unet(base), x, t, context, added, target, down_block_additional_residuals=down, mid_block_additional_residual=mid)
    finish(base, "union", n, {"control": config, "type": kind}, loss, net.named_parameters())


def mlp(name, shrink, width):
    """A module's parameters, by kohya's names."""
    kernels = {8: [4, 2], 16: [4, 4], 32: [4, 4, 2], 64: [4, 4, 4]}[shrink]
    p, before = {}, 3
    for i, k in enumerate(kernels):
        after = EMB if i + 1 == len(kernels) else EMB // 2
        p[f"conditioning1.{2 * i}.weight"], p[f"conditioning1.{2 * i}.bias"] = (after, before, k, k), (after,)
        before = after
    for part, rows, columns in (("down", HIDDEN, width), ("mid", HIDDEN, HIDDEN + EMB), ("up", width, HIDDEN)):
        p[f"{part}.0.weight"], p[f"{part}.0.bias"] = (rows, columns), (rows,)
    return {k: torch.from_numpy(values("lllite", f"{name}.{k}", shape)).requires_grad_() for k, shape in p.items()}, kernels


def lllite(base):
    F, n, unet, named = torch.nn.functional, 2, locked_unet(base), []
    x, t, context, added, condition, target = inputs(n, BASES[base])
    picture, levels, per = 2 * condition - 1, len(BASES[base]["block_out_channels"]), BASES[base]["layers_per_block"] + 1

    def hook(name, shrink, width):
        p, kernels = mlp(name, shrink, width)
        named.extend((f"{name}.{k}", v) for k, v in p.items())

        def before(_, args):
            e = picture
            for i, k in enumerate(kernels):
                e = F.conv2d(F.relu(e) if i else e, p[f"conditioning1.{2 * i}.weight"], p[f"conditioning1.{2 * i}.bias"], stride=k)
            e = e.flatten(2).permute(0, 2, 1)
            h = F.relu(F.linear(args[0], p["down.0.weight"], p["down.0.bias"]))
            h = F.relu(F.linear(torch.cat([e, h], 2), p["mid.0.weight"], p["mid.0.bias"]))
            return (args[0] + F.linear(h, p["up.0.weight"], p["up.0.bias"]), *args[1:])

        return before

    for path, module in unet.named_modules():
        parts = path.split(".")
        if parts[-1] not in ("to_q", "to_k", "to_v") or (parts[-2] == "attn2" and parts[-1] != "to_q") or parts[0] == "up_blocks":
            continue
        if parts[0] == "mid_block":
            place, level, rest = ["middle_block", "1"], levels - 1, parts[3:]
        else:
            level = int(parts[1])
            place, rest = ["input_blocks", str(level * per + int(parts[3]) + 1), "1"], parts[4:]
        module.register_forward_pre_hook(hook("lllite_unet_" + "_".join(place + rest), 8 << level, module.in_features))
    loss = mse(unet, x, t, context, added, target)
    finish(base, "lllite", n, {"emb": EMB, "hidden": HIDDEN}, loss, named)


for base in BASES:
    for make in (adapter, control_lora, union, lllite):
        make(base)
