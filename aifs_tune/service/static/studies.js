// List of the studies of a project with their progress.

import { element, replace, scrollable, table } from "./elements.js";
import { get, pagePath, poll, showCaller } from "./service.js";
import { number, plural } from "./formats.js";

const status = document.getElementById("status");
let shownTag = null;

async function allStudies() {
  const studies = [];
  const unreadable = [];
  const tags = [];
  let after = "";
  do {
    const { data } = await get(`/v1/studies?limit=100&after=${encodeURIComponent(after)}`);
    studies.push(...data.studies);
    unreadable.push(...data.unreadable);
    tags.push(JSON.stringify(data));
    after = data.next;
  } while (after !== null);
  return { studies, unreadable, tag: tags.join() };
}

function row(study) {
  const counts = study.n_trials;
  const finished = counts.complete + counts.pruned + counts.failed;
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
  const objectives = [study.objective, ...study.trade_off].map(
    ({ metric, mode }) => `${mode === "max" ? "maximize" : "minimize"} ${metric}`,
  );
  return [
    link,
    element("div", { class: "bar" }, bar, study.n_requested ? `${finished} of ${study.n_requested}` : finished),
    objectives.join(", "),
    number(study.value),
    counts.running,
    counts.waiting,
    counts.failed,
  ];
}

const COLUMNS = [
  { title: "Study" },
  { title: "Finished trials" },
  { title: "Objective" },
  { title: "Best value", number: true },
  { title: "Running", number: true },
  { title: "Waiting", number: true },
  { title: "Failed", number: true },
];

async function refresh() {
  const { studies, unreadable, tag } = await allStudies();
  if (tag === shownTag) return;
  shownTag = tag;
  const running = studies.reduce((n, study) => n + study.n_trials.running, 0);
  const text = studies.length
    ? `${plural(studies.length, "study").replace("studys", "studies")}, ${plural(running, "trial")} running`
    : "There are no studies yet. Create one with aifs-tune run, aifs-tune ask or POST /v1/studies.";
  if (status.textContent !== text) status.textContent = text;
  replace(
    document.getElementById("studies"),
    [
      studies.length ? scrollable("Studies", table("Studies by name", COLUMNS, studies.map(row))) : [],
      unreadable.map(({ study, problem }) => element("p", {}, `${study}: ${problem}`)),
    ].flat(),
  );
}

const caller = await showCaller();
if (!caller.is_fixed) {
  document.getElementById("project").value = caller.project;
  document.getElementById("project-form").hidden = false;
}
poll(refresh, 2000, (error) => {
  if (error !== null) {
    status.textContent = error;
    shownTag = null;
  }
});
