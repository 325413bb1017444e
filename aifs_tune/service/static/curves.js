// Learning curves: the objective of each trial by epoch.

import { figure, shape as mark, table } from "./elements.js";
import { axes, domainOf, drawing, path, scale } from "./scales.js";
import { number, plural } from "./formats.js";

const FRAME = { height: 280, left: 58, right: 14, top: 24, bottom: 40 };

export function bestOf(curves, mode) {
  const sign = mode === "max" ? 1 : -1;
  const complete = curves.filter((curve) => curve.counts);
  return complete.reduce(
    (best, curve) => (best === null || sign * curve.value > sign * best.value ? curve : best),
    null,
  );
}

/** Draw the curves; `emphasized` is the number of a trial that is drawn thick and blue. */
export function curvesFigure({ objective, n_curves: nCurves, curves }, width, emphasized = null) {
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
    const kind = curve === best ? "best" : curve.trial === emphasized ? "good" : curve.state;
    if (places.length === 1)
      return mark(
        "circle",
        { class: `dot ${kind}`, cx: places[0][0], cy: places[0][1], r: kind === "best" ? 4 : 2.5 },
        title,
      );
    return mark("path", { class: `line ${kind}`, d: path(places) }, title);
  });
  const running = curves.filter((curve) => curve.state === "running").length;
  const thick = best ? ` The thick line is the best trial, ${best.trial}.` : "";
  const about = emphasized === null || emphasized === best?.trial ? "" : `The blue line is trial ${emphasized}.`;
  const summary = about ? `${about}${thick}` : `${plural(nCurves, "trial")} reported epochs, ${running} of them still running.${thick}`;
  const shown = curves.length < nCurves ? ` ${curves.length} of them are shown.` : "";
  const columns = [
    { title: "Trial", number: true },
    { title: "State" },
    { title: "Last epoch", number: true },
    { title: `Last ${objective.metric}`, number: true },
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
      summary,
      axes({ ...FRAME, width, x, y, xTitle: "epoch", yTitle: objective.metric }),
      lines,
    ),
    `${summary}${shown} Dashed lines are running trials.`,
    table("Learning curves", columns, rows),
    "Learning curves",
  );
}
