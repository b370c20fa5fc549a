"""Contexts of several files put together, against all of them sorted at once."""

from pathlib import Path

import numpy as np

from personascope.explorer.excerpts import excerpts, vocabulary
from personascope.explorer.merging import LEVELS, NEAR, SHOWN, chosen, merged, quantiles
from personascope.extraction.contexts import SAMPLED, Collector
from personascope.formats.contexts import BEFORE, WIDTH, Texts, save_contexts
from personascope.formats.descriptions import TOP
from tests.extraction.test_contexts import active, dense_texts

K, ROLES = 3, ("demon", "ghost", "pirate")


def role_files(folder: Path, size: int = 40) -> tuple[list[str], list[Collector], list[list[np.ndarray]]]:
    files, collectors, everything = [], [], []
    for seed, role in enumerate(ROLES):
        texts, collector = dense_texts(seed, size), Collector(6, K, role)
        collector.add(range(size), [len(z) for z in texts], active(texts))
        save_contexts(folder / f"{role}.parquet", collector.contexts(), {})
        files.append(str(folder / f"{role}.parquet"))
        collectors.append(collector)
        everything.append(texts)
    return files, collectors, everything


def test_the_best_of_all_files(tmp_path: Path) -> None:
    files, _, texts = role_files(tmp_path)
    found = merged(files, K, SAMPLED * K)
    for feature in range(6):
        peaks = [(z[:, feature].max(), f, i) for f, role in enumerate(texts) for i, z in enumerate(role)]
        wanted = [(f, i) for peak, f, i in sorted(peaks, key=lambda one: -one[0]) if peak > 0][:K]
        own = found.take((found.contexts.feature == feature) & found.contexts.top)
        assert list(zip(own.file.tolist(), own.contexts.row.tolist(), strict=True)) == wanted
        sample = found.take((found.contexts.feature == feature) & ~found.contexts.top)
        assert len(sample.contexts) == min(SAMPLED * K, sum(peak > 0 for peak, *_ in peaks))
    backwards = merged(files[::-1], K, SAMPLED * K)
    np.testing.assert_array_equal(backwards.contexts.value, found.contexts.value)
    np.testing.assert_array_equal(2 - backwards.file, found.file)
    assert len(merged([], K, K).contexts) == 0


def test_a_quantile_is_the_share_of_peaks_below(tmp_path: Path) -> None:
    _, collectors, texts = role_files(tmp_path)
    activity = collectors[0].activity().plus(collectors[1].activity()).plus(collectors[2].activity())
    for feature in range(5):
        peaks = np.array([z[:, feature].max() for role in texts for z in role])
        peaks = np.sort(peaks[peaks > 0])
        got = quantiles(activity, np.full(len(peaks), feature), peaks)
        exact = np.arange(1, len(peaks) + 1) / len(peaks)
        # Off by no more than the share of the peaks that lie in one bin.
        bins = np.diff(np.concatenate([[0], np.flatnonzero(np.diff(np.floor(8 * np.log2(peaks)))) + 1, [len(peaks)]]))
        assert np.abs(got - exact).max() <= (bins.max() + 1) / len(peaks)
        assert (np.diff(got) >= 0).all()


def test_what_is_shown_stands_where_it_says(tmp_path: Path) -> None:
    files, collectors, _ = role_files(tmp_path, 60)
    activity = collectors[0].activity().plus(collectors[1].activity()).plus(collectors[2].activity())
    found = merged(files, K, SAMPLED * K)
    shown = chosen(found, activity)
    feature, value = found.contexts.feature[shown.index], found.contexts.value[shown.index]
    keys = list(zip(feature.tolist(), (-shown.level).tolist(), shown.rank.tolist(), strict=True))
    assert keys == sorted(keys) and len(set(keys)) == len(keys)
    lower = shown.level < TOP
    assert lower.any() and set(shown.level[lower]) <= {np.float32(level) for level in LEVELS}
    stands = quantiles(activity, feature, value)
    assert (np.abs(stands - shown.level)[lower] <= NEAR + 1e-6).all()
    counts = np.unique(np.stack([feature[lower], shown.level[lower]]), axis=1, return_counts=True)[1]
    assert counts.max() <= SHOWN
    texts = list(zip(feature, found.file[shown.index], found.contexts.row[shown.index], strict=True))
    assert len(set(texts)) == len(texts)


def test_excerpts_are_whole_characters(tmp_path: Path) -> None:
    # "\u20ac" is three bytes, spelled here by two tokens; the peak is on the second of them.
    pieces = {0: "\u0120a", 1: "\u00e2\u0124", 2: "\u00ac", 3: "b", 4: "\u010a"}
    texts = [Texts(np.array([3, 3, 3, 0, 1, 2, 3, 4]), np.array([0, 3, 8]), ["x", "x"], ["", ""], pieces)]
    z = np.zeros((5, 6), np.float32)
    z[:, 1] = [0.5, 0.25, 2.0, 0.0, 1.0]
    collector = Collector(6, 1, "x")
    collector.add([1], [5], active([z]))
    save_contexts(tmp_path / "x.parquet", collector.contexts(), {})
    (found, _) = excerpts(merged([str(tmp_path / "x.parquet")], 1, 1), texts, vocabulary(texts))
    assert found.tokens == [" a", "\u20ac", "b", "\n"]
    assert list(found.values) == [0.5, 2.0, 0.0, 1.0]
    assert found.at == 1


def test_a_long_text_is_cut_around_the_peak(tmp_path: Path) -> None:
    n = 60
    pieces = {i: f"\u0120t{i}" for i in range(n)}
    texts = [Texts(np.arange(n), np.array([0, n]), ["x"], [""], pieces)]
    z = np.zeros((n, 6), np.float32)
    z[40, 3] = 1.0
    collector = Collector(6, 1, "x")
    collector.add([0], [n], active([z]))
    save_contexts(tmp_path / "x.parquet", collector.contexts(), {})
    found = excerpts(merged([str(tmp_path / "x.parquet")], 1, 0), texts, vocabulary(texts))[0]
    assert found.tokens[found.at] == " t40" and found.at == BEFORE
    assert len(found.tokens) == WIDTH
