// The fixed scale of the tokens' colors, shown where they are: the same mapping, with its ends and zero named.
import { heat } from "../colors";
import { num } from "../format";
import { useScheme } from "../plot";

const STOPS = [-1, -0.75, -0.5, -0.25, -0.02, 0, 0.02, 0.25, 0.5, 0.75, 1];

export function Scale({ limit, low, high, unit }: { limit: number; low: string; high: string; unit?: string }) {
  useScheme();
  const gradient = `linear-gradient(90deg, ${STOPS.map((stop) => `${heat(stop, 1)} ${50 + 50 * stop}%`).join(", ")})`;
  return (
    <span class="scale" role="img" aria-label={`Color scale from ${num(-limit, 2)}, ${low}, over 0 to ${num(limit, 2)}, ${high}`}>
      <span class="words">{low}</span>
      <span class="ramp"><i style={{ background: gradient }} /><span class="ends"><span>{num(-limit, 2)}</span><span>0</span><span>+{num(limit, 2)}</span></span></span>
      <span class="words">{high}{unit && `, ${unit}`}</span>
    </span>
  );
}
