// Parameter importance for each objective, as a table with bars.

import { element, scrollable, table } from "./elements.js";
import { percent, plural } from "./formats.js";

function bar({ importance: share, low, high }) {
  const inner = element("span", { class: "share" });
  inner.style.width = `${100 * share}%`;
  return element(
    "div",
    { class: "share-cell" },
    element("span", { class: "share-bar", "aria-hidden": "true" }, inner),
    element("span", { class: "share-text" }, `${percent(share)} (${percent(low)} to ${percent(high)})`),
  );
}

export function importanceTables({ method, n_complete: nComplete, remark, objectives }) {
  const notes = remark === null ? [] : [element("p", { class: "note" }, remark)];
  const tables = objectives
    .filter((objective) => objective.importance.length > 0)
    .map((objective) => {
      const caption = `Importance of each parameter for ${objective.metric} (${method}, ${plural(nComplete, "complete trial")})`;
      const columns = [{ title: "Parameter" }, { title: "Importance (95 % interval)" }];
      const rows = objective.importance.map((row) => [row.parameter, bar(row)]);
      return scrollable(`Importance for ${objective.metric}, as a table`, table(caption, columns, rows));
    });
  return [...tables, ...notes];
}
