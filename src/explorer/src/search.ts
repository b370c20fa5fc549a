// Search over features: id, label, description, promoted tokens, role, and contexts once they are read.
import { load, partNames } from "./data";
import type { Contexts, Features } from "./types";

export class Search {
  private texts: string[] | null = null;
  private contexts: Map<number, string> | null = null;
  private reading: Promise<void> | null = null;
  constructor(private readonly features: Features) {}

  private build(): string[] {
    const { id, label, description, promoted, roles, preferred_role } = this.features;
    const names = roles.map((role) => role.toLowerCase());
    return Array.from(id, (feature, i) => {
      const parts = [feature, label?.[i] ?? "", description?.[i] ?? "", ...(promoted?.[i] ?? [])].join("\n").toLowerCase();
      return `${parts}\nrole:${names[preferred_role[i]!] ?? ""}`;
    });
  }

  /** Read all contexts, so that they are searched too; `told` is called when they are there. */
  readContexts(told: () => void): void {
    this.reading ??= (async () => {
      const found = new Map<number, string>();
      for (const name of partNames("contexts/")) {
        const part = await load<Contexts>(name);
        for (const [feature, rows] of Object.entries(part.data?.features ?? {})) found.set(+feature, rows.map((row) => row.tokens.join("")).join("\n").toLowerCase());
      }
      this.contexts = found;
      told();
    })();
  }

  /** Which features have all the words, uint8 [n]; a number alone finds that feature first of all. */
  run(query: string): Uint8Array {
    const texts = (this.texts ??= this.build()), found = new Uint8Array(texts.length);
    const wanted = query.toLowerCase().trim();
    if (!wanted) return found.fill(1);
    if (/^#?\d+$/.test(wanted)) {
      const id = +wanted.replace("#", "");
      for (let i = 0; i < found.length; i++) found[i] = this.features.id[i] === id ? 1 : 0;
      if (found.includes(1)) return found;
    }
    const parts = wanted.split(/\s+/);
    for (let i = 0; i < found.length; i++) {
      const own = texts[i]!, more = this.contexts?.get(this.features.id[i]!) ?? "";
      found[i] = parts.every((part) => own.includes(part) || more.includes(part)) ? 1 : 0;
    }
    return found;
  }
}
