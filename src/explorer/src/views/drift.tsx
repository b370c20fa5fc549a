// A conversation and its drift: ranked runs, trajectory, the whole text with token heat, and the features behind it.
import { useEffect, useMemo, useState } from "preact/hooks";
import { hasPart, usePart } from "../data";
import { num, percent, words } from "../format";
import type { ViewProps } from "../main";
import { useFeatures } from "../names";
import { link, now, update, useAddress } from "../state";
import type { Core, Features, Run, RunRow } from "../types";
import { Choose, Notice, Tabs, Waiting } from "../ui";
import { Conversation } from "./conversation";
import { CausalTest } from "./causal";
import { Confounds, NearestRoles, Transitions } from "./changes";
import { FeatureBox, TokenDrawer, tokenFeatures } from "./drawer";
import { alarmText, rateText } from "./overview";
import { Trajectory } from "./trajectory";

const key = (run: RunRow) => `${run.analysis}/${run.conversation}`;

export function Drift({ core }: ViewProps) {
  const state = useAddress();
  const listed = core.runs.filter((run) => hasPart(`drift/${key(run)}`));
  const chosen = listed.find((run) => key(run) === state.get("run")) ?? (state.get("run") ? undefined : listed[0]);
  if (!listed.length) return <Notice>No drift runs are on this page: the experiment has no conversations, or they have not been analyzed.</Notice>;
  const analyses = [...new Set(listed.map((run) => run.analysis))];
  const analysis = chosen?.analysis ?? analyses[0]!;
  const here = listed.filter((run) => run.analysis === analysis);
  const other = (name: string) => {
    const same = listed.find((run) => run.analysis === name && run.conversation === chosen?.conversation);
    const next = same ?? listed.find((run) => run.analysis === name);
    if (next) location.hash = link("drift", { run: key(next), turn: state.get("turn") });
  };
  const picker = (
    <>
      {analyses.length > 1 && <Choose label="analysis" value={analysis} options={analyses.map((name) => [name, name])} onChange={other} />}
    </>
  );
  return (
    <div class="drift">
      <nav class="runs" aria-label="Conversations, alarms first">
        {picker}
        <ol>
          {here.map((run) => (
            <li key={key(run)}>
              <a href={link("drift", { run: key(run) })} aria-current={run === chosen ? "true" : undefined}>
                <bdi>{words(run.conversation)}</bdi><br />
                <span class={run.alarm_turn === null ? "soft small" : "alarm small"}>{run.alarm_turn === null ? "" : "▲ "}{alarmText(run)}</span>
              </a>
            </li>
          ))}
        </ol>
      </nav>
      <div class="pick bar">
        {picker}
        <Choose label="run" value={chosen ? key(chosen) : ""} options={here.map((run) => [key(run), `${run.alarm_turn === null ? "" : "▲ "}${words(run.conversation)}`])}
          onChange={(value) => { location.hash = link("drift", { run: value }); }} />
      </div>
      {chosen ? <OneRun key={key(chosen)} row={chosen} core={core} /> : <Notice strong>There is no run {state.get("run")} on this page.</Notice>}
    </div>
  );
}

function OneRun({ row, core }: { row: RunRow; core: Core }) {
  const state = useAddress();
  const run = usePart<Run>(`drift/${key(row)}`);
  const features = useFeatures().data;
  if (row.sensitive && state.get("sensitive") !== "shown") {
    return (
      <div>
        <h1 dir="auto">{row.title || words(row.conversation)}</h1>
        <Notice strong>This conversation is marked as sensitive; its text may distress. </Notice>
        <p class="buttons"><button type="button" onClick={() => update({ sensitive: "shown" })}>show it</button></p>
      </div>
    );
  }
  if (!run.data) return <Waiting what="the run" error={run.error} />;
  if (run.data.error) return <div><h1 dir="auto">{words(row.conversation)}</h1><Notice strong>This conversation could not be analyzed: {run.data.error}</Notice></div>;
  return <Shown row={row} run={run.data} core={core} features={features} />;
}

interface Props { row: RunRow; run: Run; core: Core; features: Features | undefined }

function Shown({ row, run, core, features }: Props) {
  const state = useAddress();
  const [seen, setSeen] = useState<number | null>(null);
  const token = state.num("token"), feature = state.num("feature");
  const selected = run.selected === null ? null : run.transitions[run.selected];
  const turn = state.num("turn") ?? selected?.turn ?? 0;
  const mode = feature !== null && run.features ? "feature" : state.get("heat") === "change" ? "change" : "score";
  const limit = core.scales[run.analysis] ?? run.tokens.limits;
  useKeys(run, selected?.turn ?? 0);
  useEffect(() => {
    // A link to a turn or token opens there; the list's links, which name neither, at the top.
    const place = token !== null ? `token-${token}` : state.num("turn") !== null ? `turn-${turn}` : "";
    if (place) document.getElementById(place)?.scrollIntoView({ block: token !== null ? "center" : "start", behavior: "instant" });
  }, [run]);
  const own = useMemo(() => (feature === null ? null : partsOf(run, feature)), [run, feature]);
  const values = mode === "feature" ? own!.values : mode === "change" ? changes(run, turn) : run.tokens.w;
  const full = mode === "feature" ? own!.limit : mode === "change" ? limit.change ?? limit.as_turn! : limit.w!;
  return (
    <>
      <div>
        <h1 dir="auto">{row.title || words(row.conversation)}</h1>
        {row.axis_doubt && <Notice strong>The axis of this analysis is not to be interpreted: {row.axis_doubt}.</Notice>}
        <Verdict row={row} run={run} core={core} />
        <div class="track">
          <Trajectory run={run} row={row} turn={turn} seen={seen} onTurn={(next) => showTurn(next)} />
          <div class="bar">
            <Tabs label="Color of the tokens" value={mode} onChange={(next) => update({ heat: next === "change" ? "change" : null, feature: null })}
              options={[["score", "each turn's score"], ["change", "change into the turn"], ...(mode === "feature" ? [["feature", `feature ${feature}`] as [string, string]] : [])]} />
            <Scale limit={full} />
          </div>
        </div>
        <p class="soft small">{EXPLAINED[mode]}{mode === "feature" && own && !own.whole && ` Feature ${feature} is not in this run's tables: tokens of which it is not among the ${run.features!.most} largest parts stay blank.`}</p>
        <Conversation run={run} values={values} limit={full} turn={turn} token={token} onSeen={setSeen}
          onToken={(index) => update({ token: index === token ? null : index })} onTurn={(next) => update({ turn: next, token: null })} />
      </div>
      <aside class="side" aria-label="Features of the chosen token and transition">
        {token !== null && <TokenDrawer run={run} token={token} feature={feature} features={features} />}
        {feature !== null && <FeatureBox id={feature} features={features} />}
        <Transitions run={run} turn={turn} feature={feature} features={features} />
        <NearestRoles run={run} turn={turn} />
        <Confounds run={run} />
        <CausalTest name={key(row)} />
      </aside>
    </>
  );
}

const EXPLAINED: Record<string, string> = {
  score: "A token's color is its exact part in its turn's plain projection on the axis; orange and underlined: away from the assistant, purple: toward it.",
  change: "Colored are the two turns of the chosen transition: each token's exact part in the change of the plain projection.",
  feature: "A token's color is this feature's exact part in the token's weight.",
};

function Scale({ limit }: { limit: number }) {
  const gradient = "linear-gradient(90deg, rgba(230,97,1,.62), transparent 50%, rgba(94,60,153,.62))";
  return <span class="scale" aria-label={`Color scale from ${num(-limit, 2)} to ${num(limit, 2)}, centered on zero`}>{num(-limit, 2)} away <i style={{ background: gradient }} /> toward {num(limit, 2)}</span>;
}

/** What is known of the run in plain sight, uncertainty beside it. */
function Verdict({ row, run, core }: { row: RunRow; run: Run; core: Core }) {
  const calibration = run.summary.calibration ?? {}, causal = run.summary.causal, references = calibration.references ?? {};
  const rate = core.nulls[run.analysis]?.false_alarms[references.domain ?? ""] ?? calibration.false_alarm_rate;
  const set = calibration.onset_set as [number, number] | null;
  const test = calibration.reason ? `no test: ${calibration.reason}`
    : row.alarm_turn === null ? "no alarm" : `▲ alarm at turn ${row.alarm_turn}`;
  return (
    <div class="verdict">
      <div><b class={row.alarm_turn === null ? "" : "alarm"}>{test}</b>
        {!calibration.reason && <>p = {num(row.p_value, 2)}, q = {num(row.q_value, 2)}, against {references.n} reference conversations.{" "}
          <span class="soft">False alarms: stated {percent(calibration.alpha)}, {rateText(rate)}.</span></>}</div>
      {row.alarm_turn !== null && <div><b>evidence since turn {num(row.onset)}</b><span class="soft">{set ? `onset between turns ${set[0]} and ${set[1]}` : "no interval of the onset"}</span></div>}
      <div><b>confounds: {row.confound_verdict ?? "not known"}</b><span class="soft">largest |correlation| of the score with length, norm or repetition: {num(run.summary.diagnostics?.max_abs_corr_selected_score, 2)} over {row.n_turns} turns</span></div>
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

function changes(run: Run, turn: number): Float64Array {
  const { tokens } = run, values = new Float64Array(tokens.text.length);
  const step = run.transitions.find((one) => one.turn === turn);
  if (step) for (let i = 0; i < values.length; i++) {
    if (tokens.turn[i] === step.turn) values[i] = tokens.as_turn[i]!;
    else if (tokens.turn[i] === step.prev_turn) values[i] = tokens.as_prev[i]!;
  }
  return values;
}

export function showTurn(turn: number): void {
  update({ turn, token: null });
  document.getElementById(`turn-${turn}`)?.scrollIntoView({ block: "start" });
}

function useKeys(run: Run, start: number): void {
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (event.target instanceof HTMLElement && /^(INPUT|SELECT|TEXTAREA|DIALOG)$/.test(event.target.tagName)) return;
      if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
      // Keys may come faster than the page is drawn: what they start from is the address.
      const state = now(), turn = state.num("turn") ?? start, token = state.num("token"), feature = state.num("feature");
      const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -1, ArrowDown: 1 }[event.key];
      if (event.key === "Escape" && feature !== null) update({ feature: null });
      else if (event.key === "Escape" && token !== null) update({ token: null });
      else if (step === undefined) return;
      else if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
        event.preventDefault();
        if (token !== null) {
          const next = Math.max(0, Math.min(run.tokens.text.length - 1, token + step));
          update({ token: next });
          document.getElementById(`token-${next}`)?.scrollIntoView({ block: "nearest" });
        } else showTurn(Math.max(0, Math.min(run.turns.score!.length - 1, turn + step)));
      } else if (token !== null && run.features) {
        event.preventDefault();
        const ids = tokenFeatures(run, token).map((entry) => entry.feature);
        const at = feature === null ? -1 : ids.indexOf(feature);
        const next = ids[Math.max(0, Math.min(ids.length - 1, at + step))];
        if (next !== undefined) update({ feature: next });
      }
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, [run, start]);
}
