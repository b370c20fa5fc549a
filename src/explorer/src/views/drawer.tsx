// What a token's weight is made of, and what a feature is.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { usePart } from "../data";
import { mark } from "../colors";
import { saveCsv } from "../export";
import { num, percent, signed } from "../format";
import { FeatureName, labelOf, placeOf, profileOf } from "../names";
import { link, update } from "../state";
import type { Features, Profiles, Run } from "../types";
import { Notice, Table } from "../ui";
import { rangesOf } from "./conversation";

/** The kept parts of a token, the largest first. */
export function tokenFeatures(run: Run, token: number): { feature: number; part: number }[] {
  const kept = run.features;
  if (!kept || token < 0 || token >= run.tokens.text.length) return [];
  const entries = [];
  for (let i = kept.offsets[token]!; i < kept.offsets[token + 1]!; i++) entries.push({ feature: kept.feature[i]!, part: kept.part[i]! * kept.unit[token]! });
  return entries.sort((a, b) => Math.abs(b.part) - Math.abs(a.part));
}

/** A piece of text in which spaces and breaks are seen. */
export const seenText = (text: string): string => text.replaceAll("\n", "⏎").replaceAll("\t", "⇥").replaceAll(/^ +| +$/g, (spaces) => "␣".repeat(spaces.length));

const MOST = 24, AROUND = 6, LONG = 60;

function Around({ run, token }: { run: Run; token: number }) {
  const { text, turn } = run.tokens, same = (i: number) => turn[i] === turn[token];
  const before = [], after = [];
  for (let i = Math.max(0, token - AROUND); i < token; i++) if (same(i)) before.push(text[i]!);
  for (let i = token + 1; i <= token + AROUND && i < text.length; i++) if (same(i)) after.push(text[i]!);
  return <div class="token" dir="auto" tabIndex={0} role="group" aria-label="The token in its text"><span class="soft">{before.join("").slice(-LONG)}</span><b>{seenText(text[token]!)}</b><span class="soft">{after.join("").slice(0, LONG)}</span></div>;
}

interface DrawerProps { run: Run; token: number; turn: number; feature: number | null; features: Features | undefined }

export function TokenDrawer({ run, token, turn, feature, features }: DrawerProps) {
  const box = useRef<HTMLElement>(null);
  useEffect(() => { box.current?.querySelector("tr.chosen")?.scrollIntoView({ block: "nearest", behavior: "instant" }); }, [feature, token]);
  if (token < 0 || token >= run.tokens.text.length) return <Notice>This conversation has no token {token}.</Notice>;
  const all = tokenFeatures(run, token), entries = all.slice(0, MOST), weight = run.tokens.w[token]!;
  const rest = weight - entries.reduce((sum, entry) => sum + entry.part, 0);
  const most = Math.max(...entries.map((entry) => Math.abs(entry.part)), 1e-12);
  const change = partInChange(run, token, turn), place = placeIn(run, token);
  return (
    <section class="drawer" aria-live="polite" aria-label={`Token ${token}`} ref={box}>
      <p class="who small soft">token {token}, {place} of turn {run.tokens.turn[token]}
        <button type="button" class="text" onClick={() => update({ token: null })}>close</button></p>
      <Around run={run} token={token} />
      <p>Part in the turn's projection: <b>{signed(weight)}</b>{change !== null && <span class="soft">; in the change into turn {turn}: {signed(change)}</span>}</p>
      {entries.length ? (
        <>
          <div class="wide" tabIndex={0} role="region" aria-label="Features of the token">
            <table>
              <caption class="sr">Features of the token and their signed parts</caption>
              <thead class="sr"><tr><th scope="col">feature</th><th scope="col">part</th><th scope="col">bar</th></tr></thead>
              <tbody>
                {entries.map((entry) => (
                  <tr key={entry.feature} class={entry.feature === feature ? "chosen" : ""} data-go onClick={() => update({ feature: entry.feature === feature ? null : entry.feature })}>
                    <td class="t"><button type="button" class="plain" aria-pressed={entry.feature === feature}><FeatureName id={entry.feature} features={features} /></button></td>
                    <td>{signed(entry.part)}</td>
                    <td class="t barcell"><Bar part={entry.part / most} /></td>
                  </tr>
                ))}
                <tr><td class="t soft">all smaller ones</td><td class="soft">{signed(rest)}</td><td /></tr>
              </tbody>
            </table>
          </div>
          <p class="tools">
            <span class="soft"><kbd>←</kbd> <kbd>→</kbd> tokens, <kbd>↑</kbd> <kbd>↓</kbd> features</span>
            <button type="button" aria-label="Save as CSV: features of the token"
              onClick={() => saveCsv(`token_${token}_${run.conversation}`, ["feature", "part", "label"], all.map((entry) => [entry.feature, entry.part, labelOf(features, entry.feature)]))}>CSV</button>
          </p>
        </>
      ) : <Notice>Features of this token are not on this page{run.features_reason && <>: <bdi>{run.features_reason}</bdi></>}.</Notice>}
    </section>
  );
}

const placeIn = (run: Run, token: number): string => {
  const [from, to] = rangesOf(run)[run.tokens.turn[token]!]!;
  return `${token - from + 1} of ${to - from}`;
};

/** A token's part in the change into a turn; null where it is in neither of its two turns. */
function partInChange(run: Run, token: number, turn: number): number | null {
  const step = run.transitions.find((one) => one.turn === turn), own = run.tokens.turn[token];
  if (!step) return null;
  return own === step.turn ? run.tokens.as_turn[token]! : own === step.prev_turn ? run.tokens.as_prev[token]! : null;
}

export function Bar({ part }: { part: number }) {
  const c = mark();
  const side = { width: "50%", display: "inline-block" } as const;
  const bar = (share: number, color: string, away: boolean) => (
    <span style={{ ...side, textAlign: away ? "right" : "left", borderInlineStart: away ? undefined : `1px solid ${c.soft}` }}>
      <span class="partbar" style={{ width: `${Math.min(100, 100 * share)}%`, background: color }} />
    </span>
  );
  return <span aria-hidden="true" style={{ display: "inline-block", width: "100%", whiteSpace: "nowrap", direction: "ltr" }}>{bar(Math.max(-part, 0), c.away, true)}{bar(Math.max(part, 0), c.toward, false)}</span>;
}

export function FeatureBox({ id, features }: { id: number; features: Features | undefined }) {
  const profiles = usePart<Profiles>("profiles").data;
  const place = features && placeOf(features, id);
  const rows = profiles && place !== undefined ? profileOf(profiles, place).sort((a, b) => b.mean - a.mean).slice(0, 3) : [];
  const known = features && place !== undefined ? [features.stability && `stability ${num(features.stability[place], 2)}`, features.density && `active on ${percent(features.density[place])} of tokens`].filter(Boolean) : [];
  return (
    <section class="section">
      <h2>Feature {id}<button type="button" class="text small letgo" onClick={() => update({ feature: null })}>let go</button></h2>
      <p dir="auto">{labelOf(features, id) || <span class="soft">no description on this page</span>}</p>
      {rows.length > 0 && <p class="soft small">Most active in {rows.map((row) => `${row.role} ${num(row.mean, 2)}${isNaN(row.error) ? "" : ` ± ${num(row.error, 1)}`}`).join(", ")} (mean ± standard error over questions){known.length > 0 && `; ${known.join(", ")}`}.</p>}
      <p class="small"><a href={link("features", { feature: id })}>everything on it</a></p>
    </section>
  );
}

interface TokenRow { token: number; text: string; w: number; change: number; feature: number; part: number }

/** The tokens of the chosen turn in a table: the colors as numbers, and another way to a token. */
export function TokenTable({ run, turn, token, features }: { run: Run; turn: number; token: number | null; features: Features | undefined }) {
  const [open, setOpen] = useState(false);
  const rows = useMemo(() => {
    if (!open) return [];
    const [from, to] = rangesOf(run)[turn]!, found: TokenRow[] = [];
    for (let i = from; i < to; i++) {
      const top = tokenFeatures(run, i)[0];
      found.push({ token: i, text: run.tokens.text[i]!, w: run.tokens.w[i]!, change: partInChange(run, i, turn) ?? NaN, feature: top?.feature ?? NaN, part: top?.part ?? NaN });
    }
    return found;
  }, [run, turn, open]);
  return (
    <details class="section" open={open} onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>The tokens of turn {turn} in a table</summary>
      {open && <Table name={`tokens_${run.conversation}_turn_${turn}`} caption={`Tokens of turn ${turn}`} quiet rows={rows} limit={40} onRow={(row) => update({ token: row.token })} isChosen={(row) => row.token === token} columns={[
        { key: "token", label: "token", value: (r) => r.token },
        { key: "text", label: "text", text: true, value: (r) => r.text, show: (r) => <bdi>{seenText(r.text).slice(0, LONG)}</bdi> },
        { key: "part_in_score", label: "part", value: (r) => r.w, show: (r) => signed(r.w) },
        { key: "part_in_change", label: "in change", value: (r) => r.change, show: (r) => signed(r.change) },
        { key: "feature", label: "largest feature", text: true, value: (r) => r.feature, show: (r) => (isNaN(r.feature) ? "–" : <FeatureName id={r.feature} features={features} />) },
        { key: "feature_part", label: "its part", hidden: true, value: (r) => r.part },
      ]} />}
    </details>
  );
}
