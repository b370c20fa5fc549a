// Traits and monitor: how good each trait vector is, what tokens project on directions, what steering along them does.
import * as Plot from "@observablehq/plot";
import { useMemo } from "preact/hooks";
import { group, heat, mark } from "../colors";
import { partNames, usePart } from "../data";
import { num, percent, signed, words } from "../format";
import { Chart } from "../plot";
import { update, useAddress } from "../state";
import type { Row, Steering, Trace, Traits } from "../types";
import { Choose, Notice, Section, Table, Tabs, Waiting } from "../ui";

export function Directions() {
  const state = useAddress();
  const traces = partNames("traces/"), traits = partNames("traits").length > 0, steering = partNames("steering").length > 0;
  const tabs: [string, string][] = [["traits", "traits"], ["monitor", "monitor"], ["steering", "steering"]];
  const which = state.get("tab") || (traits ? "traits" : traces.length ? "monitor" : "steering");
  return (
    <>
      <div class="bar"><Tabs label="What" value={which} options={tabs} onChange={(value) => update({ tab: value })} /></div>
      {which === "traits" ? (traits ? <AllTraits /> : <Notice>The experiment has no traits.</Notice>)
        : which === "monitor" ? (traces.length ? <Monitor names={traces} /> : <Notice>No conversation was traced along directions.</Notice>)
        : steering ? <Sweeps /> : <Notice>The experiment has no steering sweeps.</Notice>}
      {(which === "steering" || (which === "traits" ? !traits : !traces.length)) && <h1 class="sr">Traits and monitor</h1>}
    </>
  );
}

function AllTraits() {
  const state = useAddress(), part = usePart<Traits>("traits");
  if (!part.data) return <Waiting what="the traits" error={part.error} />;
  const names = Object.keys(part.data.traits), name = names.includes(state.get("trait")) ? state.get("trait") : names[0];
  const trait = name === undefined ? undefined : part.data.traits[name];
  if (!trait || !name) return <Notice>No trait has been evaluated.</Notice>;
  const e = trait.evaluation, at = e.at_selected_layer ?? {}, held = e.held_out ?? {};
  const compared = part.data.compared.filter((row) => row.first === name && row.layer === at.layer);
  return (
    <>
      <Choose label="trait" value={name} options={names.map((one) => [one, words(one)])} onChange={(value) => update({ trait: value })} />
      <h1 dir="auto">{e.label ?? name}</h1>
      <p dir="auto">{e.polarity}</p>
      {e.doubts?.length > 0 && <Notice strong>Not to be relied on: {e.doubts.join("; ")}.</Notice>}
      {e.judge?.verdict && <Notice>Judge {e.judge.name}: {e.judge.verdict}.</Notice>}
      <div class="columns">
        <Section title={`At layer ${at.layer}`} note={`${e.kept} of ${e.couples} couples kept; evaluated on ${e.evaluation_rows} answers to ${e.evaluation_questions} held-out questions.`}>
          <dl class="facts">
            <dt>AUC, shows it or not</dt><dd>{num(at.auc)} <span class="soft">[{num(at.auc_low)}, {num(at.auc_high)}]</span></dd>
            <dt>correlation with the judge</dt><dd>{num(at.r_within)} <span class="soft">[{num(at.r_low)}, {num(at.r_high)}], n = {at.n_judged}</span></dd>
            <dt>separation</dt><dd>{num(at.separation)} <span class="soft">layer chosen on other questions: {num(held.separation)}</span></dd>
            <dt>split-half cosine</dt><dd>{num(at.split_half)}</dd>
            <dt>cosine of the pairs' own</dt><dd>{num(at.pair_cosine)}</dd>
            <dt>explained by nuisances</dt><dd>{percent(at.nuisance_share)} <span class="soft">shuffled {percent(at.nuisance_share_shuffled)}</span></dd>
          </dl>
        </Section>
        <Layers rows={trait.layers} selected={at.layer} name={name} />
      </div>
      {compared.length > 0 && <Section title={`Beside other directions, layer ${at.layer}`}>
        <Table name={`compared_${name}`} caption="Cosines with other directions" quiet rows={compared} limit={20} sort={["cosine", -1]} columns={[
          { key: "second", label: "direction", text: true, value: (r) => r.second as string }, { key: "kind", label: "kind", text: true, value: (r) => r.kind as string }, { key: "cosine", label: "cosine", value: (r) => r.cosine as number, show: (r) => signed(r.cosine) },
        ]} />
      </Section>}
    </>
  );
}

function Layers({ rows, selected, name }: { rows: Row[]; selected: number; name: string }) {
  const c = mark();
  return (
    <Chart name={`layers_${name}`} title="AUC on held-out questions by layer" note="Band: 95 % interval. Dashed: chance. The marked layer was selected." label={`AUC over ${rows.length} layers`} deps={[rows]}
      table={{ heads: ["layer", "auc", "auc_low", "auc_high", "split_half", "separation"], rows: rows.map((r) => ["layer", "auc", "auc_low", "auc_high", "split_half", "separation"].map((key) => r[key] as number)) }}
      options={() => ({
        height: 230, marginLeft: 40, marginBottom: 40, x: { label: "layer (output of the decoder block)", labelAnchor: "center", labelArrow: "none", labelOffset: 36 }, y: { domain: [0, 1], label: null, ticks: 5 },
        marks: [Plot.areaY(rows, { x: "layer", y1: "auc_low", y2: "auc_high", fill: c.band }), Plot.ruleY([0.5], { stroke: c.soft, strokeDasharray: "3,3" }), Plot.ruleX([selected], { stroke: c.accent, strokeOpacity: 0.5 }), Plot.lineY(rows, { x: "layer", y: "auc", stroke: c.ink, marker: "dot" })],
      })} />
  );
}

function Monitor({ names }: { names: string[] }) {
  const state = useAddress();
  const name = names.includes(`traces/${state.get("talk")}`) ? `traces/${state.get("talk")}` : names[0]!;
  const part = usePart<Trace>(name);
  return (
    <>
      {names.length > 1 && <Choose label="conversation" value={name} options={names.map((one) => [one, words(one.slice(7))])} onChange={(value) => update({ talk: value.slice(7) })} />}
      {!part.data ? <Waiting what="the trace" error={part.error} /> : part.data.error ? <Notice strong>This conversation could not be traced: {part.data.error}</Notice> : <OneTrace trace={part.data} />}
    </>
  );
}

/** Projections in standard deviations of the assistant's tokens in plain conversations; plain where there is no scale. */
function standardized(trace: Trace, column: string): Float32Array {
  const scale = trace.scale?.columns[column];
  return scale ? trace.values[column]!.map((value) => (value - scale.mean) / scale.sd) : trace.values[column]!;
}

function OneTrace({ trace }: { trace: Trace }) {
  const state = useAddress();
  const column = trace.columns.includes(state.get("along")) ? state.get("along") : trace.columns[0]!;
  const all = useMemo(() => Object.fromEntries(trace.columns.map((one) => [one, standardized(trace, one)])), [trace]);
  const messages = useMemo(() => {
    const groups = new Map<number, { role: string; tokens: number[] }>();
    trace.text.forEach((_, i) => {
      if (!trace.in_content[i]) return;
      const message = trace.message_index[i]!;
      if (!groups.has(message)) groups.set(message, { role: trace.roles[i]!, tokens: [] });
      groups.get(message)!.tokens.push(i);
    });
    return [...groups];
  }, [trace]);
  const means = messages.filter(([, m]) => m.role === "assistant").flatMap(([, m], turn) => trace.columns.map((one) => {
    const values = m.tokens.map((i) => all[one]![i]!), mean = values.reduce((a, b) => a + b, 0) / values.length;
    const sd = Math.sqrt(values.reduce((a, b) => a + (b - mean) ** 2, 0) / Math.max(values.length - 1, 1));
    return { turn, column: one, mean, low: mean - 1.96 * sd / Math.sqrt(values.length), high: mean + 1.96 * sd / Math.sqrt(values.length), n: values.length };
  }));
  const c = mark(), unit = trace.scale ? "standard deviations of plain conversations' tokens" : "projection";
  return (
    <>
      <h1 dir="auto">{trace.title || words(trace.conversation)}</h1>
      <Chart name={`trace_${trace.conversation}`} title="Mean of each answer along the directions" note={`In ${unit}; intervals take tokens as independent, so they are too short.`} label={`Means of ${means.length / trace.columns.length} answers along ${trace.columns.length} directions`} deps={[trace, column]}
        table={{ heads: ["turn", "direction", "mean", "low", "high", "tokens"], rows: means.map((m) => [m.turn, m.column, m.mean, m.low, m.high, m.n]) }}
        options={() => ({
          height: 220, marginLeft: 40, marginBottom: 40, x: { label: "assistant turn", labelAnchor: "center", labelArrow: "none", labelOffset: 36, interval: 1, tickFormat: "d" }, y: { label: null, grid: false, ticks: 5 }, color: { type: "identity" },
          marks: [Plot.ruleY([0], { stroke: c.soft, strokeDasharray: "3,3" }), Plot.ruleX(means, { x: "turn", y1: "low", y2: "high", stroke: (d: any) => group(trace.columns.indexOf(d.column)), strokeOpacity: 0.5, dx: 0 }), Plot.lineY(means, { x: "turn", y: "mean", z: "column", stroke: (d: any) => group(trace.columns.indexOf(d.column)), strokeWidth: (d: any) => (d.column === column ? 2.4 : 1.2), marker: "dot" })],
        })} />
      <div class="legend">{trace.columns.map((one, i) => <button type="button" class="plain" aria-pressed={one === column} key={one} onClick={() => update({ along: one })}><i style={{ background: group(i) }} />{one === column ? <b>{one}</b> : one}</button>)}</div>
      <p class="scale">−3 <i style={{ background: "linear-gradient(90deg, rgba(230,97,1,.62), transparent 50%, rgba(94,60,153,.62))" }} /> +3 {unit}, along {column}</p>
      {messages.map(([message, { role, tokens }]) => (
        <article class={`message ${role}`} key={message}>
          <div class="who">{role}</div>
          <div class="said" dir="auto">{tokens.map((i) => { const value = all[column]![i]!; return <span key={i} class={value < -0.3 ? "tok away" : "tok"} style={{ backgroundColor: heat(value, 3) }} title={`${signed(value)}; surprise ${num(trace.surprise[i])}`}>{trace.text[i]}</span>; })}</div>
        </article>
      ))}
    </>
  );
}

function Sweeps() {
  const state = useAddress(), part = usePart<Steering>("steering");
  if (!part.data) return <Waiting what="the sweeps" error={part.error} />;
  const names = Object.keys(part.data.sweeps), name = names.includes(state.get("sweep")) ? state.get("sweep") : names[0];
  if (!name) return <Notice>No sweep has been made.</Notice>;
  const sweep = part.data.sweeps[name]!, measures = [...new Set(sweep.table.map((row) => String(row.measure)))];
  const measure = measures.includes(state.get("measure")) ? state.get("measure") : measures.includes(sweep.summary.primary) ? sweep.summary.primary : measures[0]!;
  const rows = sweep.table.filter((row) => row.measure === measure), arms = [...new Set(rows.map((row) => String(row.arm)))];
  const lines = arms.filter((arm) => rows.filter((row) => row.arm === arm).length > 1), single = arms.filter((arm) => !lines.includes(arm)), c = mark();
  const none = rows.find((row) => row.arm === "none");
  const data = lines.flatMap((arm) => [...rows.filter((row) => row.arm === arm), ...(none ? [{ ...none, arm }] : [])]).sort((a, b) => Number(a.coefficient) - Number(b.coefficient));
  const color = (arm: unknown) => group(arms.indexOf(String(arm)));
  const summary = sweep.summary;
  return (
    <>
      <div class="bar">
        {names.length > 1 && <Choose label="sweep" value={name} options={names.map((one) => [one, one])} onChange={(value) => update({ sweep: value })} />}
        <Choose label="measure" value={measure} options={measures.map((one) => [one, one.replaceAll("_", " ")])} onChange={(value) => update({ measure: value })} />
      </div>
      <p class="soft">Direction {summary.direction} added at layer {summary.layers?.join(", ")} in units of {String(summary.units).replaceAll("_", " ")}; {summary.questions} questions, {summary.samples} answers a point. Baselines: {arms.filter((arm) => arm !== "direction").join(", ")}.</p>
      <Chart name={`sweep_${name}_${measure}`} title={`${measure.replaceAll("_", " ")} against what was added`} note="Lines with 95 % intervals; dashed rules: the model as it is, and with a prompt instead." label={`${lines.length} arms over coefficients`} deps={[sweep, measure]}
        table={{ heads: ["arm", "coefficient", "mean", "low", "high", "n"], rows: rows.map((r) => [r.arm, r.coefficient, r.mean, r.low, r.high, r.n] as (string | number)[]) }}
        options={() => ({
          height: 290, marginLeft: 50, marginBottom: 40, insetLeft: 12, insetRight: 12, x: { label: "coefficient", labelAnchor: "center", labelArrow: "none", labelOffset: 36, ticks: 7 }, y: { label: null, nice: true }, color: { type: "identity" },
          marks: [
            Plot.ruleY(rows.filter((row) => single.includes(String(row.arm))), { y: "mean", stroke: (d: Row) => color(d.arm), strokeDasharray: "4,4" }),
            // Side by side, so that no interval covers another.
            ...lines.flatMap((arm, i) => {
              const own = data.filter((row) => row.arm === arm), dx = 5 * (i - (lines.length - 1) / 2);
              return [Plot.ruleX(own, { x: "coefficient", y1: "low", y2: "high", stroke: color(arm), strokeOpacity: 0.6, dx }), Plot.lineY(own, { x: "coefficient", y: "mean", stroke: color(arm), strokeWidth: arm === "direction" ? 2.4 : 1.2, marker: "dot", dx })];
            }),
            Plot.ruleX([0], { stroke: c.faint }),
          ],
        })} />
      <div class="legend">{arms.map((arm) => <span key={arm}><i style={{ background: color(arm) }} />{arm}</span>)}</div>
      {sweep.equal_kl.length > 0 && <Section title="At equal distance from the unsteered model" note="Effects compared where the arms have the same KL divergence; excess: the direction's beyond random ones.">
        <Table name={`equal_kl_${name}`} caption="Effects at equal KL" quiet rows={sweep.equal_kl} columns={["at", "coefficient", "kl", "direction", "orthogonal", "random", "prompt", "excess"].map((key) => ({ key, label: key, text: key === "at", value: (r: Row) => r[key], show: key === "excess" ? (r: Row) => r.excess === null ? "–" : <span class="nowrap">{num(r.excess)} <span class="soft">[{num(r.excess_low)}, {num(r.excess_high)}]</span></span> : undefined as any }))} />
      </Section>}
      <Section title="What it said">
        {sweep.texts.map((text, i) => <details key={i}><summary>{text.arm} {num(text.coefficient)}: <bdi>{text.question}</bdi></summary><p dir="auto" style={{ whiteSpace: "pre-wrap" }}>{text.response}</p></details>)}
      </Section>
    </>
  );
}
