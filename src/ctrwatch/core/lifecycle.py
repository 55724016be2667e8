"""
Raw events to births and deaths: one container, once, in order.

Pure. On a hybrid host one container is a dozen directories; here it becomes one.
The laws, which tests/unit/test_lifecycle.py holds for any stream of raw events:

* `Born` comes first and once for a container, then at most one `Entered`, one
  `Started`, one `Gone`, and nothing after `Gone`.
* What happens below a container's own cgroup never makes, changes or ends it.
* A directory of the same container in a hierarchy where it has or had one is a
  new birth (`docker restart`): the old container is gone before the new is born.

A container is recognised by its path, or, where the path proves nothing
(``/default/web``), by the command line of the OCI runtime that made the cgroup:
it is the directory that is named by the container's id, or else the one that the
runtime's first task enters. The parents that a runtime makes on the way are neither.
The same id once more below a container's own cgroup is a child, unless the runtime that
made it lives in another mount namespace: a ``web`` inside of ``web``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

import msgspec

from ctrwatch.core.cgroup import identify
from ctrwatch.core.cmdline import COMMANDS, OciCall, oci_call
from ctrwatch.model import CgroupKey, ContainerId, Identity, Kind, Listed, RawEvent, Runtime, Task

__all__ = ("Born", "Change", "Entered", "Gone", "Lifecycle", "Placed", "Started")

# Cgroups that an OCI runtime made on its way to the container's own: a handful for each
# birth, dropped with it. The bound is for runtimes that fail half-way.
_CANDIDATES: Final = 1024
_MAKING: Final = frozenset(COMMANDS)


class Born(msgspec.Struct, frozen=True, kw_only=True):
    """A container is there. `listed` says it was there before us."""

    serial: int
    boot_ns: int
    identity: Identity
    cgroup: CgroupKey
    path: str
    creator: Task | None
    call: OciCall | None
    listed: Listed | None = None


class Placed(msgspec.Struct, frozen=True, kw_only=True):
    """The container's own cgroup is known better: mostly, the unified hierarchy's."""

    serial: int
    boot_ns: int
    cgroup: CgroupKey
    path: str


class Entered(msgspec.Struct, frozen=True, kw_only=True):
    """The first task is in the container's cgroup: the OCI runtime's child."""

    serial: int
    boot_ns: int
    task: Task


class Started(msgspec.Struct, frozen=True, kw_only=True):
    """The container's first instruction."""

    serial: int
    boot_ns: int
    task: Task
    program: str


class Gone(msgspec.Struct, frozen=True, kw_only=True):
    serial: int
    boot_ns: int


Change = Born | Placed | Entered | Started | Gone

# An id proven by the path is one container wherever its directories stand; a free name
# is only good for its path.
_Key = tuple[ContainerId, ...] | str
# An OCI runtime's process, and the id it was called with. Not its start time: a Go
# program makes directories from any of its threads, and each has a start of its own.
_Maker = tuple[int, str]


class _Container:
    """A living container's directories."""

    def __init__(self, serial: int, key: _Key, identity: Identity, path: str) -> None:
        self.serial, self.key, self.identity, self.path = serial, key, identity, path
        self.cgroups: set[CgroupKey] = set()
        self.maker: _Maker | None = None
        self.mnt_ns = 0  # its creator's; 0 is not known
        self.entered = self.started = self.dying = False

    def is_in(self, hierarchy_id: int) -> bool:
        return any(cgroup.hierarchy_id == hierarchy_id for cgroup in self.cgroups)


class Lifecycle:
    """Feed it every raw event, in order; it answers with what that means."""

    def __init__(self) -> None:
        self._serials = 0
        self._living: dict[_Key, _Container] = {}
        self._by_cgroup: dict[CgroupKey, _Container] = {}
        self._by_path: dict[str, _Container] = {}
        self._by_maker: dict[_Maker, _Container] = {}
        self._candidates: OrderedDict[CgroupKey, tuple[RawEvent, OciCall]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._living)

    def feed(self, event: RawEvent) -> list[Change]:
        match event.kind:
            case Kind.MKDIR:
                return self._made(event)
            case Kind.RMDIR:
                return self._removed(event)
            case Kind.ATTACH:
                return self._entered(event)
            case Kind.EXEC:
                return self._executed(event)

    def listed(self, found: Listed) -> list[Change]:
        """A container that was there when we looked; nothing if we know it already."""
        if not found.paths:
            return []
        cgroup, path = found.paths[0]
        identity = found.identity or self._free(found.container_id, path)
        key = self._key(identity) if found.identity else path
        if key in self._living or any(place in self._by_cgroup for place, _ in found.paths):
            return []
        identity = identity._replace(outer=self._around(path, identity))
        container = self._add(key, identity, path)
        container.entered = container.started = True  # before our time
        for place, _ in found.paths:
            self._place(container, place)
        return [
            Born(
                serial=container.serial,
                boot_ns=found.boot_ns,
                identity=identity,
                cgroup=cgroup,
                path=path,
                creator=None,
                call=None,
                listed=found,
            )
        ]

    # --- the four kinds -----------------------------------------------------------

    def _made(self, event: RawEvent) -> list[Change]:
        identity = identify(event.path)
        task = event.task
        call = None
        if not _MAKING.isdisjoint(task.argv):  # of most command lines this is all we need to know
            call = oci_call(task.argv, cut=task.argv_cut)
        called = call.container_id if call is not None else ""  # also cut off before the id
        if identity is not None and called in ("", identity.container_id):
            # What is not the root is a child that the runtime makes in the container's own.
            key = self._key(identity)
            return self._directory(event, identity, key, call) if identity.is_root else []
        return self._unproven(event, call) if call is not None and called else []

    def _unproven(self, event: RawEvent, call: OciCall) -> list[Change]:
        """An OCI runtime made a directory that is not named as its container's by the path."""
        mine = self._by_maker.get(_maker(event, call))
        named = _name(event.path) == call.container_id
        if mine and named and not mine.entered and event.path.startswith(mine.path + "/"):
            return self._move(mine, event)
        known = self._by_path.get(event.path)
        if known is not None and known.identity.container_id == call.container_id:
            return self._directory(event, known.identity, known.key, call)
        if mine is not None or self._is_child(event, call):
            return []
        if named:
            identity = self._free(ContainerId(call.container_id), event.path)
            return self._directory(event, identity, event.path, call)
        self._consider(event, call)
        return []

    def _directory(
        self, event: RawEvent, identity: Identity, key: _Key, call: OciCall | None
    ) -> list[Change]:
        if (listed := self._by_cgroup.get(event.cgroup)) is not None:
            # We looked between this mkdir and its being read: it will still enter and start.
            listed.entered = listed.started = False
            self._sign(listed, event, call)
            return []
        changes: list[Change] = []
        known = self._living.get(key)
        if known is not None:
            if not known.dying and not known.is_in(event.cgroup.hierarchy_id):
                return self._another(known, event)
            changes += self._forget(known, event.boot_ns)
        identity = identity._replace(outer=self._around(event.path, identity))
        container = self._add(key, identity, event.path)
        self._sign(container, event, call)
        self._place(container, event.cgroup)
        changes.append(
            Born(
                serial=container.serial,
                boot_ns=event.boot_ns,
                identity=identity,
                cgroup=event.cgroup,
                path=event.path,
                creator=event.task,
                call=call,
            )
        )
        return changes

    def _another(self, known: _Container, event: RawEvent) -> list[Change]:
        """The same container in one more hierarchy."""
        self._place(known, event.cgroup)
        return [_placed(known, event)] if event.cgroup.hierarchy_id == 0 else []

    def _move(self, container: _Container, event: RawEvent) -> list[Change]:
        """It was a parent, named as the container is: ``ctr -n web run … web``."""
        overrun = self._living.get(event.path)  # its end was lost
        changes = self._forget(overrun, event.boot_ns) if overrun is not None else []
        del self._living[container.key]
        if self._by_path.get(container.path) is container:
            del self._by_path[container.path]
        for cgroup in container.cgroups:
            del self._by_cgroup[cgroup]
        container.cgroups.clear()
        container.key = container.path = event.path
        self._living[event.path] = self._by_path[event.path] = container
        self._place(container, event.cgroup)
        return [*changes, _placed(container, event)]

    def _entered(self, event: RawEvent) -> list[Change]:
        changes = self._chosen(event) if event.cgroup in self._candidates else []
        container = self._of(event)
        if container is not None and not container.entered:
            container.entered = True
            changes.append(Entered(serial=container.serial, boot_ns=event.boot_ns, task=event.task))
        return changes

    def _chosen(self, event: RawEvent) -> list[Change]:
        """The runtime's first task enters one of its directories: that is the container's own."""
        made, call = self._candidates[event.cgroup]
        if made.task.pid not in (event.task.pid, event.task.ppid):
            return []  # a stranger's task
        identity = self._free(ContainerId(call.container_id), made.path)
        the_same = [  # it may have been made in all hierarchies before any is entered
            other
            for other, others_call in self._candidates.values()
            if other.path == made.path and _maker(other, others_call) == _maker(made, call)
        ]
        return [
            change for one in the_same for change in self._directory(one, identity, made.path, call)
        ]

    def _executed(self, event: RawEvent) -> list[Change]:
        container = self._of(event)
        if container is None or container.started:
            return []
        container.started = container.entered = True
        return [
            Started(
                serial=container.serial,
                boot_ns=event.boot_ns,
                task=event.task,
                program=event.path,
            )
        ]

    def _removed(self, event: RawEvent) -> list[Change]:
        self._candidates.pop(event.cgroup, None)
        container = self._by_cgroup.pop(event.cgroup, None)
        if container is None:
            return []
        container.cgroups.remove(event.cgroup)
        container.dying = True
        return [] if container.cgroups else self._forget(container, event.boot_ns)

    # --- bookkeeping ----------------------------------------------------------------

    def _of(self, event: RawEvent) -> _Container | None:
        """The container of the cgroup itself, or of the one just above (crun's child)."""
        parent = CgroupKey(event.cgroup.hierarchy_id, event.parent_id)
        return self._by_cgroup.get(event.cgroup) or self._by_cgroup.get(parent)

    def _is_child(self, event: RawEvent, call: OciCall) -> bool:
        """A directory of the container's own runtime, below the container's own cgroup."""
        return any(
            around.identity.container_id == call.container_id
            and around.mnt_ns in (0, event.task.mnt_ns)
            for around in self._enclosing(event.path)
        )

    def _free(self, container_id: ContainerId, path: str) -> Identity:
        """The identity of a container that its path does not prove."""
        around = identify(path)
        if around is None:
            return Identity(container_id, Runtime.UNKNOWN, is_root=True)
        if around.is_root:  # the path names another one
            return around._replace(container_id=container_id)
        outer = (*around.outer, around.container_id)
        return Identity(container_id, Runtime.UNKNOWN, is_root=True, outer=outer)

    def _around(self, path: str, identity: Identity) -> tuple[ContainerId, ...]:
        """The enclosing containers, also those whose own paths prove nothing."""
        places = {outer: path.find(outer) for outer in identity.outer}
        for container in self._enclosing(path):
            if isinstance(container.key, str):
                places[container.identity.container_id] = len(container.path)
        return tuple(sorted(places, key=places.__getitem__))

    def _enclosing(self, path: str) -> Iterator[_Container]:
        for end, letter in enumerate(path):
            if letter == "/" and (container := self._by_path.get(path[:end])) is not None:
                yield container

    def _key(self, identity: Identity) -> _Key:
        return (*identity.outer, identity.container_id)

    def _add(self, key: _Key, identity: Identity, path: str) -> _Container:
        self._serials += 1
        container = _Container(self._serials, key, identity, path)
        self._living[key] = container
        self._by_path[path] = container
        return container

    def _place(self, container: _Container, cgroup: CgroupKey) -> None:
        container.cgroups.add(cgroup)
        self._by_cgroup[cgroup] = container

    def _forget(self, container: _Container, boot_ns: int) -> list[Change]:
        del self._living[container.key]
        if self._by_path.get(container.path) is container:
            del self._by_path[container.path]
        if container.maker is not None and self._by_maker.get(container.maker) is container:
            del self._by_maker[container.maker]
        for cgroup in container.cgroups:
            del self._by_cgroup[cgroup]
        return [Gone(serial=container.serial, boot_ns=boot_ns)]

    def _consider(self, event: RawEvent, call: OciCall) -> None:
        self._candidates[event.cgroup] = (event, call)
        if len(self._candidates) > _CANDIDATES:
            self._candidates.popitem(last=False)

    def _sign(self, container: _Container, event: RawEvent, call: OciCall | None) -> None:
        """Its maker is known; what that made before were parents."""
        container.mnt_ns = event.task.mnt_ns
        if call is None or container.maker is not None:
            return
        maker = container.maker = _maker(event, call)
        self._by_maker[maker] = container
        parents = [key for key, other in self._candidates.items() if _maker(*other) == maker]
        for key in parents:
            del self._candidates[key]


def _placed(container: _Container, event: RawEvent) -> Placed:
    return Placed(
        serial=container.serial, boot_ns=event.boot_ns, cgroup=event.cgroup, path=event.path
    )


def _maker(event: RawEvent, call: OciCall) -> _Maker:
    return event.task.pid, call.container_id


def _name(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]
