// The histogram of one measure, of all features and of those shown, on which a range can be drawn.
import * as Plot from "@observablehq/plot";
import { useMemo } from "preact/hooks";
import { mark } from "../colors";
import { memo } from "../memo";
import { Chart } from "../plot";
import { update } from "../state";
import { Choose } from "../ui";
import { type Measure, type Range, withRange } from "./measures";

const BINS = 60;
interface Bin { x1: number; x2: number; all: number; shown: number }

/** Bins of equal width, of equal width in the root where most values are small. */
export function binned(values: Float32Array, shown: Uint8Array, skewed: boolean): Bin[] {
  let [least, most] = [Infinity, -Infinity];
  for (const value of values) { if (value < least) least = value; if (value > most) most = value; }
  if (!(most >= least)) return [];
  const to = skewed && least >= 0 ? Math.sqrt : (x: number) => x, from = skewed && least >= 0 ? (x: number) => x * x : (x: number) => x;
  const start = to(least), size = (to(most) - start) / BINS || 1;
  const rows = Array.from({ length: BINS }, (_, b) => ({ x1: from(start + b * size), x2: from(start + (b + 1) * size), all: 0, shown: 0 }));
  for (let i = 0; i < values.length; i++) {
    const row = rows[Math.min(BINS - 1, Math.floor((to(values[i]!) - start) / size))];
    if (row) { row.all++; row.shown += shown[i]!; }
  }
  return rows;
}

interface Props { values: Float32Array; shown: Uint8Array; measure: Measure; ranges: Range[]; measures: Measure[] }

export const Histogram = memo(({ values, shown, measure, ranges, measures }: Props) => {
  const { key, name, note, skewed } = measure, root = Boolean(skewed);
  const bins = useMemo(() => binned(values, shown, root), [values, shown, root]);
  const range = ranges.find((one) => one.key === key) ?? { key, low: null, high: null };
  const keep = (low: number | null, high: number | null) => update({ range: withRange(ranges, { key, low, high }) });
  const bound = (side: "low" | "high", text: string) => (
    <label class="choose">
      <span>{text}</span>
      <input type="number" step="any" class="bound" value={range[side] ?? ""} onChange={(e) => { const value = e.currentTarget.value === "" ? null : +e.currentTarget.value; keep(side === "low" ? value : range.low, side === "high" ? value : range.high); }} />
    </label>
  );
  return (
    <div class="histogram">
      <div class="bar">
        <Choose label="measure" value={key} options={measures.map((one) => [one.key, one.name])} onChange={(value) => update({ metric: value })} />
        {bound("low", "at least")}{bound("high", "at most")}
        {(range.low !== null || range.high !== null) && <button type="button" class="text small" onClick={() => keep(null, null)}>any {name}</button>}
      </div>
      <Chart name={`histogram_${key}`} title={`Features by ${name}`} note={`${note}. Dark: those shown; pale: all. Counts${root ? " and values" : ""} on a square root scale. Drag over it to keep a range.`}
        label={`Histogram of ${name} over ${values.length} features`} deps={[bins, range.low, range.high]}
        table={{ heads: ["from", "to", "all", "shown"], rows: bins.map((b) => [b.x1, b.x2, b.all, b.shown]) }}
        onRange={(low, high) => keep(+low.toPrecision(3), +high.toPrecision(3))}
        options={() => {
          const c = mark(), first = bins[0]?.x1 ?? 0, last = bins.at(-1)?.x2 ?? 1, kept = [{ x1: Math.max(first, range.low ?? first), x2: Math.min(last, range.high ?? last) }];
          return {
            height: 130, marginLeft: 46, marginBottom: 26, x: { label: null, type: root && first >= 0 ? "sqrt" : "linear", ticks: 7 }, y: { type: "sqrt", label: null, ticks: 3 },
            marks: [
              range.low !== null || range.high !== null ? Plot.rectX(kept, { x1: "x1", x2: "x2", fill: c.accent, fillOpacity: 0.1 }) : null,
              Plot.rectY(bins, { x1: "x1", x2: "x2", y: "all", fill: c.faint, inset: 0.3 }),
              Plot.rectY(bins, { x1: "x1", x2: "x2", y: "shown", fill: c.accent, inset: 0.3, title: (b: Bin) => `${+b.x1.toPrecision(3)} to ${+b.x2.toPrecision(3)}: ${b.shown} of ${b.all}` }),
              Plot.ruleY([0], { stroke: c.soft }),
            ],
          };
        }} />
    </div>
  );
});
