// The best trials with their parameters, each to copy into a sweep file.

import { element, scrollable, table } from "./elements.js";
import { number } from "./words.js";
import { configuration } from "./yaml.js";

const dialog = document.getElementById("yaml");
const text = document.getElementById("yaml-text");
const told = document.getElementById("yaml-told");

function show(content) {
  text.value = content;
  told.textContent = "";
  dialog.showModal();
  text.focus();
  text.select();
}

async function copy() {
  text.select();
  try {
    await navigator.clipboard.writeText(text.value); // there only over HTTPS or on this machine
    told.textContent = "Copied.";
  } catch {
    told.textContent = "Selected: copy it with the keyboard.";
  }
}

document.getElementById("yaml-copy").addEventListener("click", copy);

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
    { title: "For a sweep file" },
  ];
  const rows = best.map((trial) => [
    trial.trial,
    ...metrics.map((metric) => number(tradeOff.length ? trial.values[metric] : trial.value)),
    ...(tradeOff.length ? [inFront.has(trial.trial) ? "yes" : "–"] : []),
    ...names.map((name) => number(trial.params[name])),
    element(
      "button",
      {
        type: "button",
        "data-key": `yaml ${trial.trial}`,
        "aria-label": `Trial ${trial.trial} as YAML`,
        onclick: () => show(configuration(study, objective.metric, trial)),
      },
      "YAML",
    ),
  ]);
  const which = tradeOff.length
    ? `The best in ${objective.metric}, and which are on the Pareto front`
    : `The ${best.length} with the best ${objective.metric}`;
  const same = fixed.map((name) => `${name} ${number(space[name].value)}`).join(", ");
  return scrollable("Best configurations, as a table", table(same ? `${which}; fixed: ${same}` : which, columns, rows));
}
