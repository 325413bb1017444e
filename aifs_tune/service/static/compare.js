// Page that compares studies. Its address names them.

import { element, replace, scrollable, table } from "./elements.js";
import { number, parameterValue, plural } from "./formats.js";
import { historiesFigure } from "./histories.js";
import { get, pagePath, poll, project, showCaller } from "./service.js";
import { grid } from "./slices.js";
import { trialLink } from "./trial_link.js";
import { comparisonTable, nextStep, studyLink } from "./verdict.js";

const REFRESH_MS = 5000;
const MAX_IMPROVEMENTS = 200;
const names = new URLSearchParams(location.search).getAll("studies");
const byId = (id) => document.getElementById(id);
let shownTag = null;
let redraw = () => {};

const content = (section) => document.querySelector(`#${section} .content`);
const show = (section, children) => replace(content(section), children);
const note = (text) => element("p", { class: "note" }, text);
const isSame = (values) => values.every((value) => JSON.stringify(value) === JSON.stringify(values[0]));
const goals = ({ objective, trade_off: tradeOff }) => [objective, ...tradeOff];

function drawVerdict({ verdicts, next_step: next, command }) {
  const compared = verdicts.flatMap(({ confirmation, baseline, n_splits: nSplits, comparisons }) => [
    comparisons.map(({ text }) => element("p", { class: "lead" }, text)),
    element("p", { class: "note" }, `Trained again on ${plural(nSplits, "split")} in `, studyLink(confirmation), `. The baseline is ${baseline}.`),
    comparisonTable(comparisons),
  ]);
  const without = "Not compared yet: no configuration of one study was trained again beside one of another.";
  show(
    "verdict",
    [
      compared.length ? compared : element("p", { class: "lead" }, without),
      nextStep(next, command),
      note("A best value was selected among many trials, which makes it too optimistic, the more so the more trials there are."),
    ].flat(Infinity),
  );
}

/** One chart for each objective that the studies have; a study keeps its kind of line. */
function drawHistories(histories) {
  const byGoal = Map.groupBy(
    histories.map((history, series) => ({ ...history, series })),
    ({ objective }) => `${objective.mode} ${objective.metric}`,
  );
  const width = Math.max(260, Math.floor(content("history").clientWidth));
  const figures = [...byGoal.values()].map((own) =>
    own.some(({ best }) => best.length > 0)
      ? historiesFigure(own[0].objective, own, byGoal.size === 1 ? width : Math.min(420, width))
      : note(`No trial is complete in ${own.map(({ study }) => study).join(", ")}.`),
  );
  const apart = byGoal.size > 1 ? [note("The studies have different objectives, so their values are not in one chart.")] : [];
  show("history", [...apart, byGoal.size > 1 ? grid(figures) : figures].flat());
}

/** Create a table with a column for each study: rows are lists of cells; `further` are columns after the studies. */
function sideBySide(caption, first, studies, rows, further = []) {
  const columns = [{ title: first }, ...studies.map(({ study }) => ({ title: study, content: studyLink(study) })), ...further];
  return scrollable(caption, table(caption, columns, rows));
}

/** A row whose cells are marked where they differ, and whether they are equal in words. */
function markedRow(title, cells, isEqual) {
  return [title, ...cells.map((cell) => (isEqual ? cell : element("span", { class: "differs" }, cell))), isEqual ? "yes" : "no"];
}

function drawBest({ studies }) {
  const bests = studies.map(({ best }) => best);
  if (bests.every((best) => best === null)) return show("best", note("No trial is complete yet."));
  const ofBest = (read) => bests.map((best, i) => (best === null ? "–" : read(best, studies[i])));
  const metrics = [...new Set(studies.flatMap((each) => goals(each).map(({ metric }) => metric)))];
  const valueOf = (best, { trade_off: tradeOff, objective }, metric) =>
    tradeOff.length ? best.values[metric] : metric === objective.metric ? best.value : best.metrics[metric];
  const params = [...new Set(bests.flatMap((best) => Object.keys(best?.params ?? {})))];
  const told = bests.filter((best) => best !== null);
  show(
    "best",
    sideBySide(
      "The best trial of each study",
      "Setting",
      studies,
      [
        ["Trial", ...ofBest((best, { study }) => trialLink(study, best.trial)), ""],
        ...metrics.map((metric) => [metric, ...ofBest((best, study) => number(valueOf(best, study, metric))), ""]),
        ...params.map((name) =>
          markedRow(
            name,
            ofBest((best) => (name in best.params ? parameterValue(best.params[name]) : "–")),
            isSame(told.map((best) => (name in best.params ? [best.params[name]] : []))),
          ),
        ),
      ],
      [{ title: "Equal" }],
    ),
  );
}

function drawSpaces({ studies, parameters, settings }) {
  const differing = parameters.filter((parameter) => !parameter.is_equal);
  const equal = parameters.filter((parameter) => parameter.is_equal).map(({ name }) => name);
  const rows = [
    ...differing.map(({ name, definitions }) => [name, ...definitions.map((text) => text ?? "–")]),
    ...settings.map(({ name, values }) => [name, ...values.map((value) => (value === null ? "–" : parameterValue(value)))]),
  ];
  const same = equal.length ? ` Equal: ${equal.join(", ")}.` : "";
  const words = differing.length
    ? `${differing.length} of ${plural(parameters.length, "parameter")} differ.${same}`
    : `The search spaces are equal: ${plural(parameters.length, "parameter")} (${equal.join(", ")}).`;
  const further = settings.length ? ` ${plural(settings.length, "further setting")} ${settings.length === 1 ? "differs" : "differ"}.` : " No other setting differs.";
  show("spaces", [element("p", { class: "lead" }, words + further), rows.length ? sideBySide("Parameters and settings that differ", "Name", studies, rows) : []].flat());
}

function drawData({ data, studies }) {
  const rows = studies.map(({ study, fingerprint }) => [studyLink(study), element("code", {}, fingerprint ?? "–")]);
  const numbers = table("Fingerprints of content, labels and split", [{ title: "Study" }, { title: "Fingerprint" }], rows);
  show("data", [element("p", { class: "lead" }, data.text), scrollable("Fingerprints, as a table", numbers)]);
}

async function refresh() {
  const query = new URLSearchParams(names.map((study) => ["studies", study]));
  const [comparison, ...histories] = await Promise.all([
    get(`/v1/comparison?${query}`),
    ...names.map((name) => get(`/v1/studies/${encodeURIComponent(name)}/history?limit=${MAX_IMPROVEMENTS}`)),
  ]);
  const tag = [comparison, ...histories].map((each) => each.tag).join();
  if (tag === shownTag) return;
  shownTag = tag;
  byId("sections").hidden = false;
  byId("status").textContent = `${names.length} studies: ${names.join(", ")}`;
  drawVerdict(comparison.data);
  drawBest(comparison.data);
  drawSpaces(comparison.data);
  drawData(comparison.data);
  redraw = () => drawHistories(histories.map(({ data }) => data));
  redraw();
}

function showError(message) {
  byId("error").textContent = message ?? "";
  byId("error").hidden = message === null;
  if (message !== null && shownTag === null) byId("status").textContent = "";
}

function choosePath() {
  const query = new URLSearchParams(names.map((study) => ["studies", study]));
  if (project !== null) query.set("project", project);
  return query.size ? `/?${query}` : pagePath("/");
}

byId("choose").href = choosePath();
addEventListener("resize", () => redraw());
await showCaller();
if (names.length < 2) byId("status").textContent = "Choose two or more studies in the list of studies first.";
else await poll(refresh, REFRESH_MS, showError);
