// What was measured, how good the axis is, what was flagged, what not to conclude; links into everything.
import * as Plot from "@observablehq/plot";
import type { ComponentChildren } from "preact";
import { useMemo } from "preact/hooks";
import { mark } from "../colors";
import { hasPart, partNames } from "../data";
import { count, many, num, percent, words } from "../format";
import type { ViewProps } from "../main";
import { Chart } from "../plot";
import { go, link } from "../state";
import type { Core, Row, RunRow } from "../types";
import { Notice, Section, Table } from "../ui";

export function Overview({ core, index }: ViewProps) {
  return (
    <>
      <h1 dir="auto">{index.title}</h1>
      <Measured core={core} />
      <Doors core={core} />
      {core.findings.map(({ title, lines }) => (
        <Section title={title} key={title}>
          {title.startsWith("Is the axis") && core.agreement.length > 0
            ? <AxisQuality rows={core.agreement} lines={lines} />
            : <ul class="plain">{lines.map((line, i) => <li key={i} dir="auto"><Linked line={line} runs={core.runs} /></li>)}</ul>}
          {title.startsWith("What was flagged") && <><Rates core={core} /><Ranked runs={core.runs} /></>}
        </Section>
      ))}
      {!core.findings.length && core.agreement.length > 0 && <Section title="Is the axis good enough?"><AxisQuality rows={core.agreement} lines={[]} /></Section>}
      {!core.findings.length && <Notice>The experiment has no ranked conversations yet, so there are no findings on drift.</Notice>}
      {index.absent.length > 0 && (
        <Section title="Not on this page">
          <ul class="plain small soft">{index.absent.map(({ what, why }) => <li key={what} dir="auto">{what}: {why}</li>)}</ul>
        </Section>
      )}
    </>
  );
}

const analysesOf = (core: Core): string[] => [...new Set(core.runs.map((run) => run.analysis))];

/** In two sentences, what the numbers of this page come from. */
function Measured({ core }: { core: Core }) {
  const made = core.provenance as Record<string, any>, { roles, responses } = core.counts;
  const conversations = new Set(core.runs.map((run) => run.conversation)).size, analyses = analysesOf(core);
  const plain = Math.max(0, ...Object.values(core.nulls).map((one) => one.references?.[""] ?? 0));
  const kinds = made.question_mode === "general" ? "questions that all roles share" : "questions of each role";
  return (
    <p class="lead">
      {roles ? <>{many(roles, "role")} answered {kinds} ({many(responses!, "response")}). </> : null}
      {made.d_sae ? <>The responses were read as {count(made.d_sae)} SAE features at layer {made.sae_layer} of <bdi>{String(made.model ?? "").split("/").at(-1)}</bdi>, and an axis drawn from the other roles toward the assistant. </> : null}
      {conversations ? <>{many(conversations, "conversation")} {conversations === 1 ? "was" : "were"} scored along it, turn by turn, under {analyses.length === 1 ? `the analysis ${analyses[0]}` : `${analyses.length} analyses (${analyses.join(", ")})`}{plain ? <>, and held against {many(plain, "plain conversation")}</> : null}.</> : null}
    </p>
  );
}

/** What there is to look at, with its first number. */
function Doors({ core }: { core: Core }) {
  const { counts, runs } = core, spaces = core.agreement.length, alarms = runs.filter((run) => run.alarm_turn !== null).length;
  const traces = partNames("traces/").length;
  const doors: [string, string, ComponentChildren][] = [
    ["drift", "Drift", runs.length ? <>{many(runs.length, "run")}, {many(alarms, "alarm")}: each conversation with the weight of every token</> : "no conversations"],
    ["features", "Features", counts.features ? <>{count(counts.features)} alive{counts.labels ? <>, {counts.labels < counts.features ? count(counts.labels) : "all"} with labels</> : null}{counts.contexts ? <>, {count(counts.contexts)} with texts in which they are active</> : null}</> : "none"],
    ["roles", "Roles", <>{counts.roles ? many(counts.roles, "role") : "roles"} in {many(spaces, "space")}: how alike, how far along the axis, what sets each apart</>],
    ...(hasPart("traits") || hasPart("steering") || traces ? [["directions", "Traits and monitor", <>{traces ? many(traces, "watched conversation") : "no watched conversation"}{hasPart("steering") ? ", steering and its baselines" : ""}</>] as [string, string, ComponentChildren]] : []),
    ...(runs.length > 1 ? [["compare", "Compare", "two runs beside each other"] as [string, string, ComponentChildren]] : []),
  ];
  return <nav class="doors" aria-label="Into the views">{doors.map(([view, name, text]) => <a key={view} href={link(view)}><b>{name}</b><span>{text}</span></a>)}</nav>;
}

/** A sentence, with the conversations that it names as links to their runs; the analysis is the word before its colon. */
function Linked({ line, runs }: { line: string; runs: RunRow[] }) {
  const analysis = line.split(":")[0]!, names = [...new Set(runs.filter((run) => run.analysis === analysis).map((run) => run.conversation))].filter((name) => line.includes(name)).sort((a, b) => b.length - a.length);
  if (!names.length) return <>{line}</>;
  const parts = line.split(new RegExp(`(${names.map((name) => name.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("|")})`));
  return <>{parts.map((part, i) => (i % 2 ? <a key={i} href={link("drift", { run: `${analysis}/${part}` })}>{part}</a> : part))}</>;
}

/** How often the test raises an alarm by itself, as measured, beside what it promises. */
function Rates({ core }: { core: Core }) {
  const rows = Object.entries(core.nulls).map(([analysis, null_]) => {
    const own = core.runs.filter((run) => run.analysis === analysis && run.p_value !== null), rate = null_.false_alarms?.[""];
    return { analysis, alpha: null_.alpha, references: null_.references?.[""] ?? 0, rate, tested: own.length, alarms: own.filter((run) => run.alarm_turn !== null).length };
  });
  if (!rows.length) return null;
  const unmeasured = rows.filter((row) => !row.rate || row.rate.rate === null);
  return (
    <>
      <Table name="alarm_rates" caption="Alarms, beside the rate at which plain conversations raise them" rows={rows} columns={[
        { key: "analysis", label: "analysis", text: true, value: (r) => r.analysis },
        { key: "tested", label: "tested", value: (r) => r.tested },
        { key: "alarms", label: "alarms", value: (r) => r.alarms },
        { key: "rate", label: "false alarms, measured", value: (r) => r.rate?.rate, show: (r) => (r.rate && r.rate.rate !== null ? <span class="nowrap">{percent(r.rate.rate)} <span class="soft">[{percent(r.rate.low)}, {percent(r.rate.high)}], n = {r.rate.n}</span></span> : "not measured") },
        { key: "rate_low", label: "", hidden: true, value: (r) => r.rate?.low }, { key: "rate_high", label: "", hidden: true, value: (r) => r.rate?.high }, { key: "rate_n", label: "", hidden: true, value: (r) => r.rate?.n },
        { key: "by_chance", label: "alarms by chance", value: (r) => (r.rate && r.rate.rate !== null ? r.tested * r.rate.rate : null), show: (r) => (r.rate && r.rate.rate !== null ? num(r.tested * r.rate.rate, 2) : "–") },
        { key: "alpha", label: "promised", value: (r) => r.alpha, show: (r) => percent(r.alpha), title: "the level of the test" },
        { key: "references", label: "plain conversations", value: (r) => r.references },
      ]} />
      {unmeasured.length > 0 && <p class="soft small">Where the rate was not measured there were too few plain conversations to hold some out; the test then keeps its level only as far as its model of them is right.</p>}
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
    <p class="verdicts">{good.length ? <><b>May be interpreted</b> in {names(good)}. </> : null}{bad.length ? <span><b>Not to be interpreted</b> in {bad.map((row) => `${row.space} (${row.reason})`).join(", ")}.</span> : null}</p>
    <div class="columns">
      <Chart name="axis_quality" title="How good the axis is, by space" note="Left of the dotted bar (×) an axis is not to be interpreted."
        label={`Split-half and AUC of the axis in ${rows.length} spaces; the numbers are in the table.`}
        table={{ heads: ["space", "measure", "value", "bar"], rows: data.map((d) => [d.space, d.label, d.value, d.bar]) }}
        deps={[rows]}
        options={(width) => ({
          height: 40 + 22 * rows.length, marginLeft: Math.min(120, width / 3), marginRight: 12, marginTop: 26, x: { domain: [0, 1], label: null, ticks: [0, 0.5, 1], tickFormat: String }, y: { label: null, domain: rows.map((r) => String(r.space)) },
          fx: { label: null, padding: 0.18, domain: measures.slice(0, 2).map((m) => m[1]) },
          marks: [
            Plot.ruleY(data, { fx: "label", y: "space", x1: 0, x2: "value", stroke: color.faint }),
            Plot.tickX(data, { fx: "label", y: "space", x: "bar", stroke: color.soft, strokeDasharray: "2,2" }),
            Plot.dot(data, { fx: "label", y: "space", x: "value", r: 4.5, title: (d: any) => `${d.space}, ${d.label}: ${num(d.value)}; bar ${d.bar}`, fill: (d: any) => (d.fine ? color.toward : color.away), symbol: (d: any) => (d.fine ? "circle" : "times"), stroke: (d: any) => (d.fine ? color.toward : color.away) }),
          ],
        })} />
      <Table name="agreement" caption="Agreement of two definitions, and with the roles' labels shuffled" rows={rows} columns={[
        { key: "space", label: "space", text: true, value: (r) => r.space as string, show: (r) => <a href={link("roles", { space: String(r.space) })}>{String(r.space)}</a> },
        { key: "cos_diff_pc1", label: "cos(diff, PC1)", value: (r) => r.cos_diff_pc1 as number, show: (r) => <>{num(r.cos_diff_pc1)}<span class="soft under">shuffled {num(r.agreement_null_median, 2)}, 95 % below {num(r.agreement_null_high, 2)}</span></> },
        { key: "n_responses", label: "responses", value: (r) => r.n_responses as number },
        { key: "pc1_variance_share", label: "variance on PC1", value: (r) => r.pc1_variance_share as number, show: (r) => percent(r.pc1_variance_share) },
      ]} />
    </div>
    {lines.length > 0 && <details><summary class="small">in sentences</summary><ul class="plain small">{lines.map((line, i) => <li key={i} dir="auto">{line}</li>)}</ul></details>}
    </>
  );
}

export const runState = (run: RunRow) => ({ run: `${run.analysis}/${run.conversation}` });

function Ranked({ runs }: { runs: RunRow[] }) {
  const rows = useMemo(() => [...runs].sort((a, b) => Number(a.alarm_turn === null) - Number(b.alarm_turn === null) || (a.p_value ?? 2) - (b.p_value ?? 2) || (a.fall ?? 0) - (b.fall ?? 0)), [runs]);
  return (
    <Table name="runs" caption="Conversations, alarms first" rows={rows} limit={12} onRow={(run) => go("drift", runState(run))} columns={[
      { key: "conversation", label: "conversation", text: true, value: (r) => r.conversation, show: (r) => words(r.conversation) },
      { key: "analysis", label: "analysis", text: true, value: (r) => r.analysis },
      { key: "alarm_turn", label: "alarm at turn", value: (r) => r.alarm_turn, show: (r) => (r.alarm_turn === null ? "no" : <span class="alarm">▲ {r.alarm_turn}</span>) },
      { key: "p_value", label: "p", value: (r) => r.p_value, show: (r) => num(r.p_value, 2) },
      { key: "q_value", label: "q", value: (r) => r.q_value, show: (r) => num(r.q_value, 2), title: "false discovery rate over the analysis's conversations" },
      { key: "fall", label: "lowest z", value: (r) => r.fall, title: "the lowest score in standard deviations of reference turns at that place" },
      { key: "confound_verdict", label: "confounds", text: true, value: (r) => r.confound_verdict, show: (r) => (r.confound_verdict ? confoundText(r) : "–") },
      { key: "causal", label: "causal test", text: true, value: (r) => r.causal ?? "not made" },
      { key: "n_turns", label: "turns", value: (r) => r.n_turns },
    ]} />
  );
}

export const alarmText = (run: RunRow): string =>
  run.status !== "ok" ? `failed: ${run.reason}` : run.alarm_turn === null ? `no alarm, p = ${num(run.p_value, 2)}` : `alarm at turn ${run.alarm_turn}, p = ${num(run.p_value, 2)}`;
/** The verdict on confounds; N/A is of too few turns, or where nothing varies. */
export const confoundText = (run: RunRow): string => (run.confound_verdict === "N/A" ? "not judged" : (run.confound_verdict ?? "not known").toLowerCase());
export const rateText = (rate: { rate: number | null; low: number | null; high: number | null; n: number } | undefined): string =>
  !rate || rate.rate === null ? "not measured" : `${percent(rate.rate)} (95 % interval ${percent(rate.low)} to ${percent(rate.high)}, n = ${rate.n})`;
