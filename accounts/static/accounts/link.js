// The pages behind mailed links: the token is in the URL fragment, and only the button posts it.
"use strict";

const form = document.getElementById("form");
const problem = document.getElementById("problem");
const link = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
const DEAD_LINK = "LUCID_ERR_2006";
const WRONG_CODE = "LUCID_ERR_2007";

function show(element, visible) {
  if (element) element.hidden = !visible;
}

function showMessage(text, kind) {
  problem.textContent = text;
  problem.className = kind;
  show(problem, true);
}

function showProblem(text) {
  showMessage(text, "problem");
}

function askFor(factors) {
  for (const label of form.querySelectorAll("[data-factor]")) {
    if (label.dataset.factor === "recovery_code" || factors.includes(label.dataset.factor)) show(label, true);
  }
  form.elements[factors[0]].focus();
  showMessage("Your account requires a second factor.", "hint");
}

function finish(answer) {
  show(form, false);
  show(problem, false);
  for (const name of ["access_token", "refresh_token"]) {
    const field = document.getElementById(name);
    if (field) field.value = answer[name];
  }
  show(document.getElementById("done"), true);
  history.replaceState(null, "", location.pathname);
}

function refuse(error) {
  if (error.details.required) {
    askFor(error.details.required);
    if (error.details.challenge) document.getElementById("challenge").value = error.details.challenge;
    return;
  }
  if (error.code === DEAD_LINK) {
    show(form, false);
    showProblem("This link has expired or was already used. Ask for a new one.");
    return;
  }
  if (error.code === WRONG_CODE) {
    showProblem("The code is wrong or was already used.");
    return;
  }
  const problems = (error.details.validation_errors || []).map((one) => one.message);
  const wait = error.details.retry_after ? ` Try again in ${error.details.retry_after} seconds.` : "";
  showProblem([error.message + ".", ...problems].join(" ") + wait);
}

async function post() {
  const typed = [...new FormData(form)].filter(([, value]) => value !== "");
  const response = await fetch(form.dataset.endpoint, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ ...link, ...Object.fromEntries(typed) }),
    credentials: "omit",
  });
  const answer = await response.json();
  if (response.ok) finish(answer);
  else refuse(answer.error);
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = form.querySelector("button");
  button.disabled = true;
  show(problem, false);
  try {
    await post();
  } catch {
    showProblem("The gateway is not reachable. Try again.");
  } finally {
    button.disabled = false;
  }
});

// A second link that is opened in the same tab changes only the fragment. Reload, or the page would use the old token.
window.addEventListener("hashchange", () => location.reload());

if (link.token) {
  const email = document.getElementById("email");
  if (email) email.textContent = link.email || "";
  show(form, true);
} else {
  showProblem("This link is incomplete. Open it from the mail again.");
}
