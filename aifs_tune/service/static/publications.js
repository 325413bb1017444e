// Reports and bundles of a study: those that exist, and buttons that make new ones.

import { element, scrollable, table } from "./elements.js";
import { moment, size } from "./formats.js";
import { download, post, ServiceError } from "./service.js";
import { trialLink } from "./trial_link.js";

const KINDS = { html: "report (HTML)", pdf: "report (PDF)", zip: "bundle (ZIP)" };

const problem = document.getElementById("publication-problem");

/** Say in words what the last job does, or how it ended. */
export function jobText(job) {
  if (job === null) return "";
  const kind = KINDS[job.format];
  if (job.state === "running") return `A ${kind} is being made since ${moment(job.started_at)}${job.step === null ? "" : `: ${job.step}`}.`;
  return job.state === "failed" ? `The ${kind} could not be made: ${job.problem}` : `The ${kind} is complete.`;
}

/** Run the action of a button; an error is shown in words. */
async function attempt(action) {
  problem.hidden = true;
  try {
    await action();
  } catch (error) {
    problem.textContent = error instanceof ServiceError ? error.message : "The service cannot be reached.";
    problem.hidden = false;
    if (!(error instanceof ServiceError || error instanceof TypeError)) console.error(error);
  }
}

function publicationTable(study, publications, route) {
  const columns = [{ title: "Download" }, { title: "Made" }, { title: "Best trial", number: true }, { title: "Size", number: true }];
  const rows = publications.map(({ id, format, made_at: madeAt, trial, file, n_bytes: nBytes }) => [
    element(
      "button",
      {
        type: "button",
        "data-key": `download ${id}`,
        "aria-label": `${KINDS[format]} of ${moment(madeAt)}: download`,
        onclick: () => attempt(() => download(`${route}/publications/${id}`, file)),
      },
      KINDS[format],
    ),
    element("span", { class: "moment" }, moment(madeAt)),
    trialLink(study, trial),
    size(nBytes),
  ]);
  return scrollable("Reports and bundles, as a table", table("The newest first, each with the trial that was the best then", columns, rows));
}

/** Create the parts of the section; `begun` is called once a new report or bundle is being made. */
export function publicationParts({ study, publications, job }, route, caller, begun) {
  const make = async (format) => {
    await post(`${route}/publications`, { format });
    await begun();
  };
  const buttons = Object.entries(KINDS).map(([format, kind]) =>
    element(
      "button",
      { type: "button", "data-key": `make ${format}`, disabled: job?.state === "running", onclick: () => attempt(() => make(format)) },
      `Make a ${kind}`,
    ),
  );
  return [
    publications.length
      ? publicationTable(study, publications, route)
      : element("p", { class: "note" }, "There are none yet. A report is a document to read, a bundle a folder to publish."),
    caller.scope === "manage"
      ? element("div", { class: "buttons" }, buttons)
      : element("p", { class: "note" }, "New ones are made with a token of scope manage."),
  ];
}
