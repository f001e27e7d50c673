// Keeps parts of a page current. For <div data-refresh="URL" data-stale="ID"> the URL is asked every five seconds, and
// with `data-at-once` also when the page opens. It answers with JSON: `parts` is the HTML of elements by their ids,
// `counts` are the numbers of the menu by the addresses of its pages, and `problem`, if not empty, says why the parts are
// not current. With a problem or without an answer the parts stay as they are, and the element ID says how old they are.
// A page with `data-problem` was not current when it was made. Nothing is asked while the page is hidden. Each answer is
// an event `refreshed` of the <div>, whose `detail` is the JSON.
"use strict";

const EVERY = 5000;
const shown = new Map();

function age(since) {
  const seconds = Math.round((Date.now() - since) / 1000);
  return seconds < 120 ? `${seconds} s` : `${Math.round(seconds / 60)} min`;
}

async function ask(url) {
  let answer;
  try {
    answer = await fetch(url, { headers: { Accept: "application/json" }, redirect: "manual", signal: AbortSignal.timeout(EVERY) });
    if (answer.type === "opaqueredirect" || answer.status === 401 || answer.status === 403) return { problem: "you are signed out", signedOut: true };
    if (answer.status === 429) return { problem: "too many requests" };
    if (answer.ok) return await answer.json();
  } catch {
    return { problem: "the gateway does not answer" };
  }
  return { problem: `the gateway answers with status ${answer.status}` };
}

// The same control after the replacement, so that the keyboard does not lose its place.
function pathTo(element) {
  const control = element.closest("a, button");
  if (!control) return null;
  return control.matches("a") ? `a[href="${CSS.escape(control.getAttribute("href"))}"]` : `button[name="${CSS.escape(control.name)}"][value="${CSS.escape(control.value)}"]`;
}

function isBeingSelected(part) {
  const selection = document.getSelection();
  return !selection.isCollapsed && part.contains(selection.anchorNode);
}

// A part stays as it is while somebody presses a button of the mouse in it, whose click would be lost, or selects its text,
// or has the keyboard on a control that the new part does not have.
function replace(id, html) {
  const part = document.getElementById(id);
  if (!part || shown.get(id) === html || isBeingSelected(part) || part.matches(":active")) return;
  const content = document.createElement("template");
  content.innerHTML = html;
  const isFocused = part.contains(document.activeElement);
  const path = isFocused ? pathTo(document.activeElement) : null;
  if (isFocused && !(path && content.content.querySelector(path))) return;
  part.replaceChildren(content.content);
  shown.set(id, html);
  window.lucidConsole.refresh(part);
  if (path) part.querySelector(path).focus({ preventScroll: true });
}

// The numbers of the menu, which the frame shows only if they are not zero.
function showCount(address, count) {
  const link = document.querySelector(`#menu a[href="${CSS.escape(address)}"]`);
  if (!link) return;
  const number = link.querySelector(".count") || link.appendChild(document.createElement("span"));
  number.className = "count";
  number.textContent = String(count);
  number.hidden = count === 0;
}

function say(stale, found, current) {
  const since = current === null ? "The figures are not current" : `Figures are ${age(current)} old`;
  stale.hidden = !found.problem;
  stale.textContent = `${since}: ${found.problem}. `;
  if (!found.signedOut) return;
  const link = stale.appendChild(document.createElement("a"));
  link.href = location.href;
  link.textContent = "Sign in again";
}

function keepCurrent(area) {
  const stale = document.getElementById(area.dataset.stale);
  let current = "problem" in area.dataset ? null : Date.now();
  let timer = 0;
  let waits = false;

  async function update() {
    clearTimeout(timer);
    if (document.hidden || waits) return;
    waits = true;
    const found = await ask(area.dataset.refresh);
    waits = false;
    if (!found.problem) current = Date.now();
    if (found.parts && (!found.problem || current === null)) for (const [id, html] of Object.entries(found.parts)) replace(id, html);
    for (const [address, count] of Object.entries(found.counts || {})) showCount(address, count);
    say(stale, found, current);
    if (found.parts) area.dispatchEvent(new CustomEvent("refreshed", { detail: found }));
    if (!found.problem) area.dataset.refreshed = String(current);
    timer = setTimeout(update, EVERY);
  }

  document.addEventListener("visibilitychange", update);
  timer = setTimeout(update, "atOnce" in area.dataset ? 0 : EVERY);
}

for (const area of document.querySelectorAll("[data-refresh]")) keepCurrent(area);
