"""A command of ctrwatch on a terminal of its own, standard error too, as somebody sees it."""

from __future__ import annotations

import codecs
import os
import pty
import select
import signal
import subprocess
import time
from types import TracebackType
from typing import Self

from tests.live.watching import CTRWATCH, DEADLINE_S, environment


class Terminal:
    """`with Terminal("events") as terminal: terminal.until("listening")`; then `shown` is all."""

    def __init__(self, *arguments: str) -> None:
        self._arguments = arguments
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self.shown = ""

    def __enter__(self) -> Self:
        self._ours, theirs = pty.openpty()
        self._process = subprocess.Popen(
            (*CTRWATCH, *self._arguments), stdin=theirs, stdout=theirs, stderr=theirs,
            env={**environment(), "TERM": "xterm"},
        )  # fmt: skip
        os.close(theirs)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._process.send_signal(signal.SIGTERM)
            until_s = time.monotonic() + DEADLINE_S
            while self._read(until_s):
                pass
            self._process.wait(DEADLINE_S)
        finally:
            self._process.kill()
            os.close(self._ours)

    def until(self, text: str) -> None:
        """Wait for *text* to be shown."""
        until_s = time.monotonic() + DEADLINE_S
        while text not in self.shown:
            if not self._read(until_s):
                raise TimeoutError(f"not within {DEADLINE_S} s: {text}; it showed:\n{self.shown!r}")

    def _read(self, until_s: float) -> bool:
        """More of it; False: there is none, or not in time."""
        if not select.select([self._ours], [], [], max(0, until_s - time.monotonic()))[0]:
            return False
        try:
            raw = os.read(self._ours, 1 << 16)
        except OSError:  # EIO: the other end is closed
            raw = b""
        self.shown += self._decoder.decode(raw)
        return bool(raw)
