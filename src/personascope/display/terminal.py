"""How durations, sizes and tables are shown to people."""

from collections.abc import Sequence

WORDS = ("note", "reason")  # columns of words


def duration(seconds: float) -> str:
    """Two units at most: "40 s", "12 min", "2 h 10 min", "3 d 4 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours + round(minutes / 60), 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def size(n_bytes: float) -> str:
    """Bytes in decimal units: "12.3 MB"."""
    units = ["B", "kB", "MB", "GB", "TB"]
    while n_bytes >= 1000 and len(units) > 1:
        n_bytes, units = n_bytes / 1000, units[1:]
    return f"{n_bytes:.0f} B" if units[0] == "B" else f"{n_bytes:.1f} {units[0]}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns: the first and the columns of words to the left, the others to the right."""
    lines = [list(header), *map(list, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    left = [i == 0 or name in WORDS for i, name in enumerate(header)]
    padded = (
        (cell.ljust(w) if to_left else cell.rjust(w) for cell, w, to_left in zip(line, widths, left, strict=True))
        for line in lines
    )
    return "\n".join("  ".join(line).rstrip() for line in padded)
