// Scales from values to positions in a drawing, and axes, by D3.

import { shape } from "./elements.js";
import { duration, number } from "./formats.js";
import { axisBottom, axisLeft, extent, line, quantileSorted, scaleBand, scaleLinear, scaleLog, scalePoint, select, ticks, utcTicks } from "./vendor/d3.js";

const DAY_S = 86_400;
const LETTER_WIDTH = 7;

/** Map values from `low` to `high` to positions from `from` to `to`, values outside to the ends; by their logarithm with `isLog`. */
export function scale(low, high, from, to, isLog = false) {
  return (isLog ? scaleLog() : scaleLinear()).domain([low, high]).range([from, to]).clamp(true);
}

/** Map each choice, a value of any type, to the middle of its band between `from` and `to`; without `isBand`, to points from end to end. */
export function choiceScale(choices, from, to, isBand = true) {
  const texts = choices.map((choice) => JSON.stringify(choice));
  const scaled = isBand ? scaleBand(texts, [from, to]) : scalePoint(texts, [from, to]);
  const at = (choice) => scaled(JSON.stringify(choice)) + scaled.bandwidth() / 2;
  return Object.assign(at, { choices, scaled });
}

/** The begin of a text that has `room` px. */
export function shortened(text, room) {
  const limit = Math.max(2, Math.floor(room / LETTER_WIDTH));
  return text.length > limit ? `${text.slice(0, limit - 1)}…` : text;
}

function choiceText(json, room) {
  const choice = JSON.parse(json);
  return shortened(typeof choice === "string" ? choice : json, room);
}

/** About `count` round times from 0 to the end of a scale in seconds. */
function timeTicks(scaled, count) {
  const endS = scaled.domain()[1];
  if (endS > count * DAY_S) return ticks(0, endS / DAY_S, count).map((days) => days * DAY_S);
  return utcTicks(new Date(0), new Date(endS * 1000), count)
    .map((moment) => moment / 1000)
    .filter(Number.isInteger);
}

/** Range of values without outliers, which would squeeze the other values into a line; it always contains `always`. */
export function domainOf(values, always = []) {
  if (values.length === 0) return [0, 1];
  const sorted = [...values].sort((a, b) => a - b);
  const [first, third] = [0.25, 0.75].map((part) => quantileSorted(sorted, part));
  const reach = 3 * (third - first) || Infinity;
  const [low, high] = extent(sorted.filter((value) => value >= first - reach && value <= third + reach).concat(always));
  const margin = 0.05 * (high - low) || 0.05 * Math.abs(high) || 0.5;
  return [low - margin, high + margin];
}

/** Set about `count` tick marks of a `kind`: `number`, `whole` for integers alone, or `time` for seconds; of a logarithmic axis about `nTexts` have a text. */
function marked(axis, count, kind, nTexts = count) {
  const scaled = axis.scale();
  if (kind === "time") return axis.tickValues(timeTicks(scaled, count)).tickFormat(duration);
  const values = scaled.ticks(count).filter((value) => kind !== "whole" || Number.isInteger(value));
  return axis.tickValues(values).tickFormat(scaled.base ? scaled.tickFormat(nTexts, number) : number);
}

/** Draw an axis of D3; its marks without a text, which lie between two decades, are of the class `minor`. */
function drawnAxis(axis, kind, x, y) {
  const group = select(shape("g", {})).call(axis.tickSizeOuter(0));
  group.attr("class", kind).attr("transform", `translate(${x},${y})`).select(".domain").classed("axis", true);
  group.selectAll(".tick").filter((_, i, marks) => marks[i].textContent === "").classed("minor", true);
  return group;
}

/** Draw a horizontal axis at `y`, with a mark each `spacing` px and a grid of the height `grid`. */
export function axisBelow(x, y, { spacing, kind, grid = 0 }) {
  if (x.choices) {
    const axis = axisBottom(x.scaled).tickFormat((text) => choiceText(text, x.scaled.bandwidth()));
    return drawnAxis(axis.tickSizeInner(0).tickPadding(7), "axis-x", 0, y).node();
  }
  const [from, to] = x.range();
  const count = (to - from) / spacing;
  const group = drawnAxis(marked(axisBottom(x).tickSizeInner(4), count, kind, count / 2), "axis-x", 0, y);
  group.classed("with-grid", grid > 0).selectAll(".tick line").attr("y1", -grid);
  return group.node();
}

/** Draw a vertical axis at `x`, with a mark each `spacing` px and a grid of the width `grid`. */
function axisBeside(y, x, { spacing, kind, grid }) {
  if (y.choices) {
    const axis = axisLeft(y.scaled).tickFormat((text) => choiceText(text, x - 6));
    return drawnAxis(axis.tickSizeInner(0).tickPadding(6), "axis-y with-grid", x, 0).node();
  }
  const [from, to] = y.range();
  const group = drawnAxis(marked(axisLeft(y).tickSizeInner(-grid).tickPadding(6), (from - to) / spacing, kind), "axis-y with-grid", x, 0);
  group.selectAll(".minor line").attr("x2", 4);
  return group.node();
}

/** Draw a vertical axis at `x` that stands alone, with about `count` marks and the values `ends`; texts have `room`. */
export function axisAlone(y, x, { count, ends, room }) {
  if (y.choices) return drawnAxis(axisLeft(y.scaled).tickSizeInner(4).tickFormat((text) => choiceText(text, room)), "axis-y", x, 0).node();
  const axis = marked(axisLeft(y).tickSizeInner(4), count, "number");
  const format = axis.tickFormat();
  const apart = ends.filter((end) => axis.tickValues().every((value) => format(value) === "" || Math.abs(y(value) - y(end)) > 14));
  const values = axis.tickValues().filter((value) => !apart.includes(value));
  const textOf = (value) => (apart.includes(value) ? number(value) : format(value));
  return drawnAxis(axis.tickValues([...values, ...apart]).tickFormat(textOf), "axis-y", x, 0).node();
}

/** Draw two axes with grid and titles; `x` and `y` are their scales. */
export function axes({ width, height, left, right, top, bottom, x, y, xTitle, yTitle, xKind = "whole", yKind = "number", spacing = 90 }) {
  return [
    axisBeside(y, left, { spacing: 50, kind: yKind, grid: width - left - right }),
    axisBelow(x, height - bottom, { spacing, kind: xKind }),
    shape("text", { class: "title", x: (left + width - right) / 2, y: height - 4, "text-anchor": "middle" }, xTitle),
    shape("text", { class: "title", x: 2, y: top / 2 }, yTitle),
  ];
}

/** Create an SVG drawing with a description for screen readers. */
export function drawing(width, height, summary, ...parts) {
  const attributes = {
    class: "drawing",
    width,
    height,
    viewBox: `0 0 ${width} ${height}`,
    role: "img",
    "aria-label": summary,
  };
  return shape("svg", attributes, parts);
}

/** Attribute `d` of a line through points `[x, y]`, with the curve of D3 between them that is given. */
export function path(points, curve) {
  const through = line().digits(1);
  return (curve ? through.curve(curve) : through)(points);
}
