"""Who made a cgroup, looked up in the real /proc: while the process lives, and after."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ctrwatch.sensor import makers
from ctrwatch.sensor.makers import Makers

WAITS = (sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()")


@contextmanager
def a_process() -> Iterator[tuple[int, int]]:
    """One that has come as far as to its own code: its pid, and a pidfd that outlives it."""
    with subprocess.Popen(WAITS, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid, os.pidfd_open(process.pid)


async def test_a_maker_is_who_he_was_when_he_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    looking = Makers()
    with a_process() as (pid, pidfd):
        alive = await looking.look({pid: pidfd})
    ended = await looking.look({pid: -1})  # the kernel gives no pidfd any more
    monkeypatch.setattr(makers, "_KNOWN_S", 0.0)
    forgotten = await looking.look({pid: -1})
    os.close(pidfd)
    looking.close()

    assert alive[pid].argv == WAITS
    assert ended == alive
    assert forgotten == {}


async def test_a_pid_that_was_given_to_another_is_nobodys() -> None:
    """The number is this process's; the pidfd is of one that has ended."""
    looking = Makers()
    with a_process() as (_, pidfd):
        pass
    found = await looking.look({os.getpid(): pidfd})
    os.close(pidfd)
    looking.close()

    assert found == {}
