// What changed in a transition: its features in four tables, the nearest roles over the turns, and the confounds.
import * as Plot from "@observablehq/plot";
import { useMemo } from "preact/hooks";
import { diverging, mark } from "../colors";
import { interval, num, percent, signed } from "../format";
import { FeatureName, labelOf } from "../names";
import { Chart } from "../plot";
import { update, useAddress } from "../state";
import { nearest } from "./conversation";
import { showTurn } from "./keys";
import type { Features, FeatureTable, Run, Transition } from "../types";
import { type Column, Notice, Section, Table, Tabs } from "../ui";

const TABLES: [string, string][] = [["away", "away"], ["toward", "toward"], ["activated", "activated"], ["deactivated", "de-activated"]];
export interface Entry { id: number; delta: number; weight: number; contrib: number; share: number; low: number; high: number; chosen: number }

/** The rows of a table of a transition; away, toward: what all parts of either sign sum to. */
export function entriesOf(table: FeatureTable | undefined, away = NaN, toward = NaN): Entry[] {
  if (!table) return [];
  return Array.from(table.feature, (id, i) => {
    const [delta, weight] = [table.delta_x[i]!, table.axis_weight[i]!], contrib = Math.fround(delta * weight);
    const [low, high, chosen] = [table.contrib_low?.[i] ?? NaN, table.contrib_high?.[i] ?? NaN, table.chosen_share?.[i] ?? NaN];
    return { id, delta, weight, contrib, share: Math.abs(contrib) / (contrib > 0 ? toward : away), low, high, chosen };
  });
}

export function Transitions({ run, turn, feature, features }: { run: Run; turn: number; feature: number | null; features: Features | undefined }) {
  const state = useAddress();
  const step = run.transitions.find((one) => one.turn === turn);
  const which = TABLES.some(([key]) => key === state.get("table")) ? state.get("table") : "away";
  const rows = useMemo(() => entriesOf(step?.tables[which], step?.away_mass, step?.toward_mass), [step, which]);
  if (!step) return <Section title="Into this turn"><Notice>{run.transitions.length ? "No transition leads into this turn: it is the first with tokens, or empty." : "The conversation has fewer than two turns with tokens."}</Notice></Section>;
  const change = which === "activated" || which === "deactivated", sampled = rows.some((row) => !isNaN(row.low));
  const selected = run.selected === null ? undefined : run.transitions[run.selected];
  const delta: Column<Entry> = {
    key: "delta_x", label: "Δ × axis", value: (r) => r.delta, title: "change of its activation in role space, and its weight on the axis (above 0: like the assistant), whose product is the part",
    show: (r) => <>{signed(r.delta, 2)}<span class="soft under">× {signed(r.weight, 2)}</span></>,
  };
  const columns: Column<Entry>[] = [
    { key: "feature", label: "feature", text: true, value: (r) => r.id, show: (r) => <FeatureName id={r.id} features={features} /> },
    { key: "description", label: "description", text: true, hidden: true, value: (r) => labelOf(features, r.id) },
    ...(change ? [delta] : []),
    { key: "contrib", label: "part", value: (r) => r.contrib, title: "what it adds to the change of the plain projection, with the 95 % interval where the transition was resampled", show: (r) => <Part row={r} /> },
    { key: "share", label: "share", value: (r) => r.share, title: "of all that moves away, or, of a part above 0, of all that moves toward the assistant", show: (r) => percent(r.share) },
    { key: "stability", label: "stable", hidden: !sampled, value: (r) => r.chosen, title: "how often it is among the largest when the transition's tokens are resampled", show: (r) => percent(r.chosen) },
    ...(change ? [] : [delta]),
    { key: "axis_weight", label: "on axis", hidden: true, value: (r) => r.weight },
    { key: "contrib_low", label: "low", hidden: true, value: (r) => r.low }, { key: "contrib_high", label: "high", hidden: true, value: (r) => r.high },
  ];
  return (
    <Section title={`From turn ${step.prev_turn} to ${step.turn}`} note={<StepNote step={step} />}>
      {run.features || Object.keys(step.tables).length ? (
        <>
          <Tabs label="Features of the transition" value={which} options={TABLES} onChange={(next) => update({ table: next })} />
          <Table key={which} name={`${run.conversation}_turn_${step.turn}_${which}`} caption={`Features ${which}, the largest first`} quiet rows={rows} limit={10}
            columns={columns} onRow={(row) => update({ feature: row.id === feature ? null : row.id })} isChosen={(row) => row.id === feature} />
          {!sampled && !change && selected && selected !== step && <p class="soft small">Intervals and stability are known of the <button type="button" class="text" onClick={() => showTurn(selected.turn)}>selected transition, into turn {selected.turn}</button>.</p>}
        </>
      ) : <Notice>{run.features_reason || "This space has no features."}</Notice>}
    </Section>
  );
}

/** The part with its interval below. */
const Part = ({ row }: { row: Entry }) => <>{signed(row.contrib)}{!isNaN(row.low) && <span class="soft under">{interval(row.low, row.high, 2)}</span>}</>;

function StepNote({ step }: { step: Transition }) {
  const usual = typeof step.top_away_share_null_median === "number";
  return (
    <>
      Score {signed(step.delta_score)}; all that moves away {num(step.away_mass)}, toward {num(step.toward_mass)}.{" "}
      {step.effect_strength !== "N/A" && <>The top away features carry {percent(step.top_away_share)} of it: {step.effect_strength.toLowerCase()}{usual && `; between the roles' own answers ${percent(step.top_away_share_null_median)}, 95 % below ${percent(step.top_away_share_null_high)}, p = ${num(step.top_away_share_p_value, 2)}`}.</>}
    </>
  );
}

export function NearestRoles({ run, turn }: { run: Run; turn: number }) {
  const { names, cosines } = run.roles, turns = run.turns.score!.length;
  const cells = useMemo(() => names.flatMap((role, r) => Array.from({ length: turns }, (_, t) => ({ role, turn: t, cosine: cosines[t * names.length + r]! }))), [run]);
  if (!names.length) return null;
  const now = nearest(run, turn);
  const shown = names.length <= 16 ? names : [...new Set(Array.from({ length: turns }, (_, t) => names.map((role, r) => [cosines[t * names.length + r]!, role] as const).sort((a, b) => b[0] - a[0]).slice(0, 3).map((x) => x[1])).flat())].slice(0, 16);
  const most = Math.max(...cells.map((cell) => Math.abs(cell.cosine)).filter(isFinite), 0.1);
  const c = mark();
  return (
    <Chart name={`roles_${run.conversation}`} title="Roles over the turns" note={`Cosine with each role, both minus the mean role; full color at ±${num(most, 2)}.${now[0] ? ` Nearest at turn ${turn}: ${now.slice(0, 2).map((one) => `${one.role} ${num(one.cosine, 2)}`).join(", ")}.` : ""}`}
      label={`Heat map of the cosines of ${turns} turns with ${shown.length} roles`}
      table={{ heads: ["turn", ...names], rows: Array.from({ length: turns }, (_, t) => [t, ...names.map((_, r) => cosines[t * names.length + r]!)]) }}
      deps={[run, turn]} onPoint={(plot, x) => {
        const band = plot.scale("x") as any, at = band.domain.findIndex((d: number) => x < band.apply(d) + band.bandwidth);
        if (at >= 0) showTurn(at);
      }}
      options={(width) => ({
        height: 42 + 17 * shown.length, marginLeft: Math.min(110, 22 + 7 * Math.max(...shown.map((name) => Math.min(name.length, 13)))), marginTop: 4, marginBottom: 28, marginRight: 4,
        x: { label: null, type: "band", padding: 0.03, domain: Array.from({ length: turns }, (_, t) => t), ticks: undefined, tickFormat: (d: number) => (d % Math.ceil(turns / (width / 40)) === 0 ? String(d) : "") },
        y: { label: null, domain: shown, tickFormat: (d: string) => (d.length > 13 ? `${d.slice(0, 12)}…` : d) },
        color: { type: "identity" },
        marks: [
          Plot.cell(cells.filter((cell) => shown.includes(cell.role) && !isNaN(cell.cosine)), { x: "turn", y: "role", fill: (d: any) => diverging(d.cosine / most), title: (d: any) => `${d.role}, turn ${d.turn}: ${num(d.cosine)}` }),
          Plot.frame({ stroke: c.faint }),
          Plot.cell(shown.map((role) => ({ turn, role })), { x: "turn", y: "role", fill: "none", stroke: c.accent, strokeWidth: 1.2 }),
        ],
      })} />
  );
}

const METRICS: Record<string, string> = { turn_l2_raw: "norm", turn_nonzero_raw: "active features", turn_l2_space: "norm in role space", turn_nonzero_space: "active in role space", n_tokens: "length", repetition: "repetition" };

/** What the score that is shown goes with. */
export const confoundsOf = (run: Run): Run["confounds"] => run.confounds.filter((row) => row.score_method === run.summary.config?.score_method);

export function Confounds({ run }: { run: Run }) {
  const rows = confoundsOf(run);
  if (!rows.length) return null;
  return (
    <Section title="Confounds" note={`Correlation of the score with simpler measures over the turns${run.summary.diagnostics?.confound_verdict && run.summary.diagnostics.confound_verdict !== "N/A" ? `: ${run.summary.diagnostics.confound_verdict}` : ""}.`}>
      <Table name={`confounds_${run.conversation}`} caption="Correlations of the score" quiet rows={rows} columns={[
        { key: "metric", label: "measure", text: true, value: (r) => r.metric, show: (r) => METRICS[r.metric] ?? r.metric },
        { key: "corr", label: "correlation", value: (r) => r.corr, show: (r) => signed(r.corr, 2) },
        { key: "n", label: "turns", value: (r) => r.n },
      ]} />
    </Section>
  );
}
