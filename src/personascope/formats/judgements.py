"""What a judge says of responses, on disk, and what that judge is worth.

Judgements: Parquet, a row a judged row and metric:

========  =======  ================================================================================
row       int64    index of the row in the judged file, from 0
metric    str      one of `SCALES`
score     float64  the judge's expected value on the metric's scale; NaN where there is none
mass      float64  the probability that the judge gave to numbers of the scale, before normalizing
problem   str      why there is no score, one of `PROBLEMS`; "" where there is one
========  =======  ================================================================================

File metadata: a JSON object under the key ``personascope``: judge, model, backend, and the hash of the prompts.
``worth.json`` holds what a judge is worth on the shipped labeled responses: per metric AUC, kappa and their
intervals, and the verdict that every judged table and figure repeats.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personascope.errors import UserError
from personascope.formats.files import atomic_path, iter_jsonl, read_json
from personascope.formats.tables import METADATA_KEY, encode_metadata, open_parquet

if TYPE_CHECKING:
    import pandas as pd

# The highest number of each metric's scale; the lowest is 0.
SCALES = {"trait": 100, "coherence": 100, "adherence": 3}
# Nothing to judge; the prompt does not fit; too little of the mass is numbers; the judge declines; its words have no
# number of the scale.
PROBLEMS = ("", "empty", "too long", "little mass", "refusal", "parse")
COLUMNS = ("row", "metric", "score", "mass", "problem")
FIT, UNFIT = "fit to judge", "not fit to judge"


def write_judgements(path: str | Path, table: "pd.DataFrame", metadata: dict[str, Any]) -> None:
    """Write judgements with their metadata, atomically."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {"row": pa.int64(), "score": pa.float64(), "mass": pa.float64()}
    schema = pa.schema([pa.field(name, types.get(name, pa.string()), nullable=False) for name in COLUMNS])
    columns = [pa.array(table[name].tolist(), type=schema.field(name).type) for name in COLUMNS]
    described = schema.with_metadata({METADATA_KEY: encode_metadata(metadata)})
    with atomic_path(path) as temporary:
        pq.write_table(pa.Table.from_arrays(columns, schema=described), temporary)


def read_judgements(path: str | Path) -> "tuple[pd.DataFrame, dict[str, Any]]":
    """(judgements, metadata); UserError where the file is absent or holds something else."""
    file, metadata = open_parquet(path)
    if missing := [name for name in COLUMNS if name not in file.schema_arrow.names]:
        raise UserError(f"{path}: has no column {', '.join(missing)}; is it a file of judgements?")
    return file.read(columns=list(COLUMNS)).to_pandas(), metadata


def problem_counts(table: "pd.DataFrame") -> dict[str, int]:
    """{problem: rows} of judgements, those without one as "scored", in the order of `PROBLEMS`; none with 0 rows."""
    counts = Counter(table["problem"].tolist())
    return {name or "scored": counts[name] for name in PROBLEMS if counts[name]}


def read_labeled(path: str | Path) -> list[dict[str, Any]]:
    """The labeled responses (``id, metric, subject, question, answer, label``); UserError names the line."""
    rows = list(iter_jsonl(path))
    if not rows:
        raise UserError(f"{path}: holds no labeled response")
    for number, row in enumerate(rows, start=1):
        where = f"{path}, labeled response {number}"
        if row.get("metric") not in SCALES:
            raise UserError(f'{where}: "metric" is {row.get("metric")!r}, not one of {", ".join(SCALES)}')
        for key in ("subject", "question", "answer"):
            if not isinstance(row.get(key), str):
                raise UserError(f'{where}: "{key}" must be text, found {type(row.get(key)).__name__}')
        label, top = row.get("label"), SCALES[row["metric"]]
        if not isinstance(label, int | float) or not 0 <= label <= top:
            raise UserError(f'{where}: "label" must be a number from 0 to {top}, found {label!r}')
    return rows


def select_labeled(rows: Sequence[dict[str, Any]], select: str | int) -> list[int]:
    """Indices of "all" rows, or of about so many: the same share of each metric and label (at least one), spread over
    the file."""
    if select == "all" or int(select) >= len(rows):
        return list(range(len(rows)))
    strata: dict[tuple[str, float], list[int]] = {}
    for index, row in enumerate(rows):
        strata.setdefault((row["metric"], row["label"]), []).append(index)
    chosen = []
    for members in strata.values():
        n = max(round(int(select) * len(members) / len(rows)), 1)
        chosen += [members[int((i + 0.5) * len(members) / n)] for i in range(n)]
    return sorted(chosen)


def read_worth(path: str | Path) -> dict[str, Any]:
    """A judge's worth.json; UserError where it is none."""
    worth = read_json(path)
    if not isinstance(worth, dict) or worth.get("verdict") not in (FIT, UNFIT) or "metrics" not in worth:
        raise UserError(f"{path}: is no worth.json of a judge; make it again")
    return worth


def verdict(worth: dict[str, Any], metrics: Sequence[str] | None = None) -> str:
    """What a table or figure of these metrics (all where None) says of its judge: "fit to judge", or "not fit to judge
    (trait: AUC 0.55 (at least 0.41) < 0.8)", with what speaks against it."""
    judged = list(worth["metrics"]) if metrics is None else list(metrics)
    reasons = [f"{name}: not measured" for name in judged if name not in worth["metrics"]]
    reasons += [f"{name}: {worth['metrics'][name]['against']}" for name in judged if _against(worth, name)]
    return f"{UNFIT} ({'; '.join(reasons)})" if reasons else FIT


def _against(worth: dict[str, Any], metric: str) -> str:
    return worth["metrics"].get(metric, {}).get("against", "")
