"""What an experiment asks for of the map of features, and which drift runs it publishes."""

import re
from functools import cached_property
from pathlib import Path
from typing import Any

from personascope.errors import UserError
from personascope.runs.descriptions import DescriptionFiles

FOLDERS = {"uncentered": "", "centered": "/centered"}  # of a map, below that of the experiment's maps
# Ids of the Gemma Scope SAEs, from which the original explorer makes its labels: layer_40_width_65k_l0_medium,
# layer_20/width_16k/average_l0_71, layer_20/width_16k/canonical.
SCOPE = re.compile(r"layer_(\d+)[/_]width_([^/_]+)[/_](?:average_)?(?:l0_)?([^/]+)$")


class AtlasFiles(DescriptionFiles):
    """The files of the atlas and of published runs, and whether their configuration is right."""

    @cached_property
    def atlas(self) -> list[str]:
        """Bundle, table, layout of all features and figure of each map; UserError with the key that is wrong."""
        block = self.config["atlas"]
        if "centered" in block["maps"] and block["pooling"] != "mean":
            raise UserError(
                "config, atlas.maps: centered needs atlas.pooling: mean, since a maximum has no mean to take off"
            )
        if "centered" in block["maps"] and self.mode != "general":
            raise UserError(
                "config, atlas.maps: centered needs questions that all roles share; question_mode is role_specific"
            )
        files = ("bundle.json", "features.csv", "layout.npz", "atlas.png")
        return [f"<out>/atlas/<cell>{FOLDERS[name]}/{file}" for name in block["maps"] for file in files]

    @property
    def atlas_matrix(self) -> str:
        """The role matrix that the maps are made from."""
        return f"<out>/aggregated/<cell>/{self.config['atlas']['pooling']}/per_role.npz"

    def atlas_dataset(self, matrix: str) -> dict[str, str]:
        """How the bundle names itself and its files; matrix: the role matrix. The folders of a Gemma Scope SAE are
        named as the original explorer reads them, whatever they are called here."""
        block, cell = self.config["atlas"], f"{self.model}_{self.sae}"
        found = SCOPE.search(self.config["sae"]["id"] or "")
        named = cell
        if found:
            # The original's labels end at an underscore.
            named = f"{self.model}_layer_{found[1]}_width_{found[2]}_l0_{found[3].replace('_', '-')}"
        root = Path(matrix).parents[4]
        return {
            "name": f"{self.mode}_{cell}_{block['pooling']}_top{block['top_k']}",
            "aggregated_file": str(root / "aggregated" / self.mode / named / block["pooling"] / "per_role.npz"),
            "features_dir": str(root / "features" / self.mode / named),
        }

    @property
    def layout_params(self) -> dict[str, Any]:
        """What defines a layout, beside what is laid out."""
        block = self.config["atlas"]
        return {"n_neighbors": block["umap_neighbors"], "min_dist": block["umap_min_dist"], "seed": block["seed"]}

    @cached_property
    def layout_minutes(self) -> int:
        """Of one map, with the compilation of UMAP; it grows with the features."""
        return 5 + round(10 * self.d_sae / 65536)

    @cached_property
    def sensitive(self) -> list[str]:
        """The conversations that pages show only when asked for."""
        return self.chosen("drift.sensitive", self.config["drift"]["sensitive"])

    @cached_property
    def published(self) -> list[str]:
        """The manifest of each analysis whose runs are published; UserError with the key that is wrong."""
        names = self.analyses_with("published")
        _ = self.sensitive
        return [f"<out>/runs/{name}/runs_manifest.json" for name in names if self.conversations]

    def published_files(self, *files: str) -> list[str]:
        """Files of the published runs of an analysis, `{analysis}` left open."""
        return [f"<out>/runs/{{analysis}}/runs/{talk}/{file}" for talk in self.conversations for file in files]
