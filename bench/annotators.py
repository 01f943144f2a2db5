# SPDX-License-Identifier: Apache-2.0
"""annotators.py [--px 512] [--threads 2] [--runs 5] [--rounds 3] [--only NAME] [--picture IMG] [--bench build/bench]

The annotators' networks here against PyTorch, and Canny against OpenCV, at the same size and number of threads:
in turns, the fastest of all rounds of each, as the table of docs/annotators.md. PyTorch runs each network in both
memory formats, the faster one counts. Needs torch, numpy and opencv-python-headless from PyPI.
"""
import argparse
import json
import subprocess
import time

import torch

from annotator_functions import NETWORKS as FUNCTIONS
from annotator_nets import NETWORKS


def here(o, name):
    """Seconds that `build/bench annotators` needs for one of its lines."""
    command = [o.bench, "annotators", "--px", o.px, "--threads", o.threads, "--runs", o.runs, "--only", name]
    command += ["--picture", o.picture] if o.picture else []
    out = subprocess.run([str(c) for c in command], check=True, capture_output=True, text=True).stdout
    return json.loads(out.splitlines()[0])["seconds_min"]


def fastest(o, run):
    run()
    times = []
    for _ in range(o.runs):
        begun = time.perf_counter()
        run()
        times.append(time.perf_counter() - begun)
    return min(times)


def in_torch(o, module, channels):
    net, best = module().eval(), []
    for form in (torch.contiguous_format, torch.channels_last):
        net = net.to(memory_format=form)
        side = net.side(o.px) if hasattr(net, "side") else o.px
        x = torch.rand(1, channels, side, side).to(memory_format=form)
        with torch.inference_mode():
            best.append(fastest(o, lambda: net(x)))
    return min(best)


def in_opencv(o):
    import cv2

    cv2.setNumThreads(o.threads)
    picture = cv2.imread(o.picture)
    h, w = picture.shape[:2]
    k = o.px / min(h, w)
    size = [round(s * k / 64) * 64 for s in (w, h)]
    picture = cv2.resize(picture, size, interpolation=cv2.INTER_LANCZOS4 if k > 1 else cv2.INTER_AREA)
    return fastest(o, lambda: cv2.Canny(picture, 100, 200))


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--px", type=int, default=512)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--runs", type=int, default=5)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--only")
    p.add_argument("--picture", help="for Canny, which isn't measured without one")
    p.add_argument("--bench", default="build/bench")
    o = p.parse_args()
    torch.set_num_threads(o.threads)
    works = {title: lambda m=module, c=channels: in_torch(o, m, c) for module, channels, title in (NETWORKS | FUNCTIONS).values()}
    if o.picture:
        works["Canny"] = lambda: in_opencv(o)
    print("| work | here, ms | PyTorch or OpenCV, ms | ratio |\n|---|---|---|---|")
    for title, other in works.items():
        if o.only and o.only.lower() not in title.lower():
            continue
        pairs = [(here(o, title), other()) for _ in range(o.rounds)]
        a, b = (1e3 * min(side) for side in zip(*pairs))
        print(f"| {title} | {a:.1f} | {b:.1f} | {a / b:.2f} |", flush=True)


if __name__ == "__main__":
    main()
