// Optimization history: the value of every trial, and the best value so far.

import { element, figure, shape as mark, table } from "./elements.js";
import { axes, domainOf, drawing, path, scale } from "./scales.js";
import { moment, number, plural } from "./formats.js";
import { curveStepAfter } from "./vendor/d3.js";

const FRAME = { height: 280, left: 58, right: 14, top: 24, bottom: 40 };

/** Draw the history; `isLog` for a logarithmic axis, where all values are positive. */
export function historyFigure({ objective, n_ended: nEnded, best, trials: all }, width, { xAxis, isLog, areStoppedHidden }) {
  const trials = areStoppedHidden && all.some(({ state }) => state === "complete") ? all.filter(({ state }) => state === "complete") : all;
  const smallest = Math.min(...trials.map((trial) => trial.value));
  const began = Math.min(...trials.map((trial) => Date.parse(trial.finished_at)));
  const placeOf = xAxis === "time" ? (entry) => (Date.parse(entry.finished_at) - began) / 1000 : (entry) => entry.order;
  const end = Math.max(...trials.map(placeOf), xAxis === "time" ? 1 : 2);
  const isLogarithmic = isLog && smallest > 0;
  const [low, high] = isLogarithmic
    ? [smallest, Math.max(...trials.map((trial) => trial.value), 1.001 * smallest)]
    : domainOf(
        trials.map((trial) => trial.value),
        best.map((entry) => entry.value),
      );
  const x = scale(xAxis === "time" ? 0 : 1, end, FRAME.left, width - FRAME.right);
  const y = scale(low, high, FRAME.height - FRAME.bottom, FRAME.top, isLogarithmic);
  const xTitle = xAxis === "time" ? "time since the first trial finished" : "finished trials";
  const frame = axes({ ...FRAME, width, x, y, xTitle, yTitle: objective.metric, xKind: xAxis === "time" ? "time" : "whole" });
  const dots = trials.map((trial) =>
    mark(
      "circle",
      { class: `dot ${trial.state}`, cx: x(placeOf(trial)), cy: y(trial.value), r: 3 },
      mark("title", {}, `trial ${trial.trial}, ${trial.state}: ${number(trial.value)}`),
    ),
  );
  const steps = best.map((entry) => [x(placeOf(entry)), y(entry.value)]);
  const last = best.at(-1);
  if (last) steps.push([x(end), y(last.value)]);
  const summary = last
    ? `Best ${objective.metric} so far: ${number(last.value)} in trial ${last.trial}, among ${plural(nEnded, "trial")} with a value.`
    : `${plural(nEnded, "trial")} finished, none of them complete.`;
  const linear = isLog && !isLogarithmic ? " The axis is linear: some values are not positive." : "";
  const shown = trials.length < nEnded ? ` ${trials.length} of them are shown.` : "";
  const rows = [...best]
    .reverse()
    .map((entry) => [
      entry.trial,
      number(entry.value),
      entry.order,
      element("span", { class: "moment" }, moment(entry.finished_at)),
    ]);
  const columns = [
    { title: "Trial", number: true },
    { title: objective.metric, number: true },
    { title: "Trials finished by then", number: true },
    { title: "Finished" },
  ];
  const lines = [mark("path", { class: "line best", d: path(steps, curveStepAfter) })];
  return figure(
    drawing(width, FRAME.height, summary, frame, dots, lines),
    `${summary}${shown}${linear} Hollow circles are pruned trials.`,
    table("Trials that improved the best value, the newest first", columns, rows),
    "Best value so far",
  );
}
