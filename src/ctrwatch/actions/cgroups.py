"""
A container's cgroup, opened by its id: frozen, killed, looked at. Never found by its name.

Two ways: the unified hierarchy's own files (cgroup.freeze since Linux 5.2, cgroup.kill since
5.14; both act on what is below, too), and cgroup v1's freezer with a signal to each process.
What is written goes through the descriptor of the directory, so to that cgroup or to none.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final, Literal, Protocol

from ctrwatch.model import CgroupKey
from ctrwatch.sensor.host import Host

__all__ = ("V1", "Directory", "Place", "Unified", "opened")

State = Literal["gone", "empty", "populated"]

# A container at its birth is one directory with three processes. Who makes more while he is
# being stopped is stopped by the kernel's own recursion, or by the next round.
_DIRECTORIES: Final = 1_024
_PROCESSES: Final = 65_536
_HELD: Final = 256  # at a time: by default a process may have 1,024 descriptors
_FILE_BYTES: Final = 1 << 20  # of cgroup.procs, 8 bytes a process


class Directory:
    """A cgroup's directory; `close` it."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def close(self) -> None:
        os.close(self._fd)

    def fileno(self) -> int:
        return self._fd

    def read(self, name: str) -> str:
        """Raises OSError: ENOENT, ENODEV once the cgroup is removed."""
        return _read(self._fd, name)

    def write(self, name: str, text: str) -> None:
        fd = os.open(name, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=self._fd)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)

    def processes(self) -> list[int]:
        """Of it and of what is below, as many as one look can be about."""
        found: list[int] = []
        for pids in _walk(self._fd):
            found += pids
            if len(found) >= _PROCESSES:
                break
        return found

    def signal_each(self) -> int:
        """SIGKILL to every process; how many there were. A pid that was given away is left alone."""
        pids = self.processes()
        for batch in (pids[at : at + _HELD] for at in range(0, len(pids), _HELD)):
            with contextlib.ExitStack() as held:
                pidfds = list(_held(batch, held))
                still = set(self.processes())
                for pid, pidfd in pidfds:
                    if pid in still:  # looked at after it was held: it is that process
                        with contextlib.suppress(ProcessLookupError):
                            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        return len(pids)


class Place(Protocol):
    """Where a container's processes are held. All of it may raise OSError."""

    directory: Directory

    def freeze(self) -> None:
        """What is in it, and what enters later, runs no more."""
        ...

    def kill(self) -> None: ...

    def thaw(self) -> None: ...

    def frozen(self) -> bool: ...

    def state(self) -> State: ...


class Unified:
    def __init__(self, directory: Directory) -> None:
        self.directory = directory

    def freeze(self) -> None:
        self.directory.write("cgroup.freeze", "1")

    def kill(self) -> None:
        """Those that are frozen die, too (kernel/cgroup/freezer.c)."""
        try:
            self.directory.write("cgroup.kill", "1")
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENODEV):
                raise
            self.directory.signal_each()  # before Linux 5.14; or it has gone, and there is nobody

    def thaw(self) -> None:
        self.directory.write("cgroup.freeze", "0")

    def frozen(self) -> bool:
        return "frozen 1" in self.directory.read("cgroup.events").splitlines()

    def state(self) -> State:
        try:
            events = self.directory.read("cgroup.events")
        except OSError:
            return "gone"
        return "populated" if "populated 1" in events.splitlines() else "empty"


class V1:
    """
    A hierarchy of cgroup v1: the freezer's, or, where the container is in no freezer, another.

    Its frozen processes get a signal only when they are thawed: then at once, before they run.
    """

    def __init__(self, directory: Directory, *, freezer: bool) -> None:
        self.directory, self._freezer = directory, freezer

    def freeze(self) -> None:
        if not self._freezer:
            raise OSError(0, "it is in no freezer")
        self.directory.write("freezer.state", "FROZEN")

    def kill(self) -> None:
        """Where nobody is there yet it stays frozen, so that who enters waits for the next round."""
        if self.directory.signal_each() and self._freezer:
            self.thaw()

    def thaw(self) -> None:
        if self._freezer:
            self.directory.write("freezer.state", "THAWED")

    def frozen(self) -> bool:
        return self._freezer and self.directory.read("freezer.state").strip() == "FROZEN"

    def state(self) -> State:
        try:
            self.directory.read("cgroup.procs")
        except OSError:
            return "gone"
        return "populated" if self.directory.processes() else "empty"


def opened(host: Host, key: CgroupKey) -> Directory | None:
    """The cgroup with that id, and no other; None: it has gone, or may not be opened."""
    fd = host.open(key, os.O_RDONLY | os.O_DIRECTORY)
    if fd is None:
        return None
    if os.fstat(fd).st_ino != key.cgroup_id:
        os.close(fd)
        return None
    return Directory(fd)


def _held(pids: Iterable[int], held: contextlib.ExitStack) -> Iterator[tuple[int, int]]:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            pidfd = os.pidfd_open(pid)
            held.callback(os.close, pidfd)
            yield pid, pidfd


def _walk(top: int) -> Iterator[Sequence[int]]:
    """The processes of each directory from *top* on."""
    waiting, seen = ["."], 0
    while waiting and seen < _DIRECTORIES:
        path, seen = waiting.pop(), seen + 1
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        with contextlib.suppress(OSError):  # gone meanwhile
            fd = os.open(path, flags, dir_fd=top)
            try:
                yield _pids(fd)
                waiting += _below(fd, path, _DIRECTORIES - seen - len(waiting))
            finally:
                os.close(fd)


def _below(fd: int, path: str, most: int) -> list[str]:
    with os.scandir(fd) as entries:
        directories = (each.name for each in entries if each.is_dir(follow_symlinks=False))
        return [f"{path}/{name}" for name in islice(directories, max(0, most))]


def _pids(fd: int) -> list[int]:
    try:
        return [int(line) for line in _read(fd, "cgroup.procs").split()]
    except OSError:
        return []  # gone, or a threaded cgroup: its processes are its parent's


def _read(directory: int, name: str) -> str:
    fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=directory)
    try:
        whole = os.read(fd, _FILE_BYTES)
        while whole and len(whole) < _FILE_BYTES and (more := os.read(fd, _FILE_BYTES)):
            whole += more
    finally:
        os.close(fd)
    return whole.decode("ascii", "replace")
