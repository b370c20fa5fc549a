// What was measured, how good the axis is, what was flagged, what not to conclude; links into everything.
import * as Plot from "@observablehq/plot";
import { mark } from "../colors";
import { hasPart, partNames } from "../data";
import { count, num, percent, words } from "../format";
import type { ViewProps } from "../main";
import { Chart } from "../plot";
import { go, link } from "../state";
import type { Row, RunRow } from "../types";
import { Notice, Section, Table } from "../ui";

export function Overview({ core, index }: ViewProps) {
  const made = core.provenance as Record<string, any>;
  const conversations = new Set(core.runs.map((run) => run.conversation)).size;
  const analyses = [...new Set(core.runs.map((run) => run.analysis))];
  return (
    <>
      <h1 dir="auto">{index.title}</h1>
      <p class="soft">
        {count(made.d_sae)} SAE features at layer {made.sae_layer}, {made.question_mode} questions;{" "}
        {conversations} conversations under {analyses.length === 1 ? "one analysis" : `${analyses.length} analyses`} ({analyses.join(", ")}).
      </p>
      <p>
        <a href={link("drift")}>Conversations and their drift</a> · <a href={link("features")}>features</a> ·{" "}
        <a href={link("roles")}>roles and the axis</a>
        {hasPart("traits") || hasPart("steering") || partNames("traces/").length ? <> · <a href={link("directions")}>traits, monitor, steering</a></> : null}
        {" "}· <a href={link("compare")}>compare two runs</a>
      </p>
      {core.findings.map(({ title, lines }) => (
        <Section title={title} key={title}>
          {title.startsWith("Is the axis") && core.agreement.length > 0
            ? <AxisQuality rows={core.agreement} lines={lines} />
            : <ul class="plain">{lines.map((line, i) => <li key={i} dir="auto">{line}</li>)}</ul>}
          {title.startsWith("What was flagged") && <Ranked runs={core.runs} />}
        </Section>
      ))}
      {!core.findings.length && <Notice>The experiment has no ranked conversations yet, so there are no findings.</Notice>}
      {index.absent.length > 0 && (
        <Section title="Not on this page">
          <ul class="plain small soft">{index.absent.map(({ what, why }) => <li key={what} dir="auto">{what}: {why}</li>)}</ul>
        </Section>
      )}
    </>
  );
}

function AxisQuality({ rows, lines }: { rows: Row[]; lines: string[] }) {
  const good = rows.filter((row) => row.interpretable), bad = rows.filter((row) => !row.interpretable);
  const measures: [string, string, number][] = [["split_half", "split-half cosine", 0.5], ["auc", "AUC on held-out questions", 0.75], ["cos_diff_pc1", "cos(diff, PC1)", 0.5]];
  const data = rows.flatMap((row) => measures.slice(0, 2).map(([key, label, bar]) => ({ space: String(row.space), label, value: row[key] as number, bar, fine: (row[key] as number) >= bar })));
  const color = mark();
  const names = (some: Row[]) => some.map((row) => row.space).join(", ");
  return (
    <>
    <p>{good.length ? <><b>May be interpreted</b> in {names(good)}. </> : null}{bad.length ? <span><b>Not to be interpreted</b> in {bad.map((row) => `${row.space} (${row.reason})`).join(", ")}.</span> : null}</p>
    <div class="columns">
      <Chart name="axis_quality" title="How good the axis is, by space" note="Below the bar an axis is not to be interpreted."
        label={`Split-half and AUC of the axis in ${rows.length} spaces; the numbers are in the table.`}
        table={{ heads: ["space", "measure", "value", "bar"], rows: data.map((d) => [d.space, d.label, d.value, d.bar]) }}
        deps={[rows]}
        options={(width) => ({
          height: 40 + 22 * rows.length, marginLeft: Math.min(120, width / 3), marginRight: 12, marginTop: 26, x: { domain: [0, 1], label: null, ticks: [0, 0.5, 1], tickFormat: String }, y: { label: null, domain: rows.map((r) => String(r.space)) },
          fx: { label: null, padding: 0.18, domain: measures.slice(0, 2).map((m) => m[1]) },
          marks: [
            Plot.ruleY(data, { fx: "label", y: "space", x1: 0, x2: "value", stroke: color.faint }),
            Plot.tickX(data, { fx: "label", y: "space", x: "bar", stroke: color.soft, strokeDasharray: "2,2" }),
            Plot.dot(data, { fx: "label", y: "space", x: "value", r: 4.5, fill: (d: any) => (d.fine ? color.toward : color.away), symbol: (d: any) => (d.fine ? "circle" : "times"), stroke: (d: any) => (d.fine ? color.toward : color.away) }),
          ],
        })} />
      <Table name="agreement" caption="Agreement of two definitions, and with the roles' labels shuffled" rows={rows} columns={[
        { key: "space", label: "space", text: true, value: (r) => r.space as string },
        { key: "cos_diff_pc1", label: "cos(diff, PC1)", value: (r) => r.cos_diff_pc1 as number, show: (r) => <span class="nowrap">{num(r.cos_diff_pc1)} <span class="soft">shuffled {num(r.agreement_null_median, 2)}, 95 % below {num(r.agreement_null_high, 2)}</span></span> },
        { key: "n_responses", label: "responses", value: (r) => r.n_responses as number },
        { key: "pc1_variance_share", label: "variance on PC1", value: (r) => r.pc1_variance_share as number, show: (r) => percent(r.pc1_variance_share) },
      ]} />
    </div>
    <details><summary class="small">in sentences</summary><ul class="plain small">{lines.map((line, i) => <li key={i} dir="auto">{line}</li>)}</ul></details>
    </>
  );
}

export const runState = (run: RunRow) => ({ run: `${run.analysis}/${run.conversation}` });

function Ranked({ runs }: { runs: RunRow[] }) {
  return (
    <Table name="runs" caption="Conversations, alarms first" rows={runs} limit={12} onRow={(run) => go("drift", runState(run))} columns={[
      { key: "conversation", label: "conversation", text: true, value: (r) => r.conversation, show: (r) => words(r.conversation) },
      { key: "analysis", label: "analysis", text: true, value: (r) => r.analysis },
      { key: "alarm_turn", label: "alarm at turn", value: (r) => r.alarm_turn, show: (r) => (r.alarm_turn === null ? "no" : <span class="alarm">▲ {r.alarm_turn}</span>) },
      { key: "p_value", label: "p", value: (r) => r.p_value, show: (r) => num(r.p_value, 2) },
      { key: "q_value", label: "q", value: (r) => r.q_value, show: (r) => num(r.q_value, 2), title: "false discovery rate over the analysis's conversations" },
      { key: "fall", label: "lowest z", value: (r) => r.fall, title: "the lowest score in standard deviations of reference turns at that place" },
      { key: "confound_verdict", label: "confounds", text: true, value: (r) => r.confound_verdict },
      { key: "causal", label: "causal test", text: true, value: (r) => r.causal ?? "not made" },
      { key: "n_turns", label: "turns", value: (r) => r.n_turns },
    ]} />
  );
}

export const alarmText = (run: RunRow): string =>
  run.status !== "ok" ? `failed: ${run.reason}` : run.alarm_turn === null ? `no alarm, p = ${num(run.p_value, 2)}` : `alarm at turn ${run.alarm_turn}, p = ${num(run.p_value, 2)}`;
export const rateText = (rate: { rate: number | null; low: number | null; high: number | null; n: number } | undefined): string =>
  !rate || rate.rate === null ? "not measured" : `${percent(rate.rate)} (95 % interval ${percent(rate.low)} to ${percent(rate.high)}, n = ${rate.n})`;
