#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""proof-table.py OUT CONDITIONS VARIANTS COMBINED - the table of what tools/proof.sh has measured, as Markdown.

A row a training: steps, minutes, the step at which control was learned by the program's own rule, agreement by the
condition's measure with and without control, what the scenes reach behind the VAE and by themselves, held-out loss with
control less without. Rows that are still missing are left out and named.
"""
import json
import pathlib
import sys


def last_validation(run):
    """The last validation of a run's metrics.jsonl, {} where there is none."""
    found = {}
    path = run / "metrics.jsonl"
    if path.exists():
        for line in path.read_text().splitlines():
            event = json.loads(line)
            if event.get("event") == "validation":
                found = event
    return found


def holds(follow, learned):
    """Control was learned, and the measure is three times that without control or, where that isn't near 0, 80 % of the
    autoencoder's ceiling."""
    enough = follow["with"] >= 3 * max(follow["without"], 0) or follow["with"] >= 0.8 * follow["autoencoder"]
    return learned and enough and follow["with"] > max(follow["without"], 0)


def row(out, name, variant):
    result = json.loads((out / f"{name}-{variant}.json").read_text())
    follow = result["controls"][0]
    last = last_validation(out / f"{name}-{variant}")
    seconds = (out / f"{name}-{variant}" / "seconds").read_text()
    learned = last.get("learned_at_step", -1)
    cells = [
        name,
        {"full": "all pairs", "small": "1,000 pairs", "mid": "middle first"}[variant],
        str(last.get("step", "")),
        f"{int(seconds) / 60:.0f}",
        str(learned) if learned >= 0 else "not yet",
        follow["measure"],
        f"**{follow['with']:.3f}**",
        f"{follow['without']:.3f}",
        f"{follow['autoencoder']:.3f}",
        f"{follow['truth']:.3f}",
        str(follow["scenes"]),
        f"{last['loss_with_control'] - last['loss_without_control']:+.4f}" if last else "",
        "yes" if holds(follow, learned >= 0) else "no",
    ]
    return "| " + " | ".join(cells) + " |"


def table(out, conditions, variants):
    heads = ["condition", "training", "steps", "minutes", "learned at", "measure", "with", "without", "behind the VAE",
             "the scenes", "scenes", "held-out loss, with less without", "holds"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    missing = []
    for name in conditions:
        for variant in variants:
            if (out / f"{name}-{variant}.json").exists():
                lines.append(row(out, name, variant))
            else:
                missing.append(f"{name}-{variant}")
    return lines, missing


def combined_table(out, combined):
    lines = ["| together | condition | measure | with both | without | scenes |", "|---|---|---|---|---|---|"]
    for pair in combined:
        path = out / f"{pair}.json"
        if not path.exists():
            continue
        for follow in json.loads(path.read_text())["controls"]:
            lines.append(f"| {pair} | {follow['condition']} | {follow['measure']} | **{follow['with']:.3f}** | "
                         f"{follow['without']:.3f} | {follow['scenes']} |")
    return lines if len(lines) > 2 else []


def main():
    out = pathlib.Path(sys.argv[1])
    lines, missing = table(out, sys.argv[2].split(), sys.argv[3].split())
    print("\n".join(lines))
    together = combined_table(out, sys.argv[4].split())
    if together:
        print("\n" + "\n".join(together))
    if missing:
        print("\nMissing: " + ", ".join(missing) + ".")


main()
