"""What an experiment asks for around directions: layers of persona vectors, and decompositions by name."""

from typing import Any

import pytest

from personascope.errors import UserError
from personascope.runs.experiment import Experiment
from tests.helpers.experiments import read


def experiment(**overlay: Any) -> Experiment:
    return read(overlay)


KEPT = {"model": {"id": "org/tiny", "layers": 30}, "extraction": {"residual_layers": [3, 20]}}


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("layers", "expected"), [("all", [3, 20]), ("by_fraction", [20]), ([3], [3]), ([], [])])
def test_layers_of_persona_vectors(layers: Any, expected: list[int]) -> None:
    made = experiment(**KEPT, persona_vectors={"layers": layers})
    assert made.persona_layers == expected
    assert any(file.endswith("vectors.pt") for file in made.persona_vectors) == bool(expected)


@pytest.mark.usefixtures("folder")
def test_a_layer_that_is_not_kept_is_refused_with_its_key() -> None:
    for block in ({"layers": [4]}, {"layers": "by_fraction", "layer_fraction": 0.9}):
        with pytest.raises(UserError, match=r"persona_vectors.layers: .* not among .*residual_layers \[3, 20\]"):
            experiment(**KEPT, persona_vectors=block)


@pytest.mark.usefixtures("folder")
def test_decompositions_have_the_name_of_their_direction() -> None:
    theirs = {"file": "their.pt", "model": "org/tiny", "layer": 3, "layer_convention": "hidden_states"}
    made = experiment(decompose=["axis", "role:pirate", "theirs"], directions={"theirs": theirs})
    assert made.decomposed == {"axis": "axis", "role-pirate": "role:pirate", "theirs": "theirs"}
    assert "<out>/decomposition/<cell>/role-pirate.csv" in made.decompositions
    how = {"vector": None, "model": "org/tiny", "layer": 3, "layer_convention": "hidden_states", "sign": 1}
    assert made.direction_options("theirs") == how and made.direction_options("axis") == {}
    assert made.fit_mb > made.decoder_mb and made.targets_mb > 1000 and made.persona_mb >= 1000


@pytest.mark.usefixtures("folder")
def test_a_direction_that_is_not_there_or_has_the_files_of_another_is_refused() -> None:
    with pytest.raises(UserError, match="config, decompose: no direction 'bard'; there are axis"):
        experiment(decompose=["bard"])
    with pytest.raises(UserError, match="'role-pirate' and 'role:pirate' have the same files"):
        experiment(decompose=["role:pirate", "role-pirate"], directions={"role-pirate": {"file": "x.pt"}})
