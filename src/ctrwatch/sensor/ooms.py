"""
Hears, without looking, that the kernel may have killed a process for want of memory.

Cgroup v2: inotify on ``memory.events``, which the kernel changes for a kill, but also whenever a
container is held at its limit, a hundred times a second (kernel/cgroup/cgroup.c,
CGROUP_FILE_NOTIFY_MIN_INTV). Cgroup v1: an eventfd that is registered for
``memory.oom_control`` (Documentation/admin-guide/cgroup-v1/memory.rst, "OOM Control"); it is
signalled just before the kill, and once more when the cgroup is removed.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import struct
from collections.abc import Callable, Iterator
from typing import Final

__all__ = ("Ooms",)

log = logging.getLogger(__name__)

_BREATH_S: Final = (
    0.05  # between two looks at what inotify has: a container at its limit never stops
)
_BUFFER: Final = 64 << 10
_MODIFY: Final = 0x2  # include/uapi/linux/inotify.h
_EVENT: Final = struct.Struct("iIII")  # wd, mask, cookie, length of the name: none here

_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.inotify_add_watch.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)


class Ooms:
    """
    Calls *fired* with the serial of a container in which there may have been a kill, and *fires*
    (v1) with one in which there will be in a moment.

    Begins when it is made, in a running loop. What can't be had (limits of files or of
    inotify) is said in the log, once: kills are then found at the next look.
    """

    def __init__(self, fired: Callable[[int], None], fires: Callable[[int], None]) -> None:
        self._fired, self._fires = fired, fires
        self._loop = asyncio.get_running_loop()
        self._inotify = -1
        self._breath: asyncio.TimerHandle | None = None
        self._serials: dict[int, int] = {}  # by inotify's watch
        self._watches: dict[int, int] = {}  # by serial
        self._eventfds: dict[int, int] = {}  # by serial
        self._said = False

    def watch(self, serial: int, version: int, directory: str) -> None:
        """The container's cgroup that has the memory controller."""
        try:
            if version == 1:
                self._register(serial, directory)
            else:
                self._notice(serial, os.path.join(directory, "memory.events"))
        except OSError as error:
            if os.path.isdir(directory) and not self._said:
                self._said = True
                why = error.strerror
                log.warning("%s: %s; OOM kills are found later, by looking", directory, why)

    def drop(self, serial: int) -> None:
        if (eventfd := self._eventfds.pop(serial, None)) is not None:
            self._loop.remove_reader(eventfd)
            os.close(eventfd)
        if (watch := self._watches.pop(serial, None)) is not None:
            del self._serials[watch]
            _libc.inotify_rm_watch(self._inotify, watch)  # it has gone with its file, mostly

    def close(self) -> None:
        for serial in [*self._eventfds, *self._watches]:
            self.drop(serial)
        if self._breath is not None:
            self._breath.cancel()
        if self._inotify >= 0:
            self._loop.remove_reader(self._inotify)
            os.close(self._inotify)
            self._inotify = -1

    # --- cgroup v1 ------------------------------------------------------------------------

    def _register(self, serial: int, directory: str) -> None:
        eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        try:
            control = os.open(f"{directory}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
            try:
                order = os.open(f"{directory}/cgroup.event_control", os.O_WRONLY | os.O_CLOEXEC)
                try:
                    os.write(order, b"%d %d" % (eventfd, control))
                finally:
                    os.close(order)
            finally:
                os.close(control)
        except OSError:
            os.close(eventfd)
            raise
        self._eventfds[serial] = eventfd
        self._loop.add_reader(eventfd, self._signalled, serial, eventfd)

    def _signalled(self, serial: int, eventfd: int) -> None:
        try:
            os.eventfd_read(eventfd)
        except BlockingIOError:
            return
        self._fires(serial)

    # --- cgroup v2 ------------------------------------------------------------------------

    def _notice(self, serial: int, file: str) -> None:
        if self._inotify < 0:
            self._inotify = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
            if self._inotify < 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            self._listen()
        watch = _libc.inotify_add_watch(self._inotify, os.fsencode(file), _MODIFY)
        if watch < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        self._serials[watch], self._watches[serial] = serial, watch

    def _listen(self) -> None:
        self._loop.add_reader(self._inotify, self._noticed)

    def _noticed(self) -> None:
        self._loop.remove_reader(self._inotify)
        self._breath = self._loop.call_later(_BREATH_S, self._listen)
        for serial in {self._serials.get(watch) for watch in self._read()} - {None}:
            if serial is not None:
                self._fired(serial)

    def _read(self) -> Iterator[int]:
        try:
            raw = os.read(self._inotify, _BUFFER)
        except OSError:
            return
        at = 0
        while at < len(raw):
            watch, _, _, length = _EVENT.unpack_from(raw, at)
            at += _EVENT.size + length
            yield watch
