// Table of the best trials with their parameters, which can be copied into a sweep file.

import { scrollable, table } from "./elements.js";
import { number, parameterValue } from "./formats.js";
import { trialLink } from "./trial_link.js";
import { yamlButton } from "./yaml_dialog.js";

export function bestTable({ study, objective, trade_off: tradeOff, best, front }, space) {
  const tried = Object.keys(space).filter((name) => best.some((trial) => trial.params[name] !== undefined));
  const [names, fixed] = [true, false].map((isFree) =>
    tried.filter((name) => (space[name].type !== "fixed") === isFree),
  );
  const metrics = [objective, ...tradeOff].map((goal) => goal.metric);
  const inFront = new Set(front.map((trial) => trial.trial));
  const columns = [
    { title: "Trial", number: true },
    ...metrics.map((title) => ({ title, number: true })),
    ...(tradeOff.length ? [{ title: "Pareto front" }] : []),
    ...names.map((name) => ({
      title: space[name].unit ? `${name} (${space[name].unit})` : name,
      number: space[name].type !== "choice",
    })),
    { title: "Sweep file" },
  ];
  const rows = best.map((trial) => [
    trialLink(study, trial.trial),
    ...metrics.map((metric) => number(tradeOff.length ? trial.values[metric] : trial.value)),
    ...(tradeOff.length ? [inFront.has(trial.trial) ? "yes" : "–"] : []),
    ...names.map((name) => parameterValue(trial.params[name])),
    yamlButton(study, objective.metric, trial),
  ]);
  const caption = tradeOff.length
    ? `Trials with the best ${objective.metric}; a column marks those on the Pareto front`
    : `Trials with the best ${objective.metric}`;
  const same = fixed.map((name) => `${name} ${number(space[name].value)}`).join(", ");
  const described = same ? `${caption}. Fixed parameters: ${same}.` : caption;
  return scrollable("Best configurations, as a table", table(described, columns, rows));
}
