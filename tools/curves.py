#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""curves.py OUT.svg RUN... - draws how training runs went, side by side: held-out loss and agreement by step.

RUN is a folder that `controlnet train` wrote (its metrics.jsonl), or NAME=FOLDER. A dot marks the step at which
control was learned. Standard library only.
"""
import json
import os
import sys
from xml.sax.saxutils import escape

COLOURS = ["#1f6fd0", "#d9822b", "#3a8f4d", "#a0439c", "#6b6b6b", "#c23b3b"]
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 460, 300, 58, 20, 34, 40


def read(folder):
    """Validations of a run as (step, values); the step at which control was learned, or None."""
    points, learned = [], None
    with open(os.path.join(folder, "metrics.jsonl"), encoding="utf-8") as f:
        for line in f:
            m = json.loads(line)
            if m.get("event") != "validation":
                continue
            points = [p for p in points if p["step"] < m["step"]] + [m]  # a resumed run takes steps again
            learned = m["learned_at_step"] if m["learned_at_step"] >= 0 else None
    if not points:
        sys.exit(f"curves.py: {folder}: no validation in metrics.jsonl")
    return points, learned


def nice(span):
    """A round distance of grid lines, about five for this span."""
    unit = 10.0 ** int(f"{span / 5:e}".split("e")[1])
    return next(unit * k for k in (1, 2, 5, 10) if unit * k >= span / 5)


def chart(x0, title, key, runs):
    series = [[(p["step"], p[key]) for p in points if key in p] for _, points, _ in runs]
    values = [v for s in series for _, v in s]
    last = max(p for s in series for p, _ in s)
    step = nice(max(values) - min(values) or 1e-3)
    low, high = step * int(min(values) / step), step * (int(max(values) / step) + 1)
    x = lambda s: x0 + LEFT + (WIDTH - LEFT - RIGHT) * s / last
    y = lambda v: HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (v - low) / (high - low)
    out = [f'<text x="{x0 + LEFT}" y="18" class="title">{escape(title)}</text>']
    for k in range(round((high - low) / step) + 1):
        v = low + k * step
        out.append(f'<path d="M{x(0):.1f} {y(v):.1f}H{x(last):.1f}" class="grid"/>'
                   f'<text x="{x0 + LEFT - 6}" y="{y(v) + 4:.1f}" text-anchor="end">{v:.6g}</text>')
    at, wide = 0, nice(last)
    while at <= last:
        out.append(f'<text x="{x(at):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{at:g}</text>')
        at += wide
    out.append(f'<text x="{x(last / 2):.1f}" y="{HEIGHT - 6}" text-anchor="middle">step</text>')
    for colour, points, (_, _, learned) in zip(COLOURS, series, runs):
        path = "L".join(f"{x(s):.1f} {y(v):.1f}" for s, v in points)
        out.append(f'<path d="M{path}" class="line" stroke="{colour}"/>')
        out += [f'<circle cx="{x(s):.1f}" cy="{y(v):.1f}" r="4" fill="{colour}"/>' for s, v in points if s == learned]
    return "\n".join(out)


def main():
    if len(sys.argv) < 3 or len(sys.argv) > 2 + len(COLOURS):
        sys.exit(__doc__.splitlines()[0])
    runs = []
    for argument in sys.argv[2:]:
        name, _, folder = argument.rpartition("=")
        try:
            runs.append((name or os.path.basename(folder.rstrip("/")), *read(folder)))
        except OSError as e:
            sys.exit(f"curves.py: {e.filename}: {e.strerror}")
    agreement = next((p["agreement_measure"] for p in runs[0][1] if "agreement_measure" in p), None)
    charts = [("held-out loss with control", "loss_with_control"), ("held-out loss without", "loss_without_control")]
    if agreement:
        charts.append((f"{agreement} with control", "agreement_with_control"))
    width, at = WIDTH * len(charts), LEFT
    legend = []
    for colour, (name, _, learned) in zip(COLOURS, runs):
        said = f"{name} (learned at {learned})" if learned is not None else f"{name} (not learned)"
        legend.append(f'<path d="M{at} {HEIGHT + 12}h18" class="line" stroke="{colour}"/>'
                      f'<text x="{at + 24}" y="{HEIGHT + 16}">{escape(said)}</text>')
        at += 48 + 6 * len(said)
    body = "\n".join([chart(WIDTH * i, title, key, runs) for i, (title, key) in enumerate(charts)] + legend)
    with open(sys.argv[1], "w", encoding="utf-8") as f:
        f.write(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT + 30}" width="{width}" '
                f'height="{HEIGHT + 30}" font-family="sans-serif" font-size="12">\n'
                '<style>.grid{stroke:#ddd}.line{fill:none;stroke-width:2;stroke-linejoin:round}'
                'text{fill:#444}.title{font-weight:bold}</style>\n'
                f'<rect width="100%" height="100%" fill="#fff"/>\n{body}\n</svg>\n')


main()
