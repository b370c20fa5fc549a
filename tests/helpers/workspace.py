"""A working copy of the workflow, and Snakemake run in it as its users run it."""

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

from personascope.hosting.store import HEADER

REPO = Path(__file__).resolve().parents[2]
MODEL = "SmolLM2-135M-Instruct"
MODEL_FOLDER = f"results/models/{MODEL}"
SAE = f"resources/saes/{MODEL}_layer_15_width_4096"
OUT = "results/main"  # the results of the experiment `main`
RESPONSES = f"{OUT}/responses/general/{MODEL}"
CELL = f"general/{MODEL}_layer_15_width_4096"
TINY = {
    "roles": {"select": ["assistant", "default", "pirate"]},
    "questions": {"select": 2},
    "generation": {"variants": [0], "max_tokens": 8},
    "descriptions": {"contexts": 2},
    "atlas": {"maps": []},  # compiling UMAP alone takes as long as all else
    "drift": {
        "conversations": ["talks"],
        "max_tokens": None,
        "simulations": {"folder": "scripts", "samples": 1},
        "references": {"conversations": ["neutral"]},
        "uncertainty": {"draws": 20},
        "analyses": {
            "default": {"alpha": 0.25},  # which four references are enough for
            "notebook": None,
            "pc1": {"axis_method": "pc1"},
            "cosine": {"score_method": "cos_axis"},
            "residual": {"space": "residual", "layer": 15},
        },
        "tables": ["pc1"],
        "figures": [],
    },
}
TALKS: dict[str, Any] = {
    "greeting": [{"role": "user", "content": "Hello!"}, {"role": "assistant", "content": "Good morning to you."}],
    "at-sea": {
        "title": "At sea",
        "conversation": [
            {"role": "user", "content": "How do I tie a knot?"},
            {"role": "assistant", "content": "Make a loop, pass the end through it and pull."},
            {"role": "user", "content": "And what be ye?"},
            {"role": "assistant", "content": "Arr, a pirate of the seven seas, matey! <b>Hoist</b> the flag."},
        ],
    },
    "broken": [{"role": "user", "content": "Hello!"}, {"role": "captain", "content": "Ahoy."}],
}
# Reference conversations of two turns.
NEUTRAL: dict[str, Any] = {
    f"neutral-{i}": [
        {"role": "user", "content": f"What is {word}?"},
        {"role": "assistant", "content": f"{word.capitalize()} is something that people use every day."},
        {"role": "user", "content": "Where do I find it?"},
        {"role": "assistant", "content": f"You can find {word} in most shops and in many kitchens."},
    ]
    for i, word in enumerate(("salt", "soap", "paper", "string"))
}
SCRIPTS: dict[str, Any] = {"plain": {"user": ["Who are you?", "What do you like?"], "condition": "plain"}}


@dataclass
class Outcome:
    """How a run of Snakemake ended; `text` is stdout and stderr."""

    code: int
    text: str


class Workspace:
    """A folder with Snakefile, workflow, config and resources (the SAE is a link; nothing else leads to the repo)."""

    def __init__(self, path: Path):
        self.path = path.resolve()

    @classmethod
    def make(cls, path: Path, *, with_model: bool) -> "Workspace":
        path.mkdir(parents=True)
        shutil.copy(REPO / "Snakefile", path)
        for name in ("workflow", "config", "resources", "envs", "slurm"):
            shutil.copytree(REPO / name, path / name, ignore=shutil.ignore_patterns("saes"))
        for folder, texts in (("talks", TALKS), ("scripts", SCRIPTS), ("neutral", NEUTRAL)):
            (path / folder).mkdir()
            for name, text in texts.items():
                (path / folder / f"{name}.json").write_text(json.dumps(text))
        if (REPO / "resources/saes").exists():
            (path / "resources/saes").symlink_to(REPO / "resources/saes")
        if with_model:
            (path / "results").mkdir()
            (path / "results/models").symlink_to(REPO / "results/models")
        return cls(path)

    def copy(self, path: Path) -> "Workspace":
        """All of it, modification times and Snakemake's records included: what was finished is finished there too."""
        shutil.copytree(self.path, path, symlinks=True)
        return Workspace(path)

    def overlay(self, *configs: dict[str, Any], name: str = "overlay.yaml") -> str:
        """Write an overlay of the default configuration; later `configs` win by block and key."""
        merged: dict[str, Any] = {}
        for config in configs:
            for block, values in config.items():
                both = isinstance(values, dict) and isinstance(merged.get(block), dict)
                merged[block] = merged[block] | values if both else values
        (self.path / name).write_text(yaml.safe_dump(merged), encoding="utf-8")
        return name

    def start(
        self, *args: str, env: dict[str, str] | None = None, program: Sequence[str] = ("-m", "snakemake")
    ) -> subprocess.Popen[str]:
        """Start Snakemake (as this program of Python); its output goes to run.log."""
        with (self.path / "run.log").open("w") as log:
            return subprocess.Popen(
                [sys.executable, *program, *args],
                cwd=self.path,
                # Threads that wait without spinning: tests share their cores, and torch would come to a halt.
                env=os.environ | {"HF_HUB_OFFLINE": "1", "GOMP_SPINCOUNT": "1000"} | (env or {}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                text=True,
            )

    def snakemake(self, *args: str, check: bool = True, env: dict[str, str] | None = None) -> Outcome:
        """Run Snakemake to its end; with `check` it must succeed."""
        process = self.start(*args, env=env)
        code = process.wait(timeout=900)
        outcome = Outcome(code, self.read("run.log"))
        assert not check or code == 0, outcome.text
        return outcome

    def counts(self, *args: str, env: dict[str, str] | None = None) -> dict[str, int]:
        """{rule: number of jobs} that a dry-run announces, without total and the targets `all` and the like."""
        text = self.snakemake(*args, "--dry-run", "--quiet", "rules", env=env).text
        table = re.search(r"^job +count\n[- ]+\n((?:\S+ +\d+\n)+)", text, re.MULTILINE)
        if table is None:
            assert "Nothing to be done" in text, text
            return {}
        found = {rule: int(count) for rule, count in (line.split() for line in table[1].splitlines())}
        return {rule: count for rule, count in found.items() if rule not in ("total", *TARGETS)}

    def read(self, name: str) -> str:
        return (self.path / name).read_text(encoding="utf-8", errors="replace")

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace text in a file; it must be there."""
        text = self.read(name)
        assert old in text
        (self.path / name).write_text(text.replace(old, new), encoding="utf-8")

    def files(self, folder: str) -> dict[str, bytes]:
        """Contents of the files below a folder, by name."""
        found = (self.path / folder).rglob("*")
        return {str(path.relative_to(self.path)): path.read_bytes() for path in found if path.is_file()}

    def leftovers(self) -> list[str]:
        """Temporary files below results and store, wherever they are (the linked model is not looked at)."""
        found = [path for name in ("results", "store", "small") for path in (self.path / name).rglob("*")]
        return [str(path) for path in found if path.name.startswith(".") or path.name.endswith(".tmp")]

    def processes(self) -> list[psutil.Process]:
        """Processes that work in this folder: Snakemake, its jobs, the model host."""
        return [process for process in psutil.process_iter() if _cwd(process) == str(self.path)]

    def find_process(self, *words: str) -> psutil.Process | None:
        """A process of this folder with these words in its command line."""
        return next(iter(self.find_processes(*words)), None)

    def find_processes(self, *words: str) -> list[psutil.Process]:
        """All processes of this folder with these words in their command lines."""
        lines = [(process, " ".join(_command(process))) for process in self.processes()]
        return [process for process, line in lines if all(word in line for word in words)]

    def records(self) -> dict[str, list[str]]:
        """Keys of the records in the store by role, as appended, repeated ones included."""
        logs = (self.path / "store/responses").rglob("*.log")
        return {log.stem: list(_record_keys(log.read_bytes())) for log in logs}

    def count_records(self) -> int:
        return sum(map(len, self.records().values()))


def embedded_model() -> Path:
    """The embedded model, made once in the repo by the workflow's own rule; test processes side by side take turns."""
    command = [sys.executable, "-m", "snakemake", "--cores", "all", "--nolock", "model"]
    (REPO / "results").mkdir(exist_ok=True)
    with (REPO / "results/.model.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return REPO / MODEL_FOLDER


TARGETS = (
    *("all", "model", "sae", "responses", "features", "role_matrix", "axis", "tokens", "reference", "drift", "summary"),
    *("splits", "benchmark", "validation", "vectors", "judgements", "traits", "decompositions", "traces", "steering"),
    *("causality", "descriptions", "atlas", "runs"),
)


def _cwd(process: psutil.Process) -> str | None:
    try:
        return process.cwd() if process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.Error:
        return None


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _record_keys(data: bytes) -> Iterator[str]:
    position = 0
    while position + HEADER.size <= len(data):
        _, key, length, _ = HEADER.unpack_from(data, position)
        position += HEADER.size + length
        if position <= len(data):
            yield key.hex()


def wait_for(condition: Callable[[], Any], seconds: float) -> Any:
    """The first true value of `condition`, or its last one after so many seconds."""
    end = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < end:
        time.sleep(0.02)
    return value
