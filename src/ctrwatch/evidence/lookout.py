"""
Hears when a daemon makes its socket: inotify on the directories where that can happen.

Nothing is polled. A place's nearest existing directory is watched for the next part of
its path, and the watch walks down as directories appear, a user's when he logs in. The
questions themselves look for sockets afresh (discover.py): what is missed here costs no
birth its evidence, only told containers their update.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import stat
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from ctrwatch.evidence.discover import Kind, Place, socket_at

__all__ = ("Lookout",)

log = logging.getLogger(__name__)

_MOST: Final = 256  # directories watched: a dozen for the host, a few for each user
_BREATH_S: Final = 0.02  # between two looks: a user may make and remove files all day
# Systemd makes /run/user/UID, then mounts a file system over it, which inotify doesn't tell.
_AGAIN_S: Final = 1.0
_BUFFER: Final = 64 << 10

# include/uapi/linux/inotify.h
_MOVED_TO: Final = 0x80
_CREATE: Final = 0x100
_DELETE_SELF: Final = 0x400
_MOVE_SELF: Final = 0x800
_ONLYDIR: Final = 0x01000000
_DONT_FOLLOW: Final = 0x02000000
_MASK: Final = _MOVED_TO | _CREATE | _DELETE_SELF | _MOVE_SELF | _ONLYDIR
_EVENT: Final = struct.Struct("iIII")  # wd, mask, cookie, length of the name
_OVERFLOW: Final = -1  # wd of the event that says that others were dropped

_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.inotify_add_watch.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)


class Lookout:
    """
    Calls *appeared* with each socket at one of *places* that is made while it watches.

    Begins when it is made, in a running loop. Where inotify can't be had (its limits are
    each user's, and other programs use them up), that is said in the log, once.
    """

    def __init__(self, places: Sequence[Place], appeared: Callable[[Kind, str], None]) -> None:
        self._places, self._appeared = places, appeared
        self._names: dict[int, set[str]] = {}  # of each watch: what it waits for
        self._here: dict[tuple[Kind, str], tuple[int, ...]] = {}
        self._breath: asyncio.TimerHandle | None = None
        self._again: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._said = False
        self._file = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self._file < 0:
            self._say("inotify", os.strerror(ctypes.get_errno()))
            return
        self._here = self._look()
        self._loop.add_reader(self._file, self._heard)

    def watch(self, places: Sequence[Place]) -> None:
        """From now on these; a socket that is there, at a place that is new, appears now."""
        self._places = places
        if self._file >= 0:
            self._tell()

    def close(self) -> None:
        for timer in (self._breath, self._again):
            if timer is not None:
                timer.cancel()
        if self._file >= 0:
            self._loop.remove_reader(self._file)
            os.close(self._file)
            self._file = -1

    # --- what happens ---------------------------------------------------------------------

    def _heard(self) -> None:
        matters = any(self._matters(watch, name) for watch, name in _read(self._file))
        self._loop.remove_reader(self._file)
        self._breath = self._loop.call_later(_BREATH_S, self._listen)
        if matters:
            self._tell()
            if self._again is not None:
                self._again.cancel()
            self._again = self._loop.call_later(_AGAIN_S, self._tell)

    def _listen(self) -> None:
        self._loop.add_reader(self._file, self._heard)

    def _matters(self, watch: int, name: str) -> bool:
        if watch == _OVERFLOW:
            return True
        names = self._names.get(watch)
        if names is None:
            return False  # a watch that was given up
        return not name or name in names or ("*" in names and name.isdecimal())

    def _tell(self) -> None:
        before, self._here = self._here, self._look()
        for (kind, path), which in self._here.items():
            if before.get((kind, path)) != which:
                self._appeared(kind, path)

    # --- where to look --------------------------------------------------------------------

    def _look(self) -> dict[tuple[Kind, str], tuple[int, ...]]:
        """Watch what must be watched now; the sockets that are there, each with its mark."""
        before, self._names = self._names, {}
        here: dict[tuple[Kind, str], tuple[int, ...]] = {}
        for place in self._places:
            for path, owner in self._walk("/", place.path.split("/")[1:], None):
                if (status := socket_at(path, owner)) is not None:
                    # Inodes are used again, and one that was moved away may come back.
                    here[place.kind, path] = (status.st_dev, status.st_ino, status.st_ctime_ns)
        for watch in before.keys() - self._names.keys():
            _libc.inotify_rm_watch(self._file, watch)
        return here

    def _walk(
        self, directory: str, parts: Sequence[str], owner: int | None
    ) -> Iterator[tuple[str, int | None]]:
        """Go down as far as directories are there, and watch the last one; then its socket."""
        name, *below = parts
        if name == "*":
            self._watch(directory, name, owner)
            for user in filter(str.isdecimal, _listed(directory)):
                yield from self._walk(os.path.join(directory, user), below, int(user))
            return
        path = os.path.join(directory, name)
        if below and _is_directory(path, owner):
            yield from self._walk(path, below, owner)
            return
        self._watch(directory, name, owner)
        if not below:
            yield path, owner
        elif _is_directory(path, owner):  # it came just before the watch
            yield from self._walk(path, below, owner)

    def _watch(self, directory: str, name: str, owner: int | None) -> None:
        if len(self._names) >= _MOST:
            self._say(directory, f"{_MOST} directories are watched already")
            return
        # A user's own directory may not lead elsewhere.
        mask = _MASK if owner is None else _MASK | _DONT_FOLLOW
        watch = _libc.inotify_add_watch(self._file, os.fsencode(directory), mask)
        if watch >= 0:
            self._names.setdefault(watch, set()).add(name)
        elif os.path.isdir(directory):
            self._say(directory, os.strerror(ctypes.get_errno()))

    def _say(self, what: str, why: str) -> None:
        if not self._said:
            self._said = True
            log.warning(
                "%s: %s; daemons that come later are asked at the next birth only", what, why
            )


def _read(file: int) -> Iterator[tuple[int, str]]:
    """Watch and name of each event that waits; the name of a directory's own is empty."""
    try:
        raw = os.read(file, _BUFFER)
    except OSError:
        return
    at = 0
    while at < len(raw):
        watch, _, _, length = _EVENT.unpack_from(raw, at)
        at += _EVENT.size
        yield watch, os.fsdecode(raw[at : at + length].rstrip(b"\0"))
        at += length


def _listed(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def _is_directory(path: str, owner: int | None) -> bool:
    try:
        return stat.S_ISDIR(os.stat(path, follow_symlinks=owner is None).st_mode)
    except (OSError, ValueError):
        return False
