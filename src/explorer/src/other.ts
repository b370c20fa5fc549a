// Another experiment's page, chosen from disk and read beside this one. Nothing of it runs: its data are read as text.
import { useEffect, useState } from "preact/hooks";
import { type Loaded, VERSION, partOf, usePart } from "./data";
import type { Core, Index } from "./types";

export interface Other { file: string; index: Index; core: Core; texts: Map<string, string>; parts: Map<string, Loaded<any>>; waiting: Map<string, Promise<void>> }

let chosen: Other | null = null;
const listeners = new Set<() => void>();
export function choose(other: Other | null): void {
  chosen = other;
  listeners.forEach((tell) => tell());
}

export function useOther(): Other | null {
  const [, again] = useState(0);
  useEffect(() => {
    const tell = () => again((n) => n + 1);
    listeners.add(tell);
    return () => { listeners.delete(tell); };
  }, []);
  return chosen;
}

const message = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** What a file beside a page hands over: [name of the part, its text]. */
function handedOver(text: string, file: string): [string, string] {
  const found = /^personascope_part\(([\s\S]*)\);?\s*$/.exec(text);
  try {
    const [name, content] = JSON.parse(`[${found![1]}]`);
    if (typeof name === "string" && typeof content === "string") return [name, content];
  } catch { /* said below */ }
  throw new Error(`${file} is no data file of an explorer page, or it is cut off`);
}

/** From the files that were chosen: an index.html, with the data-*.js that lie beside it where there are some. */
export async function readOther(files: File[]): Promise<Other> {
  const pages = files.filter((file) => /\.html?$/i.test(file.name));
  if (pages.length !== 1) throw new Error(pages.length ? "choose one page at a time" : "none of the chosen files is a page (index.html)");
  const page = pages[0]!, parsed = new DOMParser().parseFromString(await page.text(), "text/html"), head = parsed.getElementById("index");
  if (!head) throw new Error(`${page.name} is no page of this explorer, or it is cut off`);
  let index: Index;
  try { index = JSON.parse(head.textContent ?? ""); } catch { throw new Error(`${page.name}: the list of its data is damaged or cut off`); }
  if (index.version !== VERSION) throw new Error(`${page.name} has data of bundle version ${index.version}, this page reads version ${VERSION}: make it again with this version of the package`);
  const texts = new Map<string, string>();
  for (const entry of index.parts) {
    const element = entry.id ? parsed.getElementById(entry.id) : null;
    if (element) texts.set(entry.name, element.textContent ?? "");
  }
  for (const file of files) if (/\.js$/i.test(file.name)) texts.set(...handedOver(await file.text(), file.name));
  const other: Other = { file: page.name, index, core: undefined as unknown as Core, texts, parts: new Map(), waiting: new Map() };
  const core = await load<Core>(other, "core");
  if (!core.data) throw new Error(`${page.name}: ${core.error}`);
  return { ...other, core: core.data };
}

async function load<T>(other: Other, name: string): Promise<Loaded<T>> {
  const { parts, waiting, texts, index, file } = other;
  if (!waiting.has(name)) waiting.set(name, (async () => {
    try {
      const entry = index.parts.find((one) => one.name === name), text = texts.get(name);
      if (!entry) throw new Error(`${file} has none`);
      if (text === undefined) throw new Error(entry.file ? `${entry.file} was not chosen with ${file}: choose both together` : `it is not in ${file}, which was cut off`);
      parts.set(name, { data: await partOf(entry, text) });
    } catch (error) {
      parts.set(name, { error: `${name} of ${file}: ${message(error)}` });
    }
  })());
  await waiting.get(name);
  return parts.get(name)!;
}

export const otherHas = (other: Other, name: string): boolean => other.index.parts.some((entry) => entry.name === name);

/** A part of this page (other: null) or of the other one. */
export function useFrom<T>(other: Other | null, name: string | null): Loaded<T> {
  const mine = usePart<T>(other ? null : name);
  const [, again] = useState(0);
  useEffect(() => {
    let here = true;
    if (other && name && !other.parts.has(name)) void load(other, name).then(() => here && again((n) => n + 1));
    return () => { here = false; };
  }, [other, name]);
  return other ? (name && other.parts.get(name)) || {} : mine;
}

/** Why features of two experiments are not the same; "" where they are: the same SAE on the same model. */
export function unlike(first: Record<string, unknown>, second: Record<string, unknown>): string {
  const same: [string, string][] = [["weights", "the model's weights"], ["sae_weights", "the SAE's weights"], ["hook_name", "the place of the SAE"], ["d_sae", "the number of features"]];
  const differ = same.filter(([key]) => String(first[key] ?? "") !== String(second[key] ?? "")).map(([, text]) => text);
  return differ.length ? `${differ.join(", ")} ${differ.length > 1 || differ[0] === "the model's weights" || differ[0] === "the SAE's weights" ? "differ" : "differs"}` : "";
}
