"""
A process as /proc shows it now, for those who know a pid and no more.

But for `argv` these files are the kernel's own and wait for nothing. All of it races
with the end of the process, and its pid can be given to another: whoever needs to be
sure holds a pidfd, and asks it afterwards.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Final

from ctrwatch.model import Task

__all__ = (
    "NS_PER_TICK",
    "argv",
    "cgroups",
    "executed_inside",
    "is_first",
    "mount_namespace",
    "parent",
    "running",
    "started_ns",
    "task",
    "uid",
)

_ARGV_BYTES: Final = 4096  # as the eBPF sensor takes (CTRWATCH_ARGV_MAX)
_FILE_BYTES: Final = 64 << 10  # status with many groups, cgroup with a dozen hierarchies
_MOUNTS_BYTES: Final = 1 << 20  # a container has some 30 mounts of 100 bytes, a host a few hundred
NS_PER_TICK: Final = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_IDS: Final = re.compile(rb"\nUid:\t(\d+).*\nGid:\t(\d+)")  # the real ones, as task->cred has
_NSPID: Final = re.compile(rb"\nNSpid:\t([\d\t]+)")
_MNT_ID: Final = re.compile(rb"^mnt_id:\s*(\d+)$", re.MULTILINE)


def running() -> Iterator[tuple[int, str]]:
    """Every process there is, with what it is called (comm)."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                yield int(name), _read(int(name), "comm").decode("utf-8", "replace").strip()
            except OSError:
                continue  # gone meanwhile


def task(pid: int) -> Task | None:
    """The process without its command line; None when it has ended."""
    try:
        head, _, rest = _read(pid, "stat").rpartition(b")")
        ids = _IDS.search(_read(pid, "status"))
    except OSError:
        return None
    fields = rest.split()  # from the third on: state, ppid, …; the 22nd is the start, in ticks
    if ids is None or len(fields) < 20:
        return None
    return Task(
        pid=pid,
        ppid=int(fields[1]),
        uid=int(ids[1]),
        gid=int(ids[2]),
        comm=head.partition(b"(")[2].decode("utf-8", "surrogateescape"),
        start_ns=int(fields[19]) * NS_PER_TICK,
        mnt_ns=mount_namespace(pid),
        pid_ns=_number(pid, "pid_for_children"),
    )


def uid(pid: int) -> int | None:
    """The real one, also of a process that may not be traced; None when it has ended."""
    try:
        ids = _IDS.search(_read(pid, "status"))
    except OSError:
        return None
    return int(ids[1]) if ids else None


def parent(pid: int) -> int | None:
    """Its pid; None when the process has ended."""
    return _stat(pid, 4)


def started_ns(pid: int) -> int | None:
    """CLOCK_BOOTTIME of its start, to the clock tick; None when it has ended."""
    ticks = _stat(pid, 22)
    return None if ticks is None else ticks * NS_PER_TICK


def argv(pid: int, limit: int = _ARGV_BYTES) -> tuple[tuple[str, ...], bool]:
    """
    The command line, and whether it is longer than the *limit* of bytes; empty when it has ended.

    It is read from the process's own memory (never from a file that is mapped there: fs/proc/
    base.c, FOLL_ANON), and waits for the lock of its memory map and for what is swapped out.
    For a thread that nobody waits for.
    """
    try:
        raw = _read(pid, "cmdline", limit + 1)
    except OSError:
        return (), False
    words = raw[:limit].removesuffix(b"\0").decode("utf-8", "surrogateescape").split("\0")
    return (tuple(words) if raw else ()), len(raw) > limit


def mount_namespace(pid: int) -> int:
    """Its number; 0 when the process has ended."""
    return _number(pid, "mnt")


def is_first(pid: int) -> bool:
    """The process is pid 1 of a pid namespace that is not the host's (NSpid, since Linux 4.1)."""
    try:
        found = _NSPID.search(_read(pid, "status"))
    except OSError:
        return False
    numbers = found[1].split() if found else []
    return len(numbers) > 1 and numbers[-1] == b"1"


def cgroups(pid: int) -> dict[int, str]:
    """Its cgroup's path in each hierarchy; empty when it has ended."""
    try:
        text = _read(pid, "cgroup").decode("utf-8", "surrogateescape")
    except OSError:
        return {}
    lines = (line.split(":", 2) for line in text.split("\n") if line.count(":") >= 2)
    return {int(number): path for number, _, path in lines}


def executed_inside(pid: int) -> str:
    """
    The program of the process, if it was executed in the mount namespace it is in; else "".

    A process that leaves its mount namespace takes the program along that it runs, whose
    file is still on a mount of the one it left.
    """
    try:
        program = os.open(f"/proc/{pid}/exe", os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        mount = _MNT_ID.search(_read_file(f"/proc/self/fdinfo/{program}", _FILE_BYTES))
        path = os.readlink(f"/proc/self/fd/{program}")
        mounts = _read(pid, "mountinfo", _MOUNTS_BYTES)
    except OSError:
        return ""
    finally:
        os.close(program)
    ours = {line.partition(b" ")[0] for line in mounts.split(b"\n")}
    return path if mount is not None and mount[1] in ours else ""


def _stat(pid: int, field: int) -> int | None:
    """A number from /proc/<pid>/stat, counted as proc(5) does; None when it has ended."""
    try:
        return int(_read(pid, "stat").rpartition(b")")[2].split()[field - 3])
    except (OSError, ValueError, IndexError):
        return None


def _number(pid: int, namespace: str) -> int:
    try:
        return os.stat(f"/proc/{pid}/ns/{namespace}").st_ino
    except OSError:
        return 0


def _read(pid: int, name: str, limit: int = _FILE_BYTES) -> bytes:
    return _read_file(f"/proc/{pid}/{name}", limit)


def _read_file(path: str, limit: int) -> bytes:
    """At most *limit* bytes, of which procfs gives a page at a time."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        whole = os.read(fd, limit)
        while len(whole) < limit and (more := os.read(fd, limit - len(whole))):
            whole += more
    finally:
        os.close(fd)
    return whole
