// All alive features: map, search, filters that cut across map, histogram and table, and one feature's panel.
import * as Plot from "@observablehq/plot";
import { useEffect, useMemo, useState } from "preact/hooks";
import { group, mark, ramp, rgb } from "../colors";
import { count, num, percent } from "../format";
import { memo } from "../memo";
import { labelOf, placeOf, useFeatures } from "../names";
import { Chart, useScheme } from "../plot";
import { Search } from "../search";
import { update, useAddress } from "../state";
import type { Features as Data } from "../types";
import { Choose, type Column, Notice, Table, Tabs, Waiting } from "../ui";
import { FeatureMap, inside, laidOut, type Polygon, type Zoom } from "./map";
import { Panel } from "./panel";

const METRICS: [keyof Data & string, string, string][] = [
  ["score", "score", "stability × sd: how much roles differ on it, and how surely"],
  ["stability", "stability", "cosine of its role profiles from two halves of the responses"],
  ["sd", "sd", "standard deviation over roles of log1p of the mean activation"],
  ["mu", "mean", "mean over roles of log1p of the mean activation"],
  ["density", "density", "share of the response tokens on which it is active"],
  ["max", "max", "largest activation seen"],
];
const column = (data: Data, key: string): Float32Array | undefined => data[key as "score"];

let searching = false;
/** Put the cursor into the search as soon as the view is there. */
export const searchNext = () => { searching = true; };

export function Features() {
  const features = useFeatures();
  if (!features.data) return <Waiting what="the features" error={features.error} />;
  return <Shown data={features.data} />;
}

const readPolygon = (text: string): Polygon => (text ? text.split(";").map((pair) => pair.split(",").map(Number) as [number, number]) : []);
const readZoom = (text: string): Zoom => { const [x, y, k] = text.split(",").map(Number); return text && isFinite(k!) ? { x: x!, y: y!, k: k! } : { x: 0.5, y: 0.5, k: 1 }; };

function Shown({ data }: { data: Data }) {
  const state = useAddress(), scheme = useScheme();
  const search = useMemo(() => new Search(data), [data]);
  const [known, setKnown] = useState(0);
  useEffect(() => { const timer = setTimeout(() => search.prepare(), 400); return () => clearTimeout(timer); }, [search]);
  const [query, setQuery] = useState(state.get("q"));
  const [lassoing, setLassoing] = useState(false);
  useEffect(() => setQuery(state.get("q")), [state.get("q")]);
  useEffect(() => {
    if (searching) document.querySelector<HTMLInputElement>("#search")?.focus();
    searching = false;
  }, []);
  const maps = Object.keys(data.maps) as ("umap" | "pca")[], name = maps.includes(state.get("map") as "umap") ? (state.get("map") as "umap") : maps[0];
  const points = name && data.maps[name];
  const metrics = useMemo(() => METRICS.filter(([key]) => column(data, key)), [data]);
  const metric = metrics.find(([key]) => key === state.get("metric")) ?? metrics[0]!;
  const values = column(data, metric[0])!, low = state.num("low"), high = state.num("high");
  const color = state.get("color") || "role", lasso = useMemo(() => readPolygon(state.get("lasso")), [state.get("lasso")]);
  const laid = useMemo(() => (points ? laidOut(points) : null), [points]);
  const shown = useMemo(() => {
    const mask = search.run(state.get("q")), role = state.get("role") ? data.roles.indexOf(state.get("role")) : -1;
    for (let i = 0; i < mask.length; i++) {
      if (!mask[i]) continue;
      if (role >= 0 && data.preferred_role[i] !== role) mask[i] = 0;
      else if ((low !== null && !(values[i]! >= low)) || (high !== null && !(values[i]! <= high))) mask[i] = 0;
      else if (lasso.length && laid && !inside(lasso, laid.xy[2 * i]!, laid.xy[2 * i + 1]!)) mask[i] = 0;
    }
    return mask;
  }, [data, state.get("q"), state.get("role"), low, high, lasso, laid, values, known]);
  const many = useMemo(() => shown.reduce((sum, one) => sum + one, 0), [shown]);
  const later = useLater(shown);
  const colors = useMemo(() => paint(data, color), [data, color, scheme]);
  const rank = column(data, "score") ?? data.sd;
  const label = useMemo(() => (place: number) => labelOf(data, data.id[place]!), [data]);
  const chosen = state.num("feature"), place = chosen === null ? undefined : placeOf(data, chosen);
  const filtered = many < data.id.length;
  return (
    <div class="features">
      <div>
        {place === undefined && <h1 class="sr">Features</h1>}
        <div class="bar">
          <input id="search" type="search" placeholder="search id, label, text, role:pirate   ( / )" aria-label="Search features" value={query}
            onFocus={() => search.readContexts(() => setKnown((n) => n + 1))}
            onInput={(e) => { setQuery(e.currentTarget.value); update({ q: e.currentTarget.value }); }} />
          <Choose label="role" value={state.get("role")} options={[["", "any"], ...data.roles.map((role) => [role, role] as [string, string])]} onChange={(value) => update({ role: value })} />
          <span aria-live="polite" class="soft small">{filtered ? `${count(many)} of ${count(data.id.length)} features` : `${count(data.id.length)} alive features`}</span>
          {filtered && <button type="button" class="text small" onClick={() => update({ q: null, role: null, low: null, high: null, lasso: null })}>show all</button>}
        </div>
        {points && laid ? (
          <>
            <div class="bar">
              {maps.length > 1 && <Tabs label="Map" value={name!} options={maps.map((one) => [one, one.toUpperCase()])} onChange={(value) => update({ map: value, zoom: null, lasso: null })} />}
              <Choose label="color" value={color} options={[["role", "role with most"], ...metrics.map(([key, text]) => [key, text] as [string, string])]} onChange={(value) => update({ color: value })} />
              <Tabs label="Pointer" value={lassoing ? "lasso" : "move"} options={[["move", "move"], ["lasso", "lasso"]]} onChange={(value) => setLassoing(value === "lasso")} />
              <span class="tabs"><button type="button" onClick={() => update({ zoom: null })}>whole map</button></span>
            </div>
            <FeatureMap name={name!.toUpperCase()} points={points} ids={data.id} colors={colors} shown={shown} rank={rank} label={label} chosen={place ?? null}
              zoom={readZoom(state.get("zoom"))} lasso={lasso} lassoing={lassoing}
              onZoom={(zoom) => update({ zoom: [zoom.x.toFixed(4), zoom.y.toFixed(4), zoom.k.toFixed(3)].join(",") })}
              onLasso={(polygon) => { setLassoing(false); update({ lasso: thin(polygon).map(([x, y]) => `${x.toFixed(3)},${y.toFixed(3)}`).join(";") }); }}
              onChoose={(i) => update({ feature: data.id[i]! })} />
            <Legend data={data} color={color} />
            <p class="soft small">Near points have like profiles over roles{name === "umap" ? "; far distances and sizes of clusters on this map mean little (UMAP)" : " on the two components with the most variance"}.{data.knn_overlap !== undefined && name === maps[0] && ` Of a feature's 15 nearest by cosine, ${percent(data.knn_overlap)} are among its 15 nearest on this map.`}</p>
          </>
        ) : <Notice>There is no map of features: it has not been made. The list below has all that are alive.</Notice>}
        <Histogram values={values} shown={later} metric={metric} low={low} high={high} options={metrics} />
        <List data={data} shown={later} chosen={chosen} />
      </div>
      <aside class="side" aria-label="The chosen feature">
        {chosen === null ? <Notice>Choose a feature on the map or in the table to see where it is active, what it promotes and which roles have it.</Notice>
          : place === undefined ? <Notice strong>Feature {chosen} is not alive in the roles' responses, or the SAE has no such feature.</Notice> : <Panel data={data} place={place} />}
      </aside>
    </div>
  );
}

/** The value, but a moment after it has come to rest: the map answers first, table and histogram then. */
function useLater<T>(value: T): T {
  const [late, setLate] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setLate(() => value), 90);
    return () => clearTimeout(timer);
  }, [value]);
  return late;
}

const thin = (polygon: Polygon): Polygon => polygon.filter((_, i) => i % Math.ceil(polygon.length / 40) === 0);

/** Which color index each role has: the eleven roles with the most features have their own, all others share one. */
function roleColors(data: Data): number[] {
  const counts = data.roles.map(() => 0);
  data.preferred_role.forEach((role) => { if (role >= 0) counts[role]!++; });
  const order = counts.map((_, role) => role).sort((a, b) => counts[b]! - counts[a]!);
  const colors: number[] = [];
  order.forEach((role, place) => { colors[role] = Math.min(place, 11); });
  return colors;
}

function paint(data: Data, color: string): Uint32Array {
  const out = new Uint32Array(data.id.length), pack = ([r, g, b]: [number, number, number]) => ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
  const values = column(data, color);
  if (!values) {
    const table = roleColors(data).map((index) => pack(rgb(group(index))));
    for (let i = 0; i < out.length; i++) out[i] = table[data.preferred_role[i]!] ?? 0xff888888;
    return out;
  }
  const sorted = Float32Array.from(values).sort(), [lo, hi] = [sorted[Math.floor(0.02 * sorted.length)]!, sorted[Math.floor(0.98 * (sorted.length - 1))]!];
  for (let i = 0; i < out.length; i++) out[i] = pack(ramp((values[i]! - lo) / (hi - lo || 1)));
  return out;
}

function Legend({ data, color }: { data: Data; color: string }) {
  const values = column(data, color);
  if (values) {
    const stops = [0, 0.25, 0.5, 0.75, 1].map((t) => `rgb(${ramp(t).join(",")})`).join(",");
    return <div class="legend">lowest 2 % <i style={{ width: "8rem", background: `linear-gradient(90deg, ${stops})` }} /> highest 2 % of {METRICS.find(([key]) => key === color)?.[1]}</div>;
  }
  const colors = roleColors(data);
  const order = data.roles.map((_, role) => role).sort((a, b) => colors[a]! - colors[b]!);
  return (
    <div class="legend">
      {order.filter((role) => colors[role]! < 11).map((role) => <button type="button" class="plain" key={role} onClick={() => update({ role: data.roles[role]! })}><i style={{ background: group(colors[role]!) }} />{data.roles[role]}</button>)}
      {order.some((role) => colors[role]! >= 11) && <span><i style={{ background: group(11) }} />other roles</span>}
    </div>
  );
}

interface HistogramProps { values: Float32Array; shown: Uint8Array; metric: [string, string, string]; low: number | null; high: number | null; options: [string, string, string][] }
const Histogram = memo(({ values, shown, metric, low, high, options }: HistogramProps) => {
  const bins = useMemo(() => {
    let [least, most] = [Infinity, -Infinity];
    for (const value of values) { if (value < least) least = value; if (value > most) most = value; }
    const n = 60, size = (most - least) / n || 1;
    const rows = Array.from({ length: n }, (_, b) => ({ x1: least + b * size, x2: least + (b + 1) * size, all: 0, shown: 0 }));
    values.forEach((value, i) => { const row = rows[Math.min(n - 1, Math.floor((value - least) / size))]; if (row) { row.all++; row.shown += shown[i]!; } });
    return rows;
  }, [values, shown]);
  const bound = (key: "low" | "high", text: string, value: number | null) => (
    <label class="choose"><span>{text}</span><input type="number" step="any" style={{ width: "7rem" }} value={value ?? ""} onChange={(e) => update({ [key]: e.currentTarget.value })} /></label>
  );
  return (
    <div style={{ marginTop: "1rem" }}>
      <div class="bar">
        <Choose label="measure" value={metric[0]} options={options.map(([key, text]) => [key, text])} onChange={(value) => update({ metric: value, low: null, high: null })} />
        {bound("low", "at least", low)}{bound("high", "at most", high)}
      </div>
      <Chart name={`histogram_${metric[0]}`} title={`Features by ${metric[1]}`} note={`${metric[2]}. Dark: those shown; pale: all (square root scale).`}
        label={`Histogram of ${metric[1]} over ${values.length} features`} deps={[bins]}
        table={{ heads: ["from", "to", "all", "shown"], rows: bins.map((b) => [b.x1, b.x2, b.all, b.shown]) }}
        options={() => {
          const c = mark();
          return {
            height: 120, marginLeft: 42, marginBottom: 26, x: { label: null }, y: { type: "sqrt", label: null, ticks: 3 },
            marks: [Plot.rectY(bins, { x1: "x1", x2: "x2", y: "all", fill: c.faint, inset: 0.3 }), Plot.rectY(bins, { x1: "x1", x2: "x2", y: "shown", fill: c.accent, inset: 0.3 }), Plot.ruleY([0], { stroke: c.soft })],
          };
        }} />
    </div>
  );
});

const List = memo(({ data, shown, chosen }: { data: Data; shown: Uint8Array; chosen: number | null }) => {
  const places = useMemo(() => Array.from(shown.keys()).filter((i) => shown[i]), [shown]);
  const columns: Column<number>[] = useMemo(() => [
    { key: "feature", label: "feature", value: (i) => data.id[i]! },
    ...(data.label || data.description ? [{ key: "label", label: "what it is", text: true, value: (i: number) => labelOf(data, data.id[i]!) }] : []),
    { key: "role", label: "role with most", text: true, value: (i) => data.roles[data.preferred_role[i]!] },
    ...METRICS.filter(([key]) => column(data, key)).map(([key, text, title]) => ({ key, label: text, title, value: (i: number) => column(data, key)![i]!, show: (i: number) => (key === "density" ? percent(column(data, key)![i]!) : num(column(data, key)![i]!)) })),
  ], [data]);
  return <Table name="features" caption="The features shown on the map" columns={columns} rows={places} limit={25} sort={[data.score ? "score" : "sd", -1]} onRow={(i) => update({ feature: data.id[i]! })} isChosen={(i) => data.id[i] === chosen} />;
});
