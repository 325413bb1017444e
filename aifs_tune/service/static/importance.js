// Parameter importance for each objective, as a table with bars.

import { element, table } from "./elements.js";
import { percent, plural } from "./formats.js";

function bar(share) {
  const inner = element("span", { class: "share" });
  inner.style.width = `${100 * share}%`;
  return element(
    "div",
    { class: "share-cell" },
    element("span", { class: "share-bar", "aria-hidden": "true" }, inner),
    element("span", { class: "share-text" }, percent(share)),
  );
}

export function importanceTables({ method, n_complete: nComplete, objectives }) {
  return objectives.map((objective) => {
    const shares = Object.entries(objective.importance);
    if (shares.length === 0)
      return element(
        "p",
        { class: "note" },
        `There are too few complete trials (${nComplete}) to compute the importance for ${objective.metric}.`,
      );
    const caption = `Importance of each parameter for ${objective.metric} (${method}, ${plural(nComplete, "complete trial")})`;
    return table(
      caption,
      [{ title: "Parameter" }, { title: "Importance" }],
      shares.map(([name, share]) => [name, bar(share)]),
    );
  });
}
