// PuOr: orange below zero (away from the assistant), purple above (toward it). Over any ground, so by opacity.

export const ORANGE = [230, 97, 1] as const, PURPLE = [94, 60, 153] as const;
export const isDark = (): boolean => document.documentElement.dataset.theme === "dark";

/** The background of a signed value on a scale that is full at `limit`; zero has none. */
export function heat(value: number, limit: number): string {
  const size = Math.min(Math.abs(value) / limit, 1);
  if (!(size > 0)) return "transparent";
  const [r, g, b] = value < 0 ? ORANGE : isDark() ? [150, 110, 220] : PURPLE;
  return `rgba(${r},${g},${b},${(0.06 + 0.56 * size).toFixed(3)})`;
}

/** Solid colors of marks, with enough contrast on either ground. */
export const mark = () => isDark()
  ? { away: "#fdae61", toward: "#b39ddb", ink: "#e8e8ea", soft: "#9a9aa3", faint: "#45454d", band: "#3a3a42", accent: "#8ab4f8" }
  : { away: "#b35806", toward: "#542788", ink: "#1c1c1e", soft: "#66666d", faint: "#d4d4d8", band: "#e7e7ea", accent: "#1a5fb4" };

/** Distinct colors of up to twelve groups (Okabe and Ito's, then darker ones); more share the last, gray. */
const GROUPS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#5e3c99", "#843c39", "#2f4b7c", "#5c8a3a", "#a9a9b0"];
/** Those of them that are too dark to be seen on the dark ground, as they are there. */
const ON_DARK: Record<string, string> = { "#5e3c99": "#a07be0", "#843c39": "#c76a63", "#2f4b7c": "#6e8fd0" };
const seen = (color: string): string => (isDark() ? ON_DARK[color] ?? color : color);
export const group = (index: number): string => seen(GROUPS[Math.min(index, GROUPS.length - 1)]!);
/** Colors of up to twelve groups of roles; a role that is in none is gray. */
const ROLE_GROUPS = [...GROUPS.slice(0, 11), "#00a1a7"];
export const roleGroup = (index: number): string => seen(ROLE_GROUPS[index] ?? GROUPS[11]!);
/** A group's color as text: lighter on the dark ground, darker on the light one. */
export function legible(color: string): string {
  const dark = isDark();
  return `rgb(${rgb(color).map((x) => Math.round(dark ? x + (255 - x) * 0.45 : x * 0.72)).join(",")})`;
}
export function rgb(color: string): [number, number, number] {
  const value = parseInt(color.slice(1), 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}

/** A sequential ramp for magnitudes in 0..1, from the ground to dark purple (or light in the dark). */
export function ramp(t: number): [number, number, number] {
  const x = Math.max(0, Math.min(1, t));
  const from = isDark() ? [60, 60, 68] : [222, 222, 230], to = isDark() ? [214, 190, 255] : [45, 0, 75];
  return [0, 1, 2].map((i) => Math.round(from[i]! + (to[i]! - from[i]!) * x)) as [number, number, number];
}
/** A diverging color in -1..1: orange, the ground, purple. */
export function diverging(t: number): string {
  const x = Math.max(-1, Math.min(1, t)), ground = isDark() ? [28, 28, 32] : [247, 247, 247];
  const end = x < 0 ? ORANGE : isDark() ? [170, 130, 235] : PURPLE;
  const part = Math.abs(x) ** 0.8;
  return `rgb(${[0, 1, 2].map((i) => Math.round(ground[i]! + (end[i]! - ground[i]!) * part)).join(",")})`;
}
