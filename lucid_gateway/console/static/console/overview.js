// The overview: draws the plots of each answer that refresh.js gets.
"use strict";

const page = document.getElementById("overview");
const charts = new Map();
const hourAndMinute = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", hour12: false });
let plots = [];

function token(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function faded(colour) {
  return `color-mix(in srgb, ${colour} 18%, transparent)`;
}

function amount(value, unit) {
  if (unit === "ms" && value >= 1000) return `${value / 1000} s`;
  return `${value.toLocaleString("en-GB")} ${unit}`;
}

// A value between two gaps is no line, so it is a dot.
function isAlone(values, at) {
  return values[at] !== null && (values[at - 1] ?? null) === null && (values[at + 1] ?? null) === null;
}

function lineOf(line, filled) {
  const colour = token(line.tone);
  return {
    label: line.name, data: line.values, borderColor: colour, backgroundColor: faded(colour), fill: filled ? "origin" : false,
    borderWidth: 1.5, pointRadius: (point) => (isAlone(line.values, point.dataIndex) ? 2 : 0), pointHitRadius: 8, tension: 0.2,
  };
}

function axes(plot) {
  const text = { color: token("faint"), font: { size: 11 } };
  return {
    x: { grid: { display: false }, border: { color: token("line") }, ticks: { ...text, maxTicksLimit: 6, maxRotation: 0, autoSkipPadding: 24 } },
    y: {
      beginAtZero: true, grid: { color: token("line") }, border: { display: false },
      ticks: { ...text, maxTicksLimit: 4, callback: (value) => amount(value, plot.unit) },
    },
  };
}

function options(plot) {
  return {
    animation: false, responsive: true, maintainAspectRatio: false, interaction: { mode: "index", intersect: false },
    scales: axes(plot),
    plugins: {
      legend: { display: false },
      tooltip: { callbacks: { label: (item) => `${item.dataset.label}: ${amount(item.parsed.y, plot.unit)}` } },
    },
  };
}

function dataOf(plot) {
  return {
    labels: plot.times.map((seconds) => hourAndMinute.format(new Date(seconds * 1000))),
    datasets: plot.lines.map((line) => lineOf(line, plot.filled)),
  };
}

function keyOf(line) {
  const key = document.createElement(line.url ? "a" : "span");
  if (line.url) key.href = line.url;
  key.className = `key ${line.tone}`;
  key.textContent = line.name;
  return key;
}

// The keys stay the same elements while the lines do, so that the keyboard keeps its place.
function drawKeys(legend, lines) {
  const known = Array.from(legend.children, (key) => key.textContent);
  if (known.join() !== lines.map((line) => line.name).join()) legend.replaceChildren(...lines.map(keyOf));
  lines.forEach((line, at) => {
    if (line.url) legend.children[at].href = line.url;
  });
}

// The canvas has no text: the picture behind it stays for those who have the page read aloud.
function draw(plot) {
  const card = page.querySelector(`[data-plot="${plot.name}"]`);
  if (!card || !window.Chart) return;
  const holder = card.querySelector(".canvas");
  drawKeys(card.querySelector(".legend"), plot.lines);
  const title = card.querySelector("h2 a");
  if (title) title.href = plot.url;
  holder.classList.toggle("flat", !plot.lines.some((line) => line.values.some((value) => value)));
  const chart = charts.get(plot.name);
  if (chart) {
    chart.data = dataOf(plot);
    chart.options = options(plot);
    chart.update();
    return;
  }
  const canvas = document.createElement("canvas");
  canvas.setAttribute("aria-hidden", "true");
  holder.append(canvas);
  holder.classList.add("drawn");
  charts.set(plot.name, new window.Chart(canvas, { type: "line", data: dataOf(plot), options: options(plot) }));
}

function drawAll() {
  for (const plot of plots) draw(plot);
}

if (page) {
  page.addEventListener("refreshed", (event) => {
    plots = event.detail.plots;
    drawAll();
  });
  new MutationObserver(drawAll).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
}
