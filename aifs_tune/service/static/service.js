// Requests of the pages to the service, and the signed-in caller.

import { element, replace } from "./elements.js";
import { saveFile } from "./save_file.js";

const query = new URLSearchParams(location.search);
export const project = query.get("project");

export class ServiceError extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

const ofProject = project === null ? {} : { "Aifs-Tune-Project": project };

/** Send a request; return its response, whatever its status but 401. */
async function fetched(path, options = {}) {
  const headers = { ...ofProject, ...options.headers };
  const response = await fetch(path, { cache: "no-cache", ...options, headers });
  if (response.status === 401) {
    location.assign(`/sign-in?next=${encodeURIComponent(location.pathname + location.search)}`);
    return new Promise(() => {}); // the page is being left
  }
  return response;
}

/** Send a GET request; return its JSON and ETag. The browser takes unchanged responses from its cache. */
export async function get(path) {
  const response = await fetched(path);
  const data = await response.json();
  if (!response.ok) throw new ServiceError(response.status, data.detail);
  return { data, tag: response.headers.get("ETag") };
}

async function posted(path, type, body) {
  const response = await fetched(path, { method: "POST", headers: { "Content-Type": type }, body });
  const data = await response.json();
  if (!response.ok) throw new ServiceError(response.status, data.detail);
  return data;
}

/** Send a POST request once; return its JSON. */
export const post = (path, body) => posted(path, "application/json", JSON.stringify(body));

/** Send a file by a POST request once; return its JSON. */
export const postFile = (path, file) => posted(path, "application/octet-stream", file);

/** Send a GET request; return its content as it is, such as an image. */
export async function getBlob(path) {
  const response = await fetched(path);
  if (!response.ok) throw new ServiceError(response.status, (await response.json()).detail);
  return response.blob();
}

/** Save what a GET request returns as a file. */
export async function download(path, filename) {
  saveFile(await getBlob(path), filename);
}

/** Return the path of a page in the same project. */
export function pagePath(path) {
  return project === null ? path : `${path}?project=${encodeURIComponent(project)}`;
}

/** Return the path of the page that compares studies of the same project. */
export function comparePath(studies) {
  const query = new URLSearchParams(studies.map((study) => ["studies", study]));
  if (project !== null) query.set("project", project);
  return `/compare?${query}`;
}

async function signOut() {
  await fetch("/v1/session", { method: "DELETE" });
  location.assign("/sign-in");
}

/** Show the project and the sign-out button at the top of the page. */
export async function showCaller() {
  const { data: caller } = await get("/v1/caller");
  const shown = [element("span", {}, `Project ${caller.project}`)];
  if (caller.authenticated_by === "session")
    shown.push(element("button", { type: "button", onclick: signOut }, "Sign out"));
  replace(document.getElementById("caller"), shown);
  for (const home of document.querySelectorAll("a.home")) home.href = pagePath("/");
  return caller;
}

/** Call `refresh` every `intervalMs` while the page is visible, and less often after errors; errors go to `onError`. */
export function poll(refresh, intervalMs, onError) {
  let pauseMs = intervalMs;
  async function turn() {
    if (!document.hidden) {
      try {
        await refresh();
        pauseMs = intervalMs;
        onError(null);
      } catch (error) {
        if (error instanceof ServiceError && error.status === 404) {
          onError(error.message);
          return;
        }
        if (error instanceof ServiceError && error.status === 422) {
          onError(error.message); // of what the reader typed
          return setTimeout(turn, intervalMs);
        }
        pauseMs = Math.min(2 * pauseMs, 30_000);
        const reason = error instanceof ServiceError ? error.message : "the service cannot be reached";
        onError(`This page may be out of date: ${reason}. Trying again.`);
        if (!(error instanceof ServiceError || error instanceof TypeError)) console.error(error);
      }
    }
    setTimeout(turn, pauseMs);
  }
  return turn();
}
