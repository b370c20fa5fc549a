// The score of each turn with its interval, against what plain conversations score there.
import * as Plot from "@observablehq/plot";
import { useMemo } from "preact/hooks";
import { mark } from "../colors";
import { num, signed } from "../format";
import { Chart } from "../plot";
import type { Run, RunRow, Transition } from "../types";

export interface Point { turn: number; score: number; low: number; high: number; expected: number; expected_low: number; expected_high: number; alarm: boolean; tokens: number; z: number }

const read = (value: unknown): number => (typeof value === "number" ? value : NaN);
export function pointsOf(run: Run): Point[] {
  const { turns } = run;
  return turns.score!.map((score, turn) => ({
    turn, score: read(score), low: read(turns.score_low?.[turn]), high: read(turns.score_high?.[turn]),
    expected: read(turns.expected?.[turn]), expected_low: read(turns.expected_low?.[turn]), expected_high: read(turns.expected_high?.[turn]),
    alarm: Boolean(turns.alarm?.[turn]), tokens: read(turns.n_tokens?.[turn]), z: read(turns.z?.[turn]),
  }));
}

const HEADS = ["turn", "score", "score_low", "score_high", "expected", "expected_low", "expected_high", "z", "alarm", "n_tokens"];
export const pointRows = (points: Point[]): (string | number | null)[][] =>
  points.map((p) => [p.turn, p.score, p.low, p.high, p.expected, p.expected_low, p.expected_high, p.z, p.alarm ? "yes" : "no", p.tokens].map((v) => (typeof v === "number" && isNaN(v) ? null : v)));

export const pointTitle = (p: Point): string =>
  `turn ${p.turn}: ${num(p.score)} [${num(p.low)}, ${num(p.high)}]\nplain conversations: ${num(p.expected)} [${num(p.expected_low)}, ${num(p.expected_high)}]\nz = ${num(p.z, 2)}, ${p.tokens} tokens`;
const stepTitle = (step: Transition): string =>
  `turn ${step.prev_turn} to ${step.turn}: ${signed(step.delta_score)}, away ${num(step.away_mass)}, toward ${num(step.toward_mass)}`;

/** A click at x is on a turn where it is near one, else on the transition that ends at the next. */
export const turnAt = (x: number, turns: number): number =>
  Math.max(0, Math.min(turns - 1, Math.abs(x - Math.round(x)) < 0.25 ? Math.round(x) : Math.ceil(x)));

const INNER = 110;  // height between the margins

interface Props { run: Run; row: RunRow; turn: number; seen: [number, number] | null; onTurn: (turn: number) => void }

export function Trajectory({ run, row, turn, seen, onTurn }: Props) {
  const points = useMemo(() => pointsOf(run), [run]);
  const known = points.filter((p) => !isNaN(p.score)), c = mark();
  const method = String(run.summary.config?.score_method ?? "score").replaceAll("_", " ");
  const banded = points.filter((p) => !isNaN(p.expected_low));
  const onset = run.summary.calibration?.onset_set as [number, number] | null;
  const here = points[turn], segments = useMemo(() => run.transitions.map((step) => ({ ...step, x1: step.prev_turn, x2: step.turn, y1: points[step.prev_turn]!.score, y2: points[step.turn]!.score })), [run]);
  const selected = run.selected === null ? null : run.transitions[run.selected];
  return (
    <>
      <div class="legend" aria-hidden="true">
        <span><i style={{ background: c.ink, borderRadius: "50%" }} />{method}, 95 % interval</span>
        {banded.length > 0 && <span><i style={{ background: c.band }} />plain conversations, 95 %</span>}
        {row.alarm_turn !== null && <span style={{ color: c.away }}>▲ at alarm</span>}
        {onset && <span><i style={{ background: c.away, opacity: 0.25 }} />onset set</span>}
        <span><i class="line" style={{ background: c.accent }} />chosen transition</span>
        <span><i class="line" style={{ background: c.soft }} />in view</span>
      </div>
      <Chart bare name={`trajectory_${run.conversation}`} title={`Trajectory of ${run.conversation}`}
        label={`Score of ${known.length} turns, from ${num(known[0]?.score)} to ${num(known.at(-1)?.score)}. ${row.alarm_turn === null ? "No alarm." : `Alarm at turn ${row.alarm_turn}.`} The numbers are in the table below the chart.`}
        table={{ heads: HEADS, rows: pointRows(points) }} deps={[run, turn, seen?.[0], seen?.[1]]}
        onPoint={(plot, x) => onTurn(turnAt((plot.scale("x") as any).invert(x), points.length))}
        options={(width) => ({
          height: INNER + 40, marginLeft: 42, marginRight: 14, marginTop: 8, marginBottom: 32,
          x: { label: "assistant turn", labelAnchor: "center", labelArrow: "none", labelOffset: 30, domain: [-0.4, points.length - 0.6], ticks: points.filter((_, i) => i % Math.ceil(points.length / (width / 34)) === 0).map((p) => p.turn), tickFormat: (d: number) => String(d) },
          y: { label: null, grid: false, nice: true, ticks: 5 },
          marks: [
            onset ? Plot.rectX([onset], { x1: (d) => d[0] - 0.3, x2: (d) => d[1] + 0.3, fill: c.away, fillOpacity: 0.13, title: (d: number[]) => `drift began between turns ${d[0]} and ${d[1]}` }) : null,
            Plot.areaY(banded, { x: "turn", y1: "expected_low", y2: "expected_high", fill: c.band }),
            Plot.lineY(banded, { x: "turn", y: "expected", stroke: c.soft, strokeDasharray: "3,3" }),
            Plot.ruleY([0], { stroke: c.faint }),
            Plot.ruleX([turn], { stroke: c.accent, strokeWidth: 18, strokeOpacity: 0.16 }),
            seen ? Plot.rectX([seen], { x1: (d) => d[0] - 0.3, x2: (d) => d[1] + 0.3, insetTop: INNER - 4, fill: c.soft }) : null,
            Plot.ruleX(known, { x: "turn", y1: "low", y2: "high", stroke: c.soft }),
            Plot.lineY(points, { x: "turn", y: "score", stroke: c.ink, strokeWidth: 1.4 }),
            Plot.link(segments.filter((step) => step.turn === turn), { x1: "x1", x2: "x2", y1: "y1", y2: "y2", stroke: c.accent, strokeWidth: 4 }),
            // What the pointer finds of a transition: wide, and not seen.
            Plot.link(segments, { x1: "x1", x2: "x2", y1: "y1", y2: "y2", stroke: c.ink, strokeOpacity: 0, strokeWidth: 16, title: stepTitle as any }),
            Plot.dot(known, { x: "turn", y: "score", r: (p: Point) => (p.alarm ? 5 : 3.6), symbol: (p: Point) => (p.alarm ? "triangle" : "circle"), fill: (p: Point) => (p.alarm ? c.away : c.ink), title: pointTitle }),
          ],
          r: { type: "identity" }, symbol: { type: "identity" } as any, color: { type: "identity" } as any,
        })} />
      {here && <p class="at" aria-live="polite"><b>turn {turn}</b>: {num(here.score)} [{num(here.low)}, {num(here.high)}], z = {num(here.z, 2)}{stepText(run, turn)}{selected?.turn === turn && `, the ${String(run.summary.config?.transition_pick ?? "selected transition").replaceAll("_", " ")}`}</p>}
    </>
  );
}

export function stepText(run: Run, turn: number): string {
  const step = run.transitions.find((one) => one.turn === turn);
  return step ? `, ${signed(step.delta_score)} from turn ${step.prev_turn}` : "";
}
