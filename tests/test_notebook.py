"""The notebook in docs: its cells run in order as they stand, and what it shows was made without errors."""

import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "docs/persona_vectors.ipynb"
CELLS = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]


def test_the_notebook_has_been_run_from_top_to_bottom() -> None:
    assert [cell["execution_count"] for cell in CELLS] == list(range(1, len(CELLS) + 1))
    outputs = [output for cell in CELLS for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"]
    assert any("image/png" in output.get("data", {}) for output in outputs), "it shows a picture"
    assert NOTEBOOK.stat().st_size < 150_000


@pytest.mark.model
def test_its_cells_run(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("docs", "results/models"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "resources").symlink_to(ROOT / "resources")
    (tmp_path / "results/models" / model.name).symlink_to(model.resolve())
    monkeypatch.chdir(tmp_path / "docs")
    monkeypatch.setattr(plt, "show", plt.close)
    names: dict[str, Any] = {}
    for cell in CELLS:
        exec(compile("".join(cell["source"]), str(NOTEBOOK), "exec"), names)
    assert names["layer"] == 20 and set(names["vectors"]) == set(names["again"].vectors)
    assert names["cosines"].loc["assistant", "default"] > 0 > names["cosines"].loc["assistant", "ghost"]
