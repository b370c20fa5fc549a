"""The content-addressed store of finished work, outside the outputs that Snakemake may delete.

A key is a hash over everything that determines a result (`content_key`), so what is found under it is the
result, whoever made it and when. Two kinds of content:

- responses: one append-only file a role (`RecordLog`), a record each, with a checksum; whatever was finished
  before a kill is there, and a torn record at the end is cut off by the next writer;
- whole files (features): a folder a key, with a manifest of checksums, linked to the outputs.

Few files, and no database: parallel file systems choke on one file a response, and SQLite's WAL on NFS.
"""

import fcntl
import json
import logging
import mmap
import os
import shutil
import struct
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from personascope.formats.files import atomic_path, file_digest

log = logging.getLogger(__name__)

MAGIC = b"PSr1"
HEADER = struct.Struct("<4s32sII")  # magic, key, payload length, CRC-32 of key and payload
MANIFEST = "manifest.json"


class RecordLog:
    """JSON records by key in one append-only file; damaged ones are left out (whoever needs them makes them again)."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._places: dict[str, tuple[int, int]] = {}
        self._scanned = 0

    def keys(self) -> set[str]:
        """Keys of all intact records (those that other processes have appended included)."""
        if self.path.exists():
            with self.path.open("rb") as file:
                self._scan(file)
        return set(self._places)

    def read(self, key: str) -> Any:
        """The record of a key; KeyError where there is none."""
        offset, length = self._places[key]
        with self.path.open("rb") as file:
            file.seek(offset)
            return json.loads(zlib.decompress(file.read(length)))

    def touch(self) -> None:
        """Note that the records are in use, so that `prune` keeps them."""
        if self.path.exists():
            self.path.touch()

    @contextmanager
    def writer(self) -> Iterator[Callable[[str, Any], None]]:
        """Yield append(key, record). A record is in the file when append returns, and on the disk at the end."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab+", buffering=0) as file:
            with _locked(file):
                end = self._scan(file)
                if end < os.fstat(file.fileno()).st_size:
                    log.warning("%s: cut a torn record off the end", self.path)
                    file.truncate(end)

            def append(key: str, record: Any) -> None:
                payload = zlib.compress(json.dumps(record, ensure_ascii=False, allow_nan=False).encode(), 6)
                raw_key = bytes.fromhex(key)
                header = HEADER.pack(MAGIC, raw_key, len(payload), zlib.crc32(raw_key + payload))
                with _locked(file):
                    start = file.seek(0, os.SEEK_END)
                    try:
                        left = memoryview(header + payload)
                        while left:  # a disk that fills up takes a part first
                            left = left[file.write(left) :]
                    except OSError as error:
                        file.truncate(start)
                        error.filename = str(self.path)
                        raise
                self._places[key] = (start + HEADER.size, len(payload))

            try:
                yield append
            finally:
                os.fsync(file.fileno())

    def _scan(self, file: BinaryIO) -> int:
        """Index the records from where the last scan ended; returns the offset behind the last whole record."""
        if os.fstat(file.fileno()).st_size <= self._scanned:
            return self._scanned
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            position = self._scanned
            while (start := data.find(MAGIC, position)) >= 0 and start + HEADER.size <= len(data):
                _, key, length, checksum = HEADER.unpack_from(data, start)
                begin = start + HEADER.size
                payload = data[begin : begin + length]
                if len(payload) == length and zlib.crc32(key + payload) == checksum:
                    self._places[key.hex()] = (begin, length)
                    position = self._scanned = begin + length
                else:
                    # Torn at the end, or damaged in the middle: look for the next record that is whole.
                    log.warning("%s: damaged record at byte %d left out", self.path, start)
                    position = start + 1
        return self._scanned


@contextmanager
def _locked(file: BinaryIO) -> Iterator[None]:
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


@dataclass(frozen=True)
class FileStore:
    """Whole files by key: `{folder}/{key}/` with a manifest of sha256 checksums."""

    folder: Path

    def verify(self, key: str) -> bool:
        """Whether the key is there and every file is intact; what is damaged is removed."""
        place = self.folder / key
        try:
            manifest = json.loads((place / MANIFEST).read_text(encoding="utf-8"))
            if all(file_digest(place / name) == digest for name, digest in manifest["files"].items()):
                os.utime(place)
                return True
        except FileNotFoundError:
            if not place.exists():
                return False
        except (ValueError, KeyError, TypeError, AttributeError, NotADirectoryError):
            pass
        log.warning("%s: damaged, removed; it is made again", place)
        shutil.rmtree(place, ignore_errors=True)
        return False

    @contextmanager
    def add(self, key: str) -> Iterator[Path]:
        """Yield a temporary folder; its files become the content of `key` on success, and vanish on failure."""
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".tmp-", dir=self.folder))
        try:
            yield temporary
            files = {file.name: file_digest(file) for file in sorted(temporary.iterdir())}
            with atomic_path(temporary / MANIFEST) as manifest:
                manifest.write_text(json.dumps({"files": files}), encoding="utf-8")
            temporary.chmod(0o755)
            try:
                temporary.rename(self.folder / key)
            except OSError:
                # Somebody else has just finished the same work: theirs is as good.
                if not (self.folder / key / MANIFEST).exists():
                    raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def link(self, key: str, destinations: dict[str, str | Path]) -> None:
        """Put files of a key at their destinations: hard links, or copies across file systems."""
        for name, destination in destinations.items():
            with atomic_path(destination) as temporary:
                temporary.unlink()
                try:
                    os.link(self.folder / key / name, temporary)
                except OSError:
                    shutil.copyfile(self.folder / key / name, temporary)
            os.utime(destination)


def response_log(store: str | Path, model: str, role: str) -> RecordLog:
    """The store's file of responses of one model in one role."""
    return RecordLog(Path(store) / "responses" / model / f"{role}.log")


def feature_files(store: str | Path) -> FileStore:
    """The store's features."""
    return FileStore(Path(store) / "features")


def _is_abandoned(folder: Path) -> bool:
    """Whether a temporary folder is what an interrupted job has left (a running one writes within a day)."""
    return folder.name.startswith(".tmp-") and folder.stat().st_mtime <= time.time() - 86400


@dataclass(frozen=True)
class Usage:
    """What a part of the store holds."""

    part: str
    entries: int
    bytes: int


def usage(store: str | Path) -> list[Usage]:
    """Entries and size of each part of the store; reads every response, so that damaged ones are not counted."""
    sizes = disk_usage(store)
    responses = sum(len(RecordLog(path).keys()) for path in _response_logs(store))
    features = sum(not folder.name.startswith(".") for folder in _feature_folders(store))
    return [Usage("responses", responses, sizes["responses"]), Usage("features", features, sizes["features"])]


def disk_usage(store: str | Path) -> dict[str, int]:
    """Bytes of each part of the store, from the sizes of its files (a few a role or conversation)."""
    return {
        "responses": sum(map(_file_bytes, _response_logs(store))),
        "features": sum(map(_folder_bytes, _feature_folders(store))),
    }


def _response_logs(store: str | Path) -> list[Path]:
    return sorted((Path(store) / "responses").rglob("*.log"))


def _feature_folders(store: str | Path) -> list[Path]:
    folder = Path(store) / "features"
    return sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []


def _folder_bytes(folder: Path) -> int:
    try:
        return sum(map(_file_bytes, folder.iterdir()))
    except FileNotFoundError:
        return 0


def _file_bytes(file: Path) -> int:
    """The size of a file, none where a job has just renamed or removed it."""
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def prune(store: str | Path, *, unused_days: float) -> int:
    """Remove what was not used for so many days (and remains of interrupted writes); returns the bytes freed.

    Response files count as used when they were last appended to or read for an output.
    """
    limit = time.time() - unused_days * 86400
    freed = 0
    for path in _response_logs(store):
        if path.stat().st_mtime <= limit:
            freed += path.stat().st_size
            path.unlink()
    for folder in _feature_folders(store):
        if folder.stat().st_mtime <= limit or _is_abandoned(folder):
            freed += _folder_bytes(folder)
            shutil.rmtree(folder)
    return freed
