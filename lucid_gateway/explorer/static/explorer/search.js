// Keeps secrets out of the search: of a pasted API key only the prefix stays, of a token only its jti.
"use strict";

const WHOLE_KEY = /lk_([a-z0-9]{12})_[A-Za-z0-9_-]{43}/;
const TOKEN = /eyJ[A-Za-z0-9_-]{8,}\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+/;

function jtiOf(payload) {
  try {
    return String(JSON.parse(atob(payload.replaceAll("-", "+").replaceAll("_", "/"))).jti || "");
  } catch {
    return "";
  }
}

function withoutSecrets(text) {
  const key = text.match(WHOLE_KEY);
  if (key) return `lk_${key[1]}`;
  const token = text.match(TOKEN);
  return token ? jtiOf(token[1]) : text;
}

function clean(field) {
  const text = withoutSecrets(field.value);
  if (text !== field.value) field.value = text;
}

for (const form of document.querySelectorAll("form[data-without-secrets]")) {
  form.addEventListener("input", (event) => clean(event.target));
  form.addEventListener("submit", () => form.querySelectorAll("input[type=search], input[type=text]").forEach(clean));
}
