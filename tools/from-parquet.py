#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes a folder of training pairs of a data set in Parquet, Hugging Face's usual form: pictures as files, and metadata.jsonl.

Usage: from-parquet.py PATH OUT [--image-column NAME] [--conditioning-image-column NAME] [--caption-column NAME]

PATH: a .parquet file, or a folder that holds some, also in data/ or train/. A picture's column holds {"bytes", "path"} as
datasets writes it, bytes, or a path (from the file's folder); its file keeps its bytes. Needs PyPI's pyarrow.
"""
import argparse, glob, json, os, sys

ENDINGS = [(b"\x89PNG", "png"), (b"\xff\xd8\xff", "jpg"), (b"GIF8", "gif"), (b"II*\0", "tif"), (b"MM\0*", "tif"), (b"BM", "bmp"),
           (b"\xff\x0a", "jxl"), (b"\0\0\0\x0cJXL ", "jxl")]


def ending(data):
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data[4:8] == b"ftyp":
        return "avif"
    return next((e for start, e in ENDINGS if data.startswith(start)), None)


def fail(text):
    sys.exit(f"from-parquet.py: {text}")


def column(names, asked, usual, option):
    for name in [asked] if asked else usual:
        if name in names:
            return name
    fail(f"no column {' or '.join([asked] if asked else usual)}; there are {', '.join(names)} ({option})")


def picture(value, folder, where):
    """The bytes of a cell."""
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, str):
        path = os.path.join(folder, value)
        if not os.path.exists(path):
            fail(f"{where}: {path} is missing")
        with open(path, "rb") as f:
            value = f.read()
    if not isinstance(value, bytes) or not ending(value):
        fail(f"{where}: no picture (bytes or a path are expected)")
    return value


def main():
    p = argparse.ArgumentParser(usage=__doc__.split("Usage: ")[1].split("\n")[0])
    p.add_argument("path"), p.add_argument("out")
    for option in ("--image-column", "--conditioning-image-column", "--caption-column"):
        p.add_argument(option)
    a = p.parse_args()
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        fail("needs pyarrow: pip install pyarrow")
    files = [a.path] if os.path.isfile(a.path) else sorted(
        f for part in ("", "data", "train") for f in glob.glob(os.path.join(glob.escape(a.path), part, "*.parquet")))
    if not files:
        fail(f"{a.path}: no .parquet file")
    if os.path.exists(os.path.join(a.out, "metadata.jsonl")):
        fail(f"{a.out}: holds a metadata.jsonl already")
    for part in ("images", "conditioning_images"):
        os.makedirs(os.path.join(a.out, part), exist_ok=True)
    pairs, lines = 0, os.path.join(a.out, "metadata.jsonl")
    with open(lines + ".new", "w") as out:
        for file in files:
            source = parquet.ParquetFile(file)
            names = source.schema_arrow.names
            image = column(names, a.image_column, ["image", "target"], "--image-column")
            condition = column(names, a.conditioning_image_column,
                               ["conditioning_image", "condition", "control", "source", "guide"], "--conditioning-image-column")
            caption = column(names, a.caption_column, ["text", "caption", "prompt", "image_caption"], "--caption-column")
            for batch in source.iter_batches(batch_size=64, columns=[image, condition, caption]):
                for row in batch.to_pylist():
                    entry = {}
                    for key, name, part in (("image", image, "images"), ("conditioning_image", condition, "conditioning_images")):
                        data = picture(row[name], os.path.dirname(file), f"{file}: row {pairs + 1}")
                        entry[key] = f"{part}/{pairs:08d}.{ending(data)}"
                        with open(os.path.join(a.out, entry[key]), "wb") as f:
                            f.write(data)
                    text = row[caption]
                    entry["text"] = (text[0] if text else "") if isinstance(text, list) else text or ""
                    out.write(json.dumps(entry, ensure_ascii=False) + "\n")
                    pairs += 1
    os.rename(lines + ".new", lines)
    print(f"{pairs} pairs in {a.out}")


main()
