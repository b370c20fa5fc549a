"""The one exception that means "the input is wrong", and how a command reports it."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class UserError(Exception):
    """A mistake in the input, in one line: what, where (file, key, role, index), what to do."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a refusal of an unknown name: the known one that is nearest to it, or "" where none is near."""
    from difflib import get_close_matches

    spelled = {one.lower(): one for one in known}
    near = get_close_matches(name.strip().lower(), spelled, n=1)
    return f"; did you mean {spelled[near[0]]!r}?" if near else ""


_DISK_ERRORS = {
    28: "free some space (`personascope store prune` helps), then run again: finished work is kept",
    122: "the quota is used up; free some space, then run again: finished work is kept",
    30: "the file system is read-only; choose another `results` or `store` folder",
}


def as_user_error(error: Exception) -> UserError | None:
    """The error as one line for the user, or None where it is a bug."""
    if isinstance(error, UserError):
        return error
    if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
        return UserError(f"{error.filename or 'output'}: {error.strerror}; {_DISK_ERRORS[error.errno]}")
    return None


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Print a UserError (or a full disk) as one line and exit with 1; let real bugs keep their traceback."""
    try:
        yield
    except Exception as error:
        if (mistake := as_user_error(error)) is None:
            raise
        print(f"error: {mistake}", file=sys.stderr, flush=True)
        raise SystemExit(1) from None
