// Dialog with the configuration of a trial as YAML, which can be copied into a sweep file.

import { element } from "./elements.js";
import { saveFile } from "./save_file.js";
import { configuration } from "./yaml.js";

const text = element("textarea", { id: "yaml-text", readonly: true, rows: 14, spellcheck: "false" });
const status = element("span", { role: "status" });
let filename = "";

async function copy() {
  text.select();
  try {
    await navigator.clipboard.writeText(text.value); // available only over HTTPS or on this machine
    status.textContent = "Copied.";
  } catch {
    status.textContent = "Copying is not possible here. The text is selected: press Ctrl+C.";
  }
}

const dialog = element(
  "dialog",
  { "aria-labelledby": "yaml-title" },
  element("h2", { id: "yaml-title" }, "Configuration"),
  element(
    "label",
    { for: "yaml-text" },
    "For a sweep file: replace the parameters with these names under ",
    element("code", {}, "space"),
  ),
  text,
  element(
    "form",
    { method: "dialog" },
    element("button", { type: "button", onclick: copy }, "Copy"),
    element("button", { type: "button", onclick: () => saveFile(new Blob([text.value], { type: "application/yaml" }), filename) }, "Save as a file"),
    element("button", {}, "Close"),
    status,
  ),
);
document.body.append(dialog);

/** Create a button that shows a trial as YAML. */
export function yamlButton(study, metric, trial) {
  const show = () => {
    text.value = configuration(study, metric, trial);
    filename = `${study}-trial-${trial.trial}.yaml`;
    status.textContent = "";
    dialog.showModal();
    text.focus();
    text.select();
  };
  return element(
    "button",
    {
      type: "button",
      "data-key": `yaml ${trial.trial}`,
      "aria-label": `Trial ${trial.trial} as YAML`,
      onclick: show,
    },
    "YAML",
  );
}
