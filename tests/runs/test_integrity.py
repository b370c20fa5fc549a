"""Outputs that are not what their jobs wrote are found and set aside."""

import os
from pathlib import Path

import pytest

from personascope.runs.integrity import LOCKS, note_outputs, note_times, notes_folder, set_aside_damaged

JOB, NOTES = "logs/main/generate/pirate.log", notes_folder("main")


@pytest.fixture
def output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A noted output of a run that is over."""
    monkeypatch.chdir(tmp_path)
    path = Path("results/main/pirate.jsonl")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"a response\nanother\n")
    note_outputs("main", JOB, [path])
    return path


def later(path: Path) -> None:
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 10**9))


def test_what_a_job_wrote_stays(output: Path) -> None:
    assert set_aside_damaged("main") == []
    assert output.read_bytes() == b"a response\nanother\n"


@pytest.mark.parametrize("now", [b"a response\nano", b"", b"a response\nanotheR\n"], ids=["cut", "empty", "changed"])
def test_what_it_did_not_write_is_set_aside(output: Path, now: bytes) -> None:
    output.write_bytes(now)
    later(output)
    [said] = set_aside_damaged("main")
    assert said.startswith(f"{output}: not what its job wrote") and not output.exists()
    assert Path(f"{output}.damaged").read_bytes() == now
    assert set_aside_damaged("main") == [], "once"


def test_a_new_time_alone_is_no_damage_and_read_once(output: Path) -> None:
    later(output)
    assert set_aside_damaged("main") == []
    lines = [line for file in NOTES.iterdir() for line in file.read_text().splitlines()]
    assert len(lines) == 2
    assert set_aside_damaged("main") == []
    assert lines == [line for file in NOTES.iterdir() for line in file.read_text().splitlines()]


def test_times_at_the_end_of_a_run_are_believed(output: Path) -> None:
    later(output)
    note_times("main")
    before = [file.read_bytes() for file in NOTES.iterdir()]
    assert set_aside_damaged("main") == []
    assert [file.read_bytes() for file in NOTES.iterdir()] == before, "not read again"
    output.write_bytes(b"a response\n")
    note_times("main")
    note_times("main")
    assert len(set_aside_damaged("main")) == 1, "another size is never believed"


def test_the_end_of_a_run_leaves_a_line_for_each_output_that_is_there(output: Path) -> None:
    gone = output.with_name("ghost.jsonl")
    gone.write_bytes(b"boo\n")
    for _ in range(3):
        note_outputs("main", JOB, [output, gone])
    gone.unlink()
    note_times("main")
    [line] = [line for file in NOTES.iterdir() for line in file.read_text().splitlines()]
    assert str(output) in line
    assert set_aside_damaged("main") == [] and output.exists()


def test_a_job_that_ran_again_is_what_counts(output: Path) -> None:
    output.write_bytes(b"a longer response\n")
    note_outputs("main", JOB, [output])
    assert set_aside_damaged("main") == []


def test_a_run_that_is_going_on_is_left_alone(output: Path) -> None:
    output.write_bytes(b"")
    LOCKS.mkdir(parents=True)
    (LOCKS / "0.input.lock").write_text("results/main/pirate.jsonl\n")
    assert set_aside_damaged("main") == [] and output.exists()


def test_other_nodes_and_torn_lines(output: Path) -> None:
    [own] = NOTES.iterdir()
    other = NOTES / "elsewhere.jsonl"
    own.rename(other)
    with other.open("a") as file:
        file.write('7\n{"path": "results/main/pir')
    output.unlink()
    assert set_aside_damaged("main") == [], "what is gone is Snakemake's to make"
    output.write_bytes(b"a")
    assert len(set_aside_damaged("main")) == 1


def test_what_the_same_job_wrote_goes_with_it(output: Path) -> None:
    """Snakemake would not miss it alone, where something else asks for the others only."""
    sibling, other = output.with_name("pirate.parquet"), output.with_name("ghost.jsonl")
    for path in (sibling, other):
        path.write_bytes(b"whole")
    note_outputs("main", JOB, [sibling])
    note_outputs("main", "logs/generate/ghost.log", [other])
    output.write_bytes(b"")
    assert len(set_aside_damaged("main")) == 1
    assert not sibling.exists() and Path(f"{sibling}.damaged").read_bytes() == b"whole" and other.exists()


def test_a_dry_run_only_says_what_it_would_set_aside(output: Path) -> None:
    later(output)  # to be read again
    other = output.with_name("ghost.jsonl")
    other.write_bytes(b"whole")
    note_outputs("main", "logs/main/generate/ghost.log", [other])
    other.write_bytes(b"")
    before = [file.read_bytes() for file in NOTES.iterdir()]
    [line] = set_aside_damaged("main", rename=False)
    assert line.startswith(f"{other}: not what its job wrote") and "would be set aside by a run" in line
    assert other.exists() and output.exists() and [file.read_bytes() for file in NOTES.iterdir()] == before
    assert len(set_aside_damaged("main")) == 1 and not other.exists()


def test_another_experiment_s_outputs_are_its_own(output: Path) -> None:
    output.write_bytes(b"")
    assert set_aside_damaged("demo") == [] and output.exists()


def test_what_experiments_share_is_noted_for_all_of_them(output: Path) -> None:
    """One that makes an SAE again does not make it look damaged to the one that made it first."""
    sae = Path("results/saes/x/cfg.json")
    sae.parent.mkdir(parents=True)
    for experiment, text in (("main", b"first"), ("demo", b"once more")):
        sae.write_bytes(text)
        note_outputs(experiment, f"logs/{experiment}/train_sae/x.log", [sae])
    note_times("demo")
    assert set_aside_damaged("main") == [] == set_aside_damaged("demo")
    sae.write_bytes(b"once")
    assert len(set_aside_damaged("main")) == 1 and not sae.exists() and output.exists()
