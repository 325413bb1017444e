// Links to the page of a trial.

import { element } from "./elements.js";
import { pagePath } from "./service.js";

export function trialLink(study, trial, text = String(trial)) {
  const href = pagePath(`/studies/${encodeURIComponent(study)}/trials/${trial}`);
  return element("a", { href, "data-key": `trial ${trial} of ${study}` }, text);
}
