# SPDX-License-Identifier: Apache-2.0
"""Writes tests/golden/prompts: what prompts of both styles, textual inversion embeddings and LoRA files give, with
transformers' CLIP, diffusers' pipeline and peft in float32 on the CPU.

Usage: make-prompt-fixtures.py GOLDEN_DIR (tests/golden), from whose core/ and pipelines/merges.json the small networks
and the tokenizer follow. The webui style is stable-diffusion-webui's, written here a second time from its
description: text in brackets weighs 1.1 or the number given, chunks hold 75 tokens, a full chunk ends behind a comma
among its last 20 tokens, features are multiplied by the weights and brought back to their old mean.
"""
import json, os, re, shutil, sys, tempfile
import numpy as np, torch
from safetensors.torch import save_file
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from peft import LoraConfig
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer
from seeds import unit

golden = sys.argv[1]
out = golden + "/prompts"
os.makedirs(out, exist_ok=True)
torch.set_grad_enabled(False)
def network(cls, name):
    m = json.load(open(f"{golden}/core/{name}.manifest.json"))
    net = cls(CLIPTextConfig(**m["config"])) if cls is CLIPTextModel else cls(**m["config"])
    state = net.state_dict()
    weights = {}
    for e in m["tensors"]:  # the test's model is written as F16
        v = torch.from_numpy(np.float32(e["offset"]) + np.float32(e["scale"]) * unit(e["key"], e["shape"])).half().float()
        weights[e["name"] if e["name"] in state else e["name"].removeprefix("text_model.")] = v
    net.load_state_dict(weights, strict=False)
    if cls is CLIPTextModel and not hasattr(net, "text_model"):
        net.__dict__["text_model"] = net  # diffusers asks for the name that transformers 5 dropped
    return net.eval()


def tokenizer(folder):
    """CLIP's ids for the few words that the tests use; every other merge is a filler."""
    shown = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    chars = [chr(b) for b in shown] + [chr(256 + i) for i in range(256 - len(shown))]
    vocab = chars + [c + "</w>" for c in chars] + [f"filler {i}" for i in range(49408 - 514)] + ["<|startoftext|>", "<|endoftext|>"]
    lines = ["#version: 0.2"]
    for rank, pair in json.load(open(f"{golden}/pipelines/merges.json")):
        vocab[512 + rank] = pair.replace(" ", "")
        lines.append(pair)
    json.dump({v: i for i, v in enumerate(vocab)}, open(folder + "/vocab.json", "w"))
    open(folder + "/merges.txt", "w").write("\n".join(lines) + "\n")
    return CLIPTokenizer.from_pretrained(folder, pad_token="<|endoftext|>", model_max_length=77)


clip = network(CLIPTextModel, "text_encoder")
temp = tempfile.mkdtemp()
tok = tokenizer(temp)
BOS, EOS, COMMA = tok.bos_token_id, tok.eos_token_id, tok(",", add_special_tokens=False).input_ids[0]

# --- embeddings, in the four published forms

E = {"pt": torch.from_numpy(unit("prompts.embedding.pt", (3, 32))) * 0.5,
     "st": torch.from_numpy(unit("prompts.embedding.st", (1, 32))) * 0.5,
     "toy": torch.from_numpy(unit("prompts.embedding.toy", (32,))) * 0.5,
     "two": torch.from_numpy(unit("prompts.embedding.two", (2, 32))) * 0.5}
torch.save({"string_to_token": {"*": 265}, "string_to_param": {"*": E["pt"]}, "name": "x", "step": 7,
            "sd_checkpoint": None, "sd_checkpoint_name": None}, f"{out}/bad-dog.pt")
save_file({"emb_params": E["st"]}, f"{out}/dogstyle.safetensors")
torch.save({"<dog-toy>": E["toy"]}, f"{out}/learned_embeds.bin")
save_file({"<two>": E["two"]}, f"{out}/twofold.safetensors")
WORDS = {"bad-dog": E["pt"], "dogstyle": E["st"], "learned_embeds": E["toy"][None], "<dog-toy>": E["toy"][None],
         "<two>": E["two"], "twofold": E["two"]}
WORD_IDS = {w: tok(w, add_special_tokens=False).input_ids for w in WORDS}

# --- the webui style


def weighted(text):
    pieces, stacks = [], {"(": [], "[": []}

    def scale(begin, by):
        for p in pieces[begin:]:
            p[1] *= by

    for m in re.finditer(r"\\[()\[\]\\]|\\|[(\[]|:\s*([+-]?[.\d]+)\s*\)|[)\]]|[^\\()\[\]:]+|:", text):
        t = m.group()
        if t[0] == "\\":
            pieces.append([t[1:], 1.0])
        elif t in stacks:
            stacks[t].append(len(pieces))
        elif m.group(1) and stacks["("]:
            scale(stacks["("].pop(), float(m.group(1)))
        elif t == ")" and stacks["("]:
            scale(stacks["("].pop(), 1.1)
        elif t == "]" and stacks["["]:
            scale(stacks["["].pop(), 1 / 1.1)
        else:
            for i, part in enumerate(re.split(r"\s*\bBREAK\b\s*", t)):
                pieces += [["BREAK", -1]] * (i > 0) + [[part, 1.0]]
    for begin in stacks["("]:
        scale(begin, 1.1)
    for begin in stacks["["]:
        scale(begin, 1 / 1.1)
    merged = []
    for piece in pieces or [["", 1.0]]:  # neighbours of one weight are one text
        if merged and merged[-1][1] == piece[1]:
            merged[-1][0] += piece[0]
        else:
            merged.append(list(piece))
    return merged


def chunks_of(text):
    done, now, comma = [], [], None  # now: (id, weight, vector)

    def close():
        nonlocal now, comma
        done.append(now)
        now, comma = [], None

    for piece, weight in weighted(text):
        if (piece, weight) == ("BREAK", -1):
            close()
            continue
        ids, i = tok(piece, add_special_tokens=False).input_ids, 0
        while i < len(ids):
            if ids[i] == COMMA:
                comma = len(now)
            elif len(now) == 75 and comma is not None and 75 - comma <= 20:
                rest = now[comma + 1:]
                now = now[:comma + 1]
                close()
                now = rest
            if len(now) == 75:
                close()
            fits = [w for w, k in WORD_IDS.items() if ids[i:i + len(k)] == k]
            if fits:
                word = max(fits, key=lambda w: len(WORD_IDS[w]))
                if len(now) + len(WORDS[word]) > 75:
                    close()
                now += [(0, weight, v) for v in WORDS[word]]
                i += len(WORD_IDS[word])
            else:
                now.append((ids[i], weight, None))
                i += 1
    if now or not done:
        close()
    return done


def encode(batch, skip):
    """[[(id, weight, vector)] * 77] of several texts to features, by CLIP's own layers."""
    vectors = [v for row in batch for t, v in enumerate(row) if v[2] is not None]
    ids = torch.tensor([[t[0] for t in row] for row in batch])
    table = clip.get_input_embeddings()

    def replace(_module, _input, rows):
        rows = rows.clone()
        for i, row in enumerate(batch):
            for k, t in enumerate(row):
                if t[2] is not None:
                    rows[i, k] = t[2]
        return rows

    hook = table.register_forward_hook(replace) if vectors else None
    o = clip(ids, output_hidden_states=True)
    if hook:
        hook.remove()
    ln = clip.text_model.final_layer_norm
    return o.last_hidden_state if skip == 0 else ln(o.hidden_states[-1 - skip])


def webui(texts, skip=0):
    all_chunks = [chunks_of(t) for t in texts]
    parts = []
    for i in range(max(map(len, all_chunks))):
        rows = []
        for chunks in all_chunks:
            c = chunks[i] if i < len(chunks) else []
            rows.append([(BOS, 1.0, None)] + c + [(EOS, 1.0, None)] * (76 - len(c)))
        z = encode(rows, skip)
        mean = z.mean()
        z = z * torch.tensor([[t[1] for t in r] for r in rows])[..., None]
        parts.append(z * (mean / z.mean()))
    return torch.hstack(parts)


tensors, cases = {}, []


def case(name, style, texts, features, **more):
    tensors[name] = features.half().contiguous()
    cases.append(dict(name=name, style=style, texts=texts, **more))


LONG = "a cute dog, best quality, lowres, bad anatomy, " * 9
for name, texts, skip in [
    ("plain words", ["a cute dog, best quality"], 0),
    ("weights", ["a (cute:1.3) ((dog)), [best] quality \\(lowres\\)"], 0),
    ("negative weight", ["a (cute:-0.5) dog"], 0),
    ("open brackets", ["a ((cute dog, [best quality"], 0),
    ("break", ["a cute dog BREAK best (quality:1.4)"], 0),
    ("break at the end", ["a cute dog BREAK"], 0),
    ("joined", ["(do)(g) (cu)(te:1.1) low\\\\res"], 0),
    ("two chunks", ["a cute dog, best quality, " * 14], 0),
    ("commas", [LONG], 0),
    ("no commas", ["dog " * 100 + "(best:0.7)"], 1),
    ("stages", ["a (cute:1.2) dog", "best quality", LONG[:400]], 0),
    ("embeddings", ["a (bad-dog:1.2), <dog-toy> best dogstyle quality <two>"], 0),
    ("embedding at the edge", ["dog " * 73 + "bad-dog best"], 0),
]:
    case(name, "webui", texts, webui(texts, skip), skip=skip, chunks=len(webui(texts, skip)[0]) // 77)

# --- LoRA files: the change of each weight, by the published formulas


def rand(key, *shape):
    return torch.from_numpy(unit("prompts.lora." + key, shape))


ATTN = "down_blocks.0.attentions.0.transformer_blocks.0."
CHANGES = {}  # file: {(network, module): change of its weight}


def flat(network, module):
    return {"unet": "lora_unet_", "text_encoder": "lora_te_"}[network] + module.replace(".", "_")


def weight_of(network, module):
    net = {"unet": unet, "text_encoder": clip}[network]
    if network == "text_encoder" and not any(k.startswith("text_model.") for k in clip.state_dict()):
        module = module.removeprefix("text_model.")
    return net.get_submodule(module).weight


def kohya():
    tensors, changes = {}, {}
    for network, module, rank, alpha, mid in [
        ("unet", ATTN + "attn1.to_q", 4, 2.0, False), ("unet", ATTN + "attn2.to_out.0", 3, None, False),
        ("unet", ATTN + "ff.net.0.proj", 2, 1.0, False), ("unet", "down_blocks.1.resnets.0.conv1", 2, 4.0, False),
        ("unet", "mid_block.resnets.0.conv2", 3, 1.5, True), ("unet", "up_blocks.1.attentions.0.proj_in", 2, 1.0, False),
        ("text_encoder", "text_model.encoder.layers.0.self_attn.q_proj", 4, 4.0, False),
        ("text_encoder", "text_model.encoder.layers.2.mlp.fc1", 2, 0.5, False),
    ]:
        key, shape = flat(network, module), tuple(weight_of(network, module).shape)
        O, I, k = shape[0], shape[1], shape[2:]
        up = rand(key + "up", O, rank, *[1] * len(k)) * 0.3
        down = rand(key + "down", rank, I, *([1] * len(k) if mid else k)) * 0.3
        tensors[key + ".lora_up.weight"], tensors[key + ".lora_down.weight"] = up.half(), down.half()
        up, down = up.half().float(), down.half().float()
        if mid:
            m = rand(key + "mid", rank, rank, *k).half()
            tensors[key + ".lora_mid.weight"] = m
            change = torch.einsum("nmkl,in,mj->ijkl", m.float(), up.flatten(1), down.flatten(1))
        else:
            change = (up.flatten(1) @ down.flatten(1)).reshape(shape)
        if alpha is not None:
            tensors[key + ".alpha"] = torch.tensor(alpha).half()
        changes[network, module] = change * ((alpha / rank) if alpha else 1)
    return tensors, changes


def lycoris():
    tensors, changes = {}, {}

    def put(module, scale, change, **parts):
        key = flat("unet", module)
        tensors.update({key + "." + n: v for n, v in parts.items()})
        changes["unet", module] = (change * scale).reshape(weight_of("unet", module).shape)

    m = ATTN + "attn1.to_k"  # LoHa
    O, I = weight_of("unet", m).shape
    a, b, c, d = rand("ha1", O, 3), rand("ha2", 3, I), rand("ha3", O, 3), rand("ha4", 3, I)
    put(m, 2 / 3, (a @ b) * (c @ d), hada_w1_a=a, hada_w1_b=b, hada_w2_a=c, hada_w2_b=d, alpha=torch.tensor(2.0))
    m = "down_blocks.1.resnets.1.conv2"  # LoHa with middle factors
    O, I = weight_of("unet", m).shape[:2]
    t1, t2 = rand("ht1", 2, 2, 3, 3), rand("ht2", 2, 2, 3, 3)
    a, b, c, d = rand("hc1", 2, O), rand("hc2", 2, I), rand("hc3", 2, O), rand("hc4", 2, I)
    one = torch.einsum("ijkl,jr,ip->prkl", t1, b, a)
    put(m, 1 / 2, one * torch.einsum("ijkl,jr,ip->prkl", t2, d, c), hada_w1_a=a, hada_w1_b=b, hada_w2_a=c, hada_w2_b=d,
        hada_t1=t1, hada_t2=t2, alpha=torch.tensor(1.0))
    m = ATTN + "attn1.to_v"  # LoKr, the second factor of low rank
    O, I = weight_of("unet", m).shape
    w1, a, b = rand("k1", 4, 8), rand("k2", O // 4, 2), rand("k3", 2, I // 8)
    put(m, 3 / 2, torch.kron(w1, a @ b), lokr_w1=w1, lokr_w2_a=a, lokr_w2_b=b, alpha=torch.tensor(3.0))
    m = "up_blocks.0.resnets.0.conv2"  # LoKr with a middle factor
    O, I = weight_of("unet", m).shape[:2]
    w1, t, a, b = rand("k4", 4, 2), rand("k5", 3, 3, 3, 3), rand("k6", 3, O // 4), rand("k7", 3, I // 2)
    w2 = torch.einsum("ijkl,ip,jr->prkl", t, a, b).contiguous()
    put(m, 1 / 3, torch.kron(w1[:, :, None, None], w2), lokr_w1=w1, lokr_w2_a=a, lokr_w2_b=b, lokr_t2=t,
        alpha=torch.tensor(1.0))
    m = ATTN + "norm1"  # a whole difference
    v = rand("diff", *weight_of("unet", m).shape)
    put(m, 1, v, diff=v)
    return tensors, changes


def peft_file(folder):
    """A LoRA that peft made and diffusers saved; the change is what fusing adds."""
    names = ["attn1.to_q", "attn2.to_v", "attn2.to_out.0", "mid_block.resnets.0.conv1"]
    modules = [n for n, _ in unet.named_modules() if any(n.endswith(k) for k in names)][:5] + ["mid_block.resnets.0.conv1"]
    texts = [n for n, _ in clip.named_modules() if n.endswith("layers.1.self_attn.v_proj")]
    other, words = network(UNet2DConditionModel, "unet"), network(CLIPTextModel, "text_encoder")
    other.add_adapter(LoraConfig(r=3, lora_alpha=6, target_modules=modules))
    words.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=texts))
    for n, p in list(other.named_parameters()) + list(words.named_parameters()):
        if ".lora_" in n:
            p.copy_(rand("peft." + n, *p.shape) * 0.3)
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft.utils import get_peft_model_state_dict
    from diffusers.training_utils import _collate_lora_metadata
    StableDiffusionPipeline.save_lora_weights(
        folder, unet_lora_layers=convert_state_dict_to_diffusers(get_peft_model_state_dict(other)),
        text_encoder_lora_layers=convert_state_dict_to_diffusers(get_peft_model_state_dict(words)),
        weight_name="peft.safetensors",
        **_collate_lora_metadata({"unet": other, "text_encoder": words}))
    other.fuse_lora()
    changes = {}
    for n in modules:
        changes["unet", n] = other.get_submodule(n).base_layer.weight - weight_of("unet", n)
    for n in texts:
        layer = words.get_submodule(n)
        layer.merge()
        full = n if n.startswith("text_model.") else "text_model." + n
        changes["text_encoder", full] = layer.base_layer.weight - weight_of("text_encoder", full)
    return changes


unet, vae = network(UNet2DConditionModel, "unet"), network(AutoencoderKL, "vae")
tensors_k, CHANGES["kohya"] = kohya()
save_file({**tensors_k, "lora_unet_no_such_module.lora_up.weight": torch.ones(2, 2),
           "lora_unet_no_such_module.lora_down.weight": torch.ones(2, 2)}, f"{out}/kohya.safetensors")
tensors_l, CHANGES["lycoris"] = lycoris()
save_file({k: v.contiguous() for k, v in tensors_l.items()}, f"{out}/lycoris.safetensors")
CHANGES["peft"] = peft_file(out)
# The same as older diffusers named it, without the alphas' metadata: its modules act with weight 1.
from safetensors.torch import load_file
old, CHANGES["older"] = {}, {}
for k, v in load_file(f"{out}/peft.safetensors").items():
    k = k.replace(".lora_A.", ".lora.down.").replace(".lora_B.", ".lora.up.").replace(".lora_linear_layer.", ".lora.")
    k = re.sub(r"\.(attn\d)\.to_(q|k|v|out)(\.0)?\.lora\.", r".\1.processor.to_\2_lora.", k)
    k = re.sub(r"self_attn\.(q|k|v|out)_proj\.lora\.", r"self_attn.to_\1_lora.", k)
    old[k] = v
save_file(old, f"{out}/older.safetensors")
for (net, module), change in CHANGES["peft"].items():
    CHANGES["older"][net, module] = change / (2 if net == "unet" else 1)
# Every 37th value of each change.
changed = {f"{file} {net} {module}": c.flatten()[::37].contiguous().clone()
           for file, all_changes in CHANGES.items() for (net, module), c in all_changes.items()}
save_file(changed, f"{out}/lora_changes.safetensors")

# --- pictures through the whole program


def merged(weights):
    """The networks with LoRAs merged in: {file: weight}."""
    before = {}
    for file, w in weights.items():
        for (net, module), change in CHANGES[file].items():
            p = weight_of(net, module)
            before.setdefault((net, module), p.clone())
            p += w * change
    return before


def restore(before):
    for (net, module), v in before.items():
        weight_of(net, module).copy_(v)


def pad(features, n):
    return torch.hstack([features] + [webui([""])] * (n - features.shape[1] // 77))


def draw(stages, negative, seed, steps, skip=0, loras={}):
    """stages: [(last step counted from 0, text)]."""
    before = merged(loras)
    pipe = StableDiffusionPipeline(vae=vae, text_encoder=clip, tokenizer=tok, unet=unet, safety_checker=None,
                                   scheduler=DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012,
                                                           steps_offset=1, clip_sample=False, set_alpha_to_one=False),
                                   feature_extractor=None, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    c, u = webui([t for _, t in stages], skip), webui([negative], skip)
    n = max(c.shape[1], u.shape[1]) // 77
    c, u = pad(c, n) if len(c) == 1 else c, pad(u, n)
    kept = []

    def at_step_end(_pipe, i, _t, d):
        kept.append(d["latents"].clone())
        k = next(k for k, (until, _) in enumerate(stages) if i + 1 <= until or k == len(stages) - 1)
        return {"prompt_embeds": torch.cat([u, c[k:k + 1]])}

    pipe(prompt_embeds=c[:1], negative_prompt_embeds=u, num_inference_steps=steps, guidance_scale=5.0, width=64, height=64,
         generator=torch.Generator().manual_seed(seed), output_type="latent", callback_on_step_end=at_step_end,
         callback_on_step_end_tensor_inputs=["latents", "prompt_embeds"])
    restore(before)
    return kept[-1].contiguous()


pictures = {
    "weights": (dict(prompt="a (cute:1.3) [dog], bad-dog <two>", negative_prompt="lowres, bad anatomy, " * 16, seed=1,
                     arguments=["--prompt-style", "webui", "--embeddings-dir", "@."]),
                lambda c: draw([(4, c["prompt"])], c["negative_prompt"], 1, 4)),
    "stages": (dict(prompt="a [cute:best:0.5] (dog:1.2)", negative_prompt="lowres", seed=2, clip_skip=1,
                    arguments=["--prompt-style", "webui"]),
               lambda c: draw([(2, "a cute (dog:1.2)"), (4, "a best (dog:1.2)")], "lowres", 2, 4, skip=1)),
    "lora": (dict(prompt="a cute dog", negative_prompt="lowres", seed=3,
                  arguments=["--lora", "@kohya.safetensors:0.7", "--lora", "@lycoris.safetensors:-0.25"]),
             lambda c: draw([(4, c["prompt"])], "lowres", 3, 4, loras={"kohya": 0.7, "lycoris": -0.25})),
    "lora in the prompt": (dict(prompt="a cute <lora:peft:0.8>dog", negative_prompt="lowres", seed=4,
                                arguments=["--prompt-style", "webui", "--lora-dir", "@.", "--lora", "@older.safetensors"]),
                           lambda c: draw([(4, "a cute dog")], "lowres", 4, 4, loras={"older": 1.0, "peft": 0.8})),
}
latents = {}
for name, (c, run) in pictures.items():
    c.update(kind="txt2img", sampler="ddim", steps=4, cfg_scale=5.0, width=64, height=64)
    latents[name] = run(c)
    print(name, float(latents[name].abs().max()))
save_file(latents, f"{out}/cases.safetensors")
json.dump({k: c for k, (c, _) in pictures.items()}, open(f"{out}/cases.json", "w"), indent=1)
shutil.copy(f"{golden}/pipelines/merges.json", out)

# --- plain, through diffusers' own reading of embeddings

pipe = StableDiffusionPipeline(vae=None, text_encoder=clip, tokenizer=tok, unet=None, safety_checker=None,
                               scheduler=DDIMScheduler(), feature_extractor=None, requires_safety_checker=False)
pipe.load_textual_inversion({"<dog-toy>": E["toy"]})
pipe.load_textual_inversion({"<two>": E["two"]})
for name, text in [("diffusers", "a cute dog, (best:1.2) quality"), ("diffusers cut", "a cute dog, best quality, " * 14),
                   ("diffusers embeddings", "a cute <dog-toy>, <two> quality")]:
    case(name, "plain", [text], pipe.encode_prompt(text, "cpu", 1, False)[0], skip=0, chunks=1)

save_file(tensors, f"{out}/features.safetensors")
json.dump(cases, open(f"{out}/features.json", "w"), indent=1)
print(len(cases), "cases")
