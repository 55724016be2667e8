"""
Lines to a file descriptor: standard output, a pipe, a file that is appended to.

A writer thread does the writing, so a reader that stops reading never holds up the
events: the queue is bounded, what does not fit is dropped and counted. A line is
written whole or, where the disk is full, not at all as far as it can be helped.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

from ctrwatch.errors import InputError

__all__ = ("LineOutput",)

# Ten seconds of the densest storm measured (3,000 lines a second of 2 KB). More only
# grows the host's memory while nobody reads.
_BYTES: Final = 64 << 20
_GRACE_S: Final = 5.0  # for the reader to take what is queued, at the end


class LineOutput:
    """*fd* stays the caller's; `open_file` makes one that closes its own."""

    def __init__(
        self, fd: int, *, owned: bool = False, on_failure: Callable[[], object] = lambda: None
    ) -> None:
        """*on_failure* is called, in the writer's thread, when nothing can be written any more."""
        self._fd, self._owned, self._on_failure = fd, owned, on_failure
        self._lines: deque[tuple[bytes, Callable[[], None] | None]] = deque()
        self._queued = 0
        self._changed = threading.Condition()
        self._ending = False
        self.dropped = 0
        self.full = False  # the last line found no room: nobody reads
        self.failure: OSError | None = None  # it can't be written to any more
        self._thread = threading.Thread(target=self._work, name="output", daemon=True)
        self._thread.start()

    @classmethod
    def open_file(cls, path: Path, on_failure: Callable[[], object] = lambda: None) -> Self:
        """Append to *path*. Raises InputError where it can't be opened."""
        try:
            fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}") from None
        return cls(fd, owned=True, on_failure=on_failure)

    def write(self, line: bytes, *, first: Callable[[], None] | None = None) -> None:
        """*first* is called in the writer's thread before the line is written, unless it is dropped."""
        with self._changed:
            if self.failure is not None or self._queued + len(line) > _BYTES:
                self.dropped += 1
                self.full = True
                return
            self.full = False
            self._lines.append((line, first))
            self._queued += len(line)
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
            self.dropped += len(self._lines)
            self._lines.clear()
        if self._owned and not self._thread.is_alive():
            os.close(self._fd)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines or self._ending)
                if not self._lines:
                    return
                line, first = self._lines.popleft()
                self._queued -= len(line)
            if first is not None:
                first()
            try:
                self._write_whole(line)
            except OSError as error:
                with self._changed:
                    self.failure = error
                    self.dropped += 1 + len(self._lines)
                    self._lines.clear()
                    self._queued = 0
                self._on_failure()
                return

    def _write_whole(self, line: bytes) -> None:
        rest = memoryview(line)
        while rest:
            rest = rest[os.write(self._fd, rest) :]
