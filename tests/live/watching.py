"""A real `ctrwatch events` at work, and its lines as they arrive."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

Event = dict[str, Any]
CTRWATCH = (sys.executable, "-m", "ctrwatch")
SENSORS = ("ebpf", "fanotify")
DEADLINE_S = 20.0  # for what takes milliseconds: only a broken test waits that long


class Line(NamedTuple):
    arrived_ns: int  # CLOCK_BOOTTIME, when its reader had it
    event: Event


class Watching:
    """
    `with Watching() as watching: …; watching.event("container_create", container_id)`.

    It is attached, and has listed what was there, when the block begins. *within*: a
    program with its arguments that runs it, as `unshare` does. *lines*: as what they are chosen.
    """

    def __init__(
        self,
        *options: str,
        within: Sequence[str] = (),
        lines: Sequence[str] = ("--format", "json"),
    ) -> None:
        self._options, self._within = (*lines, *options), within
        self.lines: list[Line] = []
        self.errors: list[str] = []
        self._changed = threading.Condition()
        self._ended = False

    def __enter__(self) -> Self:
        command = (*self._within, *CTRWATCH, "-v", "events", *self._options)
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
        )
        self._readers = [
            threading.Thread(target=self._read_events),
            threading.Thread(target=self._read_errors),
        ]
        for reader in self._readers:
            reader.start()
        try:
            self.until(lambda: any("listening" in line for line in self.errors), "listening")
        except BaseException:
            self.stop(signal.SIGKILL)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it; its exit code. What it said on standard error is in `errors`."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(DEADLINE_S)
        for reader, pipe in zip(
            self._readers, (self.process.stdout, self.process.stderr), strict=True
        ):
            reader.join(DEADLINE_S)
            if pipe is not None:
                pipe.close()
        return code

    def event(self, name: str, container_id: str, *, nth: int = 1) -> Event:
        """The nth event of that name for that container, as soon as it is there."""
        return self.line(name, container_id, nth=nth).event

    def line(self, name: str, container_id: str, *, nth: int = 1) -> Line:
        def matching() -> list[Line]:
            return [
                line
                for line in self.lines
                if line.event["event"] == name and line.event.get("container_id") == container_id
            ]

        self.until(lambda: len(matching()) >= nth, f"{name} of {container_id}")
        return matching()[nth - 1]

    def of(self, container_id: str) -> list[Event]:
        return [line.event for line in self.lines if line.event.get("container_id") == container_id]

    def names(self, container_id: str) -> list[str]:
        """The container's events by name, without the updates."""
        names = [event["event"] for event in self.of(container_id)]
        return [name for name in names if name != "container_update"]

    def until(self, holds: Callable[[], bool], what: str) -> None:
        with self._changed:
            self._changed.wait_for(lambda: holds() or self._ended, DEADLINE_S)
            if not holds():
                said = "".join(self.errors[-20:])
                raise TimeoutError(f"not within {DEADLINE_S} s: {what}; it said:\n{said}")

    def wait(self, seconds: float) -> None:
        """For the next line, but no longer."""
        with self._changed:
            self._changed.wait(seconds)

    def _read_events(self) -> None:
        assert self.process.stdout is not None
        for raw in self.process.stdout:
            arrived_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            with self._changed:
                self.lines.append(Line(arrived_ns, json.loads(raw)))
                self._changed.notify_all()

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        for raw in self.process.stderr:
            with self._changed:
                self.errors.append(raw.decode())
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()


def ctrwatch(*arguments: str, stdin: bytes = b"", code: int = 0) -> str:
    """Run a command of ctrwatch to its end; what it printed."""
    done = subprocess.run(
        (*CTRWATCH, *arguments), input=stdin, capture_output=True, check=False, env=environment(),
        timeout=60,
    )  # fmt: skip
    assert done.returncode == code, done.stderr.decode()
    return done.stdout.decode()


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}


def unified() -> Path:
    """Where the unified hierarchy is mounted."""
    hybrid = Path("/sys/fs/cgroup/unified")
    return hybrid if hybrid.is_dir() else hybrid.parent
