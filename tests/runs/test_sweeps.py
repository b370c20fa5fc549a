"""Sweeps and capping as configuration describes them: files, points, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from personascope.errors import UserError
from tests.helpers.experiments import read, write

SWEEP = {"direction": "axis", "coefficients": [-0.5, 0, 0.25], "random": 1}


def sweeps(**block: Any) -> dict[str, Any]:
    return {"steering": {"sweeps": {"s": SWEEP | block}}, "model": {"layers": 30}}


def with_trait() -> dict[str, Any]:
    questions = [f"Question {i}?" for i in range(4)]
    trait = {"instruction": [{"pos": "Be vain.", "neg": "Be modest."}], "questions": questions}
    trait |= {"evaluation_questions": ["Another?", "One more?"], "eval_prompt": "{question} {answer}"}
    write("resources/traits/vanity.json", json.dumps(trait))
    return {"traits": {"select": ["vanity"]}, "judges": {"own": {}}}


def test_points_and_files(folder: Path) -> None:
    made = read(sweeps())
    arms = ["direction", "random0", "orthogonal"]
    points = [("none", "0"), ("prompt", "0"), *((arm, c) for arm in arms for c in ("-0.5", "0.25"))]
    assert made.sweep_points("s") == points
    assert made.sweep_files("s", ".csv")[2] == "<out>/steering/<cell>/s/direction/-0.5.csv"
    assert "<out>/steering/<cell>/s/dose_response.png" in made.steering
    inputs = made.sweep_inputs("s")
    assert inputs["direction_file"] == "<out>/axis/<cell>/axis.npz"
    assert inputs["norms"] == "<out>/steering/<cell>/residual_norms.json"
    assert inputs["prompt_file"] == "resources/roles/pirate.json"  # the first role that is no anchor
    assert made.norms_role == "default" and made.sweep_judge("s") is None
    assert set(made.dose_inputs("s")) == {"measures", "infos"}
    assert "norms" not in read(sweeps(units="raw")).sweep_inputs("s")
    assert read().steering == []


def test_a_sweep_of_a_trait(folder: Path) -> None:
    made = read(sweeps(direction="trait:vanity", trait="vanity"), with_trait())
    inputs = made.sweep_inputs("s")
    assert inputs["direction_file"] == "<out>/traits/<model>/vanity/vectors.safetensors"
    assert inputs["questions_file"] == inputs["prompt_file"] == "resources/traits/vanity.json"
    judged = made.dose_inputs("s")
    assert judged["judgements"][0] == "<out>/judgements/own/steering/<cell>/s/none/0.parquet"
    assert len(judged["judgements"]) == len(judged["measures"]) and judged["worth"].endswith("own/worth.json")


def test_a_direction_of_others_has_no_prompt(folder: Path) -> None:
    other = {"file": "theirs.pt", "model": "tiny", "layer": 3, "layer_convention": "hidden_states"}
    made = read(sweeps(direction="theirs"), {"directions": {"theirs": other}})
    assert made.sweep_prompt_file("s") is None and ("prompt", "0") not in made.sweep_points("s")
    assert made.sweep_options("s")["how"]["layer"] == 3


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ({"direction": "mood"}, ["steering.sweeps.s.direction", "'mood'"]),
        ({"direction": "trait:mood"}, ["steering.sweeps.s.direction", "'trait:mood'"]),
        ({"coefficients": [0.5, float("nan")]}, ["steering.sweeps.s.coefficients", "nan is no number"]),
        ({"coefficients": [float("-inf")]}, ["steering.sweeps.s.coefficients", "-inf is no number"]),
        ({"coefficients": [0]}, ["steering.sweeps.s.coefficients", "only 0"]),
        ({"coefficients": [1.0000001, 1]}, ["steering.sweeps.s.coefficients", "alike"]),
        ({"layers": [30]}, ["steering.sweeps.s.layers", "30; the model has layers 0 to 29"]),
        ({"trait": "mood"}, ["steering.sweeps.s.trait", "'mood'"]),
        ({"questions": 3}, ["steering.sweeps.s.questions", "3 asked for"]),
        ({"positions": "answer"}, ["steering.sweeps.s.positions", "answer"]),
    ],
)
def test_bad_sweeps(folder: Path, block: dict[str, Any], said: list[str]) -> None:
    with pytest.raises(UserError) as error:
        read(sweeps(**block))
    assert all(part in str(error.value) for part in said) and "\n" not in str(error.value)


def test_other_engines_are_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="the backend vllm cannot be steered"):
        read(sweeps(), {"generation": {"backend": "vllm"}})


def capping(**block: Any) -> dict[str, Any]:
    references = {"references": {"samples": 1}}
    asked = {"percentiles": [5, 0.5]} | block
    return {"steering": {"capping": asked}, "drift": references, "extraction": {"residual_layers": [3, 15]}}


def test_capping_files(folder: Path) -> None:
    made = read(capping())
    assert made.capping_points == ["none", "5", "0.5"] and made.capping_layers == [15]
    assert made.capping_files(".csv") == [f"<out>/steering/<cell>/capping/{c}/plain.csv" for c in ("none", "5", "0.5")]
    assert "<out>/steering/<cell>/capping/capping.csv" in made.steering
    assert read(capping(layers=[15, 3])).capping_layers == [3, 15]


def test_bad_capping(folder: Path) -> None:
    for overlay, said in (
        (capping(layers=[7]), "steering.capping.layers: 7 is not among extraction.residual_layers"),
        (capping() | {"extraction": {"residual_layers": []}}, "steering.capping.layers: there is no residual axis"),
        (capping() | {"drift": {}}, "steering.capping: its floor is a percentile of plain conversations"),
    ):
        with pytest.raises(UserError, match=said):
            read(overlay)
