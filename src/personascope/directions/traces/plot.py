"""A trace as figures and as a page."""

from collections.abc import Sequence
from pathlib import Path

from personascope.directions.traces.figure import trace_figure
from personascope.directions.traces.page import trace_page
from personascope.directions.traces.scale import scales_of
from personascope.display.figure import save_figure
from personascope.formats.files import write_text
from personascope.formats.traces import read_trace


def plot_trace(trace_file: str | Path, scale_file: str | Path, figures: Sequence[str | Path], page: str | Path) -> None:
    """Draw a trace: figures (.png, .svg) and an HTML page."""
    trace = read_trace(trace_file)
    scales = scales_of(trace, scale_file)
    name = trace.metadata["conversation"]["name"]
    title = f"Trace of {name} ({Path(trace.metadata['model']).name})"
    save_figure(trace_figure(trace, scales, title), *figures)
    write_text(page, trace_page(trace, scales, title))
