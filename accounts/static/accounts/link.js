// The pages behind mailed links: what the link proves is in the fragment, and only the button posts it.
"use strict";

const form = document.getElementById("form");
const problem = document.getElementById("problem");
const link = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
const DEAD_LINK = "LUCID_ERR_2006";
const WRONG_CODE = "LUCID_ERR_2007";

function show(element, visible) {
  if (element) element.hidden = !visible;
}

function say(text, kind) {
  problem.textContent = text;
  problem.className = kind;
  show(problem, true);
}

function complain(text) {
  say(text, "problem");
}

function askFor(factors) {
  for (const label of form.querySelectorAll("[data-factor]")) {
    if (label.dataset.factor === "recovery_code" || factors.includes(label.dataset.factor)) show(label, true);
  }
  form.elements[factors[0]].focus();
  say("Your account asks for a second factor.", "hint");
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
    complain("This link works no more: it was used, or its time is over. Ask for a new one.");
    return;
  }
  if (error.code === WRONG_CODE) {
    complain("The code is wrong, or was used before.");
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
    complain("The gateway cannot be reached. Try again.");
  } finally {
    button.disabled = false;
  }
});

// Another link, opened in the same tab, changes the fragment alone: without this the page would go on with the old one.
window.addEventListener("hashchange", () => location.reload());

if (link.token) {
  const email = document.getElementById("email");
  if (email) email.textContent = link.email || "";
  show(form, true);
} else {
  complain("This link is not complete. Open it from the mail again.");
}
