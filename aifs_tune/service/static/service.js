// What the pages ask of the service, and who they ask as.

import { element, replace } from "./elements.js";

const query = new URLSearchParams(location.search);
export const project = query.get("project");

export class Trouble extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

/** The answer to a GET and its tag; a browser that has the answer already is told so and sends it from its cache. */
export async function ask(path) {
  const headers = project === null ? {} : { "Aifs-Tune-Project": project };
  const response = await fetch(path, { headers, cache: "no-cache" });
  if (response.status === 401) {
    location.assign(`/sign-in?next=${encodeURIComponent(location.pathname + location.search)}`);
    return new Promise(() => {}); // the page is being left
  }
  const answer = await response.json();
  if (!response.ok) throw new Trouble(response.status, answer.detail);
  return { answer, tag: response.headers.get("ETag") };
}

/** The path of a page, in the same project. */
export function pagePath(path) {
  return project === null ? path : `${path}?project=${encodeURIComponent(project)}`;
}

async function signOut() {
  await fetch("/v1/session", { method: "DELETE" });
  location.assign("/sign-in");
}

/** Say at the top who looks at what. */
export async function showCaller() {
  const { answer: caller } = await ask("/v1/caller");
  const shown = [element("span", {}, `Project ${caller.project}`)];
  if (caller.authenticated_by === "session") shown.push(element("button", { type: "button", onclick: signOut }, "Sign out"));
  replace(document.getElementById("caller"), shown);
  for (const home of document.querySelectorAll("a.home")) home.href = pagePath("/");
  return caller;
}

/** Call `look` every `everyMs` while the page is seen; after errors less and less often. */
export function keepLooking(look, everyMs, told) {
  let pauseMs = everyMs;
  async function turn() {
    if (!document.hidden) {
      try {
        await look();
        pauseMs = everyMs;
        told(null);
      } catch (error) {
        if (error instanceof Trouble && error.status === 404) {
          told(error.message);
          return;
        }
        pauseMs = Math.min(2 * pauseMs, 30_000);
        const reason = error instanceof Trouble ? error.message : "the service cannot be reached";
        told(`What is shown may be old: ${reason}. Trying again.`);
        if (!(error instanceof Trouble || error instanceof TypeError)) console.error(error);
      }
    }
    setTimeout(turn, pauseMs);
  }
  return turn();
}
