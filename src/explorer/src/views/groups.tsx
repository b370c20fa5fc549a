// Groups of roles: their colors and order where many roles are shown.
import { useMemo } from "preact/hooks";
import { roleGroup } from "../colors";
import { useScheme } from "../plot";
import { update, useAddress } from "../state";
import type { RoleGroup, Space } from "../types";

const MANY = 20; // roles: of fewer, each has its own name on every chart

export interface Groups {
  labels: string[];
  /** Of a role; the number of labels for a role that is in none. */
  index: (role: string) => number;
  color: (role: string) => string;
  label: (role: string) => string;
  /** The group that was asked for by the address, or -1. */
  chosen: number;
}

/** The groups of the roles of a space; null where these are few, or are not grouped. */
export function useGroups(groups: RoleGroup[] | undefined, space: Space): Groups | null {
  const chosen = useAddress().get("group");
  return useMemo(() => {
    if (!groups?.length || space.roles.length <= MANY) return null;
    const labels = groups.map((one) => one.label), of = new Map(groups.flatMap((one, i) => one.roles.map((role) => [role, i] as const)));
    if (!space.roles.some((role) => of.has(role))) return null;
    const index = (role: string) => of.get(role) ?? labels.length;
    return { labels, index, color: (role) => roleGroup(index(role)), label: (role) => labels[index(role)] ?? "other roles", chosen: labels.indexOf(chosen) };
  }, [groups, space, chosen]);
}

/** Places of the roles in the order of clustering; by group: the groups one after the other, each in that order. */
export function orderOf(space: Space, groups: Groups | null, byGroup: boolean): number[] {
  if (!groups || !byGroup) return space.order;
  const place = new Map(space.order.map((role, i) => [role, groups.index(space.roles[role]!) * space.roles.length + i]));
  return [...space.order].sort((a, b) => place.get(a)! - place.get(b)!);
}

/** What each color is; a click shows that group alone. */
export function GroupLegend({ groups, roles }: { groups: Groups; roles: string[] }) {
  useScheme();
  const counts = new Map<number, number>();
  for (const role of roles) counts.set(groups.index(role), (counts.get(groups.index(role)) ?? 0) + 1);
  return (
    <div class="legend" role="group" aria-label="Groups of roles">
      {groups.labels.map((label, i) => counts.has(i) && (
        <button type="button" class="plain" key={label} aria-pressed={groups.chosen === i} onClick={() => update({ group: groups.chosen === i ? null : label })}>
          <i style={{ background: roleGroup(i) }} />{label} ({counts.get(i)}){groups.chosen === i && " ✕"}
        </button>
      ))}
      {counts.has(groups.labels.length) && <span><i style={{ background: roleGroup(groups.labels.length) }} />other roles ({counts.get(groups.labels.length)})</span>}
    </div>
  );
}
