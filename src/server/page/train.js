// SPDX-License-Identifier: Apache-2.0
// train.js - a ControlNet from a folder of pairs: what the folder holds and the run takes, the run
// with its curves and drawings, its end among the ControlNets.

import { get, Job } from "./api.js";
import { asUrl, element } from "./controls.js";

const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 600, HEIGHT = 180;

let job = null;

// Steps between checkpoints: about 500, and one at the end, where "Go on" with more steps begins.
function between(steps) {
  const least = Math.ceil(steps / 500);
  for (let n = least; n <= 4 * least; n++) if (steps % n === 0) return steps / n;
  return steps > 2000 ? 500 : steps;
}

function request(more) {
  const steps = Number($("train-steps").value);
  return {
    type: "train", name: $("train-name").value.trim(), data: $("train-data").value,
    max_train_steps: steps, checkpointing_steps: between(steps), resolution: Number($("train-px").value),
    train_batch_size: Number($("train-batch").value), learning_rate: Number($("train-rate").value),
    validation_steps: Number($("train-validate").value), validation_count: 4, ...more,
  };
}

const mib = (bytes) => `${Math.round(bytes / 2 ** 20).toLocaleString("en")} MiB`;
const span = (s) => (s < 90 ? `${Math.round(s)} s` : s < 5400 ? `${Math.round(s / 60)} min` : `${(s / 3600).toFixed(1)} h`);

/* --- curves ------------------------------------------------------------------------------------- */

const lines = {
  loss_mean: { name: "loss, mean of 100 steps", colour: "--accent" },
  agreement_with: { name: "agreement with control", colour: "--good" },
  agreement_without: { name: "without control", colour: "--soft", dash: "5 4" },
  loss_with: { name: "held-out loss with control", colour: "--good" },
  loss_without: { name: "without control", colour: "--soft", dash: "5 4" },
};

// Of a line, in parts of what the chart shows: from the first step to the last, from 0 to the top.
function line(points, key, { first, last, top }) {
  const own = points.filter((p) => p[key] != null), path = document.createElementNS(SVG, "polyline");
  const x = (p) => ((p.step - first) / Math.max(last - first, 1)) * WIDTH;
  path.setAttribute("points", own.map((p) => `${x(p)},${HEIGHT - (p[key] / (key.startsWith("loss") ? top : 1)) * (HEIGHT - 8)}`).join(" "));
  path.style.stroke = `var(${lines[key].colour})`;
  if (lines[key].dash) path.style.strokeDasharray = lines[key].dash;
  return path;
}

function drawCurves(points, steps) {
  const has = (key) => points.some((p) => p[key] != null);
  // where drawings' agreement can't be measured, the loss tells
  const there = Object.keys(lines).filter((key) => has(key) && !(key.startsWith("loss_w") && has("agreement_with")));
  const values = there.filter((key) => key.startsWith("loss")).flatMap((key) => points.map((p) => p[key] ?? 0));
  const chart = { first: points[0].step - 1, last: Math.max(steps, points.at(-1).step), top: Math.max(...values, 1e-6) };
  $("curves").toggleAttribute("hidden", !there.length);
  $("curves").replaceChildren(...there.map((key) => line(points, key, chart)));
  const last = (key) => points.findLast((p) => p[key] != null)[key].toFixed(3);
  const legend = there.map((key) => {
    const e = document.createElement("span");
    e.style.color = `var(${lines[key].colour})`;
    e.textContent = `${lines[key].name}: ${last(key)}`;
    return e;
  });
  $("legend").replaceChildren(...legend);
  $("curves").setAttribute("aria-label", legend.map((e) => e.textContent).join("; "));
}

/* --- jobs ----------------------------------------------------------------------------------------- */

function busy(on) {
  $("train-stop").disabled = !on;
  for (const id of ["train-check", "train-start", "train-resume"]) $(id).disabled = on;
}

function tell(text) {
  $("train-status").textContent = text;
}

function describe({ data, plan }) {
  const found = data.findings.map((f) => `${f.count} ${f.name.replaceAll("_", " ")}: ${f.advice}`);
  return [
    `${data.pairs} pairs, ${data.prompts} different prompts, ${data.problems} that can't be read.`, ...found,
    `The run takes ${mib(plan.peak_bytes)} and about ${span(plan.run_seconds)}: ${plan.steps} steps of ${plan.step_seconds.toFixed(2)} s.`,
  ].join("\n");
}

// Some of the pairs, with their words.
function showSamples({ images = [], samples = [] }) {
  $("samples").hidden = !images.length;
  $("samples").replaceChildren(...images.map((image, i) => {
    const words = samples[i]?.prompt ?? "";
    return element("figure", {}, element("img", { src: asUrl(image), alt: `Condition and picture of: ${words}` }), element("figcaption", {}, words));
  }));
}

async function run(body, ended) {
  const points = [];
  busy(true);
  tell("waiting for its turn");
  job = new Job(body, (name, data) => {
    if (name === "preview") {
      $("sheet").hidden = false;
      $("sheet").src = asUrl(data.image);
    } else if (name === "point") {
      points.push(data);
      if (data.loss_with != null) $("train-advice").textContent = data.advice ?? ""; // none once control is learned
      drawCurves(points, body.max_train_steps);
      if (data.eta_seconds != null) $("train-eta").textContent = `${span(data.eta_seconds)} left`;
    } else if (data.state === "running" && data.steps) {
      tell(`${data.stage} ${data.step}/${data.steps}`);
      $("train-bar").style.width = `${(100 * data.step) / data.steps}%`;
      $("train-progress").setAttribute("aria-valuenow", Math.round((100 * data.step) / data.steps));
    }
  });
  try {
    const result = await job.result;
    if (result) ended(result, points);
    else tell("stopped; “Go on” begins at its last step");
  } catch (e) {
    tell(e.message);
  }
  $("train-eta").textContent = "";
  $("train-bar").style.width = 0;
  busy(false);
}

function finished(result, points) {
  if (!points.length) return tell(`${result.steps} steps were made before: it goes on where Steps says more.`);
  const learned = result.learned_at_step >= 0 ? `, learned at step ${result.learned_at_step}` : "";
  tell(`${result.steps} steps in ${span(result.seconds)}, loss ${result.final_loss.toFixed(4)}${learned}. It is among the ControlNets now.`);
}

// info: of /v1/info; base(): the base model that is chosen; changed(): there are new ControlNets.
export async function openTraining(info, base, changed) {
  $("train-view").hidden = !info.training;
  if (!info.training) return;
  const { datasets } = await get("/v1/datasets");
  for (const name of datasets) $("train-data").append(new Option(name));
  $("train-px").value = base().size_px;
  $("train-rate").value = base().size_px <= 256 ? 1e-3 : 1e-5;
  const begin = (more) => run(request({ model: base().title, ...more }), (result, points) => {
    finished(result, points);
    changed();
  });
  $("train-form").addEventListener("submit", (e) => {
    e.preventDefault();
    begin({});
  });
  $("train-check").addEventListener("click", () => run(request({ model: base().title, dry_run: true }), (r) => {
    tell(describe(r));
    showSamples(r);
  }));
  $("train-resume").addEventListener("click", () => begin({ resume: true }));
  $("train-stop").addEventListener("click", () => {
    tell("stopping: the last step is saved");
    job.stop();
  });
  $("train-view").addEventListener("click", () => {
    const on = $("train").hidden;
    $("train").hidden = !on;
    $("train-view").setAttribute("aria-expanded", String(on));
    if (on) $("train").scrollIntoView({ block: "start" });
  });
}
