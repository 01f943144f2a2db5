"""annotator_sheet.py OUT.jpg PICTURE... [--weights DIR] [--program build/controlnet] [--px 512] [--tile 150] [--pictures-too]

A sheet of what every annotator makes of some pictures, by the program. Networks' published files are looked for in
DIR, by their names or converted to .safetensors; where one isn't there, seeded weights stand in, and the label says
so: such a map shows that the annotator runs and nothing about the picture. --pictures-too puts the pictures
themselves into the first row. Needs Pillow, numpy and safetensors from PyPI.
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
SHEET = [  # label, kind with its settings, networks
    ("canny", "canny", []),
    ("M-LSD", "mlsd", [MLSD]),
    ("PiDiNet", "pidinet", [PIDI]),
    ("PiDiNet, safe", "pidinet safe", [PIDI]),
    ("scribble, PiDiNet", "scribble_pidinet", [PIDI]),
    ("HED", "hed", [HED]),
    ("scribble, HED", "scribble_hed", [HED]),
    ("OpenPose, full", "openpose_full", [BODY, HAND, FACE]),
    ("depth", "depth", [DEPTH]),
    ("normals", "normal", [DEPTH]),
    ("segmentation", "seg", [("upernet_global_small.pth", "uniformer/manifest.json")]),
    ("line art", "lineart", [("sk_model.pth", "lineart/manifest.json")]),
    ("anime line art", "lineart_anime", [("netG.pth", "lineart_anime/manifest.json")]),
]
LABEL, GAP, COLUMNS = 16, 6, 7


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


def annotate(o, temporary, kind, networks, picture):
    """The map, and whether a network had seeded weights."""
    name, *settings = kind.split()
    out, files, is_seeded = os.path.join(temporary, "map.png"), [], False
    for file, manifest in networks:
        path = published(o.weights, file)
        is_seeded |= path is None
        files += ["-m", path or stand_in(temporary, file, manifest)]
    command = [o.program, "annotate", name, picture, "-o", out, "--resolution", str(o.px)] + files
    subprocess.run(command + ["--" + s for s in settings], check=True)
    with Image.open(out) as image:
        return image.convert("RGB"), is_seeded


def tile(image, side, resample):
    """The picture in a square of `side`, aspect kept, black around."""
    k = side / max(image.size)
    small = image.resize([max(1, round(s * k)) for s in image.size], resample)
    square = Image.new("RGB", (side, side))
    square.paste(small, [(side - s) // 2 for s in small.size])
    return square


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("out")
    p.add_argument("pictures", nargs="+", metavar="PICTURE")
    p.add_argument("--weights")
    p.add_argument("--program", default="build/controlnet")
    p.add_argument("--px", type=int, default=512)
    p.add_argument("--tile", type=int, default=150)
    p.add_argument("--pictures-too", action="store_true")
    o = p.parse_args()
    cells = []  # (label, tiles)
    if o.pictures_too:
        cells.append(("picture", [Image.open(i).convert("RGB") for i in o.pictures]))
    with tempfile.TemporaryDirectory() as temporary:
        for label, kind, networks in SHEET:
            made = [annotate(o, temporary, kind, networks, i) for i in o.pictures]
            cells.append((label + (" (seeded)" if made[0][1] else ""), [image for image, _ in made]))
    font = ImageFont.load_default(size=11)
    rows, step = -(-len(cells) // COLUMNS), o.tile + GAP
    height = len(o.pictures) * step + LABEL + GAP
    sheet = Image.new("RGB", (COLUMNS * step + GAP, rows * height + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (label, images) in enumerate(cells):
        x, y = GAP + i % COLUMNS * step, GAP + i // COLUMNS * height
        draw.text((x, y), label, fill="black", font=font)
        for k, image in enumerate(images):
            sheet.paste(tile(image, o.tile, Image.Resampling.LANCZOS), (x, y + LABEL + k * step))
    sheet.save(o.out, quality=82, optimize=True)


if __name__ == "__main__":
    main()
