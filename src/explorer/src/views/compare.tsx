// Two runs side by side: trajectories, the roles they come near, and the features behind their chosen transitions.
import * as Plot from "@observablehq/plot";
import { mark } from "../colors";
import { hasPart, usePart } from "../data";
import { num, signed, words } from "../format";
import type { ViewProps } from "../main";
import { FeatureName, labelOf, useFeatures } from "../names";
import { Chart } from "../plot";
import { go, link, update, useAddress } from "../state";
import type { Run, RunRow } from "../types";
import { Choose, type Column, Notice, Section, Table, Waiting } from "../ui";
import { entriesOf } from "./changes";
import { alarmText } from "./overview";
import { pointsOf } from "./trajectory";

const key = (run: RunRow) => `${run.analysis}/${run.conversation}`;

export function Compare({ core }: ViewProps) {
  const state = useAddress();
  const listed = core.runs.filter((run) => hasPart(`drift/${key(run)}`));
  const find = (name: string, other: number) => listed.find((run) => key(run) === name) ?? listed[other];
  const a = find(state.get("a"), 0), b = find(state.get("b"), 1);
  const first = usePart<Run>(a ? `drift/${key(a)}` : null), second = usePart<Run>(b ? `drift/${key(b)}` : null);
  if (!a || !b) return <Notice>There are fewer than two runs on this page.</Notice>;
  const options = listed.map((run) => [key(run), `${words(run.conversation)} (${run.analysis})`] as [string, string]);
  const hidden = [a, b].find((run) => run.sensitive && state.get("sensitive") !== "shown");
  return (
    <>
      <h1 class="sr">Two runs compared</h1>
      <div class="bar">
        <Choose label="first" value={key(a)} options={options} onChange={(value) => update({ a: value, b: key(b) })} />
        <Choose label="second" value={key(b)} options={options} onChange={(value) => update({ a: key(a), b: value })} />
        <span class="tabs"><button type="button" onClick={() => update({ a: key(b), b: key(a) })}>swap</button></span>
      </div>
      {hidden ? <Notice strong>{words(hidden.conversation)} is marked as sensitive. <button type="button" class="text" onClick={() => update({ sensitive: "shown" })}>show it</button></Notice>
        : !first.data || !second.data ? <Waiting what="the runs" error={first.error ?? second.error} />
        : first.data.error || second.data.error ? <Notice strong>{words((first.data.error ? a : b).conversation)} could not be analyzed: {first.data.error ?? second.data.error}</Notice>
        : <Both a={a} b={b} first={first.data} second={second.data} />}
    </>
  );
}

function Both({ a, b, first, second }: { a: RunRow; b: RunRow; first: Run; second: Run }) {
  const c = mark(), names = [`${words(a.conversation)} (${a.analysis})`, `${words(b.conversation)} (${b.analysis})`];
  const alike = a.analysis === b.analysis;
  const zs = !alike;
  const points = [first, second].flatMap((run, which) => pointsOf(run).map((p) => ({ ...p, which, value: zs ? p.z : p.score })));
  const known = points.filter((p) => !isNaN(p.value)), color = (d: { which: number }) => (d.which ? c.away : c.toward);
  return (
    <>
      <div class="columns">{[a, b].map((run, i) => (
        <p key={i}><b style={{ color: color({ which: i }) }}>{i ? "▲" : "●"} {names[i]}</b><br /><span class="soft">{alarmText(run)}; lowest z {num(run.fall, 2)}; confounds {run.confound_verdict}; causal test {run.causal ?? "not made"}.</span> <a href={link("drift", { run: key(run) })}>read it</a></p>
      ))}</div>
      {(a.axis_doubt || b.axis_doubt) && <Notice strong>Not to be interpreted: {[a, b].filter((run) => run.axis_doubt).map((run) => `the axis of ${run.analysis} (${run.axis_doubt})`).filter((text, i, all) => all.indexOf(text) === i).join("; ")}.</Notice>}
      <Chart name="compared_trajectories" title="Trajectories" note={zs ? "Two analyses have scores of their own, so shown is z: standard deviations of plain conversations' turns at that place." : "Scores with 95 % intervals; circles the first, triangles the second."}
        label="Trajectories of two runs" deps={[first, second]} table={{ heads: ["run", "turn", "score", "low", "high", "z"], rows: points.map((p) => [names[p.which]!, p.turn, p.score, p.low, p.high, p.z]) }}
        options={() => ({
          height: 270, marginLeft: 44, marginBottom: 40, x: { label: "assistant turn", labelAnchor: "center", labelArrow: "none", labelOffset: 36, interval: 1, tickFormat: "d" }, y: { label: null, nice: true }, color: { type: "identity" }, symbol: { type: "identity" } as any,
          marks: [
            Plot.ruleY([0], { stroke: c.faint }),
            zs ? null : Plot.ruleX(known, { x: "turn", y1: "low", y2: "high", stroke: color, strokeOpacity: 0.5 }),
            Plot.lineY(points, { x: "turn", y: "value", z: "which", stroke: color, strokeWidth: 1.6 }),
            Plot.dot(known, { x: "turn", y: "value", symbol: (d: any) => (d.which ? "triangle" : "circle"), fill: color, r: 3.8, title: (d: any) => `${names[d.which]}, turn ${d.turn}: ${num(d.value)}` }),
          ],
        })} />
      <FeaturesOfBoth a={a} b={b} first={first} second={second} />
      <RolesOfBoth first={first} second={second} names={names} />
    </>
  );
}

interface Pair { id: number; first: number | null; second: number | null }

function FeaturesOfBoth({ a, b, first, second }: { a: RunRow; b: RunRow; first: Run; second: Run }) {
  const features = useFeatures().data;
  const steps = [first, second].map((run) => (run.selected === null ? undefined : run.transitions[run.selected]));
  if (!steps[0] || !steps[1] || !first.features || !second.features) return <Notice>Features are compared where both runs have a transition and are in the SAE's space.</Notice>;
  const tables = steps.map((step) => new Map(["away", "toward"].flatMap((name) => entriesOf(step!.tables[name])).map((entry) => [entry.id, entry.contrib])));
  const rows: Pair[] = [...new Set([...tables[0]!.keys(), ...tables[1]!.keys()])].map((id) => ({ id, first: tables[0]!.get(id) ?? null, second: tables[1]!.get(id) ?? null }))
    .sort((x, y) => Number(y.first !== null && y.second !== null) - Number(x.first !== null && x.second !== null) || Math.abs(y.first ?? y.second!) - Math.abs(x.first ?? x.second!));
  const columns: Column<Pair>[] = [
    { key: "feature", label: "feature", text: true, value: (r) => r.id, show: (r) => <FeatureName id={r.id} features={features} /> },
    { key: "first", label: `first, into turn ${steps[0].turn}`, value: (r) => r.first, show: (r) => signed(r.first) },
    { key: "second", label: `second, into turn ${steps[1].turn}`, value: (r) => r.second, show: (r) => signed(r.second) },
    { key: "label", label: "label", text: true, hidden: true, value: (r) => labelOf(features, r.id) },
  ];
  const shared = rows.filter((row) => row.first !== null && row.second !== null).length;
  return (
    <Section title="Features of the selected transitions" note={`${shared} features are among the largest of both; – : not among that run's largest, which is not the same as zero. The selected transition is ${first.summary.config?.transition_pick?.replaceAll("_", " ")}.`}>
      <Table name={`features_${a.conversation}_${b.conversation}`} caption="Parts in the change of the projection" quiet rows={rows} columns={columns} limit={20} onRow={(row) => go("features", { feature: row.id })} />
    </Section>
  );
}

function RolesOfBoth({ first, second, names }: { first: Run; second: Run; names: string[] }) {
  const last = (run: Run) => {
    const turns = run.turns.score!.length, n = run.roles.names.length;
    for (let t = turns - 1; t >= 0; t--) if (!isNaN(run.roles.cosines[t * n]!)) return run.roles.names.map((_, r) => run.roles.cosines[t * n + r]!);
    return run.roles.names.map(() => NaN);
  };
  const [x, y] = [last(first), last(second)];
  const rows = first.roles.names.map((role, r) => ({ role, first: x[r]!, second: y[second.roles.names.indexOf(role)] ?? NaN }));
  return (
    <Section title="Roles at the end" note="Cosine of the last turn with each role, both minus the mean role.">
      <Table name="roles_at_the_end" caption="Cosines with the roles" quiet rows={rows} limit={20} sort={["first", -1]} columns={[
        { key: "role", label: "role", text: true, value: (r) => r.role },
        { key: "first", label: names[0]!, value: (r) => r.first, show: (r) => num(r.first, 2) },
        { key: "second", label: names[1]!, value: (r) => r.second, show: (r) => num(r.second, 2) },
        { key: "difference", label: "difference", value: (r) => r.second - r.first, show: (r) => signed(r.second - r.first, 2) },
      ]} />
    </Section>
  );
}
