// What the parts of a bundle hold; src/personascope/explorer says how each is made.

export type Num = Float32Array | Float64Array | Int32Array | Int16Array | Uint32Array | Uint16Array | Uint8Array;
export type Row = Record<string, string | number | boolean | null>;

export interface PartEntry { name: string; size: number; id?: string; file?: string }
export interface Index {
  version: number; experiment: string; title: string; made_by: string;
  absent: { what: string; why: string }[]; parts: PartEntry[];
}

export interface Rate { rate: number | null; low: number | null; high: number | null; n: number }
export interface RunRow {
  rank: number; conversation: string; analysis: string; status: string; reason: string; title?: string; sensitive?: boolean;
  n_turns: number; n_tokens: number; score_first: number | null; score_last: number | null; largest_drop: number | null;
  largest_drop_turn: number | null; fall: number | null; p_value: number | null; q_value: number | null;
  alarm_turn: number | null; onset: number | null; confound_verdict: string | null; nearest_role_end: string | null;
  axis_doubt: string | null; flags: string; causal: string | null; causal_reason: string | null;
}
export interface Core {
  provenance: Record<string, unknown>;
  findings: { title: string; lines: string[] }[];
  agreement: Row[]; spectrum: Row[]; runs: RunRow[]; counts: Record<string, number>;
  nulls: Record<string, { alpha: number; references: Record<string, number>; false_alarms: Record<string, Rate>; turns_max: number; reason?: string | null }>;
  scales: Record<string, Record<string, number>>;
}

export type Points = Float32Array | Uint16Array;
/** What a map says of the features. */
export interface Mapped {
  maps: { umap?: Points; pca?: Points }; preferred_role: Int16Array; score?: Float32Array; stability?: Float32Array; sd: Float32Array; mu?: Float32Array | undefined;
  knn_overlap?: number; neighbors?: Int32Array; similarities?: Int16Array; k?: number; centered?: boolean;
}
export interface Features extends Mapped {
  id: Int32Array; roles: string[]; density?: Float32Array; mean_active?: Float32Array; max?: Float32Array; axis_weight?: Float32Array;
  label?: string[]; description?: string[]; url?: string[]; source?: string[]; promoted?: string[][]; suppressed?: string[][];
  /** Places of those whose promoted and suppressed tokens are on the page; all where it is not there. */
  lens?: Int32Array;
  /** What features are called that are not alive in any role. */
  elsewhere?: { id: Int32Array; label: string[] };
}
/** The same features on the centered map; missing: places of those that are not on it. */
export interface Centered extends Mapped { missing: Int32Array }
export interface Profiles {
  names: string[]; n_responses: number[]; error_of: string;
  mean: Float32Array; error: Float32Array | null; places?: Int32Array;
}
/** A piece of a context: a token on which the feature is active, or text on which it is not (value 0). */
export interface Piece { text: string; value: number; peak: boolean }
export interface Context { quantile: number; rank: number; value: number; source: string; name: string; question: string; pieces: Piece[] }
/** Contexts by column; contexts.ts reads them. */
export interface Contexts {
  text: string; feature: Int32Array; quantile: Float32Array; rank: Int16Array; value: Float32Array; size: Int32Array; active: Int16Array; peak: Int16Array;
  sources: string[]; source: Int32Array; names: string[]; name: Int32Array; questions: string[]; question: Int32Array;
  skip: Int32Array; length: Int32Array; activation: Float32Array;
}

export interface Space {
  space: string; roles: string[]; similarity: Float64Array; order: number[]; projections: Row[];
  pca?: { roles: string[]; coordinates: Float64Array; shares: number[]; axis: number[] };
}
export interface RoleGroup { label: string; roles: string[] }
export interface Roles { spaces: Space[]; groups?: RoleGroup[] }
export interface Responses {
  roles: Record<string, { n: number; odd: Record<string, number>; shown: { prompt_index: number; question: string; system: string; response: string; reasoning: string | null; ended: string }[] }>;
}

export interface Message { role: string; content: string | null }
export interface FeatureTable {
  feature: Int32Array; delta_x: Float32Array; axis_weight: Float32Array;
  contrib_low?: Float64Array; contrib_high?: Float64Array; chosen_share?: Float64Array; contrib_held_out?: Float64Array;
}
export interface Transition {
  prev_turn: number; turn: number; delta_score: number; away_mass: number; toward_mass: number; top_away_share: number;
  effect_strength: string; top_away_share_null_median?: number | null; top_away_share_null_high?: number | null;
  top_away_share_p_value?: number | null; tables: Record<string, FeatureTable>;
  /** The features with the largest parts of either sign; for a comparison. */
  largest?: { feature: Int32Array; contrib: Float32Array };
}
export interface Tokens {
  text: string[]; turn: Int32Array; w: Float64Array; as_turn: Float64Array; as_prev: Float64Array; limits: Record<string, number>;
}
export interface TokenFeatures {
  offsets: Int32Array; feature: Uint16Array | Uint32Array; part: Float32Array; unit: Float32Array; kept_all: Int32Array; most: number;
}
export type Turns = Record<string, (number | null | boolean)[]>;
export interface Run {
  analysis: string; conversation: string; messages: Message[]; error: string | null; selected: number | null;
  summary: Record<string, any>; turns: Turns; transitions: Transition[]; tokens: Tokens;
  roles: { names: string[]; cosines: Float32Array; references: { role: string; q25: number; median: number; q75: number }[] };
  confounds: { score_method: string; metric: string; corr: number | null; n: number }[];
  features: TokenFeatures | null; features_reason: string;
}

export interface Trace {
  conversation: string; title: string; sensitive: boolean; error: string | null; columns: string[]; roles: string[]; text: string[];
  message_index: Int32Array; in_content: Uint8Array; surprise: Float32Array; values: Record<string, Float32Array>;
  scale: { conversations: number; tokens: number; columns: Record<string, { mean: number; sd: number }> } | null;
}
export interface Traits { traits: Record<string, { evaluation: Record<string, any>; layers: Row[] }>; compared: Row[] }
export interface Sweep {
  summary: Record<string, any>; table: Row[]; equal_kl: Row[];
  texts: { arm: string; coefficient: number; question: string; response: string }[];
}
export interface Capping { table: Row[]; floors: Record<string, any> }
export interface Steering { sweeps: Record<string, Sweep>; capping?: Record<string, Capping> }
export interface Causal { tests: Record<string, { test: Record<string, any>; samples: Row[] }> }
