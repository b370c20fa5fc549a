// A conversation and its drift: ranked runs, trajectory, the whole text with token heat, and the features behind it.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { usePart } from "../data";
import { saveCsv } from "../export";
import { many, num, percent, words } from "../format";
import type { ViewProps } from "../main";
import { useFeatures } from "../names";
import { savePicture } from "../picture";
import { update, useAddress } from "../state";
import type { Core, Features, Run, RunRow } from "../types";
import { Notice, Tabs, Waiting } from "../ui";
import { Conversation } from "./conversation";
import { CausalTest } from "./causal";
import { Confounds, NearestRoles, Transitions, confoundsOf } from "./changes";
import { FeatureBox, TokenDrawer, TokenTable } from "./drawer";
import "../drift.css";
import { showTurn, useKeys } from "./keys";
import { confoundText, rateText } from "./overview";
import { Runs, missing, runKey } from "./runs";
import { Scale } from "./scale";
import { useTrackHeight } from "./track";
import { Trajectory } from "./trajectory";

export function Drift({ core, index }: ViewProps) {
  const state = useAddress(), asked = state.get("run");
  const chosen = core.runs.find((run) => runKey(run) === asked) ?? (asked ? undefined : core.runs[0]);
  if (!core.runs.length) return <Notice>No drift runs are on this page: the experiment has no conversations, or they have not been analyzed.</Notice>;
  return (
    <div class="drift">
      <Runs core={core} index={index} chosen={chosen} />
      {!chosen ? <Notice strong>There is no run <bdi>{asked}</bdi> on this page.</Notice>
        : missing(chosen, index) ? <Missing row={chosen} why={missing(chosen, index)} />
        : <OneRun key={runKey(chosen)} row={chosen} core={core} />}
    </div>
  );
}

const Missing = ({ row, why }: { row: RunRow; why: string }) => (
  <div>
    <h1 dir="auto">{row.title || words(row.conversation)}</h1>
    <Notice strong>This run is not on the page: <bdi>{why}</bdi>.</Notice>
  </div>
);

function OneRun({ row, core }: { row: RunRow; core: Core }) {
  const state = useAddress(), hidden = row.sensitive && state.get("sensitive") !== "shown";
  const run = usePart<Run>(hidden ? null : `drift/${runKey(row)}`);
  const features = useFeatures().data;
  if (hidden) {
    return (
      <div>
        <h1 dir="auto">{row.title || words(row.conversation)}</h1>
        <Notice strong>This conversation is marked as sensitive; its text may distress. </Notice>
        <p class="buttons"><button type="button" onClick={() => update({ sensitive: "shown" })}>show it</button></p>
      </div>
    );
  }
  if (!run.data) return <div><h1 dir="auto">{row.title || words(row.conversation)}</h1><Waiting what="the run" error={run.error} /></div>;
  if (run.data.error) return <div><h1 dir="auto">{words(row.conversation)}</h1><Notice strong>This conversation could not be analyzed: <bdi>{run.data.error}</bdi></Notice></div>;
  return <Shown row={row} run={run.data} core={core} features={features} />;
}

interface Props { row: RunRow; run: Run; core: Core; features: Features | undefined }

function Shown({ row, run, core, features }: Props) {
  const state = useAddress(), track = useTrackHeight(), side = useRef<HTMLElement>(null);
  const [seen, setSeen] = useState<[number, number] | null>(null);
  const token = state.num("token"), feature = state.num("feature");
  const selected = run.selected === null ? null : run.transitions[run.selected];
  const turn = Math.max(0, Math.min(run.turns.score!.length - 1, state.num("turn") ?? selected?.turn ?? 0));
  const mode = feature !== null && run.features ? "feature" : state.get("heat") === "change" ? "change" : "score";
  const limit = core.scales[run.analysis] ?? run.tokens.limits;
  useKeys(run, selected?.turn ?? 0);
  useEffect(() => {
    // A link to a turn or token opens there; the list's links, which name neither, at the top.
    const place = token !== null ? `token-${token}` : state.num("turn") !== null ? `turn-${turn}` : "";
    const go = () => document.getElementById(place)?.scrollIntoView({ block: token !== null ? "center" : "start", behavior: "instant" });
    if (place) requestAnimationFrame(() => requestAnimationFrame(go));  // behind the chart, which moves the text
  }, [run]);
  useEffect(() => { if (token !== null) side.current?.scrollTo({ top: 0, behavior: "instant" }); }, [token]);
  const own = useMemo(() => (feature === null ? null : partsOf(run, feature)), [run, feature]);
  const values = useMemo(() => (mode === "feature" ? own!.values : mode === "change" ? changes(run, turn) : run.tokens.w), [run, mode, turn, own]);
  const full = mode === "feature" ? own!.limit : mode === "change" ? limit.change ?? limit.as_turn! : limit.w!;
  return (
    <>
      <div class="reads">
        <h1 dir="auto">{row.title || words(row.conversation)}</h1>
        {row.axis_doubt && <Notice strong>The axis of this analysis is not to be interpreted: {row.axis_doubt}.</Notice>}
        <Verdict row={row} run={run} core={core} />
        <div class="track" ref={track}>
          <Trajectory run={run} row={row} turn={turn} seen={seen} onTurn={showTurn} />
          <div class="bar">
            <Tabs label="Color of the tokens" value={mode} onChange={(next) => update({ heat: next === "change" ? "change" : null, feature: null })}
              options={[["score", "each turn's score"], ["change", `change into turn ${turn}`], ...(mode === "feature" ? [["feature", `feature ${feature}`] as [string, string]] : [])]} />
            <Scale limit={full} low="away" high="toward" />
          </div>
        </div>
        <p class="soft small">{EXPLAINED[mode]}{mode === "feature" && own && !own.whole && ` Feature ${feature} is not in this run's tables: tokens of which it is not among the ${run.features!.most} largest parts stay blank.`}</p>
        <Conversation run={run} values={values} limit={full} turn={turn} token={token} onSeen={(from, to) => setSeen((old) => (old?.[0] === from && old[1] === to ? old : [from, to]))}
          onToken={(index) => update({ token: index === token ? null : index })} onTurn={(next) => update({ turn: next })} />
        <Saved run={run} turn={turn} values={values} mode={mode} full={full} feature={feature} />
      </div>
      <aside class="side" ref={side} aria-label="Features of the chosen token and transition">
        {token !== null && <TokenDrawer run={run} token={token} turn={turn} feature={feature} features={features} />}
        {feature !== null && <FeatureBox id={feature} features={features} />}
        <Transitions run={run} turn={turn} feature={feature} features={features} />
        <NearestRoles run={run} turn={turn} />
        <Confounds run={run} />
        <CausalTest name={runKey(row)} features={features} />
        <TokenTable run={run} turn={turn} token={token} features={features} />
      </aside>
    </>
  );
}

const EXPLAINED: Record<string, string> = {
  score: "A token's color is its exact part in its turn's plain projection on the axis; orange and underlined: away from the assistant, purple: toward it. A click on a token shows its features.",
  change: "Colored are the two turns of the chosen transition: each token's exact part in the change of the plain projection.",
  feature: "A token's color is this feature's exact part in the token's weight.",
};

/** The colored text as files: the numbers of all tokens, and what is seen. */
function Saved({ run, turn, values, mode, full, feature }: { run: Run; turn: number; values: ArrayLike<number>; mode: string; full: number; feature: number | null }) {
  const { tokens } = run, shown = mode === "score" ? [] : [mode === "change" ? `change_into_turn_${turn}` : `feature_${feature}`];
  const rows = () => tokens.text.map((text, i) => [i, tokens.turn[i]!, text, tokens.w[i]!, ...(shown.length ? [values[i]!] : [])]);
  const name = `tokens_${run.conversation}`, head = `${words(run.conversation)}, ${(shown[0] ?? "each turn's score").replaceAll("_", " ")}; full color at ±${num(full, 2)}, underlined: away`;
  const picture = (kind: "svg" | "png") => () => savePicture(kind, name, document.querySelector<HTMLElement>(".conversation"), head);
  return (
    <p class="tools">
      <button type="button" onClick={() => saveCsv(name, ["token", "turn", "text", "part_in_score", ...shown], rows())} aria-label="Save as CSV: all tokens of the conversation">CSV</button>
      <button type="button" onClick={picture("svg")} aria-label="Save as SVG: the conversation">SVG</button>
      <button type="button" onClick={picture("png")} aria-label="Save as PNG: the conversation">PNG</button>
    </p>
  );
}

/** What is known of the run in plain sight, uncertainty beside it. */
function Verdict({ row, run, core }: { row: RunRow; run: Run; core: Core }) {
  const calibration = run.summary.calibration ?? {}, causal = run.summary.causal, references = calibration.references ?? {};
  const rate = core.nulls[run.analysis]?.false_alarms[references.domain ?? ""] ?? calibration.false_alarm_rate;
  const set = calibration.onset_set as [number, number] | null, most = run.summary.diagnostics?.max_abs_corr_selected_score;
  const test = calibration.reason ? `no test: ${calibration.reason}`
    : row.alarm_turn === null ? "no alarm" : `▲ alarm at turn ${row.alarm_turn}`;
  return (
    <div class="verdict">
      <div><b class={row.alarm_turn === null ? "" : "alarm"}>{test}</b>
        {!calibration.reason && <>p = {num(row.p_value, 2)}, q = {num(row.q_value, 2)}, against {references.n} reference conversations.{" "}
          <span class="soft">False alarms: promised {percent(calibration.alpha)}, {rate && rate.rate !== null ? "measured " : ""}{rateText(rate)}.</span></>}</div>
      {row.alarm_turn !== null && <div><b>evidence since turn {num(row.onset)}</b><span class="soft">{!set ? "no interval of the onset" : set[0] === set[1] ? `onset at turn ${set[0]}` : `onset between turns ${set[0]} and ${set[1]}`}</span></div>}
      <div><b>confounds: {confoundText(row)}</b><span class="soft">{row.confound_verdict === "N/A" && (typeof most === "number" ? "too few turns; " : "nothing varies; ")}largest |correlation| of the score with length, norm or repetition: {num(most, 2)} over {many(confoundsOf(run)[0]?.n ?? 0, "turn")} with tokens</span></div>
      <div><b>causal test: {causal?.verdict ?? "not made"}</b>
        {causal && <span class="soft"><bdi>{causal.reason}.</bdi>{causal.effects?.total && <> Effect {num(causal.effects.total.mean, 2)} [{num(causal.effects.total.low, 2)}, {num(causal.effects.total.high, 2)}] SD, n = {causal.effects.total.n}.</>}</span>}</div>
      {row.flags && <div><b>flags</b><span class="soft">{row.flags.replaceAll("_", " ")}</span></div>}
    </div>
  );
}

/** The parts of one feature in every token. */
function partsOf(run: Run, feature: number): { values: Float64Array; limit: number; whole: boolean } {
  const values = new Float64Array(run.tokens.text.length), kept = run.features;
  if (!kept) return { values, limit: 1, whole: false };
  for (let token = 0; token < values.length; token++) {
    for (let i = kept.offsets[token]!; i < kept.offsets[token + 1]!; i++) if (kept.feature[i] === feature) values[token] = kept.part[i]! * kept.unit[token]!;
  }
  const limit = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  return { values, limit: limit || 1, whole: kept.kept_all.includes(feature) };
}

export function changes(run: Run, turn: number): Float64Array {
  const { tokens } = run, values = new Float64Array(tokens.text.length);
  const step = run.transitions.find((one) => one.turn === turn);
  if (step) for (let i = 0; i < values.length; i++) {
    if (tokens.turn[i] === step.turn) values[i] = tokens.as_turn[i]!;
    else if (tokens.turn[i] === step.prev_turn) values[i] = tokens.as_prev[i]!;
  }
  return values;
}
