# SPDX-License-Identifier: Apache-2.0
"""Writes OUT_FILE (tests/golden/reference.safetensors): what diffusers' UNet gives where its self-attentions see a reference, in
two runs as sd-webui-controlnet's reference_only makes them: the first keeps what each self-attention reads, in the second
it stands beside the own. Float32 on the CPU; weights and inputs follow from names (cn_seed_tensor).

Usage: make-reference-fixtures.py OUT_FILE CORE_DIR
CORE_DIR: the manifest of the small Stable Diffusion 1.5's UNet (tests/golden/core).

Samples: x[0:2] the reference for guidance's unconditional and conditional half, x[2:4] the drawing's halves.
"""
import json, sys
import numpy as np, torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from safetensors.torch import save_file

from seeds import unit

out, core = sys.argv[1:]
torch.set_grad_enabled(False)
manifest = json.load(open(f"{core}/unet.manifest.json"))
unet = UNet2DConditionModel(**manifest["config"]).eval()
unet.load_state_dict({e["name"]: torch.from_numpy(np.float32(e["offset"]) + np.float32(e["scale"]) * unit(e["key"], e["shape"]))
                      for e in manifest["tensors"]})
own = AttnProcessor()
bank, mode = {}, {}


class Reference:
    def __init__(self, name, width):
        self.name, self.width = name, width

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, **rest):
        x = hidden_states
        if mode["write"]:
            bank[self.name] = x.clone()
            return own(attn, x, None, attention_mask)
        plain = own(attn, x, None, attention_mask)
        if mode["weight"] <= self.rank:
            return plain
        seeing = own(attn, x, torch.cat([x, bank[self.name]], 1), attention_mask)
        mixed = seeing.clone()
        mixed[:1] = mode["fidelity"] * plain[:1] + (1 - mode["fidelity"]) * seeing[:1]
        return mixed


found = []
for name, module in unet.named_modules():
    if name.endswith("attn1"):
        module.processor = Reference(name, module.to_q.weight.shape[0])
        found.append(module.processor)
SIDES = ["down_blocks", "mid_block", "up_blocks"]
found.sort(key=lambda p: SIDES.index(p.name.split(".")[0]))  # stable: the network's order
found.sort(key=lambda p: -p.width)
for i, p in enumerate(found):
    p.rank = i / len(found)

size, context = 16, unet.config.cross_attention_dim
x = torch.from_numpy(unit("reference.x", (4, unet.config.in_channels, size, size // 2)))
text = torch.from_numpy(unit("reference.context", (4, 7, context)))
text[:2] = text[2:]
t = torch.full((4,), 321.0)
tensors = {"x": x, "context": text, "t": t}
CASES = {"prompt": (0.0, 1.0), "balanced": (0.5, 1.0), "control": (1.0, 1.0), "part": (0.25, 0.5)}
for name, (fidelity, weight) in CASES.items():
    mode.update(write=True)
    unet(x[:2], t[:2], text[:2])
    mode.update(write=False, fidelity=fidelity, weight=weight)
    tensors[name] = unet(x[2:], t[2:], text[2:]).sample
mode.update(write=False, fidelity=0.0, weight=0.0)
tensors["plain"] = unet(x[2:], t[2:], text[2:]).sample
save_file({k: v.contiguous() for k, v in tensors.items()}, out)
for k in CASES:
    d = (tensors[k] - tensors["plain"]).abs().amax((1, 2, 3))
    print(f"{k}: {len(found)} blocks, differs from plain by {d.tolist()}, of {tensors['plain'].abs().max():.3f}")
