// Scales from values to positions in a drawing, tick marks and axes.

import { shape } from "./elements.js";
import { duration, number } from "./formats.js";

/** Map values from `low` to `high` linearly to positions from `from` to `to`; with `log`, map their logarithm. */
export function scale(low, high, from, to, log = false) {
  const transform = log ? Math.log : (value) => value;
  const span = transform(high) - transform(low) || 1;
  const at = (value) =>
    from + ((transform(Math.min(Math.max(value, low), high)) - transform(low)) / span) * (to - from);
  return Object.assign(at, { low, high, log });
}

const TIMES_S = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400];

/** About `count` round times within a scale in seconds. */
export function timeTicks(scaled, count) {
  const step = TIMES_S.find((size) => size >= (scaled.high - scaled.low) / count);
  if (step === undefined) return timeTicks({ low: 0, high: scaled.high / 86_400 }, count).map((days) => days * 86_400);
  return Array.from({ length: Math.floor(scaled.high / step) + 1 }, (_, i) => i * step);
}

/** About `count` round values within a scale; integers if `isInteger`. */
export function ticks({ low, high, log }, count, isInteger = false) {
  if (log) {
    const decades = [];
    for (let power = Math.ceil(Math.log10(low) - 1e-9); power <= Math.log10(high) + 1e-9; power++)
      decades.push(10 ** power);
    const every = Math.ceil(decades.length / count);
    if (decades.length > 1) return decades.filter((_, i) => i % every === 0);
  }
  if (!(high > low)) return [low];
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const round = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  const step = isInteger ? Math.max(1, round) : round;
  const marks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++)
    marks.push(Number((i * step).toPrecision(12)));
  return marks;
}

/** Range of values without outliers, which would squeeze the other values into a line; it always contains `always`. */
export function domainOf(values, always = []) {
  const sorted = [...values].sort((a, b) => a - b);
  if (sorted.length === 0) return [0, 1];
  const [first, third] = [0.25, 0.75].map((part) => sorted[Math.floor(part * (sorted.length - 1))]);
  const reach = 3 * (third - first) || Infinity;
  const kept = sorted.filter((value) => value >= first - reach && value <= third + reach).concat(always);
  const [low, high] = [Math.min(...kept), Math.max(...kept)];
  const margin = 0.05 * (high - low) || 0.05 * Math.abs(high) || 0.5;
  return [low - margin, high + margin];
}

/** Draw two axes with grid and titles; `x` and `y` are their scales, `{ isEmpty: true }` for one without tick marks. */
export function axes({ width, height, left, right, top, bottom, x, y, xTitle, yTitle, isTime = false, isWhole = true, isWholeY = false, spacing = 90 }) {
  const parts = [];
  for (const value of y.isEmpty ? [] : ticks(y, height / 50, isWholeY)) {
    parts.push(shape("line", { class: "grid", x1: left, x2: width - right, y1: y(value), y2: y(value) }));
    parts.push(shape("text", { class: "tick", x: left - 6, y: y(value) + 4, "text-anchor": "end" }, number(value)));
  }
  const xMarks = (width - left - right) / spacing;
  const xWords = isTime ? duration : number;
  for (const value of x.isEmpty ? [] : isTime ? timeTicks(x, xMarks) : ticks(x, xMarks, isWhole)) {
    parts.push(
      shape("line", { class: "mark", x1: x(value), x2: x(value), y1: height - bottom, y2: height - bottom + 4 }),
    );
    parts.push(
      shape("text", { class: "tick", x: x(value), y: height - bottom + 18, "text-anchor": "middle" }, xWords(value)),
    );
  }
  parts.push(shape("line", { class: "axis", x1: left, x2: width - right, y1: height - bottom, y2: height - bottom }));
  parts.push(
    shape("text", { class: "title", x: (left + width - right) / 2, y: height - 4, "text-anchor": "middle" }, xTitle),
  );
  parts.push(shape("text", { class: "title", x: 2, y: 12 }, yTitle));
  return parts;
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

export function path(points) {
  return points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
}
