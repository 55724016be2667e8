"""
What this host is: its cgroup hierarchies, its boot, its clocks, its kernel's abilities.

Reads /proc and /sys only. Paths of cgroups are relative to their hierarchy's root,
as the kernel prints them; `Host.directory` makes the file system's path of one.
"""

from __future__ import annotations

import ctypes as c
import os
import re
import socket
import struct
import time
from pathlib import Path
from typing import Final, NamedTuple

from ctrwatch.errors import HostError
from ctrwatch.model import CgroupKey

__all__ = ("BTF", "Hierarchy", "Host", "boot_clock_ns", "read_host", "wall_offset_ns")

BTF: Final = Path("/sys/kernel/btf/vmlinux")
_OCTAL: Final = re.compile(r"\\([0-7]{3})")  # \040 is a space: seq_path() in fs/seq_file.c
_KERNFS_HANDLE: Final = 0xFE  # FILEID_KERNFS, include/linux/exportfs.h
_HANDLE: Final = struct.Struct("=IiQ")  # struct file_handle with a kernfs id, open_by_handle_at(2)


class Hierarchy(NamedTuple):
    """`controllers` is "" for the unified one, "name=systemd" for a named one."""

    hierarchy_id: int
    mount: str
    controllers: str


class Host(NamedTuple):
    name: str
    boot_id: str
    kernel: str
    hierarchies: dict[int, Hierarchy]

    @property
    def mode(self) -> str:
        """Either v2, v1, or hybrid where both are mounted."""
        if 0 not in self.hierarchies:
            return "v1"
        return "v2" if len(self.hierarchies) == 1 else "hybrid"

    @property
    def has_unified(self) -> bool:
        return 0 in self.hierarchies

    def directory(self, key: CgroupKey, path: str) -> str | None:
        """The directory of a cgroup in the file system; None: its hierarchy isn't mounted."""
        hierarchy = self.hierarchies.get(key.hierarchy_id)
        return hierarchy.mount + path.rstrip("/") if hierarchy else None

    def status(self, key: CgroupKey, path: str) -> os.stat_result | None:
        """Of a cgroup's directory: its inode is the cgroup's id; None: it isn't there, or seen."""
        directory = self.directory(key, path)
        try:
            return os.stat(directory) if directory is not None else None
        except OSError:
            return None

    def resolve(self, key: CgroupKey) -> str | None:
        """
        The path of a cgroup by its id; None when it is gone or can't be asked for.

        For paths that the tracepoint cut.
        """
        fd = self.open(key, os.O_PATH)
        if fd is None:
            return None
        try:
            return self.path(key, fd)
        finally:
            os.close(fd)

    def open(self, key: CgroupKey, flags: int) -> int | None:
        """
        The directory of a cgroup by its id, of no other; None when it is gone or can't be had.

        By the kernfs file handle, which is the id (fs/kernfs/mount.c); needs
        CAP_DAC_READ_SEARCH. The caller closes it.
        """
        hierarchy = self.hierarchies.get(key.hierarchy_id)
        if hierarchy is None:
            return None
        handle = c.create_string_buffer(_HANDLE.pack(8, _KERNFS_HANDLE, key.cgroup_id))
        try:
            mount = os.open(hierarchy.mount, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            libc = c.CDLL(None, use_errno=True)
            fd = int(libc.open_by_handle_at(mount, handle, flags | os.O_CLOEXEC))
        finally:
            os.close(mount)
        return fd if fd >= 0 else None

    def path(self, key: CgroupKey, fd: int) -> str | None:
        """Where the cgroup is whose directory *fd* is; None: that can't be told."""
        try:
            path = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            return None
        return path.removeprefix(self.hierarchies[key.hierarchy_id].mount) or "/"


def read_host() -> Host:
    """Raise HostError where no cgroup hierarchy is mounted."""
    hierarchies = _hierarchies(_read("/proc/self/cgroup"), _read("/proc/self/mountinfo"))
    if not hierarchies:
        raise HostError(
            "no cgroup file system is mounted; mount one: mount -t cgroup2 none /sys/fs/cgroup"
        )
    return Host(
        name=socket.gethostname(),
        boot_id=Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        kernel=os.uname().release,
        hierarchies=hierarchies,
    )


def _read(path: str) -> str:
    return Path(path).read_text("utf-8", "surrogateescape")  # names may be any bytes


def _hierarchies(own_cgroups: str, mountinfo: str) -> dict[int, Hierarchy]:
    """
    The mounted hierarchies by id. See cgroups(7) and proc(5), "mountinfo".

    >>> own = "2:pids:/a\\n1:name=systemd:/\\n0::/"
    >>> mounts = '''30 25 0:27 / /cg/pids rw - cgroup cgroup rw,pids
    ... 31 25 0:28 / /cg/unified rw - cgroup2 cgroup2 rw'''
    >>> {i: h.mount for i, h in _hierarchies(own, mounts).items()}
    {2: '/cg/pids', 0: '/cg/unified'}
    """
    ids: dict[frozenset[str], tuple[int, str]] = {}
    for line in filter(None, own_cgroups.split("\n")):
        number, spelled, _ = line.split(":", 2)
        ids[frozenset(spelled.split(","))] = (int(number), spelled)
    found: dict[int, Hierarchy] = {}
    lines = [line.split(" ") for line in mountinfo.split("\n") if line]
    for words in sorted(lines, key=lambda words: words[3] != "/"):  # a whole one before a part
        mount = _OCTAL.sub(lambda code: chr(int(code[1], 8)), words[4])
        kind, options = words[words.index("-") + 1], words[-1]
        if kind == "cgroup2":
            found.setdefault(0, Hierarchy(0, mount, ""))
        elif kind == "cgroup":
            for controllers, (hierarchy_id, spelled) in ids.items():
                if hierarchy_id and controllers <= frozenset(options.split(",")):
                    found.setdefault(hierarchy_id, Hierarchy(hierarchy_id, mount, spelled))
    return found


def boot_clock_ns() -> int:
    """CLOCK_BOOTTIME, the kernel's clock of births, as it is now."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def wall_offset_ns() -> int:
    """Nanoseconds to add to CLOCK_BOOTTIME to get the time of day, as it is now."""
    before = boot_clock_ns()
    wall = time.clock_gettime_ns(time.CLOCK_REALTIME)
    after = boot_clock_ns()
    return wall - (before + after) // 2
