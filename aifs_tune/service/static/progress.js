// Progress of a study: trials by state, rate, running trials and failures.

import { element, scrollable, table } from "./elements.js";
import { get, ServiceError } from "./service.js";
import { trialLink } from "./trial_link.js";
import { duration, moment, number, plural } from "./formats.js";

const STATES = ["complete", "pruned", "failed", "running", "waiting"];

/** Describe the progress in one sentence, which screen readers also announce. */
export function progressSummary({ n_trials: counts, n_requested: nRequested, per_min: perMin }, best, metric) {
  const finished = counts.complete + counts.pruned + counts.failed;
  const parts = [
    nRequested ? `${finished} of ${plural(nRequested, "trial")} finished` : `${plural(finished, "trial")} finished`,
  ];
  if (counts.running) parts.push(`${counts.running} running`);
  if (best !== null) parts.push(`best ${metric} ${number(best.value)} in trial ${best.trial}`);
  if (counts.running && perMin) parts.push(`${number(perMin)} trials per minute`);
  if (counts.running && perMin && nRequested > finished)
    parts.push(`about ${duration((60 * (nRequested - finished)) / perMin)} left`);
  return `${parts.join(", ")}.`;
}

/** A place that shows what a trial printed and raised once it is opened. */
export function output(trial, route) {
  const text = element("pre", { tabindex: 0, "aria-label": `Output of trial ${trial}` });
  const load = async () => {
    if (text.textContent) return;
    text.textContent = "Loading …";
    try {
      text.textContent = (await get(`${route}/trials/${trial}/log`)).data.log;
    } catch (error) {
      text.textContent = error instanceof ServiceError ? error.message : "The service cannot be reached.";
    }
  };
  const key = `output ${trial}`;
  return element(
    "details",
    { "data-key": key, ontoggle: (event) => event.target.open && load() },
    element("summary", { "data-key": `${key} summary` }, `Output of trial ${trial}`),
    text,
  );
}

export function progressParts(progress, summary, metric, route) {
  const { n_trials: counts, n_requested: nRequested, running, failures, notices } = progress;
  const finished = counts.complete + counts.pruned + counts.failed;
  const parts = [element("p", { class: "lead" }, summary)];
  if (nRequested) {
    const value = Math.min(finished, nRequested);
    parts.push(element("progress", { max: nRequested, value, "aria-label": "Finished trials" }));
  }
  parts.push(
    element(
      "dl",
      { class: "counts" },
      STATES.map((state) =>
        element("div", { class: state }, element("dt", {}, state), element("dd", {}, counts[state])),
      ),
    ),
  );
  if (progress.seconds)
    parts.push(element("p", { class: "note" }, `Total duration of all trials: ${duration(progress.seconds)}.`));
  if (running.length) {
    const columns = [
      { title: "Trial", number: true },
      { title: "Epoch", number: true },
      { title: `Best ${metric}`, number: true },
      { title: "Worker" },
      { title: "Started" },
    ];
    const rows = running.map((trial) => [
      trialLink(progress.study, trial.trial),
      trial.epochs,
      number(trial.value),
      trial.worker ?? "–",
      element("span", { class: "moment" }, moment(trial.started_at)),
    ]);
    parts.push(scrollable("Running trials", table("Running trials", columns, rows)));
  }
  if (failures.length) {
    const rows = failures.map((failure) => [failure.reason ?? "no reason given", failure.n, trialLink(progress.study, failure.first)]);
    parts.push(
      scrollable(
        "Failures",
        table(
          "Failures by reason",
          [{ title: "Reason" }, { title: "Trials", number: true }, { title: "First trial", number: true }],
          rows,
        ),
      ),
      ...failures.map((failure) => output(failure.first, route)),
    );
  }
  if (notices.length) {
    const rows = notices.toReversed().map(({ at, text }) => [element("span", { class: "moment" }, moment(at)), text]);
    parts.push(scrollable("Notices", table("Notices", [{ title: "When" }, { title: "What happened" }], rows)));
  }
  return parts;
}
