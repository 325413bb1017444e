// Sign-in: the token is sent once, in a header; the browser keeps only a session cookie that no script can read.

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

form.addEventListener("submit", signIn);
const SCOPES = ["read", "measure", "manage"];
const wanted = new URLSearchParams(location.search).get("scope") ?? "read";
for (const choice of form.querySelectorAll("input[name=scope]")) choice.checked ||= choice.value === wanted;
const response = await fetch("/v1/caller"); // a link from another site comes without the cookie
if (response.ok && SCOPES.indexOf((await response.json()).scope) >= SCOPES.indexOf(wanted)) location.replace(nextPage());
