"""
A program for each violation: JSON on its standard input, ten seconds, no shell.

It runs as the user that ctrwatch is, in a session of its own, without any capability: the thread
that starts it has given up all it had, and a program never gets more than who starts it
(`no_new_privs`). What it prints goes nowhere; whether it succeeded is counted and logged.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import shlex
import shutil
import signal
import subprocess
import threading
from collections import Counter, deque
from collections.abc import Sequence
from typing import Final, Literal

from ctrwatch.core.alerting import alert, body
from ctrwatch.errors import InputError
from ctrwatch.event import ContainerEvent, Violation
from ctrwatch.privileges import keep

__all__ = ("Command", "words")

log = logging.getLogger(__name__)

_DEADLINE_S: Final = 10.0
_AT_ONCE: Final = 4  # a program takes milliseconds; one that hangs takes a fourth of what can run
_WAITING_BYTES: Final = 8 << 20  # of violations that wait for their turn: thousands
_GRACE_S: Final = 5.0  # at the end, for those that run or wait
_PASSED_ON: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TZ")  # of the environment

Outcome = Literal["succeeded", "failed", "killed", "dropped"]


def words(given: str) -> list[str]:
    """
    The program, found, and its arguments. Raises InputError.

    >>> words("/bin/cat -n 'a b'")[1:]
    ['-n', 'a b']
    """
    try:
        split = shlex.split(given)
    except ValueError as error:
        raise InputError(f"--on-violation {given}: {error}") from None
    if not split:
        raise InputError("--on-violation: give a program and its arguments")
    program = shutil.which(split[0])
    if program is None:
        raise InputError(f"--on-violation {split[0]}: no such program, or it can't be executed")
    return [os.path.abspath(program), *split[1:]]


class Command:
    """`push` and `close` are for one thread. It never waits."""

    def __init__(self, command: Sequence[str], *, deadline_s: float = _DEADLINE_S) -> None:
        """Make it after `privileges.keep`: its threads begin with what the caller has."""
        self._command, self._deadline_s = list(command), deadline_s
        self._environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._ending = False
        self._full = False
        self._busy = 0
        self._running: set[int] = set()  # pidfds
        self.counted: Counter[str] = Counter()
        self._threads = [
            threading.Thread(target=self._work, name="on-violation", daemon=True)
            for _ in range(_AT_ONCE)
        ]
        for thread in self._threads:
            thread.start()

    def push(self, violation: Violation, event: ContainerEvent) -> None:
        said = body(alert(violation, event), "json") + b"\n"
        with self._changed:
            # Once full it takes more when half of it has gone: one word in the log, not a thousand.
            if self._bytes + len(said) <= (_WAITING_BYTES // 2 if self._full else _WAITING_BYTES):
                self._full = False
                self._waiting.append(said)
                self._bytes += len(said)
                self._changed.notify()
                return
            self.counted["dropped"] += 1
            begins, self._full = not self._full, True
        if begins:
            log.error("--on-violation: the program is too slow; violations are not given to it")

    def close(self) -> None:
        """Give those that wait and run five seconds; the rest is dropped, or killed."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not (self._waiting or self._busy), _GRACE_S)
            if self._waiting:
                self.counted["dropped"] += len(self._waiting)
                log.error("--on-violation: %d were not given to the program", len(self._waiting))
            self._waiting.clear()
            for pidfd in self._running:
                _kill(pidfd)
        for thread in self._threads:
            thread.join(_GRACE_S)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    # --- a thread of its own --------------------------------------------------------------

    def _work(self) -> None:
        try:
            keep(())
        except OSError as error:
            log.error("--on-violation: privileges can't be given up: %s", error)  # noqa: TRY400
            return
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, 0)  # this thread's: only events are in a hurry
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._ending)
                if not self._waiting:
                    return
                said = self._waiting.popleft()
                self._bytes -= len(said)
                self._busy += 1
            outcome = self._run(said)
            with self._changed:
                self._busy -= 1
                self.counted[outcome] += 1
                self._changed.notify_all()

    def _run(self, said: bytes) -> Outcome:
        """Its input is a file in memory: it may read it or not, nobody waits for that."""
        stdin = os.memfd_create("violation", os.MFD_CLOEXEC)
        try:
            os.write(stdin, said)
            os.lseek(stdin, 0, os.SEEK_SET)
            process = subprocess.Popen(
                self._command, stdin=stdin, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                env=self._environment, cwd="/", start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            log.error("%s: %s", self._command[0], error.strerror)  # noqa: TRY400
            return "failed"
        finally:
            os.close(stdin)
        return self._wait(process)

    def _wait(self, process: subprocess.Popen[bytes]) -> Outcome:
        pidfd = os.pidfd_open(process.pid)  # it is not waited for yet, so the pid is still its own
        with self._changed:
            self._running.add(pidfd)
        try:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            in_time = bool(poll.poll(self._deadline_s * 1e3))
            if not in_time:
                os.killpg(process.pid, signal.SIGKILL)  # with what it has started
            code = process.wait()
        finally:
            with self._changed:
                self._running.discard(pidfd)
            os.close(pidfd)
        if not in_time:
            log.error("%s: killed after %g s", self._command[0], self._deadline_s)
            return "killed"
        if code != 0:
            how = f"exit code {code}" if code > 0 else f"killed by signal {-code}"
            log.error("%s: %s", self._command[0], how)
        return "succeeded" if code == 0 else "failed"


def _kill(pidfd: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has just ended
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
