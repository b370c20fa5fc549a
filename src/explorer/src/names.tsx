// How a feature is named wherever it appears: its number, and what is known of it.
import { usePart } from "./data";
import type { Features, Profiles } from "./types";

const places = new WeakMap<Features, Map<number, number>>();

/** Where a feature stands in the columns of the map's features; undefined for one that is dead. */
export function placeOf(features: Features, id: number): number | undefined {
  let known = places.get(features);
  if (!known) places.set(features, (known = new Map(Array.from(features.id, (feature, i) => [feature, i]))));
  return known.get(id);
}

/** Its description, else its label, else "". */
export function labelOf(features: Features | undefined, id: number): string {
  const place = features && placeOf(features, id);
  if (!features || place === undefined) return "";
  return features.description?.[place] || features.label?.[place] || "";
}

export const useFeatures = () => usePart<Features>("features");

export const FeatureName = ({ id, features }: { id: number; features: Features | undefined }) => {
  const label = labelOf(features, id);
  return <span class="nowrapid"><b>{id}</b>{label && <bdi class="soft"> {label}</bdi>}</span>;
};

/** A role's mean activation of a feature, and its standard error (NaN where there is none). */
export function profileOf(profiles: Profiles, place: number): { role: string; mean: number; error: number }[] {
  const n = profiles.mean.length / profiles.names.length;
  const unit = profiles.scale ? profiles.scale[place]! / 255 : 1;
  return profiles.names.map((role, r) => ({
    role,
    mean: profiles.mean[r * n + place]! * unit,
    error: profiles.error ? profiles.error[r * n + place]! * unit : NaN,
  }));
}
