#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""page.py ADDRESS [PICTURES] - the page of a running `controlnet serve` in headless Chromium.

Draws with pointer events, compares with and without control, moves a threshold, drops a photograph,
brings back what a PNG was drawn with, looks at labels and contrast; with PICTURES writes screenshots
at 1280 and 390 px, light and dark, into that folder. On a server without ControlNets: what the page says
of that, and whether it finds one that came later. Wants selenium, Chromium and its driver. Closes with
"N passed, N failed".
"""
import base64
import json
import os
import struct
import sys
import tempfile
import time
import urllib.request
import zlib

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

try:
    from axe_core_python.selenium import Axe
except ImportError:
    Axe = None
    print("SKIP  axe-core: axe_core_python isn't installed; the audit of this file alone", flush=True)

SECONDS = 60
passed = failed = 0


def check(ok, what):
    global passed, failed
    passed, failed = passed + bool(ok), failed + (not ok)
    print(f"{'ok' if ok else 'FAIL'} {what}", flush=True)


def start(width, height, dark):
    options = Options()
    options.binary_location = os.environ.get("CHROMIUM", "/usr/bin/chromium")
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
    driver.set_script_timeout(SECONDS)
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
    return driver


def until(driver, condition, what):
    try:
        WebDriverWait(driver, SECONDS, 0.05).until(lambda d: condition())
        return True
    except Exception:
        check(False, f"{what}: not within {SECONDS} s")
        return False


class Page:
    def __init__(self, driver, address):
        self.driver = driver
        driver.get(address)

    def by(self, name):
        return self.driver.find_element(By.ID, name)

    def js(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def shown(self):
        return self.js("return document.getElementById('shown').src")

    def drawn(self):
        return "drawn in" in self.by("status").text

    def wait_drawn(self, what):
        return until(self.driver, self.drawn, what)

    def draw(self, what):
        before = self.count()
        self.js("document.getElementById('draw').click()")
        until(self.driver, lambda: self.count() > before and self.drawn(), what)
        return self.shown()

    def count(self):
        return self.js("return document.querySelectorAll('#gallery li').length")

    def click_text(self, text):
        for button in self.driver.find_elements(By.CSS_SELECTOR, "#card button, #card label"):
            if button.text.strip() == text:
                self.js("arguments[0].scrollIntoView({block:'center'})", button)
                button.click()
                return
        check(False, f"there is no {text}")

    def surface(self):
        return self.js(
            "const c=document.getElementById('canvas');"
            "return c.getContext('2d').getImageData(0,0,c.width,c.height).data.reduce((a,b)=>a+b,0)"
        )

    def stroke(self, points):
        canvas = self.by("canvas")
        self.js("arguments[0].scrollIntoView({block:'center'})", canvas)
        chain = ActionChains(self.driver, duration=20).move_to_element_with_offset(canvas, *points[0]).click_and_hold()
        for point in points[1:]:
            chain = chain.move_to_element_with_offset(canvas, *point)
        chain.release().perform()

    def drop(self, path, kind):
        with open(path, "rb") as f:
            data = base64.b64encode(f.read()).decode()
        self.js(
            "const b=Uint8Array.from(atob(arguments[0]),c=>c.charCodeAt(0));"
            "const t=new DataTransfer();t.items.add(new File([b],'p.png',{type:arguments[1]}));"
            "document.getElementById('stage').dispatchEvent("
            "new DragEvent('drop',{dataTransfer:t,bubbles:true,cancelable:true}))",
            data,
            kind,
        )


def photograph(path, width=200, height=160):
    """A picture with edges: squares on a slope of grey."""
    rows = b""
    for y in range(height):
        row = b"".join(
            bytes([200, 60, 40]) if 60 < x < 130 and 40 < y < 110 else bytes([x, x, 120]) for x in range(width)
        )
        rows += b"\0" + row
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    with open(path, "wb") as f:
        f.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)))
        f.write(chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


# Names of what can be used, text of enough contrast, no doubled ids (WCAG 2: 4.1.2, 1.4.3, 4.1.1).
AUDIT = r"""
const faults = [];
const seen = (e) => e.checkVisibility && e.checkVisibility();
for (const e of document.querySelectorAll('button, a[href], input, select, textarea, [role=tab], canvas')) {
  if (!seen(e)) continue;
  const label = e.getAttribute('aria-label') || e.textContent.trim() || [...(e.labels || [])].map((l) => l.textContent.trim()).join('');
  if (!label) faults.push('no name: ' + e.outerHTML.slice(0, 90));
}
for (const e of document.querySelectorAll('img'))
  if (!e.hasAttribute('alt')) faults.push('no alt: ' + e.outerHTML.slice(0, 90));
const ids = [...document.querySelectorAll('[id]')].map((e) => e.id);
ids.filter((id, i) => ids.indexOf(id) !== i).forEach((id) => faults.push('two of #' + id));
const probe = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
const rgb = (colour) => { probe.clearRect(0,0,1,1); probe.fillStyle = colour; probe.fillRect(0,0,1,1); return [...probe.getImageData(0,0,1,1).data]; };
const light = (c) => { const [r,g,b] = c.map((v) => { v /= 255; return v <= 0.03928 ? v/12.92 : ((v+0.055)/1.055)**2.4; }); return 0.2126*r+0.7152*g+0.0722*b; };
const ground = (e) => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c[3] > 250) return c; } return [255,255,255]; };
for (const e of document.querySelectorAll('body *')) {
  if (!seen(e) || e.disabled || ![...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim())) continue;
  if (e.closest('.drop, .hidden, .skip, :disabled, option')) continue;
  const s = getComputedStyle(e), a = light(rgb(s.color).slice(0,3)), b = light(ground(e).slice(0,3));
  const ratio = (Math.max(a,b)+0.05)/(Math.min(a,b)+0.05);
  if (ratio < 4.5 && parseFloat(s.opacity) === 1) faults.push(`contrast ${ratio.toFixed(1)}: ${e.textContent.trim().slice(0,30)}`);
}
return faults;
"""


def use(driver, address, folder):
    page = Page(driver, address)
    page.wait_drawn("the worked example")
    first = page.shown()
    check(page.count() == 1 and first.startswith("data:image/png"), "a first visit shows a drawing")

    page.by("clear").click()
    before = page.surface()
    page.stroke([(-60, 40), (-20, -50), (40, -40), (60, 50)])
    check(page.surface() > before, "pointer events draw")
    with_control = page.draw("a drawing with control")
    check(with_control != first, "another scribble, another picture")
    page.by("undo").click()
    check(page.surface() == before, "undo")
    page.by("redo").click()
    check(page.surface() > before, "redo")

    page.by("without").click()
    until(driver, lambda: page.by("compare").is_displayed(), "the comparison")
    other = page.js("return document.getElementById('other').src")
    check(other != with_control and other.startswith("data:"), "without control it is another picture")

    page.click_text("Enabled")
    check(page.draw("a drawing without control") == other, "a control out of use is the same as none")
    page.click_text("Enabled")

    photo = os.path.join(folder, "photo.png")
    photograph(photo)
    page.drop(photo, "image/png")
    until(driver, lambda: page.js("return document.querySelector('#card [aria-checked=true]').textContent") == "Photo", "the photo")
    time.sleep(1)
    edges = page.surface()
    check(edges != before, "a dropped photograph becomes a map")
    page.js(
        "for (const l of document.querySelectorAll('#card .slider')) if (l.textContent.startsWith('high')) {"
        "const i=l.querySelector('input'); i.value=i.max; i.dispatchEvent(new Event('input',{bubbles:true})) }"
        "for (const l of document.querySelectorAll('#card .slider')) if (l.textContent.startsWith('low')) {"
        "const i=l.querySelector('input'); i.value=i.max-1; i.dispatchEvent(new Event('input',{bubbles:true})) }"
    )
    until(driver, lambda: page.surface() != edges, "a threshold that acts at once")
    check(page.surface() != edges, "a threshold changes the map")
    mapped = page.draw("a drawing along the photograph")

    png = os.path.join(folder, "drawn.png")
    with open(png, "wb") as f:
        f.write(base64.b64decode(mapped.split(",", 1)[1]))
    page.js("document.getElementById('prompt').value='something else'; document.getElementById('steps').value=3")
    page.drop(png, "image/png")
    until(driver, lambda: page.by("prompt").get_attribute("value") != "something else", "the prompt of a PNG")
    time.sleep(1)
    check(page.draw("the same again") == mapped, "a dropped PNG brings back all it was drawn with")

    page.js("document.getElementById('prompt').value='words of now'")
    gallery = driver.find_elements(By.CSS_SELECTOR, "#gallery button")
    gallery[-1].click()
    check(page.shown() == first, "the gallery shows an earlier drawing")
    check(page.by("prompt").get_attribute("value") == "words of now", "and leaves the fields as they are")
    page.by("use").click()
    until(driver, lambda: page.by("prompt").get_attribute("value") != "words of now", "an earlier drawing's prompt")
    check(page.js("return document.querySelector('#card [aria-checked=true]').textContent") == "Drawing", "its control is there")
    check(page.draw("the first again") == first, "an earlier drawing's fields draw it again")
    page.by("use").click()
    time.sleep(1)
    page.js("document.getElementById('prompt').value='words of then'")
    page.js("[...document.querySelectorAll('#toast button')].at(-1).click()")
    time.sleep(1)
    check(page.by("prompt").get_attribute("value") != "words of then", "and are taken back")
    drawn = page.surface()
    page.click_text("Remove")
    check(page.surface() < drawn, "a control is removed")
    page.js("[...document.querySelectorAll('#toast button')].at(-1).click()")
    check(until(driver, lambda: page.surface() == drawn, "the removed control"), "and comes back with what was drawn")
    loras(page)

    page.js("document.getElementById('live').click()")
    until(driver, lambda: page.drawn() and "6," in page.by("parameters").text, "live mode")
    live = page.shown()
    page.js("document.getElementById('seed').value=77;document.getElementById('seed').dispatchEvent(new Event('input',{bubbles:true}))")
    until(driver, lambda: page.drawn() and page.shown() != live and "Seed: 77," in page.by("parameters").text, "a live drawing")
    redraw(driver, page)
    page.js("document.getElementById('live').click()")

    page.by("prompt").clear()
    page.js("const p=document.getElementById('prompt');p.value='a red ball';p.focus();p.setSelectionRange(2,5)")
    from selenium.webdriver.common.keys import Keys
    page.by("prompt").send_keys(Keys.CONTROL, Keys.ARROW_UP)
    check(page.by("prompt").get_attribute("value") == "a (red:1.1) ball", "weights by the keyboard")

    page.js("document.getElementById('add').click()")
    check("Control 2" in page.by("tabs").text, "a second control")
    page.by("canvas").send_keys(" ", *[Keys.ARROW_RIGHT] * 9, " ")
    check(page.surface() > before, "the keyboard draws")
    errors = [line for line in driver.get_log("browser") if line["level"] == "SEVERE"]
    check(not errors, f"no errors in the browser's log {errors}")


# Of each stroke, milliseconds from its end to the first preview and to the picture.
WATCH = """
window.redrawn = [];
let up = 0, began = false, first = 0;
document.getElementById('canvas').addEventListener('pointerup', () => { up = performance.now(); began = false; first = 0; });
new MutationObserver(() => {
  if (!up) return;
  const drawn = document.getElementById('status').textContent.includes('drawn in'), now = performance.now() - up;
  began ||= !drawn;
  if (began && !first && document.getElementById('shown').alt === 'The drawing on its way') first = now;
  if (began && drawn) { window.redrawn.push([first, now]); up = 0; }
}).observe(document.body, {subtree: true, childList: true, attributes: true, characterData: true});
"""


def redraw(driver, page):
    """In live mode each stroke is redrawn; how fast, the machine's other work decides too."""
    page.js("document.getElementById('clear').click()")
    time.sleep(0.5)
    until(driver, page.drawn, "the picture without a stroke")
    page.js(WATCH)
    strokes = 6
    for i in range(strokes):
        before = page.shown()
        page.stroke([(-60 + 8 * i, 40), (-20, -50 + 9 * i), (40, -40)])
        done = until(driver, lambda: page.js("return window.redrawn.length") > i, "a stroke that is redrawn")
        if not done or page.shown() == before:
            check(False, "a stroke is redrawn")
            return
    times = page.js("return window.redrawn")
    previews = [t[0] for t in times if t[0]]
    check(len(times) == strokes and previews, "strokes are redrawn, with previews")
    print(f"   a stroke is redrawn after {min(t[1] for t in times) / 1000:.2f} s,"
          f" its first preview comes after {min(previews or [0]) / 1000:.2f} s (the least of {strokes})")


def loras(page):
    """A chip puts a LoRA into the prompt, its number or Ctrl+Up weighs it."""
    from selenium.webdriver.common.keys import Keys

    chips = lambda: page.driver.find_elements(By.CSS_SELECTOR, "#loras button")
    if not chips():
        print("SKIP  LoRAs: the server has none", flush=True)
        return
    words = lambda: page.by("prompt").get_attribute("value")
    before, tag = words(), f" <lora:{chips()[0].text}:"
    chips()[0].click()
    check(words() == before + tag + "1>", "a chip puts a LoRA into the prompt")
    page.by("prompt").send_keys(Keys.END, Keys.CONTROL, Keys.ARROW_DOWN)
    check(words() == before + tag + "0.9>", "the keyboard weighs it")
    weight = page.driver.find_element(By.CSS_SELECTOR, "#loras input")
    check(weight.get_attribute("value") == "0.9", "the chip has its weight")
    page.js("arguments[0].value=0.4;arguments[0].dispatchEvent(new Event('input',{bubbles:true}))", weight)
    check(words() == before + tag + "0.4>", "and changes it")
    chips()[0].click()
    check(words() == before and chips()[0].get_attribute("aria-pressed") == "false", "the chip takes it out")


def choose_model(driver, address):
    """Where the server has several: another one draws another picture, and a PNG brings it back."""
    page = Page(driver, address)
    page.wait_drawn("the worked example")
    names = page.js("return [...document.getElementById('model-choice').options].map(o=>o.value)")
    check(page.by("model-box").is_displayed() == (len(names) > 1), "a choice where there are several models")
    if len(names) < 2:
        print("SKIP  several models: the server has one", flush=True)
        return
    before = page.shown()
    page.js("const c=document.getElementById('model-choice');c.selectedIndex=1;c.dispatchEvent(new Event('change'))")
    time.sleep(1)
    drawn = page.draw("a drawing by the second model")
    check(drawn != before, "another model, another picture")
    page.js("const c=document.getElementById('model-choice');c.selectedIndex=0;c.dispatchEvent(new Event('change'))")
    with tempfile.NamedTemporaryFile(suffix=".png") as f:
        f.write(base64.b64decode(drawn.split(",", 1)[1]))
        f.flush()
        page.drop(f.name, "image/png")
        until(driver, lambda: page.js("return document.getElementById('model-choice').selectedIndex") == 1, "the PNG's model")
        time.sleep(1)
    check(page.draw("the same again") == drawn, "a dropped PNG brings back its model")


def bare(driver, address):
    """Nothing to steer with: the page says so, and shows what there is."""
    page = Page(driver, address)
    page.wait_drawn("the worked example")
    check(page.by("no-control").is_displayed(), "it says that there is no ControlNet")
    check("make demo" in page.by("no-control").text, "and how one comes")
    check(until(driver, lambda: page.surface() > 255 * 128 * 128, "edges of the picture"), "the picture's edges are shown")
    check(page.count() == 1, "a first visit shows a drawing")
    page.by("look-again").click()
    check(until(driver, lambda: "still none" in page.by("toast").text, "an answer"), "it looks again")
    errors = [line for line in driver.get_log("browser") if line["level"] == "SEVERE"]
    check(not errors, f"no errors in the browser's log {errors}")


def has_controls(address):
    with urllib.request.urlopen(f"{address}/v1/control-nets", timeout=30) as r:
        return bool(json.loads(r.read())["control_nets"])


def train(driver, address):
    """Where the server has --data: a look at the pairs, a run that is stopped, and goes on to its end."""
    page = Page(driver, address)
    page.wait_drawn("the worked example")
    if not page.by("train-view").is_displayed():
        print("SKIP  training: the server was started without --data", flush=True)
        return
    name = f"page-{int(time.time())}"
    page.by("train-view").click()
    page.js("for (const [k,v] of Object.entries(arguments[0])) document.getElementById(k).value=v",
            {"train-name": name, "train-steps": 300, "train-batch": 2, "train-validate": 0})
    told = lambda: page.by("train-status").text
    page.by("train-check").click()
    check(until(driver, lambda: "The run takes" in told(), "a look at the pairs"), "what the pairs hold and the run takes")
    pairs = driver.find_elements(By.CSS_SELECTOR, "#samples img")
    check(len(pairs) == 4 and all(p.size["width"] > p.size["height"] > 20 for p in pairs), "some of the pairs are shown")
    page.by("train-start").click()
    until(driver, lambda: page.by("legend").text.startswith("loss"), "a curve")
    page.by("train-stop").click()
    check(until(driver, lambda: "stopped" in told(), "the end of a stopped run"), "a training run starts and stops")
    time.sleep(2)
    with urllib.request.urlopen(f"{address}/v1/jobs", timeout=30) as r:
        made = [job["step"] for job in json.loads(r.read())["jobs"] if job["type"] == "train"][-1]
    page.js("document.getElementById('train-steps').value=arguments[0]", made + 4)
    page.by("train-resume").click()
    check(until(driver, lambda: "It is among" in told(), "the end of a run that goes on"), "it goes on to its end")
    choices = "return [...document.querySelectorAll('#card select option')].map(o=>o.textContent)"
    check(name in page.js(choices), "its ControlNet is among those to draw with")


def picture_of_training(driver, address, pictures):
    """A run that is learned, for docs/page-train.png; only where pictures are asked for, since it takes minutes."""
    page = Page(driver, address)
    page.wait_drawn("the worked example")
    page.by("train-view").click()
    page.js("for (const [k,v] of Object.entries(arguments[0])) document.getElementById(k).value=v",
            {"train-data": "scribbles", "train-name": "tiny-scribble", "train-steps": 400, "train-batch": 8,
             "train-rate": 0.001, "train-validate": 50})
    page.by("train-check").click()
    until(driver, lambda: driver.find_elements(By.CSS_SELECTOR, "#samples img"), "some of the pairs")
    page.by("train-start").click()
    WebDriverWait(driver, 900).until(lambda _: "It is among" in page.by("train-status").text)
    check("learned at step" in page.by("train-status").text, "a run of 400 steps is learned")
    check(not page.by("train-advice").text, "what was advised before it was learned is gone")
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                           {"width": 1280, "height": 2000, "deviceScaleFactor": 1, "mobile": False})
    page.by("train").screenshot(os.path.join(pictures, "page-train.png"))


def look(address, pictures, mark=""):
    for width, height in ((1280, 1240), (390, 2000), (360, 900)):
        for dark in (False, True):
            driver = start(width, height, dark)
            try:
                page = Page(driver, address)
                page.wait_drawn("the worked example")
                if page.by("train-view").is_displayed():
                    page.by("train-view").click()
                faults = page.js(AUDIT)
                mode = "dark" if dark else "light"
                check(not faults, f"names and contrast at {width} px, {mode} {faults[:6]}")
                if Axe:
                    found = Axe().run(driver)["violations"]
                    bad = [f"{v['id']}: {v['nodes'][0]['html'][:80]}" for v in found if v["impact"] in ("serious", "critical")]
                    check(not bad, f"axe-core at {width} px, {mode} {bad}")
                wide = page.js("return document.documentElement.scrollWidth")
                check(wide <= width, f"nothing beyond {width} px ({wide})")
                if page.by("train-view").is_displayed():
                    page.by("train-view").click()
                if pictures and width != 360:
                    driver.save_screenshot(os.path.join(pictures, f"page{mark}-{width}-{mode}.png"))
            finally:
                driver.quit()


def main():
    address, pictures = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None
    controlled = has_controls(address)
    with tempfile.TemporaryDirectory() as folder:
        driver = start(1280, 1240, False)
        try:
            if controlled:
                use(driver, address, folder)
                choose_model(driver, address)
                train(driver, address)
                if pictures:
                    picture_of_training(driver, address, pictures)
            else:
                bare(driver, address)
        finally:
            driver.quit()
        look(address, pictures, "" if controlled else "-fresh")
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed > 0)


main()
