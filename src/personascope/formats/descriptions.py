"""The formats of what is known of an SAE's features: descriptions, a row a feature, and texts in which it is active.

A descriptions cache is JSON in one of three layouts; the first is the one written here::

    {"123": {"description": "text" or null, "url": "link" or null}}
    {"123": "text"}
    [{"feature_id": 123, "description": "text" or null, "url": "link" or null}]

``features.parquet``, a row a feature in order (d_sae rows), and ``contexts.parquet``, a row a text, sorted by feature,
quantile (the top first) and rank; the columns are those of `feature_schema` and `context_schema`. Both have a JSON
object under the key ``personascope`` in their metadata (model, SAE, layer convention, how many tokens were read).
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personascope.errors import UserError
from personascope.formats.files import atomic_path, read_json, write_json
from personascope.formats.tables import METADATA_KEY, encode_metadata, list_of, numbers, open_parquet

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

# {feature: {"description": text or None, "url": link or None}}: what `analyze(descriptions=...)` takes.
Descriptions = dict[int, dict[str, str | None]]
FIELDS = ("description", "url")
TOP = 1.0  # the quantile of the largest activations
# Where a feature's description comes from; "local": only its label, made from what it does.
SOURCES = ("local", "neuronpedia", "cache", "llm")


def read_descriptions(path: str | Path) -> Descriptions:
    """A descriptions cache in any of the three layouts; empty text is None. UserError names file and entry."""
    content = read_json(path)
    found: Descriptions = {}
    for where, key, entry in _entries(path, content):
        feature = _feature(where, key)
        if feature in found:
            raise UserError(f"{where}: feature {feature} is there twice; keep one of the two")
        found[feature] = _described(where, entry)
    return found


def described(paths: Sequence[str | Path]) -> Descriptions:
    """What tables and figures are given: the descriptions of a rule's input, of one file or none."""
    return read_descriptions(paths[0]) if paths else {}


def named(features: Sequence[int], known: Mapping[int, Mapping[str, str | None]] | None = None) -> str:
    """Features in a sentence or cell: each by its number, with what it is called where that is known."""
    said = [(feature, (known or {}).get(feature, {}).get("description")) for feature in features]
    return "; ".join(f"{feature} ({text})" if text else str(feature) for feature, text in said)


def _entries(path: str | Path, content: Any) -> Iterable[tuple[str, Any, Any]]:
    """(where, feature, entry) of each entry of a cache."""
    if isinstance(content, dict):
        return [(f"{path}, feature {key}", key, entry) for key, entry in content.items()]
    if not isinstance(content, list):
        raise UserError(f"{path}: expected a JSON object or list of descriptions, found {type(content).__name__}")
    found = []
    for i, entry in enumerate(content):
        where = f"{path}, entry {i}"
        if not isinstance(entry, dict) or "feature_id" not in entry:
            raise UserError(f"{where}: expected an object with feature_id and description")
        found.append((where, entry["feature_id"], entry))
    return found


def _feature(where: str, key: Any) -> int:
    text = str(key)
    if isinstance(key, bool) or not (text.isascii() and text.isdecimal()):
        raise UserError(f"{where}: {key!r} is no feature; it is a number from 0")
    return int(text)


def _described(where: str, entry: Any) -> dict[str, str | None]:
    values = dict.fromkeys(FIELDS) | ({"description": entry} if isinstance(entry, str) else {})
    if isinstance(entry, dict):
        values = {name: entry.get(name) for name in FIELDS}
    elif entry is not None and not isinstance(entry, str):
        raise UserError(f"{where}: expected text, null, or an object with description, found {type(entry).__name__}")
    for name, value in values.items():
        if value is not None and not isinstance(value, str):
            raise UserError(f"{where}: {name} is no text: {value!r}"[:300])
    return {name: (value or "").strip() or None for name, value in values.items()}


def write_descriptions(path: str | Path, descriptions: Mapping[int, Mapping[str, str | None]]) -> None:
    """Write a cache in the first layout, ascending, atomically."""
    write_json(path, {str(key): {name: descriptions[key].get(name) for name in FIELDS} for key in sorted(descriptions)})


def with_descriptions(
    table: "pd.DataFrame",
    descriptions: Mapping[int, Mapping[str, str | None]],
    *,
    feature: str = "feature_idx",
) -> "pd.DataFrame":
    """A table of features with what is known of each: the columns `description` and `url`, None where nothing is.
    feature: the column of features; a missing one, or a negative one, is no feature."""
    import pandas as pd

    known = [descriptions.get(int(key), {}) if key >= 0 else {} for key in numbers(table, feature)]
    filled = {name: pd.Series([entry.get(name) for entry in known], dtype=object, index=table.index) for name in FIELDS}
    return table.assign(**filled)


@cache
def feature_schema() -> "pa.Schema":
    """The columns of features.parquet."""
    import pyarrow as pa

    kinds = {
        "feature": pa.int32(),
        "density": pa.float32(),  # share of the response tokens on which it is active
        "mean_active": pa.float32(),  # mean magnitude over those tokens; 0 where it is never active
        "max": pa.float32(),
        "label": pa.string(),  # short, made by rule; "" where it is never active
        "description": pa.string(),  # from a cache, Neuronpedia or an LLM; "" without one
        "url": pa.string(),
        "source": pa.string(),  # one of SOURCES
        "promoted": list_of(pa.string()),  # tokens that its decoder row makes likelier, the most first
        "suppressed": list_of(pa.string()),
    }
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in kinds.items()])


@cache
def context_schema() -> "pa.Schema":
    """The columns of contexts.parquet."""
    import pyarrow as pa

    kinds = {
        "feature": pa.int32(),
        "quantile": pa.float32(),  # of the peak among the texts in which the feature is active; 1 = the top
        "rank": pa.int16(),  # within the quantile, from 0
        "value": pa.float32(),  # the activation at the peak
        "source": pa.string(),  # "response" | "conversation"
        "name": pa.string(),  # the role or the conversation
        "question": pa.string(),  # what was asked or said before
        "tokens": list_of(pa.string()),  # pieces of text, ready to join
        "values": list_of(pa.float32()),  # the activation on each of them
        "at": pa.int16(),  # index of the peak in tokens
    }
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in kinds.items()])


def write_feature_table(path: str | Path, columns: Mapping[str, Any], metadata: dict[str, Any]) -> None:
    """Write features.parquet atomically; columns: of `feature_schema`, arrays or lists of d_sae values."""
    _write(path, feature_schema(), columns, metadata)


def write_contexts(path: str | Path, columns: Mapping[str, Any], metadata: dict[str, Any]) -> None:
    """Write contexts.parquet atomically; columns: of `context_schema`, arrays or lists, sorted by feature."""
    _write(path, context_schema(), columns, metadata)


def _write(path: str | Path, schema: "pa.Schema", columns: Mapping[str, Any], metadata: dict[str, Any]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    made = []
    for field in schema:
        values = columns[field.name]
        made.append(values.cast(field.type) if isinstance(values, pa.Array) else pa.array(values, field.type))
    described = schema.with_metadata({METADATA_KEY: encode_metadata(metadata)})
    with atomic_path(path) as temporary:
        # Small row groups: who wants the contexts of a few features does not decode all.
        pq.write_table(
            pa.Table.from_arrays(made, schema=described), temporary, compression="zstd", row_group_size=16384
        )


def read_feature_table(path: str | Path) -> "tuple[pd.DataFrame, dict[str, Any]]":
    """(table, metadata) of features.parquet; `promoted` and `suppressed` are arrays of text."""
    return _read(path, feature_schema(), None)


def read_contexts(path: str | Path, features: Sequence[int] | None = None) -> "tuple[pd.DataFrame, dict[str, Any]]":
    """(table, metadata) of contexts.parquet, in its order; features: only these. `tokens` and `values` are arrays."""
    return _read(path, context_schema(), features)


def _read(
    path: str | Path, schema: "pa.Schema", features: Sequence[int] | None
) -> "tuple[pd.DataFrame, dict[str, Any]]":
    import pyarrow as pa
    import pyarrow.parquet as pq

    file, metadata = open_parquet(path)
    if missing := [name for name in schema.names if name not in file.schema_arrow.names]:
        raise UserError(f"{path}: has no column {missing[0]}; is it the right kind of file?")
    chosen = None if features is None else [("feature", "in", [int(feature) for feature in features])]
    try:
        table = pq.read_table(path, columns=schema.names, filters=chosen)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: damaged ({reason}); delete it and run again") from None
    return table.to_pandas(), metadata
