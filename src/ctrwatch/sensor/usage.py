"""
Reads what a container uses: the files of its cgroup in each hierarchy that counts something.

Nothing is kept open: after its rmdir a cgroup's files answer ENODEV, also to who has them open
(kernfs_get_active() in fs/kernfs/dir.c). A directory is believed only if its inode is the
cgroup's id: a name may be used again. What vanishes on the way is a value, `Unread.GONE`.
"""

from __future__ import annotations

import errno
import os
import re
from itertools import islice
from typing import Final

from ctrwatch.core.changes import Living
from ctrwatch.core.usage import CONTROLLERS, FILES, Texts, usage
from ctrwatch.event import Unread, Usage
from ctrwatch.model import CgroupKey
from ctrwatch.sensor.host import Host

__all__ = ("UsageReader",)

# memory.stat has 3 KB; io.stat 100 bytes a device, and a host with many has a hundred of them.
_FILE_BYTES: Final = 64 << 10
# cgroup v1 counts OOM kills where the killed process was: below a container are those of a Docker in
# it. So many of its directories are asked, and its children's.
_CHILDREN: Final = 64
_CHILDLESS: Final = 2  # links of a directory that has none: its name, and "." in it
_KILLS: Final = re.compile(rb"^oom_kill (\d{1,18})$", re.MULTILINE)
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_CLOEXEC
_IO_V1: Final = "blkio."
_NO_IO: Final = b"Total 0\n"
_OOM_V1: Final = "memory.oom_control"


class UsageReader:
    """What the host's hierarchies have; those that are mounted when it is made."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._files: dict[int, tuple[str, ...]] = {}  # by hierarchy
        for hierarchy in host.hierarchies.values():
            counts = CONTROLLERS & frozenset(hierarchy.controllers.split(","))
            files = tuple(file for file in FILES[1] if file.partition(".")[0] in counts)
            if hierarchy.hierarchy_id and files:
                self._files[hierarchy.hierarchy_id] = files
        if 0 in host.hierarchies:
            self._files[0] = _offered(host.hierarchies[0].mount)

    def read(self, living: Living) -> Usage:
        """All that can be known now; where its directories have gone, reasons and no figures."""
        return usage(self._texts(living))

    def kills(self, living: Living) -> int | None:
        """OOM kills alone: a tenth of the work; None: not known."""
        for version, file in ((1, _OOM_V1), (2, "memory.events")):
            directory = self.directory(living, version, file)
            if directory is None:
                continue
            text = _text(os.path.join(directory, file))
            if version == 1 and _links(directory) > _CHILDLESS:
                text = _kills_below(directory, text)
            return usage({(version, file): text}).oom_kills
        return None

    def directory(self, living: Living, version: int, file: str) -> str | None:
        """Of the container's cgroup that has the *file*; None: no hierarchy of its has."""
        for cgroup in living.cgroups:
            if (1 if cgroup.hierarchy_id else 2) != version:
                continue
            if file not in self._of(cgroup):
                continue
            path = self._path(cgroup, living.path)
            if path is not None and os.path.exists(os.path.join(path, file)):
                return path
        return None

    def _of(self, cgroup: CgroupKey) -> tuple[str, ...]:
        """The files that its hierarchy may have."""
        return self._files.get(cgroup.hierarchy_id, ())

    def _texts(self, living: Living) -> Texts:
        texts: dict[tuple[int, str], bytes | Unread] = {}
        for cgroup in living.cgroups:
            version = 1 if cgroup.hierarchy_id else 2
            of_it = self._hierarchy(cgroup, living.path, self._of(cgroup))
            texts |= {(version, file): text for file, text in of_it.items()}
        return texts

    def _hierarchy(
        self, cgroup: CgroupKey, path: str, files: tuple[str, ...]
    ) -> dict[str, bytes | Unread]:
        gone: dict[str, bytes | Unread] = dict.fromkeys(files, Unread.GONE)
        opened = self._opened(cgroup, path) if files else None
        if opened is None:
            return gone
        fd, directory = opened
        try:
            status = os.fstat(fd)
            texts = {file: _read(fd, file) for file in files}
        finally:
            os.close(fd)
        for file, text in texts.items():
            if file.startswith(_IO_V1) and text == _NO_IO and self._counts_nothing(cgroup, file):
                texts[file] = Unread.NOT_OFFERED
        own = texts.get(_OOM_V1)
        if isinstance(own, bytes) and status.st_nlink > _CHILDLESS:
            texts[_OOM_V1] = _kills_below(directory, own)
        if Unread.NOT_OFFERED in texts.values() and not _is_at(directory, cgroup):
            return {f: Unread.GONE if t is Unread.NOT_OFFERED else t for f, t in texts.items()}
        return texts

    def _counts_nothing(self, cgroup: CgroupKey, file: str) -> bool:
        """No I/O of the whole host either: recent kernels (6.18 does) count on v1 only where a limit is set."""
        return _text(f"{self._host.hierarchies[cgroup.hierarchy_id].mount}/{file}") == _NO_IO

    def _opened(self, cgroup: CgroupKey, path: str) -> tuple[int, str] | None:
        """Its directory, open, and where that is; else as `_path`."""
        for where in (self._host.directory, self._path):
            directory = where(cgroup, path)
            try:
                fd = os.open(directory or "", _DIRECTORY)
            except OSError:
                continue
            if os.fstat(fd).st_ino == cgroup.cgroup_id:
                return fd, directory or ""
            os.close(fd)
        return None

    def _path(self, cgroup: CgroupKey, path: str) -> str | None:
        """
        Its directory; None: it has gone, or its hierarchy isn't mounted.

        Where the kernel cut the path, or it is another one in this hierarchy, by its id.
        """
        directory = self._host.directory(cgroup, path)
        if directory is None or _is_at(directory, cgroup):
            return directory
        resolved = self._host.resolve(cgroup)
        return self._host.directory(cgroup, resolved) if resolved is not None else None


def _offered(mount: str) -> tuple[str, ...]:
    """
    The files that the unified hierarchy's cgroups may have: of the controllers that are not v1's.

    cpu.stat is there without its controller, pressure has none.
    """
    controllers = _text(f"{mount}/cgroup.controllers").decode("ascii", "replace").split()
    return tuple(
        file
        for file in FILES[2]
        if file.partition(".")[0] in controllers or file == "cpu.stat" or "pressure" in file
    )


def _links(directory: str) -> int:
    try:
        return os.stat(directory).st_nlink
    except OSError:
        return 0


def _is_at(directory: str, cgroup: CgroupKey) -> bool:
    try:
        return os.stat(directory).st_ino == cgroup.cgroup_id
    except OSError:
        return False


def _read(directory: int, file: str) -> bytes | Unread:
    try:
        fd = os.open(file, _FILE, dir_fd=directory)
    except OSError as error:
        return _why(error)
    try:
        return os.read(fd, _FILE_BYTES)
    except OSError as error:
        return _why(error)
    finally:
        os.close(fd)


def _why(error: OSError) -> Unread:
    return _REASONS.get(error.errno or 0, Unread.UNREADABLE)


_REASONS: Final = {
    errno.ENODEV: Unread.GONE,
    errno.ENOENT: Unread.NOT_OFFERED,
    errno.EOPNOTSUPP: Unread.NOT_OFFERED,  # PSI that is compiled in and off: kernel/sched/psi.c
}


def _kills_below(directory: str, own: bytes) -> bytes:
    """OOM kills of a v1 cgroup and those below it; of a child that has gone they are lost."""
    children = islice(os.walk(directory), 1, _CHILDREN)
    texts = [own, *(_text(os.path.join(child, _OOM_V1)) for child, _, _ in children)]
    kills = sum(int(found[1]) for text in texts if (found := _KILLS.search(text)))
    return b"oom_kill %d\n" % kills


def _text(path: str) -> bytes:
    """Empty when it has gone."""
    try:
        with open(path, "rb") as file:
            return file.read(_FILE_BYTES)
    except OSError:
        return b""
