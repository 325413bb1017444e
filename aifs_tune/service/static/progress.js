// How far a study is: counts, rate, what runs, what failed.

import { element, scrollable, table } from "./elements.js";
import { duration, moment, number, plural } from "./words.js";

const STATES = ["complete", "pruned", "failed", "running", "waiting"];

/** In one sentence, for a screen reader too. */
export function progressWords({ n_trials: counts, n_requested, per_min: perMin }, best, metric) {
  const ended = counts.complete + counts.pruned + counts.failed;
  const parts = [n_requested ? `${ended} of ${plural(n_requested, "trial")} ended` : `${plural(ended, "trial")} ended`];
  if (counts.running) parts.push(`${counts.running} running`);
  if (best !== null) parts.push(`best ${metric} ${number(best.value)} by trial ${best.trial}`);
  if (counts.running && perMin) parts.push(`${number(perMin)} trials a minute`);
  if (counts.running && perMin && n_requested > ended) parts.push(`about ${duration((60 * (n_requested - ended)) / perMin)} left`);
  return `${parts.join(", ")}.`;
}

export function progressParts(progress, words, metric) {
  const { n_trials: counts, n_requested, running, failures } = progress;
  const ended = counts.complete + counts.pruned + counts.failed;
  const parts = [element("p", { class: "lead" }, words)];
  if (n_requested)
    parts.push(element("progress", { max: n_requested, value: Math.min(ended, n_requested), "aria-label": "Ended trials" }));
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
    parts.push(element("p", { class: "note" }, `Time spent in trials: ${duration(progress.seconds)}.`));
  if (running.length) {
    const columns = [
      { title: "Trial", number: true },
      { title: "Epoch", number: true },
      { title: `Best ${metric}`, number: true },
      { title: "Worker" },
      { title: "Started" },
    ];
    const rows = running.map((trial) => [
      trial.trial,
      trial.epochs,
      number(trial.value),
      trial.worker ?? "–",
      element("span", { class: "moment" }, moment(trial.started_at)),
    ]);
    parts.push(scrollable("Running trials", table("Running trials", columns, rows)));
  }
  if (failures.length) {
    const rows = failures.map((failure) => [failure.reason ?? "no reason was given", failure.n, failure.first]);
    parts.push(
      scrollable(
        "Failures",
        table(
          "Failures by reason",
          [{ title: "Reason" }, { title: "Trials", number: true }, { title: "First", number: true }],
          rows,
        ),
      ),
    );
  }
  return parts;
}
