"""The demo's DAG from nothing (installed, the store empty), as `make demo` runs it."""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.benchmarks.common import ROOT, Row


def run() -> Iterator[Row]:
    with TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("Snakefile", "workflow", "config", "resources", "envs"):
            source = ROOT / part
            shutil.copytree(source, folder / part) if source.is_dir() else shutil.copy(source, folder / part)
        command = [sys.executable, "-m", "snakemake", "--cores", "all", "--configfile", "config/demo.yaml"]
        started = time.perf_counter()
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        seconds = time.perf_counter() - started
        loads = len(list((folder / "benchmarks/demo/load_model").glob("*.tsv")))
        yield Row("demo's DAG from nothing", f"{seconds:.0f} s", "< 300 s", seconds < 300, "the model fetched too")
        yield Row("model loads of the demo", str(loads), "1", loads == 1, "12 jobs of 6 roles")
