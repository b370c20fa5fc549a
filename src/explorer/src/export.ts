// What is shown, as files: tables as CSV, figures as SVG and PNG.

export function save(name: string, content: Blob): void {
  const anchor = document.createElement("a");
  anchor.href = URL.createObjectURL(content);
  anchor.download = name;
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(anchor.href), 10_000);
}

const cell = (value: unknown): string => {
  if (value === null || value === undefined || (typeof value === "number" && !isFinite(value))) return "";
  const text = String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};
/** Numbers with all their digits, texts quoted where they must be. */
export const csv = (heads: string[], rows: unknown[][]): string =>
  [heads, ...rows].map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
export const saveCsv = (name: string, heads: string[], rows: unknown[][]): void =>
  save(`${name}.csv`, new Blob([csv(heads, rows)], { type: "text/csv" }));

const STYLES = ["fill", "stroke", "stroke-width", "stroke-opacity", "fill-opacity", "opacity", "font-size", "font-family", "font-weight", "text-anchor", "stroke-dasharray", "dominant-baseline", "letter-spacing", "white-space"];

function standalone(svg: SVGSVGElement): string {
  const copy = svg.cloneNode(true) as SVGSVGElement;
  const from = [svg, ...svg.querySelectorAll("*")], to = [copy, ...copy.querySelectorAll("*")];
  from.forEach((element, i) => {
    const style = getComputedStyle(element);
    to[i]!.setAttribute("style", STYLES.map((name) => `${name}:${style.getPropertyValue(name)}`).join(";"));
  });
  const box = svg.getBoundingClientRect();
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.setAttribute("width", String(box.width));
  copy.setAttribute("height", String(box.height));
  const ground = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  ground.setAttribute("width", "100%");
  ground.setAttribute("height", "100%");
  ground.setAttribute("fill", getComputedStyle(document.body).backgroundColor);
  copy.prepend(ground);
  return new XMLSerializer().serializeToString(copy);
}

export const saveSvg = (name: string, svg: SVGSVGElement): void =>
  save(`${name}.svg`, new Blob([standalone(svg)], { type: "image/svg+xml" }));

export async function savePng(name: string, drawn: SVGSVGElement | HTMLCanvasElement): Promise<void> {
  let canvas: HTMLCanvasElement;
  if (drawn instanceof HTMLCanvasElement) {
    canvas = drawn;
  } else {
    const image = new Image();
    image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(standalone(drawn))}`;
    await image.decode();
    canvas = document.createElement("canvas");
    const scale = Math.min(2, 16_000 / Math.max(image.width, image.height));  // browsers draw no longer side
    canvas.width = Math.round(image.width * scale);
    canvas.height = Math.round(image.height * scale);
    canvas.getContext("2d")!.drawImage(image, 0, 0, canvas.width, canvas.height);
  }
  canvas.toBlob((blob) => blob && save(`${name}.png`, blob));
}
