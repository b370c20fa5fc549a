"""A whole experiment's results in small, written by the package's own functions, with texts that may break a page."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from personascope.directions.axis import role_space_of
from personascope.drift.conversation import analyze_file, write_run
from personascope.drift.options import DriftOptions
from personascope.drift.summary import read_summaries, summary_table
from personascope.explorer.bundle import Settings
from personascope.formats.features import write_features
from personascope.formats.files import write_json, write_jsonl
from personascope.formats.role_matrix import RoleMatrix
from personascope.formats.tables import METADATA_KEY, save_npz, write_csv, write_table
from personascope.formats.tokens import TokenBlock, token_writer, write_failure
from personascope.formats.traces import Trace, write_trace
from tests.helpers.axis_tables import simulated_tables
from tests.helpers.drift_cases import null_of, random_roles, random_tokens, reference_of, to_activations
from tests.helpers.sparse_rows import to_rows

WIDTH, LENGTHS, RESPONSES, QUESTIONS = 60, [12, 0, 15, 9, 11], 12, 4
CELL = "general/tiny_sae"
SCRIPT = "</script><script>window.hacked = 1</script>"
IMAGE = '<img src="x" onerror="window.hacked = 1">'
TEXTS = [SCRIPT, IMAGE, "evil \u202e order", "שלום עולם", "你好 世界", "😀 👩‍👩‍👧", "x" * 10_000]
SETTINGS = Settings("small", "tiny", "sae", "general", analyses=("default",), sensitive=("whisper",))
NULL = {"alpha": 0.05, "references": {"": 40}, "false_alarms": {"": {"rate": 0.1, "low": 0.02, "high": 0.3, "n": 20}}}
NULL |= {"false_alarms_within": {}, "turns_max": 12, "left_out": [], "reason": None, "conversations": []}


class Results:
    """results/small: four roles, three conversations (one sensitive, one that failed), a map, labels and contexts."""

    many_roles = 4

    def __init__(self, folder: Path, talks: Sequence[str] = ("talk", "whisper"), role: str = "role0") -> None:
        """talks: the conversations' names; role: the first role's."""
        self.folder = folder
        self.features, self.names = random_roles(self.many_roles, WIDTH)
        self.names[0] = role
        self.roles()
        self.axis()
        for seed, name in enumerate(talks):
            self.conversation(name, seed)
        write_failure(self.tokens("broken"), self.metadata("broken", []), "the template refused it")
        self.drift("broken")
        summaries = sorted((folder / "drift" / CELL).glob("*/*/summary.json"))
        (folder / "summary" / CELL).mkdir(parents=True)
        write_table(folder / "summary" / CELL / "drift_summary.parquet", summary_table(read_summaries(summaries)))
        write_json(folder / "null" / CELL / "default.json", NULL)
        self.atlas()
        self.descriptions()
        self.trace()

    def tokens(self, name: str) -> Path:
        return self.folder / "tokens" / "tiny_sae" / f"{name}.parquet"

    def run(self, name: str) -> Path:
        return self.folder / "drift" / CELL / "default" / name

    def metadata(self, name: str, messages: list[dict[str, str]]) -> dict[str, Any]:
        turns = [{"message_index": 2 * t + 1, "special_tokens": False} for t in range(len(messages) // 2)]
        described = {"model": "tiny", "sae_release": None, "sae_id": "sae", "sae_layer": 3, "d_sae": WIDTH}
        conversation = {"name": name, "messages": messages, "metadata": {"title": f"{name} {IMAGE}"}}
        rest = {"residual_layers": [3], "turns": turns, "dropped_messages": 0, "error": None}
        return {**described, **rest, "conversation": conversation}

    def conversation(self, name: str, seed: int) -> None:
        """Its tokens, the texts that want to break a page among them, and its run."""
        dense, turn = random_tokens(LENGTHS, WIDTH, seed)
        rows = to_activations(dense, turn, len(LENGTHS))
        pieces = [*TEXTS, *rows.tokens[len(TEXTS) :]]
        messages = [
            {"role": role, "content": TEXTS[(t + shift) % 6]}
            for t in range(len(LENGTHS))
            for shift, role in enumerate(("user", "assistant"))
        ]
        residuals = np.zeros((len(turn), 1, 8), np.float32)
        activations = (rows.offsets, rows.indices, rows.values)
        block = TokenBlock(rows.position, rows.turn, rows.token_ids, pieces, *activations, residuals)
        with token_writer(self.tokens(name), self.metadata(name, messages), 8) as write:
            write(block)
        self.drift(name)

    def drift(self, name: str) -> None:
        options = DriftOptions()
        roles = role_space_of(self.features, self.names, options.axis)
        reference, null = reference_of(self.features, self.names, options), null_of(options, 20.0, n=20, turns=6)
        case = analyze_file(self.tokens(name), roles, options, reference, null)
        names = {"conversation": "json", "summary": "json", "ui_bundle": "json", "result": "npz"}
        outputs = {kind: str(self.run(name) / f"{kind}.{suffix}") for kind, suffix in names.items()}
        write_run(case, "default", roles, options, outputs)

    def roles(self) -> None:
        rng = np.random.default_rng(5)
        question = np.arange(RESPONSES) % QUESTIONS
        for row, name in zip(self.features, self.names, strict=True):
            mean = np.maximum(row + rng.normal(size=(RESPONSES, WIDTH)) * 0.1, 0).astype(np.float32) * (row > 0)
            rows = to_rows(mean, mean * 2, np.full(RESPONSES, 9, np.int32))
            rows.question_id[:] = question
            metadata = {"model": "tiny", "d_sae": WIDTH, "sae_layer": 3, "layer_convention": "output of block k"}
            write_features(self.folder / "features" / CELL / f"{name}.parquet", [rows], metadata)
            said = [
                {"prompt_index": 0, "question": f"Who? {SCRIPT}", "system_prompt": "Be.", "response": TEXTS[i % 6]}
                for i in range(RESPONSES)
            ]
            write_jsonl(self.folder / "responses" / "general" / "tiny" / f"{name}.jsonl", said)
        matrix = RoleMatrix(self.features, self.names, np.full(len(self.names), RESPONSES))
        matrix.save(self.folder / "aggregated" / CELL / "mean" / "per_role.npz")

    def axis(self) -> None:
        folder = self.folder / "axis" / CELL
        for name, table in simulated_tables(self.names, (3,)).items():
            write_csv(folder / f"{name}.csv", table)
        axis = role_space_of(self.features, self.names, DriftOptions().axis).axis
        save_npz(folder / "axis.npz", diff_sae=axis, role_names=np.array(self.names))

    def atlas(self) -> None:
        """layout.npz of both maps as the atlas writes them; the centered one lacks the last feature."""
        x = np.log1p(self.features)
        ids = np.flatnonzero(x.mean(0) > 0).astype(np.int32)
        for seed, (place, own) in enumerate((("", ids), ("centered", ids[:-1]))):
            rng, n, k = np.random.default_rng(seed), len(own), 5
            flat = {name: rng.random(n).astype(np.float32) for name in ("score", "stability", "sd", "mu")}
            save_npz(
                self.folder / "atlas" / CELL / place / "layout.npz",
                feature_ids=own,
                umap=rng.normal(size=(n, 2)).astype(np.float32),
                pca=rng.normal(size=(n, 2)).astype(np.float32),
                preferred_role=x[:, own].argmax(0).astype(np.int16),
                knn_overlap=np.array(0.4),
                neighbors=rng.integers(0, n, (n, k)).astype(np.int32),
                similarities=rng.random((n, k)).astype(np.float32),
                role_names=np.array(self.names),
                role_similarity=np.eye(len(self.names), dtype=np.float32),
                centered=np.array(place == "centered"),
                **flat,
            )

    def descriptions(self) -> None:
        folder = self.folder / "descriptions" / CELL
        features = [
            {"feature": i, "density": i / WIDTH, "mean_active": 1.5, "max": 3.0, "label": f"label {i} {IMAGE}"}
            | {"description": SCRIPT if i == 7 else "", "url": "javascript:window.hacked=1", "source": "local"}
            | {"promoted": [" ship", SCRIPT], "suppressed": ["sorry"]}
            for i in range(WIDTH)
        ]
        contexts = [
            {"feature": i, "quantile": q, "rank": 0, "value": 2.0, "source": "response", "name": "assistant"}
            | {"question": "Who?", "tokens": [f"word{i}", SCRIPT, " end"], "values": [0.0, 2.0, 0.5], "at": 1}
            for i in range(WIDTH)
            for q in (1.0, 0.5)
        ]
        for name, rows in (("features", features), ("contexts", contexts)):
            table = pa.Table.from_pylist(rows).replace_schema_metadata({METADATA_KEY: json.dumps({})})
            folder.mkdir(parents=True, exist_ok=True)
            pq.write_table(table, folder / f"{name}.parquet")

    def trace(self) -> None:
        folder, n = self.folder / "traces" / CELL, len(TEXTS)
        folder.mkdir(parents=True)
        index, ones = np.arange(n, dtype=np.int32), np.ones(n, bool)
        roles = ["user" if i % 2 == 0 else "assistant" for i in range(n)]
        values = np.linspace(-2, 2, n, dtype=np.float32)[:, None]
        trace = Trace(["axis@3"], index, roles, index, TEXTS, ones, np.full(n, np.nan, np.float32), values)
        write_trace(folder / "talk.parquet", trace, {"conversation": {"name": "talk", "metadata": {"title": SCRIPT}}})
        scale = {"conversations": 3, "tokens": 50, "columns": {"axis@3": {"mean": 0.5, "sd": 2.0}}, "norms": {}}
        write_json(folder / "scale.json", scale)
