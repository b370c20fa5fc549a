// How alike roles are: a heat map in the order of clustering, which the pointer and the arrow keys read cell by cell.
import { useEffect, useRef, useState } from "preact/hooks";
import { diverging, mark } from "../colors";
import { save, savePng } from "../export";
import { num } from "../format";
import { useScheme, useWidth } from "../plot";
import { update } from "../state";
import type { Space } from "../types";
import { Table } from "../ui";
import type { Groups } from "./groups";

const ground = (): string => getComputedStyle(document.body).backgroundColor;
const MOST = 640; // pixels that the map is wide at most
export const short = (name: string) => (name.length > 15 ? `${name.slice(0, 14)}…` : name);
const escaped = (text: string): string => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll('"', "&quot;");

export function HeatMap({ space, role, order, groups }: { space: Space; role: string; order: number[]; groups: Groups | null }) {
  const [box, width] = useWidth<HTMLDivElement>();
  const canvas = useRef<HTMLCanvasElement>(null), scheme = useScheme();
  const [here, setHere] = useState<[number, number] | null>(null);
  const n = space.roles.length, names = order.map((i) => space.roles[i]!), longest = Math.max(...names.map((name) => short(name).length));
  const at = (row: number, column: number) => space.similarity[order[row]! * n + order[column]!]!;
  const named = (Math.min(width, MOST) - 60) / n >= 8, strip = groups ? 8 : 0, left = (named ? Math.min(14 + 6.4 * longest, width * 0.3) : 4) + strip, top = named ? left * 0.8 : 4 + strip;
  const cell = Math.max(1, Math.floor((Math.min(width, MOST) - left - (named ? 14 : 0)) / n)), size = cell * n, font = Math.min(12, Math.max(8, cell - 1));
  const chosen = names.indexOf(role);
  useEffect(() => {
    if (!width || !canvas.current) return;
    const ratio = devicePixelRatio || 1, c = mark(), g = canvas.current.getContext("2d")!;
    canvas.current.width = (left + size + 14) * ratio; canvas.current.height = (top + size + 2) * ratio;
    g.scale(ratio, ratio);
    g.fillStyle = ground(); g.fillRect(0, 0, left + size + 14, top + size + 2); // what is saved has it too
    g.font = `${font}px system-ui, sans-serif`; g.textBaseline = "middle";
    for (let i = 0; i < n; i++) {
      for (let j = 0; j < n; j++) { g.fillStyle = diverging(at(i, j)); g.fillRect(left + j * cell, top + i * cell, cell, cell); }
      if (groups) {
        g.fillStyle = groups.color(names[i]!); g.globalAlpha = groups.chosen < 0 || groups.chosen === groups.index(names[i]!) ? 1 : 0.15;
        g.fillRect(left - strip, top + i * cell, strip - 2, cell); g.fillRect(left + i * cell, top - strip, cell, strip - 2); g.globalAlpha = 1;
      }
      if (!named) continue;
      g.fillStyle = i === chosen ? c.accent : c.ink;
      g.textAlign = "right"; g.fillText(short(names[i]!), left - 5 - strip, top + (i + 0.5) * cell);
      g.save(); g.translate(left + (i + 0.5) * cell, top - 5 - strip); g.rotate(-Math.PI / 3); g.textAlign = "left"; g.fillText(short(names[i]!), 0, 0); g.restore();
    }
    g.textAlign = "center";
    if (cell >= 40) for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) { g.fillStyle = at(i, j) > 0.6 ? "#fff" : c.ink; g.fillText(at(i, j).toFixed(2).replace("-", "−"), left + (j + 0.5) * cell, top + (i + 0.5) * cell); }
    g.strokeStyle = c.accent; g.lineWidth = 2;
    if (chosen >= 0) { g.strokeRect(left, top + chosen * cell, size, cell); g.strokeRect(left + chosen * cell, top, cell, size); }
    g.strokeStyle = c.ink;
    if (here) g.strokeRect(left + here[1] * cell, top + here[0] * cell, cell, cell);
  }, [space, role, order, groups, width, scheme, here]);
  const cellAt = (e: MouseEvent): [number, number] | null => {
    const i = Math.floor((e.offsetY - 1 - top) / cell), j = Math.floor((e.offsetX - 1 - left) / cell);
    return i >= 0 && i < n && j < n && e.offsetX < left + size ? [i, Math.max(-1, j)] : null;
  };
  const onMove = (e: MouseEvent) => {
    const found = cellAt(e);
    if (found?.join() !== here?.join()) setHere(found && found[1] >= 0 ? found : null);
  };
  const onKey = (e: KeyboardEvent) => {
    const by = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[e.key];
    if (e.key === "Enter" && here) update({ role: names[here[0]]! });
    if (!by) return;
    e.preventDefault();
    const [i, j] = here ?? [Math.max(0, chosen), Math.max(0, chosen)], keep = (x: number) => Math.max(0, Math.min(n - 1, x));
    setHere(here ? [keep(i + by[0]!), keep(j + by[1]!)] : [i, j]);
  };
  const svg = () => {
    const c = mark(), text = (x: number, y: number, anchor: string, name: string, turn = "") => `<text x="${x}" y="${y}" text-anchor="${anchor}" dominant-baseline="central" fill="${c.ink}"${turn}>${escaped(short(name))}</text>`;
    const cells = names.flatMap((_, i) => names.map((_, j) => `<rect x="${left + j * cell}" y="${top + i * cell}" width="${cell}" height="${cell}" fill="${diverging(at(i, j))}"/>`));
    const strips = groups ? names.flatMap((name, i) => [`<rect x="${left - strip}" y="${top + i * cell}" width="${strip - 2}" height="${cell}" fill="${groups.color(name)}"/>`, `<rect x="${left + i * cell}" y="${top - strip}" width="${cell}" height="${strip - 2}" fill="${groups.color(name)}"/>`]) : [];
    const labels = named ? names.flatMap((name, i) => [text(left - 5 - strip, top + (i + 0.5) * cell, "end", name), text(0, 0, "start", name, ` transform="translate(${left + (i + 0.5) * cell},${top - 5 - strip}) rotate(-60)"`)]) : [];
    save("role_similarity.svg", new Blob([`<svg xmlns="http://www.w3.org/2000/svg" width="${left + size + 14}" height="${top + size + 2}" font-family="system-ui, sans-serif" font-size="${font}"><rect width="100%" height="100%" fill="${ground()}"/>${cells.join("")}${strips.join("")}${labels.join("")}</svg>\n`], { type: "image/svg+xml" }));
  };
  const said = (name: string) => (groups ? `${name} (${groups.label(name)})` : name), told = here && `${said(names[here[0]]!)} and ${said(names[here[1]]!)}: ${num(at(...here))}`;
  const rows = names.map((name, i) => ({ name, values: names.map((_, j) => at(i, j)) }));
  return (
    <figure class="chart heatmap">
      <figcaption><strong>How alike roles are</strong> <span class="soft">Cosine of role vectors minus the mean role, {order === space.order ? "in the order of clustering (average linkage)" : "the groups one after the other, each in the order of clustering"}. A click opens the row's role.</span></figcaption>
      <div class="legend">−1 opposite <i style={{ width: "8rem", background: `linear-gradient(90deg, ${[-1, -0.5, 0, 0.5, 1].map(diverging).join(",")})` }} /> alike 1</div>
      <div ref={box} class="mapbox">
        <canvas ref={canvas} tabIndex={0} role="img" style={{ width: `${left + size + 14}px`, height: `${top + size + 2}px`, cursor: "pointer", maxWidth: "100%" }}
          aria-label={`Similarity of ${n} roles. Arrow keys walk over the cells, Enter opens a role; the table below has the numbers.`}
          onKeyDown={onKey} onPointerMove={onMove} onPointerLeave={() => setHere(null)} onBlur={() => setHere(null)}
          onClick={(e) => { const found = cellAt(e); if (found) update({ role: names[found[0]]! }); }} />
        {here && <div class="tip" style={{ left: `${Math.min(left + (here[1] + 1) * cell + 4, Math.max(0, left + size - 170))}px`, top: `${top + (here[0] + 1) * cell + 4}px` }}>{told}</div>}
      </div>
      <p class="sr" role="status">{told}</p>
      <p class="tools">
        <button type="button" onClick={svg} aria-label="Save as SVG: How alike roles are">SVG</button>
        <button type="button" onClick={() => canvas.current && savePng("role_similarity", canvas.current)} aria-label="Save as PNG: How alike roles are">PNG</button>
      </p>
      <details><summary class="small">numbers</summary>
        <Table name="role_similarity" caption="Similarity of roles" quiet rows={rows} limit={300}
          columns={[{ key: "role", label: "role", text: true, value: (r: (typeof rows)[0]) => r.name }, ...(groups ? [{ key: "group", label: "group", text: true, value: (r: (typeof rows)[0]) => groups.label(r.name) }] : []), ...names.map((name, j) => ({ key: name, label: name, value: (r: (typeof rows)[0]) => r.values[j]! }))]} />
      </details>
    </figure>
  );
}
