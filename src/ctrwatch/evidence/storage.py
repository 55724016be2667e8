"""
Where containers/storage keeps things when nothing leads there: storage.conf (1.4 to 1.57).

Root's are in `/etc/containers`, or else what the distribution put in `/usr/share`; a user
may have one of his own. What is said on a command line or in the environment
(`--root`, `XDG_DATA_HOME`, `CONTAINERS_STORAGE_CONF`) can't be known from here: there
the bundle's path leads.
"""

from __future__ import annotations

import pwd
import re
import tomllib
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import msgspec

from ctrwatch.evidence.discover import GRAPH_ROOTS
from ctrwatch.evidence.files import Absent, ParsedFiles, Readers, Tree, Unreadable
from ctrwatch.model import Subject

__all__ = ("Places", "Storages")

_CONF: Final = "storage.conf"
_SYSTEM: Final = ("/etc/containers", "/usr/share/containers")  # the first that is there counts
_CONF_BYTES: Final = 64 << 10  # a distribution's, mostly comments, has 10 KB
_CONFS: Final = 16
_STORES: Final = 16  # additional image stores that are looked through
_VARIABLE: Final = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


class _Options(msgspec.Struct, frozen=True):
    additional_image_stores: list[str] = msgspec.field(name="additionalimagestores", default=[])


class _Storage(msgspec.Struct, frozen=True):
    graph_root: str = msgspec.field(name="graphroot", default="")
    image_store: str = msgspec.field(name="imagestore", default="")
    rootless_path: str = msgspec.field(name="rootless_storage_path", default="")
    options: _Options = _Options()

    @property
    def stores(self) -> list[str]:
        return [path for path in (self.image_store, *self.options.additional_image_stores) if path]


class _Conf(msgspec.Struct, frozen=True):
    storage: _Storage = _Storage()


class Places(NamedTuple):
    """Graph roots in which a user's containers may be, and where else there are images."""

    graph_roots: tuple[Tree, ...]
    image_stores: tuple[Tree, ...]


class Storages:
    """The storages of whichever user, as storage.conf has them now."""

    def __init__(
        self,
        readers: Readers,
        *,
        system: Sequence[str] = _SYSTEM,
        roots: Sequence[str] = GRAPH_ROOTS,
    ) -> None:
        """*roots*: root's own where no storage.conf says otherwise."""
        self._readers = readers
        self._system = system
        self._roots = roots
        self._confs = ParsedFiles(readers, _read_conf, limit=_CONF_BYTES, most=_CONFS)

    async def of(self, subject: Subject) -> Places:
        uid, root = subject.uid, subject.facts.leads.root or "/"
        system = await self._first(Tree(directory, 0, root) for directory in self._system)
        own, home, user = _Storage(), "", ""
        if uid:
            home, user = await self._readers.call(lambda: _account(uid), uid)
            own = await self._first([Tree(f"{home}/.config/containers", uid, root)] if home else [])
        if not uid:
            graph_roots = [system.graph_root] if system.graph_root else [*self._roots]
        elif own.graph_root or system.rootless_path:
            graph_roots = [own.graph_root or system.rootless_path]
        else:
            graph_roots = [f"{home}/.local/share/containers/storage"] if home else []

        def trees(paths: Sequence[str], owner: int) -> tuple[Tree, ...]:
            spelled_out = (_expanded(path, home, user, uid) for path in paths[:_STORES])
            return tuple(Tree(path, owner, root) for path in spelled_out if path.startswith("/"))

        # A store that root's configuration names is root's; one of the user's own choice is his.
        stores = (*trees(own.stores, uid), *trees(system.stores, 0))
        return Places(trees(graph_roots, uid), stores)

    async def _first(self, directories: Iterable[Tree]) -> _Storage:
        for directory in directories:
            try:
                return (await self._confs.get(directory, _CONF)).storage
            except Absent:
                continue
            except Unreadable:  # Podman refuses it as well
                break
        return _Storage()


def _account(uid: int) -> tuple[str, str]:
    """A user's home and name; from a directory service, too, so it may hang."""
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return "", ""
    return entry.pw_dir, entry.pw_name


def _expanded(path: str, home: str, user: str, uid: int) -> str:
    """
    What containers/storage expands; another variable leads nowhere.

    >>> _expanded("$HOME/${USER}/storage-$UID", "/home/ann", "ann", 1000)
    '/home/ann/ann/storage-1000'
    """
    known = {"HOME": home, "USER": user, "UID": str(uid)}
    return _VARIABLE.sub(lambda found: known.get(found[1] or found[2], found[0]), path)


def _read_conf(raw: bytes) -> _Conf:
    try:
        return msgspec.convert(tomllib.loads(raw.decode()), _Conf)
    except (ValueError, RecursionError) as error:  # msgspec's and tomllib's errors are ValueErrors
        raise Unreadable(f"{_CONF}: {error}") from None
