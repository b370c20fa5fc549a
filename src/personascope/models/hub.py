"""The Hugging Face hub, asked once whether it answers: the libraries ask it again and again, file by file, for half a
minute each, and every job of a run would wait for that."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

TIMEOUT = 10.0  # seconds that it may take to answer
REMEMBERED = 60.0  # and for which a silent hub is not asked again

_asked: tuple[float, str | None] | None = None


def silence() -> str | None:
    """Why the hub cannot be asked, in a few words; None where it answers, or has answered before."""
    global _asked
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    if constants.is_offline_mode():
        return "HF_HUB_OFFLINE is set"
    if _asked and (_asked[1] is None or time.monotonic() - _asked[0] < REMEMBERED):
        return _asked[1]
    said = None
    try:
        get_session().head(constants.ENDPOINT, timeout=TIMEOUT)
    except Exception as error:  # whichever HTTP client it has
        said = f"{constants.ENDPOINT} cannot be reached: {' '.join(str(error).split())[:100] or type(error).__name__}"
    _asked = time.monotonic(), said
    return said


@contextmanager
def cache_where_silent() -> Iterator[None]:
    """Within it, libraries take files from the hub's cache alone where the hub does not answer."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = bool(silence())
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def not_here(what: str, reason: str) -> str:
    """What to say of a file that is not in the cache while the hub is silent."""
    from huggingface_hub import constants

    fetch = f"fetch it where there is a network (hf download), into {constants.HF_HUB_CACHE}"
    return f"{what} is not here, and {reason}; {fetch}, or set HF_ENDPOINT to a mirror"
