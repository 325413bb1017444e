// Brushing: ranges on the axes of a chart that choose trials, drawn with a mouse or typed. A range belongs to a column
// of the list of trials (`value`, `params.NAME`) and is `{ low, high }`, either of which may be null, or `{ choice }`.

import { element } from "./elements.js";

const PARAMS = "params.";

export const columnOf = (name) => `${PARAMS}${name}`;

/** Whether a choice can be written as a condition: conditions are separated by commas. */
export function canChoose(choice) {
  return ["number", "boolean"].includes(typeof choice) || (typeof choice === "string" && choice !== "" && choice.trim() === choice && !choice.includes(","));
}

/** Whether a trial lies in all ranges, a `Map` by column. */
export function isChosen(trial, ranges) {
  return [...ranges].every(([column, range]) => {
    const value = column === "value" ? trial.value : trial.params[column.slice(PARAMS.length)];
    if ("choice" in range) return value === range.choice;
    return Number.isFinite(value) && value >= (range.low ?? -Infinity) && value <= (range.high ?? Infinity);
  });
}

/** Conditions of the list of trials that mean the same. */
export function conditionsOf(ranges) {
  const textOf = (choice) => (typeof choice === "boolean" ? (choice ? "True" : "False") : String(choice));
  return [...ranges].flatMap(([column, range]) =>
    "choice" in range
      ? [`${column} = ${textOf(range.choice)}`]
      : [range.low === null ? null : `${column} >= ${range.low}`, range.high === null ? null : `${column} <= ${range.high}`].filter((each) => each !== null),
  );
}

function numbersField(column, title, ranges, onChoose) {
  const input = (end, word) =>
    element("input", {
      type: "number",
      step: "any",
      "aria-label": `${title}, ${word}`,
      placeholder: word,
      "data-column": column,
      "data-end": end,
      onchange: (event) => {
        const range = { low: null, high: null, ...ranges.get(column), [end]: event.target.value === "" ? null : Number(event.target.value) };
        onChoose(column, range.low === null && range.high === null ? null : range);
      },
    });
  return element("div", { role: "group", "aria-label": title }, element("span", {}, title), input("low", "at least"), input("high", "at most"));
}

function choiceField(column, title, { choices }, onChoose) {
  const possible = choices.filter(canChoose);
  const options = possible.map((choice, i) => element("option", { value: i }, String(choice)));
  const onchange = (event) => onChoose(column, event.target.value === "" ? null : { choice: possible[Number(event.target.value)] });
  const select = element("select", { "aria-label": title, "data-column": column, onchange }, element("option", { value: "" }, "any"), options);
  return element("div", {}, element("span", {}, title), select);
}

/** Create the fields of all axes; `onChoose(column, range)` gets a range, or null for none. */
export function rangeFields(space, metric, ranges, onChoose) {
  const free = Object.entries(space).filter(([, { type }]) => type !== "fixed");
  const fields = free.map(([name, parameter]) =>
    parameter.type === "choice"
      ? choiceField(columnOf(name), name, parameter, onChoose)
      : numbersField(columnOf(name), parameter.unit ? `${name} (${parameter.unit})` : name, ranges, onChoose),
  );
  return [...fields, numbersField("value", metric, ranges, onChoose)];
}

/** Show the ranges in the fields, also those that were drawn with the mouse. */
export function fillFields(place, space, ranges) {
  for (const field of place.querySelectorAll("[data-column]")) {
    const { column, end } = field.dataset;
    const range = ranges.get(column);
    if (end !== undefined) field.value = range?.[end] ?? "";
    else field.value = range === undefined ? "" : space[column.slice(PARAMS.length)].choices.filter(canChoose).indexOf(range.choice);
  }
}
