// Contexts as they are packed: columns, and all tokens as one text.
import type { Context, Contexts } from "./types";

/** Call with each context's number, where its text begins and ends, and where its tokens and activations begin. */
function each(part: Contexts, told: (i: number, from: number, to: number, token: number, active: number) => void): void {
  for (let i = 0, at = 0, token = 0, active = 0; i < part.feature.length; i++) {
    let end = at;
    for (let j = 0; j < part.size[i]!; j++) end += part.lengths[token + j]!;
    told(i, at, end, token, active);
    at = end; token += part.size[i]!; active += part.active[i]!;
  }
}

/** The contexts of one feature, those of the largest quantile first. */
export function contextsOf(part: Contexts, feature: number): Context[] {
  const rows: Context[] = [];
  each(part, (i, from, _to, token, active) => {
    if (part.feature[i] !== feature) return;
    const tokens: string[] = [], values = new Array<number>(part.size[i]!).fill(0);
    for (let j = 0, at = from; j < part.size[i]!; j++) tokens.push(part.text.slice(at, (at += part.lengths[token + j]!)));
    for (let j = 0; j < part.active[i]!; j++) values[part.where[active + j]!] = part.activation[active + j]!;
    const [source, name, question] = [part.sources[part.source[i]!]!, part.names[part.name[i]!]!, part.questions[part.question[i]!]!];
    rows.push({ quantile: part.quantile[i]!, rank: part.rank[i]!, value: part.value[i]!, at: part.at[i]!, source, name, question, tokens, values });
  });
  return rows.sort((a, b) => b.quantile - a.quantile || a.rank - b.rank);
}

/** {feature: all its texts}. */
export function textsOf(part: Contexts): Map<number, string> {
  const texts = new Map<number, string>();
  each(part, (i, from, to) => {
    const feature = part.feature[i]!, before = texts.get(feature);
    texts.set(feature, (before === undefined ? "" : `${before}\n`) + part.text.slice(from, to));
  });
  return texts;
}
