// What two runs have in common and where they differ: trajectories, the features of two transitions, the roles.
import * as Plot from "@observablehq/plot";
import { useMemo } from "preact/hooks";
import { mark } from "../colors";
import { num, signed } from "../format";
import { FeatureName, labelOf, useFeatures } from "../names";
import { unlike } from "../other";
import { Chart } from "../plot";
import { go, update, useAddress } from "../state";
import type { Features, Run, Transition } from "../types";
import { Choose, type Column, Notice, Section, Table } from "../ui";
import { entriesOf } from "./changes";
import type { Pair } from "./compare";
import { nearest } from "./conversation";
import { type Point, pointsOf } from "./trajectory";

const NAMES = ["first", "second"] as const;
const color = (which: number): string => (which ? mark().away : mark().toward);

export function BothTrajectories({ sides, runs }: Pair) {
  const state = useAddress(), alike = sides[0].row.analysis === sides[1].row.analysis && sides[0].other === sides[1].other;
  const zs = !alike || state.get("scale") === "z", c = mark();
  const points = useMemo(() => runs.flatMap((run, which) => pointsOf(run).map((p) => ({ ...p, which, value: zs ? p.z : p.score }))), [runs[0], runs[1], zs]);
  const known = points.filter((p) => !isNaN(p.value)), band = zs ? [] : points.filter((p) => !isNaN(p.expected_low));
  const note = zs ? `z: standard deviations of plain conversations' turns at that place; grey: within 2.${alike ? "" : " Scores of two analyses or experiments have scales of their own."}` : "Scores with 95 % intervals; shaded in the color of each: 95 % of plain conversations, whose turns are taken to be as long as its own.";
  const title = (p: Point & { which: number; value: number }) => `${sides[p.which]!.name}, turn ${p.turn}: ${num(p.score)} [${num(p.low)}, ${num(p.high)}], z = ${num(p.z, 2)}`;
  const last = Math.max(...points.map((p) => p.turn));
  return (
    <Section title="Trajectories" note={`${note} Circles and a line: the first; triangles and dashes: the second; larger at an alarm.`}>
      {alike && <Choose label="shown as" value={zs ? "z" : "score"} options={[["score", "score"], ["z", "z"]]} onChange={(value) => update({ scale: value === "z" ? "z" : null })} />}
      <Chart bare name="compared_trajectories" title="Trajectories" label={`Trajectories of ${sides[0].name} and ${sides[1].name}`} deps={[runs[0], runs[1], zs]}
        table={{ heads: ["run", "turn", "score", "low", "high", "expected_low", "expected_high", "z", "alarm"], rows: points.map((p) => [sides[p.which]!.name, p.turn, p.score, p.low, p.high, p.expected_low, p.expected_high, p.z, p.alarm ? "yes" : "no"]) }}
        options={(width) => ({
          height: 280, marginLeft: 44, marginBottom: 40, x: { label: "assistant turn", labelAnchor: "center", labelArrow: "none", labelOffset: 36, domain: [-0.3, last + 0.3], ticks: Array.from({ length: last + 1 }, (_, i) => i).filter((i) => i % Math.ceil((last + 1) / (width / 34)) === 0), tickFormat: "d" }, y: { label: null, nice: true }, color: { type: "identity" }, symbol: { type: "identity" } as any, r: { type: "identity" },
          marks: [
            zs ? Plot.rect([0], { y1: () => -2, y2: () => 2, fill: c.band }) : [0, 1].map((which) => Plot.areaY(band.filter((p) => p.which === which), { x: "turn", y1: "expected_low", y2: "expected_high", fill: color(which), fillOpacity: 0.14 })),
            Plot.ruleY([0], { stroke: c.faint }),
            zs ? null : [0, 1].map((which) => Plot.ruleX(known.filter((p) => p.which === which), { x: "turn", y1: "low", y2: "high", stroke: color(which), strokeOpacity: 0.5, dx: which ? 3 : -3 })),
            [0, 1].map((which) => Plot.lineY(points.filter((p) => p.which === which), { x: "turn", y: "value", stroke: color(which), strokeWidth: 1.8, strokeDasharray: which ? "6,3" : undefined, dx: zs ? 0 : which ? 3 : -3 } as any)),
            [0, 1].map((which) => Plot.dot(known.filter((p) => p.which === which), { x: "turn", y: "value", symbol: which ? "triangle" : "circle", fill: color(which), r: (p: any) => (p.alarm ? 6 : 3.8), dx: zs ? 0 : which ? 3 : -3, title } as any)),
          ],
        })} />
    </Section>
  );
}

interface Shared { id: number; parts: [number, number]; within: [number, number] }

/** The largest parts of a transition, and what bounds those of all other features. */
function partsOf(step: Transition): [Map<number, number>, number] {
  const listed = step.largest ? Array.from(step.largest.feature, (id, i) => [id, step.largest!.contrib[i]!] as const) : ["away", "toward"].flatMap((name) => entriesOf(step.tables[name])).map((entry) => [entry.id, entry.contrib] as const);
  const parts = new Map(listed), smallest = Math.min(...listed.map(([, part]) => Math.abs(part)));
  return [parts, isFinite(smallest) ? smallest : 0];
}

function sharedParts(steps: [Transition, Transition]): Shared[] {
  const [[first, low], [second, other]] = steps.map(partsOf) as [[Map<number, number>, number], [Map<number, number>, number]];
  const ids = [...new Set([...first.keys(), ...second.keys()])];
  const rows = ids.map((id): Shared => ({ id, parts: [first.get(id) ?? NaN, second.get(id) ?? NaN], within: [first.has(id) ? 0 : low, second.has(id) ? 0 : other] }));
  return rows.sort((x, y) => Math.abs(difference(y)) - Math.abs(difference(x)));
}
/** Second minus first; a part that is not known counts as 0, from which it is at most `within` away. */
const difference = (row: Shared): number => (isNaN(row.parts[1]) ? 0 : row.parts[1]) - (isNaN(row.parts[0]) ? 0 : row.parts[0]);

/** Cosine of two transitions' parts over the features that are known in either. */
function likeness(rows: Shared[]): number {
  let dot = 0, one = 0, two = 0;
  for (const { parts: [x, y] } of rows) { const a = isNaN(x) ? 0 : x, b = isNaN(y) ? 0 : y; dot += a * b; one += a * a; two += b * b; }
  return dot / Math.sqrt(one * two || 1);
}

export function BothFeatures({ sides, runs }: Pair) {
  const state = useAddress(), features = useFeatures().data;
  const why = unlike(sides[0].core.provenance, sides[1].core.provenance);
  const steps = runs.map((run, i) => run.transitions.find((step) => step.turn === state.num(i ? "tb" : "ta")) ?? (run.selected === null ? undefined : run.transitions[run.selected])) as [Transition | undefined, Transition | undefined];
  const rows = useMemo(() => (steps[0] && steps[1] ? sharedParts([steps[0], steps[1]]) : []), [steps[0], steps[1]]);
  if (why) return <Section title="Features"><Notice>Features of these two experiments are not the same, so they are not compared: {why}.</Notice></Section>;
  if (!steps[0] || !steps[1] || !Object.keys(steps[0].tables).length || !Object.keys(steps[1].tables).length) return <Section title="Features"><Notice>Features are compared where both runs have a transition and are in the SAE's space.</Notice></Section>;
  const both = rows.filter((row) => !row.within[0] && !row.within[1]);
  const known = (value: number, within: number) => (isNaN(value) ? <span class="soft">within ±{num(within, 2)}</span> : signed(value));
  const columns: Column<Shared>[] = [
    { key: "feature", label: "feature", text: true, value: (r) => r.id, show: (r) => <FeatureName id={r.id} features={features} /> },
    ...NAMES.map((name, i): Column<Shared> => ({ key: name, label: `${i ? "▲" : "●"} ${name}, into turn ${steps[i]!.turn}`, value: (r) => r.parts[i]!, show: (r) => known(r.parts[i]!, r.within[i]!) })),
    { key: "difference", label: "difference", value: difference, show: (r) => <span class="nowrap">{r.within[0] || r.within[1] ? <span class="soft">≈ </span> : ""}{signed(difference(r))}</span>, title: "second minus first" },
    { key: "label", label: "label", text: true, hidden: true, value: (r) => labelOf(features, r.id) },
  ];
  const pick = (i: number) => <Choose label={`${NAMES[i]}: into turn`} value={String(steps[i]!.turn)} options={runs[i]!.transitions.map((step, at) => [String(step.turn), `${step.turn} (${signed(step.delta_score)})${at === runs[i]!.selected ? ", selected" : ""}`])} onChange={(value) => update({ [i ? "tb" : "ta"]: value })} />;
  return (
    <Section title="Features of two transitions" note={`What each feature adds to the change of the plain projection. ${both.length} features are among the ${steps[0].largest ? "256 " : ""}largest parts of both; of the others one part is known only to be small. Cosine of the two changes over these features: ${num(likeness(rows), 2)}.`}>
      <div class="bar">{pick(0)}{pick(1)}</div>
      <div class="columns">
        <Dumbbells rows={rows.slice(0, 20)} features={features} label={`The ${Math.min(20, rows.length)} features that differ most`} />
        <Table name={`features_${runs[0].conversation}_${runs[1].conversation}`} caption="Parts in the change of the projection, the largest difference first" quiet rows={rows} columns={columns} limit={16} onRow={(row) => go("features", { feature: row.id })} />
      </div>
    </Section>
  );
}

const short = (text: string, most: number): string => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

function Dumbbells({ rows, features, label }: { rows: Shared[]; features: Features | undefined; label: string }) {
  const c = mark(), zero = (value: number) => (isNaN(value) ? 0 : value);
  const points = rows.flatMap((row) => row.parts.map((part, which) => ({ id: row.id, which, part: zero(part), known: !isNaN(part) })));
  return (
    <Chart name="compared_features" title="The largest differences" note="Circle: first, triangle: second; hollow: known only to be near 0." label={label} deps={[rows, features]}
      table={{ heads: ["feature", "label", "first", "second", "difference"], rows: rows.map((row) => [row.id, labelOf(features, row.id), row.parts[0], row.parts[1], difference(row)]) }}
      options={(width) => {
        const room = Math.min(190, width * 0.42);
        return {
          height: 44 + 20 * rows.length, marginLeft: room, marginRight: 14, marginBottom: 34, x: { label: "away ← part → toward", labelAnchor: "center", labelArrow: "none", labelOffset: 32, ticks: 5, nice: true }, y: { label: null, domain: rows.map((row) => row.id), tickFormat: (id: number) => short(`${id} ${labelOf(features, id)}`, Math.floor(room / 6.6)), tickSize: 0 }, color: { type: "identity" }, symbol: { type: "identity" } as any,
          marks: [
            Plot.ruleX([0], { stroke: c.soft }), Plot.link(rows, { x1: (r: Shared) => zero(r.parts[0]), x2: (r: Shared) => zero(r.parts[1]), y1: "id", y2: "id", stroke: c.soft } as any),
            Plot.dot(points, { x: "part", y: "id", symbol: (d: any) => (d.which ? "triangle" : "circle"), fill: (d: any) => (d.known ? color(d.which) : "var(--ground)"), stroke: (d: any) => color(d.which), r: 4, title: (d: any) => `${d.id} ${labelOf(features, d.id)}, ${NAMES[d.which]}: ${d.known ? signed(d.part) : "near 0"}` } as any),
          ],
        };
      }} />
  );
}

/** Each role's cosine at the last turn with tokens. */
function atTheEnd(run: Run): Map<string, number> {
  for (let turn = run.turns.score!.length - 1; turn >= 0; turn--) {
    const found = nearest(run, turn);
    if (found.length) return new Map(found.map(({ role, cosine }) => [role, cosine]));
  }
  return new Map();
}

export function BothRoles({ sides, runs }: Pair) {
  const [x, y] = runs.map(atTheEnd) as [Map<string, number>, Map<string, number>];
  const rows = [...x.keys()].filter((role) => y.has(role)).map((role) => ({ role, first: x.get(role)!, second: y.get(role)! }));
  const left = [...x.keys(), ...y.keys()].filter((role) => !(x.has(role) && y.has(role)));
  if (!rows.length) return <Section title="Roles at the end"><Notice>The two runs share no role.</Notice></Section>;
  const apart = sides[0].other !== sides[1].other ? " Each is taken in its own experiment's space, against its own mean role." : "";
  return (
    <Section title="Roles at the end" note={`Cosine of the last turn with each role, both minus the mean role.${apart}${left.length ? ` Not in both: ${left.join(", ")}.` : ""}`}>
      <Table name="roles_at_the_end" caption="Cosines with the roles" quiet rows={rows} limit={20} sort={["difference", -1]} columns={[
        { key: "role", label: "role", text: true, value: (r) => r.role },
        { key: "first", label: "● first", value: (r) => r.first, show: (r) => num(r.first, 2) },
        { key: "second", label: "▲ second", value: (r) => r.second, show: (r) => num(r.second, 2) },
        { key: "difference", label: "difference", value: (r) => r.second - r.first, show: (r) => signed(r.second - r.first, 2) },
      ]} />
    </Section>
  );
}
