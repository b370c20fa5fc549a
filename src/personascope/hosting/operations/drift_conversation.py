"""One conversation under one analysis, by the analysis host, which keeps role spaces and references. No torch."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from personascope.directions.axis import RoleSpace, load_role_space
from personascope.drift.calibration_report import role_quartiles
from personascope.drift.conversation import analyze_file, write_run
from personascope.drift.null import Null, load_null
from personascope.drift.options import DriftOptions
from personascope.drift.reference import Reference
from personascope.drift.result_file import NO_TABLE
from personascope.errors import UserError
from personascope.formats.causal import read_causal, short
from personascope.hosting.loaded import Loaded
from personascope.hosting.progress import Report

T = TypeVar("T")
WORKING_MB = 350  # the process itself, and one conversation at work


@dataclass(frozen=True, kw_only=True)
class Request:
    """Files of the conversation's tokens, the role matrix, the reference, the null and the causal test (where there are
    any), the four outputs, the analysis and its options; mem_mb: the memory that the job may take, by which the host
    keeps what it loaded."""

    tokens: str
    matrix: str
    reference: str | None = None
    null: str | None = None
    causal: list[str] = field(default_factory=list)
    conversation: str
    summary: str
    ui_bundle: str
    result: str
    analysis: str
    options: dict[str, Any]
    mem_mb: int = 1000
    code: str = ""


def run(loaded: Loaded, report: Report, request: Request) -> None:
    """Write the files of a run; a conversation that cannot be analyzed has its reason in them.

    UserError for an option that does not fit, which is a mistake in the analysis.
    """
    options = DriftOptions.of(**request.options)
    kept = Kept(loaded, request.mem_mb)
    roles = kept.roles(request.matrix, options)
    reference = kept.reference(request.reference) if request.reference else None
    null = kept.null(request.null) if request.null else None
    case = analyze_file(request.tokens, roles, options, reference, null)
    if isinstance(case.result, str):
        report(f"error: {case.result}")
    quartiles = NO_TABLE
    if request.reference and reference is not None:
        method = options.scoring.score_method
        key = ("quartiles", request.reference, written(request.reference), method)
        quartiles = loaded.once(key, lambda: role_quartiles(reference, method))
    outputs = {name: getattr(request, name) for name in ("conversation", "summary", "ui_bundle", "result")}
    tested = short(read_causal(request.causal[0])) if request.causal else None
    write_run(case, request.analysis, roles, options, outputs, quartiles, tested)


@dataclass(frozen=True)
class Kept:
    """Role spaces and references of a host, by their files and the time these were written."""

    loaded: Loaded
    mem_mb: int

    def roles(self, path: str, options: DriftOptions) -> RoleSpace:
        return self._load(path, options.axis, lambda: load_role_space(path, options.axis), copies=4)

    def reference(self, path: str) -> Reference:
        return self._load(path, None, lambda: Reference.load(path), copies=1)

    def null(self, path: str) -> Null:
        return self._load(path, None, lambda: load_null(path), copies=2)

    def _load(self, path: str, variant: Any, load: Callable[[], T], copies: int) -> T:
        """copies: times the file's size that loading it takes."""
        limit = max(self.mem_mb - WORKING_MB, 0) * 10**6
        expected = copies * Path(path).stat().st_size if Path(path).is_file() else 0
        return self.loaded.within(limit, (path, written(path), variant), load, expected)


def written(path: str) -> int:
    """When a file was written, ns; UserError where it cannot be read."""
    try:
        return Path(path).stat().st_mtime_ns
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
