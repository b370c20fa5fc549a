// How a feature is named wherever it appears: its number, and what is known of it.
import { usePart } from "./data";
import type { Centered, Features, Mapped, Points, Profiles } from "./types";

const places = new WeakMap<Features, Map<number, number>>();

/** Where a feature stands in the columns of the map's features; undefined for one that is dead. */
export function placeOf(features: Features, id: number): number | undefined {
  let known = places.get(features);
  if (!known) places.set(features, (known = new Map(Array.from(features.id, (feature, i) => [feature, i]))));
  return known.get(id);
}

const others = new WeakMap<Features, Map<number, string>>();
/** Names of features that no role has: conversations may have them. */
function elsewhere(features: Features): Map<number, string> {
  let known = others.get(features);
  if (!known) others.set(features, (known = new Map(Array.from(features.elsewhere?.id ?? [], (id, i) => [id, features.elsewhere!.label[i]!]))));
  return known;
}

/** Its description, else its label, else "". */
export function labelOf(features: Features | undefined, id: number): string {
  const place = features && placeOf(features, id);
  if (!features) return "";
  if (place === undefined) return elsewhere(features).get(id) ?? "";
  return features.description?.[place] || features.label?.[place] || "";
}

/** The features; the score, where it was left out, is stability * sd. */
export const useFeatures = () => {
  const part = usePart<Features>("features");
  if (part.data) scored(part.data);
  return part;
};
function scored<T extends Mapped>(data: T): T {
  if (!data.score && data.stability) data.score = data.stability.map((value, i) => value * data.sd[i]!);
  return data;
}

const merged = new WeakMap<Centered, Features>();

/** The features as the centered map has them: its places, scores and neighbors, and no place for those that it lacks. */
export function onCentered(features: Features, part: Centered): Features {
  let known = merged.get(part);
  if (!known) {
    const lacking = (points: Points | undefined): Points | undefined => {
      if (!points || !part.missing.length) return points;
      const out = Float32Array.from(points);
      for (const place of part.missing) out[2 * place] = out[2 * place + 1] = NaN;
      return out;
    };
    const maps = Object.fromEntries(Object.entries(part.maps).map(([name, points]) => [name, lacking(points)]));
    merged.set(part, (known = { ...features, ...scored(part), mu: undefined, maps, centered: true }));
  }
  return known;
}

/** The tokens that a feature promotes or suppresses. */
export function lensOf(features: Features, name: "promoted" | "suppressed", place: number): string[] | undefined {
  const row = features.lens ? features.lens.indexOf(place) : place;
  return features[name]?.[row];
}

export const FeatureName = ({ id, features }: { id: number; features: Features | undefined }) => {
  const label = labelOf(features, id);
  return <span class="nowrapid"><b>{id}</b>{label && <bdi class="soft"> {label}</bdi>}</span>;
};

const columns = new WeakMap<Profiles, Map<number, number>>();

/** Which column of the profiles a place of the map has; undefined where its profile is not on the page. */
export function columnOf(profiles: Profiles, place: number): number | undefined {
  if (!profiles.places) return place;
  let known = columns.get(profiles);
  if (!known) columns.set(profiles, (known = new Map(Array.from(profiles.places, (at, i) => [at, i]))));
  return known.get(place);
}

/** Each role's mean activation of a feature, and its standard error (NaN where there is none). */
export function profileOf(profiles: Profiles, place: number): { role: string; mean: number; error: number }[] {
  const n = profiles.mean.length / profiles.names.length, column = columnOf(profiles, place);
  if (column === undefined) return [];
  return profiles.names.map((role, r) => ({ role, mean: profiles.mean[r * n + column]!, error: profiles.error ? profiles.error[r * n + column]! : NaN }));
}

/** sign(x) log1p|x|: some SAEs have activations below 0. */
export const signedLog = (x: number): number => Math.sign(x) * Math.log1p(Math.abs(x));

/** The places whose role profiles (log1p) are most like one, by cosine. */
export function alike(profiles: Profiles, place: number, most: number): { to: number; cosine: number }[] {
  const R = profiles.names.length, n = profiles.mean.length / R, me = columnOf(profiles, place);
  if (me === undefined) return [];
  const dot = new Float64Array(n), square = new Float64Array(n);
  for (let r = 0; r < R; r++) {
    const mine = signedLog(profiles.mean[r * n + me]!);
    for (let i = 0; i < n; i++) { const x = signedLog(profiles.mean[r * n + i]!); dot[i]! += mine * x; square[i]! += x * x; }
  }
  const own = Math.sqrt(square[me]!);
  return Array.from(dot, (d, i) => ({ to: profiles.places ? profiles.places[i]! : i, cosine: d / (own * Math.sqrt(square[i]!) || 1) }))
    .filter((row) => row.to !== place).sort((a, b) => b.cosine - a.cosine).slice(0, most);
}
