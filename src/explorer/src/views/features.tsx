// All alive features: map, search, filters that cut across map, histogram and table, and one feature's panel.
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { group, ramp } from "../colors";
import { hasPart, usePart } from "../data";
import { count, percent } from "../format";
import { memo } from "../memo";
import { labelOf, lensOf, onCentered, placeOf, useFeatures } from "../names";
import { useScheme } from "../plot";
import { Search } from "../search";
import { now, update, useAddress } from "../state";
import type { Centered, Features as Data } from "../types";
import { Choose, type Column, Lost, Notice, Table, Tabs, Waiting } from "../ui";
import { type Polygon, WHOLE, type Zoom, inside, laidOut } from "./draw";
import { Histogram } from "./histogram";
import { FeatureMap } from "./map";
import { column, extent, measuresOf, paint, ranked, readRanges, roleColors, strong, withRange, within } from "./measures";
import { Panel, Unmapped } from "./panel";

let searching = false;
/** Put the cursor into the search as soon as the view is there. */
export const searchNext = () => { searching = true; };

export function Features() {
  const features = useFeatures(), centered = useAddress().get("of") === "centered" && hasPart("centered");
  const part = usePart<Centered>(centered ? "centered" : null);
  if (!features.data) return <Waiting what="the features" error={features.error} />;
  if (centered && !part.data) return <Waiting what="the centered map" error={part.error} />;
  return <Shown base={features.data} data={part.data ? onCentered(features.data, part.data) : features.data} />;
}

const readPolygon = (text: string): Polygon => (text ? text.split(";").map((pair) => pair.split(",").map(Number) as [number, number]) : []);
const readZoom = (text: string): Zoom => { const [x, y, k] = text.split(",").map(Number); return text && isFinite(k!) ? { x: x!, y: y!, k: k! } : WHOLE; };
const writeZoom = ({ x, y, k }: Zoom) => update({ zoom: k === 1 && x === 0.5 && y === 0.5 ? null : [x.toFixed(4), y.toFixed(4), k.toFixed(3)].join(",") });
const thin = (polygon: Polygon): Polygon => polygon.filter((_, i) => i % Math.ceil(polygon.length / 40) === 0);
const CLEARED = { q: null, role: null, range: null, lasso: null };

function Shown({ base, data }: { base: Data; data: Data }) {
  const state = useAddress(), scheme = useScheme(), q = state.get("q");
  const search = useMemo(() => new Search(base), [base]);
  const [known, setKnown] = useState(0);
  useEffect(() => { const timer = setTimeout(() => search.prepare(), 400); return () => clearTimeout(timer); }, [search]);
  useEffect(() => {
    if (q) search.readContexts(() => setKnown((n) => n + 1)); // a link with a query finds the same as its sender did
    if (searching) document.querySelector<HTMLInputElement>("#search")?.focus();
    searching = false;
  }, []);
  const [lassoing, setLassoing] = useState(false);
  const maps = Object.keys(data.maps) as ("umap" | "pca")[], name = maps.includes(state.get("map") as "umap") ? (state.get("map") as "umap") : maps[0];
  const points = name && data.maps[name];
  const measures = useMemo(() => measuresOf(data), [data]);
  const measure = measures.find(({ key }) => key === state.get("metric")) ?? measures[0]!;
  const ranges = useMemo(() => readRanges(state.get("range")), [state.get("range")]);
  const color = state.get("color") || "role", lasso = useMemo(() => readPolygon(state.get("lasso")), [state.get("lasso")]);
  const laid = useMemo(() => (points ? laidOut(points) : null), [points]);
  const found = useMemo(() => search.run(q), [search, q, known]);
  const shown = useMemo(() => {
    const mask = found.slice(), role = state.get("role") ? data.roles.indexOf(state.get("role")) : -1;
    within(data, ranges, mask);
    for (let i = 0; i < mask.length; i++) {
      if (!mask[i]) continue;
      if (role >= 0 && data.preferred_role[i] !== role) mask[i] = 0;
      else if (laid && isNaN(laid.xy[2 * i]!)) mask[i] = 0;
      else if (lasso.length && laid && !inside(lasso, laid.xy[2 * i]!, laid.xy[2 * i + 1]!)) mask[i] = 0;
    }
    return mask;
  }, [data, found, state.get("role"), ranges, lasso, laid]);
  const many = useMemo(() => shown.reduce((sum, one) => sum + one, 0), [shown]);
  const later = useLater(shown);
  const colors = useMemo(() => paint(data, color), [data, color, scheme]);
  const order = useMemo(() => ranked(column(data, "score") ?? data.sd), [data]);
  const label = useMemo(() => (data.label || data.description ? (place: number) => data.description?.[place] || data.label?.[place] || "" : (place: number) => String(data.id[place])), [data]);
  const told = useMemo(() => (place: number) => `${data.roles[data.preferred_role[place]!] ?? ""}, ${measure.name} ${measure.show(column(data, measure.key)![place])}`, [data, measure]);
  const choose = useMemo(() => (place: number) => update({ feature: data.id[place]! }), [data]);
  const onLasso = useMemo(() => (polygon: Polygon) => { setLassoing(false); update({ lasso: thin(polygon).map(([x, y]) => `${x.toFixed(3)},${y.toFixed(3)}`).join(";") }); }, []);
  const zoom = useMemo(() => readZoom(state.get("zoom")), [state.get("zoom")]);
  const chosen = state.num("feature"), place = chosen === null ? undefined : placeOf(data, chosen);
  // A number that is looked for may be that of a feature on no map, of which there is something to read all the same.
  const number = /^#?(\d+)$/.exec(q.trim())?.[1], unmapped = number !== undefined && placeOf(data, +number) === undefined ? +number : null;
  /** The next or the previous of the shown features, by score. */
  const walk = (by: 1 | -1) => {
    if (!many && unmapped !== null) { update({ feature: unmapped }); return; }
    const list = order.filter((i) => shown[i]), at = place === undefined ? -1 : list.indexOf(place), next = list[at < 0 ? 0 : at + by];
    if (next !== undefined) choose(next);
  };
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      const typing = event.target instanceof HTMLElement && /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
      if (typing || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
      if (event.key === "j") walk(1);
      else if (event.key === "k") walk(-1);
      else if (event.key === "Escape" && now().get("feature")) update({ feature: null });
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, [order, shown, place]);
  const title = name && `${name.toUpperCase()}${data.centered ? ", centered" : ""}`;
  return (
    <div class="features">
      <div class="onmap">
        {chosen === null && <h1 class="sr">Features</h1>}
        <div class="bar">
          <SearchBox query={q} search={search} told={() => setKnown((n) => n + 1)} walk={walk} />
          <Choose label="role" value={state.get("role")} options={[["", "any"], ...data.roles.map((role) => [role, role] as [string, string])]} onChange={(value) => update({ role: value })} />
          <span aria-live="polite" class="soft small">{many < data.id.length ? `${count(many)} of ${count(data.id.length)} features` : `${count(data.id.length)} alive features`}</span>
          {ranges.map((range) => (
            <button type="button" class="chip" key={range.key} title="remove this filter" onClick={() => update({ range: withRange(ranges, { ...range, low: null, high: null }) })}>
              {range.low !== null && `${range.low} ≤ `}{measures.find(({ key }) => key === range.key)?.name ?? range.key}{range.high !== null && ` ≤ ${range.high}`} <span aria-hidden="true">×</span><span class="sr"> (remove)</span>
            </button>
          ))}
          {lasso.length > 0 && <button type="button" class="chip" onClick={() => update({ lasso: null })}>inside the lasso <span aria-hidden="true">×</span><span class="sr"> (remove)</span></button>}
          {(q || state.get("role") || ranges.length || lasso.length) ? <button type="button" class="text small" onClick={() => update(CLEARED)}>show all</button> : null}
        </div>
        {unmapped !== null && <Notice>Feature {unmapped} is not among the alive features of this map. <button type="button" class="text" onClick={() => update({ feature: unmapped })}>what is known of it</button></Notice>}
        <Lost what="role" asked={state.get("role")} known={data.roles} instead="features of all roles are shown" />
        {laid && title ? (
          <>
            <div class="bar">
              {maps.length > 1 && <Tabs label="Map" value={name!} options={maps.map((one) => [one, one.toUpperCase()])} onChange={(value) => update({ map: value, zoom: null, lasso: null })} />}
              {hasPart("centered") && <Tabs label="Activations" value={data.centered ? "centered" : "plain"} options={[["plain", "plain"], ["centered", "centered by question"]]} onChange={(value) => update({ of: value === "plain" ? null : value, zoom: null, lasso: null })} />}
              <Choose label="color" value={color} options={[["role", "role with most"], ...measures.map(({ key, name: text }) => [key, text] as [string, string])]} onChange={(value) => update({ color: value })} />
              <Tabs label="Pointer" value={lassoing ? "lasso" : "move"} options={[["move", "move"], ["lasso", "lasso"]]} onChange={(value) => setLassoing(value === "lasso")} />
            </div>
            <FeatureMap name={title} laid={laid} ids={data.id} colors={colors} shown={shown} ranked={order} label={label} told={told} chosen={place ?? null}
              zoom={zoom} lasso={lasso} lassoing={lassoing} onZoom={writeZoom} onLasso={onLasso} onChoose={choose} />
            <Legend data={data} color={color} />
            <p class="soft small">
              {data.centered ? "Centered: what the mean over roles of each question and variant leaves of the activations. " : ""}
              Near points have like profiles over roles{name === "umap" ? "; far distances and sizes of clusters on this map mean little (UMAP)" : " on the two components with the most variance"}.
              {data.knn_overlap !== undefined && name === maps[0] && ` Of a feature's 15 nearest by cosine, ${percent(data.knn_overlap)} are among its 15 nearest on this map.`} Lines: density of points.
            </p>
          </>
        ) : <Notice>There is no map of features: it has not been made. The list below has all that are alive.</Notice>}
      </div>
      <div class="listed">
        <Histogram values={column(data, measure.key)!} shown={later} measure={measure} ranges={ranges} measures={measures} />
        <List data={data} map={name} shown={later} chosen={chosen} />
      </div>
      <aside class="side" aria-label="The chosen feature">
        {chosen === null ? <Notice>Choose a feature on the map or in the table, or search for one, to see where it is active, what it promotes and which roles have it.</Notice>
          : place === undefined ? <Unmapped id={chosen} features={base} /> : <Panel data={data} place={place} laid={laid} />}
      </aside>
    </div>
  );
}

/** The search, from which the arrow keys walk over what it finds. */
function SearchBox({ query, search, told, walk }: { query: string; search: Search; told: () => void; walk: (by: 1 | -1) => void }) {
  const box = useRef<HTMLInputElement>(null);
  // While one types, the box is ahead of the address, which must not write back into it.
  useLayoutEffect(() => { if (box.current && document.activeElement !== box.current) box.current.value = query; }, [query]);
  return (
    <input ref={box} id="search" type="search" placeholder="search id, label, text, role:pirate   ( / )" aria-label="Search features; Enter or the down arrow chooses the first that is found" defaultValue={query}
      onFocus={() => search.readContexts(told)}
      onInput={(e) => { update({ q: e.currentTarget.value, feature: null }); }}
      onKeyDown={(e) => {
        const by = { Enter: 1, ArrowDown: 1, ArrowUp: -1 }[e.key] as 1 | -1 | undefined;
        if (by) { e.preventDefault(); walk(by); }
      }} />
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

const Legend = memo(({ data, color }: { data: Data; color: string }) => {
  useScheme();
  const values = column(data, color), measure = measuresOf(data).find(({ key }) => key === color);
  if (values && measure) {
    const [low, high] = extent(values, measure), at = [0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1];
    const stops = at.map((t) => (measure.signed ? strong(2 * t - 1) : `rgb(${ramp(t).join(",")})`)).join(",");
    return <div class="legend">{measure.name} {measure.show(low)}{measure.signed && ", away from the assistant"} <i style={{ width: "8rem", background: `linear-gradient(90deg, ${stops})` }} /> {measure.show(high)}{measure.signed && ", toward it"}</div>;
  }
  const colors = roleColors(data), order = data.roles.map((_, role) => role).sort((a, b) => colors[a]! - colors[b]!);
  return (
    <div class="legend">
      <span>role with most of it:</span>
      {order.filter((role) => colors[role]! < 11).map((role) => <button type="button" class="plain" key={role} aria-label={`only features of ${data.roles[role]}`} onClick={() => update({ role: data.roles[role]! })}><i style={{ background: group(colors[role]!) }} />{data.roles[role]}</button>)}
      {order.some((role) => colors[role]! >= 11) && <span><i style={{ background: group(11) }} />other roles</span>}
    </div>
  );
});

const NARROW = new Set(["mean_active", "sd", "mu"]); // only in the exported file

const List = memo(({ data, map, shown, chosen }: { data: Data; map: "umap" | "pca" | undefined; shown: Uint8Array; chosen: number | null }) => {
  const places = useMemo(() => Array.from(shown.keys()).filter((i) => shown[i]), [shown]);
  const columns: Column<number>[] = useMemo(() => {
    const points = map && data.maps[map], lens = (name: "promoted" | "suppressed") => (data[name] ? [{ key: name, label: name, hidden: true, value: (i: number) => JSON.stringify(lensOf(data, name, i) ?? []) }] : []);
    return [
      { key: "feature", label: "feature", value: (i) => data.id[i]! },
      ...(data.label || data.description ? [{ key: "label", label: "what it is", text: true, value: (i: number) => labelOf(data, data.id[i]!) }] : []),
      { key: "role", label: "role with most", text: true, value: (i) => data.roles[data.preferred_role[i]!] },
      ...measuresOf(data).map(({ key, name, note, show }) => ({ key, label: name, title: note, hidden: NARROW.has(key), value: (i: number) => column(data, key)![i]!, show: (i: number) => show(column(data, key)![i]) })),
      ...(points ? [0, 1].map((axis) => ({ key: `${map}_${"xy"[axis]}`, label: "", hidden: true, value: (i: number) => points[2 * i + axis]! })) : []),
      ...lens("promoted"), ...lens("suppressed"),
    ];
  }, [data, map]);
  return <Table name="features" caption="The features shown on the map" columns={columns} rows={places} limit={25} sort={[data.score ? "score" : "sd", -1]} onRow={(i) => update({ feature: data.id[i]! })} isChosen={(i) => data.id[i] === chosen} />;
});
