// A token is sent once, in a header; what the browser keeps is a session's cookie that no script can read.

const form = document.getElementById("sign-in");
const token = document.getElementById("token");
const trouble = document.getElementById("trouble");

function nextPage() {
  const asked = new URL(new URLSearchParams(location.search).get("next") ?? "/", location.origin);
  return asked.origin === location.origin ? asked.pathname + asked.search : "/";
}

async function signIn(event) {
  event.preventDefault();
  trouble.hidden = true;
  try {
    const headers = { Authorization: `Bearer ${token.value.trim()}` };
    const response = await fetch("/v1/session", { method: "PUT", headers });
    if (response.ok) {
      location.replace(nextPage());
      return;
    }
    const told = await response.json();
    trouble.textContent = response.status === 401 ? "This token is not valid, or not any more." : told.detail;
  } catch {
    trouble.textContent = "This is no token, or the service cannot be reached.";
  }
  trouble.hidden = false;
  token.select();
  token.focus();
}

form.addEventListener("submit", signIn);
if ((await fetch("/v1/caller")).ok) location.replace(nextPage()); // a link from elsewhere comes without the cookie
