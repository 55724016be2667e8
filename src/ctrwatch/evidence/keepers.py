"""
Who keeps a container that no OCI runtime made: LXC's monitor, systemd-nspawn.

Such a keeper makes the container's cgroup and stays the parent of its first process as
long as that lives. What it says of itself is its command line: the sensor has it as it
was when the cgroup was made; of a container that was there before us it is read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final, NamedTuple

from ctrwatch.evidence.files import Unreadable, read
from ctrwatch.model import Subject

__all__ = ("Keeper", "Keepers")

_CMDLINE_BYTES: Final = 256 << 10  # a keeper's has some hundred
_STATUS_BYTES: Final = 64 << 10  # many supplementary groups


class Keeper(NamedTuple):
    """A process that made a container's cgroup, or is the parent of its first process."""

    pid: int
    uid: int
    argv: tuple[str, ...]


class Keepers:
    """Looks at processes. Blocks for as long as their memory takes to be read."""

    def __init__(self, proc: str) -> None:
        """*proc*: where the host's proc file system is mounted."""
        self._proc = proc

    def of(self, subject: Subject) -> Iterator[Keeper]:
        """Those who may keep the container, the surest first."""
        creator = subject.creator
        if creator is not None and creator.argv and not creator.argv_cut:
            yield Keeper(creator.pid, creator.uid, creator.argv)
        first = subject.init.pid if subject.init else subject.facts.init_pid
        parents = [creator.pid if creator else 0, self._numbers(first, "PPid")[0] if first else 0]
        for pid in parents:
            if pid > 1:
                yield Keeper(pid, self._numbers(pid, "Uid")[0], self._argv(pid))

    def root(self, keeper: Keeper) -> str:
        """Where the keeper's paths begin, as this process can reach it."""
        theirs = self._namespace(keeper.pid)
        return "/" if theirs in {0, self._namespace("self")} else f"{self._proc}/{keeper.pid}/root"

    def directory(self, keeper: Keeper, path: str) -> str:
        """*path* as the keeper means it; "" where that can't be known any more."""
        if path.startswith("/"):
            return path
        try:
            return os.path.normpath(f"{os.readlink(f'{self._proc}/{keeper.pid}/cwd')}/{path}")
        except (OSError, ValueError):
            return ""

    def is_apart(self, subject: Subject) -> bool:
        """The container's first process has mounts of its own: others' than its creator's, and ours."""
        if (init := subject.init) is not None:
            outside = subject.creator.mnt_ns if subject.creator else 0
            return init.mnt_ns not in {0, outside, self._namespace("self")}
        pid = subject.facts.init_pid
        return bool(pid) and self._namespace(pid or 0) not in {0, self._namespace("self")}

    def _argv(self, pid: int) -> tuple[str, ...]:
        try:
            raw = read(f"{self._proc}/{pid}/cmdline", _CMDLINE_BYTES)
        except Unreadable:  # it has ended, or its command line is absurd
            return ()
        return tuple(os.fsdecode(word) for word in raw.split(b"\0")[:-1])

    def _namespace(self, pid: int | str) -> int:
        """The mount namespace's number; 0: the process has ended."""
        try:
            return os.stat(f"{self._proc}/{pid}/ns/mnt").st_ino
        except OSError:
            return 0

    def _numbers(self, pid: int, field: str) -> list[int]:
        """Of a line of /proc/<pid>/status; a 0 where there is none."""
        try:
            status = read(f"{self._proc}/{pid}/status", _STATUS_BYTES)
        except Unreadable:
            return [0]
        rest = status.partition(f"\n{field}:".encode())[2]
        return [int(word) for word in rest.partition(b"\n")[0].split() if word.isdigit()] or [0]
