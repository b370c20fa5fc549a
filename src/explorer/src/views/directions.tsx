import type { ViewProps } from "../main";
export function Directions(_: ViewProps) { return null; }
