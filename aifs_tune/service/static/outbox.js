// Requests that change something. They wait in this browser until the service has acknowledged them.
//
// Each has its idempotency key before the first try and is stored under a name of its own. So it outlives a reload, tabs
// do not overwrite each other's, and a request that two of them send, or that lost its response, is carried out once.

const PREFIX = "aifs_tune:waiting:";
const PAUSES_MS = [1000, 2000, 4000, 8000, 15_000];
const TIMEOUT_MS = 20_000;
const TEMPORARY = new Set([408, 425, 429, 500, 502, 503, 504]);

const unstored = new Map(); // of a browser that keeps nothing

function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16)); // crypto.randomUUID needs HTTPS
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Store an entry; return whether the browser keeps it over a reload. */
function store(entry) {
  try {
    localStorage.setItem(PREFIX + entry.key, JSON.stringify(entry));
    unstored.delete(entry.key);
    return true;
  } catch {
    unstored.set(entry.key, entry);
    return false;
  }
}

function remove(key) {
  unstored.delete(key);
  try {
    localStorage.removeItem(PREFIX + key);
  } catch {
    // a browser that keeps nothing
  }
}

function stored() {
  try {
    return Object.keys(localStorage)
      .filter((name) => name.startsWith(PREFIX))
      .map((name) => JSON.parse(localStorage.getItem(name)))
      .filter((entry) => entry !== null); // another tab has just removed it
  } catch {
    return [];
  }
}

/** All waiting entries, the oldest first. */
export function waiting() {
  return [...stored(), ...unstored.values()].sort((a, b) => a.at - b.at);
}

export function isKept(entry) {
  return !unstored.has(entry.key);
}

/** A response is an acknowledgement only if it is JSON: the login page of a guest network has status 200 too. */
async function read(response) {
  if (!/\bjson\b/.test(response.headers.get("Content-Type") ?? "")) return null;
  try {
    return await response.json();
  } catch {
    return null;
  }
}

async function send(entry) {
  const headers = {
    "Content-Type": "application/json",
    "Idempotency-Key": entry.key,
    "Aifs-Tune-Project": entry.project,
  };
  const body = JSON.stringify(entry.body);
  let response;
  try {
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    response = await fetch(entry.path, { method: "POST", headers, body, signal, redirect: "error" });
  } catch {
    return { isAgain: true, problem: "the service cannot be reached" };
  }
  const data = await read(response);
  if (data === null) return { isAgain: true, problem: "something else than the service answered" };
  if (response.ok) return { data };
  if (response.status === 401) return { isAgain: true, isSignedOut: true, problem: "you are signed out" };
  return { isAgain: TEMPORARY.has(response.status), problem: data.detail };
}

export class Outbox {
  #onChange;
  #onDone;
  #isSending = false;
  #timer = null;
  #nFailures = 0;
  problem = null; // why the last try failed
  isSignedOut = false;

  /** `onChange()` is called when entries come, go or are refused, `onDone(entry, data)` when one is acknowledged. */
  constructor(onChange, onDone) {
    this.#onChange = onChange;
    this.#onDone = onDone;
    addEventListener("storage", () => onChange()); // of another tab
    addEventListener("online", () => this.sendNow());
  }

  /** Store requests `{ path, body, project, kind, text, trial, study }`, then send them. */
  add(...requests) {
    const at = Date.now();
    requests.forEach((request, i) => store({ ...request, key: newKey(), at: at + i / 1000, refused: null }));
    this.#onChange();
    this.sendNow();
  }

  discard(entry) {
    remove(entry.key);
    this.#onChange();
  }

  /** Send a refused entry again. */
  retry(entry) {
    store({ ...entry, refused: null });
    this.sendNow();
  }

  sendNow() {
    clearTimeout(this.#timer);
    this.#nFailures = 0;
    this.#turn();
  }

  async #turn() {
    if (this.#isSending) return;
    this.#isSending = true;
    try {
      while (await this.#sendFirst());
    } finally {
      this.#isSending = false;
    }
    this.#onChange();
    if (this.problem === null) return;
    const pauseMs = PAUSES_MS[Math.min(this.#nFailures++, PAUSES_MS.length - 1)];
    this.#timer = setTimeout(() => this.#turn(), pauseMs);
  }

  /** Send the oldest entry that was not refused; return whether to go on with the next one. */
  async #sendFirst() {
    const entry = waiting().find((each) => each.refused === null);
    if (entry === undefined) {
      this.problem = null;
      this.isSignedOut = false;
      return false;
    }
    const { data, isAgain, isSignedOut, problem } = await send(entry);
    this.isSignedOut = Boolean(isSignedOut);
    this.problem = isAgain ? problem : null;
    if (data !== undefined) {
      remove(entry.key);
      this.#onDone(entry, data);
    } else if (!isAgain) {
      store({ ...entry, refused: problem });
    }
    this.#onChange();
    return !isAgain;
  }
}
