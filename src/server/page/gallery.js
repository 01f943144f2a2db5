// SPDX-License-Identifier: Apache-2.0
// gallery.js - the picture that is shown, two of them compared, and those drawn before.

import { asUrl, element } from "./controls.js";

const MOST = 60;
const $ = (id) => document.getElementById(id);

export class Gallery {
  constructor() {
    this.items = [];
    $("compare-at").addEventListener("input", () => this.divide());
  }

  divide() {
    $("picture").style.setProperty("--at", `${$("compare-at").value}%`);
  }

  // item: {image, parameters, request, seed, without}
  add(item) {
    this.items.unshift(item);
    if (this.items.length > MOST) this.items.pop();
    this.show(item);
  }

  show(item) {
    this.now = item;
    $("empty").hidden = true;
    $("shown").hidden = false;
    $("shown").src = asUrl(item.image);
    $("shown").alt = `Drawing of: ${item.request.prompt || "nothing in particular"}`;
    $("parameters").hidden = false;
    $("parameters").textContent = item.parameters;
    $("download").hidden = false;
    $("download").href = asUrl(item.image);
    $("download").download = `controlnet-${item.seed}.png`;
    $("edit").disabled = $("use").disabled = false;
    $("without").disabled = !item.request.controls?.length;
    this.compare(item.without);
    this.list();
  }

  // Beside the one that is shown; nothing: alone.
  compare(image) {
    for (const id of ["other", "divider", "compare"]) $(id).hidden = !image;
    if (image) $("other").src = asUrl(image);
    this.divide();
  }

  preview(image) {
    this.compare(null);
    $("empty").hidden = true;
    $("shown").hidden = false;
    $("shown").src = asUrl(image);
    $("shown").alt = "The drawing on its way";
  }

  list() {
    const held = $("gallery").contains(document.activeElement);
    $("gallery-title").hidden = !this.items.length;
    $("gallery").replaceChildren(
      ...this.items.map((item) =>
        element("li", {}, element("button", {
          type: "button", "aria-current": item === this.now ? "true" : null,
          "aria-label": `Show again: ${item.request.prompt}, seed ${item.seed}`,
          title: item.request.prompt,
          onclick: () => this.show(item),
        }, element("img", { src: asUrl(item.image), alt: "" }))),
      ),
    );
    if (held) $("gallery").querySelector("[aria-current]")?.focus();
  }
}
