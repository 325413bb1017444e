// Page of one study, which is updated while it is visible.

import { bestTable } from "./best.js";
import { conditionsOf, fillFields, isChosen, rangeFields } from "./brush.js";
import { contourFigure, contourNames } from "./contours.js";
import { curvesFigure } from "./curves.js";
import { element, replace } from "./elements.js";
import { historyFigure } from "./history.js";
import { importanceTables } from "./importance.js";
import { parallelFigure } from "./parallel.js";
import { plural } from "./formats.js";
import { progressParts, progressSummary } from "./progress.js";
import { jobText, publicationParts } from "./publications.js";
import { get, pagePath, poll, ServiceError, showCaller } from "./service.js";
import { frontFigures, grid, sliceFigures } from "./slices.js";
import { verdictParts } from "./verdict.js";
import { workersFigure } from "./workers.js";

const name = decodeURIComponent(location.pathname.split("/").at(-1));
const route = `/v1/studies/${encodeURIComponent(name)}`;
const REFRESH_MS = 2000;
const ANNOUNCE_MS = 10_000;
const IMPORTANCE_MS = 20_000;
const VERDICT_MS = 20_000;
const PUBLICATIONS_MS = 20_000;

const ranges = new Map();
const parts = {};
const tags = {};
let announcedAt = 0;
let importanceAt = 0;
let verdictAt = 0;
let publicationsAt = 0;
let caller = null;

function content(section) {
  return document.querySelector(`#${section} .content`);
}

function widthOf(section) {
  return Math.max(260, Math.floor(content(section).clientWidth));
}

/** Fetch a part of the study; return whether it has changed. */
async function fetchPart(part, path) {
  const { data, tag } = await get(path);
  if (tags[part] === tag) return false;
  parts[part] = data;
  tags[part] = tag;
  return true;
}

function show(section, children) {
  document.getElementById(section).hidden = false;
  replace(content(section), children);
}

const draw = {
  progress() {
    const { objective, best } = parts.study;
    const summary = progressSummary(parts.progress, best, objective.metric);
    show("progress", progressParts(parts.progress, summary, objective.metric, route));
    document.getElementById("details").href = parts.progress.dashboard;
    if (Date.now() - announcedAt < ANNOUNCE_MS && parts.progress.n_trials.running) return;
    announcedAt = Date.now();
    document.getElementById("status").textContent = summary;
  },
  best() {
    show(
      "best",
      parts.best === null
        ? element("p", { class: "note" }, "No trial is complete yet.")
        : bestTable(parts.best, parts.study.space),
    );
  },
  history() {
    const axes = {
      xAxis: document.querySelector("input[name=x-axis]:checked").value,
      isLog: document.getElementById("log-values").checked,
      areStoppedHidden: document.getElementById("hide-stopped").checked,
    };
    const hasSome = parts.history.trials.length > 0;
    show(
      "history",
      hasSome
        ? historyFigure(parts.history, widthOf("history"), axes)
        : element("p", { class: "note" }, "No trial has a value yet."),
    );
    const each = Math.min(420, widthOf("slices"));
    const slices = hasSome ? sliceFigures(parts.history, parts.study.space, each, axes) : [];
    show("slices", slices.length ? grid(slices) : element("p", { class: "note" }, "No trial has a value yet."));
    if (parts.best && parts.study.trade_off.length)
      show("front", grid(frontFigures(parts.history, parts.study.trade_off, parts.best.front, each)));
    this.contours();
    this.parallel();
  },
  contours() {
    const names = contourNames(parts.study.space);
    document.getElementById("contours").hidden = names.length < 2;
    if (names.length < 2) return;
    const chosen = ["contour-x", "contour-y"].map((id, i) => {
      const select = document.getElementById(id);
      if (select.options.length === 0) {
        select.append(...names.map((name) => element("option", {}, name)));
        select.selectedIndex = i;
      }
      return names[select.selectedIndex];
    });
    const width = Math.min(720, widthOf("contours"));
    const drawn = chosen[0] === chosen[1] ? null : contourFigure(parts.history, parts.study.space, chosen, width);
    const reason = chosen[0] === chosen[1] ? "Choose two different parameters." : "No complete trial has both parameters.";
    show("contours", drawn ?? element("p", { class: "note" }, reason));
  },
  parallel() {
    const { space, objective } = parts.study;
    const complete = parts.history.trials.filter((trial) => trial.state === "complete");
    document.getElementById("ranges").hidden = complete.length === 0;
    const fields = document.querySelector("#ranges .ranges");
    if (fields.childElementCount === 0) fields.append(...rangeFields(space, objective.metric, ranges, chooseRange));
    show(
      "parallel",
      complete.length
        ? parallelFigure(parts.history, space, widthOf("parallel"), { ranges, onChoose: chooseRange })
        : element("p", { class: "note" }, "No trial is complete yet."),
    );
    showChosen(complete);
  },
  curves() {
    const hasSome = parts.curves.curves.length > 0;
    show(
      "curves",
      hasSome
        ? curvesFigure(parts.curves, widthOf("curves"))
        : element("p", { class: "note" }, "No trial has reported epochs yet."),
    );
  },
  importance() {
    show("importance", importanceTables(parts.importance));
  },
  verdict() {
    show("verdict", verdictParts(parts.verdict));
  },
  workers() {
    show(
      "workers",
      parts.workers.workers.length
        ? workersFigure(parts.workers, widthOf("workers"))
        : element("p", { class: "note" }, "No trial has started yet."),
    );
  },
  publications() {
    show("publications", publicationParts(parts.publications, route, caller, publicationBegun));
    document.getElementById("publication-status").textContent = jobText(parts.publications.job);
  },
};

/** Choose the trials in a range of a column, or in any if it is null. */
function chooseRange(column, range) {
  if (range === null) ranges.delete(column);
  else ranges.set(column, range);
  fillFields(document.getElementById("ranges"), parts.study.space, ranges);
  draw.parallel();
}

/** Say how many trials the ranges choose, with their list. */
function showChosen(complete) {
  const place = document.getElementById("chosen");
  const conditions = conditionsOf(ranges);
  const text = conditions.length ? `${complete.filter((trial) => isChosen(trial, ranges)).length} of ${plural(complete.length, "trial")} drawn: ${conditions.join(", ")}` : "";
  if (place.firstChild?.textContent === text || (text === "" && !place.hasChildNodes())) return; // what is said again is read out again
  const list = new URL(pagePath(`/studies/${encodeURIComponent(name)}/trials`), location.origin);
  for (const [key, value] of Object.entries({ state: "complete", where: conditions.join(", ") })) list.searchParams.set(key, value);
  const clear = () => {
    ranges.clear();
    fillFields(document.getElementById("ranges"), parts.study.space, ranges);
    draw.parallel();
  };
  const shown = [
    element("span", {}, text),
    element("a", { href: list.pathname + list.search, "data-key": "list" }, "List them"),
    element("button", { type: "button", "data-key": "all", onclick: clear }, "Choose all"),
  ];
  replace(place, conditions.length ? shown : []);
}

async function fetchBest() {
  if (parts.progress.n_trials.complete > 0) return fetchPart("best", `${route}/best?top=10`);
  const isNew = parts.best === undefined;
  parts.best = null;
  return isNew;
}

async function fetchImportance() {
  try {
    const changed = await fetchPart("importance", `${route}/importance`);
    importanceAt = Date.now();
    return changed;
  } catch (error) {
    if (!(error instanceof ServiceError) || error.status !== 503) throw error;
    return false; // the service is computing the importance of another study
  }
}

async function fetchVerdict() {
  const changed = await fetchPart("verdict", `${route}/verdict`);
  verdictAt = Date.now();
  return changed;
}

async function fetchPublications() {
  try {
    const changed = await fetchPart("publications", `${route}/publications`);
    publicationsAt = parts.publications.job?.state === "running" ? 0 : Date.now();
    return changed;
  } catch (error) {
    if (!(error instanceof ServiceError) || error.status === 404) throw error;
    delete tags.publications;
    publicationsAt = Date.now();
    show("publications", element("p", { class: "problem" }, error.message)); // of the store of the files alone
    return false;
  }
}

async function publicationBegun() {
  if (await fetchPublications()) draw.publications();
}

async function refresh() {
  const hasChanged = await fetchPart("study", route);
  if (hasChanged) document.getElementById("description").textContent = parts.study.description;
  const changes = {
    progress: await fetchPart("progress", `${route}/progress`),
    best: await fetchBest(),
    history: await fetchPart("history", `${route}/history`),
    curves: await fetchPart("curves", `${route}/curves`),
    workers: await fetchPart("workers", `${route}/workers`),
  };
  if (Date.now() - verdictAt > VERDICT_MS) changes.verdict = await fetchVerdict();
  if (Date.now() - importanceAt > IMPORTANCE_MS) changes.importance = await fetchImportance();
  if (Date.now() - publicationsAt > PUBLICATIONS_MS) changes.publications = await fetchPublications();
  if (hasChanged) changes.progress = true;
  for (const [part, isNew] of Object.entries(changes)) if (isNew) draw[part]();
}

function showError(message) {
  const alert = document.getElementById("error");
  if (alert.textContent !== (message ?? "")) alert.textContent = message ?? "";
  alert.hidden = message === null;
  document.getElementById("sections").hidden = parts.study === undefined;
}

function redraw() {
  for (const part of ["history", "curves", "workers"]) if (parts[part] !== undefined) draw[part]();
}

document.getElementById("name").textContent = name;
document.title = `${name} · aifs-tune`;
for (const page of ["trials", "measure"])
  document.getElementById(page).href = pagePath(`/studies/${encodeURIComponent(name)}/${page}`);
for (const choice of document.querySelectorAll("fieldset.choice"))
  choice.addEventListener("change", () => parts.history && draw.history());
let width = window.innerWidth;
window.addEventListener("resize", () => {
  if (window.innerWidth !== width) redraw();
  width = window.innerWidth;
});
caller = await showCaller();
await poll(refresh, REFRESH_MS, showError);
