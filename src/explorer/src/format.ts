// Numbers as text: a fixed number of digits that mean something, a real minus, and "–" for what is not known.

export const NONE = "–";

export function num(value: unknown, digits = 3): string {
  if (typeof value !== "number" || !isFinite(value)) return NONE;
  if (value === 0) return "0";
  const size = Math.abs(value);
  const text = Number.isInteger(value) && size < 1e6 ? String(size)
    : size >= 10_000 || size < 1e-5 ? size.toExponential(digits - 1)
    : size.toPrecision(digits).includes("e") ? size.toFixed(0) : size.toPrecision(digits);
  return (value < 0 ? "−" : "") + text;
}
export const signed = (value: unknown, digits = 3): string =>
  typeof value === "number" && value > 0 ? `+${num(value, digits)}` : num(value, digits);
export const percent = (value: unknown): string => {
  if (typeof value !== "number" || !isFinite(value)) return NONE;
  const p = 100 * value;
  return `${p !== 0 && Math.abs(p) < 10 ? num(p, 2) : p.toFixed(0)}\u00a0%`;
};
export const interval = (low: unknown, high: unknown, digits = 3): string =>
  typeof low === "number" && typeof high === "number" ? `[${num(low, digits)}, ${num(high, digits)}]` : "no interval";
export const count = (value: unknown): string =>
  typeof value === "number" ? value.toLocaleString("en-US").replaceAll(",", "\u00a0") : NONE;
export const many = (n: number, noun: string): string => `${count(n)} ${noun}${n === 1 ? "" : "s"}`;
/** "business-advice-second-bakery" for people. */
export const words = (name: string): string => name.replaceAll(/[-_]+/g, " ");
