"""The atlas and published runs as configuration describes them: files, names, and what is refused."""

import re
from pathlib import Path
from typing import Any

import pytest

from personascope.errors import UserError
from tests.helpers.experiments import read

BOTH = {"atlas": {"maps": ["uncentered", "centered"]}}


def test_nothing_is_mapped_or_published_unless_asked_for(folder: Path) -> None:
    made = read({})
    assert made.atlas == [] and made.published == []


def test_files(folder: Path) -> None:
    made = read(BOTH | {"drift": {"conversations": ["talks"], "published": "all"}})
    names = ["bundle.json", "features.csv", "layout.npz", "atlas.png"]
    expected = [f"<out>/atlas/<cell>{sub}/{name}" for sub in ("", "/centered") for name in names]
    assert made.atlas == expected and made.atlas_matrix == "<out>/aggregated/<cell>/mean/per_role.npz"
    assert made.published == ["<out>/runs/default/runs_manifest.json"]
    assert made.published_files("summary.json")[0] == "<out>/runs/{analysis}/runs/one/summary.json"


@pytest.mark.parametrize(
    ("sae_id", "read_as"),
    [
        ("layer_40_width_65k_l0_medium", "layer_40_width_65k_l0_medium"),
        ("layer_20/width_16k/average_l0_71", "layer_20_width_16k_l0_71"),
        ("layer_20/width_16k/canonical", "layer_20_width_16k_l0_canonical"),
        ("mlp/layer_9_width_16k_l0_big_affine", "layer_9_width_16k_l0_big-affine"),
    ],
)
def test_gemma_scope_folders_are_named_as_the_original_reads_them(
    folder: Path,
    sae_id: str,
    read_as: str,
) -> None:
    scope = {"sae": {"path": None, "release": "gemma-scope-2-27b-it-res", "id": sae_id}, "model": {"id": "g/gemma"}}
    made = read(BOTH | scope)
    matrix = f"results/main/aggregated/general/gemma_{made.sae}/mean/per_role.npz"
    dataset = made.atlas_dataset(matrix)
    assert dataset["aggregated_file"] == f"results/main/aggregated/general/gemma_{read_as}/mean/per_role.npz"
    assert dataset["features_dir"] == f"results/main/features/general/gemma_{read_as}"
    assert dataset["name"] == f"general_gemma_{made.sae}_mean_top2000"
    # What the original's labels are taken from: nothing but digits, and no underscore in width and l0.
    label = re.search(r"/([^/]+)_(layer_\d+_width_[^/_]+_l0_[^/_]+)(/|$)", dataset["features_dir"])
    assert label and (label[1], label[2]) == ("gemma", read_as)


def test_other_folders_keep_their_names(folder: Path) -> None:
    made = read(BOTH)
    matrix = f"results/main/aggregated/general/{made.model}_{made.sae}/mean/per_role.npz"
    assert made.atlas_dataset(matrix)["aggregated_file"] == matrix


@pytest.mark.parametrize(
    ("overlay", "message"),
    [
        ({"atlas": {"maps": ["centered"], "pooling": "max"}}, r"atlas\.maps: centered needs atlas\.pooling: mean"),
        (
            BOTH | {"roles": {"select": ["pirate"]}, "generation": {"question_mode": "role_specific"}},
            r"atlas\.maps: centered needs questions",
        ),
        ({"atlas": {"maps": ["both"]}}, r"atlas\.maps\.0"),
        ({"atlas": {"top_k": 0}}, r"atlas\.top_k"),
        ({"drift": {"published": ["nobody"]}}, r"drift\.published: nobody is no analysis"),
        ({"drift": {"sensitive": ["nobody"]}}, r"drift\.sensitive: nobody is no conversation"),
    ],
)
def test_mistakes(folder: Path, overlay: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(overlay)
