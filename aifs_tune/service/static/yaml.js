// Configuration of a trial as YAML for a sweep file. Every JSON scalar is also a YAML scalar.

const PLAIN = /^[A-Za-z_][A-Za-z0-9_]*$/;
const NOT_TEXT = /^(true|false|null|yes|no|on|off|y|n)$/i;

function key(name) {
  return PLAIN.test(name) && !NOT_TEXT.test(name) ? name : quoted(name);
}

function quoted(text) {
  return JSON.stringify(text).replace(/[\u007f-\uffff]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

function scalar(value) {
  if (value === null || Array.isArray(value)) return `{type: fixed, value: ${JSON.stringify(value)}}`;
  if (typeof value === "string") return quoted(value);
  if (typeof value !== "number" || Number.isInteger(value)) return String(value);
  const text = String(value);
  return text.includes("e") && !text.includes(".") ? text.replace("e", ".0e") : text; // 1e-7 is a string in YAML 1.1
}

/** Return `space:` with fixed values, and a comment with the trial they come from. */
export function configuration(study, metric, trial) {
  const lines = [`# trial ${trial.trial} of ${study}: ${quoted(metric)} ${trial.value}`];
  if (trial.schedule?.length) lines.push("# changes during training are left out; aifs-tune best --yaml prints them");
  lines.push("space:");
  for (const [name, value] of Object.entries(trial.params)) lines.push(`  ${key(name)}: ${scalar(value)}`);
  return `${lines.join("\n")}\n`;
}
