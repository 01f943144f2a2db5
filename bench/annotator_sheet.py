"""annotator_sheet.py OUT.jpg PICTURE... [--weights DIR] [--px 256] [--controlnet build/controlnet]

A contact sheet: a row per kind of condition that is made from a photograph, a column per picture. Kinds whose weights
aren't in DIR (published names) run with seeded ones and are labelled so. Needs pillow, numpy and safetensors.
"""
import argparse
import json
import os
import subprocess
import tempfile

import numpy as np
from PIL import Image, ImageDraw
from safetensors.numpy import save_file

from annotator_golden import seeded

MANIFESTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tests/golden/annotators")
# kind: (published file, manifest of seeded weights)
KINDS = {
    "canny": None,
    "mlsd": ("mlsd_tiny_512_fp32.pth", "mlsd/tiny_manifest.json"),
    "hed": ("ControlNetHED.pth", "hed/apache2_manifest.json"),
    "pidinet": ("table5_pidinet.pth", "pidinet/manifest.json"),
    "pidinet_safe": ("table5_pidinet.pth", "pidinet/manifest.json"),
    "scribble_pidinet": ("table5_pidinet.pth", "pidinet/manifest.json"),
    "lineart": ("sk_model.pth", "lineart/manifest.json"),
    "lineart_anime": ("netG.pth", "lineart_anime/manifest.json"),
}


def seeded_file(manifest, folder):
    with open(f"{MANIFESTS}/{manifest}") as f:
        tensors = json.load(f)["tensors"]
    path = f"{folder}/{manifest.replace('/', '-')}.safetensors"
    if not os.path.exists(path):
        save_file({t["name"]: seeded(t.get("key", t["name"]), t["shape"], t["offset"], t["scale"]) for t in tensors}, path)
    return path


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("out")
    p.add_argument("pictures", nargs="+")
    p.add_argument("--weights", default=".")
    p.add_argument("--px", type=int, default=256)
    p.add_argument("--controlnet", default="build/controlnet")
    o = p.parse_args()
    label, rows = 18, []
    with tempfile.TemporaryDirectory() as folder:
        for kind, network in KINDS.items():
            weights = network and f"{o.weights}/{network[0]}"
            text = kind
            if network and not os.path.exists(weights):
                weights, text = seeded_file(network[1], folder), kind + " (seeded weights)"
            made = []
            for picture in o.pictures:
                command = [o.controlnet, "annotate", kind, picture, "-o", f"{folder}/out.png", "--resolution", str(o.px)]
                subprocess.run(command + (["--model", weights] if weights else []), check=True)
                made.append(Image.open(f"{folder}/out.png").convert("RGB"))
            rows.append((text, made))
    half = (len(rows) + 1) // 2  # two rows side by side
    gap, heights = 6, [max(im.height for im in made) + label for _, made in rows]
    widths = [im.width + gap for im in rows[0][1]]
    sheet = Image.new("RGB", (2 * sum(widths), half * max(heights)), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (text, made) in enumerate(rows):
        x, y = i // half * sum(widths), i % half * max(heights)
        draw.text((x + 2, y + 3), text, "black")
        for im, width in zip(made, widths):
            sheet.paste(im, (x, y + label))
            x += width
    sheet.save(o.out, quality=82, optimize=True)


if __name__ == "__main__":
    main()
