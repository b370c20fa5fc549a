// One feature: what it is, where it is active, what it promotes, which roles have it, and what is like it.
import * as Plot from "@observablehq/plot";
import { mark } from "../colors";
import { hasPart, usePart } from "../data";
import { num, percent, words } from "../format";
import { FeatureName, alike, profileOf } from "../names";
import { Chart } from "../plot";
import { link, update } from "../state";
import type { Context, Contexts, Features, Profiles } from "../types";
import { Notice, Waiting } from "../ui";

const SHARD = 256;

export function Panel({ data, place }: { data: Features; place: number }) {
  const id = data.id[place]!, url = data.url?.[place] ?? "";
  const safe = /^https?:\/\//.test(url) ? url : "";
  const facts: [string, string][] = [
    ["score", num(data.score?.[place])], ["stability", num(data.stability?.[place])], ["density", data.density ? percent(data.density[place]) : ""],
    ["mean when active", num(data.mean_active?.[place])], ["largest", num(data.max?.[place])], ["sd over roles", num(data.sd[place])],
  ];
  return (
    <section>
      <h1>Feature {id}</h1>
      {data.description?.[place] && <p dir="auto">{data.description[place]} <span class="soft small">({data.source?.[place] || "description"})</span></p>}
      {data.label?.[place] && <p dir="auto" class={data.description?.[place] ? "soft small" : ""}>{data.label[place]} <span class="soft small">(label by rule)</span></p>}
      {!data.label && !data.description && <Notice>Features have no labels on this page: they have not been described.</Notice>}
      <dl class="facts">{facts.filter(([, text]) => text && text !== "–").map(([name, text]) => <><dt>{name}</dt><dd>{text}</dd></>)}</dl>
      {safe && <p class="small"><a href={safe} rel="noreferrer noopener" target="_blank">{new URL(safe).host}</a></p>}
      <Lens title="promotes" tokens={data.promoted?.[place]} /><Lens title="suppresses" tokens={data.suppressed?.[place]} />
      <Profile place={place} id={id} />
      <Where id={id} />
      <Neighbors data={data} place={place} />
      <InRuns id={id} />
    </section>
  );
}

const Lens = ({ title, tokens }: { title: string; tokens: string[] | undefined }) =>
  tokens?.length ? <><h2>{title}</h2><div class="chips">{tokens.map((token, i) => <span key={i}><bdi>{token}</bdi></span>)}</div></> : null;

export function Profile({ place, id }: { place: number; id: number }) {
  const profiles = usePart<Profiles>("profiles");
  if (!profiles.data) return <Waiting what="role profiles" error={profiles.error} />;
  const all = profileOf(profiles.data, place).sort((a, b) => b.mean - a.mean), rows = all.length > 24 ? [...all.slice(0, 16), ...all.slice(-4)] : all;
  const bars = rows.map((row) => ({ ...row, low: isNaN(row.error) ? row.mean : row.mean - 1.96 * row.error, high: isNaN(row.error) ? row.mean : row.mean + 1.96 * row.error }));
  if (!all.length) return <Notice>Its profile over roles is not on this page, which has those of the features with the highest scores.</Notice>;
  const c = mark();
  return (
    <Chart name={`profile_${id}`} title="Mean activation by role" note={profiles.data.error ? "95 % interval over questions." : "No intervals: the responses are not there."}
      label={`Feature ${id} is most active in ${rows[0]?.role}, ${num(rows[0]?.mean)}`} deps={[profiles.data, place]}
      table={{ heads: ["role", "mean", "standard error"], rows: all.map((row) => [row.role, row.mean, isNaN(row.error) ? null : row.error]) }}
      options={() => ({
        height: 34 + 16 * bars.length, marginLeft: 110, marginBottom: 26, marginTop: 4, marginRight: 12,
        x: { label: null, ticks: 4, nice: true }, y: { label: null, domain: bars.map((row) => row.role), tickFormat: (d: string) => (d.length > 16 ? `${d.slice(0, 15)}…` : d) },
        marks: [Plot.ruleX([0], { stroke: c.faint }), Plot.ruleY(bars, { y: "role", x1: "low", x2: "high", stroke: c.soft }), Plot.dot(bars, { y: "role", x: "mean", fill: c.ink, r: 3.2, title: (d: any) => `${d.role}: ${num(d.mean)} [${num(d.low)}, ${num(d.high)}]` })],
      })} />
  );
}

function Where({ id }: { id: number }) {
  const name = `contexts/${Math.floor(id / SHARD)}`, there = hasPart(name);
  const part = usePart<Contexts>(there ? name : null);
  if (there && !part.data) return <Waiting what="contexts" error={part.error} />;
  const rows = part.data?.features[String(id)] ?? [];
  if (!rows.length) return <Notice>No contexts of this feature are on this page.</Notice>;
  const levels = [...new Set(rows.map((row) => row.quantile))].sort((a, b) => b - a);
  return (
    <>
      <h2>Where it is active</h2>
      {levels.map((level) => (
        <div key={level}>
          <p class="soft small">{level >= 1 ? "largest activations" : `around the ${num(100 * level, 3)}th percentile of its activations`}</p>
          {rows.filter((row) => row.quantile === level).sort((a, b) => a.rank - b.rank).slice(0, 5).map((row, i) => <OneContext key={i} row={row} />)}
        </div>
      ))}
    </>
  );
}

function OneContext({ row }: { row: Context }) {
  const most = Math.max(...row.values, 1e-9);
  return (
    <div class="context">
      <span class="piece" dir="auto">{row.tokens.map((token, i) => (
        <span key={i} class={i === row.at ? "at" : ""} style={{ backgroundColor: row.values[i]! > 0 ? `rgba(94,60,153,${(0.08 + 0.42 * row.values[i]! / most).toFixed(2)})` : undefined }} title={num(row.values[i])}>{token}</span>
      ))}</span>
      <div class="soft small" dir="auto">{num(row.value)} · {row.source === "response" ? `${row.name}${row.question ? `: ${row.question}` : ""}` : words(row.name)}</div>
    </div>
  );
}

function Neighbors({ data, place }: { data: Features; place: number }) {
  const profiles = usePart<Profiles>("profiles").data;
  const rows = !data.neighbors || !data.k ? (profiles ? alike(profiles, place, 8) : []) : Array.from({ length: Math.min(data.k, 8) }, (_, j) => ({ to: data.neighbors![place * data.k! + j]!, cosine: data.similarities![place * data.k! + j]! / 10_000 })).filter((row) => row.to >= 0);
  if (!rows.length) return null;
  return (
    <>
      <h2>Like it over roles</h2>
      <ul class="plain">{rows.map((row) => <li key={row.to}><button type="button" class="plain" onClick={() => update({ feature: data.id[row.to]! })}><FeatureName id={data.id[row.to]!} features={data} /></button> <span class="soft small">cosine {num(row.cosine, 2)}</span></li>)}</ul>
    </>
  );
}

/** Transitions of the runs in whose tables it is. */
function InRuns({ id }: { id: number }) {
  const where = usePart<{ feature: Int32Array; run: Int32Array; turn: Int32Array; contrib: Float32Array; runs: string[] }>(hasPart("where") ? "where" : null).data;
  if (!where) return null;
  const rows: { run: string; turn: number; contrib: number }[] = [];
  where.feature.forEach((feature, i) => { if (feature === id) rows.push({ run: where.runs[where.run[i]!]!, turn: where.turn[i]!, contrib: where.contrib[i]! }); });
  if (!rows.length) return null;
  rows.sort((a, b) => Math.abs(b.contrib) - Math.abs(a.contrib));
  return (
    <>
      <h2>In transitions</h2>
      <ul class="plain small">{rows.slice(0, 10).map((row, i) => <li key={i}><a href={link("drift", { run: row.run, turn: row.turn, feature: id })}>{words(row.run.split("/")[1]!)}, into turn {row.turn}</a> <span class="soft">{num(row.contrib, 2)}</span></li>)}</ul>
    </>
  );
}

