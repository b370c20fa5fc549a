"""Costs from benchmark files, logs and SLURM's accounting."""

from pathlib import Path

import pytest

from personascope.errors import UserError
from personascope.hosting.progress import loads_folder, note_load
from personascope.runs.costs import costs, show, submitted, summed
from personascope.runs.measured import load_seconds

HEADER = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"


def benchmark(path: Path, seconds: float, memory: str, cpu: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{HEADER}{seconds}\t0:00:14\t{memory}\t1\t1\t1\t0\t0\t0.07\t{cpu}\n")


def test_costs_by_rule(tmp_path: Path):
    benchmark(tmp_path / "benchmarks/generate/general/m/pirate.tsv", 14.5, "26.36", "0.19")
    benchmark(tmp_path / "benchmarks/generate/general/m/ghost.tsv", 5.5, "30.0", "NA")
    benchmark(tmp_path / "benchmarks/fetch_model.tsv", 38, "544", "14")
    (tmp_path / "benchmarks/generate/general/m/killed.tsv").write_text("")
    log = tmp_path / "logs/generate/general/m/pirate.log"
    log.parent.mkdir(parents=True)
    log.write_text("05:09:34 pirate: 12/12 responses, 576 tokens in 9.0 s, 64 tokens/s\n")
    result = costs(tmp_path / "benchmarks", tmp_path / "logs", tmp_path / ".snakemake")
    generate = result["rules"]["generate"]
    assert (generate["jobs"], generate["wall_s"], generate["cpu_s"], generate["max_memory_mb"]) == (2, 20.0, 0.19, 30.0)
    assert (generate["tokens"], generate["tokens_a_second"]) == (576, 64.0)
    assert result["rules"]["fetch_model"]["wall_s"] == 38
    text = show(result)
    assert "576" in text and "no SLURM jobs" in text


def test_loads_of_the_model_are_among_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert load_seconds("google/gemma-3-27b-it") is None
    for seconds in (9.0, 3.0, 4.0):
        note_load(loads_folder("main"), "google/gemma-3-27b-it", seconds)
    note_load(loads_folder("demo"), "another", 0.5)
    assert load_seconds("google/gemma-3-27b-it") == 4.0 and load_seconds("another") == 0.5
    found = costs(tmp_path / "benchmarks/main", tmp_path / "logs/main")["rules"]["load_model"]
    assert found["jobs"] == 3 and found["wall_s"] == 16.0 and found["max_memory_mb"] > 10


def test_a_folder_without_benchmarks_is_reported(tmp_path: Path):
    with pytest.raises(UserError, match="after a run"):
        costs(tmp_path / "benchmarks", tmp_path)


def test_without_sacct_one_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    snakemake_log(tmp_path / ".snakemake/log")
    (tmp_path / "benchmarks").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path))
    result = costs(tmp_path / "benchmarks", tmp_path / "logs", tmp_path / ".snakemake")
    assert "sacct is not here" in result["slurm"]["absent"]


def snakemake_log(folder: Path) -> None:
    """As the executor plugin writes it."""
    folder.mkdir(parents=True)
    (folder / "2026-11-22T053127.771351.snakemake.log").write_text(
        "SLURM run ID: 130c4a8b\n"
        "Job d773 has been submitted with SLURM jobid 17 (log: /w/logs/slurm/group_generate/17.log).\n"
        "Job 4 has been submitted with SLURM jobid 18 (log: /w/logs/slurm/rule_aggregate/general_m/18.log).\n"
    )


def test_accounting_is_summed_by_group(tmp_path: Path):
    snakemake_log(tmp_path / "log")
    names, runs = submitted(tmp_path / "log")
    assert names == {"17": "generate", "18": "aggregate"} and runs == {"130c4a8b"}
    lines = [
        "17|130c4a8b|COMPLETED|3600|14400||billing=4,cpu=4,gres/gpu:h100=2,gres/gpu=2,mem=8G,node=1",
        "17.batch|batch|COMPLETED|3600|14400|2048K|cpu=4,mem=8G,node=1",
        "17.0|python3.11|COMPLETED|3600|14400|3.5G|cpu=4,mem=8G,node=1",
        "18|130c4a8b|CANCELLED by 1000|60|60||cpu=1,mem=2G,node=1",
        "18|another-run|COMPLETED|9999|9999||cpu=1,mem=2G,node=1",  # an older job of this number
        "99|130c4a8b|COMPLETED|9999|9999||cpu=1",
    ]
    groups = summed(lines, names, runs)
    generate, aggregate = groups["generate"], groups["aggregate"]
    assert (generate["allocations"], generate["elapsed_s"], generate["gpu_s"], generate["core_s"]) == (
        1,
        3600,
        7200,
        14400,
    )
    assert generate["max_memory_mb"] == pytest.approx(3.5 * 1024**3 / 1e6)
    assert (aggregate["elapsed_s"], aggregate["gpu_s"], aggregate["states"]) == (60, 0, {"CANCELLED": 1})
    text = show({"rules": {}, "slurm": {"groups": groups}})
    assert "60 min" in text and "2 h" in text and "1 cancelled" in text
