// HTML and SVG elements. All content of a study becomes text, never markup.

import { savePicture } from "./picture.js";

const SVG = "http://www.w3.org/2000/svg";

function filled(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  const given = children.flat(Infinity).filter((child) => child !== null && child !== undefined);
  made.append(...given.map((child) => (child instanceof Node ? child : String(child))));
  return made;
}

/** Create an HTML element: `element("p", { class: "note" }, "text", other)`. Functions (`onclick`) become listeners. */
export function element(name, attributes, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** Create an SVG element, with the same arguments as `element`. */
export function shape(name, attributes, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

/** Replace the content of `parent` by `children`; keyboard focus, opened details and scroll positions are kept. */
export function replace(parent, children) {
  const focused = parent.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  const open = new Set([...parent.querySelectorAll("details[open]")].map((details) => details.dataset.key));
  const scrolled = [...parent.querySelectorAll(".scroll")].map((region) => region.scrollLeft);
  parent.replaceChildren(...[children].flat());
  for (const details of parent.querySelectorAll("details")) details.open = open.has(details.dataset.key);
  parent.querySelectorAll(".scroll").forEach((region, i) => (region.scrollLeft = scrolled[i] ?? 0));
  if (focused !== undefined) parent.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
}

/** Create a table: `columns` are `{ title, number }`, also with `content` and `attributes` of the heading; `rows` are lists of cells that begin with the row header. */
export function table(caption, columns, rows) {
  const kind = (i) => ({ class: columns[i].number ? "number" : null });
  const head = columns.map((column, i) => element("th", { scope: "col", ...kind(i), ...column.attributes }, column.content ?? column.title));
  const body = rows.map((row) =>
    element(
      "tr",
      {},
      row.map((cell, i) => element(i === 0 ? "th" : "td", i === 0 ? { scope: "row", ...kind(i) } : kind(i), cell)),
    ),
  );
  return element(
    "table",
    {},
    element("caption", {}, caption),
    element("thead", {}, element("tr", {}, head)),
    element("tbody", {}, body),
  );
}

/** Wrap content that may be wider than the page; it can be scrolled with the keyboard too. */
export function scrollable(label, ...content) {
  return element(
    "div",
    { class: "scroll", role: "region", "aria-label": label, tabindex: 0, "data-key": `scroll ${label}` },
    content,
  );
}

/** Create a figure: a drawing, its description in words, and its numbers in a table that can be opened. */
export function figure(drawing, summary, numbers, key) {
  const details = element(
    "details",
    { "data-key": key },
    element("summary", { "data-key": `${key} summary` }, "Show as a table"),
    scrollable(`${key}, as a table`, numbers),
  );
  const save = element(
    "button",
    {
      type: "button",
      "data-key": `${key} picture`,
      "aria-label": `${key}: save as SVG`,
      onclick: (event) => savePicture(event.target.closest("figure").querySelector("svg"), `${key}.svg`),
    },
    "Save as SVG",
  );
  const below = element("div", { class: "below" }, details, save);
  return element("figure", {}, drawing, element("figcaption", {}, summary), below);
}
