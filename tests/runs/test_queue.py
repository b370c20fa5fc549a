"""Jobs left in SLURM's queue: what is said, by SLURM's own programs or where there are none (the rest: tests/slurm)."""

from pathlib import Path

import pytest

from personascope.runs.queue import cancel_leftovers


def test_a_run_without_slurm_asks_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "log").write_text("Building DAG of jobs...\n")
    assert cancel_leftovers([tmp_path / "log", tmp_path / "none"]) == []


def test_where_slurm_does_not_answer_the_command_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "log").write_text("SLURM run ID: 130c4a8b-77\nJob 4 has been submitted\n")
    assert cancel_leftovers([tmp_path / "log"]) == [
        "SLURM does not answer: jobs of this run may go on; `scancel --name=130c4a8b-77` cancels them"
    ]
