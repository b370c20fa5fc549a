// What is measured of each feature, the ranges that are kept of it, and its colors on the map.
import { diverging, group, ramp, rgb } from "../colors";
import { num, percent, signed } from "../format";
import type { Features } from "../types";

export interface Measure { key: string; name: string; note: string; signed?: boolean; skewed?: boolean; show: (value: unknown) => string }
const MEASURES: Measure[] = [
  { key: "score", name: "score", note: "stability × sd: how much roles differ on it, and how surely", show: (v) => num(v) },
  { key: "stability", name: "stability", note: "cosine of its role profiles from two halves of the responses", show: (v) => num(v) },
  { key: "density", name: "density", note: "share of the tokens on which it is active", skewed: true, show: percent },
  { key: "axis_weight", name: "axis weight", note: "its part of the axis: more of it moves a score toward the assistant (above 0) or away", signed: true, show: (v) => signed(v) },
  { key: "max", name: "max", note: "largest activation seen", skewed: true, show: (v) => num(v) },
  { key: "mean_active", name: "mean when active", note: "mean activation over the tokens on which it is active", skewed: true, show: (v) => num(v) },
  { key: "sd", name: "sd over roles", note: "standard deviation over roles of log1p of the mean activation", show: (v) => num(v) },
  { key: "mu", name: "mean over roles", note: "mean over roles of log1p of the mean activation", skewed: true, show: (v) => num(v) },
];
const CENTERED_SD = "standard deviation over roles of the mean activation, less its mean over roles";

export const column = (data: Features, key: string): Float32Array | undefined => data[key as "score"];
/** What the page has of the features; of many features (`lens`) it has two digits. */
export const measuresOf = (data: Features): Measure[] =>
  MEASURES.filter(({ key }) => column(data, key)).map((one) => ({ ...one, show: data.lens && one.show !== percent ? (v) => (one.signed ? signed(v, 2) : num(v, 2)) : one.show, note: one.key === "sd" && data.centered ? CENTERED_SD : one.note }));

/** Ranges in the address: KEY:LOW:HIGH, the bounds empty where there are none, one after the other by commas. */
export interface Range { key: string; low: number | null; high: number | null }
const bound = (text: string | undefined): number | null => (text !== undefined && text !== "" && isFinite(+text) ? +text : null);
export const readRanges = (text: string): Range[] =>
  text.split(",").map((part) => part.split(":")).filter(([key]) => key).map(([key, low, high]) => ({ key: key!, low: bound(low), high: bound(high) })).filter(({ low, high }) => low !== null || high !== null);
/** The ranges with one of them in its place, or without it where it has no bounds. */
export const withRange = (ranges: Range[], one: Range): string =>
  [...ranges.filter(({ key }) => key !== one.key), one].filter(({ low, high }) => low !== null || high !== null).map(({ key, low, high }) => `${key}:${low ?? ""}:${high ?? ""}`).join(",");

/** Take from `mask` the features outside the ranges. */
export function within(data: Features, ranges: Range[], mask: Uint8Array): void {
  for (const { key, low, high } of ranges) {
    const values = column(data, key);
    if (!values) continue;
    for (let i = 0; i < mask.length; i++) if ((low !== null && !(values[i]! >= low)) || (high !== null && !(values[i]! <= high))) mask[i] = 0;
  }
}

/** Places of the features, the highest values first. */
export function ranked(values: ArrayLike<number>): Int32Array {
  const keys = Float32Array.from(values, (value) => (isNaN(value) ? Infinity : -value));
  return Int32Array.from(keys.keys()).sort((a, b) => keys[a]! - keys[b]! || a - b);
}

/** Which color index each role has: the eleven roles with the most features have their own, all others share one. */
export function roleColors(data: Features): number[] {
  const counts = data.roles.map(() => 0);
  data.preferred_role.forEach((role) => { if (role >= 0) counts[role]!++; });
  const order = counts.map((_, role) => role).sort((a, b) => counts[b]! - counts[a]!), colors: number[] = [];
  order.forEach((role, place) => { colors[role] = Math.min(place, 11); });
  return colors;
}

const pack = ([r, g, b]: [number, number, number]): number => ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
const parts = (color: string): [number, number, number] => color.match(/\d+/g)!.map(Number) as [number, number, number];

/** The range over which a measure's color changes: its middle 96 %, of a signed one as far below 0 as above. */
export function extent(values: Float32Array, measure: Measure): [number, number] {
  const sorted = Float32Array.from(values).filter((value) => !isNaN(value)).sort(), at = (share: number) => sorted[Math.floor(share * (sorted.length - 1))] ?? 0;
  const most = Math.max(Math.abs(at(0.02)), Math.abs(at(0.98)));
  return measure.signed ? [-most, most] : [at(0.02), at(0.98)];
}

/** A color a feature, as the canvas has them. */
export function paint(data: Features, color: string): Uint32Array {
  const out = new Uint32Array(data.id.length), values = column(data, color), measure = MEASURES.find(({ key }) => key === color);
  if (!values || !measure) {
    const table = roleColors(data).map((index) => pack(rgb(group(index))));
    for (let i = 0; i < out.length; i++) out[i] = table[data.preferred_role[i]!] ?? 0xff888888;
    return out;
  }
  const [low, high] = extent(values, measure), steps = 64, table = Uint32Array.from({ length: steps + 1 }, (_, s) => pack(measure.signed ? parts(strong(2 * s / steps - 1)) : ramp(s / steps)));
  for (let i = 0; i < out.length; i++) out[i] = table[Math.max(0, Math.min(steps, Math.round((steps * (values[i]! - low)) / (high - low || 1)))) || 0]!;
  return out;
}

/** Diverging, but never as pale as the ground: a point must be seen. */
export const strong = (t: number): string => diverging((t < 0 ? -1 : 1) * (0.2 + 0.8 * Math.abs(t)));
