// Contours: the objective by two parameters, as colour, interpolated between the complete trials.

import { figure, shape as mark, table } from "./elements.js";
import { axes, choiceScale, domainOf, drawing, path, scale } from "./scales.js";
import { number, parameterValue, plural } from "./formats.js";
import { contours, curveLinearClosed, ticks } from "./vendor/d3.js";

const FRAME = { height: 360, left: 74, right: 20, top: 24, bottom: 40 };
const [CELLS, LEVELS, KEY_HEIGHT] = [30, 7, 44];
const EMPTY = 0.04;

/** An axis of one parameter: `at` for positions, and bands `{ from, size, cells }` with cells of `size` px: one band of all numbers, or one for each choice. */
function axisOf(parameter, values, from, to) {
  if (parameter.type === "choice") {
    const at = choiceScale(parameter.choices, from, to);
    const size = at.scaled.bandwidth() * Math.sign(to - from);
    const bands = parameter.choices.map((choice) => ({ from: at(choice) - size / 2, size, cells: [choice] }));
    return { at, bands, distance: (a, b) => (JSON.stringify(a) === JSON.stringify(b) ? 0 : Infinity) };
  }
  const isBounded = Number.isFinite(parameter.low) && Number.isFinite(parameter.high);
  const [low, high] = isBounded ? [parameter.low, parameter.high] : domainOf(values);
  const at = scale(low, high, from, to, Boolean(parameter.log) && low > 0);
  const size = (to - from) / CELLS;
  const cells = Array.from({ length: CELLS }, (_, i) => from + (i + 0.5) * size);
  return { at, bands: [{ from, size, cells }], distance: (cell, value) => (cell - at(value)) / (to - from) };
}

/** Mean of the values, weighted by the inverse square of their distance (Shepard 1968); null where none is near. */
function interpolated(cellX, cellY, x, y, points) {
  let [sum, weights] = [0, 0];
  for (const point of points) {
    const dx = x.distance(cellX, point.x);
    const dy = y.distance(cellY, point.y);
    const weight = 1 / (dx * dx + dy * dy + 1e-9);
    sum += weight * point.value;
    weights += weight;
  }
  return weights > 0 ? sum / weights : null;
}

function opacityOf(level, nLevels) {
  return EMPTY + ((1 - 2 * EMPTY) * level) / Math.max(1, nLevels - 1);
}

/** The cells with the outer ones twice: D3 cuts off the corners of its grid, which so lie outside of the band. */
const padded = ({ cells }) => [cells[0], ...cells, cells.at(-1)];
const inside = (i, n) => Math.min(Math.max(i - 1, 0), n);

/** Areas between the levels, the first below all `thresholds`, of the values in one band of each axis. */
function areas(bandX, bandY, x, y, points, thresholds) {
  const values = padded(bandY).flatMap((cellY) => padded(bandX).map((cellX) => interpolated(cellX, cellY, x, y, points)));
  if (values.includes(null)) return [];
  const levels = contours().size([padded(bandX).length, padded(bandY).length]).thresholds([-Infinity, ...thresholds])(values);
  const place = ([i, j]) => [bandX.from + inside(i, bandX.cells.length) * bandX.size, bandY.from + inside(j, bandY.cells.length) * bandY.size];
  const outlines = levels.map(({ coordinates }) => coordinates.flat().map((ring) => path(ring.map(place), curveLinearClosed)).join(""));
  return outlines.map((outline, i) =>
    mark("path", { class: "level", "fill-rule": "evenodd", "fill-opacity": opacityOf(i, levels.length), d: outline + (outlines[i + 1] ?? "") }),
  );
}

/** The colours of the levels, with the values between them. */
function key(thresholds, width) {
  const nLevels = thresholds.length + 1;
  const size = Math.min(48, (width - FRAME.left - FRAME.right) / nLevels);
  const y = FRAME.height + 8;
  const boxes = Array.from({ length: nLevels }, (_, i) => mark("rect", { class: "level", "fill-opacity": opacityOf(i, nLevels), x: FRAME.left + i * size, y, width: size, height: 12 }));
  const every = Math.ceil(40 / size);
  const texts = thresholds.map((value, i) =>
    i % every ? null : mark("text", { class: "tick", x: FRAME.left + (i + 1) * size, y: y + 27, "text-anchor": "middle" }, number(value)),
  );
  return [...boxes, ...texts];
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
  const thresholds = ticks(low, high, LEVELS);
  const filled = x.bands.flatMap((bandX) => y.bands.flatMap((bandY) => areas(bandX, bandY, x, y, points, thresholds)));
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
    drawing(width, FRAME.height + KEY_HEIGHT, summary, filled, frame, dots, key(thresholds, width)),
    `${summary} Between trials the colour is a mean weighted by inverse squared distance; the other parameters differ among them.`,
    table(`${objective.metric} by ${xName} and ${yName}, the best first`, columns, rows),
    "Contours",
  );
}
