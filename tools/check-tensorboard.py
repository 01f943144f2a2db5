# SPDX-License-Identifier: Apache-2.0
"""Reads a run's event files with the real TensorBoard and compares them with its metrics.jsonl.

Usage: check-tensorboard.py OUT (a folder that `controlnet train --report-to tensorboard` wrote)
Opt-in: needs PyPI's tensorboard. Exit status 1 when a number is missing or differs.
"""
import json, math, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

out = sys.argv[1]
events = EventAccumulator(f"{out}/logs", size_guidance={"scalars": 0, "images": 0})
events.Reload()
wrong = compared = 0
seen = {(tag, e.step): e.value for tag in events.Tags()["scalars"] for e in events.Scalars(tag)}
for line in map(json.loads, open(f"{out}/metrics.jsonl")):
    for key, value in line.items():
        values = value if isinstance(value, list) else [value]
        for i, v in enumerate(values):
            if key in ("step", "event") or isinstance(v, (bool, str)) or v is None:
                continue
            tag = f"{line.get('event', 'train')}/{key}" + (f"/{i:02d}" if isinstance(value, list) else "")
            got = seen.get((tag, line["step"]))
            compared += 1
            if got is None or not math.isclose(got, v, rel_tol=1e-5, abs_tol=1e-12):
                wrong += 1
                print(f"{tag} step {line['step']}: {got}, metrics.jsonl has {v}")
images = {tag: len(events.Images(tag)) for tag in events.Tags()["images"]}
for tag in images:
    image = events.Images(tag)[0]
    assert image.encoded_image_string[:4] == b"\x89PNG" and image.width and image.height, tag
print(f"{compared} numbers compared, {wrong} wrong; {len(images)} series of images")
sys.exit(1 if wrong or not compared else 0)
