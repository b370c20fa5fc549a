// Traits and monitor: how good each trait vector is, what tokens project on directions, what steering along them does.
import { hasPart, partNames } from "../data";
import type { ViewProps } from "../main";
import { update, useAddress } from "../state";
import { Notice, Tabs } from "../ui";
import { Monitor } from "./monitor";
import { Sweeps } from "./steering";
import { AllTraits } from "./traits";

const TABS: [string, string][] = [["traits", "traits"], ["monitor", "monitor"], ["steering", "steering"]];

export function Directions({ core, index }: ViewProps) {
  const state = useAddress(), traces = partNames("traces/");
  const has: Record<string, boolean> = { traits: hasPart("traits"), monitor: traces.length > 0, steering: hasPart("steering") };
  const asked = state.get("tab"), which = asked in has ? asked : TABS.map(([key]) => key).find((key) => has[key]) ?? "traits";
  const lacking = { traits: "traits", monitor: "traces along directions", steering: "steering" }[which]!;
  const why = index.absent.find(({ what }) => what === lacking || (which === "monitor" && what.startsWith("traces/")))?.why;
  return (
    <>
      <div class="bar"><Tabs label="What" value={which} options={TABS} onChange={(value) => update({ tab: value, token: null, turn: null })} /></div>
      {!has[which] ? <><h1 class="sr">Traits and monitor</h1><Notice>There is nothing of {which} on this page{why && <>: <bdi>{why}</bdi></>}.</Notice></>
        : which === "traits" ? <AllTraits /> : which === "monitor" ? <Monitor names={traces} core={core} /> : <Sweeps />}
    </>
  );
}
