// The studies of a project and how far each is.

import { element, replace, scrollable, table } from "./elements.js";
import { ask, keepLooking, pagePath, showCaller } from "./service.js";
import { number, plural } from "./words.js";

const status = document.getElementById("status");
let shownTag = null;

async function allStudies() {
  const studies = [];
  const tags = [];
  let after = "";
  do {
    const { answer } = await ask(`/v1/studies?limit=100&after=${encodeURIComponent(after)}`);
    studies.push(...answer.studies);
    tags.push(JSON.stringify(answer));
    after = answer.next;
  } while (after !== null);
  return { studies, tag: tags.join() };
}

function row(study) {
  const counts = study.n_trials;
  const ended = counts.complete + counts.pruned + counts.failed;
  const link = element(
    "a",
    { href: pagePath(`/studies/${encodeURIComponent(study.study)}`), "data-key": study.study },
    study.study,
  );
  const bar = study.n_requested
    ? element("progress", {
        max: study.n_requested,
        value: Math.min(ended, study.n_requested),
        "aria-label": `${study.study}: ended trials`,
      })
    : null;
  const goal = `${study.objective.mode === "max" ? "highest" : "lowest"} ${study.objective.metric}`;
  return [
    link,
    element("div", { class: "bar" }, bar, study.n_requested ? `${ended} of ${study.n_requested}` : ended),
    goal,
    number(study.value),
    counts.running,
    counts.waiting,
    counts.failed,
  ];
}

const COLUMNS = [
  { title: "Study" },
  { title: "Ended" },
  { title: "Looks for" },
  { title: "Best", number: true },
  { title: "Running", number: true },
  { title: "Waiting", number: true },
  { title: "Failed", number: true },
];

async function look() {
  const { studies, tag } = await allStudies();
  if (tag === shownTag) return;
  shownTag = tag;
  const running = studies.reduce((n, study) => n + study.n_trials.running, 0);
  const text = studies.length
    ? `${plural(studies.length, "study").replace("studys", "studies")}, ${plural(running, "trial")} running`
    : "No study yet. aifs-tune run starts one, as does POST /v1/studies.";
  if (status.textContent !== text) status.textContent = text;
  replace(
    document.getElementById("studies"),
    studies.length ? scrollable("Studies", table("Studies by name", COLUMNS, studies.map(row))) : [],
  );
}

const caller = await showCaller();
if (!caller.is_fixed) {
  document.getElementById("project").value = caller.project;
  document.getElementById("project-form").hidden = false;
}
keepLooking(look, 2000, (trouble) => {
  if (trouble !== null) {
    status.textContent = trouble;
    shownTag = null;
  }
});
