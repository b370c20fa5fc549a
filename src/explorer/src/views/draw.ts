// What is drawn of the map: points as pixels, lines of density, labels. All of it from typed arrays, within a frame's time.
import { contourDensity } from "d3-contour";
import { geoPath } from "d3-geo";
import { isDark, mark } from "../colors";

export type Polygon = [number, number][];
/** The point of the map in the middle, and how many times larger than the whole it is shown. */
export interface Zoom { x: number; y: number; k: number }
export const WHOLE: Zoom = { x: 0.5, y: 0.5, k: 1 };

const CELLS = 96, MARGIN = 0.03, GRID = 400;

/** Coordinates in 0..1 with the same unit in both directions, the share of each direction that is used, and the points of each cell of a grid. */
export interface Laid { n: number; xy: Float32Array; spans: [number, number]; starts: Int32Array; order: Int32Array }

export function laidOut(points: Float32Array | Uint16Array): Laid {
  const n = points.length / 2, xy = new Float32Array(points.length);
  let [x0, x1, y0, y1] = [Infinity, -Infinity, Infinity, -Infinity];
  for (let i = 0; i < n; i++) {
    const x = points[2 * i]!, y = points[2 * i + 1]!;
    if (x < x0) x0 = x;
    if (x > x1) x1 = x;
    if (y < y0) y0 = y;
    if (y > y1) y1 = y;
  }
  const size = Math.max(x1 - x0, y1 - y0) || 1, spans: [number, number] = [(x1 - x0) / size || 1, (y1 - y0) / size || 1];
  const counts = new Int32Array(CELLS * CELLS + 1), cell = new Int32Array(n), inner = 1 - 2 * MARGIN;
  for (let i = 0; i < n; i++) {
    const x = 0.5 + inner * ((points[2 * i]! - x0) / size - (x1 - x0) / size / 2), y = 0.5 - inner * ((points[2 * i + 1]! - y0) / size - (y1 - y0) / size / 2);
    xy[2 * i] = x; xy[2 * i + 1] = y;
    cell[i] = x === x && y === y ? Math.min(CELLS - 1, Math.floor(x * CELLS)) + CELLS * Math.min(CELLS - 1, Math.floor(y * CELLS)) : 0;
    counts[cell[i]! + 1]!++;
  }
  for (let c = 0; c < CELLS * CELLS; c++) counts[c + 1]! += counts[c]!;
  const order = new Int32Array(n), next = counts.slice();
  for (let i = 0; i < n; i++) order[next[cell[i]!]!++] = i;
  return { n, xy, spans, starts: counts, order };
}

export function inside(polygon: Polygon, x: number, y: number): boolean {
  let within = false;
  for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i++) {
    const [xi, yi] = polygon[i]!, [xj, yj] = polygon[j]!;
    if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) within = !within;
  }
  return within;
}

/** From the map's coordinates to a canvas of width x height pixels: X = left + scale x. */
export interface Frame { width: number; height: number; scale: number; left: number; top: number; k: number }

export function frameOf(laid: Laid, width: number, height: number, zoom: Zoom): Frame {
  const fit = Math.min(width / Math.min(1, laid.spans[0] + 2 * MARGIN), height / Math.min(1, laid.spans[1] + 2 * MARGIN)), scale = fit * zoom.k;
  return { width, height, scale, left: width / 2 - zoom.x * scale, top: height / 2 - zoom.y * scale, k: zoom.k };
}

/** The range of cells that a range of coordinates lies in. */
const cells = (from: number, to: number): [number, number] => [Math.max(0, Math.floor(from * CELLS)), Math.min(CELLS - 1, Math.floor(to * CELLS))];

/** The shown point nearest to a place of the frame, within `reach` pixels. */
export function closest(laid: Laid, shown: Uint8Array, frame: Frame, x: number, y: number, reach: number): number | null {
  const u = (x - frame.left) / frame.scale, v = (y - frame.top) / frame.scale, far = reach / frame.scale;
  let best: number | null = null, least = far * far;
  const [r0, r1] = cells(v - far, v + far), [c0, c1] = cells(u - far, u + far);
  for (let row = r0; row <= r1; row++) for (let j = laid.starts[row * CELLS + c0]!; j < laid.starts[row * CELLS + c1 + 1]!; j++) {
    const i = laid.order[j]!, d = (laid.xy[2 * i]! - u) ** 2 + (laid.xy[2 * i + 1]! - v) ** 2;
    if (shown[i] && d < least) { least = d; best = i; }
  }
  return best;
}

export const sizeOf = (n: number, ratio: number, k: number): number => Math.max(2, Math.min(Math.round(11 * ratio), Math.round(ratio * (n > 20_000 ? 1.7 : n > 3000 ? 4 : 5) * k ** 0.4)));

const buffers = new WeakMap<HTMLCanvasElement, ImageData>();

/** All points in the frame as small discs: those left out first and faint, then the shown ones. */
export function drawDots(canvas: HTMLCanvasElement, laid: Laid, colors: Uint32Array, shown: Uint8Array, frame: Frame): void {
  const ratio = devicePixelRatio || 1, w = Math.round(frame.width * ratio), h = Math.round(frame.height * ratio);
  if (canvas.width !== w || canvas.height !== h) { canvas.width = w; canvas.height = h; }
  const g = canvas.getContext("2d")!;
  let image = buffers.get(canvas);
  if (!image || image.width !== w || image.height !== h) buffers.set(canvas, (image = g.createImageData(w, h)));
  const pixels = new Uint32Array(image.data.buffer).fill(0), faint = isDark() ? 0xff38322f : 0xffe6e3e2;
  const { xy, starts, order } = laid, k = frame.scale * ratio, size = sizeOf(laid.n, ratio, frame.k);
  const dx = frame.left * ratio - size / 2 + 0.5, dy = frame.top * ratio - size / 2 + 0.5, right = w - size, bottom = h - size;
  // How far each row of a disc is from the left edge of its square.
  const cut = Int32Array.from({ length: size }, (_, row) => (size < 4 ? 0 : Math.round(size / 2 - Math.sqrt(Math.max(0, (size / 2) ** 2 - (row + 0.5 - size / 2) ** 2)))));
  const [r0, r1] = cells(-frame.top / frame.scale, (frame.height - frame.top) / frame.scale), [c0, c1] = cells(-frame.left / frame.scale, (frame.width - frame.left) / frame.scale);
  for (let wanted = 0; wanted < 2; wanted++) for (let row = r0; row <= r1; row++) {
    for (let j = starts[row * CELLS + c0]!, end = starts[row * CELLS + c1 + 1]!; j < end; j++) {
      const i = order[j]!;
      if (shown[i] !== wanted) continue;
      const x = Math.floor(xy[2 * i]! * k + dx), y = Math.floor(xy[2 * i + 1]! * k + dy);
      if (!(x >= 0 && y >= 0 && x <= right && y <= bottom)) continue;
      const color = wanted ? colors[i]! : faint;
      for (let r = 0, from = y * w + x; r < size; r++, from += w) for (let p = from + cut[r]!, to = from + size - cut[r]!; p < to; p++) pixels[p] = color;
    }
  }
  g.putImageData(image, 0, 0);
}

/** Lines of equal density of all points, as a path in units of 1 / GRID of the map. */
export function contoursOf(laid: Laid): string {
  const { n, xy } = laid, places: number[] = [];
  for (let i = 0; i < n; i++) if (xy[2 * i]! === xy[2 * i]) places.push(i);
  if (places.length < 3) return "";
  const rings = contourDensity<number>().x((i) => xy[2 * i]! * GRID).y((i) => xy[2 * i + 1]! * GRID).size([GRID, GRID]).cellSize(4).bandwidth(8).thresholds(8)(places);
  const path = geoPath().digits(1);
  return rings.map((ring) => path(ring) ?? "").join("");
}

export function drawContours(g: CanvasRenderingContext2D, contours: Path2D, frame: Frame, crowded: boolean): void {
  const unit = frame.scale / GRID;
  g.save();
  g.translate(frame.left, frame.top); g.scale(unit, unit);
  if (crowded) { // a light line below the dark one, which would not be seen over so many points
    g.lineWidth = 2.5 / unit; g.strokeStyle = isDark() ? "#17171a" : "#ffffff"; g.globalAlpha = 0.55;
    g.stroke(contours);
  }
  g.lineWidth = 1 / unit; g.strokeStyle = mark().soft; g.globalAlpha = crowded ? 0.7 : 0.4;
  g.stroke(contours);
  g.restore();
}

export interface Label { place: number; text: string; x: number; y: number; width: number }
const widths = new Map<string, number>();
const FONT = "12px system-ui, sans-serif", HEIGHT = 16, LETTER = 6.2;

/** Labels of the highest-ranked shown points that do not cover each other; the closer one looks, the more. ranked: places, the highest first. */
export function labelsOf(g: CanvasRenderingContext2D, laid: Laid, ranked: Int32Array, shown: Uint8Array, label: (place: number) => string, frame: Frame): Label[] {
  const most = Math.round(frame.width / 55 * (1 + 0.8 * Math.log2(Math.max(frame.k, 1)))), found: Label[] = [];
  let tries = 0;
  g.font = FONT;
  for (let r = 0; r < ranked.length && found.length < most && tries < 400; r++) {
    const place = ranked[r]!;
    if (!shown[place]) continue;
    const x = laid.xy[2 * place]! * frame.scale + frame.left + 7, y = laid.xy[2 * place + 1]! * frame.scale + frame.top;
    if (!(x > 4 && y > 9 && x < frame.width - 30 && y < frame.height - 9)) continue;
    const known = label(place);
    if (!known) continue;
    tries++;
    const text = known.length > 26 ? `${known.slice(0, 25)}…` : known;
    // Most are refused, so that only those that seem to fit are measured.
    const about = LETTER * text.length;
    if (x + about > frame.width - 3 || found.some((other) => Math.abs(other.y - y) < HEIGHT && x < other.x + other.width + 12 && other.x < x + about + 12)) continue;
    let width = widths.get(text);
    if (width === undefined) widths.set(text, (width = g.measureText(text).width));
    found.push({ place, text, x, y, width });
  }
  return found;
}

export function drawLabels(g: CanvasRenderingContext2D, labels: Label[]): void {
  g.font = FONT; g.textBaseline = "middle";
  g.fillStyle = isDark() ? "rgba(23,23,26,.8)" : "rgba(255,255,255,.82)";
  for (const { x, y, width } of labels) g.fillRect(x - 2, y - 8, width + 4, 15);
  g.fillStyle = mark().ink;
  for (const { text, x, y } of labels) g.fillText(text, x, y);
}

const escaped = (text: string): string => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

/** The frame as a drawing: points of one color are one path, labels stay text. */
export function mapSvg(laid: Laid, colors: Uint32Array, shown: Uint8Array, frame: Frame, contours: string, labels: Label[]): string {
  const paths = new Map<string, string[]>(), size = sizeOf(laid.n, 1, frame.k), c = mark(), ground = isDark() ? "#17171a" : "#ffffff";
  for (let wanted = 0; wanted < 2; wanted++) for (let i = 0; i < laid.n; i++) {
    const x = laid.xy[2 * i]! * frame.scale + frame.left, y = laid.xy[2 * i + 1]! * frame.scale + frame.top;
    if (shown[i] !== wanted || !(x >= 0 && y >= 0 && x <= frame.width && y <= frame.height)) continue;
    const v = colors[i]!, color = wanted ? `rgb(${v & 255},${(v >> 8) & 255},${(v >> 16) & 255})` : c.faint;
    if (!paths.has(color)) paths.set(color, []);
    paths.get(color)!.push(`M${x.toFixed(1)} ${y.toFixed(1)}h0`);
  }
  const unit = frame.scale / GRID, { width, height } = frame;
  const dots = [...paths].map(([color, parts]) => `<path d="${parts.join("")}" stroke="${color}" stroke-width="${size}" stroke-linecap="round"/>`);
  const texts = labels.map(({ text, x, y }) => `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" fill="${c.ink}" stroke="${ground}" stroke-width="3" paint-order="stroke" dominant-baseline="central">${escaped(text)}</text>`);
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="system-ui, sans-serif" font-size="12"><rect width="${width}" height="${height}" fill="${ground}"/>${dots.join("")}<g transform="translate(${frame.left},${frame.top}) scale(${unit})"><path d="${contours}" fill="none" stroke="${c.soft}" stroke-opacity=".35" stroke-width="${1 / unit}"/></g>${texts.join("")}</svg>\n`;
}
