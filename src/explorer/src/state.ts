// What is shown is in the address, so that a link shows the same: #/view?key=value&...
import { useEffect, useState } from "preact/hooks";

export interface State { view: string; get: (key: string) => string; /** A whole number; null for anything else. */ num: (key: string) => number | null; all: Record<string, string> }

export function parse(hash: string): State {
  const [path = "", query = ""] = hash.replace(/^#\/?/, "").split("?");
  const all: Record<string, string> = {};
  for (const [key, value] of new URLSearchParams(query)) all[key] = value;
  const num = (key: string) => (all[key] && Number.isInteger(+all[key]!) ? +all[key]! : null);
  return { view: path || "overview", get: (key) => all[key] ?? "", num, all };
}

export function address(view: string, values: Record<string, string | number | null | undefined>): string {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(values)) if (value !== null && value !== undefined && value !== "") query.set(key, String(value));
  const text = query.toString();
  return `#/${view}${text ? `?${text}` : ""}`;
}

/** The state at this moment, for what happens between two drawings. */
export const now = (): State => current;

const listeners = new Set<() => void>();
let current = parse(location.hash);
const changed = () => { current = parse(location.hash); listeners.forEach((tell) => tell()); };
addEventListener("hashchange", changed);

/** Keys that hold in every view. */
const GLOBAL = ["theme"];

/** Go to another view, keeping what holds everywhere. */
export function go(view: string, values: Record<string, string | number | null | undefined> = {}): void {
  const kept = Object.fromEntries(GLOBAL.map((key) => [key, current.get(key)]));
  location.hash = address(view, { ...kept, ...values });
}
export const link = (view: string, values: Record<string, string | number | null | undefined> = {}): string =>
  address(view, { ...Object.fromEntries(GLOBAL.map((key) => [key, current.get(key)])), ...values });

/** Change some keys of the view's state; null takes one away. The address is replaced: the back button leaves the view. */
export function update(values: Record<string, string | number | null | undefined>): void {
  history.replaceState(null, "", address(current.view, { ...current.all, ...values }));
  changed();
}

export function useAddress(): State {
  const [, again] = useState(0);
  useEffect(() => {
    const tell = () => again((n) => n + 1);
    listeners.add(tell);
    return () => { listeners.delete(tell); };
  }, []);
  return current;
}
