// The keys of the Drift view: over turns, tokens and the features of a token.
import { useEffect } from "preact/hooks";
import { now, update } from "../state";
import type { Run } from "../types";
import { rangesOf } from "./conversation";
import { tokenFeatures } from "./drawer";

/** Whether a table that is wider than its place has the focus: arrows to the sides scroll it. */
const scrolls = (target: EventTarget | null): boolean => target instanceof HTMLElement && target.matches(".wide") && target.scrollWidth > target.clientWidth;

/** Whether a key is meant for what is typed into or chosen from, for what scrolls, or for the browser. */
export const isElsewhere = (event: KeyboardEvent): boolean =>
  event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]") !== null ||
  (/^Arrow(Left|Right)$/.test(event.key) && scrolls(event.target)) ||
  (event.target instanceof HTMLElement && /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName));

export function showTurn(turn: number): void {
  update({ turn });
  document.getElementById(`turn-${turn}`)?.scrollIntoView({ block: "start" });
}

export function showToken(token: number): void {
  update({ token });
  document.getElementById(`token-${token}`)?.scrollIntoView({ block: "nearest" });
}

/** The token of a turn with the largest part, of either sign. */
function largest(run: Run, turn: number): number | null {
  const [from, to] = rangesOf(run)[turn] ?? [0, 0];
  let best: number | null = null;
  for (let i = from; i < to; i++) if (best === null || Math.abs(run.tokens.w[i]!) > Math.abs(run.tokens.w[best]!)) best = i;
  return best;
}

export function useKeys(run: Run, start: number): void {
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (isElsewhere(event)) return;
      // Keys may come faster than the page is drawn: what they start from is the address.
      const state = now(), turn = state.num("turn") ?? start, token = state.num("token"), feature = state.num("feature");
      const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -1, ArrowDown: 1 }[event.key];
      if (event.key === "Escape" && feature !== null) update({ feature: null });
      else if (event.key === "Escape" && token !== null) update({ token: null });
      else if (event.key === "t") {
        const first = largest(run, turn);
        if (first !== null) showToken(first);
      } else if (step === undefined) return;
      else if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
        event.preventDefault();
        if (token !== null) showToken(Math.max(0, Math.min(run.tokens.text.length - 1, token + step)));
        else showTurn(Math.max(0, Math.min(run.turns.score!.length - 1, turn + step)));
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
