"""A small labeled benchmark on disk, made by the package's own functions: who drifts, and from when on, is known."""

from pathlib import Path
from typing import Any

import numpy as np

from personascope.directions.axis import load_role_space
from personascope.drift.conversation import analyze_file, write_run
from personascope.drift.null import load_null, write_null
from personascope.drift.options import DriftOptions
from personascope.formats.role_matrix import RoleMatrix
from personascope.formats.tokens import TokenBlock, token_writer

NAMES = ["assistant", "default", "demon", "ghost", "pirate"]
WIDTH, TURNS, ONSET, TOKENS = 8, 8, 4, 24
OPTIONS = {"transform": "raw", "alpha": 0.05}


class Benchmark:
    """A folder with a role matrix, 39 reference conversations, their null, and the conversations added to it.

    Feature 0 is the assistant's, feature 1 + i that of persona i. A turn is one of these with noise; a turn `away` from
    the assistant has the demon's feature in its place.
    """

    def __init__(self, folder: Path, analysis: str = "default", references: int = 39, **options: Any) -> None:
        self.folder, self.analysis, self.options = folder, analysis, OPTIONS | options
        self.rng = np.random.default_rng(0)
        self.matrix, self.null = str(folder / "matrix.npz"), str(folder / f"{analysis}.npz")
        features = np.zeros((len(NAMES), WIDTH), np.float32)
        features[:2, 0], features[2, 1], features[3, 2], features[4, 3] = 5, 5, 5, 5
        RoleMatrix(features, NAMES, np.full(len(NAMES), 9)).save(self.matrix)
        self.references = [self.tokens(f"ref{i}", {"domain": "", "script": f"s{i}"}) for i in range(references)]
        report = str(folder / "null.json")
        write_null(self.references, self.matrix, self.chosen, seed=0, null=self.null, report=report)
        self.summaries: list[str] = []
        self.results: list[str] = []

    @property
    def chosen(self) -> DriftOptions:
        return DriftOptions.of(**self.options)

    @property
    def files(self) -> dict[str, list[str]]:
        """What `write_benchmark` takes."""
        made = {"summaries": self.summaries, "results": self.results, "references": self.references}
        return made | {"nulls": [self.null], "matrices": [self.matrix]}

    def tokens(self, name: str, metadata: dict[str, Any], away_from: int | None = None, n_tokens: int = TOKENS) -> str:
        """A tokens file; from turn `away_from` on it is the demon who speaks."""
        turn = np.repeat(np.arange(TURNS, dtype=np.int32), n_tokens)
        dense = np.abs(self.rng.normal(0, 0.3, (len(turn), WIDTH)))
        dense[:, 0] += 5
        if away_from is not None:
            gone = turn >= away_from
            dense[gone, 1] += 5
            dense[gone, 0] -= 5
        n, path = len(turn), str(self.folder / f"{name}.parquet")
        ids = self.rng.integers(0, 5000, n).astype(np.int32)
        offsets, indices = np.arange(n + 1, dtype=np.int64) * WIDTH, np.tile(np.arange(WIDTH, dtype=np.int32), n)
        values, position = dense.ravel().astype(np.float32), np.arange(n, dtype=np.int32)
        block = TokenBlock(position, turn, ids, ["x"] * n, offsets, indices, values, np.zeros((n, 0, 4), np.float32))
        with token_writer(path, self._described(name, metadata), 4) as write:
            write(block)
        return path

    def _described(self, name: str, metadata: dict[str, Any]) -> dict[str, Any]:
        turns = [{"message_index": 2 * t + 1, "special_tokens": False} for t in range(TURNS)]
        messages = [{"role": role, "content": "x"} for _ in range(TURNS) for role in ("user", "assistant")]
        described = {"model": "m", "sae_release": None, "sae_id": "s", "sae_layer": 3, "d_sae": WIDTH}
        conversation = {"name": name, "messages": messages, "metadata": metadata}
        rest = {"residual_layers": [], "turns": turns, "dropped_messages": 0, "error": None}
        return {**described, **rest, "conversation": conversation}

    def add(self, base: str, contrast: str, away_from: int | None = None, **more: Any) -> None:
        """Analyze one conversation of the benchmark."""
        labels = {"base": base, "contrast": contrast, "onset": ONSET, "condition": "plain"}
        self.add_labeled(f"{base}-{contrast}-0", labels, away_from, **more)

    def add_labeled(self, name: str, metadata: dict[str, Any], away_from: int | None = None, **more: Any) -> None:
        """The same with these metadata."""
        tokens = self.tokens(name, metadata, away_from, **more)
        roles, folder = load_role_space(self.matrix, self.chosen.axis), self.folder / self.analysis / name
        folder.mkdir(parents=True)
        kinds = {"conversation": "json", "summary": "json", "ui_bundle": "json", "result": "npz"}
        outputs = {kind: str(folder / f"{kind}.{suffix}") for kind, suffix in kinds.items()}
        case = analyze_file(tokens, roles, self.chosen, null=load_null(self.null))
        write_run(case, self.analysis, roles, self.chosen, outputs)
        self.summaries.append(outputs["summary"])
        self.results.append(outputs["result"])
