"""
systemd-nspawn's machines: its command line, and the settings file of that name.

The command line stands in the kernel's record of the mkdir: systemd-nspawn makes the
machine's cgroup itself, also where systemd made the scope around it.
"""

from __future__ import annotations

import os
from typing import Final

import msgspec

from ctrwatch.core.machines import machine
from ctrwatch.core.nspawn import NspawnCall, Wishes, config, nspawn_call, user, wishes
from ctrwatch.evidence.files import Absent, Readers, Tree, Unreadable
from ctrwatch.evidence.keepers import Keeper, Keepers
from ctrwatch.model import Answer, Facts, Found, NotFound, Runtime, Subject, Unavailable

__all__ = ("Nspawn",)

_SETTINGS: Final = ("/etc/systemd/nspawn", "/run/systemd/nspawn")  # systemd-nspawn(1), --settings=
_FILE_BYTES: Final = 256 << 10
_OFF: Final = frozenset({"no", "false", "0", "off", "n", "f"})


class Nspawn:
    """The source "nspawn"."""

    name = "nspawn"

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
            call = nspawn_call(keeper.argv)
            if call is None or (keeper.uid and not is_apart):
                continue
            try:
                asked = self._asked(keeper, call)
            except Unreadable as error:
                return Unavailable(f"nspawn: {error}")
            return Found(_facts(call, asked, subject.container_id))
        return Found(Facts()) if is_apart else NotFound()

    def _asked(self, keeper: Keeper, call: NspawnCall) -> Wishes:
        if not call.name or call.settings in _OFF:
            return call.wishes
        root = self._keepers.root(keeper)
        file = f"{call.name}.nspawn"
        for directory in _SETTINGS:
            try:
                text = Tree(directory, 0, root).read(file, _FILE_BYTES)
            except Absent:
                continue
            return _merged(call, wishes(text.decode("utf-8", "replace")))
        beside = os.path.dirname(self._keepers.directory(keeper, call.image or call.directory))
        try:
            text = Tree(beside, keeper.uid, root).read(file, _FILE_BYTES)
        except Unreadable:  # it need not be there, and may be anybody's
            return call.wishes
        theirs = wishes(text.decode("utf-8", "replace"))
        return _merged(call, theirs if call.settings == "trusted" else theirs.harmless())


def _merged(call: NspawnCall, theirs: Wishes) -> Wishes:
    return theirs.over(call.wishes) if call.settings == "override" else call.wishes.over(theirs)


def _facts(call: NspawnCall, asked: Wishes, container_id: str) -> Facts:
    facts = machine(Runtime.NSPAWN, call.name or container_id, config(asked))
    if facts.security is None:
        return facts
    security = msgspec.structs.replace(facts.security, user=user(asked))
    return msgspec.structs.replace(facts, security=security)
