// Contexts as they are packed: columns, all texts as one, and marks on the tokens on which the feature is active.
import type { Context, Contexts, Piece } from "./types";

/** Call with each context's number, where its text begins and ends, and where its marks begin. */
function each(part: Contexts, told: (i: number, from: number, to: number, mark: number) => void): void {
  for (let i = 0, at = 0, mark = 0; i < part.feature.length; at += part.size[i]!, mark += part.active[i]!, i++) told(i, at, at + part.size[i]!, mark);
}

/** The contexts of one feature, those of the largest quantile first. */
export function contextsOf(part: Contexts, feature: number): Context[] {
  const rows: Context[] = [];
  each(part, (i, from, to, mark) => {
    if (part.feature[i] !== feature) return;
    const pieces: Piece[] = [];
    let at = from;
    const plain = (end: number) => { if (end > at) pieces.push({ text: part.text.slice(at, end), value: 0, peak: false }); at = end; };
    for (let j = 0; j < part.active[i]!; j++) {
      plain(at + part.skip[mark + j]!);
      pieces.push({ text: part.text.slice(at, (at += part.length[mark + j]!)), value: part.activation[mark + j]!, peak: j === part.peak[i] });
    }
    plain(to);
    const [source, name, question] = [part.sources[part.source[i]!]!, part.names[part.name[i]!]!, part.questions[part.question[i]!]!];
    rows.push({ quantile: part.quantile[i]!, rank: part.rank[i]!, value: part.value[i]!, source, name, question, pieces });
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
