// Two experiments side by side: what they were made with, their axes, conversations, roles, and the features of a role.
import * as Plot from "@observablehq/plot";
import { useMemo } from "preact/hooks";
import { mark } from "../colors";
import { hasPart } from "../data";
import { num, signed, words } from "../format";
import { FeatureName, labelOf, profileOf, signedLog, useFeatures } from "../names";
import { type Other, otherHas, unlike, useFrom } from "../other";
import { Chart } from "../plot";
import { go, update, useAddress } from "../state";
import type { Core, Features, Profiles, Roles, Row, RunRow, Space } from "../types";
import { Choose, Notice, Section, Table, Waiting, WithInterval } from "../ui";
import { alarmText } from "./overview";

interface Props { core: Core; other: Other; title: string }

export function Experiments({ core, other, title }: Props) {
  const names: [string, string] = [title, other.index.experiment === title ? `${title} (${other.file})` : other.index.experiment];
  return (
    <>
      <div class="columns"><p class="first"><b>● <bdi>{names[0]}</bdi></b></p><p class="second"><b>▲ <bdi>{names[1]}</bdi></b></p></div>
      <MadeWith core={core} other={other} />
      <Axes core={core} other={other} />
      <Conversations core={core} other={other} />
      <SharedRoles core={core} other={other} />
    </>
  );
}

type Given = Omit<Props, "title">;

/** The values of nested settings, each by its path. */
function flat(value: unknown, path = ""): [string, string][] {
  if (value !== null && typeof value === "object" && !Array.isArray(value)) return Object.entries(value).flatMap(([key, inner]) => flat(inner, path ? `${path}.${key}` : key));
  return [[path, value === null || value === undefined ? "" : typeof value === "string" ? value : JSON.stringify(value)]];
}

function MadeWith({ core, other }: Given) {
  const first = new Map(flat(core.provenance)), second = new Map(flat(other.core.provenance));
  const rows = [...new Set([...first.keys(), ...second.keys()])].map((key) => ({ key, first: first.get(key) ?? "", second: second.get(key) ?? "" })).filter((row) => row.first !== row.second && row.key !== "experiment");
  const why = unlike(core.provenance, other.core.provenance);
  return (
    <Section title="What they were made with" note={why ? `Features are not the same: ${why}. Trajectories, axes and roles are compared all the same.` : "The same features: the same SAE on the same model."}>
      {rows.length ? <Table name="made_with" caption="Settings that differ" quiet rows={rows} limit={12} columns={[
        { key: "setting", label: "setting", text: true, value: (r) => r.key },
        { key: "first", label: "● first", text: true, value: (r) => r.first }, { key: "second", label: "▲ second", text: true, value: (r) => r.second },
      ]} /> : <p class="soft">No setting differs.</p>}
    </Section>
  );
}

const byKey = <T,>(rows: T[], key: (row: T) => string): Map<string, T> => new Map(rows.map((row) => [key(row), row]));

function Axes({ core, other }: Given) {
  const mine = byKey(core.agreement, (row) => String(row.space)), theirs = byKey(other.core.agreement, (row) => String(row.space));
  const rows = [...new Set([...mine.keys(), ...theirs.keys()])].map((space) => ({ space, first: mine.get(space), second: theirs.get(space) }));
  const features = useFeatures().data, others = useFrom<Features>(other, otherHas(other, "features") ? "features" : null).data;
  const along = !unlike(core.provenance, other.core.provenance) && features && others ? axisCosine(features, others) : null;
  const fine = (row: Row | undefined) => (!row ? "–" : row.interpretable ? "may be interpreted" : `not to be interpreted: ${row.reason}`);
  const pair = (key: string, label: string) => [0, 1].map((i) => ({ key: `${key}_${i ? "second" : "first"}`, label: `${i ? "▲" : "●"} ${label}`, value: (r: (typeof rows)[0]) => (i ? r.second : r.first)?.[key] as number, show: (r: (typeof rows)[0]) => num((i ? r.second : r.first)?.[key], 2) }));
  return (
    <Section title="How good the axes are" note={along === null ? undefined : `The two axes in the SAE's space have the cosine ${num(along.cosine)} over the ${along.n} features that are active in both.`}>
      <Table name="axes_compared" caption="Agreement of each axis" quiet rows={rows} columns={[
        { key: "space", label: "space", text: true, value: (r) => r.space },
        ...pair("split_half", "split-half"), ...pair("auc", "AUC"), ...pair("cos_diff_pc1", "cos(diff, PC1)"),
        { key: "first", label: "● first", text: true, value: (r) => fine(r.first) }, { key: "second", label: "▲ second", text: true, value: (r) => fine(r.second) },
      ]} />
    </Section>
  );
}

/** Cosine of two axes over the features that both pages have; null where one says nothing of its axis. */
export function axisCosine(one: Features, two: Features): { cosine: number; n: number } | null {
  if (!one.axis_weight || !two.axis_weight) return null;
  const places = new Map(Array.from(two.id, (id, i) => [id, i]));
  let dot = 0, square = 0, other = 0, n = 0;
  one.id.forEach((id, i) => {
    const place = places.get(id);
    if (place === undefined) return;
    const x = one.axis_weight![i]!, y = two.axis_weight![place]!;
    dot += x * y; square += x * x; other += y * y; n++;
  });
  return n ? { cosine: dot / Math.sqrt(square * other || 1), n } : null;
}

function Conversations({ core, other }: Given) {
  const key = (run: RunRow) => `${run.analysis}/${run.conversation}`, theirs = byKey(other.core.runs, key);
  const rows = core.runs.filter((run) => theirs.has(key(run))).map((run) => ({ key: key(run), first: run, second: theirs.get(key(run))! }));
  if (!rows.length) return <Section title="Conversations"><Notice>No conversation was analyzed in both experiments.</Notice></Section>;
  const z = (row: (typeof rows)[0]) => (row.second.fall ?? NaN) - (row.first.fall ?? NaN);
  const alarm = (run: RunRow) => <span class={run.alarm_turn === null ? "" : "alarm"}>{run.alarm_turn === null ? "" : "▲ "}{alarmText(run)}</span>;
  return (
    <Section title="Conversations in both" note={`Of the same name under the same analysis: ${rows.length}. A click compares the two.`}>
      <Table name="conversations_compared" caption="Runs of both experiments" quiet rows={rows} limit={15} onRow={(row) => update({ of: null, a: row.key, b: `other:${row.key}`, ta: null, tb: null })} columns={[
        { key: "conversation", label: "conversation", text: true, value: (r) => r.first.conversation, show: (r) => words(r.first.conversation) },
        { key: "analysis", label: "analysis", text: true, value: (r) => r.first.analysis },
        { key: "first", label: "● first", text: true, value: (r) => alarmText(r.first), show: (r) => alarm(r.first) }, { key: "second", label: "▲ second", text: true, value: (r) => alarmText(r.second), show: (r) => alarm(r.second) },
        { key: "fall_first", label: "● lowest z", value: (r) => r.first.fall, show: (r) => num(r.first.fall, 2) }, { key: "fall_second", label: "▲ lowest z", value: (r) => r.second.fall, show: (r) => num(r.second.fall, 2) },
        { key: "difference", label: "difference", value: z, show: (r) => signed(z(r), 2) },
      ]} />
    </Section>
  );
}

function SharedRoles({ core, other }: Given) {
  const state = useAddress();
  const mine = useFrom<Roles>(null, hasPart("roles") ? "roles" : null), theirs = useFrom<Roles>(other, otherHas(other, "roles") ? "roles" : null);
  if (!mine.data || !theirs.data) return <Section title="Roles">{mine.error || theirs.error ? <Waiting what="the roles" error={mine.error ?? theirs.error} /> : hasPart("roles") && otherHas(other, "roles") ? <Waiting what="the roles" /> : <Notice>One of the two pages has no roles.</Notice>}</Section>;
  const shared = mine.data.spaces.filter((space) => theirs.data!.spaces.some((one) => one.space === space.space));
  const first = shared.find(({ space }) => space === state.get("space")) ?? shared[0], second = theirs.data.spaces.find(({ space }) => space === first?.space);
  if (!first || !second) return <Section title="Roles"><Notice>The two experiments have no space in common.</Notice></Section>;
  const roles = first.roles.filter((role) => second.roles.includes(role));
  if (!roles.length) return <Section title="Roles"><Notice>The two experiments have no role in common.</Notice></Section>;
  return (
    <>
      <Section title={`${roles.length} roles in both`} note={sentence(first, second, roles)}>
        <Choose label="space" value={first.space} options={shared.map(({ space }) => [space, space])} onChange={(value) => update({ space: value })} />
        <Projections spaces={[first, second]} roles={roles} />
      </Section>
      <RoleFeatures core={core} other={other} roles={roles} />
    </>
  );
}

function sentence(first: Space, second: Space, roles: string[]): string {
  const only = (one: Space, two: Space) => one.roles.filter((role) => !two.roles.includes(role)).join(", ");
  const parts = [only(first, second) && `Only in the first: ${only(first, second)}.`, only(second, first) && `Only in the second: ${only(second, first)}.`];
  const alike = likeness(first, second, roles);
  if (alike !== null) parts.push(`How alike the roles are to each other agrees between the experiments with r = ${num(alike, 2)} over ${(roles.length * (roles.length - 1)) / 2} pairs.`);
  return parts.filter(Boolean).join(" ");
}

/** Correlation of the two experiments' similarities over all pairs of the shared roles; null below four roles. */
export function likeness(first: Space, second: Space, roles: string[]): number | null {
  if (roles.length < 4) return null;
  const of = (space: Space) => {
    const at = roles.map((role) => space.roles.indexOf(role)), n = space.roles.length;
    return at.flatMap((i, a) => at.slice(a + 1).map((j) => space.similarity[i * n + j]!));
  };
  const [x, y] = [of(first), of(second)], mean = (v: number[]) => v.reduce((a, b) => a + b, 0) / v.length, mx = mean(x), my = mean(y);
  const dot = (u: number[], mu: number, v: number[], mv: number) => u.reduce((sum, value, i) => sum + (value - mu) * (v[i]! - mv), 0);
  return dot(x, mx, y, my) / Math.sqrt(dot(x, mx, x, mx) * dot(y, my, y, my) || 1);
}

interface Placed { role: string; values: [Row, Row] }

function Projections({ spaces, roles }: { spaces: [Space, Space]; roles: string[] }) {
  const c = mark(), rows: Placed[] = roles.map((role) => ({ role, values: spaces.map((space) => space.projections.find((row) => row.role === role) ?? {}) as [Row, Row] }));
  rows.sort((a, b) => Number(a.values[0].crossfit) - Number(b.values[0].crossfit));
  const points = rows.flatMap(({ role, values }) => values.map((row, which) => ({ role, which, value: Number(row.crossfit), low: row.crossfit_low, high: row.crossfit_high }))).filter((p) => isFinite(p.value));
  const color = (d: any) => (d.which ? c.away : c.toward), number = (row: Row, key: string) => (row[key] ?? null) as number | null;
  const difference = ({ values: [one, two] }: Placed) => Number(two.crossfit ?? NaN) - Number(one.crossfit ?? NaN);
  const text = (row: Row) => <WithInterval value={row.crossfit} low={row.crossfit_low} high={row.crossfit_high} digits={2} />;
  return (
    <div class="columns">
      <Chart name="roles_compared" title="Projection on the axis" note="Of responses that did not make the axis, with 95 % intervals; each experiment on its own axis. Circle: first, triangle: second." label={`Projections of ${roles.length} roles in two experiments`} deps={[spaces[0], spaces[1]]}
        table={{ heads: ["role", "first", "first_low", "first_high", "second", "second_low", "second_high"], rows: rows.map(({ role, values }) => [role, ...values.flatMap((row) => ["crossfit", "crossfit_low", "crossfit_high"].map((key) => number(row, key)))]) }}
        options={() => ({
          height: 44 + 24 * rows.length, marginLeft: 100, marginBottom: 34, x: { label: "away ← projection → toward the assistant", labelAnchor: "center", labelArrow: "none", labelOffset: 32, ticks: 5, nice: true }, y: { label: null, domain: rows.map((row) => row.role), tickFormat: (d: string) => (d.length > 15 ? `${d.slice(0, 14)}…` : d), tickSize: 0 }, color: { type: "identity" }, symbol: { type: "identity" } as any,
          marks: [
            Plot.ruleX([0], { stroke: c.faint }),
            [0, 1].map((which) => Plot.ruleY(points.filter((p) => p.which === which && typeof p.low === "number"), { y: "role", x1: "low", x2: "high", stroke: color, dy: which ? 4 : -4 } as any)),
            [0, 1].map((which) => Plot.dot(points.filter((p) => p.which === which), { y: "role", x: "value", symbol: which ? "triangle" : "circle", fill: color, r: 4, dy: which ? 4 : -4, title: (d: any) => `${d.role}, ${d.which ? "second" : "first"}: ${num(d.value)} [${num(d.low)}, ${num(d.high)}]` } as any)),
          ],
        })} />
      <Table name="projections_compared" caption="Projections of the roles" quiet rows={rows} limit={20} columns={[
        { key: "role", label: "role", text: true, value: (r) => r.role },
        { key: "first", label: "● first", value: (r) => number(r.values[0], "crossfit"), show: (r) => text(r.values[0]) }, { key: "second", label: "▲ second", value: (r) => number(r.values[1], "crossfit"), show: (r) => text(r.values[1]) },
        { key: "difference", label: "difference", value: difference, show: (r) => signed(difference(r), 2) },
      ]} />
    </div>
  );
}

interface Shift { id: number; first: number; second: number; difference: number; error: number }

/** What a role's features do in one experiment and in the other, the largest difference beyond two standard errors first. */
export function shifts(one: [Features, Profiles], two: [Features, Profiles], role: string): Shift[] {
  const means = ([features, profiles]: [Features, Profiles]) => {
    const r = profiles.names.indexOf(role), n = profiles.mean.length / profiles.names.length;
    return new Map(Array.from({ length: n }, (_, i) => [features.id[profiles.places ? profiles.places[i]! : i]!, [profiles.mean[r * n + i]!, profiles.error ? profiles.error[r * n + i]! : NaN] as const]));
  };
  const first = means(one), second = means(two), rows: Shift[] = [];
  for (const [id, [mean, error]] of first) {
    const theirs = second.get(id);
    if (theirs) rows.push({ id, first: mean, second: theirs[0], difference: theirs[0] - mean, error: Math.hypot(error, theirs[1]) });
  }
  return rows.filter((row) => row.difference !== 0 && !(Math.abs(row.difference) <= 2 * row.error)).sort((a, b) => Math.abs(b.difference) - Math.abs(a.difference)).slice(0, 200);
}

/** Cosine of a role's profile in the two experiments, each minus the mean of the shared roles, over features on both pages. */
export function profileCosine(one: [Features, Profiles], two: [Features, Profiles], roles: string[], role: string): number {
  const places = new Map(Array.from(two[0].id, (id, i) => [id, i])), logs = (data: [Features, Profiles], place: number) => {
    const all = new Map(profileOf(data[1], place).map((row) => [row.role, signedLog(row.mean)]));
    return (all.get(role) ?? NaN) - roles.reduce((sum, name) => sum + (all.get(name) ?? NaN), 0) / roles.length;
  };
  let dot = 0, square = 0, other = 0;
  one[0].id.forEach((id, i) => {
    const place = places.get(id);
    if (place === undefined) return;
    const x = logs(one, i), y = logs(two, place);
    if (isNaN(x) || isNaN(y)) return;
    dot += x * y; square += x * x; other += y * y;
  });
  return dot / Math.sqrt(square * other || 1);
}

function RoleFeatures({ core, other, roles }: Given & { roles: string[] }) {
  const state = useAddress(), why = unlike(core.provenance, other.core.provenance), role = roles.includes(state.get("role")) ? state.get("role") : roles[0]!;
  const mine = useFeatures().data, profiles = useFrom<Profiles>(null, hasPart("profiles") ? "profiles" : null).data;
  const theirs = useFrom<Features>(other, why ? null : "features"), others = useFrom<Profiles>(other, why ? null : "profiles");
  const ready = !why && mine && profiles && theirs.data && others.data && profiles.names.includes(role) && others.data.names.includes(role);
  const [rows, cosines] = useMemo(() => {
    if (!ready) return [[], []] as [Shift[], [string, number][]];
    const one: [Features, Profiles] = [mine, profiles], two: [Features, Profiles] = [theirs.data!, others.data!], both = roles.filter((name) => profiles.names.includes(name) && others.data!.names.includes(name));
    return [shifts(one, two, role), both.map((name) => [name, profileCosine(one, two, both, name)])] as [Shift[], [string, number][]];
  }, [ready, mine, profiles, theirs.data, others.data, role]);
  if (why) return <Section title="Features of a role"><Notice>Features of these two experiments are not the same, so they are not compared: {why}.</Notice></Section>;
  if (!ready) return <Section title="Features of a role">{theirs.error || others.error ? <Waiting what="the features" error={theirs.error ?? others.error} /> : <Notice>One of the two pages does not have the roles' profiles.</Notice>}</Section>;
  return (
    <Section title="Features of a role" note={`Mean activations in the first and in the second, and their difference with its 95 % interval over questions; only differences beyond two standard errors. With thousands of features some pass by chance.${profiles?.places || others.data?.places ? " Looked through are the features that both pages have." : ""}`}>
      <Choose label="role" value={role} options={roles.map((name) => [name, name])} onChange={(value) => update({ role: value })} />
      <div class="columns">
        <Table name={`role_features_${role}`} caption={`Features of ${role} that differ`} quiet rows={rows} limit={15} onRow={(row) => go("features", { feature: row.id })} columns={[
          { key: "feature", label: "feature", text: true, value: (r) => r.id, show: (r) => <FeatureName id={r.id} features={mine} /> },
          { key: "difference", label: "difference", value: (r) => r.difference, show: (r) => (isNaN(r.error) ? signed(r.difference) : <WithInterval value={r.difference} low={r.difference - 1.96 * r.error} high={r.difference + 1.96 * r.error} />) },
          { key: "first", label: "● first", value: (r) => r.first }, { key: "second", label: "▲ second", value: (r) => r.second },
          { key: "standard_error", label: "standard error", hidden: true, value: (r) => r.error }, { key: "label", label: "label", text: true, hidden: true, value: (r) => labelOf(mine, r.id) },
        ]} />
        <Table name="role_cosines" caption="Each role with itself: cosine of its profile in the two experiments, minus the mean of the shared roles" rows={cosines} limit={20} columns={[
          { key: "role", label: "role", text: true, value: (r) => r[0] }, { key: "cosine", label: "cosine", value: (r) => r[1], show: (r) => num(r[1]) },
        ]} />
      </div>
    </Section>
  );
}
