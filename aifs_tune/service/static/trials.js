// All trials of a study in a table that the service sorts, filters and pages. The address of the page keeps the choice.

import { element, replace, scrollable, table } from "./elements.js";
import { duration, moment, number, parameterValue, plural } from "./formats.js";
import { download, get, pagePath, poll, showCaller } from "./service.js";
import { trialLink } from "./trial_link.js";
import { yamlButton } from "./yaml_dialog.js";

const name = decodeURIComponent(location.pathname.split("/")[2]);
const route = `/v1/studies/${encodeURIComponent(name)}`;
const PAGE = 50;
const MOST_ROWS = 1000;
const REFRESH_MS = 5000;
const chosen = new URLSearchParams(location.search);
const byId = (id) => document.getElementById(id);

let study = null;
let shownTag = null;

const timeCell = (text) => element("span", { class: "moment" }, moment(text ?? null));

/** All columns of a study; `sort` is the name by which the service sorts. */
function allColumns() {
  const goals = [study.objective, ...study.trade_off].map((goal) => goal.metric);
  const metric = (title) => ({
    title,
    sort: title === goals[0] && goals.length === 1 ? "value" : `metrics.${title}`,
    number: true,
    isUsual: goals.includes(title),
    cell: (trial) => number(trial.values?.[title] ?? (title === goals[0] ? trial.value : trial.metrics[title])),
  });
  const parameter = ([title, { unit, type }]) => ({
    title: unit ? `${title} (${unit})` : title,
    sort: `params.${title}`,
    number: type !== "choice",
    isUsual: type !== "fixed",
    cell: (trial) => parameterValue(trial.params[title]),
  });
  const remark = (trial) => trial.problem ?? trial.reason ?? "";
  return [
    { title: "State", sort: "state", isUsual: true, cell: (trial) => (trial.feasible === false ? "infeasible" : trial.state) },
    ...study.metrics.map(metric),
    ...Object.entries(study.space).map(parameter),
    { title: "Epochs", sort: "epochs", number: true, cell: (trial) => trial.epochs },
    { title: "Duration", sort: "seconds", number: true, cell: (trial) => (trial.seconds === null ? "–" : duration(trial.seconds)) },
    { title: "Worker", sort: "worker", cell: (trial) => trial.worker ?? "–" },
    { title: "Label", sort: "label", cell: (trial) => trial.lease?.label ?? "–" },
    { title: "Owner", sort: "owner", cell: (trial) => trial.lease?.owner ?? "–" },
    { title: "Due", sort: "due_at", cell: (trial) => timeCell(trial.lease?.due_at) },
    { title: "Started", sort: "started_at", cell: (trial) => timeCell(trial.started_at) },
    { title: "Finished", sort: "finished_at", cell: (trial) => timeCell(trial.finished_at) },
    { title: "Reason", sort: "reason", isUsual: true, cell: remark },
  ];
}

function shownColumns(all) {
  const wanted = chosen.has("columns") ? chosen.get("columns").split("\n") : null;
  return all.filter((column) => (wanted === null ? column.isUsual : wanted.includes(column.sort)));
}

function set(changes) {
  for (const [key, value] of Object.entries(changes)) {
    if (value === null || value === "") chosen.delete(key);
    else chosen.set(key, value);
  }
  history.replaceState(null, "", `${location.pathname}?${chosen}`);
  return refreshNow();
}

/** A heading that sorts by its column, the second time in the other direction. */
function heading({ title, sort }) {
  const current = chosen.get("sort") ?? "trial";
  const direction = current === sort ? " ↑" : current === `-${sort}` ? " ↓" : "";
  const button = element(
    "button",
    {
      type: "button",
      class: "sort",
      "data-key": `sort ${sort}`,
      onclick: () => set({ sort: current === `-${sort}` ? sort : current === sort ? `-${sort}` : firstOrder(sort), offset: null }),
    },
    title,
    element("span", { "aria-hidden": "true" }, direction),
  );
  const sorted = direction && { "aria-sort": direction === " ↑" ? "ascending" : "descending" };
  return { content: button, attributes: sorted || {} };
}

/** The best values come first. */
function firstOrder(sort) {
  const goal = [study.objective, ...study.trade_off].find(({ metric }) => sort === "value" || sort === `metrics.${metric}`);
  return goal?.mode === "max" ? `-${sort}` : sort;
}

function drawColumns(all) {
  const shown = new Set(shownColumns(all).map((column) => column.sort));
  const boxes = all.map(({ title, sort }) => {
    const box = element("input", { type: "checkbox", value: sort, "data-key": `column ${sort}` });
    box.checked = shown.has(sort);
    return element("label", {}, box, ` ${title}`);
  });
  replace(document.querySelector("#columns .content"), boxes);
}

function draw({ trials, n_trials: nTrials }) {
  const all = allColumns();
  const columns = shownColumns(all);
  const offset = Number(chosen.get("offset") ?? 0);
  const heads = [{ title: "Trial", sort: "trial", number: true }, ...columns].map((column) => ({ ...column, ...heading(column) }));
  const rows = trials.map((trial) => [
    trialLink(name, trial.trial),
    ...columns.map((column) => column.cell(trial)),
    yamlButton(name, study.objective.metric, trial),
  ]);
  const isFiltered = ["state", "search", "where"].some((key) => chosen.has(key));
  const text = nTrials
    ? `${plural(nTrials, "trial")}${isFiltered ? " that match" : ""}, ${offset + 1} to ${offset + trials.length} shown`
    : isFiltered
      ? "No trial matches. Empty the fields above to see all."
      : `There are no trials yet. Get one with aifs-tune ask ${name}, or on the page Measure.`;
  if (byId("status").textContent !== text) byId("status").textContent = text;
  const drawn = table("Trials", [...heads, { title: "Sweep file" }], rows);
  replace(byId("table"), nTrials ? scrollable("Trials, as a table", drawn) : []);
  const step = (title, to, isPossible) =>
    element("button", { type: "button", disabled: !isPossible, "data-key": title, onclick: () => set({ offset: to || null }) }, title);
  replace(byId("pages"), [
    step("Previous", Math.max(0, offset - PAGE), offset > 0),
    step("Next", offset + PAGE, offset + trials.length < nTrials),
    element("button", { type: "button", "data-key": "csv", onclick: saveTable }, `Download ${rowsInFile(nTrials)} as CSV`),
  ]);
  byId("pages").hidden = nTrials === 0;
}

function rowsInFile(nTrials) {
  return nTrials > MOST_ROWS ? `the first ${MOST_ROWS}` : "all";
}

async function saveTable() {
  const query = selection();
  for (const [key, value] of Object.entries({ format: "csv", limit: MOST_ROWS, offset: 0 })) query.set(key, value);
  try {
    await download(`${route}/trials?${query}`, `${name}.csv`);
  } catch (error) {
    showError(error.message);
  }
}

function selection() {
  const query = new URLSearchParams({ limit: PAGE, sort: chosen.get("sort") ?? "trial", offset: chosen.get("offset") ?? 0 });
  for (const key of ["state", "search"]) if (chosen.get(key)) query.set(key, chosen.get(key));
  for (const condition of (chosen.get("where") ?? "").split(",")) if (condition.trim()) query.append("where", condition.trim());
  return query;
}

async function refresh() {
  if (study === null) {
    study = (await get(route)).data;
    drawColumns(allColumns());
  }
  const { data } = await get(`${route}/trials?${selection()}`);
  const tag = JSON.stringify([data, [...chosen]]);
  if (tag === shownTag) return;
  shownTag = tag;
  draw(data);
}

function showError(message) {
  byId("error").textContent = message ?? "";
  byId("error").hidden = message === null;
}

async function refreshNow() {
  try {
    await refresh();
    showError(null);
  } catch (error) {
    showError(error.message);
  }
}

/** The arrow keys go from trial to trial. */
function onKey(event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const links = [...byId("table").querySelectorAll("tbody th a")];
  const at = links.indexOf(document.activeElement);
  if (step === undefined || at < 0) return;
  event.preventDefault();
  links[Math.min(Math.max(at + step, 0), links.length - 1)].focus();
}

for (const key of ["state", "search", "where"]) byId(key).value = chosen.get(key) ?? "";
byId("filters").addEventListener("submit", (event) => {
  event.preventDefault();
  set({ ...Object.fromEntries(["state", "search", "where"].map((key) => [key, byId(key).value.trim()])), offset: null });
});
byId("state").addEventListener("change", () => byId("filters").requestSubmit());
byId("columns").addEventListener("change", () => {
  const boxes = [...byId("columns").querySelectorAll("input:checked")];
  set({ columns: boxes.map((box) => box.value).join("\n") || "trial" });
});
byId("table").addEventListener("keydown", onKey);
byId("name").textContent = `Trials of ${name}`;
document.title = `Trials of ${name} · aifs-tune`;
byId("study").href = pagePath(`/studies/${encodeURIComponent(name)}`);
await showCaller();
await poll(refresh, REFRESH_MS, showError);
