// The ranked conversations of an analysis, alarms first; one whose data are not on the page is there with the reason.
import { hasPart } from "../data";
import { words } from "../format";
import { link, useAddress } from "../state";
import type { Core, Index, RunRow } from "../types";
import { Choose } from "../ui";
import { alarmText } from "./overview";

export const runKey = (run: RunRow): string => `${run.analysis}/${run.conversation}`;

/** Why a run cannot be shown; "" where it can. */
export function missing(run: RunRow, index: Index): string {
  if (hasPart(`drift/${runKey(run)}`)) return "";
  return index.absent.find(({ what }) => what === `drift/${runKey(run)}`)?.why ?? "its data are not among this page's";
}

export function Runs({ core, index, chosen }: { core: Core; index: Index; chosen: RunRow | undefined }) {
  const state = useAddress();
  const analyses = [...new Set(core.runs.map((run) => run.analysis))], analysis = chosen?.analysis ?? analyses[0]!;
  const here = core.runs.filter((run) => run.analysis === analysis);
  const other = (name: string) => {
    const next = core.runs.find((run) => run.analysis === name && run.conversation === chosen?.conversation) ?? core.runs.find((run) => run.analysis === name);
    if (next) location.hash = link("drift", { run: runKey(next), turn: state.get("turn"), sensitive: state.get("sensitive") });
  };
  const picker = analyses.length > 1 && <Choose label="analysis" value={analysis} options={analyses.map((name) => [name, name])} onChange={other} />;
  const where = (run: RunRow) => link("drift", { run: runKey(run), table: state.get("table") });
  return (
    <>
      <nav class="runs" aria-label="Conversations, alarms first">
        {picker}
        <ol>
          {here.map((run) => (
            <li key={runKey(run)}>
              <a href={where(run)} aria-current={run === chosen ? "true" : undefined}>
                <bdi>{words(run.conversation)}</bdi>{run.sensitive && <span class="soft small"> (sensitive)</span>}<br />
                {missing(run, index) ? <span class="soft small">✕ not on this page</span>
                  : <span class={run.alarm_turn === null ? "soft small" : "alarm small"}>{run.alarm_turn === null ? "" : "▲ "}{alarmText(run)}</span>}
              </a>
            </li>
          ))}
        </ol>
      </nav>
      <div class="pick bar">
        {picker}
        <Choose label="run" value={chosen ? runKey(chosen) : ""} options={here.map((run) => [runKey(run), `${missing(run, index) ? "✕ " : run.alarm_turn === null ? "" : "▲ "}${words(run.conversation)}`])}
          onChange={(value) => { location.hash = link("drift", { run: value }); }} />
      </div>
    </>
  );
}
