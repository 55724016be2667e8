"""
LXC's containers: the monitor's command line, and the configuration that it leads to.

`<lxcpath>/<name>/config` is there before the cgroup is. It is believed where the
monitor is root's; of another user's monitor only when the container's first process has
mounts of its own, for a title and a file are quickly made.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

from ctrwatch.core.lxc import INCLUDE, LxcCall, Setting, config, lxc_call, settings
from ctrwatch.core.machines import machine
from ctrwatch.evidence.files import Absent, Readers, Tree, Unreadable
from ctrwatch.evidence.keepers import Keeper, Keepers
from ctrwatch.model import Answer, Facts, Found, NotFound, Runtime, Subject, Unavailable

__all__ = ("Lxc",)

_LXCPATH: Final = "/var/lib/lxc"  # root's, unless lxc.conf says otherwise
_PACKAGED: Final = "/usr/share/lxc/"  # what users' configurations include, too
_FILE_BYTES: Final = 256 << 10  # 1 to 3 KB met
_FILES: Final = 32  # included ones: five met
_DEPTH: Final = 4  # of includes in includes: two met


class Lxc:
    """The source "lxc"."""

    name = "lxc"

    def __init__(self, readers: Readers, proc: str) -> None:
        """*proc*: where the host's proc file system is mounted."""
        self._readers = readers
        self._keepers = Keepers(proc)

    async def ask(self, subject: Subject) -> Answer:
        return await self._readers.call(lambda: self._answer(subject), subject.uid or self.name)

    async def close(self) -> None:
        self._readers.close()

    def _answer(self, subject: Subject) -> Answer:
        is_apart = self._keepers.is_apart(subject)
        for keeper in self._keepers.of(subject):
            if (call := lxc_call(keeper.argv)) is not None:
                return self._of(keeper, call, is_apart=is_apart)
        return Found(Facts()) if is_apart else NotFound()

    def _of(self, keeper: Keeper, call: LxcCall, *, is_apart: bool) -> Answer:
        if keeper.uid and not is_apart:
            return NotFound()
        try:
            found = list(_Files(keeper, call, self._keepers))
        except Absent:
            # lxc-execute needs none: it runs a program on the host's own root file system.
            if call.program != "lxc-execute" or call.rcfile:
                return Found(machine(Runtime.LXC, call.name, None)) if is_apart else NotFound()
            found = []
        except Unreadable as error:
            if not is_apart:
                return Unavailable(f"lxc: {error}")
            return Found(machine(Runtime.LXC, call.name, None))
        return Found(machine(Runtime.LXC, call.name, config(found, call)))


class _Files:
    """The settings of a container's configuration, those of the files it includes in their place."""

    def __init__(self, keeper: Keeper, call: LxcCall, keepers: Keepers) -> None:
        self._uid, self._root = keeper.uid, keepers.root(keeper)
        lxcpath = keepers.directory(keeper, call.lxcpath or _LXCPATH)
        self._first = f"{lxcpath}/{call.name}/config"
        if call.rcfile:
            self._first = keepers.directory(keeper, call.rcfile)
        self._left = _FILES

    def __iter__(self) -> Iterator[Setting]:
        """Raises `Unreadable` for the first file only: one that can't be included says nothing."""
        return self._of(self._first, 0)

    def _of(self, path: str, depth: int) -> Iterator[Setting]:
        self._left -= 1
        for setting in settings(self._text(path)):
            if setting.key == INCLUDE:
                yield from self._included(setting.value, depth + 1)
            else:
                yield setting

    def _included(self, path: str, depth: int) -> Iterator[Setting]:
        for name in self._named(path):
            if depth > _DEPTH or self._left <= 0:
                return
            try:
                yield from self._of(name, depth)
            except Unreadable:
                continue

    def _named(self, path: str) -> list[str]:
        """A directory stands for what is in it and is called "….conf"."""
        try:
            names = sorted(os.listdir(f"{self._root}/{path}"))
        except (OSError, ValueError):
            return [path]
        return [f"{path}/{name}" for name in names if name.endswith(".conf")]

    def _text(self, path: str) -> str:
        directory, name = os.path.split(path)
        owner = 0 if path.startswith(_PACKAGED) and ".." not in path else self._uid
        tree = Tree(directory, owner, self._root)
        return tree.read(name, _FILE_BYTES).decode("utf-8", "replace")
