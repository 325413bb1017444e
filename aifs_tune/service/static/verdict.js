// Verdict on a study: whether its result is confirmed, by how much, and what to do next.

import { element, scrollable, table } from "./elements.js";
import { number } from "./formats.js";
import { pagePath } from "./service.js";

const BADGES = { confirmed: "Confirmed", "not confirmed": "Not confirmed", "not confirmed yet": "Not confirmed yet" };
const CLASSES = { confirmed: "good", "not confirmed": "bad" };

export const studyLink = (name) => element("a", { href: pagePath(`/studies/${encodeURIComponent(name)}`), "data-key": `study ${name}` }, name);
const range = (interval, confidence) => (interval === null ? "" : ` [${number(interval[0])}, ${number(interval[1])}] (${number(100 * confidence)} % interval)`);
const scoreText = ({ metric, mean, interval, confidence }) => `${metric} ${number(mean)}${range(interval, confidence)}`;

function facts({ confirmation, score, noise, final }) {
  const rows = [];
  if (score !== null) rows.push([score.configuration, `${scoreText(score)}, mean of ${score.n} splits`]);
  if (noise !== null) rows.push(["Noise", `${number(noise.sd)} (standard deviation, from ${noise.source})`]);
  if (final !== null) {
    const expected = final.score === null ? "" : `; expected on new examples: ${scoreText(final.score)}`;
    rows.push(["Final model", [studyLink(final.study), `, ${final.name}${expected}`]]);
  }
  if (confirmation !== null) rows.push(["Trained again in", studyLink(confirmation)]);
  if (rows.length === 0) return [];
  return element("dl", { class: "facts" }, rows.map(([title, shown]) => element("div", {}, element("dt", {}, title), element("dd", {}, shown))));
}

export function comparisonTable(comparisons) {
  const columns = [
    { title: "Configuration" },
    { title: "Verdict" },
    { title: "Difference", number: true },
    { title: "Interval", number: true },
    { title: "p", number: true },
  ];
  const rows = comparisons.map(({ name, verdict, difference, interval, confidence, p_adjusted: p }) => [
    name,
    verdict,
    number(difference),
    interval === null ? "–" : range(interval, confidence),
    p !== null && p < 0.001 ? "< 0.001" : number(p),
  ]);
  const caption = "Difference from the baseline: above 0 is better. p is adjusted by Holm's procedure.";
  return scrollable("Comparisons, as a table", table(caption, columns, rows));
}

/** Create a sentence that says what to do next, with its command; nothing where there is none. */
export function nextStep(text, command) {
  if (text === null) return [];
  return element("p", {}, element("strong", {}, "Next: "), text, command === null ? [] : [" ", element("code", {}, command)]);
}

/** Create the parts of the section: the verdict in words, its figures, remarks, and next_step with its command. */
export function verdictParts(verdict) {
  const { outcome, text, comparisons, remarks, next_step, command } = verdict;
  const badge = outcome === null ? null : element("strong", { class: `badge ${CLASSES[outcome] ?? ""}` }, BADGES[outcome]);
  const rest = outcome === null ? text : text.slice(BADGES[outcome].length).replace(/^[:.] */, " ");
  const details =
    comparisons.length === 0
      ? []
      : element(
          "details",
          { "data-key": "comparisons" },
          element("summary", { "data-key": "comparisons summary" }, "Compared with the baseline"),
          comparisonTable(comparisons),
        );
  return [
    element("p", { class: "lead" }, badge, rest),
    facts(verdict),
    nextStep(next_step, command),
    remarks.map((remark) => element("p", { class: "note" }, remark)),
    details,
  ].flat();
}
