// SPDX-License-Identifier: Apache-2.0
// controls.js - what can be drawn on: a card for each control, one for the initial picture. A card
// is the target's state as fields; every change is told.

import { Layer, loadImage, shrink } from "./paint.js";

const PHOTO_PX = 1024;

let serial = 0;

export function newControl(size, model) {
  return {
    kind: "control", id: ++serial, on: true, model: model || "", source: "drawing",
    layer: new Layer(size.width, size.height), mask: new Layer(size.width, size.height),
    masking: false, photo: null, photoUrl: "", map: null, preprocessor: "canny", settings: {},
    strength: 1, start: 0, end: 1, mode: "balanced",
  };
}

export function newPicture(size) {
  return {
    kind: "picture", id: ++serial, mask: new Layer(size.width, size.height), masking: true,
    photo: null, photoUrl: "", blur: 4,
  };
}

export function resizeTarget(t, size) {
  t.layer?.resize(size.width, size.height);
  t.mask.resize(size.width, size.height);
}

export async function setPhoto(t, image) {
  t.photoUrl = shrink(image, PHOTO_PX);
  t.photo = await loadImage(t.photoUrl);
  t.map = null;
}

// "canny low=50 high=200"
export function preprocessorText(t) {
  const settings = Object.entries(t.settings).map(([k, v]) => `${k}=${v}`);
  return [t.preprocessor, ...settings].join(" ");
}

// A control as the server's request has it; null: it has no part in the drawing.
export function controlRequest(t) {
  const photo = t.source === "photo";
  if (!t.on || !t.model || (photo ? !t.photo : t.layer.isEmpty)) return null;
  const c = {
    model: t.model, strength: t.strength, start: t.start, end: t.end, mode: t.mode,
    image: photo ? t.photoUrl : t.layer.png(), preprocessor: photo ? preprocessorText(t) : "none",
  };
  if (!t.mask.isEmpty) c.mask = t.mask.png();
  return c;
}

// What such a request says, back in a target.
export async function restoreControl(t, c) {
  Object.assign(t, { model: c.model, strength: c.strength ?? 1, start: c.start ?? 0, end: c.end ?? 1, mode: c.mode ?? "balanced" });
  const [kind, ...settings] = (c.preprocessor || "none").split(" ");
  t.source = kind === "none" ? "drawing" : "photo";
  if (kind !== "none") t.preprocessor = kind;
  t.settings = Object.fromEntries(settings.map((s) => s.split("=")).map(([k, v]) => [k, Number(v)]));
  if (c.image) {
    const image = await loadImage(asUrl(c.image));
    if (kind === "none") await t.layer.load(image);
    else await setPhoto(t, image);
  }
  if (c.mask) await t.mask.load(await loadImage(asUrl(c.mask)));
}

export function asUrl(picture) {
  return picture.startsWith("data:") ? picture : `data:image/png;base64,${picture}`;
}

/* --- elements ------------------------------------------------------------------------------- */

export function element(name, attributes = {}, ...children) {
  const e = document.createElement(name);
  for (const [k, v] of Object.entries(attributes))
    if (k.startsWith("on")) e.addEventListener(k.slice(2), v);
    else if (v === true) e.setAttribute(k, "");
    else if (v !== false && v != null) e.setAttribute(k, v);
  e.append(...children);
  return e;
}

function select(label, options, value, set) {
  const s = element("select", { onchange: () => set(s.value) });
  for (const [v, text] of options) s.append(new Option(text, v, false, v === value));
  return element("label", {}, label, s);
}

function slider(label, { min, max, step, value, help }, set) {
  const out = element("output", {}, String(value));
  const input = element("input", {
    type: "range", min, max, step, value,
    oninput: () => {
      out.value = input.value;
      set(Number(input.value));
    },
  });
  return element("label", { class: "slider", title: help }, element("span", {}, label), input, out);
}

// Two thumbs on one line: from when until when.
function range(label, from, to, set) {
  const a = element("input", { type: "range", min: 0, max: 1, step: 0.05, value: from, "aria-label": `${label}: begins` });
  const b = element("input", { type: "range", min: 0, max: 1, step: 0.05, value: to, "aria-label": `${label}: ends` });
  const line = element("span", { class: "dual" }, element("i"), a, b);
  const out = element("output");
  const show = () => {
    out.value = `${Math.round(100 * a.value)} to ${Math.round(100 * b.value)} %`;
    line.style.setProperty("--from", `${100 * a.value}%`);
    line.style.setProperty("--to", `${100 * b.value}%`);
  };
  const change = (moved) => {
    if (Number(a.value) >= Number(b.value))
      if (moved === a) a.value = Math.max(0, b.value - 0.05);
      else b.value = Math.min(1, Number(a.value) + 0.05);
    if (Number(a.value) >= Number(b.value)) b.value = Number(a.value) + 0.05;
    show();
    set(Number(a.value), Number(b.value));
  };
  a.addEventListener("input", () => change(a));
  b.addEventListener("input", () => change(b));
  show();
  return element("div", { class: "slider", role: "group", "aria-label": label }, element("span", {}, label, " ", out), line);
}

function segment(label, options, value, set) {
  const group = element("span", { class: "segment", role: "radiogroup", "aria-label": label });
  for (const [v, text] of options)
    group.append(element("button", { type: "button", role: "radio", "aria-checked": String(v === value), onclick: () => set(v) }, text));
  return group;
}

function check(label, value, set, help) {
  const input = element("input", { type: "checkbox", onchange: () => set(input.checked) });
  input.checked = value;
  return element("label", { class: "check", title: help }, input, label);
}

/* --- cards ---------------------------------------------------------------------------------- */

function settingsOf(t, kinds) {
  return kinds.find((k) => k.name === t.preprocessor)?.settings || [];
}

function preprocessorFields(t, world) {
  const fields = [
    select("Made by", world.preprocessors.filter((k) => k.name !== "none").map((k) => [k.name, k.name]), t.preprocessor, (v) => {
      t.preprocessor = v;
      t.settings = {};
      world.changed("photo", true);
    }),
  ];
  for (const s of settingsOf(t, world.preprocessors)) {
    const value = t.settings[s.name] ?? s.default;
    const set = (v) => {
      t.settings[s.name] = v;
      world.changed("photo");
    };
    const name = s.name.replaceAll("_", " ");
    fields.push(
      s.type === "switch"
        ? check(name, !!value, (v) => set(v ? 1 : 0), s.help)
        : slider(name, { min: s.min, max: Math.min(s.max, s.name === "low" || s.name === "high" ? 500 : s.max), step: s.type === "whole" ? 1 : (s.max - s.min) / 200 < 0.1 ? 0.01 : 1, value, help: s.help }, set),
    );
  }
  return fields;
}

function controlCard(t, world) {
  const again = (what) => (v) => {
    t[what] = v;
    world.changed("card", true);
  };
  const head = element(
    "div", { class: "card-head" },
    segment("Where the control comes from", [["drawing", "Drawing"], ["photo", "Photo"]], t.source, again("source")),
    check("Paint a mask", t.masking, again("masking")),
    element("span", { class: "grow" }),
    check("Enabled", t.on, (v) => {
      t.on = v;
      world.changed("card");
    }),
    element("button", { type: "button", "aria-label": "Remove this control", onclick: () => world.remove(t) }, "Remove"),
  );
  const nets = world.nets.map((n) => [n.title, n.name]);
  const fields = element(
    "div", { class: "fields" },
    nets.length
      ? select("ControlNet", nets, t.model, (v) => { t.model = v; world.changed("card"); })
      : element("div", {}, "ControlNet", element("span", {}, "none here yet")),
    ...(t.source === "photo" ? preprocessorFields(t, world) : []),
    slider("Strength", { min: 0, max: 2, step: 0.05, value: t.strength }, (v) => { t.strength = v; world.changed("card"); }),
    range("Steps", t.start, t.end, (a, b) => { t.start = a; t.end = b; world.changed("card"); }),
    select("Control mode", [["balanced", "balanced"], ["prompt", "prompt more"], ["controlnet", "ControlNet more"]], t.mode, (v) => { t.mode = v; world.changed("card"); }),
  );
  return [head, fields];
}

function pictureCard(t, world) {
  const head = element(
    "div", { class: "card-head" },
    element("span", {}, t.photo ? "Paint what is to be drawn anew; nothing painted: all of it" : "A picture to draw over"),
    element("span", { class: "grow" }),
    element("button", {
      type: "button", disabled: !t.photo, onclick: () => world.remove(t),
    }, "Remove the picture"),
  );
  const fields = element("div", { class: "fields" }, slider("Soft edge", { min: 0, max: 32, step: 1, value: t.blur }, (v) => { t.blur = v; world.changed("card"); }));
  return t.photo ? [head, fields] : [head];
}

// Fields of a target. world: {nets, preprocessors, changed(what, rebuild), remove(target)}.
export function card(t, world) {
  return t.kind === "control" ? controlCard(t, world) : pictureCard(t, world);
}
