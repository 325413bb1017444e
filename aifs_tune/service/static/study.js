// One study, as long as it is looked at.

import { bestTable } from "./best.js";
import { curvesFigure } from "./curves.js";
import { element, replace } from "./elements.js";
import { historyFigure } from "./history.js";
import { importanceTables } from "./importance.js";
import { parallelFigure } from "./parallel.js";
import { progressParts, progressWords } from "./progress.js";
import { ask, keepLooking, showCaller, Trouble } from "./service.js";
import { workersFigure } from "./workers.js";

const name = decodeURIComponent(location.pathname.split("/").at(-1));
const route = `/v1/studies/${encodeURIComponent(name)}`;
const EVERY_MS = 2000;
const TELL_EVERY_MS = 10_000;
const WEIGH_EVERY_MS = 20_000;

const answers = {};
const tags = {};
let toldAt = 0;
let weighedAt = 0;

function content(section) {
  return document.querySelector(`#${section} .content`);
}

function widthOf(section) {
  return Math.max(260, Math.floor(content(section).clientWidth));
}

/** Ask for a part of the study; whether it is another than before. */
async function fetched(part, path) {
  const { answer, tag } = await ask(path);
  if (tags[part] === tag) return false;
  answers[part] = answer;
  tags[part] = tag;
  return true;
}

function draw(section, parts) {
  document.getElementById(section).hidden = false;
  replace(content(section), parts);
}

const drawn = {
  progress() {
    const { objective, best } = answers.study;
    const words = progressWords(answers.progress, best, objective.metric);
    draw("progress", progressParts(answers.progress, words, objective.metric));
    document.getElementById("details").href = answers.progress.dashboard;
    if (Date.now() - toldAt < TELL_EVERY_MS && answers.progress.n_trials.running) return;
    toldAt = Date.now();
    document.getElementById("status").textContent = words;
  },
  best() {
    draw(
      "best",
      answers.best === null
        ? element("p", { class: "note" }, "No trial is complete yet.")
        : bestTable(answers.best, answers.study.space),
    );
  },
  history() {
    const along = document.querySelector("input[name=along]:checked").value;
    const hasSome = answers.history.trials.length > 0;
    draw(
      "history",
      hasSome
        ? historyFigure(answers.history, widthOf("history"), along)
        : element("p", { class: "note" }, "No trial has a value yet."),
    );
    const isComplete = answers.history.trials.some((trial) => trial.state === "complete");
    draw(
      "parallel",
      isComplete
        ? parallelFigure(answers.history, answers.study.space, widthOf("parallel"))
        : element("p", { class: "note" }, "No trial is complete yet."),
    );
  },
  curves() {
    const hasSome = answers.curves.curves.length > 0;
    draw(
      "curves",
      hasSome
        ? curvesFigure(answers.curves, widthOf("curves"))
        : element("p", { class: "note" }, "No trial reported epochs."),
    );
  },
  importance() {
    draw("importance", importanceTables(answers.importance));
  },
  workers() {
    draw(
      "workers",
      answers.workers.workers.length
        ? workersFigure(answers.workers, widthOf("workers"))
        : element("p", { class: "note" }, "No trial has started yet."),
    );
  },
};

async function fetchBest() {
  if (answers.progress.n_trials.complete > 0) return fetched("best", `${route}/best?top=10`);
  const isNew = answers.best === undefined;
  answers.best = null;
  return isNew;
}

async function fetchImportance() {
  try {
    const changed = await fetched("importance", `${route}/importance`);
    weighedAt = Date.now();
    return changed;
  } catch (error) {
    if (!(error instanceof Trouble) || error.status !== 503) throw error;
    return false; // the service computes another study's
  }
}

async function look() {
  const isOther = await fetched("study", route);
  if (isOther) {
    document.getElementById("description").textContent = answers.study.description;
  }
  const changes = {
    progress: await fetched("progress", `${route}/progress`),
    best: await fetchBest(),
    history: await fetched("history", `${route}/history`),
    curves: await fetched("curves", `${route}/curves`),
    workers: await fetched("workers", `${route}/workers`),
  };
  if (Date.now() - weighedAt > WEIGH_EVERY_MS) changes.importance = await fetchImportance();
  for (const [part, changed] of Object.entries(changes)) if (changed || (isOther && part === "progress")) drawn[part]();
}

function tell(trouble) {
  const place = document.getElementById("trouble");
  if (place.textContent !== (trouble ?? "")) place.textContent = trouble ?? "";
  place.hidden = trouble === null;
  document.getElementById("sections").hidden = answers.study === undefined;
}

function drawAgain() {
  for (const part of ["history", "curves", "workers"]) if (answers[part] !== undefined) drawn[part]();
}

document.getElementById("name").textContent = name;
document.title = `${name} · aifs-tune`;
document.querySelector("fieldset.choice").addEventListener("change", () => answers.history && drawn.history());
let width = window.innerWidth;
window.addEventListener("resize", () => {
  if (window.innerWidth !== width) drawAgain();
  width = window.innerWidth;
});
await showCaller();
await keepLooking(look, EVERY_MS, tell);
