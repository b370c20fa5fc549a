// Search over features: id, label, description, promoted tokens, role, and contexts once they are read.
import { load, partNames } from "./data";
import type { Contexts, Features } from "./types";

/** Many texts as one, which the engine's own search runs through; starts[i]: where text i begins. */
interface Joined { all: string; starts: Int32Array; owners: Int32Array }

function joined(texts: string[], owners: Int32Array): Joined {
  const starts = new Int32Array(texts.length + 1);
  texts.forEach((text, i) => { starts[i + 1] = starts[i]! + text.length + 1; });
  return { all: texts.join("\0") + "\0", starts, owners };
}

/** Mark in `found` the owners of the texts that hold `part`. */
function mark({ all, starts, owners }: Joined, part: string, found: Uint8Array): void {
  let text = 0;
  for (let at = all.indexOf(part); at >= 0; at = all.indexOf(part, starts[text + 1])) {
    while (starts[text + 1]! <= at) text++;
    found[owners[text]!] = 1;
  }
}

export class Search {
  private texts: Joined | null = null;
  private contexts: Joined | null = null;
  private reading: Promise<void> | null = null;
  constructor(private readonly features: Features) {}

  private build(): Joined {
    const { id, label, description, promoted, roles, preferred_role } = this.features;
    const names = roles.map((role) => role.toLowerCase());
    const texts = Array.from(id, (feature, i) =>
      `${feature}\n${label?.[i] ?? ""}\n${description?.[i] ?? ""}\n${promoted?.[i]?.join("\n") ?? ""}\nrole:${names[preferred_role[i]!] ?? ""}`.toLowerCase());
    return joined(texts, Int32Array.from(texts.keys()));
  }

  /** Put the texts together before the first search. */
  prepare(): void { this.texts ??= this.build(); }

  /** Read all contexts, so that they are searched too; `told` is called when they are there. */
  readContexts(told: () => void): void {
    this.texts ??= this.build();
    this.reading ??= (async () => {
      const places = new Map(Array.from(this.features.id, (feature, i) => [feature, i])), texts: string[] = [], owners: number[] = [];
      for (const name of partNames("contexts/")) {
        const part = await load<Contexts>(name);
        for (const [feature, rows] of Object.entries(part.data?.features ?? {})) {
          if (!places.has(+feature)) continue;
          texts.push(rows.map((row) => row.tokens.join("")).join("\n").toLowerCase());
          owners.push(places.get(+feature)!);
        }
      }
      if (texts.length) this.contexts = joined(texts, Int32Array.from(owners));
      told();
    })();
  }

  /** Which features have all the words, uint8 [n]; a number alone finds that feature. */
  run(query: string): Uint8Array {
    const n = this.features.id.length, wanted = query.toLowerCase().trim().replaceAll("\0", "");
    if (!wanted) return new Uint8Array(n).fill(1);
    if (/^#?\d+$/.test(wanted)) {
      const place = this.features.id.indexOf(+wanted.replace("#", "")), found = new Uint8Array(n);
      if (place >= 0) { found[place] = 1; return found; }
    }
    this.texts ??= this.build();
    const all = new Uint8Array(n).fill(1);
    for (const part of wanted.split(/\s+/)) {
      const found = new Uint8Array(n);
      mark(this.texts, part, found);
      if (this.contexts) mark(this.contexts, part, found);
      for (let i = 0; i < n; i++) all[i]! &= found[i]!;
    }
    return all;
  }
}
