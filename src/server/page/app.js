// SPDX-License-Identifier: Apache-2.0
// app.js - the page: fields to requests, requests to pictures, pictures back to fields.

import { get, post, Job } from "./api.js";
import { asUrl, card, controlRequest, element, newControl, newPicture, preprocessorText, resizeTarget, restoreControl, setPhoto } from "./controls.js";
import { Gallery } from "./gallery.js";
import { Layer, loadImage, Surface } from "./paint.js";
import { openTraining } from "./train.js";

const $ = (id) => document.getElementById(id);
const LIVE_STEPS = 6;
const SOON_MS = 120;

// base: what is drawn with, of state.info.models, with the size of its pictures.
const state = { info: null, base: null, nets: [], preprocessors: [], targets: [], at: 0, job: null };
const blank = new Layer(8, 8);

/* --- what is chosen -------------------------------------------------------------------------- */

const now = () => state.targets[state.at];

function size() {
  const own = state.base.size_px;
  return { width: Number($("width").value) || own, height: Number($("height").value) || own };
}

function shows() {
  const t = now();
  const photo = t.kind === "control" && t.source === "photo";
  if (t.masking) return { layer: t.mask, beneath: beneathMask(t), dim: 1, tint: "#be123c" };
  if (photo) return { layer: blankOf(t), beneath: t.map || t.photo, dim: 1 };
  return { layer: t.layer, beneath: t.photo, dim: 0.35 };
}

function beneathMask(t) {
  if (t.kind === "picture") return t.photo;
  return t.source === "photo" ? t.map || t.photo : t.layer.canvas;
}

// A layer of the target's size on which nothing is.
function blankOf(t) {
  blank.canvas.width = t.mask.canvas.width;
  blank.canvas.height = t.mask.canvas.height;
  return blank;
}

const canPaint = () => now().masking || now().source === "drawing";

function drawTabs() {
  const name = (t, i) => (t.kind === "picture" ? "Picture" : state.targets.filter((o) => o.kind === "control").length > 1 ? `Control ${i + 1}` : "Control");
  const tabs = state.targets.map((t, i) =>
    element("button", { type: "button", role: "tab", id: `tab-${i}`, "aria-selected": String(i === state.at), "aria-controls": "surface", tabindex: i === state.at ? 0 : -1, onclick: () => choose(i) }, name(t, i)),
  );
  $("tabs").replaceChildren(...tabs);
  $("add").hidden = state.targets.length > 8;
  $("surface").setAttribute("aria-labelledby", `tab-${state.at}`);
}

function choose(i) {
  state.at = i;
  show();
}

function show() {
  drawTabs();
  digest();
  const t = now();
  $("card").replaceChildren(...card(t, world));
  $("drop").hidden = t.photo != null || (t.kind === "control" && t.source === "drawing" && !t.layer.isEmpty);
  for (const b of document.querySelectorAll(".tools button, .tools input")) b.disabled = !canPaint();
  $("strength-box").hidden = !picture().photo;
  $("no-control").hidden = state.nets.length > 0 || t.kind !== "control";
  surface.paint();
}

const picture = () => state.targets.find((t) => t.kind === "picture");

const world = {
  get nets() { return state.nets; },
  get preprocessors() { return state.preprocessors; },
  changed(what, rebuild) {
    if (rebuild) show();
    if (what === "photo" || rebuild) annotateSoon();
    surface.paint();
    liveSoon();
  },
  // There is always a control to draw on, and a place for the picture.
  remove(t) {
    const back = keepAll(), last = !state.targets.some((o) => o !== t && o.kind === t.kind);
    const fresh = last ? [t.kind === "picture" ? newPicture(size()) : newControl(size(), state.nets[0]?.title)] : [];
    state.targets = state.targets.flatMap((o) => (o === t ? fresh : [o]));
    choose(Math.min(state.at, state.targets.length - 1));
    say(t.kind === "picture" ? "The picture is removed" : "The control is removed", true, back);
    liveSoon();
  },
};

/* --- drawing surface --------------------------------------------------------------------------- */

const surface = new Surface($("canvas"), shows, (ended) => {
  $("drop").hidden = true;
  if (ended) liveSoon(0);
  else if ($("live").checked && !state.job) liveSoon();
});

function setTool(name) {
  surface.tool = name;
  for (const b of document.querySelectorAll(".tool")) b.setAttribute("aria-checked", String(b.dataset.tool === name));
}

function setSize(v) {
  surface.size = Math.min(40, Math.max(1, v));
  $("brush-size").value = surface.size;
  document.querySelector("output[for=brush-size]").value = surface.size;
}

function onLayer(act) {
  if (!canPaint()) return;
  act(shows().layer);
  surface.paint();
  liveSoon();
}

function listenToTools() {
  for (const b of document.querySelectorAll(".tool")) b.addEventListener("click", () => setTool(b.dataset.tool));
  $("brush-size").addEventListener("input", () => setSize(Number($("brush-size").value)));
  $("undo").addEventListener("click", () => onLayer((l) => l.back("undo", "redo")));
  $("redo").addEventListener("click", () => onLayer((l) => l.back("redo", "undo")));
  $("clear").addEventListener("click", () => onLayer((l) => l.clear()));
  $("invert").addEventListener("click", () => onLayer((l) => l.invert()));
  $("open-photo").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", () => take($("file").files[0]));
}

/* --- photographs and their maps ------------------------------------------------------------------ */

let annotating = null, annotateTimer = 0;

function annotateSoon() {
  clearTimeout(annotateTimer);
  annotateTimer = setTimeout(() => annotate(now()), SOON_MS);
}

// The map of a target's photograph, seen at once.
async function annotate(t) {
  if (t.kind !== "control" || t.source !== "photo" || !t.photo) return;
  annotating?.stop();
  const own = (annotating = new Job({ type: "annotate", kind: preprocessorText(t), image: cropped(t) }));
  try {
    const result = await own.result;
    if (result) t.map = await loadImage(asUrl(result.images[0]));
  } catch (e) {
    say(e.message);
  }
  if (annotating === own) annotating = null;
  surface.paint();
}

// As the drawing will see it: at its size, cropped around the middle.
function cropped(t) {
  const { width, height } = size(), out = document.createElement("canvas");
  const iw = t.photo.naturalWidth, ih = t.photo.naturalHeight, k = Math.max(width / iw, height / ih);
  out.width = width;
  out.height = height;
  out.getContext("2d").drawImage(t.photo, (iw - width / k) / 2, (ih - height / k) / 2, width / k, height / k, 0, 0, width, height);
  return out.toDataURL("image/png");
}

// A picture that came from somewhere: one drawn here brings back all it was drawn with.
async function take(file) {
  if (!file) return;
  try {
    const url = await new Promise((resolve) => {
      const reader = new FileReader();
      reader.onload = () => resolve(reader.result);
      reader.readAsDataURL(file);
    });
    if (file.type === "image/png" && (await restoreFrom(url))) return;
    await placePhoto(await loadImage(url));
  } catch (e) {
    say(e.message);
  }
}

async function placePhoto(image) {
  const t = now();
  await setPhoto(t, image);
  if (t.kind === "control") {
    t.source = "photo";
    t.masking = false;
    await annotate(t);
  }
  show();
  liveSoon();
}

async function restoreFrom(url) {
  const said = await post("/sdapi/v1/png-info", { image: url }).catch(() => null);
  if (!said?.info) return false;
  if (said.request) await restore(said.request);
  else restoreText(said.parameters);
  liveSoon();
  return true;
}

function listenToPictures() {
  const stages = [$("stage"), document.body];
  for (const e of stages) {
    e.addEventListener("dragover", (event) => {
      event.preventDefault();
      $("stage").classList.add("over");
    });
    e.addEventListener("dragleave", () => $("stage").classList.remove("over"));
  }
  document.body.addEventListener("drop", (event) => {
    event.preventDefault();
    $("stage").classList.remove("over");
    take(event.dataTransfer.files[0]);
  });
  document.addEventListener("paste", (event) => {
    const file = [...event.clipboardData.files].find((f) => f.type.startsWith("image/"));
    if (file) take(file);
  });
}

/* --- fields and requests -------------------------------------------------------------------------- */

function requestNow() {
  const t = picture();
  const r = {
    type: "generate", recipe: true, model: state.base.title, prompt: $("prompt").value, negative_prompt: $("negative").value, prompt_style: "webui",
    steps: Number($("steps").value), cfg_scale: Number($("cfg").value), sampling_method: $("sampler").value,
    scheduler: $("scheduler").value, ...size(), iterations: Number($("batch").value), seed: Number($("seed").value),
    controls: state.targets.filter((o) => o.kind === "control").map(controlRequest).filter((c) => c),
  };
  if (t.photo) {
    r.init_image = t.photoUrl;
    r.strength = Number($("strength").value);
    if (!t.mask.isEmpty) Object.assign(r, { mask: t.mask.png(), mask_blur: t.blur });
  }
  return r;
}

function setField(id, value) {
  if (value != null) $(id).value = value;
}

// Brings back all that is set now.
function keepAll() {
  const fields = requestNow(), { targets, at } = state;
  return async () => {
    await setFields(fields);
    state.targets = targets;
    choose(Math.min(at, targets.length - 1));
    liveSoon();
  };
}

async function setFields(r) {
  if (r.model && r.model !== state.base.title && state.info.models.some((m) => m.title === r.model)) await chooseBase(r.model);
  setField("prompt", r.prompt);
  setField("negative", r.negative_prompt || "");
  $("negative-box").open = !!r.negative_prompt;
  setField("steps", r.steps);
  setField("cfg", r.cfg_scale);
  setField("sampler", r.sampling_method);
  setField("scheduler", r.scheduler);
  setField("width", r.width);
  setField("height", r.height);
  setField("batch", r.iterations);
  setField("seed", r.seed);
  setField("strength", r.strength);
  listLoras();
}

async function restore(r) {
  const back = keepAll();
  await setFields(r);
  const controls = [];
  for (const c of r.controls || []) {
    const t = newControl(size(), c.model);
    await restoreControl(t, { ...c, model: titleOf(c.model) });
    controls.push(t);
  }
  if (!controls.length) controls.push(newControl(size(), state.nets[0]?.title));
  const t = newPicture(size());
  if (r.init_image) await setPhoto(t, await loadImage(asUrl(r.init_image)));
  if (r.mask) await t.mask.load(await loadImage(asUrl(r.mask)));
  state.targets = [...controls, t];
  choose(0);
  for (const one of controls) await annotate(one);
  say("What the picture was drawn with is set", true, back);
}

const titleOf = (name) => (state.nets.find((n) => n.title === name || n.name === name) || { title: name }).title;

// Of a picture that another program drew: what has a name here.
function restoreText(p) {
  const back = keepAll();
  const [width, height] = (p.Size || "").split("x");
  setField("prompt", p.Prompt);
  setField("negative", p["Negative prompt"]);
  setField("steps", p.Steps);
  setField("cfg", p["CFG scale"]);
  setField("seed", p.Seed);
  if (height) {
    setField("width", width);
    setField("height", height);
    resizeAll();
  }
  listLoras();
  digest();
  say("What the picture was drawn with is set", true, back);
}

function resizeAll() {
  for (const t of state.targets) resizeTarget(t, size());
  show();
}

// The settings in a line, while they are folded.
function digest() {
  const { width, height } = size(), seed = $("lock").checked ? `seed ${$("seed").value}` : "new seeds";
  $("digest").textContent = `${$("steps").value} steps, guidance ${$("cfg").value}, ${seed}, ${width}\u00a0×\u00a0${height}`;
}

/* --- jobs ---------------------------------------------------------------------------------------- */

const gallery = new Gallery();

function progress(part, text) {
  $("progress").setAttribute("aria-valuenow", Math.round(100 * part));
  $("progress").firstElementChild.style.width = `${100 * part}%`;
  $("status").textContent = text;
}

function told(name, data) {
  if (name === "preview") gallery.preview(data.image);
  if (name !== "state") return;
  const eta = data.eta_seconds > 1 ? `, ${Math.round(data.eta_seconds)} s left` : "";
  const where = data.state === "queued" ? `waiting, ${data.position} in line` : `${data.stage} ${data.step}/${data.steps}${eta}`;
  progress(data.stage === "decoding" ? 1 : data.steps ? data.step / data.steps : 0, where);
}

function newSeed() {
  $("seed").value = crypto.getRandomValues(new Uint32Array(1))[0];
}

// Draws what the fields say; an earlier drawing is stopped. live: few steps, and soon again.
async function draw(live) {
  state.job?.stop();
  if (!live && !$("lock").checked) newSeed();
  const r = requestNow();
  if (live) Object.assign(r, { steps: Math.min(r.steps, LIVE_STEPS), iterations: 1 });
  const begun = performance.now(), job = (state.job = new Job({ ...r, preview_interval: live ? 2 : 1 }, told));
  $("stop").disabled = false;
  try {
    const result = await job.result;
    if (result) finish(r, result, performance.now() - begun, live);
    else if (state.job === job) halted("stopped");
  } catch (e) {
    halted("failed");
    say(e.message);
  }
  if (state.job !== job) return;
  state.job = null;
  $("stop").disabled = true;
}

// The last picture is shown again, not the preview of what isn't drawn to its end.
function halted(how) {
  progress(0, how);
  if (gallery.now) gallery.show(gallery.now);
}

function finish(r, result, ms, live) {
  result.images.forEach((image, i) => {
    const seed = result.seeds[i];
    const item = { image, parameters: result.parameters[i], seed, request: { ...r, seed, iterations: 1 } };
    if (live && gallery.items[0]?.live) gallery.items.shift();
    gallery.add(Object.assign(item, { live }));
  });
  $("seed").value = result.seed;
  digest();
  progress(0, `drawn in ${(ms / 1000).toFixed(1)} s`);
}

// The shown picture once more, with no control, from the same noise.
async function drawWithout() {
  const item = gallery.now;
  if (!item.without) {
    $("without").disabled = true;
    state.job?.stop();
    const job = (state.job = new Job({ ...item.request, controls: [] }, told));
    try {
      const result = await job.result;
      if (result) item.without = result.images[0];
    } catch (e) {
      say(e.message);
    }
    if (state.job === job) state.job = null;
    progress(0, "ready");
  }
  gallery.show(item);
}

let liveTimer = 0;

function liveSoon(ms = SOON_MS) {
  if (!$("live").checked) return;
  clearTimeout(liveTimer);
  liveTimer = setTimeout(() => draw(true), ms);
}

/* --- words ------------------------------------------------------------------------------------------ */

const tenths = (v) => Math.round(10 * (Number.isFinite(v) ? v : 1)) / 10;

// (selected:1.1), <lora:name:0.9>: a tenth more or less each time.
function weigh(field, by) {
  let { selectionStart: a, selectionEnd: b, value: v } = field;
  const tag = [...v.matchAll(/<lora:[^:<>]+:[^<>]*>/g)].find((m) => m.index <= a && b <= m.index + m[0].length);
  if (tag) {
    const put = tag[0].replace(/[^:]*>$/, `${tenths(Number.parseFloat(tag[0].split(":")[2]) + by)}>`);
    field.setRangeText(put, tag.index, tag.index + tag[0].length, "select");
    listLoras();
    return liveSoon();
  }
  if (a === b) {
    while (a > 0 && /[^\s,()]/.test(v[a - 1])) a--;
    while (b < v.length && /[^\s,()]/.test(v[b])) b++;
  }
  if (a === b) return;
  const found = v.slice(b).match(/^:([\d.]+)\)/);
  const inside = v[a - 1] === "(" && found;
  const weight = tenths((inside ? Number(found[1]) : 1) + by);
  const words = v.slice(a, b), from = inside ? a - 1 : a, to = inside ? b + found[0].length : b;
  const put = weight === 1 ? words : `(${words}:${weight})`;
  field.setRangeText(put, from, to, "preserve");
  const start = from + (weight === 1 ? 0 : 1);
  field.setSelectionRange(start, start + words.length);
  liveSoon();
}

// A LoRA's tag in the prompt, its weight in the first group.
const loraTag = (name) => new RegExp(`\\s*<lora:${name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")}:([^>]*)>`);

function loraChip(name) {
  const p = $("prompt"), tag = loraTag(name), found = p.value.match(tag);
  const set = (value) => {
    p.value = value;
    liveSoon();
  };
  const chip = element("button", {
    type: "button", "aria-pressed": String(!!found), "data-lora": name,
    onclick: () => {
      set(found ? p.value.replace(tag, "") : `${p.value} <lora:${name}:1>`);
      listLoras();
      $("loras").querySelector(`[data-lora="${CSS.escape(name)}"]`)?.focus();
    },
  }, name);
  if (!found) return [chip];
  const weight = element("input", {
    type: "number", step: 0.1, min: -4, max: 4, value: found[1], "aria-label": `Weight of ${name}`,
    oninput: () => weight.value && set(p.value.replace(tag, ` <lora:${name}:${weight.value}>`)),
  });
  return [chip, weight];
}

// What --lora-dir holds, and whether the prompt has it.
function listLoras() {
  $("loras").hidden = !state.info.loras.length;
  $("loras").replaceChildren(...state.info.loras.map((name) => element("span", {}, ...loraChip(name))));
}

let toastTimer = 0;

// back: what undoes it, offered beside the words.
function say(text, good = false, back = null) {
  const clear = () => $("toast").replaceChildren();
  $("toast").className = good ? "good" : "";
  $("toast").replaceChildren(text);
  if (back)
    $("toast").append(" ", element("button", {
      type: "button", class: "link",
      onclick: () => {
        clear();
        back().catch((e) => say(e.message));
      },
    }, "Take back"));
  clearTimeout(toastTimer);
  toastTimer = setTimeout(clear, good && !back ? 4000 : 9000);
}

/* --- the page ------------------------------------------------------------------------------------------ */

function shortcuts(e) {
  if ((e.ctrlKey || e.metaKey) && e.key === "Enter") {
    e.preventDefault();
    draw(false);
  } else if (/^(INPUT|TEXTAREA|SELECT)$/.test(e.target.tagName)) {
    const by = { ArrowUp: 0.1, ArrowDown: -0.1 }[e.key];
    if (e.target.tagName === "TEXTAREA" && e.ctrlKey && by) {
      e.preventDefault();
      weigh(e.target, by);
    }
  } else if ((e.ctrlKey || e.metaKey) && e.key.toLowerCase() === "z") {
    e.preventDefault();
    onLayer((l) => (e.shiftKey ? l.back("redo", "undo") : l.back("undo", "redo")));
  } else if (!e.ctrlKey && !e.metaKey && !e.altKey) {
    const tool = { b: "brush", e: "eraser", l: "line" }[e.key];
    if (tool) setTool(tool);
    if (e.key === "[" || e.key === "]") setSize(surface.size + (e.key === "]" ? 2 : -2));
  }
}

function listen() {
  listenToTools();
  listenToPictures();
  document.addEventListener("keydown", shortcuts);
  $("tabs").addEventListener("keydown", (e) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[e.key];
    if (!by) return;
    choose((state.at + by + state.targets.length) % state.targets.length);
    $(`tab-${state.at}`).focus();
  });
  $("add").addEventListener("click", () => {
    const i = state.targets.length - 1;
    state.targets.splice(i, 0, newControl(size(), state.nets[0]?.title));
    choose(i);
  });
  $("form").addEventListener("submit", (e) => {
    e.preventDefault();
    if (innerWidth <= 860) $("picture").scrollIntoView({ block: "center", behavior: "smooth" });
    draw(false);
  });
  $("stop").addEventListener("click", () => state.job?.stop());
  $("without").addEventListener("click", drawWithout);
  $("use").addEventListener("click", () => restore(gallery.now.request).then(liveSoon).catch((e) => say(e.message)));
  $("prompt").addEventListener("input", listLoras);
  $("edit").addEventListener("click", async () => {
    const t = picture();
    await setPhoto(t, await loadImage(asUrl(gallery.now.image)));
    choose(state.targets.indexOf(t));
  });
  $("dice").addEventListener("click", () => {
    newSeed();
    digest();
    liveSoon();
  });
  $("look-again").addEventListener("click", () => lookAgain().catch((e) => say(e.message)));
  $("train-hint").addEventListener("click", () => $("train").hidden && $("train-view").click());
  $("live").addEventListener("change", () => liveSoon());
  $("settings-box").addEventListener("input", digest);
  for (const id of ["width", "height"]) $(id).addEventListener("change", resizeAll);
  for (const id of ["prompt", "negative", "steps", "cfg", "sampler", "scheduler", "seed", "strength"]) $(id).addEventListener("input", () => liveSoon());
  $("theme").addEventListener("click", () => {
    const dark = document.documentElement.dataset.theme ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    localStorage.setItem("theme", (document.documentElement.dataset.theme = dark ? "light" : "dark"));
  });
}

async function chooseBase(title) {
  state.base = await get(`/v1/base-models/${encodeURIComponent(title)}`);
  $("model-choice").value = title;
  for (const id of ["width", "height"]) $(id).value = state.base.size_px;
}

// The model's name or, of several, a choice.
function listBases() {
  const { models } = state.info, several = models.length > 1;
  $("model").hidden = several;
  $("model-box").hidden = !several;
  $("model").textContent = state.base.name;
  $("model-choice").replaceChildren(...models.map((m) => new Option(m.name, m.title, false, m.title === state.base.title)));
  $("model-choice").addEventListener("change", async () => {
    await chooseBase($("model-choice").value).catch((e) => say(e.message));
    resizeAll();
    digest();
    liveSoon();
  });
}

function fill() {
  const { info } = state;
  listBases();
  for (const name of info.samplers) $("sampler").append(new Option(name));
  for (const name of info.schedulers) $("scheduler").append(new Option(name));
  $("steps").max = info.limits.steps;
  $("batch").max = Math.min(64, info.limits.batch);
  listLoras();
}

// A horizon and a ball, as a hand would draw them, in parts of the surface.
function drawExample(layer) {
  const { width, height } = layer.canvas, stroke = (points) => layer.stroke(points.map(([x, y]) => ({ x: x * width, y: y * height, pressure: 1 })), width / 85, false);
  const ball = [...Array(49).keys()].map((i) => {
    const a = (i * Math.PI) / 24;
    return [0.52 + 0.21 * Math.cos(a), 0.56 + 0.21 * Math.sin(a)];
  });
  stroke([...Array(17).keys()].map((i) => [i / 16, 0.36 + 0.004 * Math.sin(i)]).filter(([x]) => x < 0.44 || x > 0.6));
  stroke(ball);
}

// A first visit shows a drawing, its prompt, and where that is fast its picture.
function showExample() {
  const small = state.base.size_px <= 256;
  $("prompt").value = small ? "a shiny red sphere on green ground under a blue sky" : "a red ball on a meadow, blue sky, photograph";
  const scribble = state.nets.find((n) => /scribble|canny|lineart|edge/i.test(n.name)) || state.nets[0];
  state.targets[0].model = scribble?.title || "";
  if (scribble) drawExample(state.targets[0].layer);
  if (!small) $("steps").value = 20;
  else if (scribble) draw(false);
  else draw(false).then(showEdges);
}

// Without a ControlNet: what one would see of the picture.
async function showEdges() {
  if (!gallery.now || now().photo || !now().layer?.isEmpty) return;
  await placePhoto(await loadImage(asUrl(gallery.now.image)));
}

async function lookAgain() {
  const before = state.nets.length;
  state.nets = (await get("/v1/control-nets")).control_nets;
  for (const t of state.targets) if (t.kind === "control" && !t.model) t.model = state.nets[0]?.title || "";
  if (state.nets.length === before) say("There is still none");
  show();
}

async function begin() {
  document.documentElement.dataset.theme = localStorage.getItem("theme") || "";
  $("tabs").after(element("button", { type: "button", id: "add", class: "link", title: "One more control" }, "+ Control"));
  const [info, nets, kinds] = await Promise.all([get("/v1/info"), get("/v1/control-nets"), get("/v1/preprocessors")]);
  Object.assign(state, { info, nets: nets.control_nets, preprocessors: kinds.preprocessors });
  await chooseBase(info.model);
  fill();
  state.targets = [newControl(size(), state.nets[0]?.title), newPicture(size())];
  listen();
  progress(0, "ready");
  showExample();
  show();
  await openTraining(info, () => state.base, async () => {
    state.nets = (await get("/v1/control-nets")).control_nets;
    show();
  });
  $("train-one").hidden = !info.training;
}

begin().catch((e) => {
  $("status").textContent = "no connection";
  say(e.message);
});
