// Slices: the objective of each trial by the value of one parameter; and the objectives of several against each other.

import { element, figure, shape as mark, table } from "./elements.js";
import { axes, choiceScale, domainOf, drawing, scale } from "./scales.js";
import { number, parameterValue, plural } from "./formats.js";

const FRAME = { height: 240, left: 58, right: 20, top: 24, bottom: 40 };

/** Draw points `{ x, y, kind, text }` in one plot. */
function plot(points, width, { parameter, xTitle, yTitle, summary, isLog = false }) {
  const numbers = (key) => points.map((point) => point[key]).filter(Number.isFinite);
  const [low, high] = domainOf(numbers("y"));
  const isLogY = isLog && Math.min(...numbers("y")) > 0;
  const y = isLogY
    ? scale(Math.min(...numbers("y")), Math.max(...numbers("y")), FRAME.height - FRAME.bottom, FRAME.top, true)
    : scale(low, high, FRAME.height - FRAME.bottom, FRAME.top);
  const [from, to] = [FRAME.left, width - FRAME.right];
  const isBounded = Number.isFinite(parameter?.low) && Number.isFinite(parameter?.high);
  const [left, right] = isBounded ? [parameter.low, parameter.high] : domainOf(numbers("x"));
  const x = parameter?.type === "choice" ? choiceScale(parameter.choices, from, to) : scale(left, right, from, to, Boolean(parameter?.log) && left > 0);
  const frame = axes({
    ...FRAME,
    width,
    x,
    y,
    xTitle,
    yTitle,
    xKind: parameter?.type === "int" ? "whole" : "number",
    spacing: 60,
  });
  const dots = points.map((point) =>
    mark("circle", { class: `dot ${point.kind}`, cx: x(point.x), cy: y(point.y), r: point.kind === "best" ? 4.5 : 3 }, mark("title", {}, point.text)),
  );
  return drawing(width, FRAME.height, summary, frame, dots);
}

/** One figure for each free parameter that the trials have. */
export function sliceFigures({ objective, trials }, space, width, { isLog, areStoppedHidden }) {
  const shown = trials.filter((trial) => trial.value !== null && (trial.state === "complete" || !areStoppedHidden));
  const complete = shown.filter((trial) => trial.counts);
  const sign = objective.mode === "max" ? 1 : -1;
  const best = complete.reduce((a, b) => (a === null || sign * b.value > sign * a.value ? b : a), null);
  const names = Object.keys(space).filter((name) => space[name].type !== "fixed" && shown.some((trial) => trial.params[name] !== undefined));
  const ordered = [...shown].sort((a, b) => (a === best) - (b === best));
  return names.map((name) => {
    const own = ordered.filter((trial) => trial.params[name] !== undefined);
    const points = own.map((trial) => ({
      x: trial.params[name],
      y: trial.value,
      kind: trial === best ? "best" : trial.state,
      text: `trial ${trial.trial}, ${trial.state}: ${name} ${parameterValue(trial.params[name])}, ${objective.metric} ${number(trial.value)}`,
    }));
    const xTitle = space[name].unit ? `${name} (${space[name].unit})` : name;
    const summary = `${objective.metric} by ${name}: ${plural(own.length, "trial")}.`;
    const columns = [{ title: "Trial", number: true }, { title: "State" }, { title: name, number: space[name].type !== "choice" }, { title: objective.metric, number: true }];
    const rows = own.map((trial) => [trial.trial, trial.state, parameterValue(trial.params[name]), number(trial.value)]);
    return figure(
      plot(points, width, { parameter: space[name], xTitle, yTitle: objective.metric, summary, isLog }),
      summary,
      table(`${objective.metric} by ${name}`, columns, rows),
      `Slice of ${name}`,
    );
  });
}

/** One figure for each pair of objectives; the trials of the Pareto front are large. */
export function frontFigures({ objective, trials }, tradeOff, front, width) {
  const goals = [objective, ...tradeOff].map((goal) => goal.metric);
  const inFront = new Set(front.map((trial) => trial.trial));
  const complete = trials.filter((trial) => trial.state === "complete" && goals.every((goal) => Number.isFinite(trial.values[goal])));
  const ordered = [...complete].sort((a, b) => inFront.has(a.trial) - inFront.has(b.trial));
  const pairs = goals.flatMap((first, i) => goals.slice(i + 1).map((second) => [first, second]));
  return pairs.map(([yGoal, xGoal]) => {
    const points = ordered.map((trial) => ({
      x: trial.values[xGoal],
      y: trial.values[yGoal],
      kind: inFront.has(trial.trial) ? "best" : "complete",
      text: `trial ${trial.trial}: ${yGoal} ${number(trial.values[yGoal])}, ${xGoal} ${number(trial.values[xGoal])}`,
    }));
    const nFront = complete.filter((trial) => inFront.has(trial.trial)).length;
    const summary = `${yGoal} against ${xGoal}: ${plural(complete.length, "complete trial")}, ${nFront} of them on the Pareto front (large).`;
    const columns = [{ title: "Trial", number: true }, ...[yGoal, xGoal].map((title) => ({ title, number: true })), { title: "Pareto front" }];
    const rows = ordered.map((trial) => [trial.trial, number(trial.values[yGoal]), number(trial.values[xGoal]), inFront.has(trial.trial) ? "yes" : "–"]);
    return figure(
      plot(points, width, { parameter: null, xTitle: xGoal, yTitle: yGoal, summary }),
      summary,
      table("Objectives", columns, rows),
      `Pareto front of ${yGoal} and ${xGoal}`,
    );
  });
}

export function grid(figures) {
  return element("div", { class: "multiples" }, figures);
}
