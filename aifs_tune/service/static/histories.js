// The best values of several studies as they went, in one chart.

import { figure, shape as mark, table } from "./elements.js";
import { axes, domainOf, drawing, path, scale } from "./scales.js";
import { number, plural } from "./formats.js";
import { curveStepAfter } from "./vendor/d3.js";

const FRAME = { height: 300, left: 58, right: 14, top: 24, bottom: 40 };
const KEY = { height: 20, line: 34, letter: 7 };

/** Rows below the axes that say which line is which study. */
function key(histories, width) {
  const limit = Math.floor((width - FRAME.left - KEY.line - 8) / KEY.letter);
  return histories.flatMap(({ study, series }, i) => {
    const y = FRAME.height + KEY.height * (i + 0.5);
    const text = study.length > limit ? `${study.slice(0, limit - 1)}…` : study;
    return [
      mark("path", { class: `line series-${series}`, d: path([[FRAME.left, y], [FRAME.left + KEY.line, y]]) }),
      mark("text", { class: "row", x: FRAME.left + KEY.line + 8, y: y + 4 }, text, mark("title", {}, study)),
    ];
  });
}

/** The points where the best value changed, and the last finished trial. */
function steps({ best, n_ended: nEnded }, x, y) {
  return [...best.map((entry) => [x(entry.order), y(entry.value)]), [x(nEnded), y(best.at(-1).value)]];
}

/** Draw histories of one objective, each with the number `series` of its line. */
export function historiesFigure({ metric, mode }, histories, width) {
  const drawn = histories.filter(({ best }) => best.length > 0);
  const x = scale(1, Math.max(2, ...histories.map((each) => each.n_ended)), FRAME.left, width - FRAME.right);
  const [low, high] = domainOf(
    drawn.flatMap(({ best }) => best.map((entry) => entry.value)),
    drawn.map(({ best }) => best.at(-1).value),
  );
  const y = scale(low, high, FRAME.height - FRAME.bottom, FRAME.top);
  const sign = mode === "max" ? -1 : 1;
  const ranked = [...drawn].sort((a, b) => sign * (a.best.at(-1).value - b.best.at(-1).value));
  const told = ranked.map(({ study, n_ended: n, best }) => `${study} ${number(best.at(-1).value)} (${plural(n, "trial")})`);
  const without = histories.filter(({ best }) => best.length === 0).map(({ study }) => study);
  const missing = without.length ? ` No trial is complete in ${without.join(", ")}.` : "";
  const summary = `Best ${metric} so far, the best study first: ${told.join(", ")}.${missing}`;
  const frame = axes({ ...FRAME, width, x, y, xTitle: "finished trials", yTitle: metric });
  const lines = drawn.map((history) =>
    mark("path", { class: `line series-${history.series}`, d: path(steps(history, x, y), curveStepAfter) }, mark("title", {}, history.study)),
  );
  const columns = [
    { title: "Study" },
    { title: "Trial", number: true },
    { title: metric, number: true },
    { title: "Trials finished by then", number: true },
  ];
  const rows = drawn.flatMap(({ study, best }) => [...best].reverse().map(({ trial, value, order }) => [study, trial, number(value), order]));
  return figure(
    drawing(width, FRAME.height + KEY.height * drawn.length, summary, frame, lines, key(drawn, width)),
    summary,
    table("Trials that improved the best value of their study, the newest first", columns, rows),
    `Best ${metric} so far, ${mode}`,
  );
}
