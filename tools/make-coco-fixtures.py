#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/golden/coco/masks.json: polygons and run lengths with the masks that the COCO API makes
of them, as its compressed strings. Needs pycocotools and numpy from PyPI.

    tools/make-coco-fixtures.py tests/golden/coco/masks.json [COUNT] [SEED]
"""
import json
import random
import sys

import numpy as np
from pycocotools import mask as api


def polygon(r, w, h):
    """Stars, slivers, points outside the picture, corners on the middle of a pixel, repeated points."""
    kind = r.randrange(6)
    n = r.randrange(3, 12)
    if kind == 0:
        n = 3
    reach = 3 if kind == 1 else 0.2
    points = []
    for _ in range(n):
        x = r.uniform(-reach * w, (1 + reach) * w)
        y = r.uniform(-reach * h, (1 + reach) * h)
        if kind == 2:
            x, y = round(x * 2) / 2, round(y * 2) / 2
        if kind == 3:
            x, y = float(int(x)), float(int(y))
        if kind == 4:
            x = w / 2 + r.uniform(-0.6, 0.6)
        points += [round(x, 2), round(y, 2)]
    if kind == 5:
        points += points[-2:]
    return points


def segmentation(r, w, h):
    kind = r.randrange(5)
    if kind == 1:
        bits = (np.array([r.random() for _ in range(w * h)]) < r.random()).astype(np.uint8)
        runs, last, n = [], 0, 0
        for b in bits:
            if b != last:
                runs.append(n)
                last, n = b, 0
            n += 1
        return {"size": [h, w], "counts": [int(k) for k in runs + [n]]}
    return [polygon(r, w, h) for _ in range(r.randrange(1, 4))]


def rle_of(s, w, h):
    """As COCO.annToRLE."""
    if isinstance(s, list):
        return api.merge(api.frPyObjects(s, h, w))
    return api.frPyObjects(s, h, w)


def main():
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 60
    r = random.Random(int(sys.argv[3]) if len(sys.argv) > 3 else 7)
    cases = []
    for _ in range(count):
        w, h = (r.randrange(1, 40), r.randrange(1, 40)) if r.random() < 0.8 else (r.randrange(1, 300), r.randrange(1, 300))
        s = segmentation(r, w, h)
        if isinstance(s, dict) and w * h > 900:
            s = [polygon(r, w, h)]
        rle = rle_of(s, w, h)
        cases.append({"width": w, "height": h, "segmentation": s, "mask": rle["counts"].decode(), "area": int(api.area(rle))})
    with open(sys.argv[1], "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases) + "\n]\n")


main()
