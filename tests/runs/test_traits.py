"""What an experiment asks for where it has traits, and the one line that says what is wrong with them."""

import json
from pathlib import Path
from typing import Any

import pytest

from personascope.directions.traits.rows import FILTERS, Thresholds
from personascope.errors import UserError
from tests.helpers.experiments import SCHEMA, read, write

GRUMPY = {
    "instruction": [{"pos": "Grumble.", "neg": "Smile."}, {"pos": "Sulk.", "neg": "Sing."}],
    "questions": ["Who?", "What?"],
    "evaluation_questions": ["Where?"],
    "eval_prompt": "{question} {answer}",
}
JUDGE: dict[str, Any] = {"judges": {"mine": {}}}


@pytest.fixture
def traits(folder: Path) -> Path:
    write("resources/traits/grumpy.json", json.dumps(GRUMPY))
    write("resources/traits/unjudged.json", json.dumps(GRUMPY | {"eval_prompt": ""}))
    return folder


def asked(**block: Any) -> dict[str, Any]:
    return {"traits": {"select": ["grumpy"]} | block}


@pytest.mark.parametrize(
    ("block", "judge", "said"),
    [
        ({"select": ["grumpy", "nobody"]}, True, ["traits.select", "nobody", "resources/traits"]),
        ({"folder": "nowhere"}, True, ["nowhere", "no such folder of trait files"]),
        ({"pairs": [0, 5]}, True, ["traits.pairs", "[5]", "grumpy has 2"]),
        ({"questions": 3}, True, ["traits.questions", "3 asked for", "grumpy has 2"]),
        ({"evaluation_questions": 2}, True, ["traits.evaluation_questions", "2 asked for", "grumpy has 1"]),
        ({"judge": "theirs"}, True, ["traits.judge", "theirs", "mine"]),
        ({}, False, ["traits.judge", "name one under `judges`", "traits.filter: none"]),
        ({"judge": "mine", "filter": "none"}, False, ["traits.judge", "judges"]),
        ({"select": ["unjudged"]}, True, ["unjudged.json", "eval_prompt"]),
        ({"filter": "some"}, True, ["traits.filter", "some"]),
    ],
)
def test_one_line_says_what_is_wrong(traits: Path, block: dict[str, Any], judge: bool, said: list[str]) -> None:
    with pytest.raises(UserError) as error:
        read(asked(**block), JUDGE if judge else {})
    assert all(word in str(error.value) for word in said) and "\n" not in str(error.value), error.value


def test_a_malformed_trait_is_refused_before_anything_runs(traits: Path) -> None:
    write("resources/traits/grumpy.json", '{"instruction": [{"pos": "x"}]}')
    with pytest.raises(UserError, match=r"grumpy\.json: instruction 0 needs"):
        read(asked(), JUDGE)


def test_files_of_traits_and_what_they_are_judged_by(traits: Path) -> None:
    experiment = read(asked(), JUDGE)
    out = "<out>/traits/<model>/grumpy"
    assert experiment.trait_vectors == [f"{out}/vectors.safetensors", f"{out}/vectors.pt"]
    assert f"{out}/evaluation.json" in experiment.trait_results
    assert experiment.trait_results[-1] == "<out>/traits/<model>/traits.png"
    assert experiment.trait_judged["worth"] == "<out>/judgements/mine/worth.json"
    alone = read(asked(filter="none"))
    assert alone.trait_judge is None and alone.trait_judged == {}
    assert read(asked(filter="none"), JUDGE).trait_judge == "mine"  # not a filter, but still a score
    assert read(asked(select="all", filter="none")).traits == ["grumpy", "unjudged"]
    assert read({}).traits == [] and read({}).trait_results == []


def test_traits_are_compared_with_an_axis_only_where_there_is_one(traits: Path) -> None:
    kept = {"extraction": {"residual_layers": [1]}}
    assert set(read(asked(), JUDGE, kept).trait_neighbors) == {"axis", "roles"}
    assert read(asked(), JUDGE).trait_neighbors == {}
    assert read(asked(), JUDGE, kept, {"roles": {"select": ["assistant", "default"]}}).trait_neighbors == {}


def test_sizes_grow_with_the_rows(traits: Path) -> None:
    few, many = (read(asked(samples=n), JUDGE) for n in (1, 400))
    assert many.trait_minutes > few.trait_minutes and many.trait_mb > few.trait_mb


def test_the_schema_has_the_same_defaults_and_variants() -> None:
    block = SCHEMA["properties"]["traits"]["properties"]
    assert tuple(block["filter"]["enum"]) == FILTERS
    assert Thresholds() == Thresholds(block["threshold"]["default"], block["coherence"]["default"])
