import type { ViewProps } from "../main";
export function Compare(_: ViewProps) { return null; }
