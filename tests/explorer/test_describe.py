"""From collected contexts to what features are called: by rule, by a cache, by others, and who is believed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from personascope.errors import UserError
from personascope.explorer.describe import write_described
from personascope.explorer.label_features import write_all_contexts, write_local
from personascope.explorer.relevant import relevant_features
from personascope.extraction.contexts import Collector
from personascope.formats.contexts import Texts, save_activity, save_contexts
from personascope.formats.descriptions import read_contexts, read_descriptions, read_feature_table
from personascope.formats.logit_lens import LogitLens
from personascope.formats.role_matrix import RoleMatrix
from personascope.formats.tables import save_npz
from tests.extraction.test_contexts import active

WORDS = ["the", " old", " sea", " calls", " arrr", " again", " and", " it", " sleeps", "."]
K, D = 4, 6


def write_files(folder: Path) -> dict[str, Any]:
    """Three roles of 12 texts of 10 tokens: feature 1 is on " arrr" of the pirate, feature 2 on all " sea"; a
    conversation has feature 3 on " it"; the others are never active."""
    rng = np.random.default_rng(0)
    files: dict[str, Any] = {"contexts": [], "activity": [], "talk_contexts": [], "talk_activity": []}
    pieces = {i: word.replace(" ", "\u0120") for i, word in enumerate(WORDS)}
    for name in ("demon", "ghost", "pirate", "talk"):
        texts = []
        for _ in range(12):
            z = np.zeros((10, D), np.float32)
            if name == "talk":
                z[7, 3] = 1 + rng.random()
            else:
                z[2, 2] = 1 + rng.random()
                z[4, 1] = 2 + rng.random() if name == "pirate" else 0
            texts.append(z)
        collector = Collector(D, K, name)
        collector.add(range(12), [10] * 12, active(texts))
        paths = folder / f"{name}.contexts.parquet", folder / f"{name}.activity.npz"
        save_contexts(paths[0], collector.contexts(), {})
        ids = np.tile(np.arange(10), 12)
        said = Texts(ids, np.arange(0, 121, 10), [name] * 12, [f"what {i}?" for i in range(12)], pieces)
        save_activity(paths[1], collector.activity(), said, {"sae": "s"})
        kinds = ("talk_contexts", "talk_activity") if name == "talk" else ("contexts", "activity")
        for kind, path in zip(kinds, paths, strict=True):
            files[kind].append(str(path))
    ids = np.tile(np.array([2, 3], np.int32), (D, 1))
    LogitLens(ids, ids[:, ::-1], ids.astype(np.float32), -ids.astype(np.float32), pieces).save(folder / "l.npz", {})
    return files | {"lens": str(folder / "l.npz"), "k": K}


@pytest.fixture
def local(tmp_path: Path) -> Path:
    made = {"table": str(tmp_path / "labels.parquet"), "contexts": str(tmp_path / "responses.parquet")}
    files = write_files(tmp_path)
    talks = {kind: files.pop(kind) for kind in ("talk_contexts", "talk_activity")}
    write_local(**files, made=made)
    write_all_contexts(made["contexts"], **talks, path=str(tmp_path / "contexts.parquet"))
    return tmp_path


def described(folder: Path, sources: dict[str, str], link: str = "") -> dict[int, dict[str, str | None]]:
    files = (str(folder / "features.parquet"), str(folder / "descriptions.json"))
    write_described(str(folder / "labels.parquet"), sources, link, *files)
    return read_descriptions(files[1])


def test_what_was_seen_is_in_the_tables(local: Path) -> None:
    table, metadata = read_feature_table(local / "labels.parquet")
    assert (metadata["n_tokens"], metadata["n_texts"], metadata["sae"]) == (360, 36, "s")
    np.testing.assert_allclose(table["density"], [0, 12 / 360, 36 / 360, 0, 0, 0])
    assert table["label"].tolist() == [
        "",
        "\u201carrr\u201d after \u201ccalls\u201d (pirate)",
        "\u201csea\u201d after \u201cold\u201d",
        "",  # which only a conversation has
        "",
        "",
    ]
    assert list(table["promoted"][0]) == [" sea", " calls"]
    contexts, _ = read_contexts(local / "contexts.parquet", [2, 3])
    top = contexts[contexts["quantile"] == 1]
    assert top["source"].tolist() == ["response"] * K + ["conversation"] * 3
    assert top["rank"].tolist() == [*range(K), *range(3)]
    assert (np.diff(top["value"][:K]) <= 0).all()
    assert {"".join(tokens) for tokens in contexts["tokens"]} == {"".join(WORDS)}
    assert [tokens[at] for tokens, at in zip(contexts["tokens"], contexts["at"], strict=True)] == [
        {2: " sea", 3: " it"}[feature] for feature in contexts["feature"]
    ]
    peaks = zip(contexts["values"], contexts["at"], contexts["value"], strict=True)
    assert all(values[at] == value for values, at, value in peaks)


def test_who_is_believed(local: Path) -> None:
    (local / "cache.json").write_text(
        json.dumps({"2": "the sea", "4": {"description": None, "url": "https://e.org/4"}})
    )
    (local / "llm.json").write_text(json.dumps({"1": "pirates", "2": "water"}))
    sources = {"cache": str(local / "cache.json"), "llm": str(local / "llm.json")}
    said = described(local, sources, "https://neuronpedia.org/m/s/")
    assert [said[i]["description"] for i in range(D)] == [
        None,
        "pirates",
        "the sea",
        None,
        None,
        None,
    ]
    assert (said[4]["url"], said[5]["url"]) == ("https://e.org/4", "https://neuronpedia.org/m/s/5")
    table, _ = read_feature_table(local / "features.parquet")
    assert table["source"].tolist() == ["local", "llm", "cache", "local", "local", "local"]
    assert str(table["label"][1]).startswith("\u201carrr\u201d")


def test_a_cache_of_another_sae_is_refused(local: Path) -> None:
    (local / "cache.json").write_text('{"6": "x"}')
    with pytest.raises(UserError, match="feature 6, but the SAE has 6"):
        described(local, {"cache": str(local / "cache.json")})


def test_a_lens_of_another_sae_is_refused(tmp_path: Path) -> None:
    files = {name: value for name, value in write_files(tmp_path).items() if not name.startswith("talk")}
    ids = np.zeros((3, 1), np.int32)
    LogitLens(ids, ids, ids.astype(np.float32), ids.astype(np.float32), {0: "a"}).save(files["lens"], {})
    with pytest.raises(UserError, match="3 features, the contexts have 6"):
        write_local(**files, made={})


def test_the_features_that_say_most_of_roles_come_first(local: Path) -> None:
    save_npz(local / "axis.npz", diff_sae=np.array([9, 0.1, -0.5, 0.2, 0, 0], np.float32))
    means = np.zeros((3, D), np.float32)
    means[2, 1] = 5.0
    RoleMatrix(means, ["demon", "ghost", "pirate"], np.zeros(3, np.int64)).save(local / "m.npz")
    files = (str(local / "labels.parquet"), str(local / "axis.npz"), str(local / "m.npz"))
    # Feature 0 has the largest weight, but is never active.
    assert relevant_features(*files, 10) == [1, 2]
    assert relevant_features(*files, 1) == [1]
