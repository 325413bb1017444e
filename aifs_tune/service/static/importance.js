// What each objective depends on: a table whose numbers are bars too.

import { element, table } from "./elements.js";
import { percent, plural } from "./words.js";

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
        `Too few trials are complete to say what ${objective.metric} depends on (${nComplete}).`,
      );
    const caption = `What a ${objective.mode === "max" ? "high" : "low"} ${objective.metric} depends on (${method}, ${plural(nComplete, "complete trial")})`;
    return table(
      caption,
      [{ title: "Parameter" }, { title: "Share" }],
      shares.map(([name, share]) => [name, bar(share)]),
    );
  });
}
