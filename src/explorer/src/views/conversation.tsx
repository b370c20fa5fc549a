// The whole conversation: the user's messages as they are, the assistant's as tokens under heat.
import { memo } from "../memo";
import { useEffect, useMemo, useRef } from "preact/hooks";
import { heat } from "../colors";
import { num, signed } from "../format";
import { useScheme } from "../plot";
import type { Run } from "../types";

interface Props {
  run: Run; values: ArrayLike<number>; limit: number; turn: number; token: number | null;
  onToken: (index: number) => void; onTurn: (turn: number) => void; onSeen: (from: number, to: number) => void;
}

export function Conversation({ run, values, limit, turn, token, onToken, onTurn, onSeen }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const scheme = useScheme();
  const owners = useMemo(() => new Map(run.turns.message_index!.map((message, index) => [message as number, index])), [run]);
  const ranges = useMemo(() => rangesOf(run), [run]);
  useEffect(() => {
    let asked = 0;
    const look = () => {
      asked = 0;
      const top = document.querySelector(".track")?.getBoundingClientRect().bottom ?? 0;
      const seen: number[] = [];
      for (const element of box.current?.querySelectorAll<HTMLElement>("[data-turn]") ?? []) {
        const at = element.getBoundingClientRect();
        if (at.bottom > top + 8 && at.top < innerHeight - 24) seen.push(+element.dataset.turn!);
      }
      if (seen.length) onSeen(seen[0]!, seen.at(-1)!);
    };
    const later = () => { asked ||= requestAnimationFrame(look); };
    later();
    addEventListener("scroll", later, { passive: true });
    addEventListener("resize", later);
    return () => { removeEventListener("scroll", later); removeEventListener("resize", later); cancelAnimationFrame(asked); };
  }, [run]);
  useEffect(() => {
    box.current?.querySelectorAll(".tok.on").forEach((element) => element.classList.remove("on"));
    if (token !== null) document.getElementById(`token-${token}`)?.classList.add("on");
  }, [token, run, values]);
  const onClick = (event: MouseEvent) => {
    const element = (event.target as HTMLElement).closest<HTMLElement>("[data-token]");
    if (element) onToken(+element.dataset.token!);
  };
  return (
    <div ref={box} class="conversation" onClick={onClick}>
      {run.messages.map((message, index) => {
        const own = owners.get(index);
        return (
          <article key={index} class={`message ${message.role}${own === turn ? " here" : ""}`} data-turn={own} id={own === undefined ? undefined : `turn-${own}`}
            aria-label={own === undefined ? message.role : `${message.role}, turn ${own}`}>
            <div class="who">
              <span>{message.role}</span>
              {own !== undefined && <TurnHead run={run} turn={own} onTurn={onTurn} chosen={own === turn} />}
            </div>
            <div class="said" dir="auto">
              {own !== undefined && ranges[own]![1] > ranges[own]![0]
                ? <Spans run={run} from={ranges[own]![0]} to={ranges[own]![1]} values={values} limit={limit} scheme={scheme} />
                : message.content || <span class="soft">(empty)</span>}
            </div>
          </article>
        );
      })}
    </div>
  );
}

function TurnHead({ run, turn, onTurn, chosen }: { run: Run; turn: number; onTurn: (turn: number) => void; chosen: boolean }) {
  const { turns } = run, near = nearest(run, turn)[0];
  return (
    <>
      <button type="button" class="text" aria-pressed={chosen} onClick={() => onTurn(turn)}>turn {turn}</button>
      <span>{num(turns.score![turn])} [{num(turns.score_low?.[turn])}, {num(turns.score_high?.[turn])}]</span>
      {near && <span>nearest role <bdi>{near.role}</bdi> {num(near.cosine, 2)}</span>}
      {turns.alarm?.[turn] && <span class="alarm">▲ alarm</span>}
    </>
  );
}

/** The roles of a turn, the largest cosine first. */
export function nearest(run: Run, turn: number): { role: string; cosine: number }[] {
  const { names, cosines } = run.roles;
  return names.map((role, r) => ({ role, cosine: cosines[turn * names.length + r]! })).filter((one) => !isNaN(one.cosine)).sort((a, b) => b.cosine - a.cosine);
}

/** The tokens of each turn: [first, one behind the last]. */
export function rangesOf(run: Run): [number, number][] {
  const ranges: [number, number][] = run.turns.score!.map(() => [0, 0]);
  run.tokens.turn.forEach((turn, i) => {
    const range = ranges[turn]!;
    if (range[1] === 0) range[0] = i;
    range[1] = i + 1;
  });
  return ranges;
}

interface SpansProps { run: Run; from: number; to: number; values: ArrayLike<number>; limit: number; scheme: number }
const Spans = memo(({ run, from, to, values, limit }: SpansProps) => {
  const spans = [];
  for (let i = from; i < to; i++) {
    const value = values[i]!;
    spans.push(
      <span key={i} id={`token-${i}`} data-token={i} class={value < 0 && -value > limit * 0.04 ? "tok away" : "tok"}
        style={{ backgroundColor: heat(value, limit) }} title={`${signed(value)}`}>{run.tokens.text[i]}</span>,
    );
  }
  return <>{spans}</>;
});
