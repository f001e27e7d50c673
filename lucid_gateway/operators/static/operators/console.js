// What all operator pages share: times in the viewer's zone, copied ids, the menu of narrow windows, two keys, and no secrets in searches.
"use strict";

const DAY = 24 * 3600 * 1000;
const dateAndTime = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit", hour12: false });
const thisYear = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hour12: false });
const timeOfDay = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });

function apart(milliseconds) {
  const minutes = Math.round(milliseconds / 60000);
  if (milliseconds < 60000) return `${Math.round(milliseconds / 1000)} s`;
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

// Under a day, a time is relative: alone in a table and in a part with `data-short-times`, beside the time of day elsewhere.
function localTime(moment, now, alone) {
  if (Math.abs(now - moment) < DAY) {
    const distance = apart(Math.abs(now - moment));
    const relative = moment <= now ? `${distance} ago` : `in ${distance}`;
    return alone ? relative : `${timeOfDay.format(moment)} (${relative})`;
  }
  return (moment.getFullYear() === now.getFullYear() ? thisYear : dateAndTime).format(moment);
}

function showTimes(part) {
  const now = new Date();
  for (const element of part.querySelectorAll("time[datetime]")) {
    const moment = new Date(element.dateTime);
    element.textContent = localTime(moment, now, element.closest("td, [data-short-times]") !== null);
    element.dataset.utc ??= element.title;
    element.title = `${dateAndTime.format(moment)} here, ${element.dataset.utc}`;
  }
}

function isCutOff(text) {
  return text.scrollWidth > text.clientWidth || text.scrollHeight > text.clientHeight + 1;
}

// Ids have a button of their own; every other text gets one where it is cut off.
function offerCopies(part) {
  if (!navigator.clipboard) return;
  for (const button of part.querySelectorAll(".copy[hidden]")) button.hidden = false;
  for (const text of part.querySelectorAll(".cut, .who")) {
    const place = text.closest("a") ?? text;
    if (text.closest("button, .button") || place.nextElementSibling?.matches(".copy") || !isCutOff(text)) continue;
    const button = document.createElement("button");
    const whole = (text.title ? text : text.querySelector("[title]"))?.title ?? text.textContent;
    button.type = "button";
    button.className = "copy gap";
    button.dataset.copy = whole;
    button.setAttribute("aria-label", "Copy the whole text");
    place.after(button);
  }
}

// Pages that replace a part of themselves call this for it.
function refresh(part) {
  showTimes(part);
  offerCopies(part);
}

function onClick(event) {
  const copied = event.target.closest("[data-copy]");
  if (copied) {
    navigator.clipboard.writeText(copied.dataset.copy).then(() => copied.classList.add("done"));
    return;
  }
  const opener = document.querySelector(".button.menu");
  if (opener && (event.target === opener || !event.target.closest("#menu"))) {
    if (event.target === opener) event.preventDefault();  // without a script, the address alone opens the menu
    const menu = document.getElementById("menu");
    const open = event.target === opener && !menu.classList.contains("open");
    menu.classList.toggle("open", open);
    opener.setAttribute("aria-expanded", String(open));
    if (open) menu.querySelector("a, input").focus();
  }
  for (const details of document.querySelectorAll("details.filters[open], details.you[open]")) {
    if (!details.contains(event.target)) details.open = false;
  }
}

function jtiOf(claims) {
  try {
    return String(JSON.parse(atob(claims.replaceAll("-", "+").replaceAll("_", "/"))).jti ?? "");
  } catch {
    return "";
  }
}

// A pasted API key or token must not be sent: only the key's prefix or the token's id is searched for.
function withoutSecrets(text) {
  const key = text.match(/\b(lk_[a-z0-9]{12})_\S/);
  if (key) return key[1];
  const token = text.match(/\beyJ[\w-]{8,}\.([\w-]+)\.[\w-]*/);
  return token ? jtiOf(token[1]) : text;
}

// Search fields, and the fields of a form with `data-without-secrets`, are cleaned when something is pasted, and when
// they are sent. What is typed is not cut before it is complete: the next letters would follow the prefix.
function onInput(event) {
  if (event.data?.length === 1 || !event.target.closest("[data-without-secrets], input[type=search]")) return;
  const text = withoutSecrets(event.target.value);
  if (text !== event.target.value) event.target.value = text;
}

function onSubmit(event) {
  const fields = "[data-without-secrets] input[type=text], input[type=search]";
  for (const field of event.target.querySelectorAll(fields)) field.value = withoutSecrets(field.value.trim());
}

function onKey(event) {
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) || event.target.isContentEditable;
  if (event.key === "k" && (event.ctrlKey || event.metaKey)) {
    const find = document.querySelector("[data-find] input[name=q]");
    if (find) {
      event.preventDefault();
      document.getElementById("menu").classList.add("open");
      find.focus();
    }
  } else if (event.key === "/" && !typing) {
    const search = document.querySelector("[data-focus-key='/']") || document.querySelector("[data-find] input[name=q]");
    if (search) {
      event.preventDefault();
      search.focus();
    }
  } else if (event.key === "Escape") {
    document.getElementById("menu")?.classList.remove("open");
    for (const details of document.querySelectorAll("details.filters[open], details.you[open]")) details.open = false;
  }
}

document.addEventListener("click", onClick);
document.addEventListener("input", onInput);
document.addEventListener("submit", onSubmit, true);
document.addEventListener("keydown", onKey);
refresh(document);
setInterval(() => showTimes(document), 30000);
window.lucidConsole = { refresh };
