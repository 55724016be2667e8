"""
A process as /proc shows it: its command line, its user, its parent, its namespaces.

All of it races with the end of the process, which is no error: then there is nothing to
know. But for the command line these files are the kernel's own and wait for nothing; that
one stands in the process's memory, so it is read in a thread that may hang.
"""

from __future__ import annotations

import os
from typing import Final

from ctrwatch.evidence.files import Unreadable, read

__all__ = ("Processes",)

_CMDLINE_BYTES: Final = 256 << 10  # conmon's has 3 KB; ARG_MAX would be 2 MB
_STAT_BYTES: Final = 4 << 10
_STATUS_BYTES: Final = 64 << 10  # many supplementary groups
_STARTTIME: Final = 19  # in stat, counted from the state: proc(5) calls it field 22


class Processes:
    def __init__(self, proc: str) -> None:
        """*proc*: where the host's proc file system is mounted."""
        self._proc = proc

    def argv(self, pid: int) -> tuple[str, ...]:
        """Empty when it has ended, or when its command line is absurd."""
        try:
            raw = read(f"{self._proc}/{pid}/cmdline", _CMDLINE_BYTES)
        except Unreadable:
            return ()
        return tuple(os.fsdecode(word) for word in raw.split(b"\0")[:-1])

    def uid(self, pid: int) -> int | None:
        """The real one; None when it has ended."""
        return next(iter(self._status(pid, "Uid")), None)

    def parent(self, pid: int) -> int:
        """Its pid; 0 when the process has ended."""
        return next(iter(self._status(pid, "PPid")), 0)

    def pids(self, pid: int | str) -> list[int]:
        """Its number in each pid namespace, ours first (NSpid, since Linux 4.1)."""
        return self._status(pid, "NSpid")

    def started(self, pid: int) -> int:
        """Clock ticks since boot; 0 when it has ended."""
        try:
            raw = read(f"{self._proc}/{pid}/stat", _STAT_BYTES)
        except Unreadable:
            return 0
        fields = raw.rpartition(b")")[2].split()  # the name before may hold anything
        is_there = len(fields) > _STARTTIME and fields[_STARTTIME].isdigit()
        return int(fields[_STARTTIME]) if is_there else 0

    def comm(self, pid: int) -> str:
        try:
            return os.fsdecode(read(f"{self._proc}/{pid}/comm", _STAT_BYTES)).rstrip("\n")
        except Unreadable:
            return ""

    def cwd(self, pid: int) -> str:
        """Its working directory as it has it; "" when that can't be known any more."""
        try:
            directory = os.readlink(f"{self._proc}/{pid}/cwd")
        except OSError:
            return ""
        return directory if directory.startswith("/") else ""

    def mount_namespace(self, pid: int) -> int:
        """Its number; 0 when the process has ended."""
        return self._namespace(pid)

    @property
    def our_mount_namespace(self) -> int:
        return self._namespace("self")

    @property
    def hosts_mount_namespace(self) -> int:
        """Not ours where ctrwatch is a service with a view of the files of its own."""
        return self._namespace(1)

    @property
    def no_containers(self) -> set[int]:
        """The mount namespaces that are none; also what is read of a process that has ended."""
        return {0, self.our_mount_namespace, self.hosts_mount_namespace}

    def root(self, pid: int) -> str:
        """Where its paths begin, as this process reaches them; "" is here."""
        is_elsewhere = self.mount_namespace(pid) not in {0, self.our_mount_namespace}
        return f"{self._proc}/{pid}/root" if is_elsewhere else ""

    def _namespace(self, pid: int | str) -> int:
        try:
            return os.stat(f"{self._proc}/{pid}/ns/mnt").st_ino
        except OSError:
            return 0

    def _status(self, pid: int | str, field: str) -> list[int]:
        """The numbers in a line of /proc/<pid>/status; none: it has ended."""
        try:
            status = read(f"{self._proc}/{pid}/status", _STATUS_BYTES)
        except Unreadable:
            return []
        rest = status.partition(f"\n{field}:".encode())[2]
        return [int(word) for word in rest.partition(b"\n")[0].split() if word.isdigit()]
