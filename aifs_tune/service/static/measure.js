// Page beside an instrument: what to measure next, and the form for the result.

import { element, replace } from "./elements.js";
import { duration, moment, parameterValue, plural } from "./formats.js";
import { isKept, Outbox, waiting } from "./outbox.js";
import { resultForm } from "./result_form.js";
import { get, getBlob, pagePath, poll, ServiceError, showCaller } from "./service.js";
import { trialLink } from "./trial_link.js";

const name = decodeURIComponent(location.pathname.split("/")[2]);
const route = `/v1/studies/${encodeURIComponent(name)}`;
const REFRESH_MS = 5000;
const LEASES_S = [3600, 86_400, 604_800];
const OWNER = "aifs_tune:owner";

const review = document.getElementById("review");
const status = document.getElementById("status");
let study = null;
let caller = null;
let trials = [];
let chosen = null; // number of the trial on display

const byId = (id) => document.getElementById(id);
const content = (section) => document.querySelector(`#${section} .content`);
const mayMeasure = () => caller.scope !== "read";
const isOverdue = (trial) => Boolean(trial.lease?.is_overdue);
const waitsFor = (trial) => waiting().find((entry) => entry.study === name && entry.kind === "result" && entry.trial === trial);

function say(...parts) {
  status.replaceChildren(...parts);
}

const outbox = new Outbox(drawAll, (entry, data) => {
  if (entry.study !== name) return;
  if (entry.kind === "ask") {
    say(`Trial ${data.trials[0].trial} is yours.`);
    trials = [data.trials[0], ...trials];
    choose(data.trials[0].trial);
  } else if (entry.kind === "result") {
    say(`The result of trial ${entry.trial} is stored. `, trialLink(name, entry.trial, "Add a photo or file"));
    trials = trials.filter((trial) => trial.trial !== entry.trial);
    if (chosen === entry.trial) choose(null);
  }
});

function request(kind, trial, path, body, text) {
  return { kind, trial, path: `${route}/${path}`, body, text, study: name, project: caller.project };
}

/** Overdue trials first, then those whose lease ends soonest. */
function inOrder(list) {
  const due = (trial) => (trial.lease?.due_at ? Date.parse(trial.lease.due_at) : Infinity);
  return [...list].sort((a, b) => isOverdue(b) - isOverdue(a) || due(a) - due(b) || a.trial - b.trial);
}

function choose(trial) {
  chosen = trial;
  const query = new URLSearchParams(location.search);
  if (trial === null) query.delete("trial");
  else query.set("trial", trial);
  history.replaceState(null, "", `${location.pathname}${query.size ? `?${query}` : ""}`);
  return drawCurrent();
}

function leaseText({ lease }) {
  if (!lease) return "Not reserved.";
  const of = [lease.owner, lease.label].filter(Boolean).join(", ");
  const start = of ? `${of}: ` : "";
  if (!lease.due_at) return `${start}reserved without limit.`;
  const leftS = (Date.parse(lease.due_at) - Date.now()) / 1000;
  if (leftS < 0) return `${start}overdue since ${moment(lease.due_at)}. Another may be given this configuration.`;
  return `${start}reserved for ${duration(leftS)} more, until ${moment(lease.due_at)}.`;
}

async function extend(trial, leaseS) {
  const renewal = request("lease", trial, `trials/${trial}/renew`, { lease_s: leaseS }, `reserved for ${duration(leaseS)}`);
  outbox.add(renewal);
  say(`Trial ${trial} is being reserved for ${duration(leaseS)} from now.`);
}

function leaseParts(trial) {
  const buttons = LEASES_S.map((leaseS) =>
    element(
      "button",
      { type: "button", "data-key": `lease ${leaseS}`, onclick: () => extend(trial.trial, leaseS) },
      { 3600: "1 hour", 86400: "1 day", 604800: "1 week" }[leaseS],
    ),
  );
  return [
    element("p", { class: isOverdue(trial) ? "overdue" : "note" }, leaseText(trial)),
    mayMeasure()
      ? element("p", { class: "buttons", role: "group", "aria-label": "Extend from now on" }, "Extend from now: ", buttons)
      : null,
  ].filter(Boolean);
}

function settings(trial) {
  const free = Object.entries(trial.params).filter(([parameter]) => study.space[parameter]?.type !== "fixed");
  const fixed = Object.entries(trial.params).filter(([parameter]) => study.space[parameter]?.type === "fixed");
  return element(
    "dl",
    { class: "settings" },
    [...free, ...fixed].map(([parameter, value]) => {
      const { unit, description } = study.space[parameter] ?? {};
      return element(
        "div",
        {},
        element("dt", {}, parameter, description ? element("span", { class: "note" }, ` ${description}`) : null),
        element("dd", {}, rounded(value), unit ? element("span", { class: "unit" }, ` ${unit}`) : null),
        rounded(value) === exact(value) ? null : element("dd", { class: "exact note" }, `exactly ${exact(value)}`),
      );
    }),
  );
}

/** A number with six significant digits, which a person can read from afar and type. */
function rounded(value) {
  return typeof value === "number" && !Number.isInteger(value) ? String(Number(value.toPrecision(6))) : exact(value);
}

function exact(value) {
  return typeof value === "number" ? String(value) : parameterValue(value);
}

async function qrCode(trial) {
  const image = element("img", { class: "qr", alt: `QR code that opens trial ${trial} on another device` });
  const place = element("div", {}, image);
  try {
    const blob = await getBlob(`${route}/trials/${trial}/qr?scheme=${location.protocol.slice(0, -1)}`);
    image.addEventListener("load", () => URL.revokeObjectURL(image.src), { once: true });
    image.src = URL.createObjectURL(blob);
  } catch {
    place.replaceChildren(element("p", { class: "note" }, "The QR code cannot be loaded now."));
  }
  const isLocal = ["127.0.0.1", "localhost", "[::1]"].includes(location.hostname);
  place.append(
    element(
      "p",
      { class: "note" },
      isLocal
        ? "Opens this trial on this machine alone. For other devices start the service with --host."
        : "Opens this trial on another device, or from the label of a sample.",
    ),
  );
  return element("details", { "data-key": "qr" }, element("summary", {}, "QR code of this trial"), place);
}

async function noteOf(trial) {
  try {
    const { data } = await get(`${route}/notes`);
    return data.trials.find((entry) => entry.trial === trial)?.note ?? "";
  } catch {
    return "";
  }
}

function reviewResult({ body, note, text }, trial) {
  byId("review-text").textContent = `Trial ${trial}: ${text}${note ? `. Note: ${note}` : ""}`;
  review.returnValue = "";
  review.onclose = () => {
    if (review.returnValue !== "save") return;
    const requests = [request("result", trial, `trials/${trial}/tell`, body, text)];
    if (note !== null) requests.push(request("note", trial, `trials/${trial}/note`, { text: note }, "note"));
    outbox.add(...requests);
    say(`The result of trial ${trial} is being sent.`);
    drawCurrent();
  };
  review.showModal();
}

let nDrawn = 0;

/** Draw the chosen trial with an empty form; of two that overlap the later one counts, so that nothing typed is lost. */
async function drawCurrent() {
  nDrawn += 1;
  const own = nDrawn;
  const section = byId("current");
  const trial = trials.find((each) => each.trial === chosen);
  section.hidden = trial === undefined;
  if (trial === undefined) return drawAll();
  byId("current-title").textContent = `Trial ${trial.trial}${trial.lease?.label ? ` · ${trial.lease.label}` : ""}`;
  const parts = [settings(trial), element("div", { id: "lease-of-current" }, leaseParts(trial))];
  replace(content("current"), parts);
  drawAll();
  section.scrollIntoView({ block: "start" });
  const [note, code] = await Promise.all([noteOf(trial.trial), qrCode(trial.trial)]);
  if (own !== nDrawn || chosen !== trial.trial) return;
  const isEntered = waitsFor(trial.trial) !== undefined;
  const form = isEntered
    ? element("p", {}, "A result of this trial was entered here and waits to be acknowledged.")
    : resultForm({ metrics: study.metrics, limits: study.limits, note }, (result) => reviewResult(result, trial.trial));
  replace(content("current"), [...parts, mayMeasure() ? form : signInNote(), code]);
}

function signInNote() {
  const next = encodeURIComponent(location.pathname + location.search);
  return element(
    "p",
    {},
    "This session may only read. ",
    element("a", { href: `/sign-in?scope=measure&next=${next}` }, "Sign in to enter results"),
    " with a token of scope measure or manage.",
  );
}

function drawWaiting() {
  const entries = waiting();
  byId("waiting").hidden = entries.length === 0;
  const next = encodeURIComponent(location.pathname + location.search);
  const hint = outbox.isSignedOut
    ? [
        "You are signed out. ",
        element("a", { href: `/sign-in?scope=measure&next=${next}` }, "Sign in"),
        " and they are sent. They stay in this browser until then.",
      ]
    : outbox.problem === null
      ? "They are being sent."
      : `They are sent as soon as possible: ${outbox.problem}. They stay in this browser until then, also if the page is closed.`;
  const parts = [entries.some((entry) => entry.refused === null) ? element("p", {}, hint) : null];
  parts.push(element("ul", { class: "cards" }, entries.map(waitingCard)));
  replace(content("waiting"), parts.filter(Boolean));
}

/** Forget a refused entry; its trial can be entered again. */
function discard(entry) {
  outbox.discard(entry);
  if (entry.trial === chosen) drawCurrent();
}

function waitingCard(entry) {
  const what = entry.kind === "ask" ? "the next configuration" : `trial ${entry.trial}, ${entry.text}`;
  const buttons = [
    element("button", { type: "button", "data-key": `retry ${entry.key}`, onclick: () => outbox.retry(entry) }, "Send again"),
    element("button", { type: "button", "data-key": `discard ${entry.key}`, onclick: () => discard(entry) }, "Discard"),
  ];
  return element(
    "li",
    {},
    element("p", {}, `${entry.study}: ${what}`),
    isKept(entry) ? null : element("p", { class: "problem" }, "This browser stores nothing: keep the page open."),
    entry.refused === null ? null : element("p", { class: "problem" }, `Refused: ${entry.refused}`),
    entry.refused === null ? null : element("p", { class: "buttons" }, buttons),
  );
}

function runningCard(trial) {
  const isEntered = waitsFor(trial.trial) !== undefined;
  const shown = Object.entries(trial.params).map(([key, value]) => `${key} ${parameterValue(value)}`);
  const open = element(
    "button",
    {
      type: "button",
      "data-key": `open ${trial.trial}`,
      "aria-current": trial.trial === chosen,
      onclick: () => choose(trial.trial),
    },
    `Trial ${trial.trial}${trial.lease?.label ? ` · ${trial.lease.label}` : ""}`,
  );
  return element(
    "li",
    {},
    open,
    element("p", { class: "note" }, shown.join(", ")),
    element("p", { class: isOverdue(trial) ? "overdue" : "note" }, isEntered ? "Entered, not yet acknowledged." : leaseText(trial)),
  );
}

function drawAll() {
  drawWaiting();
  if (study === null) return;
  byId("next").hidden = !mayMeasure();
  byId("running").hidden = trials.length === 0;
  const nOverdue = trials.filter(isOverdue).length;
  byId("running-title").textContent =
    `Being measured: ${plural(trials.length, "trial")}${nOverdue ? `, ${nOverdue} overdue` : ""}`;
  replace(content("running"), element("ul", { class: "cards" }, inOrder(trials).map(runningCard)));
  const current = trials.find((trial) => trial.trial === chosen);
  const lease = byId("lease-of-current");
  if (current && lease) replace(lease, leaseParts(current));
  byId("ask").querySelector("button").disabled = waiting().some((entry) => entry.kind === "ask" && entry.study === name);
}

async function allRunning() {
  const found = [];
  let after = -1;
  do {
    const { data } = await get(`${route}/trials?state=running&limit=1000&after=${after}`);
    found.push(...data.trials);
    after = data.next;
  } while (after !== null);
  return found;
}

async function refresh() {
  const isFirst = study === null;
  study = (await get(route)).data;
  trials = await allRunning();
  if (!isFirst) {
    if (chosen !== null && !trials.some((trial) => trial.trial === chosen)) await leaveFinished();
    drawAll();
    return;
  }
  const wanted = new URLSearchParams(location.search).get("trial");
  say(trials.length ? "" : mayMeasure() ? "Nothing is being measured. Get the next configuration." : "Nothing is being measured.");
  await choose(wanted === null ? (inOrder(trials)[0]?.trial ?? null) : Number(wanted));
  if (wanted !== null && !trials.some((trial) => trial.trial === chosen)) await leaveFinished();
  if (!mayMeasure() && trials.length === 0) replace(content("running"), signInNote());
}

/** Leave a trial that is no longer running, and say why. */
async function leaveFinished() {
  const gone = chosen;
  try {
    const { data } = await get(`${route}/trials/${gone}`);
    say(`Trial ${gone} is ${data.state}${data.worker ? ` (${data.worker})` : ""}: its result was entered elsewhere or earlier.`);
  } catch (error) {
    if (!(error instanceof ServiceError)) throw error;
    say(error.message);
  }
  await choose(null);
}

function showError(message) {
  byId("error").textContent = message ?? "";
  byId("error").hidden = message === null;
}

byId("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const [owner, label, lease] = ["owner", "label", "lease"].map((id) => byId(id).value.trim());
  try {
    localStorage.setItem(OWNER, owner);
  } catch {
    // a browser that keeps nothing
  }
  const body = { ...(owner && { owner }), ...(label && { label }), ...(lease && { lease_s: Number(lease) }) };
  outbox.add(request("ask", null, "ask", body, "the next configuration"));
  byId("label").value = "";
});
byId("name").textContent = name;
document.title = `Measure ${name} · aifs-tune`;
try {
  byId("owner").value = localStorage.getItem(OWNER) ?? "";
} catch {
  // a browser that keeps nothing
}
caller = await showCaller();
byId("study").href = pagePath(`/studies/${encodeURIComponent(name)}`);
await poll(refresh, REFRESH_MS, showError);
outbox.sendNow();
