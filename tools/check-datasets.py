# SPDX-License-Identifier: Apache-2.0
"""Data sets exchanged with PyPI's datasets, webdataset and img2dataset, and with tar.

Usage: check-datasets.py CONTROLNET (the program; an empty folder is made for the data)
Opt-in: needs PyPI's datasets, webdataset and Pillow; img2dataset and tar where they are installed.
img2dataset downloads from a server of this script's own. Exit status 1 at the first difference.
"""
import glob, http.server, io, json, os, shutil, subprocess, sys, tempfile, threading

import datasets
import webdataset
from PIL import Image

program = os.path.abspath(sys.argv[1])
folder = tempfile.mkdtemp(prefix="check-datasets-")
N = 40
KINDS = ["canny", "depth", "segmentation"]


def run(*words, status=0):
    r = subprocess.run([program, "dataset", *words], capture_output=True, text=True, timeout=300)
    assert r.returncode == status, f"{words}: exit status {r.returncode}\n{r.stdout}{r.stderr}"
    return r.stdout


def prepare(source, out, *more, status=0):
    names = KINDS if source.startswith("scenes:") else ["canny", "lineart_standard"]
    kinds = [w for k in names for w in ("--condition", k)]
    return run("prepare", source, *kinds, "--layout", "webdataset", "-o", out, *more, status=status)


def picture(i):
    image = Image.new("RGB", (64 + i, 72))
    image.putdata([((x * 3 + i * 20) % 256, y * 3 % 256, 40 * i % 256) for y in range(72) for x in range(64 + i)])
    return image


def as_bytes(image, form="PNG"):
    out = io.BytesIO()
    image.save(out, form)
    return out.getvalue()


def written_here():
    out = f"{folder}/scenes"
    prepare(f"scenes:{N}?seed=1&size=64", out, "--shard-size", "100K")
    shards = sorted(glob.glob(f"{out}/*.tar"))
    assert len(shards) > 2
    n = 0
    for s in webdataset.WebDataset(shards, shardshuffle=False).decode("pil"):
        assert s["__key__"] == f"{n:09d}" and s["png"].size == (64, 64) and s["txt"] == s["json"]["caption"]
        assert all(s[f"{k}.png"].size == (64, 64) for k in KINDS)
        assert [c["name"] for c in s["json"]["conditions"]] == KINDS
        n += 1
    assert n == N
    table = datasets.load_dataset("webdataset", data_files={"train": shards}, split="train")
    assert len(table) == N and table[3]["png"].size == (64, 64) and table[3]["depth.png"].size == (64, 64)
    assert table[3]["txt"] == table[3]["json"]["caption"]
    if shutil.which("tar"):
        for s in shards:
            names = subprocess.run(["tar", "tf", s], capture_output=True, text=True, check=True).stdout.split()
            places = open(s[:-4] + ".idx").read().split("\n")[1:-1]
            assert names == [w for line in places for w in line.split(" ")[3::4]]
    hf = f"{folder}/hf"
    run("convert", out, "--conditioning-image-column", "depth.png", "--layout", "imagefolder", "-o", hf)
    table = datasets.load_dataset("imagefolder", data_dir=hf, split="train")
    assert len(table) == N and "text" in table.column_names
    print(f"webdataset and datasets read {N} samples of {len(shards)} shards, and a folder of them")


def written_there():
    os.makedirs(f"{folder}/there")
    with webdataset.ShardWriter(f"{folder}/there/%04d.tar", maxcount=15, verbose=0) as sink:
        for i in range(N):
            sink.write({"__key__": f"{i:06d}", "jpg": as_bytes(picture(i), "JPEG"), "cond.png": as_bytes(picture(i)),
                        "txt": f"picture {i}", "json": {"similarity": i / N}})
    run("check", f"{folder}/there", "--json")
    prepare(f"{folder}/there", f"{folder}/again", "--score", "similarity=0.5:")
    stats = [json.load(open(p)) for p in glob.glob(f"{folder}/again/*_stats.json")]
    assert sum(s["samples"] for s in stats) == N // 2 and sum(s["left_out"]["score"] for s in stats) == N // 2
    if shutil.which("tar"):
        loose = f"{folder}/loose"
        os.makedirs(loose)
        for i in range(N):
            open(f"{loose}/a long name with blanks {i:06d}{'x' * 60}.jpg", "wb").write(as_bytes(picture(i), "JPEG"))
            open(f"{loose}/a long name with blanks {i:06d}{'x' * 60}.txt", "w").write(f"picture {i}")
        for form in ("gnu", "pax", "ustar"):
            subprocess.run(["tar", "-C", folder, f"--format={form}", "--sort=name", "-cf", f"{folder}/{form}.tar", "loose"], check=True)
            prepare(f"{folder}/{form}.tar", f"{folder}/from-{form}")
            stats = json.load(open(f"{folder}/from-{form}/00000_stats.json"))
            assert stats["samples"] == N, (form, stats)
    print(f"shards of webdataset and of tar are read: {N} samples each")


class Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        i = int(self.path.strip("/").split(".")[0])
        body = b"no picture" if i % 10 == 3 else as_bytes(picture(i), "JPEG")
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def downloaded():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = server.server_address[1]
    with open(f"{folder}/list.csv", "w") as f:
        f.write("url,caption,similarity\n")
        f.writelines(f"http://127.0.0.1:{port}/{i}.jpg,picture {i},{i / N}\n" for i in range(N))
    subprocess.run([os.path.join(os.path.dirname(sys.executable), "img2dataset"), "--url_list", f"{folder}/list.csv",
                    "--input_format", "csv", "--url_col", "url", "--caption_col", "caption", "--output_format", "webdataset",
                    "--save_additional_columns", '["similarity"]', "--number_sample_per_shard", "15", "--image_size", "64",
                    "--processes_count", "1", "--thread_count", "4", "--output_folder", f"{folder}/downloaded"],
                   check=True, timeout=300, capture_output=True)
    server.shutdown()
    prepare(f"{folder}/downloaded", f"{folder}/from-web", "--min-caption", "10")
    stats = json.load(open(f"{folder}/from-web/00000_stats.json"))
    assert stats["samples"] == N - N // 10 - 9, stats  # a tenth is broken; "picture 0" to "picture 9" but 3 are short
    print(f"shards of img2dataset are read: {stats['samples']} samples")


written_here()
written_there()
if os.path.exists(os.path.join(os.path.dirname(sys.executable), "img2dataset")):
    downloaded()
else:
    print("SKIP: img2dataset isn't installed")
shutil.rmtree(folder)
