// Text as it is shown, as a drawing: each piece where it stands, on the color behind it.
import { savePng, saveSvg } from "./export";

const SVG = "http://www.w3.org/2000/svg";
const HEAD = 34;

interface Piece { text: string; box: DOMRect }

/** The lines that a text node is broken into. */
function lines(node: Text): Piece[] {
  const range = document.createRange(), found: Piece[] = [];
  range.selectNodeContents(node);
  const boxes = range.getClientRects();
  if (boxes.length < 2) return boxes.length ? [{ text: node.data, box: boxes[0]! }] : [];
  let start = 0, at = 0, top: number | null = null;
  const cut = (end: number) => {
    if (end === start) return;
    range.setStart(node, start);
    range.setEnd(node, end);
    found.push({ text: node.data.slice(start, end), box: range.getBoundingClientRect() });
    start = end;
  };
  for (const sign of node.data) {
    range.setStart(node, at);
    range.setEnd(node, at + sign.length);
    const box = range.getClientRects()[0];
    if (box && box.width > 0 && (top === null || Math.abs(box.top - top) > 3)) {
      if (top !== null) cut(at);
      top = box.top;
    }
    at += sign.length;
  }
  cut(at);
  return found;
}

/** A drawing of all the text below an element, under a line that says what it is. */
export function pictured(root: HTMLElement, head: string): SVGSVGElement {
  const frame = root.getBoundingClientRect(), svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("width", String(Math.ceil(frame.width)));
  svg.setAttribute("height", String(Math.ceil(frame.height) + HEAD));
  const add = (name: string, attributes: Record<string, string | number>, text = "") => {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, typeof value === "number" ? value.toFixed(2) : value);
    element.textContent = text;
    svg.append(element);
  };
  const body = getComputedStyle(document.body);
  add("text", { x: 0, y: 16, fill: body.color, "font-size": "13px", "font-family": body.fontFamily, "font-weight": "600" }, head);
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT), under: [DOMRect, string, boolean][] = [], texts: (() => void)[] = [];
  for (let node = walker.nextNode() as Text | null; node; node = walker.nextNode() as Text | null) {
    const parent = node.parentElement!, style = getComputedStyle(parent), marked = parent.classList.contains("tok");
    for (const { text, box } of lines(node)) {
      if (marked) under.push([box, style.backgroundColor, parent.classList.contains("away")]);
      if (!text.trim()) continue;
      texts.push(() => add("text", {
        x: box.left - frame.left, y: box.top - frame.top + HEAD + box.height / 2, fill: style.color, "font-size": style.fontSize,
        "font-family": style.fontFamily, "font-weight": style.fontWeight, "dominant-baseline": "central", "xml:space": "preserve", textLength: box.width,
      }, text.replace(/\n+$/, "")));
    }
  }
  for (const [box, color, away] of under) {
    const x = box.left - frame.left, y = box.top - frame.top + HEAD;
    if (!/, 0\)$|transparent/.test(color)) add("rect", { x, y, width: box.width, height: box.height, fill: color });
    if (away) add("rect", { x, y: y + box.height - 2, width: box.width, height: 2, fill: "#b35806", "fill-opacity": 0.7 });
  }
  texts.forEach((draw) => draw());
  return svg;
}

/** Save the text below an element as SVG or PNG. */
export function savePicture(kind: "svg" | "png", name: string, root: HTMLElement | null, head: string): void {
  if (!root) return;
  const svg = pictured(root, head);
  svg.style.position = "absolute";
  svg.style.left = "-99999px";
  document.body.append(svg);  // styles are read from what is on the page
  if (kind === "svg") saveSvg(name, svg); else void savePng(name, svg);
  svg.remove();
}
