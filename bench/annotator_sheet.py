# SPDX-License-Identifier: Apache-2.0
"""annotator_sheet.py OUT.jpg PICTURE... [--weights DIR] [--program build/controlnet] [--px 512] [--height 150] [--pictures-too]

A sheet of what every annotator makes of some pictures, by the program. Networks' published files are looked for in
DIR, by their names or converted to .safetensors; where one isn't there, seeded weights stand in, and the label says
so: such a map shows that the annotator runs and nothing about the picture. --pictures-too puts the pictures
themselves into the first place. Needs Pillow, numpy and safetensors from PyPI.
"""
import argparse
import json
import os
import subprocess
import tempfile

from PIL import Image, ImageDraw, ImageFont
from safetensors.numpy import save_file

from seeded import seeded

GOLDEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tests/golden/annotators")

# Published files by the manifest of their seeded stand-in.
BODY, HAND, FACE = (("body_pose_model.pth", "openpose/body_manifest.json"), ("hand_pose_model.pth", "openpose/hand_manifest.json"),
                    ("facenet.pth", "openpose/face_manifest.json"))
HED, PIDI = ("ControlNetHED.pth", "hed/apache2_manifest.json"), ("table5_pidinet.pth", "pidinet/manifest.json")
MLSD = ("mlsd_tiny_512_fp32.pth", "mlsd/tiny_manifest.json")
DEPTH = ("dpt_hybrid-midas-501f0c75.pt", "midas/manifest.json")
SHEET = [  # label, kinds with their settings, networks
    ("canny", "canny", []),
    ("straight lines (M-LSD)", "mlsd", [MLSD]),
    ("soft edges (PiDiNet)", "pidinet", [PIDI]),
    ("soft edges, safe (PiDiNet)", "pidinet safe=1", [PIDI]),
    ("soft edges (HED)", "hed", [HED]),
    ("scribble (PiDiNet)", "scribble_pidinet", [PIDI]),
    ("scribble by chance (PiDiNet)", "pidinet | scribble_synthesis", [PIDI]),
    ("scribble (HED)", "scribble_hed", [HED]),
    ("scribble (xDoG)", "scribble_xdog", []),
    ("user's scribble (threshold)", "scribble", []),
    ("human pose (OpenPose)", "openpose_full", [BODY, HAND, FACE]),
    ("depth (MiDaS)", "depth", [DEPTH]),
    ("normals (MiDaS)", "normal", [DEPTH]),
    ("segmentation (UniFormer)", "seg", [("upernet_global_small.pth", "uniformer/manifest.json")]),
    ("line drawing", "lineart", [("sk_model.pth", "lineart/manifest.json")]),
    ("line drawing, coarse", "lineart_coarse", [("sk_model2.pth", "lineart/manifest.json")]),
    ("anime line drawing", "lineart_anime", [("netG.pth", "lineart_anime/manifest.json")]),
]
LABEL, GAP, COLUMNS, NOTHING = 18, 6, 5, (150, 150, 150)


def published(folder, file):
    for name in (file, os.path.splitext(file)[0] + ".safetensors"):
        if folder and os.path.exists(os.path.join(folder, name)):
            return os.path.join(folder, name)
    return None


def stand_in(folder, file, manifest):
    path = os.path.join(folder, os.path.splitext(file)[0] + ".safetensors")
    if not os.path.exists(path):
        with open(os.path.join(GOLDEN, manifest)) as f:
            tensors = json.load(f)["tensors"]
        save_file({t["name"]: seeded(t.get("key", t["name"]), t["shape"], t["offset"], t["scale"]) for t in tensors}, path)
    return path


def annotate(o, temporary, kinds, networks, picture):
    """The map, and whether a network had seeded weights."""
    out, files, is_seeded = os.path.join(temporary, "map.png"), [], False
    for file, manifest in networks:
        path = published(o.weights, file)
        is_seeded |= path is None
        files += ["-m", path or stand_in(temporary, file, manifest)]
    subprocess.run([o.program, "annotate", kinds, picture, "-o", out, "--resolution", str(o.px)] + files, check=True)
    with Image.open(out) as image:
        return image.convert("RGB"), is_seeded


def tile(image, height, font):
    """The picture at this height; where there is nothing on it, that is written there."""
    small = image.resize((max(1, round(image.width * height / image.height)), height), Image.Resampling.LANCZOS)
    if not small.getbbox():
        middle = (small.width // 2, height // 2)
        ImageDraw.Draw(small).text(middle, "nothing found", fill=NOTHING, font=font, anchor="mm")
    return small


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("out")
    p.add_argument("pictures", nargs="+", metavar="PICTURE")
    p.add_argument("--weights")
    p.add_argument("--program", default="build/controlnet")
    p.add_argument("--px", type=int, default=512)
    p.add_argument("--height", type=int, default=150, help="of a map on the sheet")
    p.add_argument("--pictures-too", action="store_true")
    o = p.parse_args()
    cells = []  # (label, tiles)
    if o.pictures_too:
        cells.append(("picture", [Image.open(i).convert("RGB") for i in o.pictures]))
    with tempfile.TemporaryDirectory() as temporary:
        for label, kind, networks in SHEET:
            made = [annotate(o, temporary, kind, networks, i) for i in o.pictures]
            cells.append((label + (" (seeded)" if made[0][1] else ""), [image for image, _ in made]))
    font = ImageFont.load_default(size=12)
    cells = [(label, [tile(image, o.height, font) for image in images]) for label, images in cells]
    wide = sum(image.width for image in cells[0][1]) + GAP * len(o.pictures)
    rows, height = -(-len(cells) // COLUMNS), LABEL + o.height + 2 * GAP
    sheet = Image.new("RGB", (COLUMNS * (wide + GAP) + GAP, rows * height + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (label, images) in enumerate(cells):
        x, y = GAP + i % COLUMNS * (wide + GAP), GAP + i // COLUMNS * height
        draw.text((x, y), label, fill="black", font=font)
        for image in images:
            sheet.paste(image, (x, y + LABEL))
            x += image.width + GAP
    sheet.save(o.out, quality=85, optimize=True)


if __name__ == "__main__":
    main()
