// Photos and files of a trial: those that it has, and a form that adds one.

import { element, replace } from "./elements.js";
import { download, get, postFile, ServiceError } from "./service.js";

const ENDINGS = [".jpg", ".jpeg", ".png", ".webp", ".pdf", ".csv", ".txt"];

const size = (bytes) => (bytes < 100_000 ? `${Math.ceil(bytes / 1000)} kB` : `${(bytes / 1e6).toFixed(1)} MB`);

function listed(route, { id, name, n_bytes: nBytes }) {
  const save = () => download(`${route}/${id}`, name);
  const label = `Download ${name}`;
  return element("li", {}, element("button", { type: "button", "data-key": `file ${id}`, "aria-label": label, onclick: save }, name), ` ${size(nBytes)}`);
}

/** Show the files at `route`, and with `mayAdd` the form that adds one; `show` gets the parts of the section. */
export async function filesSection(route, mayAdd, show) {
  const files = element("ul", { class: "files" });
  const none = element("p", { class: "note" }, "The trial has no photos or files.");
  const refresh = async () => {
    const { data } = await get(route);
    none.hidden = data.files.length > 0;
    replace(files, data.files.map((file) => listed(route, file)));
  };
  show([none, files, ...(mayAdd ? [form(route, refresh)] : [])]);
  await refresh();
}

function form(route, onAdded) {
  const chosen = element("input", { type: "file", id: "file", required: true, accept: ENDINGS.join(",") });
  const add = element("button", { type: "submit" }, "Add");
  const said = element("p", { role: "status" });
  async function send(event) {
    event.preventDefault();
    const [file] = chosen.files;
    add.disabled = true;
    said.textContent = `Sending ${file.name}…`;
    try {
      await postFile(`${route}?name=${encodeURIComponent(file.name)}`, file);
      said.textContent = `${file.name} is stored.`;
      chosen.value = "";
      await onAdded();
    } catch (error) {
      const reason = error instanceof ServiceError ? error.message : "the service cannot be reached";
      said.textContent = `${file.name} is not stored: ${reason}. It is still chosen: Add sends it again.`;
    } finally {
      add.disabled = false;
    }
  }
  const label = element("label", { for: "file" }, "Photo or file, up to 8 MB");
  return element("form", { onsubmit: send }, element("p", {}, label, " ", chosen, " ", add), said);
}
