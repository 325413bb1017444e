// List of the studies of a project with their progress: searched, filtered, sorted, compared, put aside and deleted.

import { element, replace, scrollable, table } from "./elements.js";
import { moment, number } from "./formats.js";
import { comparePath, get, pagePath, poll, post, ServiceError, showCaller } from "./service.js";

const REFRESH_MS = 2000;
const byId = (id) => document.getElementById(id);
const status = byId("status");
const MAX_COMPARED = 6;
const FILTERS = ["search", "state", "goal"];
const chosen = new URLSearchParams(location.search);
let all = { studies: [], unreadable: [] };
let shownTag = null;
let shownChoice = null;
let caller = null;

async function allStudies() {
  const studies = [];
  const unreadable = [];
  let after = "";
  do {
    const { data } = await get(`/v1/studies?limit=100&after=${encodeURIComponent(after)}`);
    studies.push(...data.studies);
    unreadable.push(...data.unreadable);
    after = data.next;
  } while (after !== null);
  return { studies, unreadable };
}

const finishedOf = ({ n_trials: counts }) => counts.complete + counts.pruned + counts.failed;
const goalsOf = (study) => [study.objective, ...study.trade_off].map(({ metric, mode }) => `${mode === "max" ? "maximize" : "minimize"} ${metric}`);

/** The result of the newest confirmation; null unless it is significantly better than the baseline. */
const confirmedOf = ({ confirmation }) => (confirmation?.outcome === "confirmed" ? confirmation : null);

const IS_IN_STATE = {
  "": (study) => !study.is_archived,
  running: (study) => study.n_trials.running > 0 && !study.is_archived,
  failed: (study) => study.n_trials.failed > 0 && !study.is_archived,
  done: (study) => study.n_requested > 0 && finishedOf(study) >= study.n_requested && !study.is_archived,
  confirmed: (study) => confirmedOf(study) !== null && !study.is_archived,
  empty: (study) => finishedOf(study) === 0 && !study.is_archived,
  archived: (study) => study.is_archived,
};

function kept(study) {
  const text = (chosen.get("search") ?? "").toLowerCase();
  const goal = chosen.get("goal") ?? "";
  const isFound = [study.study, ...goalsOf(study)].some((each) => each.toLowerCase().includes(text));
  return isFound && (IS_IN_STATE[chosen.get("state") ?? ""] ?? IS_IN_STATE[""])(study) && (goal === "" || goalsOf(study).includes(goal));
}

const COLUMNS = [
  { title: "Study", key: "study", of: (study) => study.study },
  { title: "Finished trials", key: "finished", of: finishedOf },
  { title: "Objective", key: "goal", of: (study) => goalsOf(study).join(", ") },
  { title: "Best value", key: "value", of: (study) => study.value, number: true },
  { title: "Confirmed result", key: "confirmed", of: (study) => confirmedOf(study)?.mean ?? null, number: true },
  { title: "Confirmed gain", key: "gain", of: (study) => confirmedOf(study)?.difference ?? null, number: true, isBestHigh: true },
  { title: "Running", key: "running", of: (study) => study.n_trials.running, number: true },
  { title: "Waiting", key: "waiting", of: (study) => study.n_trials.waiting, number: true },
  { title: "Failed", key: "failed", of: (study) => study.n_trials.failed, number: true },
  { title: "Last result", key: "last", of: (study) => study.last_result_at },
];

/** Sort by a column, descending after "-"; studies without a value come last. */
function inOrder(studies) {
  const sort = chosen.get("sort") ?? "study";
  const column = COLUMNS.find(({ key }) => key === sort.replace("-", "")) ?? COLUMNS[0];
  const sign = sort.startsWith("-") ? -1 : 1;
  const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b) : a - b);
  return [...studies].sort((a, b) => {
    const [x, y] = [column.of(a), column.of(b)];
    if (x === null || y === null) return (x === null) - (y === null);
    return sign * compare(x, y) || a.study.localeCompare(b.study);
  });
}

/** Whether the best of a column are its highest: a value of one objective, or a gain. */
function isDescendingFirst({ key, isBestHigh }) {
  const shown = all.studies.filter(kept);
  const isValue = key === "value" || key === "confirmed";
  return isBestHigh || (isValue && shown.length > 0 && shown.every(({ objective }) => objective.mode === "max"));
}

function heading(column) {
  const current = chosen.get("sort") ?? "study";
  const direction = current === column.key ? " ↑" : current === `-${column.key}` ? " ↓" : "";
  const [first, second] = isDescendingFirst(column) ? [`-${column.key}`, column.key] : [column.key, `-${column.key}`];
  const onclick = () => choose({ sort: current === first ? second : first });
  const arrow = element("span", { "aria-hidden": "true" }, direction);
  const content = element("button", { type: "button", class: "sort", "data-key": `sort ${column.key}`, onclick }, column.title, arrow);
  return { ...column, content, attributes: direction && { "aria-sort": direction === " ↑" ? "ascending" : "descending" } };
}

function choose(changes) {
  for (const [key, value] of Object.entries(changes)) {
    if (value === "") chosen.delete(key);
    else chosen.set(key, value);
  }
  keepInAddress();
  draw();
}

function keepInAddress() {
  history.replaceState(null, "", `${location.pathname}${chosen.size ? `?${chosen}` : ""}`);
}

/** Say how many studies are chosen to be compared, with the link to their comparison. */
function drawChoice() {
  const known = new Set(all.studies.map(({ study }) => study));
  const names = chosen.getAll("studies").filter((name) => known.has(name));
  byId("choice").hidden = known.size < 2;
  if (shownChoice === names.join()) return; // what is said again is read out again
  shownChoice = names.join();
  const n = names.length;
  const link = element("a", { href: comparePath(names), "data-key": "compare" }, `Compare ${n} studies`);
  const clear = element("button", { type: "button", "data-key": "clear", onclick: () => choose({ studies: "" }) }, "Choose none");
  const hint = n === 0 ? "Tick two or more studies to compare them." : n === 1 ? "Tick one more study to compare." : `At most ${MAX_COMPARED} studies are compared.`;
  const isPossible = n > 1 && n <= MAX_COMPARED;
  replace(byId("choice"), [isPossible ? link : element("span", { class: "note" }, hint), ...(n ? [clear] : [])]);
}

function tickBox({ study }) {
  const box = element("input", {
    type: "checkbox",
    "aria-label": `Compare ${study}`,
    "data-key": `compare ${study}`,
    onchange: () => {
      if (box.checked) chosen.append("studies", study);
      else chosen.delete("studies", study);
      keepInAddress();
      drawChoice();
    },
  });
  box.checked = chosen.has("studies", study);
  return box;
}

/** Change a study now or not at all: neither is to happen later by surprise. */
async function change(study, verb, body) {
  try {
    await post(`/v1/studies/${encodeURIComponent(study)}/${verb}`, body);
    byId("error").hidden = true;
  } catch (error) {
    byId("error").textContent = `${study}: ${error instanceof ServiceError ? error.message : "the service cannot be reached; nothing is known to have changed"}`;
    byId("error").hidden = false;
  }
  await refresh();
}

function askToDelete(study) {
  const dialog = byId("delete");
  const n = finishedOf(study) + study.n_trials.running + study.n_trials.waiting;
  byId("delete-what").textContent = `${study.study} and its ${n} trials with their files will be deleted. It cannot be undone.`;
  byId("delete-name").value = "";
  byId("delete-name").pattern = study.study.replaceAll(".", "\\.");
  byId("delete-name").title = study.study;
  dialog.returnValue = "";
  dialog.onclose = () => dialog.returnValue === "delete" && change(study.study, "delete", { study: byId("delete-name").value });
  dialog.showModal();
}

function actions(study) {
  const verb = study.is_archived ? "Take back" : "Archive";
  const aside = () => change(study.study, "archive", { is_archived: !study.is_archived });
  const button = (title, onclick) =>
    element("button", { type: "button", "data-key": `${title} ${study.study}`, "aria-label": `${title}: ${study.study}`, onclick }, title);
  return element("div", { class: "buttons tight" }, button(verb, aside), button("Delete", () => askToDelete(study)));
}

function confirmedParts(study) {
  const found = confirmedOf(study);
  if (found === null) return study.confirmation === null ? number(null) : element("span", { class: "note" }, "not confirmed");
  const [low, high] = found.interval ?? [null, null];
  const interval = low === null ? "" : ` [${number(low)}, ${number(high)}]`;
  return element("span", { title: `${found.configuration}, mean with its 95 % interval` }, number(found.mean), element("span", { class: "note" }, interval));
}

function row(study) {
  const counts = study.n_trials;
  const finished = finishedOf(study);
  const link = element(
    "a",
    { href: pagePath(`/studies/${encodeURIComponent(study.study)}`), "data-key": study.study },
    study.study,
  );
  const bar = study.n_requested
    ? element("progress", {
        max: study.n_requested,
        value: Math.min(finished, study.n_requested),
        "aria-label": `${study.study}: finished trials`,
      })
    : null;
  return [
    all.studies.length < 2 ? link : element("div", { class: "tick" }, tickBox(study), link),
    element("div", { class: "bar" }, bar, study.n_requested ? `${finished} of ${study.n_requested}` : finished),
    goalsOf(study).join(", "),
    number(study.value),
    confirmedParts(study),
    number(confirmedOf(study)?.difference ?? null),
    counts.running,
    counts.waiting,
    counts.failed,
    element("span", { class: "moment" }, moment(study.last_result_at)),
    ...(caller.scope === "manage" ? [actions(study)] : []),
  ];
}

function drawGoals() {
  const goals = [...new Set(all.studies.flatMap(goalsOf))].sort();
  const options = ["", ...goals].map((goal) => {
    const option = element("option", { value: goal }, goal || "all");
    option.selected = goal === (chosen.get("goal") ?? "");
    return option;
  });
  byId("goal").replaceChildren(...options);
}

function draw() {
  const studies = inOrder(all.studies.filter(kept));
  const running = studies.reduce((n, study) => n + study.n_trials.running, 0);
  const n = `${studies.length} ${studies.length === 1 ? "study" : "studies"}`;
  const nAside = all.studies.filter((study) => study.is_archived).length;
  const aside = nAside && chosen.get("state") !== "archived" ? `, ${nAside} archived` : "";
  const text =
    all.studies.length === 0
      ? "There are no studies yet. Create one with aifs-tune run, aifs-tune ask or POST /v1/studies."
      : studies.length === 0
        ? `No study matches. Empty the fields above to see all${aside}.`
        : `${n}, ${running} ${running === 1 ? "trial" : "trials"} running${aside}`;
  if (status.textContent !== text) status.textContent = text;
  byId("filters").hidden = all.studies.length === 0;
  drawChoice();
  const columns = [...COLUMNS.map(heading), ...(caller.scope === "manage" ? [{ title: "Manage" }] : [])];
  replace(
    byId("studies"),
    [
      studies.length ? scrollable("Studies", table("Studies", columns, studies.map(row))) : [],
      all.unreadable.map(({ study, problem }) => element("p", {}, `${study}: ${problem}`)),
    ].flat(),
  );
}

async function refresh() {
  const found = await allStudies();
  const tag = JSON.stringify(found);
  if (tag === shownTag) return;
  shownTag = tag;
  all = found;
  if (document.activeElement !== byId("goal")) drawGoals();
  draw();
}

for (const key of FILTERS) {
  byId(key).value = chosen.get(key) ?? "";
  byId(key).addEventListener("input", () => choose({ [key]: byId(key).value }));
}
byId("filters").addEventListener("submit", (event) => event.preventDefault());
caller = await showCaller();
if (!caller.is_fixed) {
  byId("project").value = caller.project;
  byId("project-form").hidden = false;
}
poll(refresh, REFRESH_MS, (error) => {
  if (error !== null) {
    status.textContent = error;
    shownTag = null;
  }
});
