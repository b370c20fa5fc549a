"""Descriptions from a server on this machine that answers as Neuronpedia's API does, and as a bad day has it."""

import logging
import select
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from personascope.backends.neuronpedia import IN_A_ROW, description_of, write_fetched
from personascope.formats.descriptions import read_descriptions
from tests.helpers.endpoint import Reply, answer

NAME = "gemma-2-2b/12-gemmascope-res-16k"
QUICK: dict[str, Any] = {"backoff_s": 0.01, "max_retries": 2, "timeout_s": 0.4}


def feature(index: int, *texts: str | None, own: str | None = None) -> dict[str, Any]:
    """A reply with what the real ones have, as far as it is looked at."""
    explanations = [{"description": text, "explanationModelName": "m"} for text in texts]
    return {"modelId": "gemma-2-2b", "index": str(index), "explanations": explanations, "description": own}


class Site:
    """Answers GET /api/feature/{NAME}/{feature} with behave(feature, how often it was asked before)."""

    def __init__(self) -> None:
        self.behave: Callable[[int, int], Reply] = lambda index, before: Reply(feature(index, f"about {index}"))
        self.asked: list[int] = []
        self.times: list[float] = []
        self.open = self.most_open = 0
        self.lock = threading.Lock()
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                prefix, _, last = self.path.rpartition("/")
                assert prefix == f"/api/feature/{NAME}"
                assert "Authorization" not in self.headers
                with site.lock:
                    before = site.asked.count(int(last))
                    site.asked.append(int(last))
                    site.times.append(time.monotonic())
                    site.open += 1
                    site.most_open = max(site.most_open, site.open)
                    reply = site.behave(int(last), before)
                select.select([self.connection], [], [], reply.delay)
                with site.lock:
                    site.open -= 1
                answer(self, reply)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def options(self) -> dict[str, Any]:
        base_url = f"http://127.0.0.1:{self.http.server_port}"
        return {"id": NAME, "base_url": base_url, "max_concurrency": 3, "requests_per_minute": None}


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.http.shutdown()
    site.http.server_close()


def fetched(site: Site, folder: Path, features: list[int], **changes: Any) -> dict[int, str | None]:
    output = folder / "neuronpedia.json"
    options = site.options | {name: value for name, value in changes.items() if name in site.options}
    limits = QUICK | {name: value for name, value in changes.items() if name not in site.options}
    write_fetched(features, options, str(folder / "store"), str(output), **limits)
    found = read_descriptions(output)
    assert all(entry["url"] == f"https://neuronpedia.org/{NAME}/{index}" for index, entry in found.items())
    return {index: entry["description"] for index, entry in found.items()}


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (feature(3, "", None, " poems \n by sailors", "prose"), "poems by sailors"),
        (feature(3, own="its own"), "its own"),
        (feature(3, "  ", own=""), None),
        ({"index": "3", "explanations": None}, None),
        ({"explanations": ["text", {"description": 4}], "description": "kept"}, "kept"),
    ],
)
def test_the_first_description_that_says_something(reply: dict[str, Any], expected: str | None) -> None:
    assert description_of(reply) == (expected, True)


@pytest.mark.parametrize("reply", [None, [], "text", 3, {}, {"error": "no"}])
def test_what_is_no_feature(reply: Any) -> None:
    assert description_of(reply) is None


def test_each_is_asked_once_and_kept(site: Site, tmp_path: Path) -> None:
    assert fetched(site, tmp_path, [4, 2, 9]) == {2: "about 2", 4: "about 4", 9: "about 9"}
    assert fetched(site, tmp_path, [9, 11]) == {9: "about 9", 11: "about 11"}
    assert sorted(site.asked) == [2, 4, 9, 11]
    assert not list((tmp_path / "store").rglob("*.tmp"))


def test_an_unknown_feature_has_none_and_is_not_asked_again(site: Site, tmp_path: Path) -> None:
    site.behave = lambda index, before: Reply({"error": "not found"}, 404) if index == 5 else Reply(feature(index, "x"))
    assert fetched(site, tmp_path, [5, 6]) == {5: None, 6: "x"}
    assert fetched(site, tmp_path, [5]) == {5: None}
    assert site.asked.count(5) == 1


@pytest.mark.parametrize(
    "bad",
    [
        Reply({"message": "slow down"}, 429, {"Retry-After": "0.3"}),
        Reply("oops", 500),
        Reply(b"<html>maintenance</html>", 200),
        Reply(b'{"explanations": [', 200),
        Reply({"unrelated": True}, 200),
        Reply(feature(1, "too late"), delay=1.0),
    ],
    ids=["429", "500", "html", "cut", "other", "slow"],
)
def test_passing_trouble_is_tried_again(site: Site, tmp_path: Path, bad: Reply) -> None:
    site.behave = lambda index, before: bad if before == 0 else Reply(feature(index, f"about {index}"))
    assert fetched(site, tmp_path, [1]) == {1: "about 1"}
    assert len(site.asked) == 2
    if bad.status == 429:
        assert site.times[1] - site.times[0] >= 0.3


def test_one_feature_without_an_answer_leaves_the_others(
    site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    site.behave = lambda index, before: Reply("oops", 500) if index == 2 else Reply(feature(index, "x"))
    assert fetched(site, tmp_path, [1, 2, 3, 4]) == {1: "x", 3: "x", 4: "x"}
    assert site.asked.count(2) == 3
    assert "feature 2: " in caplog.text and "keeps failing (500)" in caplog.text
    site.behave = lambda index, before: Reply(feature(index, "now"))
    assert fetched(site, tmp_path, [1, 2])[2] == "now"


def test_a_server_that_is_down_leaves_what_is_there(
    site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fetched(site, tmp_path, [7])
    site.behave = lambda index, before: Reply("down", 503)
    with caplog.at_level(logging.INFO):
        assert fetched(site, tmp_path, [7, *range(100, 160)], max_retries=0) == {7: "about 7"}
    assert "60 features keep their labels" in caplog.text
    # The others in flight are given up with it.
    assert len(site.asked) <= 1 + IN_A_ROW + 2


def test_no_server_at_all(tmp_path: Path, site: Site, caplog: pytest.LogCaptureFixture) -> None:
    assert fetched(site, tmp_path, [1, 2], base_url="http://127.0.0.1:9", max_retries=0) == {}
    assert "is down" in caplog.text


def test_it_is_polite(site: Site, tmp_path: Path) -> None:
    site.behave = lambda index, before: Reply(feature(index, "x"), delay=0.02)
    fetched(site, tmp_path, list(range(12)), max_concurrency=2)
    assert site.most_open == 2
    start = len(site.times)
    fetched(site, tmp_path, list(range(20, 24)), requests_per_minute=600)
    gaps = [b - a for a, b in zip(site.times[start:], site.times[start + 1 :], strict=False)]
    assert min(gaps) >= 0.08
