import { render } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { readIndex, useIndexEntries, usePart } from "./data";
import { link, update, useAddress } from "./state";
import "./style.css";
import type { Core, Index } from "./types";
import { Notice, Waiting } from "./ui";
import { Compare } from "./views/compare";
import { Directions } from "./views/directions";
import { Drift } from "./views/drift";
import { Features, searchNext } from "./views/features";
import { Overview } from "./views/overview";
import { Provenance } from "./views/provenance";
import { Roles } from "./views/roles";

export interface ViewProps { core: Core; index: Index }
const VIEWS: Record<string, [string, (props: ViewProps) => any]> = {
  overview: ["Overview", Overview],
  features: ["Features", Features],
  roles: ["Roles", Roles],
  drift: ["Drift", Drift],
  directions: ["Traits and monitor", Directions],
  compare: ["Compare", Compare],
};

const HELP: [string, string][] = [
  ["/", "search for features by id, label, text or role"],
  ["1 … 6", "the views in their order"],
  ["← →", "Drift and monitor: the turn before or after; with a token chosen, the token before or after"],
  ["t", "Drift and monitor: into the tokens of the turn"],
  ["↑ ↓", "Drift: the feature before or after among those of the chosen token"],
  ["j k", "Features: the next or previous feature, by score; Roles: the next or previous role, by clustering"],
  ["← → ↑ ↓ + −", "on the map of features: move and zoom, 0 the whole map, Enter the feature in the middle; on the heat map of roles: its cells, Enter the role"],
  ["Enter ↑ ↓", "in the search: the first, the next, the previous feature that is found"],
  ["Esc", "let go of the chosen feature or role, then of the token; close this"],
  ["d", "light or dark"],
  ["p", "what the results were made with"],
  ["?", "this help"],
];

function scheme(chosen: string): void {
  const dark = chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const next = dark ? "dark" : "light";
  if (document.documentElement.dataset.theme === next) return;
  document.documentElement.dataset.theme = next;
  dispatchEvent(new Event("scheme"));
}

function App({ index }: { index: Index }) {
  const state = useAddress();
  const core = usePart<Core>("core");
  const [open, setOpen] = useState<"" | "help" | "provenance">("");
  const dialog = useRef<HTMLDialogElement>(null);
  scheme(state.get("theme"));
  useEffect(() => { if (open) dialog.current?.showModal(); else dialog.current?.close(); }, [open]);
  useEffect(() => {
    const turn = () => update({ theme: document.documentElement.dataset.theme === "dark" ? "light" : "dark" });
    const onKey = (event: KeyboardEvent) => {
      const typing = event.target instanceof HTMLElement && /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
      if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === "?") setOpen("help");
      else if (event.key === "p") setOpen("provenance");
      else if (event.key === "d") turn();
      else if (event.key === "/") {
        event.preventDefault();
        const box = document.querySelector<HTMLInputElement>("#search");
        if (box) box.focus();
        else { searchNext(); location.hash = link("features"); }
      } else if (/^[1-6]$/.test(event.key)) location.hash = link(Object.keys(VIEWS)[+event.key - 1]!);
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, [state.view]);
  const [label, View] = Object.hasOwn(VIEWS, state.view) ? VIEWS[state.view]! : VIEWS.overview!;
  useEffect(() => {
    document.title = `${label} – ${index.title}`;
    // Where the views are more than fit, the one that is shown is among those that are seen.
    const chosen = document.querySelector<HTMLElement>("nav.views a[aria-current]"), bar = chosen?.parentElement;
    if (bar) bar.scrollTo({ left: chosen.offsetLeft - bar.offsetLeft - (bar.clientWidth - chosen.offsetWidth) / 2, behavior: "instant" });
  }, [label]);
  return (
    <>
      <a class="skip" href="#main" onClick={(e) => { e.preventDefault(); document.getElementById("main")?.focus(); }}>to the content</a>
      <header class="top">
        <span class="name" dir="auto" title={index.title}>{index.title}</span>
        <nav class="views" aria-label="Views">
          {Object.entries(VIEWS).map(([key, [text]]) => (
            <a key={key} href={link(key)} aria-current={text === label ? "page" : undefined}>{text}</a>
          ))}
        </nav>
        <span class="end">
          <button type="button" onClick={() => setOpen("provenance")}>made with</button>
          <button type="button" onClick={() => setOpen("help")} aria-label="Keyboard help">?</button>
        </span>
      </header>
      <main id="main" tabIndex={-1} class={state.view === "drift" || state.view === "features" ? "" : "reading"}>
        {core.data ? <View core={core.data} index={index} /> : <Waiting what="the overview" error={core.error} />}
      </main>
      <dialog ref={dialog} onClose={() => setOpen("")} aria-label={open === "help" ? "Keyboard help" : "Provenance"}>
        {open === "help" && (
          <>
            <h2>Keys</h2>
            <dl class="facts">{HELP.map(([key, text]) => <><dt><kbd>{key}</kbd></dt><dd>{text}</dd></>)}</dl>
          </>
        )}
        {open === "provenance" && core.data && <Provenance core={core.data} index={index} />}
        <p class="tools"><button type="button" onClick={() => setOpen("")}>close</button></p>
      </dialog>
    </>
  );
}

const root = document.getElementById("app") ?? document.body.appendChild(document.createElement("div"));
try {
  const index = readIndex();
  useIndexEntries(index);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => dispatchEvent(new Event("hashchange")));
  root.textContent = "";
  render(<App index={index} />, root);
} catch (error) {
  root.textContent = "";
  render(<main><Notice strong>This page cannot be shown: {error instanceof Error ? error.message : String(error)}</Notice></main>, root);
}
