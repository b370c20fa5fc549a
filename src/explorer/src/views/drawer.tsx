// What a token's weight is made of, and what a feature is.
import { usePart } from "../data";
import { mark } from "../colors";
import { num, signed } from "../format";
import { FeatureName, labelOf, placeOf, profileOf } from "../names";
import { link, update } from "../state";
import type { Features, Profiles, Run } from "../types";
import { Notice } from "../ui";

/** The kept parts of a token, the largest first. */
export function tokenFeatures(run: Run, token: number): { feature: number; part: number }[] {
  const kept = run.features;
  if (!kept) return [];
  const entries = [];
  for (let i = kept.offsets[token]!; i < kept.offsets[token + 1]!; i++) entries.push({ feature: kept.feature[i]!, part: kept.part[i]! * kept.unit[token]! });
  return entries.sort((a, b) => Math.abs(b.part) - Math.abs(a.part));
}

export function TokenDrawer({ run, token, feature, features }: { run: Run; token: number; feature: number | null; features: Features | undefined }) {
  if (token >= run.tokens.text.length) return <Notice>This conversation has no token {token}.</Notice>;
  const entries = tokenFeatures(run, token).slice(0, 24), weight = run.tokens.w[token]!;
  const rest = weight - entries.reduce((sum, entry) => sum + entry.part, 0);
  const most = Math.max(...entries.map((entry) => Math.abs(entry.part)), 1e-12);
  return (
    <section class="drawer" aria-live="polite">
      <div class="who small soft">token {token} of turn {run.tokens.turn[token]} · <kbd>←</kbd> <kbd>→</kbd> tokens, <kbd>↑</kbd> <kbd>↓</kbd> features
        <button type="button" class="text" style={{ float: "inline-end" }} onClick={() => update({ token: null })}>close</button></div>
      <div class="token" dir="auto"><b>{run.tokens.text[token]}</b></div>
      <p>Part in the turn's projection: <b>{signed(weight)}</b></p>
      {entries.length ? (
        <div class="wide">
          <table>
            <caption class="sr">Features of the token and their signed parts</caption>
            <tbody>
              {entries.map((entry) => (
                <tr key={entry.feature} class={entry.feature === feature ? "chosen" : ""} data-go onClick={() => update({ feature: entry.feature })}>
                  <td class="t"><button type="button" class="plain" aria-pressed={entry.feature === feature}><FeatureName id={entry.feature} features={features} /></button></td>
                  <td>{signed(entry.part)}</td>
                  <td class="t" style={{ minWidth: "6rem" }}><Bar part={entry.part / most} /></td>
                </tr>
              ))}
              <tr><td class="t soft">all smaller ones</td><td class="soft">{signed(rest)}</td><td /></tr>
            </tbody>
          </table>
        </div>
      ) : <Notice>Features of tokens are not on this page: {run.features_reason}</Notice>}
    </section>
  );
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
  return (
    <section class="section">
      <h2>Feature {id}<button type="button" class="text small" style={{ float: "inline-end", fontWeight: 400 }} onClick={() => update({ feature: null })}>let go</button></h2>
      <p dir="auto">{labelOf(features, id) || <span class="soft">no description on this page</span>}</p>
      {rows.length > 0 && <p class="soft small">Most active in {rows.map((row) => `${row.role} ${num(row.mean, 2)}${isNaN(row.error) ? "" : ` ± ${num(row.error, 1)}`}`).join(", ")} (mean ± standard error over questions).</p>}
      <p class="small"><a href={link("features", { feature: id })}>everything on it</a></p>
    </section>
  );
}
