// A chart of Observable Plot in a figure with its title, its exports and the numbers behind it.
import * as Plot from "@observablehq/plot";
import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { saveCsv, savePng, saveSvg } from "./export";
import { num } from "./format";

export function useWidth<T extends HTMLElement>(least = 200): [{ current: T | null }, number] {
  const ref = useRef<T>(null);
  const [width, setWidth] = useState(0);
  useLayoutEffect(() => {
    const element = ref.current;
    if (!element) return;
    const measure = () => setWidth(Math.max(least, Math.floor(element.clientWidth)));
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  return [ref, width];
}

/** Counts up when the color scheme changes, so that what is drawn is drawn again. */
export function useScheme(): number {
  const [count, setCount] = useState(0);
  useEffect(() => {
    const again = () => setCount((n) => n + 1);
    addEventListener("scheme", again);
    return () => removeEventListener("scheme", again);
  }, []);
  return count;
}

export interface ChartTable { heads: string[]; rows: (string | number | null)[][] }

interface ChartProps {
  name: string;
  title: string;
  note?: ComponentChildren;
  /** What a listener is told instead of the picture. */
  label: string;
  table: ChartTable;
  options: (width: number) => Plot.PlotOptions;
  deps: unknown[];
  /** A click, with the scales to read it by. */
  onPoint?: (plot: Plot.Plot, x: number, y: number) => void;
  /** A range of x that was drawn with the pointer. */
  onRange?: (low: number, high: number) => void;
  bare?: boolean;
}

export function Chart({ name, title, note, label, table, options, deps, onPoint, onRange, bare }: ChartProps) {
  const [box, width] = useWidth<HTMLDivElement>();
  const drawn = useRef<(SVGSVGElement & Plot.Plot) | null>(null);
  const [open, setOpen] = useState(false);
  const scheme = useScheme();
  useEffect(() => {
    if (!width || !box.current) return;
    const plot = Plot.plot({ ...options(width), width, style: { background: "transparent", fontFamily: "inherit", fontSize: "12px", overflow: "visible" } }) as SVGSVGElement & Plot.Plot;
    plot.setAttribute("role", "img");
    plot.setAttribute("aria-label", label);
    // Plot names its groups, which readers of a picture with one label are not to hear.
    plot.querySelectorAll("[aria-label]").forEach((group) => group.removeAttribute("aria-label"));
    if (onPoint) {
      plot.style.cursor = "pointer";
      plot.addEventListener("click", (event) => {
        const at = plot.getBoundingClientRect();
        onPoint(plot, event.clientX - at.left, event.clientY - at.top);
      });
    }
    if (onRange) watchRange(plot, onRange);
    box.current.replaceChildren(plot);
    drawn.current = plot;
  }, [width, scheme, ...deps]);
  const save = (how: (name: string, svg: SVGSVGElement) => unknown) => () => { if (drawn.current) void how(name, drawn.current); };
  return (
    <figure class="chart">
      {!bare && <figcaption><strong>{title}</strong>{note && <span class="soft"> {note}</span>}</figcaption>}
      <div ref={box} class="drawn" />
      <p class="tools">
        <button type="button" onClick={() => setOpen(!open)} aria-expanded={open}>numbers</button>
        <button type="button" onClick={() => saveCsv(name, table.heads, table.rows)} aria-label={`Save as CSV: ${title}`}>CSV</button>
        <button type="button" onClick={save(saveSvg)} aria-label={`Save as SVG: ${title}`}>SVG</button>
        <button type="button" onClick={save(savePng)} aria-label={`Save as PNG: ${title}`}>PNG</button>
      </p>
      {open && <Numbers caption={title} table={table} />}
    </figure>
  );
}

/** Tell which range of x is drawn over a plot, and show it meanwhile. */
function watchRange(plot: SVGSVGElement & Plot.Plot, told: (low: number, high: number) => void): void {
  const band = document.createElementNS("http://www.w3.org/2000/svg", "rect"), scale = plot.scale("x")!;
  let from: number | null = null;
  const at = (event: PointerEvent) => event.clientX - plot.getBoundingClientRect().left;
  plot.style.cursor = "col-resize";
  plot.style.touchAction = "pan-y";
  band.setAttribute("fill", "currentColor"); band.setAttribute("fill-opacity", "0.12"); band.setAttribute("height", "100%");
  plot.addEventListener("pointerdown", (event) => { from = at(event); plot.setPointerCapture(event.pointerId); });
  plot.addEventListener("pointermove", (event) => {
    if (from === null) return;
    const to = at(event);
    band.setAttribute("x", String(Math.min(from, to))); band.setAttribute("width", String(Math.abs(to - from)));
    if (!band.parentNode) plot.append(band);
  });
  plot.addEventListener("pointerup", (event) => {
    const [low, high] = [from ?? 0, at(event)].sort((a, b) => a - b) as [number, number];
    band.remove();
    if (from !== null && high - low > 4) { const ends = scale.range as number[], keep = (x: number) => Math.max(ends[0]!, Math.min(ends[1]!, x)); told(+scale.invert!(keep(low)), +scale.invert!(keep(high))); }
    from = null;
  });
}

export const Numbers = ({ caption, table }: { caption: string; table: ChartTable }) => (
  <div class="wide" tabIndex={0} role="region" aria-label={`The numbers of: ${caption}`}>
    <table>
      <caption class="sr">{caption}</caption>
      <thead><tr>{table.heads.map((head) => <th scope="col" key={head}>{head}</th>)}</tr></thead>
      <tbody>
        {table.rows.map((row, i) => (
          <tr key={i}>{row.map((value, j) => <td key={j} class={typeof value === "string" ? "t" : ""}>{typeof value === "number" ? num(value, 4) : value ?? "–"}</td>)}</tr>
        ))}
      </tbody>
    </table>
  </div>
);
