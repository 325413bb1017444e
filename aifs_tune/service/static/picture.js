// A drawing as an SVG file that looks the same without the page's style sheet.

import { saveFile } from "./save_file.js";

const KEPT = ["fill", "fill-opacity", "stroke", "stroke-width", "stroke-opacity", "stroke-dasharray", "stroke-linejoin", "paint-order", "font-size", "font-family"];

export function savePicture(drawing, filename) {
  const copy = drawing.cloneNode(true);
  const [from, to] = [drawing, copy].map((root) => [root, ...root.querySelectorAll("*")]);
  from.forEach((original, i) => {
    const style = getComputedStyle(original);
    for (const name of KEPT) to[i].setAttribute(name, style.getPropertyValue(name));
  });
  const back = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  for (const [name, value] of Object.entries({ width: "100%", height: "100%", fill: getComputedStyle(document.documentElement).getPropertyValue("--card") }))
    back.setAttribute(name, value);
  copy.prepend(back);
  saveFile(new Blob([new XMLSerializer().serializeToString(copy)], { type: "image/svg+xml" }), filename);
}
