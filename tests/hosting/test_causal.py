"""The causal test from files to files, on a model whose persona has a planted cause."""

import json
from pathlib import Path
from typing import Any

import pytest
from matplotlib.text import Text

from personascope.drift.pages.causal import causal_figure, feature_note, plot_causal
from personascope.formats.causal import read_causal, short
from tests.helpers.planted import ASSISTANT, PERSONA, WIDTH, Planted


@pytest.fixture(scope="module")
def planted(chat_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return Planted(tmp_path_factory.mktemp("planted"), chat_tokenizer)


def test_the_planted_cause_is_supported(planted: Planted) -> None:
    made = planted.test()
    assert made["verdict"] == "supported"
    assert made["notes"][0] == "The axis of the space residual layer 2 is not to be interpreted: AUC 0.7."
    assert {row["feature_idx"]: row["direction"] for row in made["features"]} == {0: "fell", 1: "rose"}
    # Blocks add nothing, so that the mean of the turn before is restored exactly at the later layers.
    direct = {row["arm"]: row["effects"] for row in made["direct"]}
    assert made["layers"]["direct"] == [1, 2] and made["fall"]["layer_2"] == pytest.approx(4, abs=1e-5)
    for name in ("layer_1", "layer_2", "patched_layer_by_construction"):
        assert direct["features"][name]["mean"] == pytest.approx(4, abs=1e-5)
    assert direct["fell"]["layer_1"]["mean"] == pytest.approx(2, abs=1e-5) == direct["rose"]["layer_1"]["mean"]
    assert direct["features"]["log_likelihood"]["mean"] < -1 < 0.1 < direct["features"]["kl"]["mean"]
    effect = made["effects"]["total"]
    assert effect["low"] > 0 and effect["n"] == 16 and made["seeds_needed"]["observed"] == effect["seeds_needed"]
    assert max(map(abs, made["controls"]["matched"]["total"])) < 0.2
    assert made["sae_share"]["share"] == pytest.approx(1, abs=1e-5)


def test_texts_are_paired_by_seed_and_the_patch_makes_them_the_assistants(planted: Planted) -> None:
    made = planted.test()
    rows = [json.loads(line) for line in (planted.folder / "samples.jsonl").read_text().splitlines()]
    arms = {arm: [row for row in rows if row["arm"] == arm and row["draw"] == 0] for arm in ("none", "features")}
    assert [row["seed"] for row in arms["none"]] == [row["seed"] for row in arms["features"]]
    assert all(row["question"] == "zyx" and set(row) >= {"response", "finish_reason"} for row in rows)
    plain = "".join(row["response"] for row in arms["none"])
    assert set(plain) & set(ASSISTANT) and set(plain) & set(PERSONA)
    patched = "".join(row["response"] for row in arms["features"])
    assert sum(letter in ASSISTANT for letter in patched) > 0.8 * len(patched)
    # The second run of the test took every text from the store.
    assert planted.test() == made


def test_what_is_only_correlated_is_not_supported(chat_tokenizer: Any, tmp_path: Path) -> None:
    made = Planted(tmp_path, chat_tokenizer, dimension=2).test()
    assert made["verdict"] == "not supported" and made["sae_share"]["share"] == pytest.approx(1, abs=1e-5)
    assert {row["feature_idx"] for row in made["features"]} == {4, 5}
    by_arm = {row["arm"]: row["effects"] for row in made["direct"]}
    assert by_arm["features"]["reading"]["mean"] == pytest.approx(0, abs=1e-6)
    # The features of the true cause changed as much, and are found by size alone.
    assert by_arm["largest_change"]["layer_2"]["mean"] == pytest.approx(4, abs=1e-5)


def test_an_sae_that_does_not_see_the_persona_is_too_lossy(chat_tokenizer: Any, tmp_path: Path) -> None:
    made = Planted(tmp_path, chat_tokenizer, dimension=2, seen=range(1, WIDTH)).test(seeds=4)
    assert made["verdict"] == "SAE too lossy" and made["sae_share"]["kept"] == pytest.approx(0, abs=1e-5)


def test_too_few_seeds_are_underpowered_and_say_how_many_it_takes(planted: Planted) -> None:
    made = planted.test(seeds=3)
    assert made["verdict"] == "underpowered"
    assert made["seeds_needed"]["relevant"] > made["seeds_needed"]["used"] == 3


def test_the_figure_and_what_the_summary_repeats(planted: Planted, tmp_path: Path) -> None:
    made = planted.test()
    png, svg = tmp_path / "causal.png", tmp_path / "causal.svg"
    plot_causal(str(planted.folder / "causal.json"), str(png), str(svg))
    assert png.stat().st_size > 10_000 and "<svg" in svg.read_text()
    repeated = short(read_causal(planted.folder / "causal.json"))
    assert repeated["verdict"] == made["verdict"] and "direct" not in repeated


def test_a_judge_is_shown_where_it_is_fit_to(planted: Planted) -> None:
    made = planted.test()
    effects = {row["arm"]: [row["effects"]["reading"]] for row in made["total"] if row["arm"] != "none"}
    judged = {"judge": "big", "worth": "fit to judge", "fit": True, "metrics": {"adherence": {"arms": effects}}}
    shown = causal_figure(made, judged)
    assert [ax.get_xlabel() for ax in shown.axes][3:] == ["adherence to the assistant"]
    # One dot for each effect that was judged.
    assert sum(line.get_marker() in ("D", "o") for line in shown.axes[3].lines) == len(effects)
    unfit = causal_figure(made, judged | {"fit": False, "worth": "not fit to judge (adherence: kappa 0.1 < 0.6)"})
    said = " ".join(text.get_text() for text in unfit.findobj(Text)).replace("\n", " ")
    assert len(unfit.axes) == 3 and "big is not fit to judge (adherence: kappa 0.1 < 0.6)" in said


def test_layers_that_are_not_behind_the_patch_are_refused(planted: Planted) -> None:
    from personascope.errors import UserError

    with pytest.raises(UserError, match=r"drift.causal.read_layers: 0 is not behind the SAE's layer 0"):
        planted.test(read_layers=[0])


def test_without_room_for_an_answer_there_is_no_test(planted: Planted) -> None:
    made = planted.test(max_model_len=20)
    assert made["verdict"] is None and "no room for an answer" in made["reason"]


def test_the_features_that_are_set_back_are_named() -> None:
    content = {"features": [{"feature_idx": i, "contrib": value} for i, value in ((3, -0.1), (8, -0.5), (4, 0.2))]}
    note = feature_note(content, {3: {"description": "poems"}, 9: {"description": "boats"}})
    assert note == "Features set back, the largest parts of the fall first: #8; #3 poems; #4."
    assert feature_note(content, {}) == ""
