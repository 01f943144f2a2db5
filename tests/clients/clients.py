#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""clients.py ADDRESS - other people's clients on a running `controlnet serve` that has a ControlNet:
webuiapi (txt2img, img2img, inpainting, ControlNet units, detection, progress) and openai. What isn't
installed is skipped with a line. Closes with "N passed, N failed, N skipped".
"""
import base64
import io
import sys
import threading
import time
import urllib.parse

passed = failed = skipped = 0


def check(ok, what):
    global passed, failed
    passed, failed = passed + bool(ok), failed + (not ok)
    print(f"{'ok' if ok else 'FAIL'} {what}", flush=True)


def skip(what):
    global skipped
    skipped += 1
    print(f"SKIP  {what}", flush=True)


def webui(address):
    try:
        import webuiapi
        from PIL import Image, ImageDraw
    except ImportError as e:
        skip(f"webuiapi: {e}")
        return
    url = urllib.parse.urlparse(address)
    api = webuiapi.WebUIApi(host=url.hostname, port=url.port, sampler="Euler a", steps=4)
    size = dict(width=128, height=128, cfg_scale=5)
    first = api.txt2img(prompt="a red sphere", negative_prompt="blue", seed=7, **size)
    again = api.txt2img(prompt="a red sphere", negative_prompt="blue", seed=7, **size)
    check(first.image.size == (128, 128), "webuiapi: txt2img")
    check(first.image.tobytes() == again.image.tobytes(), "webuiapi: the same seed, the same picture")
    check(first.info["seed"] == 7 and "Steps: 4" in first.info["infotexts"][0], "webuiapi: info")
    over = api.img2img(images=[first.image], prompt="a blue cube", denoising_strength=0.6, seed=1, **size)
    check(over.image.tobytes() != first.image.tobytes(), "webuiapi: img2img")

    mask = Image.new("L", (128, 128))
    ImageDraw.Draw(mask).rectangle((0, 0, 63, 127), fill=255)
    part = api.img2img(
        images=[first.image], mask_image=mask, prompt="a blue cube", denoising_strength=0.8, seed=1,
        inpainting_fill=1, inpaint_full_res=False, mask_blur=0, **size,
    )
    right = (64, 0, 128, 128)
    check(part.image.crop(right).tobytes() == first.image.crop(right).tobytes(), "webuiapi: inpainting keeps the rest")
    check(part.image.tobytes() != first.image.tobytes(), "webuiapi: inpainting draws")

    models, modules = api.controlnet_model_list(), api.controlnet_module_list()
    check(models and "canny" in modules, f"webuiapi: lists {models}")
    lines = Image.new("RGB", (128, 128))
    ImageDraw.Draw(lines).ellipse((30, 40, 90, 100), outline=(255, 255, 255), width=3)
    unit = webuiapi.ControlNetUnit(image=lines, module="none", model=models[0], weight=1.0)
    with_control = api.txt2img(prompt="a red sphere", seed=7, controlnet_units=[unit], **size)
    check(len(with_control.images) == 2, "webuiapi: the drawing and its detected map")
    # its default for these scripts is one dictionary that keeps the last call's units
    plain = api.txt2img(prompt="a red sphere", seed=7, alwayson_scripts={}, **size)
    check(with_control.images[0].tobytes() != plain.image.tobytes(), "webuiapi: a ControlNetUnit acts")
    edges = webuiapi.ControlNetUnit(image=first.image, module="canny", model=models[0], threshold_a=50, threshold_b=100)
    check(len(api.txt2img(prompt="x", controlnet_units=[unit, edges], **size).images) == 3, "webuiapi: two units")
    found = api.controlnet_detect(images=[first.image], module="canny")
    check(len(found.images) == 1 and min(found.image.size) == 512, "webuiapi: controlnet_detect")

    thread = threading.Thread(target=lambda: api.txt2img(prompt="a cube", steps=100, width=256, height=256, alwayson_scripts={}))
    thread.start()
    parts = []
    for _ in range(200):
        parts.append(api.get_progress()["progress"])
        if parts[-1] > 0:
            break
        time.sleep(0.02)
    api.interrupt()
    thread.join(60)
    check(parts[-1] > 0 and not thread.is_alive(), "webuiapi: progress, interrupt")
    check(api.get_options()["sd_model_checkpoint"], "webuiapi: options")
    check(api.get_samplers() and api.get_sd_models() and all(one["name"] for one in api.get_loras()), "webuiapi: more lists")
    text = api.png_info(first.image) if hasattr(api, "png_info") else None
    check(text is not None, "webuiapi: png_info")


def openai_client(address):
    try:
        import openai
        from PIL import Image
    except ImportError as e:
        skip(f"openai: {e}")
        return
    client = openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)
    model = client.models.list().data[0].id
    drawn = client.images.generate(model=model, prompt="a red sphere", n=2, size="128x128", response_format="b64_json")
    pictures = [Image.open(io.BytesIO(base64.b64decode(d.b64_json))) for d in drawn.data]
    check([p.size for p in pictures] == [(128, 128)] * 2, "openai: images.generate")
    check(pictures[0].tobytes() != pictures[1].tobytes(), "openai: a seed each")
    png, mask = io.BytesIO(), io.BytesIO()
    pictures[0].save(png, "png")
    hole = Image.new("RGBA", (128, 128), (0, 0, 0, 255))
    hole.paste((0, 0, 0, 0), (0, 0, 64, 128))
    hole.save(mask, "png")
    edited = client.images.edit(
        model=model, image=("p.png", png.getvalue()), mask=("m.png", mask.getvalue()), prompt="a blue cube",
        response_format="b64_json",
    )
    after = Image.open(io.BytesIO(base64.b64decode(edited.data[0].b64_json))).convert("RGB")
    corner = (100, 0, 128, 128)
    check(after.crop(corner).tobytes() == pictures[0].convert("RGB").crop(corner).tobytes(), "openai: images.edit keeps what is opaque")
    check(after.tobytes() != pictures[0].convert("RGB").tobytes(), "openai: images.edit draws")
    try:
        client.images.generate(model=model, prompt="x", size="big")
        check(False, "openai: an error")
    except openai.APIStatusError as e:
        check(e.status_code == 422 and "512x512" in str(e), "openai: an error in its words")


def main():
    webui(sys.argv[1].rstrip("/"))
    openai_client(sys.argv[1].rstrip("/"))
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    sys.exit(failed > 0)


main()
