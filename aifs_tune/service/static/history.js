// Every value that was reached, and the best so far.

import { element, figure, shape as mark, table } from "./elements.js";
import { axes, domainOf, drawing, path, scale } from "./scales.js";
import { moment, number, plural } from "./words.js";

const FRAME = { height: 280, left: 58, right: 14, top: 24, bottom: 40 };

export function historyFigure({ objective, n_ended: nEnded, best, trials }, width, along) {
  const began = Math.min(...trials.map((trial) => Date.parse(trial.finished_at)));
  const placeOf = along === "time" ? (entry) => (Date.parse(entry.finished_at) - began) / 1000 : (entry) => entry.ended;
  const last = Math.max(...trials.map(placeOf), along === "time" ? 1 : 2);
  const [low, high] = domainOf(
    trials.map((trial) => trial.value),
    best.map((entry) => entry.value),
  );
  const x = scale(along === "time" ? 0 : 1, last, FRAME.left, width - FRAME.right);
  const y = scale(low, high, FRAME.height - FRAME.bottom, FRAME.top);
  const xTitle = along === "time" ? "time since the first trial ended" : "trials ended";
  const frame = axes({ ...FRAME, width, x, y, xTitle, yTitle: objective.metric, isTime: along === "time" });
  const dots = trials.map((trial) =>
    mark(
      "circle",
      { class: `dot ${trial.state}`, cx: x(placeOf(trial)), cy: y(trial.value), r: 3 },
      mark("title", {}, `trial ${trial.trial}, ${trial.state}: ${number(trial.value)}`),
    ),
  );
  const steps = best.flatMap((entry, i) =>
    (i ? [[x(placeOf(entry)), y(best[i - 1].value)]] : []).concat([[x(placeOf(entry)), y(entry.value)]]),
  );
  if (best.length) steps.push([x(last), y(best.at(-1).value)]);
  const words = best.length
    ? `Best ${objective.metric} so far: ${number(best.at(-1).value)}, by trial ${best.at(-1).trial} of ${plural(nEnded, "trial")}.`
    : `${plural(nEnded, "trial")} ended, none of them complete.`;
  const shown = trials.length < nEnded ? ` ${trials.length} of them are drawn.` : "";
  const rows = [...best]
    .reverse()
    .map((entry) => [
      entry.trial,
      number(entry.value),
      entry.ended,
      element("span", { class: "moment" }, moment(entry.finished_at)),
    ]);
  const columns = [
    { title: "Trial", number: true },
    { title: objective.metric, number: true },
    { title: "Trials ended by then", number: true },
    { title: "Ended" },
  ];
  const lines = [mark("path", { class: "line best", d: path(steps) })];
  return figure(
    drawing(width, FRAME.height, words, frame, dots, lines),
    `${words}${shown} Hollow: pruned.`,
    table("Trials that were the best when they ended, the newest first", columns, rows),
    "Best value so far",
  );
}
