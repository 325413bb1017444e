// Parallel coordinates: each trial is a line across the parameters and the objective. Ranges drawn along the axes with a
// mouse choose trials.

import { canChoose, columnOf, isChosen } from "./brush.js";
import { figure, scrollable, shape as mark, table } from "./elements.js";
import { axisAlone, choiceScale, domainOf, drawing, path, scale, shortened } from "./scales.js";
import { number, parameterValue, plural } from "./formats.js";
import { leastIndex } from "./vendor/d3.js";

const [HEIGHT, TOP, BOTTOM, SIDE, MIN_SPACING] = [340, 44, 40, 64, 104];
const FOOT = HEIGHT - BOTTOM;
const [BRUSH_WIDTH, CLICK] = [24, 4];

/** Create an axis: a function from values to positions, the ends of its values, and the range between two positions. */
function axisOf(name, column, parameter, values) {
  if (parameter.type === "choice") {
    const position = choiceScale(parameter.choices, FOOT, TOP, false);
    const nearest = (y) => parameter.choices[leastIndex(parameter.choices, (a, b) => Math.abs(position(a) - y) - Math.abs(position(b) - y))];
    const rangeOf = (_from, to) => (canChoose(nearest(to)) ? { choice: nearest(to) } : null);
    return { name, column, position, ends: [], rangeOf, isClicked: true };
  }
  const isBounded = Number.isFinite(parameter.low) && Number.isFinite(parameter.high);
  const [low, high] = isBounded ? [parameter.low, parameter.high] : domainOf(values, parameter.always);
  const position = scale(low, high, FOOT, TOP, Boolean(parameter.log) && low > 0);
  const rangeOf = (from, to) => {
    const [top, foot] = [Math.min(from, to), Math.max(from, to)];
    const range = { low: foot > FOOT - CLICK ? null : valueAt(position, foot, parameter), high: top < TOP + CLICK ? null : valueAt(position, top, parameter) };
    return range.low === null && range.high === null ? null : range;
  };
  return { name: parameter.unit ? `${name} (${parameter.unit})` : name, column, position, ends: isBounded ? [low, high] : [], rangeOf, isClicked: false };
}

/** The value at a position of an axis, with three significant digits; whole for a whole parameter. */
function valueAt(position, y, { type }) {
  const value = position.invert(y);
  return type === "int" ? Math.round(value) : Number(value.toPrecision(3));
}

/** The area along an axis in which a range is drawn; a click without a movement chooses none, or one choice. */
function brushArea(axis, x, range, onChoose) {
  let from = null;
  const yOf = (event) => Math.min(Math.max(event.clientY - event.target.closest("svg").getBoundingClientRect().top, TOP), FOOT);
  const ends = range === undefined ? [] : "choice" in range ? [-8, 8].map((by) => axis.position(range.choice) + by) : [range.high ?? Infinity, range.low ?? -Infinity].map(axis.position);
  const shown = mark("rect", { class: "range", x: x - 6, y: ends[0] ?? TOP, width: 12, height: ends.length ? ends[1] - ends[0] : 0 });
  const area = mark("rect", {
    class: "brush",
    x: x - BRUSH_WIDTH / 2,
    y: TOP,
    width: BRUSH_WIDTH,
    height: FOOT - TOP,
    "data-column": axis.column,
    onpointerdown: (event) => {
      if (event.pointerType === "touch") return; // a finger scrolls the page
      from = yOf(event);
      event.target.setPointerCapture(event.pointerId);
    },
    onpointermove: (event) => {
      if (from === null || axis.isClicked) return;
      shown.setAttribute("y", Math.min(from, yOf(event)));
      shown.setAttribute("height", Math.abs(from - yOf(event)));
    },
    onpointerup: (event) => {
      if (from === null) return;
      const [start, end] = [from, yOf(event)];
      from = null;
      const drawn = axis.isClicked || Math.abs(start - end) >= CLICK ? axis.rangeOf(start, end) : null;
      onChoose(axis.column, "choice" in (range ?? {}) && drawn?.choice === range.choice ? null : drawn);
    },
  });
  return [shown, area];
}

function drawnAxis(axis, x, room, isLast) {
  return [
    axisAlone(axis.position, x, { count: 5, ends: axis.ends, room: room - 12 }),
    mark(
      "text",
      { class: "title", x: isLast ? x + 28 : x, y: 20, "text-anchor": isLast ? "end" : "middle" },
      shortened(axis.name, room),
      mark("title", {}, axis.name),
    ),
  ];
}

/** Draw the trials; those outside `ranges`, a `Map` by column, are faint. `onChoose(column, range)` gets a new range. */
export function parallelFigure({ objective, n_ended: nEnded, trials }, space, width, { ranges, onChoose }) {
  const names = Object.keys(space).filter((name) => space[name].type !== "fixed");
  const complete = trials.filter((trial) => trial.state === "complete");
  const sign = objective.mode === "max" ? -1 : 1;
  const ranked = [...complete].sort((a, b) => b.counts - a.counts || sign * (a.value - b.value));
  const good = new Set(ranked.slice(0, Math.max(1, Math.min(10, Math.round(nEnded / 10)))));
  const values = complete.map((trial) => trial.value);
  const columns = [
    ...names.map((name) =>
      axisOf(name, columnOf(name), space[name], trials.map((trial) => trial.params[name]).filter(Number.isFinite)),
    ),
    axisOf(objective.metric, "value", { always: [ranked[0].value] }, values),
  ];
  const full = Math.max(width, columns.length * MIN_SPACING + SIDE);
  const xOf = (i) => SIDE + (i * (full - SIDE - 30)) / Math.max(1, columns.length - 1);
  const lines = [...ranked].reverse().map((trial) => {
    const own = [...names.map((name) => trial.params[name]), trial.value];
    const places = own.map((value, i) => [xOf(i), value === undefined ? FOOT + 24 : columns[i].position(value)]);
    const kind = !isChosen(trial, ranges) ? "outside" : trial === ranked[0] && trial.counts ? "best" : good.has(trial) ? "good" : "other";
    return mark(
      "path",
      { class: `line ${kind}`, d: path(places) },
      mark("title", {}, `trial ${trial.trial}: ${number(trial.value)}`),
    );
  });
  const blue = good.size > 1 ? ` The ${good.size} best trials are blue.` : "";
  const best = " The thick line is the best trial. A line below an axis has no value for that parameter.";
  const summary = `${plural(complete.length, "complete trial")}.${blue}${best}`;
  const rows = ranked
    .filter((trial) => isChosen(trial, ranges))
    .slice(0, 100)
    .map((trial) => [trial.trial, number(trial.value), ...names.map((name) => parameterValue(trial.params[name]))]);
  const heads = [
    { title: "Trial", number: true },
    { title: objective.metric, number: true },
    ...names.map((title) => ({ title, number: space[title].type !== "choice" })),
  ];
  const drawn = drawing(
    full,
    HEIGHT,
    summary,
    lines,
    columns.map((axis, i) => drawnAxis(axis, xOf(i), Math.min(xOf(1) - xOf(0), 160), i === columns.length - 1)),
    columns.map((axis, i) => brushArea(axis, xOf(i), ranges.get(axis.column), onChoose)),
  );
  return figure(
    full > width ? scrollable("Parallel coordinates, scrollable", drawn) : drawn,
    summary,
    table("Complete trials in this plot, the best first", heads, rows),
    "Parallel coordinates",
  );
}
