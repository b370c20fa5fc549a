"""Style and script of the page of a trace. The script only sets classes and plain text, and draws on two canvases."""

STYLE = """body { max-width: 64rem; }
.controls { display: flex; gap: 1.2rem; flex-wrap: wrap; margin: 0.6rem 0; }
.controls select { font: inherit; max-width: 22rem; }
.panel { position: sticky; top: 0; z-index: 2; background: var(--ground); padding: 0.4rem 0; }
.panel { border-bottom: 1px solid var(--edge); }
.panel p { margin: 0.2rem 0; } .flag { font-weight: 700; color: #c2570c; }
canvas { display: block; width: 100%; cursor: crosshair; }
#whole { cursor: pointer; margin-top: 2px; }
#said { min-height: 2.6em; }
.legend { max-width: 28rem; background: #fff; color: #000; border: 1px solid var(--edge); border-radius: 6px; }
.legend { padding: 0.25rem 0.6rem; font-size: 0.8rem; print-color-adjust: exact; forced-color-adjust: none; }
.row { display: flex; justify-content: space-between; }
.row i { flex: 1; height: 0.7rem; } .row span { flex: 1; }
.row span:nth-child(2) { text-align: center; } .row span:nth-child(3) { text-align: right; }
.m { margin: 0.8rem 0; }
.m h2 { margin: 0; font-size: 0.75rem; text-transform: uppercase; letter-spacing: 0.05em; color: var(--soft); }
.b { padding: 0.5rem 0.8rem; border: 1px solid var(--edge); border-radius: 6px; white-space: pre-wrap; }
.b { overflow: hidden; overflow-wrap: anywhere; unicode-bidi: isolate; background: #fff; color: #000; }
.b { line-height: 1.8; tab-size: 4; print-color-adjust: exact; forced-color-adjust: none; }
.b b { font-weight: inherit; }
.b b:not([class]), .b b[class=""], .b b.at:not([class*=" "]) { font-size: 0.75rem; color: #6b6b70; }
.user .b, .system .b { margin-right: 12%; } .assistant .b, .assistant h2 { margin-left: 12%; }
#text:focus-visible { outline: 2px solid var(--soft); outline-offset: 4px; }
.b b.at { outline: 2px solid #000; border-radius: 2px; }
.surprising .s1 { border-top: 1px solid #b79bd1; } .surprising .s2 { border-top: 2px solid #8e5fb5; }
.surprising .s3 { border-top: 4px solid #5e2f8a; }
"""

# Numbers are [pieces]; `at` is the piece that is pointed at, `from` and `to` the window of the chart.
SCRIPT = """
"use strict";
const $ = id => document.getElementById(id), data = JSON.parse($("trace").textContent);
const spans = [...document.querySelectorAll("#text b")], n = spans.length, text = $("text");
const level = s => s === null ? "" : s >= 12 ? " s3" : s >= 7 ? " s2" : s >= 4 ? " s1" : "";
const starts = data.message.flatMap((m, i) => i && m === data.message[i - 1] ? [] : [i]);
let column = data.columns[data.first], at = -1, from = 0, to = n, line = [], loudness = [];
const sds = i => (column.values[i] - column.zero) / column.sd;
const text_of = x => Number(x).toString().replace("-", "\\u2212");
const show = (x, digits = 3) => x === null ? "\\u2013" : text_of(x.toPrecision(digits));

const name = i => data.roles[data.message[i]] + " " + data.message[i];

// The mean over neighbors of the same message: of its content alone, so that template tokens do not bend it.
function smooth(values) {
  const out = new Array(n).fill(null), half = data.window >> 1;
  for (const [k, start] of starts.entries()) {
    const end = starts[k + 1] ?? n, here = [];
    for (let i = start; i < end; i++) if (data.content[i] && values[i] !== null) here.push(i);
    here.forEach((i, j) => {
      const near = here.slice(Math.max(0, j - half), j + half + 1);
      out[i] = near.reduce((sum, t) => sum + values[t], 0) / near.length;
    });
  }
  return out;
}

function choose() {
  const direction = $("direction").value, layers = data.columns.filter(c => c.direction === direction);
  column = layers.find(c => String(c.layer) === $("layer").value) ?? layers.at(-1);
  $("layer").value = String(column.layer);
  line = smooth(column.values.map((v, i) => sds(i)));
  spans.forEach((span, i) => {
    if (!data.content[i]) return;
    const scaled = Math.max(-1, Math.min(1, sds(i) / data.full)), step = Math.ceil(Math.abs(scaled) * data.steps);
    span.className = (scaled < 0 ? "n" + step : step ? "p" + step : "z") + level(data.surprise[i]);
  });
  $("low").textContent = show(column.zero - data.full * column.sd) + " (\\u2212" + data.full + " sd)";
  $("zero").textContent = show(column.zero) + " (zero)";
  $("high").textContent = show(column.zero + data.full * column.sd) + " (+" + data.full + " sd)";
  $("words").textContent = column.direction + ", layer " + column.layer + ": " + column.words + "; 1 sd is " +
    show(column.sd) + ". Dots: tokens; line: mean over " + data.window + " of them; shaded: not the assistant.";
  $("doubt").hidden = !column.doubt;
  $("doubt").textContent = column.doubt;
  point(at);
  draw();
}

function point(i) {
  spans[at]?.classList.remove("at");
  at = i;
  if (i < 0) return;
  spans[i].classList.add("at");
  const shown = JSON.stringify(spans[i].textContent.replace("\\u21b5", ""));
  const others = data.columns.filter(c => c.layer === column.layer && c !== column).slice(0, 4);
  $("said").textContent = "token " + data.position[i] + " " + shown + ", " + name(i) +
    (data.content[i] ? "" : ", of the template") + ": " + column.direction + " " +
    show(column.values[i], 4) + ", " + show(sds(i)) + " sd from zero; surprise " + show(data.surprise[i]) + " nats" +
    others.map(c => "; " + c.direction + " " + show((c.values[i] - c.zero) / c.sd) + " sd").join("");
}

// The first piece whose lower edge is below y: the text is laid out in order.
function pieceAt(y) {
  let low = 0, high = n - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (spans[middle].getBoundingClientRect().bottom > y) high = middle; else low = middle + 1;
  }
  return low;
}

const edgeOfPanel = () => document.querySelector(".panel").getBoundingClientRect().bottom;

function prepare(canvas) {
  const scale = window.devicePixelRatio || 1, width = canvas.clientWidth, height = Number(canvas.dataset.height);
  canvas.width = width * scale;
  canvas.height = height * scale;
  canvas.style.height = height + "px";
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  return [pen, width, height];
}

function draw() {
  const first = pieceAt(edgeOfPanel()), last = pieceAt(window.innerHeight), room = Math.max(240, (last - first) * 1.3);
  from = Math.max(0, Math.min(Math.round((first + last - room) / 2), n - Math.round(room)));
  to = Math.min(n, from + Math.round(room));
  const colors = getComputedStyle(document.documentElement), ink = colors.getPropertyValue("--ink");
  const edge = colors.getPropertyValue("--edge"), loud = $("surprise").checked;
  const [pen, width, height] = prepare($("chart")), strip = loud ? 34 : 0, plot = height - strip - 18;
  const seen = []; for (let i = from; i < to; i++) if (data.content[i]) seen.push(sds(i));
  seen.sort((a, b) => a - b);
  const rank = share => seen[Math.floor(seen.length * share)] ?? 0;
  const reach = Math.max(data.full, -rank(0.01), rank(0.99));
  const x = i => 34 + (i - from + 0.5) / (to - from) * (width - 38);
  const y = v => 12 + (1 - Math.max(-1, Math.min(1, v / reach))) / 2 * plot;
  bands(pen, x, 12, plot, from, to, edge);
  pen.fillStyle = pen.strokeStyle = ink;
  pen.font = "11px system-ui, sans-serif";
  for (const v of [-data.full, 0, data.full]) pen.fillText(show(v) + (v ? "" : " sd"), 4, y(v) + 4);
  for (const i of starts) if (i >= from && i < to) pen.fillText(name(i), x(i), 10);
  pen.globalAlpha = 0.5;
  pen.beginPath(); pen.moveTo(34, y(0)); pen.lineTo(width, y(0)); pen.stroke();
  for (let i = from; i < to; i++) if (data.content[i]) {
    pen.fillStyle = sds(i) < 0 ? "#d9760f" : "#3f8fc5";
    pen.globalAlpha = 0.8;
    pen.beginPath(); pen.arc(x(i), y(sds(i)), 2, 0, 7); pen.fill();
  }
  pen.globalAlpha = 1;
  trail(pen, line, x, y, from, to, 1.8);
  if (loud) {
    const most = 15, low = height - 1;
    pen.fillStyle = "#8e5fb5";
    for (let i = from; i < to; i++) {
      const tall = Math.min(1, (data.surprise[i] ?? 0) / most) * (strip - 6);
      pen.fillRect(x(i) - 1, low - tall, 2, tall);
    }
    pen.fillStyle = ink;
    pen.fillText("nats", 4, low - 2);
  }
  if (at >= from && at < to) { pen.strokeStyle = ink; pen.strokeRect(x(at) - 3, 12, 6, plot); }
  whole(ink, edge, reach, first, last);
  $("chart").setAttribute("aria-label", "tokens " + data.position[from] + " to " + data.position[to - 1] + " on " +
    column.direction + ", layer " + column.layer + ", in standard deviations from zero");
}

function whole(ink, edge, reach, first, last) {
  const [pen, width, height] = prepare($("whole")), x = i => 34 + (i + 0.5) / n * (width - 38);
  bands(pen, x, 0, height, 0, n, edge);
  pen.strokeStyle = ink;
  trail(pen, line, x, v => (1 - Math.max(-1, Math.min(1, v / reach))) / 2 * height, 0, n, 1);
  pen.strokeStyle = "#c2570c";
  pen.lineWidth = 2;
  pen.strokeRect(x(first), 1, Math.max(4, x(last) - x(first)), height - 2);
}

function bands(pen, x, y, height, begin, end, color) {
  pen.fillStyle = color;
  pen.globalAlpha = 0.35;
  for (const [k, start] of starts.entries()) {
    const stop = starts[k + 1] ?? n;
    if (data.roles[data.message[start]] === "assistant" || stop <= begin || start >= end) continue;
    const left = x(Math.max(start, begin) - 0.5);
    pen.fillRect(left, y, x(Math.min(stop, end) - 0.5) - left, height);
  }
  pen.globalAlpha = 1;
}

function trail(pen, values, x, y, begin, end, thick) {
  pen.lineWidth = thick;
  pen.beginPath();
  let message = -1;
  for (let i = begin; i < end; i++) {
    if (values[i] === null) continue;
    if (data.message[i] === message) pen.lineTo(x(i), y(values[i])); else pen.moveTo(x(i), y(values[i]));
    message = data.message[i];
  }
  pen.stroke();
}

function go(i) {
  point(Math.max(0, Math.min(n - 1, i)));
  const box = spans[at].getBoundingClientRect(), top = edgeOfPanel();
  if (box.top < top + 20 || box.bottom > window.innerHeight - 20)
    window.scrollBy(0, box.top - (top + window.innerHeight) / 2);
  draw();
}

text.addEventListener("mouseover", event => {
  if (event.target.tagName === "B") { point(spans.indexOf(event.target)); draw(); }
});
text.addEventListener("focus", () => { if (at < 0) go(pieceAt(edgeOfPanel())); });
text.addEventListener("keydown", event => {
  const next = starts.find(i => i > at) ?? at, before = starts.filter(i => i < at).at(-1) ?? 0;
  const keys = { ArrowRight: at + 1, ArrowLeft: at - 1, ArrowDown: next, ArrowUp: before, Home: 0, End: n - 1 };
  if (!(event.key in keys) || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  go(keys[event.key]);
});
const spot = (event, begin, end) => {
  const box = event.currentTarget.getBoundingClientRect(), share = (event.clientX - box.left - 34) / (box.width - 38);
  return Math.max(begin, Math.min(end - 1, begin + Math.floor(share * (end - begin))));
};
$("chart").addEventListener("mousemove", event => { point(spot(event, from, to)); draw(); });
$("chart").addEventListener("click", event => go(spot(event, from, to)));
$("whole").addEventListener("click", event => go(spot(event, 0, n)));
for (const id of ["direction", "layer"]) $(id).addEventListener("change", choose);
$("surprise").addEventListener("change", () => {
  text.classList.toggle("surprising", $("surprise").checked);
  draw();
});
for (const id of ["chart", "whole"]) $(id).dataset.height = $(id).getAttribute("height");
let asked = false;
const again = () => { if (!asked) { asked = true; requestAnimationFrame(() => { asked = false; draw(); }); } };
window.addEventListener("scroll", again, { passive: true });
window.addEventListener("resize", again);
choose();
"""
