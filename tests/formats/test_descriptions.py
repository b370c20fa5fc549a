"""Descriptions of features: caches in their three layouts, and the two tables."""

import json

import numpy as np
import pandas as pd
import pytest

from personascope.errors import UserError
from personascope.formats import descriptions as module
from personascope.formats.descriptions import (
    read_contexts,
    read_descriptions,
    read_feature_table,
    with_descriptions,
    write_contexts,
    write_descriptions,
    write_feature_table,
)

LAYOUTS = {
    "objects": {"7": {"description": "poems", "url": "https://e.org/7"}, "12": {"description": None, "url": None}},
    "texts": {"7": "poems", "12": ""},
    "list": [{"feature_id": 7, "description": " poems "}, {"feature_id": "12", "description": None, "url": ""}],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_says_the_same(tmp_path, layout):
    file = tmp_path / "cache.json"
    file.write_text(json.dumps(LAYOUTS[layout]))
    found = read_descriptions(file)
    assert {feature: entry["description"] for feature, entry in found.items()} == {7: "poems", 12: None}
    assert found[7]["url"] == ("https://e.org/7" if layout == "objects" else None)


def test_what_is_written_is_read(tmp_path):
    known = {30: {"description": "\u00e9t\u00e9", "url": None}, 4: {"description": None, "url": "https://e.org/4"}}
    write_descriptions(tmp_path / "d.json", known)
    assert read_descriptions(tmp_path / "d.json") == known
    assert list(json.loads((tmp_path / "d.json").read_text())) == ["4", "30"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("12", "expected a JSON object or list"),
        ("[3]", "entry 0: expected an object with feature_id"),
        ('{"x": "a"}', "feature x: 'x' is no feature"),
        ('{"-1": "a"}', "is no feature"),
        ('{"1": 4}', "feature 1: expected text, null"),
        ('{"1": {"description": ["a"]}}', "feature 1: description is no text"),
        ('[{"feature_id": 1}, {"feature_id": "1"}]', "entry 1: feature 1 is there twice"),
        ("{", "not valid JSON"),
    ],
)
def test_a_wrong_cache_is_refused_in_one_line(tmp_path, content, said):
    file = tmp_path / "cache.json"
    file.write_text(content)
    with pytest.raises(UserError) as error:
        read_descriptions(file)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert "cache.json" in str(error.value)


def test_a_table_gets_what_is_known():
    table = pd.DataFrame({"feature_idx": pd.array([7, None, -1, 9], dtype="Int64")}, index=[3, 1, 4, 1])
    told = with_descriptions(table, {7: {"description": "poems", "url": "u"}})
    assert told["description"].tolist() == ["poems", None, None, None]
    assert told["url"].tolist() == ["u", None, None, None]
    assert "description" not in table


def test_tables_come_back(tmp_path):
    columns = {
        "feature": np.arange(3),
        "density": [0.5, 0.0, 0.25],
        "mean_active": [2.0, 0.0, 1.0],
        "max": [3.0, 0.0, 1.5],
        "label": ["a", "", "c"],
        "description": ["", "", "told"],
        "url": ["", "", "u"],
        "source": ["local", "local", "cache"],
        "promoted": [["x", "y"], [], ["z"]],
        "suppressed": [[], [], ["w"]],
    }
    write_feature_table(tmp_path / "f.parquet", columns, {"n_tokens": 4})
    table, metadata = read_feature_table(tmp_path / "f.parquet")
    assert metadata == {"n_tokens": 4}
    assert list(table["promoted"][0]) == ["x", "y"]
    assert table["density"].dtype == np.float32
    contexts = {
        "feature": [0, 2, 2],
        "quantile": [1.0, 1.0, 0.5],
        "rank": [0, 0, 0],
        "value": [3.0, 1.5, 0.7],
        "source": ["response"] * 3,
        "name": ["pirate"] * 3,
        "question": ["why?"] * 3,
        "tokens": [[" Ar", "r"], ["b"], ["c"]],
        "values": [[0.0, 3.0], [1.5], [0.7]],
        "at": [1, 0, 0],
    }
    write_contexts(tmp_path / "c.parquet", contexts, {})
    assert read_contexts(tmp_path / "c.parquet", [2])[0]["value"].tolist() == [1.5, pytest.approx(0.7)]
    assert list(read_contexts(tmp_path / "c.parquet")[0]["tokens"][0]) == [" Ar", "r"]
    with pytest.raises(UserError, match="has no column density"):
        read_feature_table(tmp_path / "c.parquet")
    with pytest.raises(UserError, match="no such file"):
        read_contexts(tmp_path / "absent.parquet")
    assert set(columns["source"]) <= set(module.SOURCES)
