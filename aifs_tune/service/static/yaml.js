// A configuration for a sweep file. JSON's scalars are YAML's, however odd the text in them.

const PLAIN = /^[A-Za-z_][A-Za-z0-9_]*$/;
const NOT_TEXT = /^(true|false|null|yes|no|on|off|y|n)$/i;

function key(name) {
  return PLAIN.test(name) && !NOT_TEXT.test(name) ? name : quoted(name);
}

function quoted(text) {
  return JSON.stringify(text).replace(/[\u007f-\uffff]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

function scalar(value) {
  if (typeof value === "string") return quoted(value);
  if (typeof value !== "number" || Number.isInteger(value)) return String(value);
  const text = String(value);
  return text.includes("e") && !text.includes(".") ? text.replace("e", ".0e") : text; // 1e-7 is a text in YAML 1.1
}

/** `space:` with fixed values, and in a comment where they come from. */
export function configuration(study, metric, trial) {
  const lines = [`# trial ${trial.trial} of ${study}: ${quoted(metric)} ${trial.value}`];
  if (trial.schedule?.length) lines.push("# what changed while it trained is not here: aifs-tune best --yaml has it");
  lines.push("space:");
  for (const [name, value] of Object.entries(trial.params)) lines.push(`  ${key(name)}: ${scalar(value)}`);
  return `${lines.join("\n")}\n`;
}
