// Roles: how alike they are, where the axis lies among them, what sets one apart, and what it said.
import { useEffect, useMemo } from "preact/hooks";
import { usePart } from "../data";
import { saveCsv } from "../export";
import { count, interval, num, signed, words } from "../format";
import type { ViewProps } from "../main";
import { FeatureName, labelOf, useFeatures } from "../names";
import { go, link, now, update, useAddress } from "../state";
import type { Features, Profiles, Responses, RoleGroup, Roles as Data, Row, Space } from "../types";
import { Choose, Lost, Notice, Section, Table, Tabs, Waiting, WithInterval } from "../ui";
import { GroupLegend, orderOf, useGroups } from "./groups";
import { HeatMap } from "./similarity";
import { Components, Projections } from "./space";

export function Roles({ core }: ViewProps) {
  const state = useAddress(), data = usePart<Data>("roles");
  if (!data.data) return <Waiting what="the roles" error={data.error} />;
  const spaces = data.data.spaces, space = spaces.find((one) => one.space === state.get("space")) ?? spaces[0];
  if (!space) return <Notice>The experiment has no roles with an axis.</Notice>;
  return <OneSpace spaces={spaces} space={space} grouped={data.data.groups} good={core.agreement.find((row) => row.space === space.space)} />;
}

function OneSpace({ spaces, space, grouped, good }: { spaces: Space[]; space: Space; grouped: RoleGroup[] | undefined; good: Row | undefined }) {
  const state = useAddress(), role = space.roles.includes(state.get("role")) ? state.get("role") : "", long = space.roles.length > 12;
  const groups = useGroups(grouped, space), byGroup = state.get("order") === "group", order = useMemo(() => orderOf(space, groups, byGroup), [space, groups, byGroup]);
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      const typing = event.target instanceof HTMLElement && /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
      if (typing || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
      const names = order.map((i) => space.roles[i]!), at = names.indexOf(now().get("role"));
      const next = event.key === "j" ? names[at + 1] : event.key === "k" ? names[at - 1] : undefined;
      if (next) update({ role: next });
      else if (event.key === "Escape" && now().get("role")) update({ role: null, against: null });
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, [space, order]);
  return (
    <>
      {!role && <h1 class="sr">Roles</h1>}
      <div class="bar">
        <Choose label="space" value={space.space} options={spaces.map((one) => [one.space, one.space])} onChange={(value) => update({ space: value })} />
        <Choose label="role" value={role} options={[["", "none chosen"], ...space.roles.map((one) => [one, one] as [string, string])]} onChange={(value) => update({ role: value })} />
        {groups && <Choose label="order" value={byGroup ? "group" : ""} options={[["", "clustering"], ["group", "groups"]]} onChange={(value) => update({ order: value || null })} />}
        {good && (good.interpretable ? <span class="soft small">The axis may be interpreted in this space: split-half {num(good.split_half, 2)}, AUC {num(good.auc, 2)}.</span> : <span class="small"><b class="alarm">Not to be interpreted</b>: in this space the axis is not good enough ({String(good.reason)}).</span>)}
      </div>
      <Lost what="space" asked={state.get("space")} known={spaces.map((one) => one.space)} instead={`shown is ${space.space}`} />
      <Lost what="role" asked={state.get("role")} known={space.roles} instead="none is chosen" />
      {groups && <GroupLegend groups={groups} roles={space.roles} />}
      <div class="columns">
        <div>
          <HeatMap space={space} role={role} order={order} groups={groups} />
          {long && <Components space={space} role={role} groups={groups} />}
        </div>
        <div>
          <Projections space={space} role={role} groups={groups} />
          {!long && <Components space={space} role={role} groups={groups} />}
        </div>
      </div>
      {role ? <OneRole role={role} space={space} /> : <Notice>Choose a role to see the roles nearest to it, the features that set it apart, and its responses.</Notice>}
    </>
  );
}

interface Apart { place: number; id: number; mine: number; theirs: number; difference: number; error: number; z: number }

/** All features of the profiles by the difference of their means, in standard errors too. */
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
  return rows.sort((a, b) => Math.abs(b.difference) - Math.abs(a.difference));
}

const BEYOND = 0.0455; // of two standard errors, where there is no difference

function OneRole({ role, space }: { role: string; space: Space }) {
  const state = useAddress(), features = useFeatures().data, profiles = usePart<Profiles>("profiles"), known = profiles.data?.names ?? [];
  const n = space.roles.length, me = space.roles.indexOf(role);
  const projected = new Map(space.projections.map((row) => [row.role, row]));
  const nearest = useMemo(() => space.roles.map((name, j) => ({ name, cosine: space.similarity[me * n + j]!, on: projected.get(name)?.crossfit })).filter((row) => row.name !== role).sort((a, b) => b.cosine - a.cosine), [space, role]);
  const against = known.includes(state.get("against")) && state.get("against") !== role ? state.get("against") : "";
  const all = useMemo(() => (profiles.data && features && known.includes(role) ? apart(profiles.data, features, known.indexOf(role), against ? known.indexOf(against) : null) : []), [profiles.data, features, role, against]);
  const side = state.get("side") || "more", surely = useMemo(() => all.filter((row) => row.difference !== 0 && (isNaN(row.error) || Math.abs(row.z) > 2)), [all]);
  const rows = useMemo(() => surely.filter((row) => side === "both" || (side === "more") === row.difference > 0), [surely, side]);
  const here = projected.get(role);
  return (
    <>
      <h1 dir="auto">{words(role)}</h1>
      {here && <p class="soft">{here.kind === "anchor" ? "One of the anchor's roles. " : ""}On the axis at {num(here.crossfit)} ({interval(here.crossfit_low, here.crossfit_high)}), {count(here.n_responses)} responses. <a href={link("features", { role })}>Features that it has most of</a></p>}
      <div class="columns">
        <div>
          <Section title="Features that set it apart" note={`Difference of mean activations ${against ? `from ${against}` : "from the mean of all other roles"}, with its 95 % interval over questions.${profiles.data?.places ? ` Looked through are the ${count(profiles.data.places.length)} features with the highest scores.` : ""}`}>
            <div class="bar">
              <Choose label="against" value={against} options={[["", "all other roles"], ...space.roles.filter((name) => name !== role).map((name) => [name, name] as [string, string])]} onChange={(value) => update({ against: value })} />
              <Tabs label="Direction" value={side} options={[["more", "▲ more"], ["less", "▼ less"], ["both", "both"]]} onChange={(value) => update({ side: value === "more" ? null : value })} />
            </div>
            {profiles.data ? (
              <>
                {profiles.data.error && <p class="soft small">{count(surely.length)} of {count(all.length)} features differ by more than two standard errors; without any difference about {count(Math.round(BEYOND * all.length))} would, and more where the questions are few.{surely.length < 1.5 * BEYOND * all.length && <b> These may all be chance.</b>}</p>}
                <Table name={`apart_${role}`} caption={`Features that set ${role} apart`} quiet rows={rows} limit={15} onRow={(row) => go("features", { feature: row.id })} columns={[
                  { key: "feature", label: "feature", text: true, value: (r) => r.id, show: (r) => <FeatureName id={r.id} features={features} /> },
                  { key: "difference", label: "difference", value: (r) => r.difference, show: (r) => (isNaN(r.error) ? signed(r.difference) : <WithInterval value={r.difference} low={r.difference - 1.96 * r.error} high={r.difference + 1.96 * r.error} />) },
                  { key: "mine", label: "here", value: (r) => r.mine }, { key: "theirs", label: "there", value: (r) => r.theirs },
                  { key: "z", label: "z", title: "difference in standard errors", value: (r) => r.z, show: (r) => num(r.z, 2) },
                  { key: "standard_error", label: "standard error", hidden: true, value: (r) => r.error }, { key: "label", label: "label", text: true, hidden: true, value: (r) => labelOf(features, r.id) },
                ]} />
              </>
            ) : <Waiting what="role profiles" error={profiles.error} />}
          </Section>
          <Section title="Nearest roles" note="Cosine of role vectors minus the mean role.">
            <Table name={`nearest_${role}`} caption={`Roles nearest to ${role}`} quiet rows={nearest} limit={6} onRow={(row) => update({ role: row.name })} columns={[
              { key: "role", label: "role", text: true, value: (r) => r.name },
              { key: "cosine", label: "cosine", value: (r) => r.cosine },
              { key: "on_axis", label: "on the axis", value: (r) => r.on as number },
            ]} />
          </Section>
        </div>
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
    <Section title="What it said" note={`${said.shown.length} of ${said.n} responses, evenly over prompts.${Object.entries(said.odd).map(([what, n]) => ` ${count(n)} ${what}.`).join("")}`}>
      {said.shown.map((one, i) => (
        <details key={`${role} ${i}`} open={i < 3}>
          <summary dir="auto"><bdi>{one.question}</bdi></summary>
          {one.system && <p class="soft small" dir="auto">System: {one.system}</p>}
          {one.reasoning && <details><summary class="soft small">Reasoning</summary><p class="answer soft" dir="auto">{one.reasoning}</p></details>}
          <p class="answer" dir="auto">{one.response || <span class="soft">{one.reasoning === null ? "(empty)" : "(no answer: its reasoning never ended)"}</span>}</p>
          {!["stop", "length"].includes(one.ended) && <p class="soft small" dir="auto">Ended with {one.ended}</p>}
        </details>
      ))}
      <p class="tools"><button type="button" aria-label={`Save as CSV: responses of ${role}`} onClick={() => saveCsv(`responses_${role}`, ["prompt_index", "question", "system", "reasoning", "response", "finish_reason"], said.shown.map((one) => [one.prompt_index, one.question, one.system, one.reasoning, one.response, one.ended]))}>CSV</button></p>
    </Section>
  );
}
