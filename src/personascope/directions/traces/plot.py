"""A trace as figures and as a page."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from personascope.directions.figures.parts import reasons, warning_line
from personascope.directions.spaces import layer_of
from personascope.directions.traces.figure import trace_figure
from personascope.directions.traces.page import trace_page
from personascope.directions.traces.scale import scales_of
from personascope.display.figure import save_figure
from personascope.formats.files import read_json, write_text
from personascope.formats.tables import read_csv
from personascope.formats.traces import column_name, read_trace, split_column


def plot_trace(
    trace_file: str | Path,
    scale_file: str | Path,
    evidence: Mapping[str, str],
    figures: Sequence[str | Path],
    page: str | Path,
) -> None:
    """Draw a trace: figures (.png, .svg) and an HTML page. evidence: {direction: file}, as `doubts_of` reads them."""
    trace = read_trace(trace_file)
    scales, doubts = scales_of(trace, scale_file), doubts_of(trace.columns, evidence)
    name = trace.metadata["conversation"]["name"]
    title = f"Trace of {name} ({Path(trace.metadata['model']).name})"
    save_figure(trace_figure(trace, scales, title, doubts), *figures)
    write_text(page, trace_page(trace, scales, title, doubts))


def doubts_of(columns: Sequence[str], evidence: Mapping[str, str]) -> dict[str, str]:
    """{column: why its direction is not to be relied on}, by the axis's agreement.csv and traits' evaluation.json."""
    doubts = {}
    for direction, path in evidence.items():
        if path.endswith(".csv"):
            for space, reason in reasons(read_csv(path)).items():
                if (layer := layer_of(space)) is not None:
                    doubts[column_name(direction, layer)] = warning_line(reason)
        elif said := read_json(path)["doubts"]:
            here = [column for column in columns if split_column(column)[0] == direction]
            doubts |= dict.fromkeys(here, f"do not rely on it: {'; '.join(said)}")
    return {column: doubts[column] for column in columns if column in doubts}
