// Page of one trial, beside the best one.

import { curvesFigure } from "./curves.js";
import { element, replace, scrollable, table } from "./elements.js";
import { filesSection } from "./files.js";
import { duration, moment, number, parameterValue, plural } from "./formats.js";
import { output } from "./progress.js";
import { get, pagePath, poll, ServiceError, showCaller } from "./service.js";
import { trialLink } from "./trial_link.js";
import { yamlButton } from "./yaml_dialog.js";

const [, , encodedName, , trialNumber] = location.pathname.split("/");
const name = decodeURIComponent(encodedName);
const route = `/v1/studies/${encodedName}`;
const REFRESH_MS = 3000;
const byId = (id) => document.getElementById(id);
let shownTag = null;
let redraw = () => {};
let mayAdd = false;
let hasFiles = false;

const show = (section, children) => replace(document.querySelector(`#${section} .content`), children);
const nothing = (text) => element("p", { class: "note" }, text);

/** The best trial with its curve; null while there is none. */
async function bestTrial() {
  try {
    const { data } = await get(`${route}/best`);
    return (await get(`${route}/trials/${data.best[0].trial}`)).data;
  } catch (error) {
    if (error instanceof ServiceError && error.status === 404) return null;
    throw error;
  }
}

function drawParams(study, trial, best) {
  const isBest = best === null || best.trial === trial.trial;
  const columns = [
    { title: "Parameter" },
    { title: `Trial ${trial.trial}`, number: true },
    ...(isBest ? [] : [{ title: `Best, trial ${best.trial}`, number: true }, { title: "Difference", number: true }]),
  ];
  const difference = (mine, other) =>
    typeof mine === "number" && typeof other === "number"
      ? mine === other
        ? "same"
        : `${mine > other ? "+" : ""}${number(mine - other)}`
      : JSON.stringify(mine) === JSON.stringify(other)
        ? "same"
        : "other";
  const rows = Object.entries(trial.params).map(([key, value]) => [
    study.space[key]?.unit ? `${key} (${study.space[key].unit})` : key,
    parameterValue(value),
    ...(isBest ? [] : [parameterValue(best.params[key]), difference(value, best.params[key])]),
  ]);
  show("params", scrollable("Parameters, as a table", table(isBest ? "Parameters" : "Parameters beside the best", columns, rows)));
}

function drawResult(study, trial, best, note) {
  const isBest = best === null || best.trial === trial.trial;
  const metrics = [...new Set([...study.metrics, ...Object.keys(trial.metrics)])];
  const valueOf = (of, metric) => number(of.values?.[metric] ?? of.metrics[metric] ?? (metric === study.objective.metric ? of.value : null));
  const rows = metrics.map((metric) => [metric, valueOf(trial, metric), ...(isBest ? [] : [valueOf(best, metric)])]);
  const columns = [
    { title: "Metric" },
    { title: `Trial ${trial.trial}`, number: true },
    ...(isBest ? [] : [{ title: `Best, trial ${best.trial}`, number: true }]),
  ];
  const { lease } = trial;
  const facts = [
    ["Reason", trial.problem ?? trial.reason],
    ["Note", note],
    ["Owner", lease?.owner],
    ["Label", lease?.label],
    ["Lease", lease && (lease.due_at ? `until ${moment(lease.due_at)}${lease.is_overdue ? ", overdue" : ""}` : "without limit")],
    ["Takes over from", lease?.supersedes === null ? null : lease?.supersedes],
    ["Superseded by", trial.superseded_by],
    ["Worker", trial.worker],
    ["Started", trial.started_at && moment(trial.started_at)],
    ["Finished", trial.finished_at && moment(trial.finished_at)],
    ["Duration", trial.seconds === null ? null : duration(trial.seconds)],
    ["Epochs", trial.epochs || null],
    ["Seed", trial.seed],
    ...Object.entries(trial.notes ?? {}).map(([key, value]) => [key, typeof value === "string" ? value : JSON.stringify(value)]),
  ].filter(([, value]) => value !== null && value !== undefined && value !== "");
  const listed = element("dl", { class: "facts" }, facts.map(([term, value]) => element("div", {}, element("dt", {}, term), element("dd", {}, value))));
  show("result", [scrollable("Result, as a table", table("Metrics", columns, rows)), listed]);
}

function drawCurve(study, trial, best) {
  const curveOf = (of) => ({
    trial: of.trial,
    state: of.state,
    value: of.value,
    counts: of.trial === best?.trial,
    points: of.measurements.map(({ epoch, metrics }) => [epoch, metrics[study.objective.metric]]).filter(([, value]) => Number.isFinite(value)),
  });
  const shown = [trial, ...(best === null || best.trial === trial.trial ? [] : [best])].map(curveOf).filter(({ points }) => points.length);
  const place = document.querySelector("#curve .content");
  show(
    "curve",
    shown.some((curve) => curve.trial === trial.trial)
      ? curvesFigure({ objective: study.objective, n_curves: shown.length, curves: shown }, Math.max(260, Math.floor(place.clientWidth)), trial.trial)
      : nothing("The trial has reported no epochs."),
  );
}

function drawRepeats(study, trial, { trials, n_trials: nTrials }) {
  const others = trials.filter((each) => each.trial !== trial.trial);
  if (others.length === 0) return show("repeats", nothing("No other trial has these parameters."));
  const rows = others.map((each) => [trialLink(name, each.trial), each.state, number(each.value)]);
  const caption = `${plural(nTrials - 1, "other trial")}${others.length < nTrials - 1 ? `, ${others.length} shown` : ""}`;
  show("repeats", table(caption, [{ title: "Trial", number: true }, { title: "State" }, { title: study.objective.metric, number: true }], rows));
}

function drawActions(study, trial) {
  const page = (path) => pagePath(`/studies/${encodedName}/${path}`);
  const measure = new URL(page("measure"), location.origin);
  measure.searchParams.set("trial", trial.trial);
  replace(byId("actions"), [
    trial.trial > 0 ? element("a", { href: page(`trials/${trial.trial - 1}`) }, "Previous trial") : null,
    element("a", { href: page(`trials/${trial.trial + 1}`) }, "Next trial"),
    trial.state === "running" ? element("a", { href: measure.pathname + measure.search }, "Enter the result") : null,
    yamlButton(name, study.objective.metric, trial),
  ].filter(Boolean));
}

async function refresh() {
  const [study, trial, best, notes, same] = await Promise.all([
    get(route),
    get(`${route}/trials/${trialNumber}`),
    bestTrial(),
    get(`${route}/notes`),
    get(`${route}/trials?same_as=${encodeURIComponent(trialNumber)}&limit=50`),
  ]);
  const tag = JSON.stringify([trial.data, best, notes.data, same.data]);
  if (tag === shownTag) return;
  shownTag = tag;
  const note = notes.data.trials.find((entry) => entry.trial === trial.data.trial)?.note;
  byId("sections").hidden = false;
  const state = trial.data.feasible === false ? "infeasible" : trial.data.state;
  byId("status").textContent = `${state}${trial.data.value === null ? "" : `, ${study.data.objective.metric} ${number(trial.data.value)}`}`;
  drawActions(study.data, trial.data);
  drawParams(study.data, trial.data, best);
  drawResult(study.data, trial.data, best, note);
  redraw = () => drawCurve(study.data, trial.data, best);
  redraw();
  drawRepeats(study.data, trial.data, same.data);
  show("log", output(trial.data.trial, route));
  if (hasFiles) return;
  hasFiles = true;
  await filesSection(`${route}/trials/${trial.data.trial}/files`, mayAdd, (parts) => show("files", parts));
}

function showError(message) {
  byId("error").textContent = message ?? "";
  byId("error").hidden = message === null;
  if (message !== null && shownTag === null) byId("status").textContent = "";
}

byId("name").textContent = `Trial ${trialNumber} of ${name}`;
document.title = `Trial ${trialNumber} of ${name} · aifs-tune`;
byId("study").href = pagePath(`/studies/${encodedName}`);
byId("trials").href = pagePath(`/studies/${encodedName}/trials`);
addEventListener("resize", () => redraw());
mayAdd = (await showCaller()).scope !== "read";
await poll(refresh, REFRESH_MS, showError);
