// Search over features: id, label, description, promoted tokens, role, and contexts once they are read.
import { textsOf } from "./contexts";
import { load, partNames } from "./data";
import type { Contexts, Features } from "./types";

/** Many texts as one, which the engine's own search runs through; starts[i]: where text i begins; letters: which of 64
 * classes of characters each text has, in two words. A query of one letter is in so many texts that it is asked of these. */
interface Joined { all: string; starts: Int32Array; owners: Int32Array; letters: Uint32Array }

/** The class of a character that has one of its own: a letter or digit. */
const classOf = (code: number): number => (code >= 97 && code <= 122 ? code - 97 : code >= 48 && code <= 57 ? code - 22 : -1);

function joined(texts: string[], owners: Int32Array): Joined {
  const starts = new Int32Array(texts.length + 1), letters = new Uint32Array(2 * texts.length);
  texts.forEach((text, i) => {
    starts[i + 1] = starts[i]! + text.length + 1;
    for (let j = 0; j < text.length; j++) { const own = classOf(text.charCodeAt(j)); if (own >= 0) letters[2 * i + (own >> 5)]! |= 1 << (own & 31); }
  });
  return { all: texts.join("\0") + "\0", starts, owners, letters };
}

/** Mark in `found` the owners of the texts that hold `part`. */
function mark({ all, starts, owners, letters }: Joined, part: string, found: Uint8Array): void {
  const own = part.length === 1 ? classOf(part.charCodeAt(0)) : -1;
  if (own >= 0) {
    const word = own >> 5, bit = 1 << (own & 31);
    for (let i = 0; i < owners.length; i++) if (letters[2 * i + word]! & bit) found[owners[i]!] = 1;
    return;
  }
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
  private readonly roles: string[];
  constructor(private readonly features: Features) { this.roles = features.roles.map((role) => role.toLowerCase()); }

  private build(): Joined {
    const { id, label, description, promoted, lens } = this.features, tokens = new Map<number, string[]>();
    promoted?.forEach((row, i) => tokens.set(lens ? lens[i]! : i, row));
    const texts = Array.from(id, (_, i) => [label?.[i], description?.[i], ...(tokens.get(i) ?? [])].filter(Boolean).join("\n").toLowerCase());
    return joined(texts, Int32Array.from(texts.keys()));
  }

  /** Put the texts together before the first search. */
  prepare(): void { this.texts ??= this.build(); }

  /** Read all contexts, so that they are searched too; `told` is called when they are there. */
  readContexts(told: () => void): void {
    this.prepare();
    this.reading ??= (async () => {
      const places = new Map(Array.from(this.features.id, (feature, i) => [feature, i])), texts: string[] = [], owners: number[] = [];
      for (const name of partNames("contexts/")) {
        const part = await load<Contexts>(name);
        for (const [feature, text] of part.data ? textsOf(part.data) : []) {
          if (!places.has(feature)) continue;
          texts.push(text.toLowerCase());
          owners.push(places.get(feature)!);
        }
      }
      if (texts.length) this.contexts = joined(texts, Int32Array.from(owners));
      told();
    })();
  }

  /** Mark the features whose preferred role's name holds `part`. */
  private byRole(part: string, found: Uint8Array): void {
    const { preferred_role } = this.features, wanted = Uint8Array.from(this.roles, (role) => Number(role.includes(part)));
    if (wanted.includes(1)) for (let i = 0; i < found.length; i++) if (wanted[preferred_role[i]!]) found[i] = 1;
  }

  /** Which features have all the words, uint8 [n]; a number alone finds that feature, role:NAME those of a role. */
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
      if (part.startsWith("role:")) this.byRole(part.slice(5), found);
      else {
        mark(this.texts, part, found);
        if (this.contexts) mark(this.contexts, part, found);
        if (part.length > 1) this.byRole(part, found);
      }
      for (let i = 0; i < n; i++) all[i]! &= found[i]!;
    }
    return all;
  }
}
