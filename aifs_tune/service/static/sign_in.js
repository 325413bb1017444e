// Sign-in: the token is sent once, in a header; the browser keeps only a session cookie that no script can read.

import { element } from "./elements.js";

const REFUSED = {
  account: "The provider of the accounts did not confirm this account, or signing in took too long.",
  project: "This account has several projects. Choose one:",
  provider: "The provider of the accounts cannot be reached.",
  rights: "This account has no rights here, or none in this project.",
  scope: "This account may not do all that was wanted. What it may do is chosen above now; sign in again.",
};

const form = document.getElementById("sign-in");
const token = document.getElementById("token");
const error = document.getElementById("error");

function nextPage() {
  const next = new URL(new URLSearchParams(location.search).get("next") ?? "/", location.origin);
  return next.origin === location.origin ? next.pathname + next.search : "/";
}

async function signIn(event) {
  event.preventDefault();
  error.hidden = true;
  try {
    const headers = { Authorization: `Bearer ${token.value.trim()}` };
    const scope = form.querySelector("input[name=scope]:checked").value;
    const response = await fetch(`/v1/session?scope=${scope}`, { method: "PUT", headers });
    if (response.ok) {
      location.replace(nextPage());
      return;
    }
    const { detail } = await response.json();
    error.textContent = response.status === 401 ? "This token is not valid, or it is no longer valid." : detail;
  } catch {
    error.textContent = "This is not a token, or the service cannot be reached.";
  }
  error.hidden = false;
  token.select();
  token.focus();
}

/** List a link for each project that the account can choose, or one if the service finds the project itself. */
function showAccounts(provider) {
  const asked = new URLSearchParams(location.search);
  const scope = form.querySelector("input[name=scope]:checked").value;
  const projects = asked.get("projects")?.split(",") ?? [null];
  const links = projects.map((project) => {
    const query = new URLSearchParams({ next: nextPage(), scope, ...(project === null ? {} : { project }) });
    const name = project === null ? `Sign in at ${provider}` : `Sign in at ${provider} for ${project}`;
    return element("li", {}, element("a", { href: `/sign-in/openid?${query}` }, name));
  });
  document.getElementById("account-links").replaceChildren(...links);
  const refused = document.getElementById("refused");
  refused.textContent = REFUSED[asked.get("refused")] ?? "";
  refused.hidden = refused.textContent === "";
  document.getElementById("accounts").hidden = false;
}

form.addEventListener("submit", signIn);
const SCOPES = ["read", "measure", "manage"];
const wanted = new URLSearchParams(location.search).get("scope") ?? "read";
for (const choice of form.querySelectorAll("input[name=scope]")) choice.checked ||= choice.value === wanted;
const response = await fetch("/v1/caller"); // a link from another site comes without the cookie
if (response.ok && SCOPES.indexOf((await response.json()).scope) >= SCOPES.indexOf(wanted)) location.replace(nextPage());
const { openid } = await (await fetch("/sign-in/options")).json();
if (openid !== null) {
  showAccounts(openid);
  form.addEventListener("change", () => showAccounts(openid));
}
