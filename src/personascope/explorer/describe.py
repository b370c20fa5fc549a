"""All that is said of features in one place: labels by rule, and descriptions from a cache, Neuronpedia or an LLM."""

from collections.abc import Mapping

from personascope.errors import UserError
from personascope.formats.descriptions import (
    Descriptions,
    read_descriptions,
    read_feature_table,
    write_descriptions,
    write_feature_table,
)


def write_described(local: str, sources: Mapping[str, str], link: str, table: str, descriptions: str) -> None:
    """Write features.parquet and descriptions.json.

    local: the table of labels; sources: {"cache" | "neuronpedia" | "llm": a descriptions cache}, what comes first is
    believed; link: the start of a feature's page, to which its number is added ("" for none).
    """
    features, metadata = read_feature_table(local)
    known = {source: read_descriptions(path) for source, path in sources.items()}
    for source, path in sources.items():
        check_width(path, known[source], len(features))
    written = {name: features[name].tolist() for name in features.columns}
    for name in ("promoted", "suppressed"):
        written[name] = [list(texts) for texts in written[name]]
    for feature in range(len(features)):
        url = f"{link}{feature}" if link else ""
        for source, entries in known.items():
            entry = entries.get(feature, {})
            url = entry.get("url") or url
            if entry.get("description"):
                written["description"][feature], written["source"][feature] = entry["description"], source
                break
        written["url"][feature] = url
    write_feature_table(table, written, metadata)
    said = zip(written["description"], written["label"], written["url"], strict=True)
    write_descriptions(
        descriptions,
        {i: {"description": text or label or None, "url": url or None} for i, (text, label, url) in enumerate(said)},
    )


def check_width(path: str, descriptions: Descriptions, d_sae: int) -> None:
    """UserError where a cache has features that the SAE lacks."""
    if (largest := max(descriptions, default=0)) >= d_sae:
        raise UserError(f"{path}: feature {largest}, but the SAE has {d_sae}; is it the cache of this SAE?")
