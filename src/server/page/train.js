// SPDX-License-Identifier: Apache-2.0
// train.js - a ControlNet from a folder of pairs: what the folder holds and the run takes, the run
// with its curves and drawings, its end among the ControlNets.

import { get, Job } from "./api.js";
import { asUrl } from "./controls.js";

const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 600, HEIGHT = 180;

let job = null;

function request(more) {
  return {
    type: "train", name: $("train-name").value.trim(), data: $("train-data").value,
    max_train_steps: Number($("train-steps").value), resolution: Number($("train-px").value),
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
};

function line(points, key, most) {
  const own = points.filter((p) => p[key] != null);
  const top = key === "loss_mean" ? Math.max(...own.map((p) => p[key]), 1e-6) : 1;
  const path = document.createElementNS(SVG, "polyline");
  path.setAttribute("points", own.map((p) => `${(p.step / most) * WIDTH},${HEIGHT - (p[key] / top) * (HEIGHT - 8)}`).join(" "));
  path.style.stroke = `var(${lines[key].colour})`;
  if (lines[key].dash) path.style.strokeDasharray = lines[key].dash;
  return path;
}

function drawCurves(points, steps) {
  const most = Math.max(steps, ...points.map((p) => p.step), 1);
  const there = Object.keys(lines).filter((key) => points.some((p) => p[key] != null));
  $("curves").replaceChildren(...there.map((key) => line(points, key, most)));
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
      if (data.advice) $("train-advice").textContent = data.advice;
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
    if (result) ended(result);
    else tell("stopped; “Go on” begins at its last step");
  } catch (e) {
    tell(e.message);
  }
  $("train-eta").textContent = "";
  $("train-bar").style.width = 0;
  busy(false);
}

function finished(result) {
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
  const begin = (more) => run(request({ model: base().title, ...more }), (result) => {
    finished(result);
    changed();
  });
  $("train-form").addEventListener("submit", (e) => {
    e.preventDefault();
    begin({});
  });
  $("train-check").addEventListener("click", () => run(request({ model: base().title, dry_run: true }), (r) => tell(describe(r))));
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
