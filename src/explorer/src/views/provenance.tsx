// What the results were made with.
import type { ViewProps } from "../main";

const NAMES: Record<string, string> = {
  experiment: "experiment", model: "model", revision: "its revision", weights: "its weights", dtype: "precision", sae_id: "SAE", sae: "its place",
  sae_weights: "its weights", sae_layer: "its layer", d_sae: "features", hook_name: "hook point", layer_convention: "layers",
  template: "chat template", residual_layers: "residual layers kept", token_selection: "tokens", transform: "transform",
  question_mode: "questions", version: "extracted with personascope", explorer_version: "page made with personascope",
};

export function Provenance({ core, index }: ViewProps) {
  const known = Object.entries(NAMES).filter(([key]) => core.provenance[key] !== undefined && core.provenance[key] !== null);
  return (
    <>
      <h2>What the results were made with</h2>
      <dl class="facts">
        {known.map(([key, name]) => {
          const value = core.provenance[key];
          return <><dt>{name}</dt><dd>{Array.isArray(value) ? value.join(", ") : String(value)}</dd></>;
        })}
      </dl>
      {core.provenance.config ? <details><summary class="small">configuration</summary><pre class="config" tabIndex={0}>{yaml(core.provenance.config)}</pre></details> : null}
      <p class="soft small">Bundle version {index.version}, {index.parts.length} parts.</p>
    </>
  );
}

/** A configuration as it would be written by hand. */
function yaml(value: unknown, indent = ""): string {
  if (value === null || typeof value !== "object") return JSON.stringify(value) + "\n";
  if (Array.isArray(value)) return value.every((item) => item === null || typeof item !== "object") ? `[${value.map((item) => JSON.stringify(item)).join(", ")}]\n` : `\n${value.map((item) => `${indent}- ${yaml(item, `${indent}  `).trimStart()}`).join("")}`;
  const rows = Object.entries(value);
  return rows.length ? `${indent ? "\n" : ""}${rows.map(([key, item]) => `${indent}${key}: ${yaml(item, `${indent}  `)}`).join("")}` : "{}\n";
}
