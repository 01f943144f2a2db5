#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""load.py PROGRAM [CLIENTS [DRAWINGS]] - `PROGRAM serve` with models/tiny-sd under load: so many
clients (8) at once draw so many pictures each (20) in four sizes, and cancel two. Nothing may be lost or
come twice, and the second round may not take more memory than the first (2 %). Then as many jobs wait
under --state, kill -9 comes in the middle, and the next server does those that are left, under
their ids. Prints the waiting times. `make test` runs it with 3 clients and 3 drawings.
"""
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
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
        if i in (1, 3):
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


def start(program, *options):
    """A server and its address; None where the program was built without one."""
    server = subprocess.Popen(
        [program, "serve", "-m", "models/tiny-sd", "--port", "0", "--queue", "1000", *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )
    address = server.stdout.readline().strip()
    if not address:
        said = server.stderr.read()
        server.wait(60)
        if "libmicrohttpd" not in said:
            raise SystemExit(said)
        print("SKIP  built without libmicrohttpd\n0 passed, 0 failed, 1 skipped")
        sys.exit(0)
    threading.Thread(target=server.stderr.read, daemon=True).start()
    return server, address


def stop(server):
    server.terminate()
    if server.wait(120) != 0:
        raise SystemExit(f"FAIL  the server left with {server.returncode}")


def state_of(address, job):
    try:
        return call(address, "GET", f"/v1/jobs/{job}")
    except urllib.error.HTTPError as e:
        return {"state": f"{e.code}"}


def hold(program, clients, drawings, failures):
    """Two rounds: what comes of every job, and the memory after each."""
    server, address = start(program)
    resident = []
    try:
        for _ in range(2):
            out = round_of(address, clients, drawings)
            resident.append(memory(address))
            done = [s for _, _, s, _ in out if s["state"] == "done"]
            cancelled = [s for _, _, s, _ in out if s["state"] == "cancelled"]
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
        stop(server)
    if resident[1] > 1.02 * resident[0]:
        failures.append(f"memory grew from {resident[0]:.0f} to {resident[1]:.0f} bytes")


def survive(program, clients, drawings, failures):
    """kill -9 with jobs done, running and waiting. --save tells what was drawn."""
    with tempfile.TemporaryDirectory() as folder:
        state, saved = os.path.join(folder, "state"), os.path.join(folder, "saved")
        os.mkdir(state)
        os.mkdir(saved)
        options = ["--state", state, "--save", saved]
        server, address = start(program, *options)
        jobs, lock = {}, threading.Lock()

        def add(number):
            for i in range(drawings):
                width, height = SIZES[(number + i) % len(SIZES)]
                body = {"prompt": "a red cube", "steps": 4, "width": width, "height": height, "seed": 1000 * number + i}
                job = call(address, "POST", "/v1/jobs", body)["id"]
                with lock:
                    jobs[job] = body["seed"]

        threads = [threading.Thread(target=add, args=(n,)) for n in range(clients)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(600)
        until = time.monotonic() + 300
        while len(os.listdir(saved)) < min(3, len(jobs) // 2) and time.monotonic() < until:
            time.sleep(0.01)
        server.send_signal(signal.SIGKILL)
        server.wait(60)
        before = len(os.listdir(saved))
        left = len([name for name in os.listdir(state) if not name.startswith(".")])
        server, address = start(program, *options)
        again = 0
        try:
            until = time.monotonic() + 600
            for job, seed in jobs.items():
                state_now = state_of(address, job)
                while state_now["state"] in ("queued", "running") and time.monotonic() < until:
                    time.sleep(0.05)
                    state_now = state_of(address, job)
                again += state_now["state"] == "done"
                ended_before = state_now["state"] == "404" and os.path.exists(os.path.join(saved, f"{job}_0.png"))
                if state_now["state"] != "done" and not ended_before:
                    failures.append(f"job {job} is {state_now['state']} after kill -9")
                if state_now["state"] == "done" and state_now["result"]["seed"] != seed:
                    failures.append(f"job {job} has another's picture")
        finally:
            stop(server)
        pictures = {name.split("_")[0] for name in os.listdir(saved)}
        if pictures != set(jobs) or len(os.listdir(saved)) != len(jobs):
            failures.append(f"{len(os.listdir(saved))} pictures of {len(jobs)} jobs")
        kept = [name for name in os.listdir(state) if not name.startswith(".")]  # the lock aside
        if kept:
            failures.append(f"still kept under --state: {' '.join(sorted(kept))}")
        print(f"kill -9 with {before} of {len(jobs)} drawn, {left} kept; {again} done by the next server", flush=True)


def main():
    program, clients, drawings, failures = sys.argv[1], 8, 20, []
    if len(sys.argv) > 2:
        clients = int(sys.argv[2])
    if len(sys.argv) > 3:
        drawings = int(sys.argv[3])
    parts = [hold, survive]
    for part in parts:
        part(program, clients, drawings, failures)
    for f in failures:
        print("FAIL", f)
    print(f"{max(0, len(parts) - len(failures))} passed, {len(failures)} failed")
    sys.exit(bool(failures))


main()
