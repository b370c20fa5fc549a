// The map of features on a canvas: pixels for points, lines for density and lasso, text for labels.
import { contourDensity } from "d3-contour";
import { geoPath } from "d3-geo";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { isDark, mark } from "../colors";
import { savePng } from "../export";
import { useScheme, useWidth } from "../plot";

export type Polygon = [number, number][];
export interface Zoom { x: number; y: number; k: number }
interface Props {
  /** Coordinates [2 n] and what each point is. */
  points: Float32Array | Uint16Array; ids: Int32Array; colors: Uint32Array; shown: Uint8Array; rank: ArrayLike<number>;
  label: (place: number) => string; chosen: number | null; zoom: Zoom; lasso: Polygon; lassoing: boolean; name: string;
  onZoom: (zoom: Zoom) => void; onLasso: (polygon: Polygon) => void; onChoose: (place: number) => void;
}

const CELLS = 96;

/** Coordinates in 0..1 with the same unit in both directions, and the points of each cell of a grid. */
export function laidOut(points: Float32Array | Uint16Array) {
  const n = points.length / 2, xy = new Float32Array(points.length);
  let [x0, x1, y0, y1] = [Infinity, -Infinity, Infinity, -Infinity];
  for (let i = 0; i < n; i++) {
    x0 = Math.min(x0, points[2 * i]!); x1 = Math.max(x1, points[2 * i]!);
    y0 = Math.min(y0, points[2 * i + 1]!); y1 = Math.max(y1, points[2 * i + 1]!);
  }
  const size = Math.max(x1 - x0, y1 - y0) || 1, [dx, dy] = [(1 - (x1 - x0) / size) / 2, (1 - (y1 - y0) / size) / 2];
  const counts = new Int32Array(CELLS * CELLS + 1), cell = new Int32Array(n);
  for (let i = 0; i < n; i++) {
    xy[2 * i] = 0.03 + 0.94 * ((points[2 * i]! - x0) / size + dx);
    xy[2 * i + 1] = 0.03 + 0.94 * (1 - (points[2 * i + 1]! - y0) / size - dy);
    cell[i] = Math.min(CELLS - 1, Math.floor(xy[2 * i]! * CELLS)) + CELLS * Math.min(CELLS - 1, Math.floor(xy[2 * i + 1]! * CELLS));
    counts[cell[i]! + 1]!++;
  }
  for (let c = 0; c < CELLS * CELLS; c++) counts[c + 1]! += counts[c]!;
  const order = new Int32Array(n), next = counts.slice();
  for (let i = 0; i < n; i++) order[next[cell[i]!]!++] = i;
  return { n, xy, starts: counts, order };
}

export function inside(polygon: Polygon, x: number, y: number): boolean {
  let within = false;
  for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i++) {
    const [xi, yi] = polygon[i]!, [xj, yj] = polygon[j]!;
    if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) within = !within;
  }
  return within;
}

export function FeatureMap(props: Props) {
  const { points, ids, colors, shown, rank, label, chosen, zoom, lasso, lassoing } = props;
  const [box, width] = useWidth<HTMLDivElement>();
  const dots = useRef<HTMLCanvasElement>(null), over = useRef<HTMLCanvasElement>(null);
  const [near, setNear] = useState<number | null>(null);
  const [drawing, setDrawing] = useState<Polygon>([]);
  const down = useRef<{ x: number; y: number; zoom: Zoom; moved: boolean; lasso: boolean } | null>(null);
  const scheme = useScheme();
  const laid = useMemo(() => laidOut(points), [points]);
  const [contours, setContours] = useState<ReturnType<ReturnType<typeof contourDensity>> | null>(null);
  useEffect(() => {
    const timer = setTimeout(() => {
      const indices = Array.from({ length: laid.n }, (_, i) => i);
      setContours(contourDensity<number>().x((i) => laid.xy[2 * i]! * 400).y((i) => laid.xy[2 * i + 1]! * 400).size([400, 400]).cellSize(4).bandwidth(9).thresholds(9)(indices));
    }, 60);
    return () => clearTimeout(timer);
  }, [laid]);
  const height = Math.round(Math.min(width, Math.max(320, innerHeight - 230))), scale = Math.min(width, height) * zoom.k;
  const px = (x: number) => width / 2 + (x - zoom.x) * scale, py = (y: number) => height / 2 + (y - zoom.y) * scale;
  const ux = (x: number) => (x - width / 2) / scale + zoom.x, uy = (y: number) => (y - height / 2) / scale + zoom.y;

  useEffect(() => {
    if (width && dots.current) drawDots(dots.current, laid.xy, colors, shown, width, height, scale, zoom);
  }, [width, height, laid, colors, shown, zoom.x, zoom.y, zoom.k, scheme]);

  useEffect(() => {
    if (!width || !over.current) return;
    const canvas = over.current, ratio = devicePixelRatio || 1, c = mark();
    canvas.width = width * ratio; canvas.height = height * ratio;
    const g = canvas.getContext("2d")!;
    g.scale(ratio, ratio);
    if (contours && zoom.k < 12) {
      g.save(); g.translate(px(0), py(0)); g.scale(scale / 400, scale / 400);
      g.lineWidth = 400 / scale; g.strokeStyle = c.soft; g.globalAlpha = 0.35;
      const path = geoPath(null, g);
      for (const ring of contours) { g.beginPath(); path(ring); g.stroke(); }
      g.restore();
    }
    const polygon = drawing.length ? drawing : lasso;
    if (polygon.length > 1) {
      g.beginPath(); polygon.forEach(([x, y], i) => (i ? g.lineTo(px(x), py(y)) : g.moveTo(px(x), py(y)))); g.closePath();
      g.strokeStyle = c.accent; g.setLineDash([4, 3]); g.lineWidth = 1.5; g.stroke(); g.setLineDash([]);
    }
    drawLabels(g, laid.xy, shown, rank, label, ids, px, py, width, height, zoom.k);
    for (const place of [near, chosen]) if (place !== null) {
      g.beginPath(); g.arc(px(laid.xy[2 * place]!), py(laid.xy[2 * place + 1]!), place === chosen ? 7 : 5, 0, 7);
      g.lineWidth = 2; g.strokeStyle = place === chosen ? c.accent : c.ink; g.stroke();
    }
  }, [width, height, laid, contours, drawing, lasso, shown, near, chosen, zoom.x, zoom.y, zoom.k, scheme, label]);

  const at = (event: PointerEvent | WheelEvent): [number, number] => {
    const area = box.current!.getBoundingClientRect();
    return [event.clientX - area.left, event.clientY - area.top];
  };
  const closest = (x: number, y: number): number | null => {
    const [u, v] = [ux(x), uy(y)], reach = 9 / scale;
    let best: number | null = null, least = reach * reach;
    const lo = (w: number) => Math.max(0, Math.floor((w - reach) * CELLS)), hi = (w: number) => Math.min(CELLS - 1, Math.floor((w + reach) * CELLS));
    for (let row = lo(v); row <= hi(v); row++) for (let column = lo(u); column <= hi(u); column++) {
      const cell = row * CELLS + column;
      for (let j = laid.starts[cell]!; j < laid.starts[cell + 1]!; j++) {
        const i = laid.order[j]!, d = (laid.xy[2 * i]! - u) ** 2 + (laid.xy[2 * i + 1]! - v) ** 2;
        if (shown[i] && d < least) { least = d; best = i; }
      }
    }
    return best;
  };
  const zoomAt = (factor: number, x = width / 2, y = height / 2) => {
    const k = Math.max(0.8, Math.min(200, zoom.k * factor)), s = Math.min(width, height) * k;
    props.onZoom({ k, x: ux(x) - (x - width / 2) / s, y: uy(y) - (y - height / 2) / s });
  };
  const onMove = (event: PointerEvent) => {
    const [x, y] = at(event), held = down.current;
    if (!held) { setNear(closest(x, y)); return; }
    if (Math.hypot(x - held.x, y - held.y) > 3) held.moved = true;
    if (held.lasso) setDrawing((polygon) => [...polygon, [ux(x), uy(y)]]);
    else if (held.moved) props.onZoom({ k: zoom.k, x: held.zoom.x - (x - held.x) / scale, y: held.zoom.y - (y - held.y) / scale });
  };
  const onUp = (event: PointerEvent) => {
    const held = down.current;
    down.current = null;
    if (held?.lasso) { props.onLasso(drawing.length > 2 ? drawing : []); setDrawing([]); }
    else if (held && !held.moved) { const place = closest(...at(event)); if (place !== null) props.onChoose(place); }
  };
  const onKey = (event: KeyboardEvent) => {
    const step = 0.12 / zoom.k, move: Record<string, [number, number]> = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    if (move[event.key]) { event.preventDefault(); props.onZoom({ k: zoom.k, x: zoom.x + move[event.key]![0], y: zoom.y + move[event.key]![1] }); }
    else if (event.key === "+" || event.key === "=") zoomAt(1.4);
    else if (event.key === "-") zoomAt(1 / 1.4);
    else if (event.key === "0") props.onZoom({ x: 0.5, y: 0.5, k: 1 });
  };
  const save = () => {
    const both = document.createElement("canvas");
    both.width = dots.current!.width; both.height = dots.current!.height;
    const g = both.getContext("2d")!;
    g.fillStyle = isDark() ? "#17171a" : "#ffffff";
    g.fillRect(0, 0, both.width, both.height);
    for (const layer of [dots.current!, over.current!]) g.drawImage(layer, 0, 0, both.width, both.height);
    void savePng(`map_${props.name.toLowerCase()}`, both);
  };
  const count = useMemo(() => shown.reduce((sum, one) => sum + one, 0), [shown]);
  return (
    <>
    <div ref={box} class="map" tabIndex={0} role="application" onKeyDown={onKey} style={{ height: `${height || 400}px`, cursor: lassoing ? "crosshair" : near === null ? "grab" : "pointer" }}
      aria-label={`${props.name} map of ${ids.length} features, ${count} of them shown. Arrow keys move, plus and minus zoom; the table below lists the same features.`}
      onPointerDown={(e) => { const [x, y] = at(e); down.current = { x, y, zoom, moved: false, lasso: lassoing || e.shiftKey }; (e.currentTarget as HTMLElement).setPointerCapture(e.pointerId); if (down.current.lasso) setDrawing([[ux(x), uy(y)]]); }}
      onPointerMove={onMove} onPointerUp={onUp} onPointerLeave={() => setNear(null)}
      onWheel={(e) => { e.preventDefault(); zoomAt(Math.exp(-e.deltaY * 0.0015), ...at(e)); }}>
      <canvas ref={dots} style={{ height: `${height}px` }} aria-hidden="true" />
      <canvas ref={over} class="over" style={{ width: `${width}px`, height: `${height}px` }} aria-hidden="true" />
      {near !== null && <div class="tip" style={{ left: `${Math.min(px(laid.xy[2 * near]!) + 10, width - 150)}px`, top: `${py(laid.xy[2 * near + 1]!) + 8}px` }}><b>{ids[near]}</b> <bdi>{label(near)}</bdi></div>}
    </div>
    <p class="tools"><button type="button" onClick={save} aria-label="Save the map as PNG">PNG</button></p>
    </>
  );
}

const buffers = new WeakMap<HTMLCanvasElement, ImageData>();

/** All points as squares of pixels: those left out first and faint, then the shown ones. */
export function drawDots(canvas: HTMLCanvasElement, xy: Float32Array, colors: Uint32Array, shown: Uint8Array, width: number, height: number, scale: number, zoom: Zoom): void {
  const ratio = devicePixelRatio || 1, w = Math.round(width * ratio), h = Math.round(height * ratio), n = colors.length;
  if (canvas.width !== w || canvas.height !== h) { canvas.width = w; canvas.height = h; }
  const g = canvas.getContext("2d")!;
  let image = buffers.get(canvas);
  if (!image || image.width !== w || image.height !== h) buffers.set(canvas, (image = g.createImageData(w, h)));
  const pixels = new Uint32Array(image.data.buffer).fill(0), faint = isDark() ? 0xff332f2f : 0xffe9e6e6, k = scale * ratio;
  const size = Math.max(2, Math.min(9, Math.round(ratio * (n > 20_000 ? 1.7 : n > 3000 ? 3 : 4) * Math.sqrt(zoom.k))));
  const dx = w / 2 - zoom.x * k - size / 2, dy = h / 2 - zoom.y * k - size / 2, right = w - size, bottom = h - size;
  for (let wanted = 0; wanted < 2; wanted++) for (let i = 0; i < n; i++) {
    if (shown[i] !== wanted) continue;
    const x = Math.round(xy[2 * i]! * k + dx), y = Math.round(xy[2 * i + 1]! * k + dy);
    if (x < 0 || y < 0 || x > right || y > bottom) continue;
    const color = wanted ? colors[i]! : faint;
    for (let row = y * w + x, end = row + size * w; row < end; row += w) for (let p = row; p < row + size; p++) pixels[p] = color;
  }
  g.putImageData(image, 0, 0);
}

/** Labels of the highest-ranked shown points that do not cover each other. */
function drawLabels(g: CanvasRenderingContext2D, xy: Float32Array, shown: Uint8Array, rank: ArrayLike<number>, label: (place: number) => string, ids: Int32Array, px: (x: number) => number, py: (y: number) => number, width: number, height: number, k: number): void {
  const cellW = 150, cellH = 44, columns = Math.ceil(width / cellW), best = new Int32Array(columns * Math.ceil(height / cellH)).fill(-1);
  const ax = px(0), bx = px(1) - ax, ay = py(0), by = py(1) - ay;
  for (let i = 0; i < shown.length; i++) {
    if (!shown[i]) continue;
    const x = xy[2 * i]! * bx + ax, y = xy[2 * i + 1]! * by + ay;
    if (x < 4 || y < 10 || x > width - 60 || y > height - 6) continue;
    const cell = Math.floor(y / cellH) * columns + Math.floor(x / cellW), known = best[cell]!;
    if (known < 0 || rank[i]! > rank[known]!) best[cell] = i;
  }
  const most = Math.round(12 + 8 * Math.log2(Math.max(k, 1)));
  const c = mark(), ground = isDark() ? "#17171a" : "#ffffff";
  g.font = "12px system-ui, sans-serif"; g.textBaseline = "middle"; g.lineJoin = "round"; g.lineWidth = 3.5;
  const taken: [number, number, number][] = [];
  for (const i of Array.from(best).filter((i) => i >= 0).sort((a, b) => rank[b]! - rank[a]!).slice(0, most)) {
    const known = label(i), text = known ? (known.length > 24 ? `${known.slice(0, 23)}…` : known) : String(ids[i]);
    const x = px(xy[2 * i]!) + 6, y = py(xy[2 * i + 1]!), w = g.measureText(text).width;
    if (taken.some(([a, b, wide]) => Math.abs(b - y) < 15 && x < a + wide && a < x + w)) continue;
    taken.push([x, y, w]);
    g.strokeStyle = ground; g.strokeText(text, x, y); g.fillStyle = c.ink; g.fillText(text, x, y);
  }
}
