// Keeps a part of a page current: what is in <div data-refresh="URL" data-stale="ID"> is replaced every five seconds by
// the `html` that the URL answers as JSON. If there is none, or its `problem` says why it is not current, the part stays
// as it is, and the element with the id says how old it is. A part with `data-problem` was not current when the page was
// made. Nothing is fetched while the page is hidden.
"use strict";

const EVERY = 5000;

function age(since) {
  const seconds = Math.round((Date.now() - since) / 1000);
  return seconds < 120 ? `${seconds} s` : `${Math.round(seconds / 60)} min`;
}

async function fetchPart(url) {
  const answer = await fetch(url, { headers: { Accept: "application/json" }, credentials: "same-origin", signal: AbortSignal.timeout(EVERY) });
  if (answer.redirected || answer.status === 401 || answer.status === 403) return { problem: "you are signed out" };
  if (!answer.ok) return { problem: `the gateway answers with status ${answer.status}` };
  return answer.json();
}

// The same control after the replacement, so that the keyboard does not lose its place.
function pathTo(element, part) {
  const focused = part.contains(element) ? element.closest("a, button") : null;
  if (!focused) return null;
  return focused.matches("a") ? `a[href="${CSS.escape(focused.getAttribute("href"))}"]` : `button[name="${CSS.escape(focused.name)}"][value="${CSS.escape(focused.value)}"]`;
}

function isBeingSelected(part) {
  const selection = document.getSelection();
  return !selection.isCollapsed && part.contains(selection.anchorNode);
}

function replace(part, html) {
  if (isBeingSelected(part)) return;  // an operator copies an address: the next round comes soon
  const focused = pathTo(document.activeElement, part);
  part.innerHTML = html;
  window.lucidConsole.refresh(part);
  if (focused) part.querySelector(focused)?.focus({ preventScroll: true });
}

function keepCurrent(part) {
  const stale = document.getElementById(part.dataset.stale);
  let current = "problem" in part.dataset ? null : Date.now();

  async function update() {
    let found;
    try {
      found = await fetchPart(part.dataset.refresh);
    } catch {
      found = { problem: "the gateway does not answer" };
    }
    if (!found.problem) current = Date.now();
    if (found.html && (!found.problem || current === null)) replace(part, found.html);
    stale.hidden = !found.problem || current === null;
    if (!stale.hidden) stale.textContent = `Figures are ${age(current)} old: ${found.problem}`;
  }

  async function work() {
    if (!document.hidden) await update();
    setTimeout(work, EVERY);
  }

  setTimeout(work, EVERY);
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && Date.now() - current > EVERY) update();
  });
}

for (const part of document.querySelectorAll("[data-refresh]")) keepCurrent(part);
