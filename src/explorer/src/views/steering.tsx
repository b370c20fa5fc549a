// What adding directions did to the answers, beside its baselines, and what capping them did to conversations.
import * as Plot from "@observablehq/plot";
import { group, legible, mark } from "../colors";
import { usePart } from "../data";
import { many, num, signed, words } from "../format";
import { Chart } from "../plot";
import { update, useAddress } from "../state";
import type { Capping, Row, Steering, Sweep } from "../types";
import { Choose, type Column, Lost, Notice, Section, Table, Waiting } from "../ui";

export function Sweeps() {
  const state = useAddress(), part = usePart<Steering>("steering");
  if (!part.data) return <><h1 class="sr">Steering</h1><Waiting what="the sweeps" error={part.error} /></>;
  const capping = part.data.capping ?? {}, names = [...Object.keys(part.data.sweeps), ...Object.keys(capping)];
  const name = names.includes(state.get("sweep")) ? state.get("sweep") : names[0];
  if (!name) return <Notice>No sweep has been made.</Notice>;
  return (
    <>
      <Lost what="sweep" asked={state.get("sweep")} known={names} instead={`shown is ${words(name)}`} />
      {names.length > 1 && <Choose label="sweep" value={name} options={names.map((one) => [one, words(one)])} onChange={(value) => update({ sweep: value, measure: null, question: null })} />}
      <h1 dir="auto">{words(name)}</h1>
      {part.data.sweeps[name] ? <OneSweep name={name} sweep={part.data.sweeps[name]} /> : <OneCapping name={name} capping={capping[name]!} />}
    </>
  );
}

const ARMS: [RegExp, string][] = [
  [/^none$/, "the model as it is"], [/^prompt$/, "a system prompt in place of the direction"], [/^random/, "random directions of the same size"],
  [/^orthogonal$/, "a direction of the same size with none of this one in it"], [/^direction$/, "the direction itself"],
];
const explained = (arm: string): string => ARMS.find(([pattern]) => pattern.test(arm))?.[1] ?? "";
const DASHES = ["", "5,3", "2,3", "8,3,2,3"], SYMBOLS = ["circle", "square", "triangle", "diamond", "star", "wye"] as const;

function useMeasure(rows: Row[], primary: string): [string, string[]] {
  const state = useAddress(), measures = [...new Set(rows.map((row) => String(row.measure)))], asked = state.get("measure");
  return [measures.includes(asked) ? asked : measures.includes(primary) ? primary : measures[0]!, measures];
}

function OneSweep({ name, sweep }: { name: string; sweep: Sweep }) {
  const [measure, measures] = useMeasure(sweep.table, String(sweep.summary.primary)), summary = sweep.summary;
  const rows = sweep.table.filter((row) => row.measure === measure), arms = [...new Set(rows.map((row) => String(row.arm)))];
  return (
    <>
      <p class="soft">Direction <bdi>{summary.direction}</bdi> added at layer {summary.layers?.join(", ")} in units of {String(summary.units).replaceAll("_", " ")}; {many(summary.questions, "question")}, {many(summary.samples, "answer")} a point.</p>
      <Choose label="measure" value={measure} options={measures.map((one) => [one, words(one)])} onChange={(value) => update({ measure: value })} />
      <Doses name={name} rows={rows} arms={arms} measure={measure} />
      <ul class="plain small soft">{arms.filter(explained).map((arm) => <li key={arm}><b>{arm}</b>: {explained(arm)}</li>)}</ul>
      <Turning points={(summary.turning_points ?? []).filter((point: Row) => point.measure === measure)} />
      {sweep.equal_kl.length > 0 && <Section title="At equal distance from the unsteered model" note="Effects compared where the arms have the same KL divergence; excess: the direction's beyond random ones.">
        <Table name={`equal_kl_${name}`} caption="Effects at equal KL" quiet rows={sweep.equal_kl} columns={EQUAL} />
      </Section>}
      <Texts name={name} texts={sweep.texts} />
    </>
  );
}

const EQUAL: Column<Row>[] = [
  ...["at", "coefficient", "kl", "direction", "orthogonal", "random", "prompt"].map((key) => ({ key, label: key, text: key === "at", value: (r: Row) => r[key] })),
  { key: "excess", label: "excess", value: (r) => r.excess, show: (r) => (r.excess === null ? "–" : <span class="nowrap">{num(r.excess)} <span class="soft">[{num(r.excess_low)}, {num(r.excess_high)}]</span></span>) },
  { key: "excess_low", label: "low", hidden: true, value: (r) => r.excess_low }, { key: "excess_high", label: "high", hidden: true, value: (r) => r.excess_high },
];

function Doses({ name, rows, arms, measure }: { name: string; rows: Row[]; arms: string[]; measure: string }) {
  const lines = arms.filter((arm) => rows.filter((row) => row.arm === arm).length > 1), single = arms.filter((arm) => !lines.includes(arm)), c = mark();
  const none = rows.find((row) => row.arm === "none");
  const data = lines.flatMap((arm) => [...rows.filter((row) => row.arm === arm), ...(none ? [{ ...none, arm }] : [])]).sort((a, b) => Number(a.coefficient) - Number(b.coefficient));
  const color = (arm: unknown) => (arm === "direction" ? c.ink : group(arms.indexOf(String(arm)))), title = (d: Row) => `${d.arm} ${num(d.coefficient)}: ${num(d.mean)} [${num(d.low)}, ${num(d.high)}], n = ${d.n}`;
  const rules = rows.filter((row) => single.includes(String(row.arm)));
  return (
    <Chart name={`sweep_${name}_${measure}`} title={`${words(measure)} against what was added`} note="Lines with 95 % intervals; dashed rules: the model as it is, and with a prompt in place of the direction." label={`${lines.length} arms over coefficients`} deps={[rows, measure]}
      table={{ heads: ["arm", "coefficient", "mean", "low", "high", "n"], rows: rows.map((r) => [r.arm, r.coefficient, r.mean, r.low, r.high, r.n] as (string | number)[]) }}
      options={(width) => ({
        height: 300, marginLeft: 50, marginRight: 100, marginBottom: 40, insetLeft: 12, insetRight: 12, x: { label: "coefficient", labelAnchor: "center", labelArrow: "none", labelOffset: 36, ticks: width < 500 ? 4 : 7 }, y: { label: null, nice: true }, color: { type: "identity" },
        marks: [
          Plot.ruleX([0], { stroke: c.faint }),
          Plot.ruleY(rules, { y: "mean", stroke: (d: Row) => color(d.arm), strokeDasharray: "4,4", title }),
          // Side by side, so that no interval covers another.
          ...lines.map((arm, i) => {
            const own = data.filter((row) => row.arm === arm), dx = 5 * (i - (lines.length - 1) / 2), place = Math.max(0, lines.filter((one) => one !== "direction").indexOf(arm));
            return [
              Plot.ruleX(own, { x: "coefficient", y1: "low", y2: "high", stroke: color(arm), strokeOpacity: 0.6, dx }),
              Plot.lineY(own, { x: "coefficient", y: "mean", stroke: color(arm), strokeWidth: arm === "direction" ? 2.4 : 1.3, strokeDasharray: arm === "direction" ? undefined : DASHES[1 + (place % 3)], dx } as any),
              Plot.dot(own, { x: "coefficient", y: "mean", fill: color(arm), r: arm === "direction" ? 4 : 3, symbol: arm === "direction" ? "circle" : SYMBOLS[1 + (place % 5)], dx, title } as any),
            ];
          }),
          labels([...lines.map((arm) => ({ arm, row: data.filter((row) => row.arm === arm).at(-1)! })), ...rules.map((row) => ({ arm: String(row.arm), row }))], color),
        ],
      })} />
  );
}

/** The arms' names at the right edge, moved apart where they would cover each other. */
function labels(ends: { arm: string; row: Row }[], color: (arm: unknown) => string): Plot.Markish {
  return (index: any, scales: any, values: any, dimensions: any, context: any) => {
    void index; void values;
    const layer = context.document.createElementNS("http://www.w3.org/2000/svg", "g");
    const placed = ends.map(({ arm, row }) => ({ arm, y: scales.y(Number(row.mean)) as number })).sort((a, b) => a.y - b.y);
    placed.forEach((one, i) => { if (i) one.y = Math.max(one.y, placed[i - 1]!.y + 13); });
    const over = (placed.at(-1)?.y ?? 0) - (dimensions.height - dimensions.marginBottom);
    for (const { arm, y } of placed) {
      const text = context.document.createElementNS("http://www.w3.org/2000/svg", "text");
      text.setAttribute("x", String(dimensions.width - dimensions.marginRight + 8));
      text.setAttribute("y", String(y - Math.max(over, 0)));
      text.setAttribute("dy", "0.32em");
      text.setAttribute("text-anchor", "start");
      text.setAttribute("fill", legible(color(arm)));
      if (arm === "direction") text.setAttribute("font-weight", "700");
      text.textContent = arm.length > 14 ? `${arm.slice(0, 13)}…` : arm;
      layer.append(text);
    }
    return layer;
  };
}

function Turning({ points }: { points: Row[] }) {
  if (!points.length) return null;
  return <ul class="plain small soft">{points.map((point, i) => <li key={i}>On the {point.side} side the effect is largest at {num(point.peak)}; at {num(point.largest)} it has lost {num(point.loss)} [{num(point.low)}, {num(point.high)}]: {point.inverted_u ? "too much turns it back" : "no turning back is shown"}.</li>)}</ul>;
}

/** One question's answers, arm by arm, from the largest negative coefficient to the largest. */
function Texts({ name, texts }: { name: string; texts: Sweep["texts"] }) {
  const state = useAddress(), questions = [...new Set(texts.map((text) => text.question))];
  if (!questions.length) return null;
  const at = Math.max(0, Math.min(questions.length - 1, state.num("question") ?? 0));
  const rows = texts.filter((text) => text.question === questions[at]).sort((a, b) => a.arm.localeCompare(b.arm) || a.coefficient - b.coefficient);
  return (
    <Section title="What it said" note="The first answers of each point.">
      <Choose label="question" value={String(at)} options={questions.map((question, i) => [String(i), question.length > 80 ? `${question.slice(0, 79)}…` : question])} onChange={(value) => update({ question: value })} />
      <Table name={`texts_${name}_${at}`} caption={questions[at]!} rows={rows} limit={40} columns={[
        { key: "arm", label: "arm", text: true, value: (r) => r.arm }, { key: "coefficient", label: "coefficient", value: (r) => r.coefficient, show: (r) => signed(r.coefficient) },
        { key: "response", label: "answer", text: true, value: (r) => r.response, show: (r) => <span class="answer" dir="auto">{r.response || <span class="soft">(empty)</span>}</span> },
      ]} />
    </Section>
  );
}

const countText = (n: number): string => (n === 1 ? "One conversation a cap, so no intervals." : `${n} conversations a cap; 95 % intervals over them.`);

function OneCapping({ name, capping }: { name: string; capping: Capping }) {
  const last = Math.max(...Object.keys(capping.floors.floors ?? {}).map(Number)), [measure, measures] = useMeasure(capping.table, `projection_${last}`);
  const rows = capping.table.filter((row) => row.measure === measure && row.mean !== null).map((row) => ({ ...row, cap: String(row.cap ?? "none") })) as (Row & { cap: string })[];
  const caps = [...new Set(rows.map((row) => row.cap))].sort((a, b) => Number(b === "none") - Number(a === "none") || Number(a) - Number(b)), c = mark();
  const conditions = [...new Set(rows.map((row) => String(row.condition)))], color = (cap: string) => (cap === "none" ? c.ink : group(caps.indexOf(cap)));
  const text = (cap: string) => (cap === "none" ? "no cap" : `floor at percentile ${cap}`);
  const layer = measure.match(/^projection_(\d+)$/)?.[1], floors = Object.entries<number>((layer && capping.floors.floors?.[layer]) || {});
  return (
    <>
      <p class="soft">The axis capped from below at layers {Object.keys(capping.floors.floors ?? {}).join(", ")}; floors are percentiles of {num(capping.floors.tokens)} assistant tokens of {num(capping.floors.conversations)} plain conversations.</p>
      <Choose label="measure" value={measure} options={measures.map((one) => [one, words(one)])} onChange={(value) => update({ measure: value })} />
      <div class="legend" aria-hidden="true">{caps.map((cap, i) => <span key={cap}><b style={{ color: color(cap) }}>{"●■▲◆"[i % 4]}</b> {text(cap)}</span>)}{floors.length > 0 && <span>┄ the floor</span>}</div>
      <div class="columns">
        {conditions.map((condition) => {
          const own = rows.filter((row) => String(row.condition) === condition);
          return (
            <Chart key={condition} name={`capping_${name}_${condition}_${measure}`} title={`${words(measure)}: ${condition}`} note={countText(Math.max(...own.map((row) => Number(row.n))))} label={`${words(measure)} by turn under ${caps.length} caps`} deps={[capping, measure]}
              table={{ heads: ["cap", "turn", "mean", "low", "high", "n"], rows: own.map((r) => [r.cap, r.turn, r.mean, r.low, r.high, r.n] as (string | number)[]) }}
              options={() => ({
                height: 230, marginLeft: 46, marginBottom: 38, x: { label: "assistant turn", labelAnchor: "center", labelArrow: "none", labelOffset: 34, interval: 1, tickFormat: "d" }, y: { label: null, nice: true }, color: { type: "identity" },
                marks: [
                  Plot.ruleY(floors.filter(([cap]) => caps.includes(cap)), { y: (d: any) => d[1], stroke: (d: any) => color(d[0]), strokeDasharray: "2,3" }),
                  Plot.ruleX(own.filter((row) => row.low !== null), { x: "turn", y1: "low", y2: "high", stroke: (d: any) => color(d.cap), strokeOpacity: 0.5 }),
                  Plot.lineY(own, { x: "turn", y: "mean", z: "cap", stroke: (d: any) => color(d.cap), strokeWidth: 1.6 }),
                  ...caps.map((cap, i) => Plot.dot(own.filter((row) => row.cap === cap), { x: "turn", y: "mean", symbol: SYMBOLS[i % 4], fill: color(cap), r: 3.6, title: (d: any) => `${text(cap)}, turn ${d.turn}: ${num(d.mean)}` } as any)),
                ],
              })} />
          );
        })}
      </div>
    </>
  );
}
