// The form of a rule: the numbers of the chosen tier as placeholders, and the fields that the tier can have.
"use strict";

const tier = document.getElementById("id_tier");
const TOTALS = ["concurrent_requests", "daily_quota"];
const RATES = ["limit", "burst"];

function showTier() {
  const chosen = tier ? tier.value : "";
  const row = document.querySelector(`.tiers tr[data-tier="${CSS.escape(chosen)}"]`);
  for (const name of RATES) {
    const input = document.getElementById(`id_${name}`);
    if (input) input.placeholder = row ? Number(row.dataset[name]).toLocaleString("en") : "";
  }
  for (const [names, wrong] of [[RATES, chosen === "all"], [TOTALS, chosen !== "" && chosen !== "all"]]) {
    for (const name of names) {
      const line = document.querySelector(`.field-${name}`);
      const input = document.getElementById(`id_${name}`);
      if (line && input) line.hidden = wrong && input.value === "" && !line.classList.contains("errors");
    }
  }
}

// Who types an exact time means it.
function chooseExact() {
  const exact = document.querySelector("input[name=lasts][value=until]");
  if (exact) exact.checked = true;
}

tier?.addEventListener("change", showTier);
document.getElementById("id_expires_at")?.addEventListener("input", chooseExact);
if (tier) showTier();
