"""The parts of a bundle hold what the results hold, what is missing is named, and texts in a page stay texts."""

import json
import math
import re
import shutil
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from personascope.display.text import visible
from personascope.drift.result_file import load_run
from personascope.explorer import roles, runs
from personascope.explorer.bundle import Bundle, Settings, write_explorer
from personascope.explorer.features import centered_part, context_parts, features_part, rounded
from personascope.explorer.pack import VERSION, decoded, encoded, pack, unpack
from personascope.explorer.page import TEMPLATE
from personascope.explorer.text_runs import TextRuns
from personascope.formats.role_matrix import RoleMatrix, load_role_matrix
from personascope.formats.tables import METADATA_KEY
from tests.helpers.explorer_results import CELL, QUESTIONS, RESPONSES, SCRIPT, SETTINGS, TEXTS, WIDTH, Results

SCHEMA = json.loads((TEMPLATE.parent / "bundle.schema.json").read_text())


def index_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="index">(.*?)</script>', page)
    assert found
    return json.loads(found[1])


def test_arrays_come_back_as_they_were() -> None:
    arrays: dict[str, Any] = {"a": np.arange(5, dtype=np.int16), "b": np.array([[1.5, np.nan]], np.float32)}
    arrays |= {"c": np.arange(3, dtype=np.int64), "none": np.zeros(0)}
    value = {"text": "a\u202eb\ud800", "list": [1, float("nan"), {"deep": np.array([7], np.uint8)}], **arrays}
    back = unpack(decoded(encoded(pack(value))))
    for name, array in arrays.items():
        np.testing.assert_array_equal(back[name], array.ravel())
    assert back["text"] == "a⟨U+202E⟩b\ufffd" and back["list"][:2] == [1, None]
    assert back["list"][2]["deep"].tolist() == [7]
    assert encoded(pack(value)) == encoded(pack(value))


def test_what_gzip_likes_better_comes_back_too() -> None:
    rng = np.random.default_rng(0)
    arrays = {"ascending": np.sort(rng.integers(0, 10**6, 500)).astype(np.int32)}
    arrays |= {
        "few": rng.choice(np.array([7, -3, 70_000], np.int32), 900),
        "half": rng.normal(size=300).astype(np.float16),
    }
    arrays |= {"falling": -np.arange(300, dtype=np.int16), "wide": rng.normal(size=(99, 3))}
    texts = [f"“word {i % 9}”  and\u00a0{i % 7}\n" for i in range(5001)]
    data = pack({**arrays, "texts": [*texts, ""]})
    back = unpack(decoded(encoded(data)))
    for name, array in arrays.items():
        np.testing.assert_array_equal(back[name], array.ravel())
    assert back["texts"] == [*texts, ""]
    assert len(encoded(data)) < len(encoded(pack({**arrays, "texts": "".join(texts)})))


def test_parts_are_text_of_every_length_that_ends_no_element_and_no_string() -> None:
    for size in range(40):
        data = np.random.default_rng(size).bytes(size)
        text = encoded(data)
        assert decoded(text) == data and not set(text) & set('"<\\ \n') and text.isascii()


def test_all_parts_are_there_and_what_is_not_is_named(tmp_path: Path) -> None:
    bundle = Bundle(Results(tmp_path / "small").folder, SETTINGS)
    parts = dict(bundle.parts())
    expected = {"core", "features", "profiles", "centered", "roles", "responses", "where", "traces/talk"}
    expected |= {f"drift/default/{name}" for name in ("talk", "whisper", "broken")}
    assert set(parts) == {*expected, f"contexts/{parts['features']['id'][0]}"}
    missing = {"traits", "steering", "causal"}
    assert {entry["what"] for entry in bundle.absent} == missing


def test_what_another_configuration_has_left_is_not_on_the_page(results: Results) -> None:
    files = [path for path in results.folder.rglob("*.*") if "whisper" not in path.parts]
    parts = dict(Bundle(results.folder, SETTINGS, frozenset(map(str, files))).parts())
    assert "drift/default/talk" in parts and "drift/default/whisper" not in parts
    answers = next(path for path in files if path.parent.name == SETTINGS.model and path.suffix == ".jsonl")
    kept = frozenset(map(str, files)) - {str(answers)}
    responses = dict(Bundle(results.folder, SETTINGS, kept).parts())["responses"]["roles"]
    assert set(parts["responses"]["roles"]) - set(responses) == {answers.stem}


def test_groups_of_roles_are_on_the_page_in_their_order(results: Results, parts: dict[str, Any]) -> None:
    grouped = replace(SETTINGS, groups={"Sea": ("pirate",), "Elsewhere": ()})
    part = dict(Bundle(results.folder, grouped).parts())["roles"]
    assert part["groups"] == [{"label": "Sea", "roles": ["pirate"]}, {"label": "Elsewhere", "roles": []}]
    assert parts["roles"]["groups"] == []


def test_a_run_s_tokens_and_turns_are_the_result_s(results: Results, parts: dict[str, Any]) -> None:
    part, result = parts["drift/default/talk"], load_run(results.run("talk") / "result.npz").result
    assert not isinstance(result, str)
    assert part["turns"]["score"][1] is None
    np.testing.assert_allclose(np.delete(np.array(part["turns"]["score"], float), 1), np.delete(result.score, 1))
    tokens, w = part["tokens"], part["tokens"]["w"]
    sums = np.bincount(tokens["turn"], w, 5)
    for turn in (0, 2, 3, 4):  # the parts of a turn's tokens are its plain projection
        assert sums[turn] == pytest.approx(result.turns.scores["projection"][turn], abs=1e-5)
    for step in part["transitions"]:
        change = tokens["as_turn"][tokens["turn"] == step["turn"]].sum()
        change += tokens["as_prev"][tokens["turn"] == step["prev_turn"]].sum()
        assert change == pytest.approx(step["delta_projection"], abs=1e-5)
        away = step["tables"]["away"]
        (exact,) = (one for one in result.transitions if one.turn == step["turn"])
        np.testing.assert_array_equal(exact.contrib[away["feature"]], away["delta_x"] * away["axis_weight"])
    assert TEXTS[-1] in tokens["text"] and SCRIPT in tokens["text"]


def test_the_features_of_a_token_add_up_to_its_weight(results: Results) -> None:
    """With all kept: independent of the parts' own order and units."""
    part = runs.run_part(results.run("talk"), results.tokens("talk"), WIDTH)
    kept, w = part["features"], part["tokens"]["w"]
    row = np.repeat(np.arange(len(w)), np.diff(kept["offsets"]))
    sums = np.bincount(row, kept["part"].astype(float) * kept["unit"][row], len(w))
    np.testing.assert_allclose(sums, w, atol=2e-3 * kept["unit"].max())
    few = runs.run_part(results.run("talk"), results.tokens("talk"), 2)["features"]
    listed = set(few["kept_all"].tolist())
    for token in range(len(w)):
        own = slice(*few["offsets"][token : token + 2])
        assert sum(feature not in listed for feature in few["feature"][own].tolist()) <= 2


def test_a_conversation_that_failed_says_why(parts: dict[str, Any]) -> None:
    assert parts["drift/default/broken"]["error"] == "the template refused it"


def test_tokens_that_are_gone_leave_the_rest(results: Results, tmp_path: Path) -> None:
    part = runs.run_part(results.run("talk"), tmp_path / "gone.parquet", 3)
    assert part["features"] is None and "gone.parquet" in part["features_reason"] and part["tokens"]["text"]


def test_profiles_are_the_role_matrix_with_errors_over_questions(results: Results, parts: dict[str, Any]) -> None:
    matrix = load_role_matrix(results.folder / "aggregated" / CELL / "mean" / "per_role.npz")
    ids, part = parts["features"]["id"], parts["profiles"]
    np.testing.assert_array_equal(part["mean"].reshape(4, -1), matrix.features[:, ids])
    rows = np.random.default_rng(5)  # the responses as `Results.roles` has drawn them, for the first role
    row = results.features[0]
    drawn = np.maximum(row + rows.normal(size=(RESPONSES, WIDTH)) * 0.1, 0).astype(np.float32) * (row > 0)
    means = drawn.reshape(-1, QUESTIONS, WIDTH).mean(0)
    expected = means.std(0, ddof=1) / np.sqrt(QUESTIONS)
    errors, active = part["error"].reshape(4, -1), matrix.features[:, ids] != 0
    np.testing.assert_allclose(errors[0][active[0]], expected[ids][active[0]], atol=1e-6)
    # Where a role never had a feature, its error is not 0 but what is usual among the roles.
    usual = np.sqrt((np.where(active, errors, 0.0) ** 2).mean(0))
    assert (~active).any()
    np.testing.assert_allclose(errors[~active], np.broadcast_to(usual, errors.shape)[~active], rtol=1e-5)


def test_without_a_map_mu_and_sd_are_those_of_a_selection(tmp_path: Path) -> None:
    values = np.array([[0, 3, 0.5], [0, 1, 8], [0, 0, 2]], np.float32)
    RoleMatrix(values, ["a", "b", "c"], np.full(3, 4)).save(tmp_path / "mean" / "per_role.npz")
    part = features_part(tmp_path / "none.npz", tmp_path, tmp_path / "none", tmp_path / "axis.npz", 10)
    logs = [[math.log1p(value) for value in column] for column in values.T[1:].tolist()]
    assert part["id"].tolist() == [1, 2] and part["preferred_role"].tolist() == [0, 1] and not part["maps"]
    np.testing.assert_allclose(part["mu"], [statistics.fmean(column) for column in logs], rtol=1e-6)
    np.testing.assert_allclose(part["sd"], [statistics.pstdev(column) for column in logs], rtol=1e-6)


def test_the_centered_map_is_told_in_the_features_order(results: Results, parts: dict[str, Any]) -> None:
    ids, part = parts["features"]["id"], parts["centered"]
    with np.load(results.folder / "atlas" / CELL / "centered" / "layout.npz") as layout:
        assert part["missing"].tolist() == [len(ids) - 1] and part["centered"] is True
        np.testing.assert_array_equal(part["score"][:-1], layout["score"])
        np.testing.assert_array_equal(part["maps"]["pca"].reshape(-1, 2)[:-1], layout["pca"])
        own = layout["feature_ids"]
        near = part["neighbors"].reshape(len(ids), -1)[:-1]
        np.testing.assert_array_equal(ids[near], own[layout["neighbors"]])
    shifted = centered_part(results.folder / "atlas" / CELL / "centered" / "layout.npz", ids[2:])
    assert shifted["missing"].tolist() == [len(ids) - 3]
    assert shifted["neighbors"].min() == -1 and shifted["neighbors"].max() < len(ids) - 2


def test_many_features_have_two_digits_and_the_score_follows(
    results: Results, parts: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("personascope.explorer.features.MANY", 10)
    small = dict(Bundle(results.folder, SETTINGS).parts())
    part, exact = small["features"], parts["features"]
    for name in ("stability", "sd", "density", "axis_weight"):
        np.testing.assert_allclose(part[name], exact[name], rtol=2**-7)
    assert "score" not in part and "neighbors" not in part
    placed, own = part["maps"]["umap"].astype(float), exact["maps"]["umap"].reshape(-1, 2)
    spread = np.ptp(own, 0).max()
    np.testing.assert_allclose(placed / 4095 * spread + own.min(0), own, atol=spread / 4095)
    assert [part["promoted"][i] for i in range(len(part["lens"]))] == [exact["promoted"][i] for i in part["lens"]]


def test_rounded_keeps_so_many_binary_digits() -> None:
    values = np.random.default_rng(0).lognormal(0, 2, 1000).astype(np.float32)
    kept = rounded(values, 5)
    np.testing.assert_allclose(kept, values, rtol=2**-6)
    assert not (kept.view(np.uint32) & ((1 << 18) - 1)).any()
    special = np.array([np.inf, -np.inf, 0, -1.5, np.finfo(np.float32).max], np.float32)
    np.testing.assert_array_equal(rounded(special, 5), special)
    assert np.isnan(rounded(np.array([np.nan]), 5))[0]


def test_contexts_keep_their_text_and_mark_where_the_feature_is_active(tmp_path: Path) -> None:
    tokens = [f" t{i}" for i in range(25)]
    tokens[16], tokens[18] = " 😀\u202e", " peak"
    row = {"feature": 4, "quantile": 1.0, "value": 2.0, "name": "pirate", "question": "Who?", "tokens": tokens}
    values = [0.0] * 25
    values[16], values[18] = 0.5, 2.0
    rows = [row | {"rank": r, "source": "response", "values": values, "at": 18} for r in range(9)]
    rows += [row | {"rank": 9, "source": "conversation", "values": [0.0] * 25, "at": 0}]
    pq.write_table(pa.Table.from_pylist(rows).replace_schema_metadata({METADATA_KEY: "{}"}), tmp_path / "c.parquet")
    (name, part), *others = context_parts(tmp_path / "c.parquet", np.array([4]), many=False).items()
    assert name == "contexts/4" and not others and len(part["feature"]) == 6  # five responses and a conversation
    shown = "".join(visible(token) for token in tokens[5:])  # from 13 tokens before the peak on
    units = shown.encode("utf-16-le")
    assert part["text"].startswith(shown) and part["size"][0] == len(units) // 2
    skip, length = part["skip"][:2], part["length"][:2]
    marks = [(skip[0], length[0]), (skip[0] + length[0] + skip[1], length[1])]
    texts = [units[2 * at : 2 * (at + n)].decode("utf-16-le") for at, n in marks]
    assert texts == [" 😀⟨U+202E⟩", " peak"] and part["peak"][0] == 1
    assert part["activation"][:2].tolist() == [0.5, 2.0] and part["active"].tolist() == [2, 2, 2, 2, 2, 1]
    assert part["sources"] == ["response", "conversation"] and part["source"].tolist() == [0, 0, 0, 0, 0, 1]


def test_many_features_keep_the_profiles_that_rank_first(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roles, "EXACT", 10)
    aggregated, features = results.folder / "aggregated" / CELL, results.folder / "features" / CELL
    part = roles.profiles_part(aggregated, features, np.array([4, 7, 9, 11]), np.array([1, 2]))
    assert part["places"].tolist() == [1, 2]
    np.testing.assert_allclose(part["mean"], results.features[:, [7, 9]], rtol=2**-7)


def test_clustered_puts_like_beside_like() -> None:
    angle = np.array([0, 90, 5, 95, 180]) * np.pi / 180
    order = roles.cluster_order(np.cos(angle[:, None] - angle[None]))
    places = {role: place for place, role in enumerate(order)}
    assert abs(places[0] - places[2]) == 1 and abs(places[1] - places[3]) == 1


def test_principal_components_keep_distances_and_turn_the_axis_to_the_right() -> None:
    rng = np.random.default_rng(0)
    vectors, axis = rng.normal(size=(4, 30)).astype(np.float32), rng.normal(size=30)
    found = roles.principal(vectors, list("abcd"), axis / np.linalg.norm(axis))
    placed = found["coordinates"]
    np.testing.assert_allclose(
        np.linalg.norm(placed[:, None] - placed[None], axis=-1),
        np.linalg.norm(vectors[:, None] - vectors[None], axis=-1),
        rtol=1e-5,
        atol=1e-5,
    )
    assert min(found["axis"]) >= 0 and sum(found["shares"]) == pytest.approx(1)


def test_runs_of_text_hold_whole_characters_and_end_with_turns() -> None:
    made = TextRuns.of(["ĠðŁ", "İ", "ĥ", "Ġa", "Ġb"], np.array([0, 0, 0, 0, 1]))
    assert made.texts == [" 🎃", " a", " b"] and made.starts.tolist() == [0, 3, 4]
    np.testing.assert_array_equal(made.sums(np.array([1.0, 2, 3, 4, 5])), [6, 4, 5])


def test_the_page_is_data_and_fits_the_schema(results: Results, tmp_path: Path) -> None:
    settings = replace(SETTINGS, experiment=SCRIPT)
    size = write_explorer(results.folder, tmp_path / "index.html", settings)
    page = (tmp_path / "index.html").read_text()
    assert size == len(page.encode()) and SCRIPT not in page and "<script>window.hacked" not in page
    index = index_of(page)
    jsonschema.validate(index, SCHEMA)
    assert index["version"] == VERSION and index["experiment"] == SCRIPT
    assert len(re.findall(r"'sha256-[\w+/=]+'", page)) == 1 and "connect-src" not in page
    assert not list(tmp_path.glob("data-*.js"))


def test_large_data_lie_beside_the_page_and_leave_with_it(results: Results, tmp_path: Path) -> None:
    page = tmp_path / "index.html"
    write_explorer(results.folder, page, replace(SETTINGS, inline_mb=0.001))
    index = index_of(page.read_text())
    jsonschema.validate(index, SCHEMA)
    beside = {entry["file"] for entry in index["parts"] if "file" in entry}
    assert beside == {path.name for path in tmp_path.glob("data-*.js")} and len(beside) > 4
    write_explorer(results.folder, page, SETTINGS)
    assert not list(tmp_path.glob("data-*.js"))


def test_a_damaged_result_is_left_out_with_its_reason(results: Results, tmp_path: Path) -> None:
    copied = tmp_path / "small"
    shutil.copytree(results.folder, copied)
    (copied / "drift" / CELL / "default" / "whisper" / "result.npz").write_bytes(b"PK")
    shutil.rmtree(copied / "atlas")
    bundle = Bundle(copied, SETTINGS)
    names = [name for name, _ in bundle.parts()]
    assert "drift/default/talk" in names and "drift/default/whisper" not in names
    why = {entry["what"]: entry["why"] for entry in bundle.absent}
    assert "whisper/result.npz" in why["drift/default/whisper"] and "layout.npz" in why["the map of features"]


def test_settings_come_from_a_rule_s_parameters() -> None:
    values = {"experiment": "e", "model": "m", "sae": "s", "mode": "general", "analyses": ["a"], "inline_mb": 1}
    assert Settings.of(values).analyses == ("a",)


def test_names_come_from_a_cache_where_features_are_not_described(results: Results, tmp_path: Path) -> None:
    """In any of its layouts; also of a feature that no role has."""
    cache, ids = tmp_path / "cache.json", np.array([4, 7])
    cache.write_text(json.dumps([{"feature_id": 7, "description": "seven"}, {"feature_id": 50, "description": "far"}]))
    part = features_part(
        results.folder / f"atlas/{CELL}/layout.npz",
        results.folder / f"aggregated/{CELL}",
        tmp_path / "none",
        tmp_path / "none.npz",
        10,
        [str(cache)],
    )
    named = dict(zip(part["id"].tolist(), part["description"], strict=True))
    assert [named[feature] for feature in ids.tolist()] == ["", "seven"]
    known = {*part["id"].tolist(), *part["elsewhere"]["id"].tolist()}
    assert 50 in known and part["elsewhere"]["label"] in ([], ["far"])


def test_features_that_no_role_has_keep_their_names(parts: dict[str, Any]) -> None:
    part = parts["features"]
    assert sorted([*part["id"].tolist(), *part["elsewhere"]["id"].tolist()]) == list(range(WIDTH))
    assert [text.split()[1] for text in part["elsewhere"]["label"]] == [str(i) for i in part["elsewhere"]["id"]]
