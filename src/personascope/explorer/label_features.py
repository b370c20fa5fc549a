"""What is seen of each feature, without anybody's word for it: how often it is active, on what, what it promotes."""

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np

from personascope.errors import UserError
from personascope.explorer.excerpts import CUT, Excerpt, Vocabulary, excerpts, vocabulary
from personascope.explorer.labels import ROLE, Peak, Usual, label, peak_of
from personascope.explorer.merging import Chosen, Merged, chosen, merged
from personascope.formats.contexts import BINS, Activity, Texts, load_activity
from personascope.formats.descriptions import TOP, read_contexts, write_contexts, write_feature_table
from personascope.formats.features import raise_peaks
from personascope.formats.logit_lens import LogitLens

LABELED_FROM = 0.75  # the quantile from which texts count for a label
SAMPLED = 2  # texts of the sample, for each of the largest, as they were collected
ROLE_TEXTS = 5  # of a role, for its name to stand in a label
USUAL_TEXTS = 20000  # in which words are counted, to know how rare they are
OF_CONVERSATIONS = 3  # texts of conversations that are shown of a feature


def write_local(contexts: Sequence[str], activity: Sequence[str], lens: str, k: int, made: Mapping[str, str]) -> None:
    """Write the `table` of features, with labels made by rule, and their `contexts`, both named in `made`.

    contexts, activity: files of the roles' responses, in one order; k: texts of each feature that were kept.
    Conversations have no part in a label: a new one would change the names in the figures of all others. UserError
    where the files are not of one SAE.
    """
    loaded = [load_activity(path) for path in activity]
    activities, texts, metadata = [one for one, _, _ in loaded], [one for _, one, _ in loaded], loaded[0][2]
    total = reduce(Activity.plus, activities)
    tokens = LogitLens.load(lens)
    if len(tokens.promoted) != len(total.active):
        raise UserError(f"{lens}: {len(tokens.promoted)} features, the contexts have {len(total.active)}; use one SAE")
    collected = merged(contexts, k, SAMPLED * k)
    shown = chosen(collected, total)
    passages = excerpts(collected.take(shown.index), texts, vocabulary(texts))
    columns = _rows(collected, shown, passages, texts, "response")
    write_contexts(made["contexts"], columns, metadata)
    names = _labels(columns, tokens, _main_roles(activities, texts))
    counts = {"n_tokens": total.n_tokens, "n_texts": sum(len(one.names) for one in texts)}
    write_feature_table(made["table"], _feature_columns(total, collected, names), metadata | counts)


def write_all_contexts(responses: str, talk_contexts: Sequence[str], talk_activity: Sequence[str], path: str) -> None:
    """Write contexts.parquet: those of responses and, ranked behind them, those of conversations; the arguments are
    what `write_local` has written of responses, and the files of conversations, [] where there are none."""
    table, metadata = read_contexts(responses)
    columns = {name: _plain(table[name].tolist()) for name in table.columns}
    arrays = {name: np.asarray(columns[name]) for name in ("feature", "quantile", "rank", "value")}
    write_contexts(path, _sorted(columns | arrays, _conversations(talk_contexts, talk_activity)), metadata)


def _plain(values: list[Any]) -> list[Any]:
    """Arrays in cells as lists, which Arrow writes."""
    return [value.tolist() if isinstance(value, np.ndarray) else value for value in values]


def _feature_columns(total: Activity, collected: Merged, names: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """Columns of features.parquet, nothing of them anybody's description; names: label, promoted, suppressed."""
    largest = np.zeros(len(total.active), np.float32)
    raise_peaks(largest, collected.contexts.feature, collected.contexts.value)
    nothing = [""] * len(largest)
    return {
        "feature": np.arange(len(largest)),
        "density": total.active / max(total.n_tokens, 1),
        "mean_active": total.total / np.maximum(total.active, 1),
        "max": largest,
        "description": nothing,
        "url": nothing,
        "source": ["local"] * len(largest),
        **names,
    }


def _rows(
    collected: Merged, shown: Chosen, passages: Sequence[Excerpt], texts: Sequence[Texts], source: str
) -> dict[str, Any]:
    """Columns of contexts.parquet."""
    contexts = collected.contexts.take(shown.index)
    places = list(zip(collected.file[shown.index].tolist(), contexts.row.tolist(), strict=True))
    return {
        "feature": contexts.feature,
        "quantile": shown.level,
        "rank": shown.rank,
        "value": contexts.value,
        "source": [source] * len(contexts),
        "name": [texts[file].names[row] for file, row in places],
        "question": [texts[file].questions[row] for file, row in places],
        "tokens": [passage.tokens for passage in passages],
        "values": [passage.values for passage in passages],
        "at": [passage.at for passage in passages],
    }


def _conversations(contexts: Sequence[str], activity: Sequence[str]) -> dict[str, Any] | None:
    """The same of conversations: only the top; None where there are none."""
    if not contexts:
        return None
    texts = [load_activity(path)[1] for path in activity]
    collected = merged(contexts, OF_CONVERSATIONS, 0)
    n = len(collected.contexts)
    rank = np.arange(n) - np.searchsorted(collected.contexts.feature, collected.contexts.feature)
    shown = Chosen(np.arange(n), np.full(n, TOP, np.float32), rank)
    return _rows(collected, shown, excerpts(collected, texts, vocabulary(texts)), texts, "conversation")


def _sorted(columns: dict[str, Any], more: dict[str, Any] | None) -> dict[str, Any]:
    """Both together by feature and quantile, those of conversations ranked behind those of responses."""
    if more is None:
        return columns
    feature = np.concatenate([columns["feature"], more["feature"]])
    level = np.concatenate([columns["quantile"], more["quantile"]])
    later = np.repeat([0, 1], [len(columns["feature"]), len(more["feature"])])
    rank = np.concatenate([columns["rank"], more["rank"]])
    top = columns["feature"][columns["quantile"] == TOP]
    rank = rank + later * np.bincount(top, minlength=int(feature.max(initial=0)) + 1)[feature]
    order = np.lexsort((rank, -level, feature))
    joined = {name: np.concatenate([np.asarray(columns[name]), np.asarray(more[name])]) for name in ("value",)}
    joined |= {"feature": feature, "quantile": level, "rank": rank}
    arrays = {name: values[order] for name, values in joined.items()}
    listed = {name: [*columns[name], *more[name]] for name in columns if name not in arrays}
    return arrays | {name: [values[i] for i in order.tolist()] for name, values in listed.items()}


def _labels(columns: Mapping[str, Any], lens: LogitLens, roles: Sequence[str]) -> dict[str, list[Any]]:
    """label, promoted and suppressed of all features; columns: of contexts.parquet."""

    def peak(i: int) -> Peak:
        return peak_of(Excerpt(columns["tokens"][i], columns["values"][i], columns["at"][i]))

    # Peaks are made anew for each feature: all of them at once would be gigabytes for a wide SAE.
    step = max(1, len(columns["tokens"]) // USUAL_TEXTS)
    words, usual = Vocabulary(lens.pieces), Usual(peak(i) for i in range(0, len(columns["tokens"]), step))
    ends = np.searchsorted(columns["feature"], np.arange(len(lens.promoted) + 1))
    said = {name: [_texts(words, row) for row in getattr(lens, name).tolist()] for name in ("promoted", "suppressed")}
    labels = []
    for i, role in enumerate(roles):
        own = range(ends[i], ends[i + 1])
        counted = [peak(j) for j in own if columns["quantile"][j] >= LABELED_FROM]
        labels.append(label(counted, said["promoted"][i], usual, role))
    return {"label": labels, **said}


def _texts(words: Vocabulary, tokens: Sequence[int]) -> list[str]:
    """Those that are characters."""
    return [words.text[token] for token in tokens if token in words.text and CUT not in words.text[token]]


def _main_roles(activities: Sequence[Activity], texts: Sequence[Texts]) -> list[str]:
    """The role in which most of a feature's activity is, a token of each role taken alike; "" where there is none, it
    is active in fewer than `ROLE_TEXTS` of the role's texts, or there are fewer than three roles."""
    if len(activities) < 3:
        return [""] * len(activities[0].active)
    seen = np.stack([np.bincount(one.peaks // BINS, one.counts, len(one.active)) for one in activities])
    rates = np.stack([one.total / max(one.n_tokens, 1) for one in activities])
    share = rates / np.maximum(rates.sum(0), 1e-30)
    names = [one.names[0] if one.names else "" for one in texts]
    main = enumerate(share.argmax(0).tolist())
    return [names[i] if share[i, f] >= ROLE and seen[i, f] >= ROLE_TEXTS else "" for f, i in main]
