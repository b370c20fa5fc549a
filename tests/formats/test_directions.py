"""Directions on disk: written and read back; files of others read by what is said of them; all else refused."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from personascope.errors import UserError
from personascope.formats.directions import (
    Directions,
    check_fit,
    load_direction,
    load_directions,
    save_directions,
    save_pt,
)
from personascope.formats.layers import LAYER_CONVENTION
from personascope.formats.role_matrix import RoleMatrix
from personascope.formats.tables import json_array, save_npz

MODEL = {"model": "some/Model-1B", "weights": "sha256:1"}
VALUES = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)  # two vectors, three layers, width four


@pytest.fixture
def two() -> Directions:
    return Directions({"pirate": VALUES[0], "bard": VALUES[1]}, [2, 5, 7], MODEL | {"kind": "persona"})


def test_directions_are_read_back_with_their_metadata(tmp_path: Path, two: Directions) -> None:
    save_directions(tmp_path / "v.safetensors", two)
    again = load_directions(tmp_path / "v.safetensors")
    assert again.layers == [2, 5, 7] and again.metadata["weights"] == "sha256:1"
    assert again.metadata["layer_convention"] == LAYER_CONVENTION and again.metadata["d_model"] == 4
    np.testing.assert_array_equal(again.at("bard", 5), VALUES[1, 1])
    np.testing.assert_allclose(again.unit("bard", 5) * np.linalg.norm(VALUES[1, 1]), VALUES[1, 1], rtol=1e-6)


def test_the_tensors_are_plain_for_other_readers(tmp_path: Path, two: Directions) -> None:
    turned = Directions({"pirate": np.asfortranarray(VALUES[0])}, two.layers, two.metadata)
    save_directions(tmp_path / "all.safetensors", turned)
    np.testing.assert_array_equal(load_file(tmp_path / "all.safetensors")["pirate"], VALUES[0])
    save_directions(tmp_path / "one.safetensors", Directions({"pirate": VALUES[0, :1]}, [2], two.metadata))
    assert load_file(tmp_path / "one.safetensors")["pirate"].shape == (4,)
    assert load_directions(tmp_path / "one.safetensors").vectors["pirate"].shape == (1, 4)
    with safe_open(tmp_path / "one.safetensors", framework="np") as file:
        assert json.loads(file.metadata()["personascope"])["layers"] == [2]


def test_role_vectors_are_read_without_the_mean_role(tmp_path: Path) -> None:
    matrix = RoleMatrix(VALUES, ["bard", "pirate"], np.array([1, 1]))
    matrix.save(tmp_path / "per_role.npz", layers=np.array([2, 5, 7]), metadata=json_array(MODEL))
    found = load_direction("role:pirate", tmp_path / "per_role.npz")
    np.testing.assert_allclose(found.at("role:pirate", 7), (VALUES[1, 2] - VALUES[0, 2]) / 2, rtol=1e-5)


def test_the_axis_is_read_at_each_layer(tmp_path: Path) -> None:
    arrays = {
        f"{method}_residual_layer_{k}": VALUES[i, j]
        for i, method in enumerate(("diff", "pc1"))
        for j, k in enumerate((11, 3, 7))
    }
    save_npz(tmp_path / "axis.npz", diff_sae=np.ones(9), metadata=json_array(MODEL), **arrays)
    found = load_direction("axis", tmp_path / "axis.npz")
    assert list(found.vectors) == ["axis"] and found.layers == [3, 7, 11]
    np.testing.assert_array_equal(found.at("axis", 11), VALUES[0, 0])
    np.testing.assert_array_equal(load_directions(tmp_path / "axis.npz", vector="pc1").at("pc1", 3), VALUES[1, 1])
    check_fit(found, "results/models/Model-1B", 4, 12)


@pytest.mark.parametrize(("convention", "layers"), [("block_output", [0, 1, 2]), ("hidden_states", [0, 1])])
def test_plain_tensors_are_read_by_the_convention_that_is_stated(
    tmp_path: Path, convention: str, layers: list[int]
) -> None:
    torch.save({"evil": torch.from_numpy(VALUES[0]).to(torch.float64)}, tmp_path / "evil.pt")
    how: dict[str, Any] = {"model": "some/Model-1B", "layer_convention": convention}
    found = load_directions(tmp_path / "evil.pt", **how)
    assert found.layers == layers
    np.testing.assert_array_equal(found.vectors["evil"], VALUES[0, -len(layers) :])
    one = load_directions(tmp_path / "evil.pt", layer=2, sign=-1, **how)  # row 2, whatever it is called
    assert one.layers == [layers[-1]]
    np.testing.assert_array_equal(one.vectors["evil"], -VALUES[0, 2:])


def test_a_vector_without_layers_has_the_stated_one(tmp_path: Path) -> None:
    torch.save(torch.from_numpy(VALUES[0, 0]), tmp_path / "evil.pt")
    how: dict[str, Any] = {"model": "m", "layer_convention": "hidden_states"}
    assert load_direction("mine", tmp_path / "evil.pt", layer=3, **how).layers == [2]
    with pytest.raises(UserError, match="state layer"):
        load_directions(tmp_path / "evil.pt", **how)
    with pytest.raises(UserError, match="embeddings"):
        load_directions(tmp_path / "evil.pt", layer=0, **how)


class Harmful:
    """Unpickling it would call a function."""

    def __reduce__(self):
        return Path.touch, (Path("called"),)


def test_a_pickle_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"v": torch.ones(4), "code": Harmful()}, "harmful.pt")
    torch.save({"v": [1.0, 2.0]}, "lists.pt")
    Path("bare.pt").write_bytes(pickle.dumps(Harmful()))
    Path("text.pt").write_text("no tensors")
    for name in ("harmful.pt", "lists.pt", "bare.pt", "text.pt"):
        with pytest.raises(UserError, match="not plain tensors") as caught:
            load_directions(name, model="m", layer=0, layer_convention="block_output")
        assert "\n" not in str(caught.value)
    assert not Path("called").exists()


def test_nothing_is_read_without_metadata(tmp_path: Path) -> None:
    save_file({"v": VALUES[0]}, tmp_path / "theirs.safetensors")
    torch.save(torch.ones(3), tmp_path / "v.pt")
    for name in ("theirs.safetensors", "v.pt"):
        with pytest.raises(UserError, match="no metadata; state model and layer_convention"):
            load_directions(tmp_path / name)
    RoleMatrix(VALUES, ["a", "b"], np.array([1, 1])).save(tmp_path / "per_role.npz", layers=np.array([1, 2, 3]))
    with pytest.raises(UserError, match="of which model"):
        load_directions(tmp_path / "per_role.npz")
    assert load_directions(tmp_path / "per_role.npz", model="m").metadata["model"] == "m"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model": "other/Model-2B"}, "directions of some/Model-1B, not of other/Model-2B"),
        ({"d_model": 5}, "4 dimensions, but d_model"),
        ({"n_layers": 7}, "layer 7: .* has layers 0 to 6"),
        ({"weights": "sha256:2"}, "other weights"),
    ],
)
def test_directions_of_another_model_are_refused(two: Directions, change: dict[str, Any], reason: str) -> None:
    asked = {"model": "some/Model-1B", "d_model": 4, "n_layers": 8, "weights": None} | change
    known = Directions(two.vectors, two.layers, two.metadata | {"layer_convention": LAYER_CONVENTION})
    check_fit(known, "some/Model-1B", 4, 8)
    with pytest.raises(UserError, match=reason):
        check_fit(known, **asked)


def test_another_layer_convention_is_refused(tmp_path: Path, two: Directions) -> None:
    described = MODEL | {"kind": "persona", "layers": [2, 5, 7], "layer_convention": "hidden_states"}
    save_file({"v": VALUES[0]}, tmp_path / "v.safetensors", metadata={"personascope": json.dumps(described)})
    with pytest.raises(UserError, match="layer convention"):
        load_directions(tmp_path / "v.safetensors")
    save_directions(tmp_path / "ours.safetensors", two)
    with pytest.raises(UserError, match="outputs of blocks"):
        load_directions(tmp_path / "ours.safetensors", layer_convention="hidden_states")


def test_what_is_not_there_is_named(tmp_path: Path, two: Directions) -> None:
    save_directions(tmp_path / "v.safetensors", two)
    found = load_directions(tmp_path / "v.safetensors")
    for call, reason in [
        (lambda: found.at("oracle", 2), "no direction 'oracle'; there are bard, pirate"),
        (lambda: found.at("bard", 3), "nothing of layer 3; there are layers 2, 5, 7"),
        (lambda: load_directions(tmp_path / "v.safetensors", vector="oracle"), "no direction 'oracle'"),
        (lambda: load_directions(tmp_path / "v.safetensors", layer=3), "nothing of layer 3"),
        (lambda: load_direction("mine", tmp_path / "v.safetensors"), "say which by directions.mine.vector"),
        (lambda: load_directions(tmp_path / "absent.pt"), "no such file"),
        (lambda: load_directions(Path(__file__)), "directions are read from"),
    ]:
        with pytest.raises(UserError, match=reason):
            call()


def test_a_vector_that_is_no_direction_is_refused(tmp_path: Path, two: Directions) -> None:
    broken = VALUES[0].copy()
    broken[1, 1] = np.nan
    save_directions(tmp_path / "v.safetensors", Directions({"v": broken}, two.layers, two.metadata))
    with pytest.raises(UserError, match="v is not finite"):
        load_directions(tmp_path / "v.safetensors")
    with pytest.raises(UserError, match="zero at layer 2"):
        Directions({"v": 0 * VALUES[0]}, two.layers, two.metadata).unit("v", 2)


def test_the_same_tensors_are_the_same_bytes(tmp_path: Path) -> None:
    made = Directions({"evil": VALUES[0, :1]}, [2], {"model": "m"})
    for name in ("one.pt", "another.pt"):
        save_pt(tmp_path / name, made)
    assert (tmp_path / "one.pt").read_bytes() == (tmp_path / "another.pt").read_bytes()
    kept = torch.load(tmp_path / "one.pt", weights_only=True)
    np.testing.assert_array_equal(kept["evil"].numpy(), VALUES[0, 0])
