"""
Who keeps a container that no OCI runtime made: LXC's monitor, systemd-nspawn.

Such a keeper makes the container's cgroup and stays the parent of its first process as
long as that lives. What it says of itself is its command line: the sensor has it as it
was when the cgroup was made; of a container that was there before us it is read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

from ctrwatch.evidence.processes import Processes
from ctrwatch.model import Subject

__all__ = ("Keeper", "Keepers")


class Keeper(NamedTuple):
    """A process that made a container's cgroup, or is the parent of its first process."""

    pid: int
    uid: int
    argv: tuple[str, ...]


class Keepers:
    """Looks at processes. Blocks for as long as their memory takes to be read."""

    def __init__(self, proc: str) -> None:
        """*proc*: where the host's proc file system is mounted."""
        self._processes = Processes(proc)

    def of(self, subject: Subject) -> Iterator[Keeper]:
        """Those who may keep the container, the surest first."""
        creator = subject.creator
        if creator is not None and creator.argv and not creator.argv_cut:
            yield Keeper(creator.pid, creator.uid, creator.argv)
        first = subject.init.pid if subject.init else subject.facts.init_pid
        for pid in (creator.pid if creator else 0, self._processes.parent(first) if first else 0):
            if pid > 1 and (uid := self._processes.uid(pid)) is not None:
                yield Keeper(pid, uid, self._processes.argv(pid))

    def root(self, keeper: Keeper) -> str:
        """Where the keeper's paths begin, as this process can reach it."""
        return self._processes.root(keeper.pid) or "/"

    def directory(self, keeper: Keeper, path: str) -> str:
        """*path* as the keeper means it; "" where that can't be known any more."""
        if path.startswith("/"):
            return path
        directory = self._processes.cwd(keeper.pid)
        return os.path.normpath(f"{directory}/{path}") if directory else ""

    def is_apart(self, subject: Subject) -> bool:
        """The container's first process has mounts of its own: others' than its creator's, and ours."""
        here = self._processes.no_containers
        if (init := subject.init) is not None:
            outside = subject.creator.mnt_ns if subject.creator else 0
            return init.mnt_ns not in here | {outside}
        pid = subject.facts.init_pid
        return bool(pid) and self._processes.mount_namespace(pid or 0) not in here
