// The map of features on two canvases: pixels for points, and over them lines and text. Moving it draws, and asks nothing of the rest of the page.
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { isDark, mark } from "../colors";
import { save, savePng } from "../export";
import { memo } from "../memo";
import { useScheme, useWidth } from "../plot";
import { type Frame, type Label, type Laid, type Polygon, WHOLE, type Zoom, closest, contoursOf, drawContours, drawDots, drawLabels, frameOf, labelsOf, mapSvg } from "./draw";

interface Props {
  name: string; laid: Laid; ids: Int32Array; colors: Uint32Array; shown: Uint8Array;
  /** Places of the features, the most telling first: these get labels. */
  ranked: Int32Array;
  label: (place: number) => string;
  /** What is said of a feature under the pointer, beside its label. */
  told: (place: number) => string;
  chosen: number | null; zoom: Zoom; lasso: Polygon; lassoing: boolean;
  onZoom: (zoom: Zoom) => void; onLasso: (polygon: Polygon) => void; onChoose: (place: number) => void;
}

const SETTLED = 180; // milliseconds after which a place of the map is written into the address
const round = ({ x, y, k }: Zoom): string => [x.toFixed(4), y.toFixed(4), k.toFixed(3)].join();

export const FeatureMap = memo((props: Props) => {
  const { laid, ids, shown, label, told, chosen, lassoing } = props;
  const [box, width] = useWidth<HTMLDivElement>();
  const dots = useRef<HTMLCanvasElement>(null), over = useRef<HTMLCanvasElement>(null);
  const [near, setNear] = useState<number | null>(null);
  const [drawing, setDrawing] = useState<Polygon>([]);
  const [ringed, setRinged] = useState("");
  const held = useRef<{ x: number; y: number; zoom: Zoom; moved: boolean; lasso: boolean } | null>(null);
  const scheme = useScheme();
  const height = Math.round(Math.min(width, Math.max(320, innerHeight - 250)));
  // Where the map is now. It becomes part of the address once it has come to rest.
  const view = useRef<Zoom>(props.zoom), written = useRef(""), timer = useRef(0), asked = useRef(0);
  if (written.current !== round(props.zoom)) { written.current = round(props.zoom); view.current = props.zoom; }
  const frame = (): Frame => frameOf(laid, width, height, view.current);
  const labels = useRef<Label[]>([]);
  const contours = useMemo(() => (ringed ? new Path2D(ringed) : null), [ringed]);
  useEffect(() => {
    const later = setTimeout(() => setRinged(contoursOf(laid)), 120);
    return () => clearTimeout(later);
  }, [laid]);

  const drawn = useRef("");
  const under = () => { if (width && dots.current) { drawDots(dots.current, laid, props.colors, shown, frame()); drawn.current = round(view.current); } };
  const above = () => {
    if (!width || !over.current) return;
    const f = frame(), canvas = over.current, ratio = devicePixelRatio || 1, c = mark();
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) { canvas.width = Math.round(width * ratio); canvas.height = Math.round(height * ratio); }
    const g = canvas.getContext("2d")!;
    g.setTransform(ratio, 0, 0, ratio, 0, 0);
    g.clearRect(0, 0, width, height);
    if (contours && f.k < 12) drawContours(g, contours, f, laid.n > 20_000);
    const polygon = drawing.length ? drawing : props.lasso, X = (x: number) => x * f.scale + f.left, Y = (y: number) => y * f.scale + f.top;
    if (polygon.length > 1) {
      g.beginPath(); polygon.forEach(([x, y], i) => (i ? g.lineTo(X(x), Y(y)) : g.moveTo(X(x), Y(y)))); g.closePath();
      g.strokeStyle = c.accent; g.setLineDash([4, 3]); g.lineWidth = 1.5; g.stroke(); g.setLineDash([]);
    }
    drawLabels(g, (labels.current = labelsOf(g, laid, props.ranked, shown, label, f)));
    for (const place of [near, chosen]) if (place !== null) {
      g.beginPath(); g.arc(X(laid.xy[2 * place]!), Y(laid.xy[2 * place + 1]!), place === chosen ? 8 : 6, 0, 7);
      g.lineWidth = 2.5; g.strokeStyle = place === chosen ? c.accent : c.ink; g.stroke();
    }
  };
  // A drawing is asked for once a frame, and always draws what holds by then.
  const painter = useRef<() => void>(under);
  painter.current = () => { asked.current = 0; if (drawn.current !== round(view.current)) { under(); above(); } };
  const viewed = round(view.current);
  useLayoutEffect(under, [width, height, laid, props.colors, shown, viewed, scheme]);
  useLayoutEffect(above, [width, height, laid, contours, drawing, props.lasso, shown, near, chosen, viewed, scheme, label, props.ranked]);
  const move = (zoom: Zoom) => {
    view.current = zoom;
    if (!asked.current) asked.current = requestAnimationFrame(() => painter.current());
    clearTimeout(timer.current);
    timer.current = window.setTimeout(() => { written.current = round(zoom); props.onZoom(zoom); }, SETTLED);
  };
  useEffect(() => () => { clearTimeout(timer.current); cancelAnimationFrame(asked.current); }, []);

  const at = (event: PointerEvent | WheelEvent): [number, number] => {
    const area = box.current!.getBoundingClientRect();
    return [event.clientX - area.left - 1, event.clientY - area.top - 1];
  };
  const place = (x: number, y: number): [number, number] => { const f = frame(); return [(x - f.left) / f.scale, (y - f.top) / f.scale]; };
  const zoomAt = (factor: number, x = width / 2, y = height / 2) => {
    const k = Math.max(0.8, Math.min(ids.length > 20_000 ? 60 : 200, view.current.k * factor)), [u, v] = place(x, y), scale = (frame().scale / view.current.k) * k;
    move({ k, x: u - (x - width / 2) / scale, y: v - (y - height / 2) / scale });
  };
  const onDown = (event: PointerEvent) => {
    const [x, y] = at(event);
    held.current = { x, y, zoom: view.current, moved: false, lasso: lassoing || event.shiftKey };
    box.current!.setPointerCapture(event.pointerId);
    if (held.current.lasso) setDrawing([place(x, y)]);
  };
  const onMove = (event: PointerEvent) => {
    const [x, y] = at(event), one = held.current;
    if (!one) { setNear(closest(laid, shown, frame(), x, y, 10)); return; }
    if (Math.hypot(x - one.x, y - one.y) > 3) one.moved = true;
    if (one.lasso) setDrawing((polygon) => [...polygon, place(x, y)]);
    else if (one.moved) { const { scale } = frame(); setNear(null); move({ k: one.zoom.k, x: one.zoom.x - (x - one.x) / scale, y: one.zoom.y - (y - one.y) / scale }); }
  };
  const onUp = (event: PointerEvent) => {
    const one = held.current;
    held.current = null;
    if (one?.lasso) { props.onLasso(drawing.length > 2 ? drawing : []); setDrawing([]); }
    else if (one && !one.moved) { const found = closest(laid, shown, frame(), ...at(event), 10); if (found !== null) props.onChoose(found); }
  };
  const onKey = (event: KeyboardEvent) => {
    const { x, y, k } = view.current, step = 0.1 / k, moves: Record<string, [number, number]> = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    const by = moves[event.key];
    if (by) move({ k, x: x + by[0], y: y + by[1] });
    else if (event.key === "+" || event.key === "=") zoomAt(1.4);
    else if (event.key === "-") zoomAt(1 / 1.4);
    else if (event.key === "0") move(WHOLE);
    else if (event.key === "Enter") { if (near !== null) props.onChoose(near); return; }
    else return;
    event.preventDefault();
    setNear(closest(laid, shown, frame(), width / 2, height / 2, 60));
  };
  const file = `map_${props.name.toLowerCase().replaceAll(/\W+/g, "_")}`;
  const png = () => {
    const both = document.createElement("canvas"), g = both.getContext("2d")!;
    both.width = dots.current!.width; both.height = dots.current!.height;
    g.fillStyle = isDark() ? "#17171a" : "#ffffff";
    g.fillRect(0, 0, both.width, both.height);
    for (const layer of [dots.current!, over.current!]) g.drawImage(layer, 0, 0, both.width, both.height);
    void savePng(file, both);
  };
  const svg = () => save(`${file}.svg`, new Blob([mapSvg(laid, props.colors, shown, frame(), ringed, labels.current)], { type: "image/svg+xml" }));
  const count = useMemo(() => shown.reduce((sum, one) => sum + one, 0), [shown]), f = frame();
  return (
    <>
      <div class="mapbox">
        <div ref={box} class="map" tabIndex={0} role="application" style={{ height: `${height || 400}px`, cursor: lassoing ? "crosshair" : near === null ? "grab" : "pointer", touchAction: lassoing ? "none" : "pan-y" }}
          aria-label={`${props.name} map of ${ids.length} features, ${count} of them shown. Arrow keys move, plus and minus zoom, Enter chooses the feature in the middle; the table below lists the same features.`}
          onKeyDown={onKey} onPointerDown={onDown} onPointerMove={onMove} onPointerUp={onUp} onPointerLeave={() => setNear(null)}
          onWheel={(e) => { e.preventDefault(); setNear(null); zoomAt(Math.exp(-e.deltaY * 0.0015), ...at(e)); }}>
          <canvas ref={dots} style={{ height: `${height}px` }} aria-hidden="true" />
          <canvas ref={over} class="over" style={{ width: `${width}px`, height: `${height}px` }} aria-hidden="true" />
          {near !== null && (
            <div class="tip" role="status" style={{ left: `${Math.max(4, Math.min(laid.xy[2 * near]! * f.scale + f.left + 12, width - 240))}px`, top: `${laid.xy[2 * near + 1]! * f.scale + f.top + 10}px` }}>
              <b>{ids[near]}</b> <bdi>{label(near)}</bdi><span class="soft"> {told(near)}</span>
            </div>
          )}
        </div>
        <span class="tabs zooms">
          <button type="button" aria-label="Zoom in" onClick={() => zoomAt(1.6)}>+</button>
          <button type="button" aria-label="Zoom out" onClick={() => zoomAt(1 / 1.6)}>−</button>
          <button type="button" onClick={() => move(WHOLE)}>whole map</button>
        </span>
      </div>
      <p class="tools">
        <span class="soft small mapkeys">wheel or + − to zoom, drag to move, Shift and drag for a lasso</span>
        <button type="button" onClick={svg} aria-label="Save the map as SVG">SVG</button>
        <button type="button" onClick={png} aria-label="Save the map as PNG">PNG</button>
      </p>
    </>
  );
});
