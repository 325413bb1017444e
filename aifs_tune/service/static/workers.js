// Timeline of the workers: the trials that each one ran.

import { element, figure, shape as mark, table } from "./elements.js";
import { axisBelow, drawing, scale } from "./scales.js";
import { duration, percent, plural } from "./formats.js";

const STATES = ["complete", "pruned", "failed", "running"];
const [ROW, BAR, FOOT] = [44, 16, 42];

function nameOf(worker) {
  return worker ?? "unknown worker";
}

export function workersFigure({ n_started: nStarted, started_at: startedAt, now, workers }, width) {
  const began = Date.parse(startedAt);
  const totalS = Math.max(1e-3, (Date.parse(now) - began) / 1000);
  const x = scale(0, totalS, 12, width - 20);
  const since = (moment) => (Date.parse(moment) - began) / 1000;
  const height = ROW * workers.length + FOOT;
  const rows = workers.flatMap((worker, i) => [
    mark(
      "text",
      { class: "tick row", x: 2, y: ROW * i + 14 },
      `${nameOf(worker.worker)} · ${percent(worker.busy)} busy`,
    ),
    ...worker.spans.map((span) => {
      const fromS = since(span.started_at);
      const toS = span.finished_at === null ? totalS : since(span.finished_at);
      const [from, to] = [x(fromS), x(toS)];
      const title = `trial ${span.trial}, ${span.state}: ${duration(toS - fromS)}`;
      return mark(
        "rect",
        { class: `span ${span.state}`, x: from, y: ROW * i + 20, width: Math.max(1, to - from - 0.5), height: BAR },
        mark("title", {}, title),
      );
    }),
  ]);
  const times = axisBelow(x, height - FOOT, { spacing: 110, kind: "time", grid: height - FOOT });
  const title = mark(
    "text",
    { class: "title", x: width / 2, y: height - 4, "text-anchor": "middle" },
    "time since the start of the first trial shown",
  );
  const shown = workers.reduce((n, worker) => n + worker.n_trials, 0);
  const trials = `${shown < nStarted ? `the last ${shown} of ` : ""}${plural(nStarted, "trial")}`;
  const summary = `${plural(workers.length, "worker")} and ${trials}, in ${duration(totalS)}.`;
  const states = STATES.filter((state) => workers.some((worker) => worker.spans.some((span) => span.state === state)));
  const legend = states.flatMap((state) => [element("span", { class: `key ${state}` }, state), " "]);
  const columns = [{ title: "Worker" }, { title: "Trials", number: true }, { title: "Busy", number: true }];
  const numbers = table(
    "Use of workers",
    columns,
    workers.map((worker) => [nameOf(worker.worker), worker.n_trials, percent(worker.busy)]),
  );
  return figure(drawing(width, height, summary, times, rows, title), [summary, " ", legend], numbers, "Workers");
}
