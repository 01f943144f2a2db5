#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""load.py PROGRAM [CLIENTS [DRAWINGS]] - `PROGRAM serve` with models/tiny-sd under load: so many
clients at once draw so many pictures each in four sizes, and cancel two. Nothing may be lost or come
twice, and the second round may not take more memory than the first (2 %). Prints the waiting times.
"""
import json
import re
import subprocess
import sys
import threading
import time
import urllib.request

SIZES = [(128, 128), (96, 128), (128, 96), (64, 64)]


def call(address, method, path, body=None):
    data = json.dumps(body).encode() if body is not None else None
    with urllib.request.urlopen(urllib.request.Request(address + path, data, method=method), timeout=300) as r:
        return json.loads(r.read())


def client(address, number, drawings, out):
    for i in range(drawings + 2):
        width, height = SIZES[(number + i) % len(SIZES)]
        body = {"prompt": f"a red cube {number} {i}", "steps": 4, "width": width, "height": height, "seed": 1000 * number + i}
        job = call(address, "POST", "/v1/jobs", body)["id"]
        if i in (3, 9):
            call(address, "DELETE", f"/v1/jobs/{job}")
        while True:
            state = call(address, "GET", f"/v1/jobs/{job}")
            if state["state"] not in ("queued", "running"):
                break
            time.sleep(0.02)
        out.append((number, i, state, time.monotonic()))


def round_of(address, clients, drawings):
    out = []
    threads = [threading.Thread(target=client, args=(address, n, drawings, out)) for n in range(clients)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(600)
    return out


def memory(address):
    with urllib.request.urlopen(address + "/metrics", timeout=30) as r:
        return float(re.search(r"^controlnet_resident_memory_bytes (\S+)", r.read().decode(), re.M)[1])


def main():
    program, clients, drawings = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 8, 20
    if len(sys.argv) > 3:
        drawings = int(sys.argv[3])
    server = subprocess.Popen(
        [program, "serve", "-m", "models/tiny-sd", "--port", "0", "--queue", "1000"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )
    address, failures, resident = server.stdout.readline().strip(), [], []
    try:
        for _ in range(2):
            out = round_of(address, clients, drawings)
            resident.append(memory(address))
            done = [s for _, _, s, _ in out if s["state"] == "done"]
            cancelled = [s for _, i, s, _ in out if s["state"] == "cancelled"]
            ids = {s["id"] for _, _, s, _ in out}
            if len(out) != clients * (drawings + 2) or len(ids) != len(out):
                failures.append(f"{len(out)} answers, {len(ids)} ids")
            if len(done) + len(cancelled) != len(out):
                failures.append(f"{len(out) - len(done) - len(cancelled)} neither done nor cancelled")
            for number, i, s, _ in out:
                if s["state"] == "done" and s["result"]["seed"] != 1000 * number + i:
                    failures.append(f"job {s['id']} has another's picture")
            waits = sorted(s["waited_seconds"] for s in done)
            runs = sorted(s["run_seconds"] for s in done)
            print(
                f"{len(done)} done, {len(cancelled)} cancelled; waiting: median {waits[len(waits) // 2]:.2f} s, p95 "
                f"{waits[int(0.95 * len(waits))]:.2f} s; running: median {runs[len(runs) // 2]:.2f} s; "
                f"{resident[-1] / 2**20:.1f} MiB", flush=True,
            )
    finally:
        server.terminate()
        server.wait(60)
    if resident[1] > 1.02 * resident[0]:
        failures.append(f"memory grew from {resident[0]:.0f} to {resident[1]:.0f} bytes")
    for f in failures:
        print("FAIL", f)
    print(f"{0 if failures else 1} passed, {len(failures)} failed")
    sys.exit(bool(failures))


main()
