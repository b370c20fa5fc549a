// Two runs side by side, of one analysis, of two, or of two experiments; and two experiments as a whole.
import { useRef, useState } from "preact/hooks";
import { hasPart } from "../data";
import { num, words } from "../format";
import type { ViewProps } from "../main";
import { type Other, choose, otherHas, readOther, useFrom, useOther } from "../other";
import { link, update, useAddress } from "../state";
import type { Core, Run, RunRow } from "../types";
import { Choose, Notice, Tabs, Waiting } from "../ui";
import { Experiments } from "./experiments";
import { alarmText, confoundText } from "./overview";
import { BothFeatures, BothRoles, BothTrajectories } from "./pairs";
import { runKey } from "./runs";

/** A run, and whose it is: other is null for this page's. */
export interface Side { row: RunRow; other: Other | null; core: Core; name: string }
const THEIRS = "other:";
const keyOf = (side: Side): string => `${side.other ? THEIRS : ""}${runKey(side.row)}`;

function sidesOf(core: Core, other: Other | null): Side[] {
  const name = (row: RunRow, of: string) => `${words(row.conversation)} (${row.analysis}${of})`;
  const own = core.runs.filter((row) => hasPart(`drift/${runKey(row)}`)).map((row) => ({ row, other: null, core, name: name(row, other ? ", this page" : "") }));
  const theirs = other ? other.core.runs.filter((row) => otherHas(other, `drift/${runKey(row)}`)).map((row) => ({ row, other, core: other.core, name: name(row, `, ${other.index.experiment}`) })) : [];
  return [...own, ...theirs];
}

export function Compare({ core, index }: ViewProps) {
  const state = useAddress(), other = useOther(), sides = sidesOf(core, other);
  const whole = other !== null && state.get("of") === "experiments";
  const wanted = state.get("with");
  return (
    <>
      <h1 class="sr">Compare</h1>
      <Picker other={other} wanted={wanted} />
      {other && <div class="bar"><Tabs label="Compare" value={whole ? "experiments" : "runs"} options={[["runs", "two runs"], ["experiments", "the experiments"]]} onChange={(value) => update({ of: value === "experiments" ? value : null })} /></div>}
      {whole && other ? <Experiments core={core} title={index.experiment} other={other} /> : <TwoRuns sides={sides} />}
    </>
  );
}

/** Another experiment's page, chosen from disk: a page that was opened from disk may read no file by itself. */
function Picker({ other, wanted }: { other: Other | null; wanted: string }) {
  const input = useRef<HTMLInputElement>(null), [said, setSaid] = useState("");
  const take = async (files: FileList | null) => {
    if (!files?.length) return;
    setSaid("Reading …");
    try {
      const read = await readOther([...files]);
      choose(read);
      setSaid("");
      update({ with: read.index.experiment });
    } catch (error) {
      setSaid(`Not read: ${error instanceof Error ? error.message : String(error)}.`);
    }
    if (input.current) input.current.value = "";
  };
  const drop = () => { choose(null); update({ with: null, of: null, a: null, b: null, ta: null, tb: null }); };
  return (
    <div class="picker">
      <p>
        {other ? <>With <b><bdi>{other.index.experiment}</bdi></b> <span class="soft">(<bdi>{other.index.title}</bdi>)</span> </> : <span class="soft">Runs of this page. </span>}
        <input ref={input} id="other-page" class="sr" type="file" multiple accept=".html,.htm,.js" aria-label="The page of another experiment: its index.html, and the data files beside it where there are some" onChange={(event) => void take(event.currentTarget.files)} />
        <label for="other-page" class="filebutton">{other ? "another page …" : "compare with another experiment: choose its index.html …"}</label>
        {other && <> <button type="button" class="text" onClick={drop}>take it away</button></>}
      </p>
      {said && <p role="status" class={said.startsWith("Not") ? "notice strong" : "soft"}><bdi>{said}</bdi></p>}
      {!other && wanted && !said && <Notice strong>This link compares with the experiment <bdi>{wanted}</bdi>, whose page has to be chosen again: <bdi>results/{wanted}/explorer/index.html</bdi>.</Notice>}
    </div>
  );
}

function TwoRuns({ sides }: { sides: Side[] }) {
  const state = useAddress();
  const find = (key: string, or: Side | undefined) => sides.find((side) => keyOf(side) === key) ?? or;
  // Without a choice: runs that can be shown, the same conversation of the other experiment first.
  const shown = sides.filter(({ row }) => row.status === "ok" && !row.sensitive), offered = [...shown, ...sides];
  const a = find(state.get("a"), offered[0]);
  const b = find(state.get("b"), shown.find((side) => a && side.other !== a.other && runKey(side.row) === runKey(a.row)) ?? offered.find((side) => side !== a));
  const secret = [a, b].find((side) => side?.row.sensitive && state.get("sensitive") !== "shown");
  const first = useFrom<Run>(a?.other ?? null, a && !secret ? `drift/${runKey(a.row)}` : null);
  const second = useFrom<Run>(b?.other ?? null, b && !secret ? `drift/${runKey(b.row)}` : null);
  if (!a || !b) return <Notice>There are fewer than two runs on this page.</Notice>;
  const lost = [["first", state.get("a")], ["second", state.get("b")]].filter(([, key]) => key && !sides.some((side) => keyOf(side) === key));
  const options = sides.map((side) => [keyOf(side), side.name] as [string, string]);
  const failed = [first, second].findIndex((run) => run.data?.error), errors = [first.error, second.error].filter(Boolean);
  return (
    <>
      <div class="bar">
        <Choose label="first" value={keyOf(a)} options={options} onChange={(value) => update({ a: value, b: keyOf(b), ta: null })} />
        <Choose label="second" value={keyOf(b)} options={options} onChange={(value) => update({ a: keyOf(a), b: value, tb: null })} />
        <span class="tabs"><button type="button" onClick={() => update({ a: keyOf(b), b: keyOf(a), ta: state.get("tb"), tb: state.get("ta") })}>swap</button></span>
      </div>
      {lost.map(([which, key]) => <Notice key={which} strong>The {which} run of this link, <bdi>{key}</bdi>, is not here; another is shown.</Notice>)}
      {secret ? <Notice strong><bdi>{words(secret.row.conversation)}</bdi> is marked as sensitive. <button type="button" class="text" onClick={() => update({ sensitive: "shown" })}>show it</button></Notice>
        : errors.length ? errors.map((error) => <Waiting key={error} what="the run" error={error} />)
        : !first.data || !second.data ? <Waiting what="the runs" />
        : failed >= 0 ? <Notice strong><bdi>{[a, b][failed]!.name}</bdi> could not be analyzed: <bdi>{[first, second][failed]!.data!.error}</bdi></Notice>
        : <Both sides={[a, b]} runs={[first.data, second.data]} />}
    </>
  );
}

export interface Pair { sides: [Side, Side]; runs: [Run, Run] }

function Both({ sides, runs }: Pair) {
  const doubts = [...new Set(sides.filter(({ row }) => row.axis_doubt).map(({ row, other }) => `the axis of ${row.analysis}${other ? ` in ${other.index.experiment}` : ""} (${row.axis_doubt})`))];
  return (
    <>
      <div class="columns">{sides.map((side, i) => (
        <p key={i} class={i ? "second" : "first"}><b>{i ? "▲" : "●"} <bdi>{side.name}</bdi></b><br /><span class="soft">{alarmText(side.row)}; lowest z {num(side.row.fall, 2)}; confounds {confoundText(side.row)}; causal test {side.row.causal ?? "not made"}.</span>
          {!side.other && <> <a href={link("drift", { run: runKey(side.row) })}>read it</a></>}</p>
      ))}</div>
      {doubts.length > 0 && <Notice strong>Not to be interpreted: {doubts.join("; ")}.</Notice>}
      <BothTrajectories sides={sides} runs={runs} />
      <BothFeatures sides={sides} runs={runs} />
      <BothRoles sides={sides} runs={runs} />
    </>
  );
}
