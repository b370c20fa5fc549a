// Trait vectors: what each is worth on answers that did not make it, by layer, and beside other directions.
import * as Plot from "@observablehq/plot";
import { mark } from "../colors";
import { usePart } from "../data";
import { num, percent, signed, words } from "../format";
import { Chart } from "../plot";
import { update, useAddress } from "../state";
import type { Row, Traits } from "../types";
import { Choose, Lost, Notice, Section, Table, Waiting, WithInterval } from "../ui";
import { short } from "./similarity";

export function AllTraits() {
  const state = useAddress(), part = usePart<Traits>("traits");
  if (!part.data) return <Waiting what="the traits" error={part.error} />;
  const traits = part.data.traits, names = Object.keys(traits), name = names.includes(state.get("trait")) ? state.get("trait") : names[0];
  if (name === undefined) return <Notice>No trait has been evaluated.</Notice>;
  const at = (one: string): Record<string, any> => traits[one]!.evaluation.at_selected_layer ?? {};
  const doubts = (one: string): string => (traits[one]!.evaluation.doubts ?? []).join("; ");
  return (
    <>
      <Lost what="trait" asked={state.get("trait")} known={names} instead={`shown is ${words(name)}`} />
      {names.length > 1 && <Table name="traits" caption="Traits" rows={names} limit={30} onRow={(one) => update({ trait: one, layer: null })} isChosen={(one) => one === name} columns={[
        { key: "trait", label: "trait", text: true, value: (one) => one, show: (one) => words(one) },
        { key: "layer", label: "layer", value: (one) => at(one).layer },
        { key: "auc", label: "AUC", value: (one) => at(one).auc, show: (one) => <WithInterval value={at(one).auc} low={at(one).auc_low} high={at(one).auc_high} digits={2} /> },
        { key: "auc_low", label: "low", hidden: true, value: (one) => at(one).auc_low }, { key: "auc_high", label: "high", hidden: true, value: (one) => at(one).auc_high },
        { key: "r_within", label: "r with the judge", value: (one) => at(one).r_within, show: (one) => num(at(one).r_within, 2) },
        { key: "split_half", label: "split-half", value: (one) => at(one).split_half, show: (one) => num(at(one).split_half, 2) },
        { key: "doubts", label: "not to be relied on", text: true, value: doubts },
      ]} />}
      <OneTrait name={name} part={part.data} />
    </>
  );
}

/** What the same is where the layer was chosen on other questions, which the doubts go by. */
const elsewhere = (value: unknown): string => (typeof value === "number" ? `; layer chosen on other questions: ${num(value)}` : "");

function OneTrait({ name, part }: { name: string; part: Traits }) {
  const trait = part.traits[name]!, e = trait.evaluation, at = e.at_selected_layer ?? {}, held = e.held_out ?? {};
  return (
    <>
      <h1 dir="auto">{e.label ?? name}</h1>
      <p dir="auto">{e.polarity}</p>
      {e.doubts?.length > 0 && <Notice strong>Not to be relied on: {e.doubts.join("; ")}.</Notice>}
      {e.judge?.verdict && <Notice>Judge {e.judge.name}: {e.judge.verdict}.</Notice>}
      <div class="columns">
        <Section title={`At layer ${at.layer}`} note={`${e.kept} of ${e.couples} couples kept; evaluated on ${e.evaluation_rows} answers to ${e.evaluation_questions} held-out questions.`}>
          <dl class="facts">
            <dt>AUC, shows it or not</dt><dd>{num(at.auc)} <span class="soft">[{num(at.auc_low)}, {num(at.auc_high)}]{elsewhere(held.auc)}</span></dd>
            <dt>correlation with the judge</dt><dd>{num(at.r_within)} <span class="soft">[{num(at.r_low)}, {num(at.r_high)}], n = {at.n_judged}{elsewhere(held.r_within)}</span></dd>
            <dt>separation</dt><dd>{num(at.separation)} <span class="soft">{elsewhere(held.separation).slice(2)}</span></dd>
            <dt>split-half cosine</dt><dd>{num(at.split_half)}</dd>
            <dt>cosine of the pairs' own</dt><dd>{num(at.pair_cosine)}</dd>
            <dt>explained by nuisances</dt><dd>{percent(at.nuisance_share)} <span class="soft">shuffled {percent(at.nuisance_share_shuffled)}</span></dd>
          </dl>
        </Section>
        <Layers rows={trait.layers} selected={at.layer} name={name} />
      </div>
      <Beside name={name} rows={part.compared.filter((row) => row.first === name)} selected={at.layer} />
    </>
  );
}

function Layers({ rows, selected, name }: { rows: Row[]; selected: number; name: string }) {
  const c = mark();
  return (
    <Chart name={`layers_${name}`} title="AUC on held-out questions by layer" note="Band: 95 % interval. Dashed: chance. The marked layer was selected." label={`AUC over ${rows.length} layers`} deps={[rows]}
      table={{ heads: ["layer", "auc", "auc_low", "auc_high", "split_half", "separation"], rows: rows.map((r) => ["layer", "auc", "auc_low", "auc_high", "split_half", "separation"].map((key) => r[key] as number)) }}
      options={() => ({
        height: 230, marginLeft: 40, marginBottom: 40, x: { label: "layer (output of the decoder block)", labelAnchor: "center", labelArrow: "none", labelOffset: 36, interval: 1, ticks: Math.min(8, rows.length) }, y: { domain: [0, 1], label: null, ticks: 5 },
        marks: [
          Plot.areaY(rows, { x: "layer", y1: "auc_low", y2: "auc_high", fill: c.band }), Plot.ruleY([0.5], { stroke: c.soft, strokeDasharray: "3,3" }),
          Plot.ruleX([selected], { stroke: c.accent, strokeOpacity: 0.5 }), Plot.lineY(rows, { x: "layer", y: "auc", stroke: c.ink, marker: "dot" }),
          Plot.dot(rows, { x: "layer", y: "auc", r: 6, fill: c.ink, fillOpacity: 0, title: (r: Row) => `layer ${r.layer}: AUC ${num(r.auc)} [${num(r.auc_low)}, ${num(r.auc_high)}]` }),
        ],
      })} />
  );
}

/** The trait's cosines with the axis, the roles and other traits, at a layer that was compared: the nearest to the selected. */
function Beside({ name, rows, selected }: { name: string; rows: Row[]; selected: number }) {
  const state = useAddress(), layers = [...new Set(rows.map((row) => Number(row.layer)))].sort((a, b) => a - b);
  if (!layers.length) return null;
  const closest = layers.reduce((best, one) => (Math.abs(one - selected) < Math.abs(best - selected) ? one : best));
  const layer = layers.includes(state.num("layer") ?? NaN) ? state.num("layer")! : closest;
  const shown = rows.filter((row) => row.layer === layer), most = shown.reduce((max, row) => Math.max(max, Math.abs(Number(row.cosine))), 0.05), c = mark();
  const ordered = [...shown].sort((a, b) => Number(b.cosine) - Number(a.cosine)), drawn = ordered.length > 30 ? [...ordered.slice(0, 15), ...ordered.slice(-15)] : ordered;
  return (
    <Section title={`Beside other directions, layer ${layer}`} note="Cosines of the trait's vector with the axis, the roles' vectors and other traits. The sign of the axis: toward the assistant.">
      <Choose label="layer" value={String(layer)} options={layers.map((one) => [String(one), one === selected ? `${one} (selected)` : String(one)])} onChange={(value) => update({ layer: value })} />
      <div class="columns">
        <Chart name={`beside_${name}_${layer}`} title="Cosines" label={`Cosines of ${name} with ${shown.length} directions`} deps={[rows, layer]}
          table={{ heads: ["direction", "kind", "cosine"], rows: ordered.map((row) => [String(row.second), String(row.kind), Number(row.cosine)]) }}
          options={() => ({
            height: 40 + 18 * drawn.length, marginLeft: 110, marginRight: 14, x: { label: null, domain: [-most, most], nice: true, ticks: 5 }, y: { label: null, domain: drawn.map((row) => String(row.second)), tickFormat: short }, color: { type: "identity" },
            marks: [
              Plot.ruleX([0], { stroke: c.soft }), Plot.ruleY(drawn, { y: "second", x1: 0, x2: "cosine", stroke: (r: Row) => (Number(r.cosine) < 0 ? c.away : c.toward), strokeWidth: 3 }),
              Plot.dot(drawn, { y: "second", x: "cosine", r: 4, fill: (r: Row) => (Number(r.cosine) < 0 ? c.away : c.toward), title: (r: Row) => `${r.second} (${r.kind}): ${signed(r.cosine)}` }),
            ],
          })} />
        <Table name={`compared_${name}`} caption="Cosines with other directions" quiet rows={shown} limit={20} sort={["cosine", -1]} columns={[
          { key: "second", label: "direction", text: true, value: (r) => r.second as string }, { key: "kind", label: "kind", text: true, value: (r) => r.kind as string }, { key: "cosine", label: "cosine", value: (r) => r.cosine as number, show: (r) => signed(r.cosine) },
        ]} />
      </div>
    </Section>
  );
}
