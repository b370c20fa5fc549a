// Roles: how alike they are, where the axis lies among them, what sets one apart, and what it said.
import * as Plot from "@observablehq/plot";
import { useEffect, useMemo, useRef } from "preact/hooks";
import { diverging, mark } from "../colors";
import { usePart } from "../data";
import { savePng } from "../export";
import { num, percent, signed, words } from "../format";
import { FeatureName, labelOf, useFeatures } from "../names";
import { Chart, useScheme, useWidth } from "../plot";
import { go, update, useAddress } from "../state";
import type { Features, Profiles, Responses, Roles as Data, Row, Space } from "../types";
import { Choose, Notice, Section, Table, Waiting, WithInterval } from "../ui";

export function Roles() {
  const state = useAddress(), data = usePart<Data>("roles");
  if (!data.data) return <Waiting what="the roles" error={data.error} />;
  const spaces = data.data.spaces, space = spaces.find((one) => one.space === state.get("space")) ?? spaces[0];
  if (!space) return <Notice>The experiment has no roles with an axis.</Notice>;
  const role = space.roles.includes(state.get("role")) ? state.get("role") : "";
  return (
    <>
      {!role && <h1 class="sr">Roles</h1>}
      <div class="bar">
        <Choose label="space" value={space.space} options={spaces.map((one) => [one.space, one.space])} onChange={(value) => update({ space: value })} />
        <Choose label="role" value={role} options={[["", "none chosen"], ...space.roles.map((one) => [one, one] as [string, string])]} onChange={(value) => update({ role: value })} />
      </div>
      <div class="columns">
        <HeatMap space={space} role={role} />
        <div>
          <Projections space={space} role={role} />
          <Components space={space} role={role} />
        </div>
      </div>
      {role ? <OneRole role={role} space={space} /> : <Notice>Choose a role to see the roles nearest to it, the features that set it apart, and its responses.</Notice>}
    </>
  );
}

const choose = (role: string) => update({ role });

function HeatMap({ space, role }: { space: Space; role: string }) {
  const [box, width] = useWidth<HTMLDivElement>();
  const canvas = useRef<HTMLCanvasElement>(null), scheme = useScheme();
  const n = space.roles.length, order = space.order, names = order.map((i) => space.roles[i]!);
  const left = Math.min(120, width * 0.25), cell = (Math.min(width, 640) - left) / n, size = cell * n, top = Math.min(90, left);
  const at = (row: number, column: number) => space.similarity[order[row]! * n + order[column]!]!;
  useEffect(() => {
    if (!width || !canvas.current) return;
    const ratio = devicePixelRatio || 1, c = mark(), g = canvas.current.getContext("2d")!;
    canvas.current.width = (left + size) * ratio; canvas.current.height = (top + size) * ratio;
    g.scale(ratio, ratio);
    g.font = `${Math.min(12, Math.max(8, cell - 1))}px system-ui, sans-serif`; g.textBaseline = "middle";
    for (let i = 0; i < n; i++) {
      for (let j = 0; j < n; j++) { g.fillStyle = diverging(at(i, j)); g.fillRect(left + j * cell, top + i * cell, Math.ceil(cell), Math.ceil(cell)); }
      if (cell < 8) continue;
      g.fillStyle = names[i] === role ? c.accent : c.ink;
      g.textAlign = "right"; g.fillText(short(names[i]!), left - 5, top + (i + 0.5) * cell);
      g.save(); g.translate(left + (i + 0.5) * cell, top - 5); g.rotate(-Math.PI / 3); g.textAlign = "left"; g.fillText(short(names[i]!), 0, 0); g.restore();
    }
    if (cell >= 44) { g.textAlign = "center"; for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) { g.fillStyle = Math.abs(at(i, j)) > 0.75 ? "#fff" : c.ink; g.fillText(num(at(i, j), 2), left + (j + 0.5) * cell, top + (i + 0.5) * cell); } }
    const chosen = names.indexOf(role);
    if (chosen >= 0) { g.strokeStyle = c.accent; g.lineWidth = 2; g.strokeRect(left, top + chosen * cell, size, cell); }
  }, [space, role, width, scheme]);
  const rows = names.map((name, i) => ({ name, values: names.map((_, j) => at(i, j)) }));
  return (
    <figure class="chart heatmap">
      <figcaption><strong>How alike roles are</strong> <span class="soft">Cosine of role vectors minus the mean role, in the order of clustering (average linkage); purple alike, orange opposite.</span></figcaption>
      <div ref={box}>
        <canvas ref={canvas} role="img" aria-label={`Similarity of ${n} roles; the table below has the numbers.`} style={{ width: `${left + size}px`, height: `${top + size}px`, cursor: "pointer", maxWidth: "100%" }}
          onClick={(e) => { const y = e.offsetY - top, i = Math.floor(y / cell); if (i >= 0 && i < n) choose(names[i]!); }} />
      </div>
      <p class="tools"><button type="button" onClick={() => canvas.current && savePng("role_similarity", canvas.current)}>PNG</button></p>
      <details><summary class="small">numbers</summary>
        <Table name="role_similarity" caption="Similarity of roles" quiet rows={rows} limit={300}
          columns={[{ key: "role", label: "role", text: true, value: (r: (typeof rows)[0]) => r.name }, ...names.map((name, j) => ({ key: name, label: name, value: (r: (typeof rows)[0]) => r.values[j]! }))]} />
      </details>
    </figure>
  );
}

const short = (name: string) => (name.length > 15 ? `${name.slice(0, 14)}…` : name);

function Projections({ space, role }: { space: Space; role: string }) {
  const rows = useMemo(() => [...space.projections].sort((a, b) => Number(b.crossfit ?? b.diff) - Number(a.crossfit ?? a.diff)), [space]);
  const shown = rows.length > 40 ? [...rows.slice(0, 18), ...rows.slice(-18)] : rows, c = mark();
  return (
    <Chart name="role_projections" title="Where each role stands on the axis" note={`Cross-fitted: scored on questions that the axis has not seen; 95 % intervals.${shown.length < rows.length ? " The 18 highest and 18 lowest." : ""}`}
      label={`Projections of ${rows.length} roles, highest ${rows[0]?.role}, lowest ${rows.at(-1)?.role}`} deps={[space, role]}
      table={{ heads: ["role", "kind", "crossfit", "low", "high", "in sample", "responses"], rows: rows.map((r) => [r.role, r.kind, r.crossfit, r.crossfit_low, r.crossfit_high, r.in_sample, r.n_responses] as (string | number)[]) }}
      onPoint={(plot, _x, y) => { const scale = plot.scale("y") as any; const name = [...scale.domain].sort((a, b) => Math.abs(scale.apply(a) - y) - Math.abs(scale.apply(b) - y))[0]; if (name) choose(name); }}
      options={() => ({
        height: 34 + 17 * shown.length, marginLeft: 110, marginTop: 4, marginBottom: 26, marginRight: 14,
        x: { label: null, ticks: 5, nice: true }, y: { label: null, domain: shown.map((r) => String(r.role)), tickFormat: short },
        symbol: { type: "identity" } as any, color: { type: "identity" },
        marks: [
          Plot.ruleX([0], { stroke: c.faint }),
          role ? Plot.tickY([role], { y: (d: string) => d, stroke: c.accent, strokeWidth: 15, strokeOpacity: 0.16 }) : null,
          Plot.ruleY(shown, { y: "role", x1: "crossfit_low", x2: "crossfit_high", stroke: c.soft }),
          Plot.dot(shown, { y: "role", x: "crossfit", r: 4, symbol: (d: Row) => (d.kind === "anchor" ? "square" : "circle"), fill: (d: Row) => (d.kind === "anchor" ? c.toward : c.ink), title: (d: Row) => `${d.role} (${d.kind}): ${num(d.crossfit)} [${num(d.crossfit_low)}, ${num(d.crossfit_high)}], ${d.n_responses} responses` }),
        ],
      })} />
  );
}

function Components({ space, role }: { space: Space; role: string }) {
  if (!space.pca || space.pca.shares.length < 2) return <Notice>There are too few roles for principal components.</Notice>;
  const { roles, coordinates, shares, axis } = space.pca, k = shares.length;
  const kinds = new Map(space.projections.map((row) => [row.role, row.kind]));
  const points = roles.map((name, i) => ({ name, x: coordinates[i * k]!, y: coordinates[i * k + 1]!, anchor: kinds.get(name) === "anchor" }));
  const reach = Math.max(...points.map((p) => Math.hypot(p.x, p.y))), length = Math.hypot(axis[0]!, axis[1]!) || 1;
  const end = { x: (axis[0]! / length) * reach, y: (axis[1]! / length) * reach }, c = mark();
  return (
    <Chart name="role_pca" title="Principal components" note={`The arrow is the axis, toward the assistant; ${percent(length ** 2)} of it lies in this plane.`}
      label={`${roles.length} roles on two components with ${percent(shares[0])} and ${percent(shares[1])} of the variance`} deps={[space, role]}
      table={{ heads: ["role", ...shares.map((_, j) => `PC${j + 1}`)], rows: roles.map((name, i) => [name, ...shares.map((_, j) => coordinates[i * k + j]!)]) }}
      options={(width) => ({
        aspectRatio: 1, marginLeft: 46, marginBottom: 40, inset: Math.min(40, width / 10),
        x: { label: `PC1, ${percent(shares[0])} of the variance`, ticks: 5, labelAnchor: "center", labelArrow: "none", labelOffset: 36 }, y: { label: `PC2, ${percent(shares[1])}`, ticks: 5, labelArrow: "none" }, color: { type: "identity" }, symbol: { type: "identity" } as any,
        marks: [
          Plot.ruleX([0], { stroke: c.faint }), Plot.ruleY([0], { stroke: c.faint }),
          Plot.arrow([end], { x1: -end.x, y1: -end.y, x2: "x", y2: "y", stroke: c.toward, strokeOpacity: 0.6, strokeWidth: 2 }),
          Plot.dot(points, { x: "x", y: "y", r: (d: any) => (d.name === role ? 7 : 4.5), symbol: (d: any) => (d.anchor ? "square" : "circle"), fill: (d: any) => (d.name === role ? c.accent : d.anchor ? c.toward : c.ink) }),
          Plot.text(points, { x: "x", y: "y", text: "name", dy: -11, fill: c.ink, stroke: "var(--ground)", strokeWidth: 3 }),
        ],
        r: { type: "identity" },
      })} />
  );
}

interface Apart { place: number; id: number; mine: number; theirs: number; difference: number; error: number; z: number }

/** Features by the difference of means in standard errors, the largest difference first among those beyond 2. */
export function apart(profiles: Profiles, features: Features, role: number, against: number | null): Apart[] {
  const { mean, error, names } = profiles, n = mean.length / names.length, rows: Apart[] = [];
  const others = against === null ? names.map((_, r) => r).filter((r) => r !== role) : [against];
  for (let i = 0; i < n; i++) {
    const place = profiles.places ? profiles.places[i]! : i;
    const mine = mean[role * n + i]!, theirs = others.reduce((sum, r) => sum + mean[r * n + i]!, 0) / others.length;
    let square = error ? error[role * n + i]! ** 2 : NaN;
    if (error) for (const r of others) square += (error[r * n + i]! / others.length) ** 2;
    const spread = Math.sqrt(square);
    rows.push({ place, id: features.id[place]!, mine, theirs, difference: mine - theirs, error: spread, z: (mine - theirs) / spread });
  }
  return rows.filter((row) => row.difference !== 0 && (isNaN(row.error) || Math.abs(row.z) > 2)).sort((a, b) => Math.abs(b.difference) - Math.abs(a.difference)).slice(0, 200);
}

function OneRole({ role, space }: { role: string; space: Space }) {
  const state = useAddress(), features = useFeatures().data, profiles = usePart<Profiles>("profiles");
  const n = space.roles.length, me = space.roles.indexOf(role);
  const nearest = space.roles.map((name, j) => ({ name, cosine: space.similarity[me * n + j]! })).filter((row) => row.name !== role).sort((a, b) => b.cosine - a.cosine);
  const against = profiles.data?.names.includes(state.get("against")) && state.get("against") !== role ? state.get("against") : "";
  const rows = useMemo(() => (profiles.data && features && profiles.data.names.includes(role) ? apart(profiles.data, features, profiles.data.names.indexOf(role), against ? profiles.data.names.indexOf(against) : null) : []), [profiles.data, features, role, against]);
  return (
    <>
      <h1 dir="auto">{words(role)}</h1>
      <p>Nearest: {nearest.slice(0, 5).map((row, i) => <>{i ? ", " : ""}<button type="button" class="text" onClick={() => choose(row.name)}>{row.name}</button> <span class="soft">{num(row.cosine, 2)}</span></>)}</p>
      <div class="columns">
        <Section title="Features that set it apart" note={`Difference of mean activations${against ? ` from ${against}` : " from the mean of all other roles"}, with its 95 % interval over questions; only differences beyond two standard errors, the largest first. With thousands of features some pass by chance.${profiles.data?.places ? ` Looked through are the ${profiles.data.places.length} features with the highest scores.` : ""}`}>
          <Choose label="against" value={against} options={[["", "all other roles"], ...space.roles.filter((name) => name !== role).map((name) => [name, name] as [string, string])]} onChange={(value) => update({ against: value })} />
          {profiles.data ? (
            <Table name={`apart_${role}`} caption={`Features that set ${role} apart`} quiet rows={rows} limit={15} onRow={(row) => go("features", { feature: row.id })} columns={[
              { key: "feature", label: "feature", text: true, value: (r) => r.id, show: (r) => <FeatureName id={r.id} features={features} /> },
              { key: "difference", label: "difference", value: (r) => r.difference, show: (r) => (isNaN(r.error) ? signed(r.difference) : <WithInterval value={r.difference} low={r.difference - 1.96 * r.error} high={r.difference + 1.96 * r.error} />) },
              { key: "mine", label: "here", value: (r) => r.mine }, { key: "theirs", label: "there", value: (r) => r.theirs },
              { key: "z", label: "z", value: (r) => r.z, show: (r) => num(r.z, 2) },
              { key: "standard_error", label: "standard error", hidden: true, value: (r) => r.error }, { key: "label", label: "label", text: true, hidden: true, value: (r) => labelOf(features, r.id) },
            ]} />
          ) : <Waiting what="role profiles" error={profiles.error} />}
        </Section>
        <Said role={role} />
      </div>
    </>
  );
}

function Said({ role }: { role: string }) {
  const part = usePart<Responses>("responses"), said = part.data?.roles[role];
  if (!part.data) return <Waiting what="responses" error={part.error} />;
  if (!said) return <Notice>The responses of {role} are not on this page.</Notice>;
  return (
    <Section title="What it said" note={`${said.shown.length} of ${said.n} responses, evenly over prompts.`}>
      {said.shown.map((one, i) => (
        <details key={i} open={i < 2}>
          <summary dir="auto"><bdi>{one.question}</bdi></summary>
          {one.system && <p class="soft small" dir="auto">System: {one.system}</p>}
          <p class="said" dir="auto" style={{ whiteSpace: "pre-wrap", overflowWrap: "anywhere" }}>{one.response || <span class="soft">(empty)</span>}</p>
        </details>
      ))}
    </Section>
  );
}
