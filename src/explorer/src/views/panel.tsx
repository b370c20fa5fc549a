// One feature: what it is, where it is active, what it promotes, which roles have it, and what is like it.
import * as Plot from "@observablehq/plot";
import { useMemo } from "preact/hooks";
import { heat, mark } from "../colors";
import { contextsOf } from "../contexts";
import { hasPart, partNames, usePart } from "../data";
import { saveCsv } from "../export";
import { count, num, percent, signed, words } from "../format";
import { FeatureName, alike, labelOf, lensOf, profileOf } from "../names";
import { Chart } from "../plot";
import { go, link, update, useAddress } from "../state";
import type { Context, Contexts, Core, Features, Profiles } from "../types";
import { Notice, Table, Waiting } from "../ui";
import type { Laid } from "./draw";

/** The part that has a feature's contexts: that which begins with it or with the next before it. */
const contextsPart = (id: number): string | null => {
  const from = Math.max(...partNames("contexts/").map((name) => +name.split("/")[1]!).filter((first) => first <= id));
  return isFinite(from) ? `contexts/${from}` : null;
};

export function Panel({ data, place, laid }: { data: Features; place: number; laid: Laid | null }) {
  const id = data.id[place]!, url = data.url?.[place] ?? "", description = data.description?.[place], label = data.label?.[place];
  const safe = /^https?:\/\//.test(url) ? url : "", role = data.roles[data.preferred_role[place]!], weight = data.axis_weight?.[place];
  const facts: [string, string][] = [
    ["score", num(data.score?.[place])], ["stability", num(data.stability?.[place])], ["density", data.density ? percent(data.density[place]) : ""],
    ["mean when active", num(data.mean_active?.[place])], ["largest", num(data.max?.[place])], ["sd over roles", num(data.sd[place])],
  ];
  return (
    <section class="panel">
      <h1>Feature {id}</h1>
      {description && <p dir="auto" class="lead">{description} <span class="soft small">({data.source?.[place] || "description"})</span></p>}
      {label && <p dir="auto" class={description ? "soft small" : "lead"}>{label} <span class="soft small">(label by rule)</span></p>}
      {!description && !label && <p class="soft">{data.label || data.description ? "It has no label: it was active in too few of the texts." : "Features have no labels on this page: they have not been described."}</p>}
      <p class="small">
        {role !== undefined && <>Most of it in <a href={link("roles", { role })}>{role}</a>. </>}
        {weight !== undefined && !isNaN(weight) && <>Weight on the <a href={link("roles")}>axis</a> <b>{signed(weight)}</b>{weight ? <span class="soft"> ({weight > 0 ? "▲ toward" : "▼ away from"} the assistant)</span> : null}.</>}
      </p>
      <dl class="facts pairs">{facts.filter(([, text]) => text && text !== "–").map(([name, text]) => <><dt>{name}</dt><dd>{text}</dd></>)}</dl>
      {safe && <p class="small"><a href={safe} rel="noreferrer noopener" target="_blank">feature {id} at {new URL(safe).host}</a></p>}
      <Where id={id} />
      <Lens title="Promotes" note="tokens that its decoder row raises, through the final norm" tokens={lensOf(data, "promoted", place)} />
      <Lens title="Suppresses" note="and lowers" tokens={lensOf(data, "suppressed", place)} />
      <Profile place={place} id={id} />
      <Neighbors data={data} place={place} laid={laid} />
      <InRuns id={id} />
    </section>
  );
}

/** What is known of a feature that no role has: it may be active in conversations. */
export function Unmapped({ id, features }: { id: number; features: Features }) {
  const width = Number(usePart<Core>("core").data?.provenance.d_sae ?? NaN), label = labelOf(features, id);
  if (id < 0 || id >= width) return <section class="panel"><h1>Feature {id}</h1><Notice strong>The SAE has no such feature: its {count(width)} are numbered from 0 to {width - 1}.</Notice></section>;
  return (
    <section class="panel">
      <h1>Feature {id}</h1>
      {label && <p dir="auto" class="lead">{label}</p>}
      <Notice strong>It is not alive in the roles' responses, so that it is on no map{isNaN(width) ? ", or the SAE has no such feature" : ""}. Conversations may have it.</Notice>
      <Where id={id} />
      <InRuns id={id} />
    </section>
  );
}

const Lens = ({ title, note, tokens }: { title: string; note: string; tokens: string[] | undefined }) =>
  tokens?.length ? <><h2>{title} <span class="soft note">{note}</span></h2><div class="chips">{tokens.map((token, i) => <span key={i}><bdi>{token}</bdi></span>)}</div></> : null;

export function Profile({ place, id }: { place: number; id: number }) {
  const profiles = usePart<Profiles>("profiles");
  if (!profiles.data) return <Waiting what="role profiles" error={profiles.error} />;
  const all = profileOf(profiles.data, place).sort((a, b) => b.mean - a.mean), rows = all.length > 24 ? [...all.slice(0, 16), ...all.slice(-4)] : all;
  const bars = rows.map((row) => ({ ...row, low: isNaN(row.error) ? row.mean : row.mean - 1.96 * row.error, high: isNaN(row.error) ? row.mean : row.mean + 1.96 * row.error }));
  if (!all.length) return <Notice>Its profile over roles is not on this page, which has those of the features with the highest scores.</Notice>;
  const c = mark(), wide = Math.min(110, 24 + 7 * Math.max(...bars.map((row) => row.role.length)));
  return (
    <Chart name={`profile_${id}`} title="Mean activation by role" note={`${profiles.data.error ? "95 % interval over questions." : "No intervals: the responses are not there."}${rows.length < all.length ? " The 16 highest and 4 lowest." : ""} A click opens the role.`}
      label={`Feature ${id} is most active in ${rows[0]?.role}, ${num(rows[0]?.mean)}`} deps={[profiles.data, place]}
      table={{ heads: ["role", "mean", "standard error"], rows: all.map((row) => [row.role, row.mean, isNaN(row.error) ? null : row.error]) }}
      onPoint={(plot, _x, y) => { const scale = plot.scale("y") as any, near = [...scale.domain].sort((a, b) => Math.abs(scale.apply(a) - y) - Math.abs(scale.apply(b) - y))[0]; if (near) go("roles", { role: near }); }}
      options={() => ({
        height: 34 + 16 * bars.length, marginLeft: wide, marginBottom: 26, marginTop: 4, marginRight: 12,
        x: { label: null, ticks: 4, nice: true }, y: { label: null, domain: bars.map((row) => row.role), tickFormat: (d: string) => (d.length > 16 ? `${d.slice(0, 15)}…` : d) },
        marks: [Plot.ruleX([0], { stroke: c.faint }), Plot.ruleY(bars, { y: "role", x1: "low", x2: "high", stroke: c.soft }), Plot.dot(bars, { y: "role", x: "mean", fill: c.ink, r: 3.2, title: (d: any) => `${d.role}: ${num(d.mean)} [${num(d.low)}, ${num(d.high)}]` })],
      })} />
  );
}

function Where({ id }: { id: number }) {
  const there = contextsPart(id), part = usePart<Contexts>(there);
  const all = useMemo(() => (part.data ? contextsOf(part.data, id) : []), [part.data, id]), secret = useSensitive(), hidden = all.filter((row) => row.source !== "response" && secret.has(row.name)).length;
  const rows = hidden ? all.filter((row) => row.source === "response" || !secret.has(row.name)) : all;
  if (there && !part.data) return <Waiting what="contexts" error={part.error} />;
  const gate = hidden > 0 && <Notice>{hidden} contexts are of conversations marked as sensitive. <button type="button" class="text" onClick={() => update({ sensitive: "shown" })}>show them</button></Notice>;
  if (!rows.length) return gate || <Notice>No contexts of this feature are on this page.</Notice>;
  const levels = [...new Set(rows.map((row) => row.quantile))].sort((a, b) => b - a), most = Math.max(...rows.flatMap((row) => row.pieces.map((piece) => Math.abs(piece.value))), 1e-9);
  const heads = ["quantile", "rank", "value", "source", "name", "question", "token", "text", "activations"];
  const exported = () => saveCsv(`contexts_${id}`, heads, rows.map((row) => [row.quantile, row.rank, row.value, row.source, row.name, row.question, row.pieces.find((piece) => piece.peak)?.text, row.pieces.map((piece) => piece.text).join(""), JSON.stringify(row.pieces.filter((piece) => piece.value).map((piece) => [piece.text, piece.value]))]));
  return (
    <>
      <h2>Where it is active</h2>
      {levels.map((level) => (
        <div key={level}>
          <h3>{level >= 1 ? "largest activations" : `around the ${Math.round(100 * level)}th percentile of its activations`}</h3>
          {rows.filter((row) => row.quantile === level).map((row, i) => <OneContext key={i} row={row} most={most} />)}
        </div>
      ))}
      {gate}
      <p class="tools"><button type="button" onClick={exported} aria-label={`Save as CSV: contexts of feature ${id}`}>CSV</button></p>
    </>
  );
}

/** The conversations whose text is shown only when asked for, as long as that has not been asked for. */
function useSensitive(): Set<string> {
  const core = usePart<Core>("core").data, shown = useAddress().get("sensitive") === "shown";
  return useMemo(() => new Set(shown || !core ? [] : core.runs.filter((run) => run.sensitive).map((run) => run.conversation)), [core, shown]);
}

/** A passage in one line: a break is a sign. */
const flat = (text: string): string => text.replaceAll(/[ \t]*\n\s*/g, " ↵ ");

/** A text with the feature's activation behind each token, full at the largest of all its contexts; the token of the peak is marked. */
function OneContext({ row, most }: { row: Context; most: number }) {
  return (
    <div class="context">
      <span class="piece" dir="auto">{row.pieces.map(({ text, value, peak }, i) => (
        peak ? <mark key={i} class="at" style={{ backgroundColor: heat(value, most) }} title={num(value)}>{flat(text)}</mark>
          : value ? <span key={i} style={{ backgroundColor: heat(value, most) }} title={num(value)}>{flat(text)}</span> : flat(text)
      ))}</span>
      <div class="soft small from" dir="auto" title={row.question || undefined}><b>{num(row.value)}</b> · {row.source === "response" ? <><a href={link("roles", { role: row.name })}>{row.name}</a>{row.question ? `: ${row.question}` : ""}</> : words(row.name)}</div>
    </div>
  );
}

interface Like { place: number; id: number; value: number }

function Neighbors({ data, place, laid }: { data: Features; place: number; laid: Laid | null }) {
  const profiles = usePart<Profiles>("profiles").data;
  const [rows, by] = useMemo((): [Like[], "cosine" | "distance"] => {
    const like = (to: number, value: number) => ({ place: to, id: data.id[to]!, value });
    if (data.neighbors && data.k) {
      const k = data.k;
      return [Array.from({ length: k }, (_, j) => like(data.neighbors![place * k + j]!, data.similarities![place * k + j]! / 10_000)).filter((row) => row.place >= 0), "cosine"];
    }
    const found = profiles && !data.centered ? alike(profiles, place, 20) : [];
    if (found.length || !laid) return [found.map(({ to, cosine }) => like(to, cosine)), "cosine"];
    const { xy } = laid, far = Float32Array.from(data.id, (_, i) => (i === place ? Infinity : Math.hypot(xy[2 * i]! - xy[2 * place]!, xy[2 * i + 1]! - xy[2 * place + 1]!)));
    return [Array.from(far.keys()).filter((i) => isFinite(far[i]!)).sort((a, b) => far[a]! - far[b]!).slice(0, 20).map((i) => like(i, far[i]!)), "distance"];
  }, [data, place, profiles, laid]);
  if (!rows.length) return null;
  const some = data.neighbors ? "" : by === "cosine" ? " Among the features whose profiles are on this page." : " This page has no profile of it: these are near it on the map, which may mislead.";
  return (
    <>
      <h2>{by === "cosine" ? "Like it over roles" : "Near it on the map"} {some && <span class="soft note">{some}</span>}</h2>
      <Table name={`neighbors_${data.id[place]}`} caption={`Features like feature ${data.id[place]}`} quiet rows={rows} limit={8} onRow={(row) => update({ feature: row.id })} columns={[
        { key: "feature", label: "feature", text: true, value: (row) => row.id, show: (row) => <FeatureName id={row.id} features={data} /> },
        { key: by, label: by, value: (row) => row.value, show: (row) => num(row.value, by === "cosine" ? 3 : 2) },
        { key: "label", label: "label", text: true, hidden: true, value: (row) => labelOf(data, row.id) },
      ]} />
    </>
  );
}

/** Transitions of the runs in whose tables it is. */
function InRuns({ id }: { id: number }) {
  const where = usePart<{ feature: Int32Array; run: Int32Array; turn: Int32Array; contrib: Float32Array; runs: string[] }>(hasPart("where") ? "where" : null).data;
  const rows = useMemo(() => {
    const found: { run: string; turn: number; contrib: number }[] = [];
    where?.feature.forEach((feature, i) => { if (feature === id) found.push({ run: where.runs[where.run[i]!]!, turn: where.turn[i]!, contrib: where.contrib[i]! }); });
    return found.sort((a, b) => Math.abs(b.contrib) - Math.abs(a.contrib));
  }, [where, id]);
  if (!rows.length) return null;
  return (
    <>
      <h2>In drift <span class="soft note">transitions in whose tables it is, and its part in the change of the score</span></h2>
      <Table name={`transitions_${id}`} caption={`Transitions with feature ${id}`} quiet rows={rows} limit={8} onRow={(row) => go("drift", { run: row.run, turn: row.turn, feature: id })} columns={[
        { key: "run", label: "run", text: true, value: (row) => row.run, show: (row) => words(row.run.split("/")[1]!) },
        { key: "turn", label: "into turn", value: (row) => row.turn },
        { key: "contrib", label: "part", value: (row) => row.contrib, show: (row) => signed(row.contrib, 2) },
      ]} />
    </>
  );
}
