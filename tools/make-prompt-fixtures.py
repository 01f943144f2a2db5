"""Writes tests/golden/prompts: what prompts of both styles and textual inversion embeddings give, with transformers' CLIP
and diffusers' pipeline in float32 on the CPU.

Usage: make-prompt-fixtures.py GOLDEN_DIR (tests/golden), from whose core/ and pipelines/merges.json the small text
encoder and its tokenizer follow. The webui style is stable-diffusion-webui's, written here a second time from its
description: text in brackets weighs 1.1 or the number given, chunks hold 75 tokens, a full chunk ends behind a comma
among its last 20 tokens, features are multiplied by the weights and brought back to their old mean.
"""
import json, os, re, sys, tempfile
import numpy as np, torch
from safetensors.torch import save_file
from diffusers import DDIMScheduler, StableDiffusionPipeline
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

golden = sys.argv[1]
out = golden + "/prompts"
os.makedirs(out, exist_ok=True)
torch.set_grad_enabled(False)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def unit(key, shape):
    h = 0xCBF29CE484222325
    for b in key.encode():
        h = ((h ^ b) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    with np.errstate(over="ignore"):
        x = np.uint64(h) + np.arange(1, int(np.prod(shape)) + 1, dtype=np.uint64) * _GOLDEN
        x ^= x >> np.uint64(30)
        x *= np.uint64(0xBF58476D1CE4E5B9)
        x ^= x >> np.uint64(27)
        x *= np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    return ((x >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-23) - np.float32(1)).reshape(shape)


def text_encoder():
    m = json.load(open(f"{golden}/core/text_encoder.manifest.json"))
    net = CLIPTextModel(CLIPTextConfig(**m["config"]))
    short = "embeddings.token_embedding.weight" in net.state_dict()
    weights = {e["name"].removeprefix("text_model.") if short else e["name"]:
               torch.from_numpy(np.float32(e["offset"]) + np.float32(e["scale"]) * unit(e["key"], e["shape"])).half().float()
               for e in m["tensors"]}
    net.load_state_dict(weights, strict=False)
    if short:
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


clip = text_encoder()
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

# --- plain, through diffusers' own reading of embeddings

pipe = StableDiffusionPipeline(vae=None, text_encoder=clip, tokenizer=tok, unet=None, safety_checker=None,
                               scheduler=DDIMScheduler(), feature_extractor=None, requires_safety_checker=False)
pipe.load_textual_inversion({"<dog-toy>": E["toy"]})
pipe.load_textual_inversion({"<two>": E["two"]})
for name, text in [("diffusers", "a cute dog, (best:1.2) quality"), ("diffusers cut", "a cute dog, best quality, " * 14),
                   ("diffusers embeddings", "a cute <dog-toy>, <two> quality")]:
    case(name, "plain", [text], pipe.encode_prompt(text, "cpu", 1, False)[0], skip=0, chunks=1)

save_file(tensors, f"{out}/features.safetensors")
json.dump(cases, open(f"{out}/cases.json", "w"), indent=1)
print(len(cases), "cases")
