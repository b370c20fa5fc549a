"""The part of traits and steering: what directions are worth, and what adding them did."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from personascope.explorer.roles import table_rows
from personascope.formats.files import iter_jsonl, read_json

SAMPLES = 3  # texts shown of each point of a sweep


def traits_part(evaluations: Sequence[Path], compared: Sequence[Path]) -> dict[str, Any]:
    """{trait: evaluation, layers}, their comparison with axis and roles. evaluations: TRAIT/evaluation.json; compared:
    traits.csv or nothing."""
    traits = {}
    for path in evaluations:
        traits[path.parent.name] = {"evaluation": read_json(path), "layers": table_rows(path.parent / "layers.csv")}
    return {"traits": traits, "compared": [row for path in compared for row in table_rows(path)]}


def steering_part(responses: Sequence[Path], cappings: Sequence[Path]) -> dict[str, Any]:
    """{sweep: dose response, the same compared at equal distance, some texts of each point}, and {sweep: what capping
    did by turn, its floors}. responses: SWEEP/dose_response.csv; cappings: SWEEP/capping.csv."""
    sweeps = {}
    for path in responses:
        sweep, table = path.parent, table_rows(path)
        equal = sweep / "equal_kl.csv"
        sweeps[sweep.name] = {
            "summary": read_json(sweep / "dose_response.json"),
            "table": table,
            "equal_kl": table_rows(equal) if equal.is_file() else [],
            "texts": _texts(sweep, {(row["arm"], float(row["coefficient"])) for row in table}),
        }
    capping = {
        path.parent.name: {"table": table_rows(path), "floors": read_json(path.with_name("floors.json"))}
        for path in cappings
    }
    return {"sweeps": sweeps, "capping": capping}


def _texts(sweep: Path, points: Collection[tuple[str, float]]) -> list[dict[str, Any]]:
    """Some texts of the points (arm, coefficient); others may be left from another configuration."""
    rows = []
    for path in sorted(sweep.glob("*/*.jsonl")):
        if (path.parent.name, float(path.stem)) not in points:
            continue
        for number, row in enumerate(iter_jsonl(path)):
            if number == SAMPLES:
                break
            shown = {"arm": path.parent.name, "coefficient": float(path.stem), "question": row.get("question", "")}
            rows.append(shown | {"response": row.get("response", "")})
    return rows
