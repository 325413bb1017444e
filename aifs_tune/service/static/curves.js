// The objective of trials epoch by epoch.

import { figure, shape as mark, table } from "./elements.js";
import { axes, domainOf, drawing, path, scale } from "./scales.js";
import { number, plural } from "./words.js";

const FRAME = { height: 280, left: 58, right: 14, top: 24, bottom: 40 };

export function bestOf(curves, mode) {
  const sign = mode === "max" ? 1 : -1;
  const complete = curves.filter((curve) => curve.state === "complete" && curve.value !== null);
  return complete.reduce(
    (best, curve) => (best === null || sign * curve.value > sign * best.value ? curve : best),
    null,
  );
}

export function curvesFigure({ objective, n_curves: nCurves, curves }, width) {
  const best = bestOf(curves, objective.mode);
  const points = curves.flatMap((curve) => curve.points);
  const lastEpoch = Math.max(2, ...points.map(([epoch]) => epoch));
  const [low, high] = domainOf(
    points.map(([, value]) => value),
    best ? best.points.map(([, value]) => value) : [],
  );
  const x = scale(1, lastEpoch, FRAME.left, width - FRAME.right);
  const y = scale(low, high, FRAME.height - FRAME.bottom, FRAME.top);
  const ordered = [...curves].sort(
    (a, b) => (a === best) - (b === best) || (a.state === "running") - (b.state === "running"),
  );
  const lines = ordered.map((curve) => {
    const places = curve.points.map(([epoch, value]) => [x(epoch), y(value)]);
    const title = mark("title", {}, `trial ${curve.trial}, ${curve.state}: ${number(curve.value)}`);
    const kind = curve === best ? "best" : curve.state;
    if (places.length === 1)
      return mark(
        "circle",
        { class: `dot ${kind}`, cx: places[0][0], cy: places[0][1], r: kind === "best" ? 4 : 2.5 },
        title,
      );
    return mark("path", { class: `line ${kind}`, d: path(places) }, title);
  });
  const running = curves.filter((curve) => curve.state === "running").length;
  const words = `${plural(nCurves, "trial")} reported epochs, ${running} of these running${best ? `; the best, trial ${best.trial}, is the thick line` : ""}.`;
  const shown = curves.length < nCurves ? ` ${curves.length} are drawn.` : "";
  const columns = [
    { title: "Trial", number: true },
    { title: "State" },
    { title: "Last epoch", number: true },
    { title: `${objective.metric} there`, number: true },
    { title: `Best ${objective.metric}`, number: true },
  ];
  const rows = curves.map((curve) => [
    curve.trial,
    curve.state,
    curve.points.at(-1)[0],
    number(curve.points.at(-1)[1]),
    number(curve.value),
  ]);
  return figure(
    drawing(
      width,
      FRAME.height,
      words,
      axes({ ...FRAME, width, x, y, xTitle: "epoch", yTitle: objective.metric }),
      lines,
    ),
    `${words}${shown} Dashed: running.`,
    table("Learning curves", columns, rows),
    "Learning curves",
  );
}
