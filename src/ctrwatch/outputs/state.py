"""
What was announced, on disk: so that a restart knows what is new, and what has gone meanwhile.

`DIR/announced.jsonl` has a line for each container that was told, its event, and one for each
that has ended. A line is appended by one write(2), of a birth before the event is written: whatever
ends ctrwatch, what was announced is known, and no birth is announced as new a second time. Of an
end it is after: killed between the two, ctrwatch tells it once more, with the same id. Nothing is synced to the disk: what a crash of the machine takes is of containers that it
ended, too. The file's time of change is the last sign of life.

When half of it is of the dead, the file is written anew, beside it, and renamed.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import msgspec

from ctrwatch.core.ids import birth_of
from ctrwatch.errors import InputError
from ctrwatch.event import ContainerEvent

__all__ = ("Past", "State")

log = logging.getLogger(__name__)

_VERSION: Final = 1
_NAME: Final = "announced.jsonl"
_LINE_MAX: Final = 1 << 20  # the longest event: 64 KB of labels, 64 KB of mounts, arguments
_SPARE_BYTES: Final = 4 << 20  # of the dead that are borne: 2,000 events
_MOST: Final = 1 << 20  # containers of one host, ever so many
# Longer than a birth waits to be told: a runtime still lists what was told as gone by then.
_RECENT_NS: Final = 60_000_000_000
_BORN: Final = frozenset({"container_create", "existing_container", "container_update"})


class Past(NamedTuple):
    """
    What an earlier ctrwatch left: *until_ns*, wall clock, it was there.

    *living* by birth id; *ended* has the ids of containers that were told with their end, lately.
    """

    until_ns: int
    living: dict[str, ContainerEvent]
    ended: frozenset[str] = frozenset()


class _Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    ctrwatch: int


class _Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """Of any line: an event's id, or the id of one that has gone."""

    id: str = ""
    gone: str = ""
    container_id: str = ""
    at_ns: int = 0  # wall clock: when it was told as gone

    @property
    def birth(self) -> str:
        return birth_of(self.id or self.gone)


_LINE: Final = msgspec.json.Decoder(_Line)
_EVENT: Final = msgspec.json.Decoder(ContainerEvent)
_HEAD: Final = msgspec.json.encode(_Head(_VERSION)) + b"\n"


class State:
    """
    Raises InputError where *directory* can't be used: not ours, in use, of a newer version.

    `past` is None where no ctrwatch was before. `note` and `sign` may be called from any one
    thread at a time; what can't be written is logged, and nobody waits for it.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / _NAME
        try:
            directory.mkdir(mode=0o700, exist_ok=True)
            self._lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise InputError(f"--state {directory}: {error.strerror}") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.past: Past | None = _read(self._path)
            self._fd, self._torn = -1, False
            self._compact()
        except BlockingIOError:
            os.close(self._lock)
            raise InputError(
                f"--state {directory}: another ctrwatch uses it; end that, or name another directory"
            ) from None
        except OSError as error:
            os.close(self._lock)
            raise InputError(f"--state {self._path}: {error.strerror}") from None
        self.failed = 0  # lines that could not be written

    def note(self, event: ContainerEvent) -> None:
        """Remember what is being told."""
        if event.event in _BORN:
            told = msgspec.structs.replace(event, event="container_create", changed=())
            line = msgspec.json.encode(told)
        elif event.event == "container_remove":
            gone = _Line(
                gone=birth_of(event.id), container_id=event.container_id, at_ns=time.time_ns()
            )
            line = msgspec.json.encode(gone)
        else:
            return
        self._append(line + b"\n")

    def sign(self) -> None:
        """A sign of life."""
        os.utime(self._fd)

    def close(self) -> None:
        os.utime(self._fd)
        os.close(self._fd)
        os.close(self._lock)

    def _append(self, line: bytes) -> None:
        try:
            # What is left of a line that was cut is ended first: who reads it leaves it out.
            done = os.write(self._fd, b"\n" + line if self._torn else line)
            self._torn = done < len(line)
            if os.fstat(self._fd).st_size > self._limit:
                self._compact()
        except OSError as error:
            if not self.failed:
                log.error(  # noqa: TRY400
                    "%s: %s; after a restart what is told now may be told again",
                    self._path, error.strerror,
                )  # fmt: skip
            self.failed += 1

    def _compact(self) -> None:
        """Write the living anew. Raises OSError; then the file stays as it was."""
        beside = self._path.with_suffix(".new")
        fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(os.dup(fd), "wb") as file:
                file.write(_HEAD)
                index = _index(self._path)
                for line in _lines_at(self._path, index.living | index.recent):
                    file.write(line)
            size = os.fstat(fd).st_size
            os.close(fd)
            fd = os.open(beside, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            if self.past is not None and self._fd < 0:
                os.utime(fd, ns=(self.past.until_ns, self.past.until_ns))
            os.rename(beside, self._path)
        except OSError:
            os.close(fd)
            raise
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._limit = fd, 2 * size + _SPARE_BYTES


def _read(path: Path) -> Past | None:
    try:
        until_ns = path.stat().st_mtime_ns
    except FileNotFoundError:
        return None
    with path.open("rb") as file:
        head = file.readline(_LINE_MAX)
    try:
        version = msgspec.json.decode(head, type=_Head).ctrwatch
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise InputError(
            f"--state {path}: not a state of ctrwatch's; name another directory"
        ) from None
    if version != _VERSION:
        raise InputError(
            f"--state {path}: written by another version of ctrwatch"
            f" (format {version}, this one reads {_VERSION})"
        )
    index = _index(path)
    living: dict[str, ContainerEvent] = {}
    for line in _lines_at(path, index.living):
        try:
            event = _EVENT.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            log.warning("%s: a line can't be read (%s); it is left out", path, error)
            continue
        living[birth_of(event.id)] = event
    return Past(until_ns, living, index.ended)


class _Index(NamedTuple):
    living: frozenset[int]  # where the last line of each that has not gone begins
    ended: frozenset[str]  # container ids
    recent: frozenset[int]  # where lines begin of those that have gone in the last minute


def _index(path: Path) -> _Index:
    last: dict[str, tuple[int, str]] = {}  # by birth
    ended: set[str] = set()
    recent: set[int] = set()
    since_ns = time.time_ns() - _RECENT_NS
    for at, raw in _lines(path):
        line = _decoded(raw)
        if line is None:
            continue
        before = last.pop(line.birth, None)
        if line.gone:
            if container_id := before[1] if before is not None else line.container_id:
                ended.add(container_id)
            if line.at_ns > since_ns and len(recent) < _MOST:
                recent.add(at)
        elif len(last) < _MOST:
            last[line.birth] = at, line.container_id
    return _Index(frozenset(at for at, _ in last.values()), frozenset(ended), frozenset(recent))


def _lines_at(path: Path, places: frozenset[int]) -> Iterator[bytes]:
    """In the file's order."""
    return (line for at, line in _lines(path) if at in places)


def _decoded(line: bytes) -> _Line | None:
    """None: nobody's."""
    try:
        read = _LINE.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return read if read.birth else None


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Whole lines with their offset; one that is too long, or has no end, is none."""
    try:
        file: BinaryIO = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        at, whole = 0, True
        while line := file.readline(_LINE_MAX):
            ends = line.endswith(b"\n")
            if whole and ends:
                yield at, line
            at, whole = at + len(line), ends
