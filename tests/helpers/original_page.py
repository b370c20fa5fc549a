"""What the pages of the original explorer read, as facts: each field by its place, and the kinds that it may have.

A page takes a field for what it is here without looking: a number that is null stops it, a text that is none shows
nothing. `[]` stands for the items of a list.
"""

from collections import defaultdict
from typing import Any

NUMBER, TEXT, TRUTH, NULL = "number", "text", "truth", "null"
Kinds = dict[str, set[str]]


def _fields(place: str, kind: set[str], names: str) -> Kinds:
    return {f"{place}.{name}": kind for name in names.split()}


# Shown or followed by the map's page.
BUNDLE: Kinds = {
    **_fields("dataset", {TEXT}, "name aggregated_file features_dir strategy"),
    **_fields("dataset", {NUMBER}, "n_roles sae_dim top_k"),
    **{"dataset.question_centering": {TRUTH}, "dataset.selection.role_matrix_mode": {TEXT}},
    **{"guardrails.note": {TEXT}, "guardrails.knn_overlap_at_k": {NUMBER}, "guardrails.knn_overlap_score": {NUMBER}},
    **{"roles.[]": {TEXT}, "feature_ids.[]": {NUMBER}, "role_similarity.[].[]": {NUMBER}},
    **_fields("coords", {NUMBER}, "umap.[].[] pca.[].[]"),
    **_fields("neighbors", {NUMBER}, "k indices.[].[] similarities.[].[]"),
    **_fields("features.[]", {NUMBER}, "feature_row feature_id preferred_role_idx"),
    **{"features.[].preferred_role": {TEXT}, "features.[].top_roles.[].role": {TEXT}},
    **_fields("features.[].top_roles.[]", {NUMBER}, "role_idx activation share"),
    **_fields("features.[]", {TEXT, NULL}, "description neuronpedia_url"),
}
# Stands beside it in the bundles that the original has published.
BUNDLE_MORE: Kinds = {
    **_fields("dataset", {NUMBER}, "random_seed split_seed umap.n_neighbors umap.min_dist umap.random_state"),
    **_fields("dataset.selection", {NUMBER}, "alive_count pass_basic_count sd_threshold"),
    **_fields("features.[].metrics", {NUMBER}, "score stability sd mu active_frac"),
    **_fields("features.[].metrics", {NUMBER}, "mean_activation max_activation bridge_entropy"),
    **_fields("features.[].metrics", {NUMBER, NULL}, "pref_ratio cv"),
}
MANIFEST: Kinds = {
    "default_run_id": {TEXT},
    **_fields("runs.[]", {TEXT}, "id label conversation_name ui_bundle_url conversation_url summary_url"),
}
CONVERSATION: Kinds = _fields("conversation.[]", {TEXT}, "role content")
_STEP = "prev_turn turn delta_score"
_ENTRY: Kinds = {
    **_fields("", {NUMBER}, "feature_idx delta_x axis_weight contrib share_of_change share_of_away"),
    **_fields("", {TEXT}, "direction axis_side effect role_profile"),
}
UI_BUNDLE: Kinds = {
    "version": {NUMBER},
    **_fields("run_meta", {TEXT}, "model_name sae_id assistant_role score_method conversation_hash"),
    **_fields("q1.turn_scores.[]", {NUMBER}, "assistant_turn score"),
    **_fields("q1.transitions.[]", {NUMBER}, _STEP),
    "q2.top_features_per_direction": {NUMBER},
    **_fields("q2.transitions.[]", {NUMBER}, f"{_STEP} away_mass toward_mass"),
    **{
        f"q2.transitions.[].{side}.[]{field}": kinds
        for side in ("activated", "deactivated")
        for field, kinds in _ENTRY.items()
    },
    **_fields("q3.token_localization.[]", {NUMBER}, "assistant_turn u_k.[] u_k_norm.[]"),
    "q3.token_localization.[].tokens.[]": {TEXT},
}


def kinds_in(value: Any) -> Kinds:
    """{place: kinds found there} of everything in a JSON value that is no object or list."""
    found: Kinds = defaultdict(set)
    if isinstance(value, (dict, list)):
        items = value.items() if isinstance(value, dict) else (("[]", item) for item in value)
        for name, item in items:
            for place, kinds in kinds_in(item).items():
                found[f"{name}.{place}".rstrip(".")] |= kinds
    else:
        kind = {str: TEXT, bool: TRUTH, int: NUMBER, float: NUMBER, type(None): NULL}[type(value)]
        found[""] = {kind}
    return dict(found)


def unlike(value: Any, read: Kinds) -> dict[str, Any]:
    """{place: kinds found there, or None} where a JSON value is not as it is read."""
    found = kinds_in(value)
    return {place: found.get(place) for place, kinds in read.items() if not found.get(place, {""}) <= kinds}
