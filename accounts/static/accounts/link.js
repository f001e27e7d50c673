// The pages behind mailed links: what the link proves is in the fragment, and only the button posts it.
"use strict";

const form = document.getElementById("form");
const problem = document.getElementById("problem");
const link = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));

function show(element, visible) {
  if (element) element.hidden = !visible;
}

function complain(text) {
  problem.textContent = text;
  show(problem, true);
}

function askFor(factors) {
  const known = [...factors, "recovery_code"];
  for (const label of form.querySelectorAll("[data-factor]")) show(label, known.includes(label.dataset.factor));
  form.querySelector("[data-factor]:not([hidden]) input").focus();
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

function refuse(status, error) {
  const required = error.details.required;
  if (required) {
    askFor(required);
    complain("Your account asks for a second factor.");
    return;
  }
  const problems = (error.details.validation_errors || []).map((one) => one.message);
  const wait = error.details.retry_after ? ` Try again in ${error.details.retry_after} seconds.` : "";
  complain([error.message + ".", ...problems].join(" ") + wait);
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
  else refuse(response.status, answer.error);
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = form.querySelector("button");
  button.disabled = true;
  show(problem, false);
  try {
    await post();
  } catch {
    complain("The gateway cannot be reached. Try again.");
  } finally {
    button.disabled = false;
  }
});

if (link.token) {
  const email = document.getElementById("email");
  if (email) email.textContent = link.email || "";
  show(form, true);
} else {
  complain("This link is not complete. Open it from the mail again.");
}
