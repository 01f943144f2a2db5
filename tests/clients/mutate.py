#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""mutate.py PROGRAM [REQUESTS [SEED]] - so many damaged requests to `PROGRAM serve` over loopback: bytes
changed, left out, doubled, in heads and bodies of every interface. The server must still answer at
the end and leave with status 0. Built with a sanitizer (make SANITIZE=address,undefined), it ends at
the first report.
"""
import json
import random
import socket
import subprocess
import sys

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
BODIES = [
    ("/v1/jobs", {"prompt": "a (red:1.2) cube", "steps": 1, "width": 16, "height": 16, "init_image": PIXEL, "mask": PIXEL}),
    ("/v1/jobs", {"type": "annotate", "kind": "canny low=50", "image": PIXEL}),
    ("/v1/jobs", {"type": "train", "name": "x", "data": "y", "max_train_steps": 1}),
    ("/v1/jobs", {"prompt": "x", "controls": [{"model": "a", "image": PIXEL, "weights": [1, 2], "preprocessor": "canny"}]}),
    ("/sdapi/v1/txt2img", {"prompt": "x", "steps": 1, "width": 16, "height": 16, "enable_hr": True, "hr_scale": 1.5}),
    ("/sdapi/v1/img2img", {"init_images": [PIXEL], "mask": PIXEL, "steps": 1, "width": 16, "height": 16}),
    ("/sdapi/v1/txt2img", {"steps": 1, "alwayson_scripts": {"controlnet": {"args": [{"module": "canny", "model": "a", "image": {"image": PIXEL}}]}}}),
    ("/sdapi/v1/png-info", {"image": PIXEL}),
    ("/sdapi/v1/options", {"CLIP_stop_at_last_layers": 2}),
    ("/controlnet/detect", {"controlnet_module": "canny", "controlnet_input_images": [PIXEL], "controlnet_processor_res": 64}),
    ("/v1/images/generations", {"prompt": "x", "size": "16x16", "steps": 1}),
]
PATHS = ["/", "/docs", "/openapi.json", "/v1/info", "/v1/jobs", "/v1/jobs/0123456789abcdef", "/v1/jobs/x/pictures/0", "/controlnet/control_types", "/metrics", "/sdapi/v1/progress"]
FORM = b'--b\r\nContent-Disposition: form-data; name="image"; filename="i.png"\r\n\r\n%b\r\n--b\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nx\r\n--b--\r\n'


def whole(chance):
    kind = chance.randrange(4)
    if kind == 0:
        path = chance.choice(PATHS)
        return f"{chance.choice(['GET', 'DELETE', 'HEAD'])} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode(), b""
    if kind == 1:
        body = FORM % chance.randbytes(chance.randrange(60))
        path, content = "/v1/images/edits", "multipart/form-data; boundary=b"
    else:
        path, value = chance.choice(BODIES)
        body, content = json.dumps(value).encode(), "application/json"
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: {content}\r\nContent-Length: ".encode(), body


def damage(data, chance):
    data = bytearray(data)
    for _ in range(chance.choice([0, 1, 1, 2, 4, 8])):
        if not data:
            break
        at, n = chance.randrange(len(data)), chance.choice([1, 1, 2, 4, 30])
        what = chance.randrange(5)
        if what == 0:
            data[at] = chance.randrange(256)
        elif what == 1:
            del data[at : at + n]
        elif what == 2:
            data[at:at] = data[at : at + n]
        elif what == 3:
            data[at:at] = chance.choice([b"\0", b'"', b"{", b"[", b"99999999999999999999", b"-1", b"1e999", b"\r\n", b"null", b"\\u0000", b"\xff\xfe", b"%00", b"/../"])
        else:
            data[at : at + n] = chance.randbytes(n)
    return bytes(data)


def send(port, data, ends):
    """ends: nothing more comes, so that the server doesn't wait for what was cut off."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as s:
        try:
            s.sendall(data)
            if ends:
                s.shutdown(socket.SHUT_WR)
            while s.recv(1 << 16):
                pass
        except OSError:
            pass


def main():
    program, count = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 2000
    chance = random.Random(int(sys.argv[3]) if len(sys.argv) > 3 else 1)
    server = subprocess.Popen(
        [program, "serve", "-m", "models/tiny-sd", "--port", "0", "--max-pixels", "16384", "--max-steps", "2",
         "--max-batch", "2", "--queue", "8", "--max-body", "64K", "--job-timeout", "20"],
        stdout=subprocess.PIPE, text=True,
    )
    port = int(server.stdout.readline().rsplit(":", 1)[1])
    failures = []
    for i in range(count):
        head, body = whole(chance)
        ends = False
        if body:
            body = damage(body, chance) if chance.random() < 0.8 else body
            length = len(body) if chance.random() < 0.9 else chance.choice([0, 1, len(body) + 5, 1 << 40])
            ends = length > len(body)
            head += f"{length}\r\n\r\n".encode()
        if chance.random() < 0.3:
            head, ends = damage(head, chance), True
        try:
            send(port, head + body, ends)
        except OSError as e:
            failures.append(f"request {i}: {e}")
            break
        if server.poll() is not None:
            failures.append(f"request {i}: the server ended with {server.returncode}")
            break
    if server.poll() is None:
        with socket.create_connection(("127.0.0.1", port), timeout=60) as s:
            s.sendall(b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n")
            if b"200 OK" not in s.recv(4096):
                failures.append("no answer at the end")
        server.terminate()
        if server.wait(120) != 0:
            failures.append(f"it left with {server.returncode}")
    for f in failures:
        print("FAIL", f)
    print(f"{count - len(failures)} passed, {len(failures)} failed")
    sys.exit(bool(failures))


main()
