import type { ViewProps } from "../main";
export function Roles(_: ViewProps) { return null; }
