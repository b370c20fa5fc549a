// What the tokens of a conversation project on several directions: by answer, by token, and in the text.
import * as Plot from "@observablehq/plot";
import { useEffect, useMemo } from "preact/hooks";
import { group, heat, legible, mark } from "../colors";
import { hasPart, usePart } from "../data";
import { saveCsv } from "../export";
import { many, num, signed, words } from "../format";
import { memo } from "../memo";
import { savePicture } from "../picture";
import { Chart, useScheme } from "../plot";
import { link, now, update, useAddress } from "../state";
import type { Core, Trace, Traits } from "../types";
import { Choose, Lost, Notice, Tabs, Waiting } from "../ui";
import { seenText } from "./drawer";
import { isElsewhere } from "./keys";
import { runKey } from "./runs";
import { Scale } from "./scale";
import { useTrackHeight } from "./track";

export function Monitor({ names, core }: { names: string[]; core: Core }) {
  const state = useAddress();
  const name = names.includes(`traces/${state.get("talk")}`) ? `traces/${state.get("talk")}` : names[0]!;
  const part = usePart<Trace>(name), trace = part.data;
  const hidden = (trace?.sensitive || core.runs.some((run) => run.sensitive && `traces/${run.conversation}` === name)) && state.get("sensitive") !== "shown";
  return (
    <>
      {names.length > 1 && <Choose label="conversation" value={name} options={names.map((one) => [one, words(one.slice(7))])} onChange={(value) => update({ talk: value.slice(7), token: null, turn: null })} />}
      <Lost what="watched conversation" asked={state.get("talk")} known={names.map((one) => one.slice(7))} instead={`shown is ${words(name.slice(7))}`} />
      {!trace ? <><h1 class="sr">Monitor</h1><Waiting what="the trace" error={part.error} /></>
        : hidden ? <><h1 dir="auto">{trace.title || words(trace.conversation)}</h1><Notice strong>This conversation is marked as sensitive; its text may distress. <button type="button" class="text" onClick={() => update({ sensitive: "shown" })}>show it</button></Notice></>
        : trace.error ? <><h1 dir="auto">{words(trace.conversation)}</h1><Notice strong>This conversation could not be traced: <bdi>{trace.error}</bdi></Notice></>
        : <OneTrace key={name} trace={trace} core={core} />}
    </>
  );
}

/** Projections in standard deviations of the assistant's tokens in plain conversations; plain where there is no scale. */
export function standardized(trace: Trace, column: string): Float32Array {
  const scale = trace.scale?.columns[column];
  return scale ? trace.values[column]!.map((value) => (value - scale.mean) / scale.sd) : trace.values[column]!;
}

interface Said { message: number; role: string; turn: number | null; tokens: number[] }
interface Mean { turn: number; message: number; column: string; mean: number; low: number; high: number; n: number }
const BINS = 400;

function messagesOf(trace: Trace): Said[] {
  const groups = new Map<number, Said>();
  let turn = 0;
  trace.text.forEach((_, i) => {
    if (!trace.in_content[i]) return;
    const message = trace.message_index[i]!, role = trace.roles[i]!;
    if (!groups.has(message)) groups.set(message, { message, role, turn: role === "assistant" ? turn++ : null, tokens: [] });
    groups.get(message)!.tokens.push(i);
  });
  return [...groups.values()];
}

function meansOf(messages: Said[], columns: string[], all: Record<string, Float32Array>): Mean[] {
  return messages.filter((one) => one.turn !== null).flatMap(({ turn, message, tokens }) => columns.map((column) => {
    const values = tokens.map((i) => all[column]![i]!), n = values.length, mean = values.reduce((a, b) => a + b, 0) / n;
    const error = Math.sqrt(values.reduce((a, b) => a + (b - mean) ** 2, 0) / Math.max(n - 1, 1) / n);
    return { turn: turn!, message, column, mean, low: mean - 1.96 * error, high: mean + 1.96 * error, n };
  }));
}

interface Bin { message: number; from: number; to: number; x: number; column: string; mean: number }

/** Means over neighboring tokens of a message, so that at most BINS are drawn of each direction. */
function binsOf(messages: Said[], columns: string[], all: Record<string, Float32Array>): Bin[] {
  const size = Math.max(1, Math.ceil(messages.reduce((sum, one) => sum + one.tokens.length, 0) / BINS)), found: Bin[] = [];
  for (const { message, tokens } of messages) for (let start = 0; start < tokens.length; start += size) {
    const own = tokens.slice(start, start + size);
    for (const column of columns) found.push({ message, from: own[0]!, to: own.at(-1)!, x: (own[0]! + own.at(-1)!) / 2, column, mean: own.reduce((sum, i) => sum + all[column]![i]!, 0) / own.length });
  }
  return found;
}

const showToken = (token: number): void => {
  update({ token });
  document.getElementById(`trace-${token}`)?.scrollIntoView({ block: "nearest" });
};
const showMessage = (message: number): void => document.getElementById(`message-${message}`)?.scrollIntoView({ block: "start" });

/** The next token in a message, which the template's between the messages are not; null at either end. */
function beside(trace: Trace, token: number, step: number): number | null {
  let next = Math.max(-1, Math.min(trace.text.length, token)) + step;
  while (next >= 0 && next < trace.text.length && !trace.in_content[next]) next += step;
  return next >= 0 && next < trace.text.length ? next : null;
}

/** Arrows go over the answers; with a token chosen, over the tokens. */
function useKeys(trace: Trace, messages: Said[]): void {
  useEffect(() => {
    const answers = messages.filter((one) => one.turn !== null);
    const onKey = (event: KeyboardEvent) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key], state = now(), token = state.num("token");
      if (isElsewhere(event) || (step === undefined && event.key !== "Escape" && event.key !== "t")) return;
      if (event.key === "Escape") update({ token: null });
      else if (event.key === "t") { const first = answers[state.num("turn") ?? 0]?.tokens[0]; if (first !== undefined) showToken(first); }
      else if (token !== null) { event.preventDefault(); const next = beside(trace, token, step!); if (next !== null) showToken(next); }
      else {
        event.preventDefault();
        const turn = Math.max(0, Math.min(answers.length - 1, (state.num("turn") ?? (step! > 0 ? -1 : 0)) + step!));
        update({ turn });
        if (answers[turn]) showMessage(answers[turn].message);
      }
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, [trace, messages]);
}

function OneTrace({ trace, core }: { trace: Trace; core: Core }) {
  const state = useAddress(), token = state.num("token"), turn = state.num("turn"), scheme = useScheme(), track = useTrackHeight();
  const column = trace.columns.includes(state.get("along")) ? state.get("along") : trace.columns[0]!;
  const all = useMemo(() => Object.fromEntries(trace.columns.map((one) => [one, standardized(trace, one)])), [trace]);
  const messages = useMemo(() => messagesOf(trace), [trace]);
  const unit = trace.scale ? "SD of plain conversations' tokens" : "projection", limit = trace.scale ? 3 : Math.max(...all[column]!.map(Math.abs), 1e-9);
  useKeys(trace, messages);
  useEffect(() => {
    const message = turn === null ? undefined : messages.find((one) => one.turn === turn)?.message;
    const place = token !== null ? `trace-${token}` : message !== undefined ? `message-${message}` : "";
    if (place) requestAnimationFrame(() => requestAnimationFrame(() => document.getElementById(place)?.scrollIntoView({ block: token !== null ? "center" : "start", behavior: "instant" })));
  }, [trace]);
  useEffect(() => {
    document.querySelectorAll(".tok.on").forEach((element) => element.classList.remove("on"));
    if (token !== null) document.getElementById(`trace-${token}`)?.classList.add("on");
  }, [token, trace, column]);
  const run = core.runs.find((one) => one.conversation === trace.conversation && hasPart(`drift/${runKey(one)}`));
  const onClick = (event: MouseEvent) => {
    const at = (event.target as HTMLElement).closest<HTMLElement>("[data-trace]")?.dataset.trace;
    if (at !== undefined) update({ token: +at === token ? null : at });
  };
  const tokenRows = () => trace.text.map((text, i) => [i, trace.message_index[i]!, trace.roles[i]!, text, ...trace.columns.map((one) => trace.values[one]![i]!), trace.surprise[i]!]);
  const picture = (kind: "svg" | "png") => () => savePicture(kind, `trace_${trace.conversation}_text`, document.querySelector<HTMLElement>(".traced"), `${words(trace.conversation)} along ${column}; full color at ±${num(limit, 2)} ${unit}, underlined: below 0`);
  return (
    <>
      <h1 dir="auto">{trace.title || words(trace.conversation)}</h1>
      <p class="small soft">{many(trace.columns.length, "direction")}, in {unit}{trace.scale && `: ${many(trace.scale.conversations, "conversation")}, ${many(trace.scale.tokens, "token")}`}.{run && <> <a href={link("drift", { run: runKey(run) })}>its drift</a></>}</p>
      <Lost what="direction" asked={state.get("along")} known={trace.columns} instead={`the text is colored by ${column}`} />
      <Doubts columns={trace.columns} core={core} />
      <div class="track first" ref={track}>
        <div class="bar">
          <Tabs label="Mean of" value={state.get("by") === "token" ? "token" : "answer"} options={[["answer", "by answer"], ["token", "by token"]]} onChange={(value) => update({ by: value === "token" ? value : null })} />
          <Tabs label="Color of the text" value={column} options={trace.columns.map((one) => [one, one])} onChange={(value) => update({ along: value })} />
          <Scale limit={limit} low="below" high="above" unit={trace.scale ? "SD" : "projection"} />
        </div>
        {state.get("by") === "token" ? <ByToken trace={trace} messages={messages} all={all} column={column} token={token} /> : <ByAnswer trace={trace} messages={messages} all={all} column={column} turn={turn} />}
        <p class="at" aria-live="polite">{token !== null && token >= 0 && token < trace.text.length
          ? <><b dir="auto">{seenText(trace.text[token]!).slice(0, 40)}</b> <span class="soft">token {token}:</span> {trace.columns.map((one, i) => <span key={one}>{i > 0 && ", "}{one} {signed(all[one]![token]!)}</span>)}{!isNaN(trace.surprise[token]!) && `; surprise ${num(trace.surprise[token], 2)} nats`}</>
          : <span class="soft">A click on a token shows its numbers<span class="hint">; <kbd>t</kbd> and <kbd>←</kbd> <kbd>→</kbd> do it from the keyboard</span>.</span>}</p>
      </div>
      <div class="traced" onClick={onClick}>
        {messages.map(({ message, role, tokens, turn: own }) => (
          <article class={`message ${role}${own !== null && own === turn ? " here" : ""}`} key={message} id={`message-${message}`}>
            <div class="who">{role}{own !== null && `, turn ${own}`}</div>
            <div class="said" dir="auto"><Traced trace={trace} tokens={tokens} values={all[column]!} limit={limit} scheme={scheme} /></div>
          </article>
        ))}
      </div>
      <p class="tools">
        <button type="button" aria-label="Save as CSV: projections of all tokens" onClick={() => saveCsv(`trace_${trace.conversation}`, ["token", "message", "role", "text", ...trace.columns, "surprise"], tokenRows())}>CSV</button>
        <button type="button" aria-label="Save as SVG: the text" onClick={picture("svg")}>SVG</button>
        <button type="button" aria-label="Save as PNG: the text" onClick={picture("png")}>PNG</button>
      </p>
    </>
  );
}

/** What speaks against the directions that are watched. */
function Doubts({ columns, core }: { columns: string[]; core: Core }) {
  const traits = usePart<Traits>(hasPart("traits") ? "traits" : null).data;
  const said = columns.flatMap((column) => {
    const [direction, layer] = column.split("@"), trait = direction!.startsWith("trait:") ? traits?.traits[direction!.slice(6)]?.evaluation : undefined;
    if (trait?.doubts?.length) return [`${direction} (${trait.doubts.join("; ")})`];
    const row = direction === "axis" ? core.agreement.find((one) => one.space === `residual layer ${layer}`) : undefined;
    return row && !row.interpretable ? [`axis at layer ${layer} (${row.reason})`] : [];
  });
  return said.length ? <Notice strong>Not to be relied on: {said.join(", ")}.</Notice> : null;
}

interface DrawnProps { trace: Trace; messages: Said[]; all: Record<string, Float32Array>; column: string }
const DASHES = ["", "6,3", "2,3", "8,3,2,3"];

/** Each direction's name at the end of its line. */
function names(data: (Mean | Bin)[], columns: string[], column: string, x: string): Plot.Markish {
  const last = columns.map((one) => data.filter((d) => d.column === one).at(-1)).filter((d) => d !== undefined);
  const text = (chosen: boolean) => Plot.text(last.filter((d) => (d.column === column) === chosen), {
    x, y: "mean", text: (d: any) => (d.column.length > 18 ? `${d.column.slice(0, 17)}…` : d.column), fill: (d: any) => legible(group(columns.indexOf(d.column))), textAnchor: "start", dx: 8, fontWeight: chosen ? 700 : 400,
  });
  return [text(true), text(false)];
}

function ByAnswer({ trace, messages, all, column, turn }: DrawnProps & { turn: number | null }) {
  const means = useMemo(() => meansOf(messages, trace.columns, all), [trace]), c = mark(), color = (d: Mean) => group(trace.columns.indexOf(d.column));
  const answers = messages.filter((one) => one.turn !== null);
  return (
    <Chart name={`trace_${trace.conversation}_answers`} title="Mean of each answer along the directions" note="Intervals take tokens as independent, so they are too short." label={`Means of ${answers.length} answers along ${trace.columns.length} directions`} deps={[trace, column, turn]}
      table={{ heads: ["turn", "direction", "mean", "low", "high", "tokens"], rows: means.map((m) => [m.turn, m.column, m.mean, m.low, m.high, m.n]) }}
      onPoint={(plot, x) => {
        const at = Math.max(0, Math.min(answers.length - 1, Math.round((plot.scale("x") as any).invert(x))));
        update({ turn: at });
        if (answers[at]) showMessage(answers[at].message);
      }}
      options={() => ({
        height: 190, marginLeft: 40, marginRight: 130, marginBottom: 36, x: { label: "assistant turn", labelAnchor: "center", labelArrow: "none", labelOffset: 32, domain: [-0.2, answers.length - 0.8], ticks: answers.length > 30 ? undefined : answers.map((one) => one.turn!), tickFormat: "d" }, y: { label: null, grid: false, ticks: 5, nice: true }, color: { type: "identity" },
        marks: [
          Plot.ruleY([0], { stroke: c.soft, strokeDasharray: "3,3" }), turn !== null ? Plot.ruleX([turn], { stroke: c.accent, strokeWidth: 18, strokeOpacity: 0.16 }) : null,
          Plot.ruleX(means, { x: "turn", y1: "low", y2: "high", stroke: color as any, strokeOpacity: 0.5 }), 
          ...trace.columns.map((one, i) => Plot.lineY(means.filter((d) => d.column === one), { x: "turn", y: "mean", stroke: group(i), strokeWidth: one === column ? 2.4 : 1.3, strokeDasharray: DASHES[i % DASHES.length] || undefined } as any)),
          names(means, trace.columns, column, "turn"),
          Plot.dot(means, { x: "turn", y: "mean", fill: color as any, r: 3, title: (d: Mean) => `${d.column}, turn ${d.turn}: ${num(d.mean)} [${num(d.low)}, ${num(d.high)}], ${d.n} tokens` }),
        ],
      })} />
  );
}

function ByToken({ trace, messages, all, column, token }: DrawnProps & { token: number | null }) {
  const bins = useMemo(() => binsOf(messages, trace.columns, all), [trace]), c = mark(), size = Math.max(...bins.map((bin) => bin.to - bin.from + 1), 1);
  const answers = messages.filter((one) => one.turn !== null).map((one) => ({ from: one.tokens[0]!, to: one.tokens.at(-1)!, turn: one.turn! }));
  return (
    <Chart name={`trace_${trace.conversation}_tokens`} title="Along the tokens" note={`${size > 1 ? `Means of up to ${size} tokens; lines` : "Lines"} break between messages; grey: the assistant's.`} label={`Projections of ${trace.text.length} tokens on ${trace.columns.length} directions`} deps={[trace, column, token]}
      table={{ heads: ["message", "from_token", "to_token", "direction", "mean"], rows: bins.map((bin) => [bin.message, bin.from, bin.to, bin.column, bin.mean]) }}
      onPoint={(plot, x) => {
        const at = (plot.scale("x") as any).invert(x), near = bins.reduce((best, bin) => (Math.abs(bin.x - at) < Math.abs(best.x - at) ? bin : best));
        showToken(near.from);
      }}
      options={() => ({
        height: 190, marginLeft: 40, marginRight: 130, marginBottom: 36, x: { label: "token", labelAnchor: "center", labelArrow: "none", labelOffset: 32 }, y: { label: null, grid: false, ticks: 5, nice: true }, color: { type: "identity" },
        marks: [
          Plot.rectX(answers, { x1: "from", x2: "to", fill: c.band, fillOpacity: 0.6 }), Plot.ruleY([0], { stroke: c.soft, strokeDasharray: "3,3" }),
          token !== null ? Plot.ruleX([token], { stroke: c.accent, strokeWidth: 2 }) : null,
          ...trace.columns.map((one) => Plot.lineY(bins.filter((bin) => bin.column === one), { x: "x", y: "mean", z: "message", stroke: group(trace.columns.indexOf(one)), strokeWidth: one === column ? 1.8 : 1, strokeOpacity: one === column ? 1 : 0.6 })),
          names(bins, trace.columns, column, "x"),
        ],
      })} />
  );
}

interface TracedProps { trace: Trace; tokens: number[]; values: Float32Array; limit: number; scheme: number }
const Traced = memo(({ trace, tokens, values, limit }: TracedProps) => (
  <>{tokens.map((i) => <span key={i} id={`trace-${i}`} data-trace={i} class={values[i]! < -0.1 * limit ? "tok away" : "tok"} style={{ backgroundColor: heat(values[i]!, limit) }} title={`${signed(values[i])}; surprise ${num(trace.surprise[i])}`}>{trace.text[i]}</span>)}</>
));
