"""The store: what was finished before a kill, a torn write or a flipped bit is found again, and nothing false is."""

import errno
import multiprocessing
import os
import resource
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from personascope.formats.files import content_key
from personascope.hosting import store as store_module
from personascope.hosting.store import FileStore, RecordLog, feature_files, prune, response_log, usage

FORK = multiprocessing.get_context("fork")


def key(i: int) -> str:
    return content_key(i)


def append_all(path: Path, records: dict[int, Any]) -> None:
    with RecordLog(path).writer() as append:
        for i, record in records.items():
            append(key(i), record)


def read_all(path: Path) -> dict[str, Any]:
    log = RecordLog(path)
    return {found: log.read(found) for found in log.keys()}  # noqa: SIM118


def test_a_content_key_depends_on_the_value_and_not_on_its_order() -> None:
    assert content_key({"a": 1, "b": [2, "ü"]}) == content_key({"b": [2, "ü"], "a": 1})
    assert len({content_key(value) for value in (1, "1", 1.5, [1], {"a": 1}, None)}) == 6
    with pytest.raises(ValueError, match="JSON"):
        content_key({"a": float("nan")})


def test_records_are_appended_read_and_found_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.log"
    assert RecordLog(path).keys() == set()
    log = RecordLog(path)
    with log.writer() as append:
        append(key(1), {"text": "ä", "ids": [1, 2]})
        assert log.read(key(1)) == {"text": "ä", "ids": [1, 2]}
        append(key(2), None)
    append_all(path, {3: "three"})
    assert read_all(path) == {key(1): {"text": "ä", "ids": [1, 2]}, key(2): None, key(3): "three"}
    assert log.keys() == {key(1), key(2), key(3)}
    with pytest.raises(KeyError):
        log.read(key(4))


def test_a_record_appended_twice_is_the_later_one(tmp_path: Path) -> None:
    append_all(tmp_path / "a.log", {1: "old"})
    append_all(tmp_path / "a.log", {1: "new"})
    assert read_all(tmp_path / "a.log") == {key(1): "new"}


def test_a_record_that_is_no_json_changes_nothing(tmp_path: Path) -> None:
    append_all(tmp_path / "a.log", {1: "one"})
    before = (tmp_path / "a.log").read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        append_all(tmp_path / "a.log", {2: float("nan")})
    assert (tmp_path / "a.log").read_bytes() == before


def test_a_torn_tail_costs_only_that_record_and_is_repaired(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    append_all(path, {1: "one", 2: "two"})
    kept = path.stat().st_size
    append_all(path, {3: "three"})
    whole = path.read_bytes()
    path.write_bytes(whole[:kept])
    append_all(path, {4: "four"})
    repaired = path.read_bytes()
    for length in range(kept, len(whole)):
        path.write_bytes(whole[:length])
        assert read_all(path) == {key(1): "one", key(2): "two"}
        append_all(path, {4: "four"})
        assert path.read_bytes() == repaired
    assert read_all(path) == {key(1): "one", key(2): "two", key(4): "four"}


def test_a_torn_record_in_the_middle_does_not_hide_what_came_after(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    append_all(path, {1: "one", 2: "two"})
    torn = path.read_bytes()[:-5]
    path.unlink()
    append_all(path, {3: "three"})
    path.write_bytes(torn + path.read_bytes())
    assert read_all(path) == {key(1): "one", key(3): "three"}
    append_all(path, {2: "again"})
    assert read_all(path) == {key(1): "one", key(2): "again", key(3): "three"}


def test_a_flipped_bit_costs_only_that_record(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    append_all(path, {1: "one"})
    first = path.stat().st_size
    append_all(path, {2: "two"})
    second = path.stat().st_size
    append_all(path, {3: "three"})
    whole = path.read_bytes()
    for position in range(first, second):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        assert read_all(path) == {key(1): "one", key(3): "three"}
    append_all(path, {2: "again"})
    assert read_all(path) == {key(1): "one", key(2): "again", key(3): "three"}


def run_children(*children: Callable[[], None]) -> None:
    processes = [FORK.Process(target=child) for child in children]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0] * len(processes)


def test_processes_that_append_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    barrier = FORK.Barrier(3)

    def child(start: int) -> None:
        with RecordLog(path).writer() as append:
            barrier.wait(20)
            for i in range(start, start + 100):
                append(key(i), f"record {i} " * (i % 7 * 40))

    run_children(*(lambda start=start: child(start) for start in (0, 100, 200)))
    assert read_all(path) == {key(i): f"record {i} " * (i % 7 * 40) for i in range(300)}


@pytest.mark.parametrize("after", [1, 40])
def test_kill_9_loses_no_record_whose_append_had_returned(tmp_path: Path, after: int) -> None:
    path = tmp_path / "a.log"
    read_end, write_end = os.pipe()

    def child() -> None:
        with RecordLog(path).writer() as append:
            for i in range(10**6):
                append(key(i), "text " * 500)
                os.write(write_end, f"{key(i)}\n".encode())

    process = FORK.Process(target=child)
    process.start()
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        returned = [pipe.readline().strip() for _ in range(after)]
        assert process.pid
        os.kill(process.pid, signal.SIGKILL)
        process.join(30)
        returned += [line.strip() for line in pipe if line.endswith("\n")]
    assert process.exitcode == -signal.SIGKILL and len(returned) >= after
    found = read_all(path)
    assert set(returned) <= set(found) and set(found.values()) == {"text " * 500}
    append_all(path, {-1: "next"})
    assert len(read_all(path)) == len(found) + 1


def test_a_full_disk_is_an_error_and_costs_no_finished_record(tmp_path: Path) -> None:
    path = tmp_path / "a.log"

    def child() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300, resource.RLIM_INFINITY))
        try:
            append_all(path, {1: "one", 2: os.urandom(500).hex()})
        except OSError as error:
            os._exit(0 if error.errno == errno.EFBIG else 2)
        os._exit(3)

    run_children(child)
    assert read_all(path) == {key(1): "one"}
    append_all(path, {2: "two"})
    assert read_all(path) == {key(1): "one", key(2): "two"}


@pytest.fixture
def files(tmp_path: Path) -> FileStore:
    files = feature_files(tmp_path / "store")
    with files.add(key(1)) as folder:
        (folder / "a.bin").write_bytes(b"alpha")
        (folder / "b.bin").write_bytes(b"beta")
    return files


def test_added_files_are_verified_and_linked(files: FileStore, tmp_path: Path) -> None:
    assert files.verify(key(1)) and not files.verify(key(2))
    out = tmp_path / "out" / "x.bin"
    files.link(key(1), {"a.bin": out, "b.bin": tmp_path / "y.bin"})
    assert out.read_bytes() == b"alpha" and (tmp_path / "y.bin").read_bytes() == b"beta"
    assert out.samefile(files.folder / key(1) / "a.bin")
    assert [path.name for path in files.folder.iterdir()] == [key(1)]


def test_linking_replaces_an_output_and_can_be_repeated(files: FileStore, tmp_path: Path) -> None:
    out = tmp_path / "x.bin"
    out.write_bytes(b"stale")
    os.utime(out, (0, 0))
    for _ in range(2):
        files.link(key(1), {"a.bin": out})
        assert out.read_bytes() == b"alpha"
        assert time.time() - out.stat().st_mtime < 60
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store", "x.bin"]
    out.unlink()
    assert files.verify(key(1))


def test_linking_falls_back_to_a_copy(files: FileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(store_module.os, "link", refuse)
    out = tmp_path / "x.bin"
    files.link(key(1), {"a.bin": out})
    assert out.read_bytes() == b"alpha" and not out.samefile(files.folder / key(1) / "a.bin")
    out.write_bytes(b"edited")
    assert files.verify(key(1))


def test_damaged_files_are_never_taken_for_the_result(files: FileStore) -> None:
    place = files.folder / key(1)
    pristine = {path.name: path.read_bytes() for path in place.iterdir()}

    def restored() -> Path:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        for name, content in pristine.items():
            (place / name).write_bytes(content)
        assert files.verify(key(1))
        return place

    damages: list[Callable[[Path], Any]] = [
        lambda folder: (folder / "a.bin").write_bytes(b"alphb"),
        lambda folder: (folder / "a.bin").write_bytes(b"alph"),
        lambda folder: (folder / "b.bin").unlink(),
        lambda folder: (folder / "manifest.json").unlink(),
        lambda folder: (folder / "manifest.json").write_text("{}"),
        lambda folder: (folder / "manifest.json").write_text(""),
    ]
    for damage in damages:
        damage(restored())
        assert not files.verify(key(1)) and not place.exists()
    with files.add(key(1)) as folder:
        (folder / "a.bin").write_bytes(b"alpha")
    assert files.verify(key(1))


def test_a_flipped_bit_in_the_manifest_is_no_crash(files: FileStore) -> None:
    manifest = files.folder / key(1) / "manifest.json"
    damaged = bytearray(manifest.read_bytes())
    damaged[20] ^= 0x80
    manifest.write_bytes(damaged)
    assert not files.verify(key(1)) and not manifest.parent.exists()


def test_failed_work_leaves_nothing(tmp_path: Path) -> None:
    files = FileStore(tmp_path / "files")
    with pytest.raises(RuntimeError), files.add(key(1)) as folder:
        (folder / "a.bin").write_bytes(b"half")
        raise RuntimeError
    assert list((tmp_path / "files").iterdir()) == [] and not files.verify(key(1))


def test_the_first_of_two_that_finish_the_same_work_stays(files: FileStore) -> None:
    with files.add(key(1)) as folder:
        (folder / "a.bin").write_bytes(b"other")
    assert (files.folder / key(1) / "a.bin").read_bytes() == b"alpha" and files.verify(key(1))
    assert [path.name for path in files.folder.iterdir()] == [key(1)]


def test_usage_counts_entries_and_bytes(files: FileStore, tmp_path: Path) -> None:
    store = tmp_path / "store"
    assert [(part.part, part.entries, part.bytes) for part in usage(tmp_path / "absent")] == [
        ("responses", 0, 0),
        ("features", 0, 0),
    ]
    log = response_log(store, "tiny", "baker")
    append_all(log.path, {1: "one", 2: "two"})
    append_all(response_log(store, "tiny", "cook").path, {3: "three"})
    responses, features = usage(store)
    assert (responses.part, responses.entries) == ("responses", 3)
    assert responses.bytes == sum(path.stat().st_size for path in log.path.parent.iterdir())
    assert (features.part, features.entries) == ("features", 1)
    assert features.bytes == sum(path.stat().st_size for path in (files.folder / key(1)).iterdir()) > 9


def test_prune_removes_only_what_was_long_unused(files: FileStore, tmp_path: Path) -> None:
    store = tmp_path / "store"
    old, new = response_log(store, "tiny", "old").path, response_log(store, "tiny", "new").path
    append_all(old, {1: "one"})
    append_all(new, {2: "two"})
    with files.add(key(2)) as folder:
        (folder / "a.bin").write_bytes(b"unused")
    expected = old.stat().st_size + sum(path.stat().st_size for path in (files.folder / key(2)).iterdir())
    month = time.time() - 40 * 86400
    for path in (old, files.folder / key(1), files.folder / key(2)):
        os.utime(path, (month, month))
    assert files.verify(key(1))
    assert prune(store, unused_days=30) == expected
    assert not old.exists() and new.exists() and files.verify(key(1)) and not files.verify(key(2))
    prune(store, unused_days=0)
    assert [part.entries for part in usage(store)] == [0, 0]


def test_prune_removes_the_remains_of_interrupted_work(tmp_path: Path) -> None:
    files = feature_files(tmp_path)
    with files.add(key(1)) as folder:
        (folder / "a.bin").write_bytes(b"alpha")
    remains = files.folder / ".tmp-killed"
    remains.mkdir()
    (remains / "half.bin").write_bytes(b"12345")
    os.utime(remains, (0, 0))
    assert prune(tmp_path, unused_days=30) == 5
    assert not remains.exists() and files.verify(key(1))


def test_prune_leaves_work_in_progress_alone(tmp_path: Path) -> None:
    files = feature_files(tmp_path)
    with files.add(key(1)) as folder:
        prune(tmp_path, unused_days=30)
        (folder / "a.bin").write_bytes(b"alpha")
    assert files.verify(key(1))
