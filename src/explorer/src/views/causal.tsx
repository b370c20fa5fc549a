// The causal test of a run's transition: effects beside their controls, and the texts that were written.
import { hasPart, usePart } from "../data";
import { many, num, signed } from "../format";
import { FeatureName, labelOf } from "../names";
import { update } from "../state";
import type { Causal, Features } from "../types";
import { Section, Table } from "../ui";

const EFFECTS: [string, string][] = [["total", "on the text written anew"], ["total_beyond_matched", "beyond matched features"], ["direct", "on the turn's own tokens"]];

interface Effect { name: string; mean: number; low: number; high: number; n: number }

export function CausalTest({ name, features }: { name: string; features: Features | undefined }) {
  const part = usePart<Causal>(hasPart("causal") ? "causal" : null).data, made = part?.tests[name];
  if (!made) return null;
  const { test, samples } = made, arms = [...new Set(samples.map((row) => String(row.arm)))];
  const effects: Effect[] = EFFECTS.filter(([key]) => test.effects?.[key]).map(([key, text]) => ({ name: text, ...test.effects[key] }));
  const controls: { name: string; total: number[]; direct: number[] }[] = Object.entries<any>(test.controls ?? {}).map(([key, value]) => ({ name: key.replaceAll("_", " "), total: value.total ?? [], direct: value.direct ?? [] }));
  const list = (values: number[]) => values.map((value) => num(value, 2)).join(", ");
  return (
    <Section title={`Causal test, turn ${test.transition?.prev_turn} to ${test.transition?.turn}: ${test.verdict}`} note={<bdi>{test.reason}. {test.effects?.unit ? `In ${test.effects.unit}.` : ""}</bdi>}>
      <Table name="causal_effects" caption="What setting the features back did" quiet rows={effects} columns={[
        { key: "effect", label: "effect", text: true, value: (r) => r.name },
        { key: "mean", label: "mean", value: (r) => r.mean, show: (r) => <span class="nowrap">{num(r.mean, 2)} <span class="soft">[{num(r.low, 2)}, {num(r.high, 2)}]</span></span> },
        { key: "low", label: "low", hidden: true, value: (r) => r.low }, { key: "high", label: "high", hidden: true, value: (r) => r.high },
        { key: "n", label: "n", value: (r) => r.n },
      ]} />
      <Table name="causal_controls" caption="The same with controls in place of the features" rows={controls} columns={[
        { key: "control", label: "control", text: true, value: (r) => r.name },
        { key: "total", label: "text", value: (r) => list(r.total) }, { key: "direct", label: "tokens", value: (r) => list(r.direct) },
      ]} />
      <Patched rows={test.features ?? []} features={features} />
      {(test.notes ?? []).map((note: string) => <p class="soft small" key={note}>{note}</p>)}
      {arms.map((arm) => (
        <details key={arm}>
          <summary class="small">texts: {arm.replaceAll("_", " ")}</summary>
          {samples.filter((row) => row.arm === arm).map((row, i) => <p key={i} class="small" dir="auto" style={{ whiteSpace: "pre-wrap", overflowWrap: "anywhere" }}>{String(row.response)}</p>)}
        </details>
      ))}
    </Section>
  );
}

interface Back { feature_idx: number; before: number; now: number; contrib: number }

/** The features that were set back to what they were in the turn before. */
function Patched({ rows, features }: { rows: Back[]; features: Features | undefined }) {
  if (!rows.length) return null;
  return (
    <details>
      <summary class="small">{many(rows.length, "feature")} {rows.length === 1 ? "was" : "were"} set back</summary>
      <Table name="causal_features" caption="Features that were set back" quiet rows={rows} limit={10} onRow={(row) => update({ feature: row.feature_idx })} columns={[
        { key: "feature", label: "feature", text: true, value: (r) => r.feature_idx, show: (r) => <FeatureName id={r.feature_idx} features={features} /> },
        { key: "description", label: "description", text: true, hidden: true, value: (r) => labelOf(features, r.feature_idx) },
        { key: "now", label: "from", value: (r) => r.now }, { key: "before", label: "to", value: (r) => r.before },
        { key: "contrib", label: "part", value: (r) => r.contrib, show: (r) => signed(r.contrib) },
      ]} />
    </details>
  );
}
