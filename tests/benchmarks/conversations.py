"""Many conversations: building the DAG, what a drift job costs, and memory against the length of a conversation."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from tests.benchmarks.common import MODEL, ROOT, ROUNDS, SAE, Row, peak_memory_mib, seconds

CELL = "SmolLM2-135M-Instruct_layer_15_width_4096"
TALK = "tutor-slope-of-a-hill"  # 9 turns, 679 assistant tokens
LENGTHS = (2000, 4000, 8000)
MANY, SOME = 500, 60
LARGE_ROLES, LARGE_TALKS = 276 * 3, 2000  # a study: 276 roles of 3 models in one DAG, 3 analyses


class Workflow:
    """A copy of the workflow with the demo's results, and a folder `talks` with copies of one conversation."""

    def __init__(self, folder: Path, conversations: int, *configs: str) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.configs = folder, [*configs, "talks.yaml"]
        for part in ("Snakefile", "workflow", "config", "resources", "envs"):
            source = ROOT / part
            shutil.copytree(source, folder / part) if source.is_dir() else shutil.copy(source, folder / part)
        (folder / "talks").mkdir()
        self.names = [f"talk{i:03}" for i in range(conversations)]
        for name in self.names:
            shutil.copy(ROOT / f"resources/conversations/{TALK}.json", folder / f"talks/{name}.json")
        overlay = {"drift": {"conversations": ["talks"], "figures": [], "simulations": {"samples": 0}}}
        overlay["drift"]["analyses"] = {"notebook": None, "pc1": {"axis_method": "pc1"}}
        (folder / "talks.yaml").write_text(yaml.safe_dump(overlay))

    def with_results(self) -> None:
        """The demo's role results, and token activations of every conversation, newer than it."""
        for part in ("models", *(f"demo/{name}" for name in ("responses", "features", "aggregated", "block_sums"))):
            shutil.copytree(ROOT / "results" / part, self.folder / "results" / part)
        tokens = self.folder / "results/demo/tokens" / CELL
        tokens.mkdir(parents=True)
        for name in self.names:
            shutil.copy(ROOT / f"results/demo/tokens/{CELL}/{TALK}.parquet", tokens / f"{name}.parquet")

    def snakemake(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "snakemake", *arguments, "--cores", "all"]
        command += ["--configfile", *self.configs]
        subprocess.run(command, cwd=self.folder, check=True, capture_output=True)


def dag() -> Iterator[Row]:
    with TemporaryDirectory() as name:
        workflow = Workflow(Path(name), MANY)
        times = sorted(seconds(lambda: workflow.snakemake("drift", "-n", "--quiet")) for _ in range(ROUNDS))
        took = times[len(times) // 2]
        detail = f"{MANY} conversations x 2 analyses, Snakemake's start and printing included"
        yield Row("dry-run of many conversations", f"{took:.1f} s", "< 10 s", took < 10, detail)


def large_dag() -> Iterator[Row]:
    """Snakemake's own share is that of a workflow with the same jobs and nothing in its rules but one file each."""
    with TemporaryDirectory() as name:
        workflow = Workflow(Path(name) / "w", LARGE_TALKS)
        roles = workflow.folder / "resources/roles"
        for i in range(LARGE_ROLES - len(list(roles.glob("*.json")))):
            shutil.copy(roles / "pirate.json", roles / f"more{i:03}.json")
        overlay = yaml.safe_load((workflow.folder / "talks.yaml").read_text())
        overlay["drift"]["analyses"] |= {"cosine": {"score_method": "cos_axis"}}
        (workflow.folder / "talks.yaml").write_text(yaml.safe_dump(overlay))
        (Path(name) / "Snakefile").write_text(BARE)
        command = [sys.executable, "-m", "snakemake", "all", "-n", "--quiet", "--cores", "all"]
        times, bare, memory = [], [], 0.0
        for _ in range(ROUNDS):
            times.append(seconds(lambda: workflow.snakemake("all", "-n", "--quiet")))
            bare.append(seconds(lambda: subprocess.run(command, cwd=name, check=True, capture_output=True)))
        memory = peak_of([*command, "--configfile", "talks.yaml"], workflow.folder)
    took, floor = sorted(times)[ROUNDS // 2], sorted(bare)[ROUNDS // 2]
    what = f"{LARGE_ROLES} roles, {LARGE_TALKS} conversations x 3 analyses"
    detail = f"{what}, --quiet; rules of one file each: {floor:.1f} s"
    yield Row("dry-run of a large study", f"{took:.1f} s", "< 15 s", took < 15, detail)
    yield Row("its memory", f"{memory:.0f} MB", "< 500 MB", memory < 500, what)


PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def peak_of(command: list[str], folder: Path) -> float:
    """Peak memory of a command in MB; started by a small process, since a fork counts what its parent has."""
    done = subprocess.run([sys.executable, "-c", PEAK, *command], cwd=folder, check=True, capture_output=True)
    return float(done.stdout) * 1024 / 1e6


BARE = f"""
ROLES = range({LARGE_ROLES})
TALKS = range({LARGE_TALKS})
rule all:
    input: expand("c/{{r}}", r=ROLES), expand("e/{{a}}/{{t}}", a="xyz", t=TALKS)
rule a:
    output: "a/{{r}}"
rule b:
    input: "a/{{r}}"
    output: "b/{{r}}"
rule c:
    input: "b/{{r}}"
    output: "c/{{r}}"
rule d:
    output: "d/{{t}}"
rule e:
    input: "d/{{t}}"
    output: "e/{{a}}/{{t}}"
"""


def jobs() -> Iterator[Row]:
    if not (ROOT / f"results/demo/tokens/{CELL}/{TALK}.parquet").exists():
        raise SystemExit("the demo's results are not there yet: run `make demo` first")
    with TemporaryDirectory() as name:
        workflow = Workflow(Path(name), SOME, "config/demo.yaml")
        workflow.with_results()
        analyses = ("default", "pc1", "residual")
        references = [f"results/demo/reference/general/{CELL}/{analysis}.npz" for analysis in analyses]
        workflow.snakemake(*references)
        took = seconds(lambda: workflow.snakemake("drift"))
        made = list((workflow.folder / "results/demo/drift").rglob("summary.json"))
        assert len(made) == SOME * len(analyses), len(made)
        each = took * (os.cpu_count() or 1) / len(made)
        detail = (
            f"{len(made)} jobs in {took:.0f} s on {os.cpu_count()} cores, Snakemake's start and the summary included"
        )
        yield Row("drift, core seconds a conversation and analysis", f"{each:.2f} s", "<= 0.5 s", each <= 0.5, detail)


def conversation_peak(tokens: int, folder: Path) -> float:
    """Peak MiB of a process that extracts a conversation of so many tokens."""
    from personascope.hosting.loaded import Loaded
    from personascope.hosting.operations import extract_conversation
    from personascope.models.loading import ModelSpec
    from personascope.models.saes import SAESpec

    turn = "The sea was calm, and the captain counted the casks again while the crew slept. " * 12  # 205 tokens
    messages = [{"role": role, "content": turn} for _ in range(tokens // 420) for role in ("user", "assistant")]
    (folder / "talk.json").write_text(json.dumps(messages))
    request = extract_conversation.Request(
        conversation_file=str(folder / "talk.json"),
        tokens=str(folder / "tokens.parquet"),
        user_means=str(folder / "user_means.npz"),
        model=ModelSpec(str(MODEL), dtype="float32"),
        sae=SAESpec(path=str(SAE)),
        residual_layers=[15],
        chunk_tokens=512,
        too_long="refuse",
        store=str(folder / "store"),
        code="",
    )
    extract_conversation.run(Loaded(), lambda text: None, request)
    return peak_memory_mib()


def memory() -> Iterator[Row]:
    peaks = []
    for tokens in LENGTHS:
        command = [sys.executable, "-m", "tests.benchmarks.conversations", str(tokens)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        peaks.append(float(json.loads(done.stdout.splitlines()[-1])))
    more = max(peaks) - peaks[0]
    # One head's scores of all pairs of 8,000 tokens would be 244 MiB, and the model has 9.
    detail = f"{', '.join(f'{peak:.0f} MiB at {n:,}' for n, peak in zip(LENGTHS, peaks, strict=True))} tokens"
    yield Row("memory of 6,000 more tokens of a conversation", f"{more:.0f} MiB", "< 244 MiB", more < 244, detail)


def run() -> Iterator[Row]:
    yield from dag()
    yield from large_dag()
    yield from jobs()
    yield from memory()


if __name__ == "__main__":
    with TemporaryDirectory() as name:
        print(json.dumps(conversation_peak(int(sys.argv[1]), Path(name))))
