"""
Lines to a file descriptor: standard output, a pipe, a file that is appended to.

A writer thread does the writing, so a reader that stops reading never holds up the events:
the queue is bounded, what does not fit is dropped and counted. Only what the kernel takes without
waiting is written at once, which saves waking the thread. A disk that is full does not
end the watch either: what can't be written is dropped and counted, and tried again. When
lines are written again, the log says how many are missing, and so may the stream itself.
"""

from __future__ import annotations

import logging
import os
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, NamedTuple, Self

from ctrwatch.errors import InputError
from ctrwatch.outputs.sink import Sink

__all__ = ("LineOutput", "Resumed", "opened")

log = logging.getLogger(__name__)

# Ten seconds of the densest storm measured (3,000 lines a second of 2 KB). More only
# grows the host's memory while nobody reads.
_BYTES: Final = 64 << 20
# Of lines that are written at once: a pipe takes as much. More saves nothing: by then the
# system call costs less than the lines.
_BATCH: Final = 64 << 10
_GRACE_S: Final = 5.0  # for the reader to take what is queued, at the end
# Between two tries on a disk that is full. Lines wait so long, not longer: what they take is
# little, and of those that come in the second before there is room none is lost.
_RETRY_S: Final = 1.0
_FLAGS: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC

Resumed = Callable[[int, int], bytes | None]


class _Turn(NamedTuple):
    fd: int
    path: Path | None


class _Entry(NamedTuple):
    line: bytes
    first: Callable[[], None] | None = None
    then: Callable[[], None] | None = None
    missed: int = 0  # lines that found no room before this entry
    turn: _Turn | None = None  # what comes after this entry goes elsewhere


class LineOutput:
    """
    *fd* stays the caller's; `open_file` makes one that closes its own.

    The callbacks are called in the writer's thread. *on_failure*: nothing can be written any
    more. *on_resumed*: gives the line that comes first when lines are written again, and is
    told how many are missing and since when (ns, wall clock); it is asked again if that line
    can't be written.
    """

    def __init__(
        self,
        fd: int,
        *,
        path: Path | None = None,
        on_failure: Callable[[], object] = lambda: None,
        on_resumed: Resumed = lambda _number, _since_ns: None,
        owned: bool = False,
    ) -> None:
        self._sink, self._owned, self._path = Sink(fd), owned, path
        self._on_failure, self._on_resumed = on_failure, on_resumed
        self._lines: deque[_Entry] = deque()
        self._queued = 0
        self._changed = threading.Condition()
        self._idle = False  # the thread waits, and has nothing in hand
        self._ending = self._last_try = False
        self._reopen = False
        self._missed = 0  # found no room, and no entry in the queue says so yet
        self._marked = 0  # entries in the queue that say so
        self._untold = 0  # are missing, and nothing was written since
        self._unwritten = 0  # of those that are being written
        self._headed = False  # and the first of them says how many are missing
        self._told = 0  # as many, as soon as it is written
        self.dropped = 0
        self._missing_since_ns = 0  # wall clock; the first of the lines that are missing now
        self.full = False  # the last line found no room: nobody reads
        self.trouble: OSError | None = None  # it can't be written to now; the watch goes on
        self.failure: OSError | None = None  # it can't be written to any more
        self._thread = threading.Thread(target=self._work, name="output", daemon=True)
        self._thread.start()

    @classmethod
    def open_file(
        cls,
        path: Path,
        on_failure: Callable[[], object] = lambda: None,
        on_resumed: Resumed = lambda _number, _since_ns: None,
    ) -> Self:
        """Append to *path*. Raises InputError where it can't be opened."""
        try:
            fd = os.open(path, _FLAGS, 0o640)
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}") from None
        return cls(fd, path=path, on_failure=on_failure, on_resumed=on_resumed, owned=True)

    def write(
        self,
        line: bytes,
        *,
        first: Callable[[], None] | None = None,
        then: Callable[[], None] | None = None,
    ) -> None:
        """
        *first* is called in the writer's thread before the line is written, unless it is dropped;
        *then* after it was written.
        """
        with self._changed:
            if self.failure is not None:
                self.dropped += 1
                return
            # Once full, it takes lines again when half of them have gone: who reads slowly finds
            # one gap in his stream, not one before each line.
            room = (_BYTES // 2 if self._missed else _BYTES) >= self._queued
            if room and self._queued + len(line) <= _BYTES:
                self.full = False
                at_once = self._idle and first is None and then is None and not self._lines
                if at_once and self._sink.offer(line):
                    return
                self._mark()
                self._lines.append(_Entry(line, first, then))
                self._queued += len(line)
                self._changed.notify()
                return
            begins, self.full = not self._missed, True
            self._miss()
            self.dropped += 1
            self._missed += 1
        # A log that goes the same way would wait for the same reader.
        if begins and not _same(self._sink.fd, 2):
            log.warning("%s: nobody reads it; lines are dropped", self._name)

    def reopen(self) -> None:
        """
        Open the path again between two whole lines; no line is lost.

        Where it can't be opened the old file stays, with a word in the log. What is no file,
        as a pipe, stays as it is.
        """
        with self._changed:
            self._reopen = True
            self._changed.notify()

    def turn(self, fd: int, path: Path | None = None) -> None:
        """
        What is written from now on goes to *fd*, which is closed when it is done with.

        What was written before goes where it would have gone. *path* as of `open_file`.
        """
        with self._changed:
            self._mark()  # what was missing before is told before
            self._lines.append(_Entry(b"", turn=_Turn(fd, path)))
            self._changed.notify()

    @property
    def waiting(self) -> tuple[int, int]:
        """Lines that wait for the reader, and their bytes."""
        with self._changed:
            return len(self._lines), self._queued

    def close(self) -> None:
        """Write what is queued, as far as the reader takes it within five seconds."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        self._thread.join(_GRACE_S)
        with self._changed:
            self.dropped += self._lost + sum(bool(entry.line) for entry in self._lines)
            self._unwritten, self._headed, self._queued = 0, False, 0
            for entry in self._lines:
                if entry.turn is not None:
                    os.close(entry.turn.fd)
            self._lines.clear()
        if self._owned and not self._thread.is_alive():
            os.close(self._sink.fd)

    @property
    def _name(self) -> str:
        return str(self._path or "standard output")

    def _miss(self) -> None:
        """Before the first of the missing is counted: since when."""
        if not (self._missed or self._marked or self._untold):
            self._missing_since_ns = time.time_ns()

    def _mark(self) -> None:
        if self._missed:
            self._lines.append(_Entry(b"", missed=self._missed))
            self._marked, self._missed = self._marked + 1, 0

    # --- the writer's thread --------------------------------------------------------------

    def _work(self) -> None:
        while (batch := self._take()) is not None:
            if batch and (turn := batch[0].turn) is not None:
                self._become(turn.fd, turn.path)
                continue
            self._open_again()
            if not self._deliver(batch):
                self._on_failure()
                return

    def _take(self) -> list[_Entry] | None:
        """What is written next; nothing, when it is time to try again; None: that was all."""
        with self._changed:
            if self.trouble is None:
                self._idle = not (self._untold or self._missed)
                self._changed.wait_for(lambda: self._lines or self._ending or self._reopen)
                self._idle = False
            else:
                self._changed.wait_for(lambda: self._ending or self._reopen, _RETRY_S)
            if self._ending and not self._lines:
                self._mark()  # said at the end, if not before
                if not self._lines and (self._last_try or not self._untold):
                    return None
                self._last_try = True
            batch: list[_Entry] = []
            size = 0
            while self._lines:
                entry = self._lines[0]
                if batch and (
                    entry.missed or entry.turn is not None or size + len(entry.line) > _BATCH
                ):
                    break
                batch.append(self._lines.popleft())
                size += len(entry.line)
                if entry.turn is not None:
                    break  # alone
            self._queued -= size
            self._untold += sum(entry.missed for entry in batch)
            self._marked -= sum(bool(entry.missed) for entry in batch)
            return batch

    def _deliver(self, batch: list[_Entry]) -> bool:
        """False: nothing can be written any more."""
        lines = [entry.line for entry in batch if entry.line]
        for entry in batch:
            if entry.first is not None:
                entry.first()
        said = None
        if self._untold:
            said = self._on_resumed(self._untold, self._missing_since_ns)
        if not lines and said is None:
            _written(batch)
            return True
        self._headed = said is not None
        lines = lines if said is None else [said, *lines]
        self._unwritten = len(lines)
        try:
            self._sink.write(lines, self._wrote)
        except OSError as error:
            return self._failed(error)
        _written(batch)
        self._resumed()
        return True

    def _wrote(self, number: int) -> None:
        if number:
            self._unwritten -= number
            if self._headed or self._untold:
                self._headed, self._told, self._untold = False, self._untold, 0

    @property
    def _lost(self) -> int:
        """Lines of the batch that are not there; the word of what is missing is none of them."""
        return self._unwritten - self._headed

    def _failed(self, error: OSError) -> bool:
        """What waits for the same file is dropped with the batch: it has waited its second."""
        with self._changed:
            passes = self._sink.passes(error)
            begins = self.trouble is None
            rest: list[_Entry] = []
            while self._lines and self._lines[0].turn is None:
                rest.append(self._lines.popleft())
            self._queued -= sum(len(entry.line) for entry in rest)
            lost = self._lost + sum(bool(entry.line) for entry in rest)
            self._miss()
            self._unwritten, self._headed = 0, False
            self._untold += lost + sum(entry.missed for entry in rest)
            self._marked -= sum(bool(entry.missed) for entry in rest)
            self.dropped += lost
            if passes:
                self.trouble = error
            else:
                self.failure = error
        idle = [entry for entry in rest if not entry.line]  # had nothing to write: nothing is lost
        for entry in idle:
            if entry.first is not None:
                entry.first()
        _written(idle)
        if passes and begins:
            log.error(
                "%s: %s; lines are dropped until it can be written", self._name, error.strerror
            )
        return passes

    def _resumed(self) -> None:
        with self._changed:
            self.trouble = None
            if self._missed and not self._lines:  # the reader has taken all there was
                self.full = False
                self._mark()
        if self._told:
            log.warning("%s: written again; %d lines are missing", self._name, self._told)
            self._told = 0

    def _open_again(self) -> None:
        with self._changed:
            asked = self._reopen
            # Where it turns to was opened a while ago, and may have been rotated since.
            self._reopen = asked and any(entry.turn is not None for entry in self._lines)
        if not asked or self._path is None or not self._sink.is_file:
            return
        try:
            fd = opened(self._path)
        except InputError as error:
            log.error("%s; it goes on as before", error)  # noqa: TRY400
            return
        self._become(fd, self._path)

    def _become(self, fd: int, path: Path | None) -> None:
        before, owned = self._sink.fd, self._owned
        self._sink, self._owned, self._path = Sink(fd), True, path
        if owned:
            os.close(before)


def _written(entries: Iterable[_Entry]) -> None:
    for entry in entries:
        if entry.then is not None:
            entry.then()


def opened(path: Path) -> int:
    """A file to append to; never one that has a reader. Raises InputError."""
    try:
        # Not to wait for a FIFO's reader; then it is refused, for nobody waits in a file.
        fd = os.open(path, _FLAGS | os.O_NONBLOCK, 0o640)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise InputError(f"{path}: not a file")
    return fd


def _same(fd: int, other: int) -> bool:
    try:
        return os.path.sameopenfile(fd, other)
    except OSError:
        return False
