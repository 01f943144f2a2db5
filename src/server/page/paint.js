// SPDX-License-Identifier: Apache-2.0
// paint.js - layers that are drawn on, and the surface that shows one of them with what lies
// beneath. A layer is finer than the picture, so that strokes are smooth after they are shrunk.

const UNDO = 40;
const LEAST = 512; // of a layer's longer side

export class Layer {
  constructor(width, height) {
    this.canvas = document.createElement("canvas");
    this.undo = [];
    this.redo = [];
    this.resize(width, height);
  }

  get context() {
    return this.canvas.getContext("2d", { willReadFrequently: true });
  }

  resize(width, height) {
    const scale = Math.max(1, Math.ceil(LEAST / Math.max(width, height)));
    const w = width * scale, h = height * scale;
    if (this.canvas.width === w && this.canvas.height === h) return;
    const old = this.canvas;
    this.canvas = document.createElement("canvas");
    this.canvas.width = w;
    this.canvas.height = h;
    if (old.width && this.used) this.context.drawImage(old, 0, 0, w, h);
    this.undo = [];
    this.redo = [];
  }

  get isEmpty() {
    return !this.used;
  }

  keep() {
    this.undo.push(this.snapshot());
    if (this.undo.length > UNDO) this.undo.shift();
    this.redo = [];
  }

  snapshot() {
    const { width, height } = this.canvas;
    return { used: this.used, data: this.context.getImageData(0, 0, width, height) };
  }

  back(from, to) {
    const last = this[from].pop();
    if (!last) return false;
    this[to].push(this.snapshot());
    this.context.putImageData(last.data, 0, 0);
    this.used = last.used;
    return true;
  }

  clear() {
    this.keep();
    this.context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.used = false;
  }

  // What is drawn becomes ground, and the ground drawn.
  invert() {
    const { width, height } = this.canvas;
    this.keep();
    const d = this.context.getImageData(0, 0, width, height);
    for (let i = 0; i < d.data.length; i += 4) {
      d.data[i] = d.data[i + 1] = d.data[i + 2] = 255;
      d.data[i + 3] = 255 - d.data[i + 3];
    }
    this.context.putImageData(d, 0, 0);
    this.used = true;
  }

  // From a picture: what is light in it is drawn.
  async load(image) {
    const { width, height } = this.canvas;
    this.keep();
    this.context.clearRect(0, 0, width, height);
    this.context.drawImage(image, 0, 0, width, height);
    const d = this.context.getImageData(0, 0, width, height);
    for (let i = 0; i < d.data.length; i += 4) {
      d.data[i + 3] = Math.max(d.data[i], d.data[i + 1], d.data[i + 2]);
      d.data[i] = d.data[i + 1] = d.data[i + 2] = 255;
    }
    this.context.putImageData(d, 0, 0);
    this.used = true;
  }

  // White on black, as the server takes it.
  png() {
    const out = document.createElement("canvas");
    out.width = this.canvas.width;
    out.height = this.canvas.height;
    const c = out.getContext("2d");
    c.fillStyle = "#000";
    c.fillRect(0, 0, out.width, out.height);
    c.drawImage(this.canvas, 0, 0);
    return out.toDataURL("image/png");
  }

  stroke(points, size, erase) {
    const c = this.context;
    c.save();
    c.globalCompositeOperation = erase ? "destination-out" : "source-over";
    c.strokeStyle = c.fillStyle = "#fff";
    c.lineCap = c.lineJoin = "round";
    points.forEach((p, i) => {
      const q = points[Math.max(0, i - 1)];
      c.lineWidth = size * (p.pressure + q.pressure);
      c.beginPath();
      c.moveTo(q.x, q.y);
      c.lineTo(p.x + 0.01, p.y);
      c.stroke();
    });
    c.restore();
    if (!erase) this.used = true;
  }
}

// The canvas that is seen. shows(): {layer, beneath, dim, tint} of what is chosen now.
export class Surface {
  constructor(canvas, shows, changed) {
    this.canvas = canvas;
    this.shows = shows;
    this.changed = changed;
    this.tool = "brush";
    this.size = 6;
    this.pen = null; // the keyboard's
    canvas.addEventListener("pointerdown", (e) => this.down(e));
    canvas.addEventListener("pointermove", (e) => this.move(e));
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => this.up());
    canvas.addEventListener("keydown", (e) => this.key(e));
    canvas.addEventListener("blur", () => {
      this.pen = null;
      this.paint();
    });
  }

  paint() {
    const { layer, beneath, dim, tint } = this.shows();
    const { width, height } = layer.canvas, c = this.canvas.getContext("2d");
    if (this.canvas.width !== width || this.canvas.height !== height) {
      this.canvas.width = width;
      this.canvas.height = height;
    }
    c.globalAlpha = 1;
    c.fillStyle = "#000";
    c.fillRect(0, 0, width, height);
    if (beneath) {
      c.globalAlpha = dim;
      cover(c, beneath, width, height);
    }
    c.globalAlpha = tint ? 0.7 : 1;
    c.drawImage(tint ? tinted(layer.canvas, tint) : layer.canvas, 0, 0);
    c.globalAlpha = 1;
    if (this.line) this.preview(c);
    if (this.pen) this.cross(c);
  }

  preview(c) {
    c.strokeStyle = "#fff";
    c.lineCap = "round";
    c.lineWidth = 2 * this.width();
    c.beginPath();
    c.moveTo(this.line[0].x, this.line[0].y);
    c.lineTo(this.line[1].x, this.line[1].y);
    c.stroke();
  }

  cross(c) {
    const { x, y } = this.pen, r = 12;
    for (const [style, width] of [["#000", 4], ["#fff", 2]]) {
      c.strokeStyle = style;
      c.lineWidth = width;
      c.beginPath();
      c.moveTo(x - r, y);
      c.lineTo(x + r, y);
      c.moveTo(x, y - r);
      c.lineTo(x, y + r);
      c.stroke();
    }
  }

  // Half a line's width in the layer's pixels, for a size that is one of 512.
  width() {
    return (this.size * Math.max(this.canvas.width, this.canvas.height)) / 1024;
  }

  point(e) {
    const box = this.canvas.getBoundingClientRect();
    const pressure = e.pointerType === "pen" ? 0.25 + 1.5 * e.pressure : 1;
    return {
      x: ((e.clientX - box.left) / box.width) * this.canvas.width,
      y: ((e.clientY - box.top) / box.height) * this.canvas.height,
      pressure,
    };
  }

  down(e) {
    if (e.button > 0) return;
    const p = this.point(e);
    this.canvas.setPointerCapture(e.pointerId);
    this.shows().layer.keep();
    this.last = p;
    this.straight = this.tool === "line" || e.shiftKey;
    if (this.straight) this.line = [p, p];
    else this.shows().layer.stroke([p], this.width(), this.tool === "eraser");
    this.paint();
  }

  move(e) {
    if (!this.last) return;
    if (this.straight) this.line[1] = this.point(e);
    for (const one of this.straight ? [] : e.getCoalescedEvents?.() || [e]) {
      const p = this.point(one);
      this.shows().layer.stroke([this.last, p], this.width(), this.tool === "eraser");
      this.last = p;
    }
    this.paint();
    if (!this.straight) this.changed(false);
  }

  up() {
    if (!this.last) return;
    if (this.line) this.shows().layer.stroke(this.line, this.width(), false);
    this.line = this.last = null;
    this.paint();
    this.changed(true);
  }

  key(e) {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[e.key];
    const { width, height } = this.canvas;
    if (!steps && e.key !== " ") return;
    e.preventDefault();
    this.pen ||= { x: width / 2, y: height / 2, pressure: 1, down: false };
    if (e.key === " ") {
      if (!this.pen.down) this.shows().layer.keep();
      this.pen.down = !this.pen.down;
      if (!this.pen.down) this.changed(true);
    } else {
      const from = { ...this.pen }, by = (e.shiftKey ? 0.05 : 0.0125) * width;
      this.pen.x = Math.min(width, Math.max(0, this.pen.x + by * steps[0]));
      this.pen.y = Math.min(height, Math.max(0, this.pen.y + by * steps[1]));
      if (this.pen.down)
        this.shows().layer.stroke([from, this.pen], this.width(), this.tool === "eraser");
    }
    this.paint();
  }
}

// The middle of a picture at a size of other proportions, as the server crops it.
export function cover(c, image, width, height) {
  const iw = image.naturalWidth || image.width, ih = image.naturalHeight || image.height;
  const k = Math.max(width / iw, height / ih), w = width / k, h = height / k;
  c.drawImage(image, (iw - w) / 2, (ih - h) / 2, w, h, 0, 0, width, height);
}

// In the colour with white stripes, which shows on any picture.
function tinted(layer, colour) {
  const out = document.createElement("canvas");
  out.width = layer.width;
  out.height = layer.height;
  const c = out.getContext("2d");
  c.drawImage(layer, 0, 0);
  c.globalCompositeOperation = "source-in";
  c.fillStyle = colour;
  c.fillRect(0, 0, out.width, out.height);
  c.globalCompositeOperation = "source-atop";
  c.strokeStyle = "#fff";
  c.lineWidth = out.width / 128;
  c.beginPath();
  for (let x = -out.height; x < out.width; x += 4 * c.lineWidth) {
    c.moveTo(x, 0);
    c.lineTo(x + out.height, out.height);
  }
  c.stroke();
  return out;
}

export function loadImage(url) {
  return new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => resolve(image);
    image.onerror = () => reject(new Error("that is no picture the browser can show"));
    image.src = url;
  });
}

// A picture as a data: URL of at most `most` pixels a side.
export function shrink(image, most) {
  const k = Math.min(1, most / Math.max(image.naturalWidth, image.naturalHeight));
  const out = document.createElement("canvas");
  out.width = Math.max(1, Math.round(image.naturalWidth * k));
  out.height = Math.max(1, Math.round(image.naturalHeight * k));
  out.getContext("2d").drawImage(image, 0, 0, out.width, out.height);
  return out.toDataURL("image/png");
}
