// Where roles stand: on the axis, and on the principal components with the axis among them.
import * as Plot from "@observablehq/plot";
import { useMemo } from "preact/hooks";
import { mark } from "../colors";
import { interval, num, percent } from "../format";
import { Chart } from "../plot";
import { update } from "../state";
import type { Row, Space } from "../types";
import { Notice } from "../ui";
import type { Groups } from "./groups";
import { short } from "./similarity";

const margin = (names: string[]): number => Math.min(110, 24 + 7 * Math.max(...names.map((name) => short(name).length)));

const ALL = 60, ENDS = 20; // roles that are drawn where they are no more than ALL; else so many at either end
const GAP = "\0"; // a name of a row that is no role

interface Point { name: string; x: number; y: number; anchor: boolean }

/** The roles whose names stand on the plot: the chosen one, the anchor, then the farthest out, none over another or over
 * another role's mark. */
function named(points: Point[], all: Point[], width: number, role: string): Point[] {
  const reach = Math.max(...points.map((p) => Math.max(Math.abs(p.x), Math.abs(p.y)))) || 1, scale = (width - 90) / (2 * reach);
  const weight = (p: Point) => (p.name === role ? 1e9 : p.anchor ? 1e8 : Math.hypot(p.x, p.y)), kept: Point[] = [];
  for (const p of [...points].sort((a, b) => weight(b) - weight(a))) {
    const apart = (q: Point) => Math.abs(q.y - p.y) * scale > 15 || Math.abs(q.x - p.x) * scale > 3.6 * (q.name.length + p.name.length);
    const covers = (q: Point) => q !== p && (q.y - p.y) * scale > -1 && (q.y - p.y) * scale < 22 && Math.abs(q.x - p.x) * scale < 3.6 * p.name.length + 4;
    if (kept.every(apart) && (weight(p) > 1e7 || !all.some(covers))) kept.push(p);
  }
  return kept;
}

export function Projections({ space, role, groups }: { space: Space; role: string; groups: Groups | null }) {
  const within = (name: string) => !groups || groups.chosen < 0 || groups.index(name) === groups.chosen;
  const rows = useMemo(() => space.projections.filter((row) => within(String(row.role))).sort((a, b) => Number(b.crossfit ?? b.diff) - Number(a.crossfit ?? a.diff)), [space, groups]);
  // All of the shipped 51; of more the ends, the anchor and the chosen one, with a gap where roles are left out.
  const ends = (i: number) => i < ENDS || i >= rows.length - ENDS, keep = rows.map((row, i) => rows.length <= ALL || ends(i) || row.kind === "anchor" || row.role === role);
  const bounded = rows.some((row) => typeof row.crossfit_low === "number"); // not with one variant or question
  const shown = rows.filter((_, i) => keep[i]), c = mark();
  const domain = rows.flatMap((row, i) => (keep[i] ? [String(row.role)] : !i || keep[i - 1] ? [`${GAP}${i}`] : []));
  const label = (d: string) => (d.startsWith(GAP) ? "⋮" : short(d));
  return (
    <Chart name="role_projections" title="Where each role stands on the axis" note={`Cross-fitted: scored on questions that the axis has not seen; ${bounded ? "95 % intervals" : "no intervals: they need several variants and questions"}; squares: the anchor. A click opens the role.${shown.length < rows.length ? ` The ${ENDS} highest and ${ENDS} lowest of ${rows.length}, and the anchor; dots: those between, which the numbers have.` : ""}${groups && groups.chosen >= 0 ? ` Only ${groups.labels[groups.chosen]}.` : ""}`}
      label={`Projections of ${rows.length} roles, highest ${rows[0]?.role}, lowest ${rows.at(-1)?.role}`} deps={[space, role, groups]}
      table={{ heads: ["role", "kind", "crossfit", "low", "high", "in sample", "responses", ...(groups ? ["group"] : [])], rows: rows.map((r) => [r.role, r.kind, r.crossfit, r.crossfit_low, r.crossfit_high, r.in_sample, r.n_responses, ...(groups ? [groups.label(String(r.role))] : [])] as (string | number)[]) }}
      onPoint={(plot, _x, y) => { const scale = plot.scale("y") as any; const name = scale.domain.filter((d: string) => !d.startsWith(GAP)).sort((a: string, b: string) => Math.abs(scale.apply(a) - y) - Math.abs(scale.apply(b) - y))[0]; if (name) update({ role: name }); }}
      options={() => ({
        height: 34 + 17 * domain.length, marginLeft: margin(shown.map((r) => String(r.role))), marginTop: 4, marginBottom: 26, marginRight: 14,
        x: { type: "linear", label: null, ticks: 5, nice: true }, y: { label: null, domain, tickFormat: label },
        symbol: { type: "identity" } as any, color: { type: "identity" },
        marks: [
          Plot.ruleX([0], { stroke: c.faint }),
          shown.some((row) => row.role === role) ? Plot.tickY([role], { y: (d: string) => d, stroke: c.accent, strokeWidth: 15, strokeOpacity: 0.16 }) : null,
          Plot.ruleY(bounded ? shown : [], { y: "role", x1: "crossfit_low", x2: "crossfit_high", stroke: c.soft }),
          Plot.dot(shown, { y: "role", x: "crossfit", r: 4, symbol: (d: Row) => (d.kind === "anchor" ? "square" : "circle"), fill: (d: Row) => (d.kind === "anchor" ? c.toward : groups ? groups.color(String(d.role)) : c.ink), title: (d: Row) => `${d.role} (${groups ? `${groups.label(String(d.role))}, ${d.kind}` : d.kind}): ${num(d.crossfit)} ${interval(d.crossfit_low, d.crossfit_high)}, ${d.n_responses} responses` }),
        ],
      })} />
  );
}

export function Components({ space, role, groups }: { space: Space; role: string; groups: Groups | null }) {
  if (!space.pca || space.pca.shares.length < 2) return <Notice>There are too few roles for principal components.</Notice>;
  const { roles, coordinates, shares, axis } = space.pca, k = shares.length;
  const kinds = new Map(space.projections.map((row) => [row.role, row.kind]));
  const points = roles.map((name, i) => ({ name, x: coordinates[i * k]!, y: coordinates[i * k + 1]!, anchor: kinds.get(name) === "anchor" }));
  const reach = Math.max(...points.map((p) => Math.hypot(p.x, p.y))), length = Math.hypot(axis[0]!, axis[1]!) || 1;
  const over = (p: Point) => (p.name === role ? 2 : Number(p.anchor)); // drawn last, so that no other covers it
  const end = { x: (axis[0]! / length) * reach, y: (axis[1]! / length) * reach }, c = mark();
  return (
    <Chart name="role_pca" title="Principal components" note={`The arrow is the axis, toward the assistant (squares: the anchor); ${percent(length ** 2)} of it lies in this plane. A click opens a role.`}
      label={`${roles.length} roles on two components with ${percent(shares[0])} and ${percent(shares[1])} of the variance`} deps={[space, role, groups]}
      onPoint={(plot, x, y) => {
        const [sx, sy] = [plot.scale("x") as any, plot.scale("y") as any], far = (p: Point) => Math.hypot(sx.apply(p.x) - x, sy.apply(p.y) - y), near = [...points].sort((a, b) => far(a) - far(b))[0];
        if (near && far(near) < 24) update({ role: near.name });
      }}
      table={{ heads: ["role", ...shares.map((_, j) => `PC${j + 1}`), ...(groups ? ["group"] : [])], rows: roles.map((name, i) => [name, ...shares.map((_, j) => coordinates[i * k + j]!), ...(groups ? [groups.label(name)] : [])]) }}
      options={(width) => ({
        aspectRatio: 1, marginLeft: 46, marginBottom: 40, inset: Math.min(40, width / 10),
        x: { label: `PC1, ${percent(shares[0])} of the variance`, ticks: 5, labelAnchor: "center", labelArrow: "none", labelOffset: 36 }, y: { label: `PC2, ${percent(shares[1])}`, ticks: 5, labelArrow: "none" }, color: { type: "identity" }, symbol: { type: "identity" } as any,
        marks: [
          Plot.ruleX([0], { stroke: c.faint }), Plot.ruleY([0], { stroke: c.faint }),
          Plot.arrow([end], { x1: -end.x, y1: -end.y, x2: "x", y2: "y", stroke: c.toward, strokeOpacity: 0.6, strokeWidth: 2 }),
          Plot.text(named(groups && groups.chosen >= 0 ? points.filter((p) => p.name === role || groups.index(p.name) === groups.chosen) : points, points, width, role), { x: "x", y: "y", text: "name", dy: -11, fill: c.ink, stroke: "var(--ground)", strokeWidth: 3 }),
          Plot.dot([...points].sort((p, q) => over(p) - over(q)), { x: "x", y: "y", r: (d: any) => (d.name === role ? 7 : 4.5), symbol: (d: any) => (d.anchor ? "square" : "circle"), fill: (d: any) => (d.name === role ? c.accent : d.anchor ? c.toward : groups ? groups.color(d.name) : c.ink), fillOpacity: (d: any) => (!groups || groups.chosen < 0 || groups.index(d.name) === groups.chosen || d.name === role ? 1 : 0.15), title: (d: any) => `${d.name}${groups ? ` (${groups.label(d.name)})` : ""}: PC1 ${num(d.x)}, PC2 ${num(d.y)}` }),
        ],
        r: { type: "identity" },
      })} />
  );
}

