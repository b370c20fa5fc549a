"""Parts of features: the map of all that are alive, what is known of each, and where each is active."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from personascope.display.text import visible
from personascope.errors import UserError
from personascope.explorer.selection import role_space
from personascope.formats.descriptions import described as read_caches
from personascope.formats.role_matrix import load_role_matrix
from personascope.formats.tables import load_all_npz, open_parquet

DESCRIBED = ("label", "description", "url", "source", "promoted", "suppressed")
MEASURED = ("density", "mean_active", "max")
METRICS = ("score", "stability", "sd", "mu")
SHARD = 1000  # features whose contexts are one part
# Contexts of a feature: the largest in responses and in conversations, and those of each lower quantile.
BEFORE, AFTER = 13, 6  # tokens around the peak
KEPT = {False: (5, 3, 2), True: (3, 1, 1)}
MANY = 20_000  # features from which on numbers have fewer digits, and what can be done without is left out
GRID = 1 << 12  # places in each direction of a map of many features
DIGITS = 6  # binary ones of a measure: two decimal ones
WITHOUT = ("score", "mu", "mean_active", "max", "neighbors", "similarities", "k")  # score is stability * sd


def features_part(
    layout: Path, aggregated: Path, described: Path, axis: Path, most: int, caches: Sequence[str] = ()
) -> dict[str, Any]:
    """A column a key, a value an alive feature. Without a layout: all features with a mean over 0 in the role matrix,
    and no coordinates. described: folder of the descriptions, axis: axis.npz, which may be absent; most: of many
    features, those of the highest scores whose promoted and suppressed tokens are kept; caches: the file of what
    features are called, or none, which says it where the folder is absent."""
    part = _laid_out(layout) if layout.is_file() else _unplaced(aggregated)
    part |= _described(described, part["id"], caches)
    weights = load_all_npz(axis).get("diff_sae") if axis.is_file() else None
    if weights is not None and len(weights) > part["id"].max(initial=-1):
        part["axis_weight"] = weights[part["id"]].astype(np.float32)
    if len(part["id"]) <= MANY:
        return part
    if "promoted" in part:
        places = first(part, most)
        part["lens"] = places.astype(np.int32)
        part |= {name: [part[name][i] for i in places.tolist()] for name in ("promoted", "suppressed")}
    return _smaller(part)


def first(part: dict[str, Any], most: int) -> np.ndarray:
    """Places of the `most` features with the highest scores (without a layout: sd), ascending."""
    score = part.get("score", part.get("stability", 1) * part["sd"])
    return np.sort(np.argsort(-score, kind="stable")[:most])


def centered_part(layout: Path, ids: np.ndarray) -> dict[str, Any]:
    """The centered map of the features `ids` [n], those of `features_part`: its coordinates, scores and neighbors, a
    value a feature; `missing`: places of those that it lacks. Neighbors that are none of `ids` are -1."""
    part = _laid_out(layout)
    own = part.pop("id")
    place = np.full(int(max(own.max(initial=-1), ids.max(initial=-1))) + 1, -1, np.int32)
    place[own] = np.arange(len(own))
    row = place[ids]
    known = row >= 0
    place[:] = -1
    place[ids] = np.arange(len(ids))
    if "neighbors" in part:
        part["neighbors"] = place[own][part["neighbors"]]
    part["maps"] = {name: _spread(xy, row, known) for name, xy in part["maps"].items()}
    spread = (*METRICS, "preferred_role", "neighbors", "similarities")
    part |= {name: _spread(part[name], row, known) for name in spread if name in part and name != "mu"}
    # The mean over roles is 0 here, and the roles are those of the plain map.
    part = {name: value for name, value in part.items() if name not in ("mu", "roles")}
    part["missing"] = np.flatnonzero(~known).astype(np.int32)
    return _smaller(part) if len(ids) > MANY else part


def _spread(values: np.ndarray, row: np.ndarray, known: np.ndarray) -> np.ndarray:
    """values[row] where a feature is known, 0 elsewhere (-1 where these are places or roles)."""
    out = np.full((len(row), *values.shape[1:]), -1 if values.dtype.kind == "i" else 0, values.dtype)
    out[known] = values[row[known]]
    return out


def _smaller(part: dict[str, Any]) -> dict[str, Any]:
    """The same for many features; the page finds neighbors by the profiles that it has."""
    for name, xy in part["maps"].items():
        low, size = xy.min(0), max(float(np.ptp(xy, 0).max()), 1e-12)
        part["maps"][name] = np.rint((xy - low) / size * (GRID - 1)).astype(np.uint16)
    for name in ("stability", "sd", "density", "axis_weight"):
        if name in part:
            part[name] = rounded(part[name], DIGITS)
    left_out = WITHOUT if "stability" in part else WITHOUT[1:]
    return {name: value for name, value in part.items() if name not in left_out}


def rounded(values: np.ndarray, bits: int) -> np.ndarray:
    """float32 with `bits` binary digits behind the first; the others are 0, which gzip makes almost nothing of."""
    low = 23 - bits
    exact = values.astype(np.float32).view(np.uint32).astype(np.int64)
    near = (exact + (1 << low >> 1)) & ~((1 << low) - 1)
    finite = near & 0x7F800000 < 0x7F800000
    return np.where(finite, near, exact).astype(np.uint32).view(np.float32)


def _laid_out(layout: Path) -> dict[str, Any]:
    arrays = load_all_npz(layout)
    part: dict[str, Any] = {"id": arrays["feature_ids"].astype(np.int32), "maps": {}}
    for name in ("umap", "pca"):
        if name in arrays and len(arrays[name]):
            part["maps"][name] = arrays[name].astype(np.float32)
    part |= {name: arrays[name].astype(np.float32) for name in METRICS if name in arrays}
    part["preferred_role"] = arrays["preferred_role"].astype(np.int16)
    part["roles"] = [str(name) for name in arrays["role_names"]]
    if arrays.get("centered", False):
        part["centered"] = True
    if "knn_overlap" in arrays:
        part["knn_overlap"] = float(arrays["knn_overlap"])
    if "neighbors" in arrays:
        part["neighbors"] = arrays["neighbors"].astype(np.int32)
        part["similarities"] = np.rint(arrays["similarities"] * 10_000).astype(np.int16)
        part["k"] = int(arrays["neighbors"].shape[1])
    return part


def _unplaced(aggregated: Path) -> dict[str, Any]:
    """From the role matrix alone: mu and sd over roles of log1p of the means (as the atlas has them)."""
    matrix = load_role_matrix(aggregated / "mean" / "per_role.npz")
    x = role_space(matrix.features, centered=False)
    mu, sd = x.mean(0), x.std(0)
    alive = np.flatnonzero((x != 0).any(0))
    part: dict[str, Any] = {"id": alive.astype(np.int32), "maps": {}, "roles": matrix.role_names}
    part |= {"mu": mu[alive].astype(np.float32), "sd": sd[alive].astype(np.float32)}
    return part | {"preferred_role": x[:, alive].argmax(0).astype(np.int16)}


def _described(folder: Path, ids: np.ndarray, caches: Sequence[str]) -> dict[str, Any]:
    """Labels, descriptions, links, densities and logit lens of the features `ids`, and the names of all others that
    have one: a conversation may have features that no role has. Without a table, what descriptions caches say."""
    if (table := folder / "features.parquet").is_file():
        columns = open_parquet(table)[0].read()
        place = {feature: row for row, feature in enumerate(columns.column("feature").to_pylist())}
        if lacking := [feature for feature in ids.tolist() if feature not in place]:
            raise UserError(f"{table}: lacks {len(lacking)} of the features of the map; make it again")
        own = columns.take([place[feature] for feature in ids.tolist()])
        names = set(columns.column_names)
        texts = {name: own.column(name).to_pylist() for name in DESCRIBED if name in names}
        numbers = {name: np.asarray(own.column(name), np.float32) for name in MEASURED if name in names}
        rows = columns.select([name for name in ("feature", "label", "description") if name in names]).to_pylist()
        said = {row["feature"]: row.get("description") or row.get("label") or "" for row in rows}
        return texts | numbers | _elsewhere(said, ids)
    known = read_caches(caches)
    if not known:
        return {}
    entries = [known.get(feature, {}) for feature in ids.tolist()]
    part = {"description": [entry.get("description") or "" for entry in entries]}
    part |= {"url": [entry.get("url") or "" for entry in entries], "source": ["cache"] * len(entries)}
    return part | _elsewhere({feature: entry.get("description") or "" for feature, entry in known.items()}, ids)


def _elsewhere(said: Mapping[int, str], ids: np.ndarray) -> dict[str, Any]:
    """Names of features that are not among `ids`."""
    others = sorted({feature for feature, text in said.items() if text} - set(ids.tolist()))
    return {"elsewhere": {"id": np.array(others, np.int32), "label": [said[feature] for feature in others]}}


def context_parts(path: Path, ids: np.ndarray, many: bool) -> dict[str, dict[str, Any]]:
    """{part name: contexts of SHARD features, the last of fewer}; ids: the features whose contexts are wanted,
    ascending; many: whether fewer are kept of each. A part is named by its first feature.

    A value a context: feature, quantile, rank, value, at; source, name and question, places in sources, names and
    questions; size, its length in UTF-16 units in `text`, and active, the tokens on which the feature is active. Of
    these, [sum of active], `skip` are the units of text since the one before (or the beginning), `length` their own,
    and `activation` the value; `peak` is the place of the largest among them.
    """
    place = {feature: row for row, feature in enumerate(ids.tolist())}
    top, talks, lower = KEPT[many]
    shards: list[list[dict[str, Any]]] = [[] for _ in range(-(-len(ids) // SHARD))]
    seen: Counter[tuple[int, float, str]] = Counter()
    for batch in open_parquet(path)[0].iter_batches(2048):
        for row in batch.to_pylist():  # by feature, quantile and rank
            if row["feature"] not in place:
                continue
            of = (row["feature"], row["quantile"], row["source"])
            seen[of] += 1
            most = lower if row["quantile"] < 1 else top if row["source"] == "response" else talks
            if seen[of] <= most:
                shards[place[row["feature"]] // SHARD].append(row)
    return {f"contexts/{ids[i * SHARD]}": _contexts(rows) for i, rows in enumerate(shards) if rows}


def _contexts(rows: list[dict[str, Any]]) -> dict[str, Any]:
    windows = [slice(max(0, row["at"] - BEFORE), row["at"] + AFTER + 1) for row in rows]
    tokens = [[visible(token) for token in row["tokens"][near]] for row, near in zip(rows, windows, strict=True)]
    values = [np.asarray(row["values"], np.float32)[near] for row, near in zip(rows, windows, strict=True)]
    part: dict[str, Any] = {"text": "".join(token for own in tokens for token in own)}
    numbers = {"feature": np.int32, "quantile": np.float32, "rank": np.int16, "value": np.float32}
    part |= {name: np.array([row[name] for row in rows], kind) for name, kind in numbers.items()}
    for name in ("source", "name", "question"):
        known = {text: place for place, text in enumerate(dict.fromkeys(row[name] or "" for row in rows))}
        part |= {f"{name}s": list(known), name: np.array([known[row[name] or ""] for row in rows], np.int32)}
    at = [min(row["at"], BEFORE) for row in rows]
    marks = [_marks(*own) for own in zip(tokens, values, at, strict=True)]
    part["size"] = np.array([size for size, _, _ in marks], np.int32)
    part["active"] = np.array([len(skips) for _, skips, _ in marks], np.int16)
    part["peak"] = np.array([peak for _, _, peak in marks], np.int16)
    every = np.array([mark for _, own, _ in marks for mark in own], np.float64).reshape(-1, 3)
    part |= {"skip": every[:, 0].astype(np.int32), "length": every[:, 1].astype(np.int32)}
    return part | {"activation": rounded(every[:, 2], 8)}


def _marks(tokens: list[str], values: np.ndarray, at: int) -> tuple[int, list[tuple[int, int, float]], int]:
    """A context's length; (text since the last, length, value) of each active token and of the one at the peak; which
    of these is that one."""
    ends = np.cumsum([len(token.encode("utf-16-le")) // 2 for token in tokens])
    begins, marks, last, peak = np.append(0, ends), [], 0, 0
    for i in sorted({*np.flatnonzero(values).tolist(), at}):
        peak = len(marks) if i == at else peak
        marks.append((int(begins[i]) - last, int(ends[i] - begins[i]), float(values[i])))
        last = int(ends[i])
    return int(ends[-1]) if len(ends) else 0, marks, peak
