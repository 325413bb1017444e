// Form in which the result of a trial is entered.

import { element } from "./elements.js";

const DECIMAL = /^[-+]?(\d+([.,]\d*)?|[.,]\d+)(e[-+]?\d+)?$/i;
const STATES = [
  ["complete", "Measured"],
  ["infeasible", "Infeasible"],
  ["failed", "Failed"],
];

/** Read a number as people write it, with a point or a comma; throw an Error that says what is wrong. */
export function readNumber(text) {
  const written = text.trim().replaceAll("−", "-").replace(/\s/g, "");
  if (written === "") throw new Error("is missing");
  if (!DECIMAL.test(written)) throw new Error(`"${text.trim()}" is not a number; write for example 0.71 or 7.1e-1`);
  if (/^[-+]?[1-9]\d{0,2},\d{3}$/.test(written))
    throw new Error(`"${text.trim()}" can be read in two ways; write ${written.replace(",", ".")} or ${written.replace(",", "")}`);
  const value = Number(written.replace(",", "."));
  if (!Number.isFinite(value)) throw new Error(`"${text.trim()}" is too large`);
  return value;
}

function field(id, title, input, note = null) {
  const described = note === null ? {} : { "aria-describedby": `${id}-note` };
  for (const [name, value] of Object.entries({ id, ...described })) input.setAttribute(name, value);
  return element(
    "p",
    {},
    element("label", { for: id }, title),
    input,
    note === null ? null : element("span", { class: "note", id: `${id}-note` }, note),
  );
}

/** Create the form: `onResult({ body, note, text })` gets what was entered once it is right. */
export function resultForm({ metrics, limits, note }, onResult) {
  const inputs = metrics.map((metric, i) => [
    metric,
    element("input", { inputmode: "decimal", autocomplete: "off", name: `metric-${i}` }),
  ]);
  const values = element(
    "div",
    {},
    inputs.map(([metric, input], i) => {
      const reads = element("span", { class: "note", id: `metric-${i}-reads` });
      const limit = limits.filter((each) => each.startsWith(metric)).join(", ");
      input.addEventListener("input", () => (reads.textContent = input.value.includes(",") ? readAs(input.value) : ""));
      return [field(`metric-${i}`, metric, input, limit ? `Limit: ${limit}` : null), reads];
    }),
  );
  const reason = element("textarea", { rows: 2, maxlength: 2000 });
  const noted = element("textarea", { rows: 2, maxlength: 2000 });
  noted.value = note;
  const why = element("div", { hidden: true }, field("reason", "Reason", reason));
  const problem = element("p", { class: "problem", role: "alert", hidden: true });
  const choices = STATES.map(([state, title]) => {
    const radio = element("input", { type: "radio", name: "state", value: state });
    radio.checked = state === "complete";
    return element("label", {}, radio, ` ${title}`);
  });
  const chosen = () => form.querySelector("input[name=state]:checked").value;
  const form = element(
    "form",
    { novalidate: true },
    element("fieldset", { class: "states" }, element("legend", {}, "Result"), choices),
    values,
    why,
    field("result-note", "Note", noted),
    problem,
    element("button", { class: "main" }, "Save the result"),
  );
  form.addEventListener("change", () => {
    values.hidden = chosen() === "failed";
    why.hidden = chosen() === "complete";
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    problem.hidden = true;
    try {
      const body = entered(chosen(), inputs, reason);
      onResult({ body, note: noted.value.trim() === note.trim() ? null : noted.value.trim(), text: inWords(body) });
    } catch (error) {
      problem.textContent = error.message;
      problem.hidden = false;
      error.input?.focus();
    }
  });
  return form;
}

function readAs(text) {
  try {
    return `Read as ${readNumber(text)}`;
  } catch (error) {
    return error.message;
  }
}

function entered(state, inputs, reason) {
  const body = { state };
  if (state !== "failed") {
    const value = {};
    for (const [metric, input] of inputs) {
      if (state === "infeasible" && input.value.trim() === "") continue; // what could not be measured
      try {
        value[metric] = readNumber(input.value);
      } catch (error) {
        throw Object.assign(new Error(`${metric} ${error.message}.`), { input });
      }
    }
    if (Object.keys(value).length) body.value = value;
  }
  const why = reason.value.trim();
  if (state === "failed" && why === "")
    throw Object.assign(new Error("The reason is missing: say why it failed."), { input: reason });
  if (state !== "complete" && why) body.reason = why;
  return body;
}

function inWords({ state, value = {}, reason }) {
  const numbers = Object.entries(value).map(([metric, measured]) => `${metric} ${measured}`);
  const parts = [...(state === "complete" ? [] : [state]), ...numbers, ...(reason ? [reason] : [])];
  return parts.join(", ");
}
