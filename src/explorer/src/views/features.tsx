import type { ViewProps } from "../main";
export function Features(_: ViewProps) { return null; }
