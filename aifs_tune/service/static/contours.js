// Contours: the objective by two parameters, as colour, interpolated between the complete trials.

import { figure, shape as mark, table } from "./elements.js";
import { axes, choiceScale, domainOf, drawing, scale } from "./scales.js";
import { number, parameterValue, plural } from "./formats.js";

const FRAME = { height: 360, left: 74, right: 20, top: 24, bottom: 40 };
const [CELLS, LEVELS, KEY_HEIGHT] = [30, 8, 44];

/** An axis of one parameter: `at` for positions, and the cells along it, each `{ from, to, value }`. */
function axisOf(parameter, values, from, to) {
  if (parameter.type === "choice") {
    const at = choiceScale(parameter.choices, from, to);
    const half = at.scaled.bandwidth() / 2;
    const cells = parameter.choices.map((value) => ({ from: at(value) - half, to: at(value) + half, value }));
    return { at, cells, distance: (a, b) => (JSON.stringify(a) === JSON.stringify(b) ? 0 : Infinity) };
  }
  const isBounded = Number.isFinite(parameter.low) && Number.isFinite(parameter.high);
  const [low, high] = isBounded ? [parameter.low, parameter.high] : domainOf(values);
  const at = scale(low, high, from, to, Boolean(parameter.log) && low > 0);
  const size = (to - from) / CELLS;
  const cells = Array.from({ length: CELLS }, (_, i) => ({ from: from + i * size, to: from + (i + 1) * size, position: from + (i + 0.5) * size }));
  return { at, cells, distance: (cell, value) => (cell - at(value)) / (to - from) };
}

/** Mean of the values, weighted by the inverse square of their distance (Shepard 1968); null where none is near. */
function interpolated(cellX, cellY, x, y, points) {
  let [sum, weights] = [0, 0];
  for (const point of points) {
    const dx = x.distance(cellX.position ?? cellX.value, point.x);
    const dy = y.distance(cellY.position ?? cellY.value, point.y);
    const weight = 1 / (dx * dx + dy * dy + 1e-9);
    sum += weight * point.value;
    weights += weight;
  }
  return weights > 0 ? sum / weights : null;
}

function levelOf(value, low, high) {
  return Math.min(LEVELS - 1, Math.max(0, Math.floor((LEVELS * (value - low)) / (high - low))));
}

function key(low, high, width) {
  const size = Math.min(30, (width - FRAME.left - FRAME.right) / LEVELS);
  const y = FRAME.height + 8;
  const boxes = Array.from({ length: LEVELS }, (_, i) => mark("rect", { class: `cell level-${i}`, x: FRAME.left + i * size, y, width: size, height: 12 }));
  const text = (x, value, anchor) => mark("text", { class: "tick", x, y: y + 27, "text-anchor": anchor }, number(value));
  return [...boxes, text(FRAME.left, low, "start"), text(FRAME.left + LEVELS * size, high, "end")];
}

/** Names of the parameters that can be an axis: the free ones. */
export function contourNames(space) {
  return Object.keys(space).filter((name) => space[name].type !== "fixed");
}

/** Draw the objective by the parameters `xName` and `yName`; null if no complete trial has both. */
export function contourFigure({ objective, trials }, space, [xName, yName], width) {
  const own = trials.filter((trial) => trial.state === "complete" && Number.isFinite(trial.value) && [xName, yName].every((name) => trial.params[name] !== undefined));
  if (own.length === 0) return null;
  const sign = objective.mode === "max" ? 1 : -1;
  const ranked = [...own].sort((a, b) => b.counts - a.counts || sign * (b.value - a.value));
  const best = ranked[0].counts ? ranked[0] : null;
  const [low, high] = domainOf(own.map((trial) => trial.value), best ? [best.value] : []);
  const valuesOf = (name) => own.map((trial) => trial.params[name]);
  const x = axisOf(space[xName], valuesOf(xName), FRAME.left, width - FRAME.right);
  const y = axisOf(space[yName], valuesOf(yName), FRAME.height - FRAME.bottom, FRAME.top);
  const points = own.map((trial) => ({ x: trial.params[xName], y: trial.params[yName], value: Math.min(Math.max(trial.value, low), high) }));
  const cells = x.cells.flatMap((cellX) =>
    y.cells.flatMap((cellY) => {
      const value = interpolated(cellX, cellY, x, y, points);
      if (value === null) return [];
      const [left, top] = [Math.min(cellX.from, cellX.to), Math.min(cellY.from, cellY.to)];
      const size = { width: Math.abs(cellX.to - cellX.from), height: Math.abs(cellY.to - cellY.from) };
      return [mark("rect", { class: `cell level-${levelOf(value, low, high)}`, x: left, y: top, ...size })];
    }),
  );
  const dots = [...ranked].reverse().map((trial) =>
    mark(
      "circle",
      { class: trial === best ? "dot best" : "dot outlined", cx: x.at(trial.params[xName]), cy: y.at(trial.params[yName]), r: trial === best ? 5 : 3 },
      mark("title", {}, `trial ${trial.trial}: ${xName} ${parameterValue(trial.params[xName])}, ${yName} ${parameterValue(trial.params[yName])}, ${objective.metric} ${number(trial.value)}`),
    ),
  );
  const titleOf = (name) => (space[name].unit ? `${name} (${space[name].unit})` : name);
  const frame = axes({
    ...FRAME,
    width,
    x: x.at,
    y: y.at,
    xTitle: titleOf(xName),
    yTitle: titleOf(yName),
    xKind: space[xName].type === "int" ? "whole" : "number",
    yKind: space[yName].type === "int" ? "whole" : "number",
  });
  const summary = `${objective.metric} by ${xName} and ${yName}: ${plural(own.length, "complete trial")}.${best ? ` The large circle is the best, trial ${best.trial}.` : ""}`;
  const columns = [
    { title: "Trial", number: true },
    ...[xName, yName].map((title) => ({ title, number: space[title].type !== "choice" })),
    { title: objective.metric, number: true },
  ];
  const rows = ranked.map((trial) => [trial.trial, parameterValue(trial.params[xName]), parameterValue(trial.params[yName]), number(trial.value)]);
  return figure(
    drawing(width, FRAME.height + KEY_HEIGHT, summary, cells, frame, dots, key(low, high, width)),
    `${summary} Between trials the colour is a mean weighted by inverse squared distance; the other parameters differ among them.`,
    table(`${objective.metric} by ${xName} and ${yName}, the best first`, columns, rows),
    "Contours",
  );
}
