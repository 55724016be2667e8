"""
Raw events to births and deaths: one container, once, in order.

Pure. On a hybrid host one container is a dozen directories; here it becomes one.
The laws, which tests/unit/test_lifecycle.py holds for any stream of raw events:

* `Born` comes first and once for a container, then at most one `Entered`, one
  `Started`, one `Gone`, and nothing after `Gone`.
* What happens below a container's own cgroup never makes, changes or ends it.
* A directory of the same container in a hierarchy where it has or had one is a
  new birth (`docker restart`): the old container is gone before the new is born.
* A container is gone with its last directory in a hierarchy that the host has mounted.
  What systemd-nspawn leaves in one that it mounts for itself keeps no machine alive.

A container is recognised by its path, or, where the path proves nothing
(``/default/web``), by the command line of the OCI runtime that made the cgroup:
it is the directory that is named by the container's id, or else the one that the
runtime's first task enters. The parents that a runtime makes on the way are neither.
The same id once more below a container's own cgroup is a child, unless the runtime that
made it lives in another mount namespace: a ``web`` inside of ``web``.

With the systemd driver systemd makes the cgroup. Where its path proves nothing and an OCI
runtime's process is the first to enter, `Look` asks for the command line of that process's
parent; the answer comes back through `Lifecycle.looked`, and what happened meanwhile is
told then.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterator
from typing import Final, TypeVar

from ctrwatch.core.cgroup import identify, is_free_name
from ctrwatch.core.changes import Born, Change, Entered, Gone, Living, Look, Placed, Started
from ctrwatch.core.cmdline import COMMANDS, OciCall, is_stage, oci_call
from ctrwatch.core.keepers import kept, named_by
from ctrwatch.core.places import Places
from ctrwatch.model import (
    NOWHERE,
    CgroupKey,
    ContainerId,
    Identity,
    Kind,
    Listed,
    RawEvent,
    Runtime,
    Task,
)

__all__ = ("Lifecycle",)

# Cgroups that an OCI runtime made on its way to the container's own: a handful for each
# birth, dropped with it. The bound is for runtimes that fail half-way.
_CANDIDATES: Final = 1024
# OCI runtimes that may go on making directories: each lives for a tenth of a second.
_MAKERS: Final = 256
# Cgroups that nobody's name or command line explains, until a first task has entered: a
# host makes a few at a time; a user who makes more only loses his own.
_STRANGERS: Final = 4096
_Value = TypeVar("_Value")
_MAKING: Final = frozenset(COMMANDS)

# An id proven by the path is one container wherever its maker's directories stand; a free
# name is only good for its path.
_Key = tuple[str, ...] | str
# An OCI runtime's process, and the id it was called with. Not its start time: a Go
# program makes directories from any of its threads, and each has a start of its own.
_Maker = tuple[int, str]


class _Container:
    """A living container's directories."""

    __slots__ = (
        *("dying", "entered", "identity", "key", "maker", "mnt_ns", "path", "places"),
        *("serial", "started"),
    )

    def __init__(self, serial: int, key: _Key, identity: Identity, path: str) -> None:
        self.serial, self.key, self.identity, self.path = serial, key, identity, path
        self.places: tuple[int, ...] = ()
        self.maker: _Maker | None = None
        self.mnt_ns = 0  # its creator's; 0 is not known
        self.entered = self.started = self.dying = False

    def is_in(self, hierarchy_id: int) -> bool:
        return hierarchy_id in self.places[::2]


class _Stranger:
    """A cgroup that somebody made who is no OCI runtime, and what happened in it so far."""

    def __init__(self, made: RawEvent) -> None:
        self.made = made
        self.entered: RawEvent | None = None  # by an OCI runtime's task
        self.started: RawEvent | None = None
        self.removed: RawEvent | None = None


class Lifecycle:
    """Feed it every raw event, in order; it answers with what that means."""

    def __init__(self, mounted: Collection[int] | None = None) -> None:
        """*mounted*: the ids of the hierarchies that the host has mounted; None: all of them."""
        self._mounted = mounted
        self._serials = 0
        self._living: dict[_Key, _Container] = {}
        self._by_cgroup: Places[_Container] = Places()
        self._by_path: dict[str, _Container] = {}
        self._by_maker: OrderedDict[_Maker, _Container] = OrderedDict()
        self._candidates: OrderedDict[CgroupKey, tuple[RawEvent, OciCall]] = OrderedDict()
        self._strangers: OrderedDict[CgroupKey, _Stranger] = OrderedDict()

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
            return self._remembered(found) if found.unheard else []
        cgroup, path = found.paths[0]
        identity = found.identity or self._free(found.container_id, path)
        key = _key(identity, path, found.uid) if found.identity else path
        if key in self._living or self.knows(found):
            return []
        identity = identity._replace(outer=self._around(path, identity))
        container = self._add(key, identity, path)
        container.entered = container.started = True  # before our time
        for place, _ in found.paths:
            self._by_cgroup.add(container, place)
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

    def _remembered(self, found: Listed) -> list[Change]:
        """It was born and has ended, both unheard."""
        self._serials += 1
        runtime = found.runtime or Runtime.UNKNOWN
        born = Born(
            serial=self._serials,
            boot_ns=found.boot_ns,
            identity=found.identity or Identity(found.container_id, runtime, is_root=True),
            cgroup=NOWHERE,
            path="",
            creator=None,
            call=None,
            listed=found,
        )
        return [born, Gone(serial=born.serial, boot_ns=found.boot_ns)]

    def knows(self, found: Listed) -> bool:
        """Whether one of its directories is a living container's."""
        return any(place in self._by_cgroup for place, _ in found.paths)

    def places(self, cgroup: CgroupKey) -> tuple[CgroupKey, ...]:
        """All directories of the living container that has this one; none: nobody's."""
        container = self._by_cgroup.owner(cgroup)
        return tuple(self._by_cgroup.of(container)) if container is not None else ()

    def vanished(self, cgroup: CgroupKey, boot_ns: int) -> list[Change]:
        """The container that had that directory has none any more, and nobody said so."""
        container = self._by_cgroup.owner(cgroup)
        return self._forget(container, boot_ns) if container is not None else []

    def living(self) -> list[Living]:
        """All containers that have not ended, oldest first."""
        return [
            Living(one.serial, one.identity.container_id, one.path, tuple(self._by_cgroup.of(one)))
            for one in self._living.values()
        ]

    def dismiss(self, cgroup: CgroupKey) -> None:
        """What was just born there is not to be followed: it is no container of ours."""
        if (container := self._by_cgroup.owner(cgroup)) is not None:
            self._forget(container, 0)

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
            key = _key(identity, event.path, task.uid)
            if identity.is_root:
                return self._directory(event, identity, key, task, call)
        elif call is not None and called:
            return self._unproven(event, call)
        if call is None:
            _bounded(self._strangers, event.cgroup, _Stranger(event), _STRANGERS)
        return []

    def _unproven(self, event: RawEvent, call: OciCall) -> list[Change]:
        """An OCI runtime made a directory that is not named as its container's by the path."""
        above = self._strangers.get(_parent(event))
        if above is not None and above.entered is not None:  # crun's child, before the answer
            return self._introduced(above, event.task, call)
        mine = self._by_maker.get(_maker(event.task, call))
        named = _name(event.path) == call.container_id
        if mine and named and not mine.entered and event.path.startswith(mine.path + "/"):
            return self._move(mine, event)
        known = self._by_path.get(event.path)
        if known is not None and known.identity.container_id == call.container_id:
            return self._directory(event, known.identity, known.key, event.task, call)
        if mine is not None or self._is_child(event.path, event.task, call):
            return []
        if named:
            identity = self._free(ContainerId(call.container_id), event.path)
            return self._directory(event, identity, event.path, event.task, call)
        _bounded(self._candidates, event.cgroup, (event, call), _CANDIDATES)
        return []

    def _directory(
        self, event: RawEvent, identity: Identity, key: _Key, maker: Task, call: OciCall | None
    ) -> list[Change]:
        """A container's own; its *maker* is who was called so."""
        if (listed := self._by_cgroup.owner(event.cgroup)) is not None:
            # We looked between this mkdir and its being read: it will still enter and start.
            listed.entered = listed.started = False
            self._sign(listed, maker, call)
            return []
        changes: list[Change] = []
        known = self._living.get(key)
        if known is not None:
            if not known.dying and not known.is_in(event.cgroup.hierarchy_id):
                return self._another(known, event)
            changes += self._forget(known, event.boot_ns)
        identity = identity._replace(outer=self._around(event.path, identity))
        container = self._add(key, identity, event.path)
        self._sign(container, maker, call)
        self._by_cgroup.add(container, event.cgroup)
        changes.append(
            Born(
                serial=container.serial,
                boot_ns=event.boot_ns,
                identity=identity,
                cgroup=event.cgroup,
                path=event.path,
                creator=event.task,
                call=call if maker is event.task else None,
            )
        )
        return changes

    def _another(self, known: _Container, event: RawEvent) -> list[Change]:
        """The same container in one more hierarchy."""
        self._by_cgroup.add(known, event.cgroup)
        return [_placed(known, event)] if event.cgroup.hierarchy_id == 0 else []

    def _move(self, container: _Container, event: RawEvent) -> list[Change]:
        """It was a parent, named as the container is: ``ctr -n web run … web``."""
        overrun = self._living.get(event.path)  # its end was lost
        changes = self._forget(overrun, event.boot_ns) if overrun is not None else []
        del self._living[container.key]
        if self._by_path.get(container.path) is container:
            del self._by_path[container.path]
        self._by_cgroup.forget(container)
        container.key = container.path = event.path
        self._living[event.path] = self._by_path[event.path] = container
        self._by_cgroup.add(container, event.cgroup)
        return [*changes, _placed(container, event)]

    def _entered(self, event: RawEvent) -> list[Change]:
        changes = self._chosen(event) if event.cgroup in self._candidates else []
        container = self._of(event)
        if container is None:
            return [*changes, *self._met(event)]
        if not container.entered:
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
            if other.path == made.path
            and _maker(other.task, others_call) == _maker(made.task, call)
        ]
        return [
            change
            for one in the_same
            for change in self._directory(one, identity, made.path, one.task, call)
        ]

    def _executed(self, event: RawEvent) -> list[Change]:
        container = self._of(event)
        if container is None:
            stranger = self._strangers.get(event.cgroup) or self._strangers.get(_parent(event))
            if stranger is not None and stranger.started is None:
                stranger.started = event
            return []
        if container.started:
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
        if (stranger := self._strangers.get(event.cgroup)) is not None:
            if stranger.entered is None:
                del self._strangers[event.cgroup]
            stranger.removed = event
        container = self._by_cgroup.remove(event.cgroup)
        if container is None:
            return []
        self._strangers.pop(event.cgroup, None)
        container.dying = True
        left = [*self._by_cgroup.of(container)]
        if self._is_mounted(event.cgroup):
            left = [*filter(self._is_mounted, left)]
        return [] if left else self._forget(container, event.boot_ns)

    # --- made by systemd --------------------------------------------------------------

    def _met(self, event: RawEvent) -> list[Change]:
        """The first task enters a cgroup that nothing explains."""
        stranger = self._strangers.get(event.cgroup)
        if stranger is None or stranger.entered is not None:
            return []
        if event.task.ppid == stranger.made.task.pid and (its := kept(stranger.made.task.argv)):
            return self._introduce_kept(event, stranger.made, *its)
        if not is_stage(event.task.comm):
            del self._strangers[event.cgroup]  # a service, a session, a user's own
            return []
        stranger.entered = event
        return [Look(cgroup=event.cgroup, uid=stranger.made.task.uid, task=event.task)]

    def _introduce_kept(
        self, event: RawEvent, made: RawEvent, runtime: Runtime, name: str
    ) -> list[Change]:
        """A child of LXC's monitor, or of systemd-nspawn, enters the directory made for it."""
        identity = self._free(named_by(name, made.path), made.path)._replace(runtime=runtime)
        the_same = [  # it was made in all hierarchies before any is entered
            other.made
            for other in self._strangers.values()
            if other.made.path == made.path and other.made.task.pid == made.task.pid
        ]
        changes: list[Change] = []
        for one in the_same:
            del self._strangers[one.cgroup]
            changes += self._directory(one, identity, made.path, one.task, None)
        return [*changes, *self._entered(event)]

    def looked(self, cgroup: CgroupKey, caller: Task | None) -> list[Change]:
        """The answer to a `Look`: the parent of the task that entered; None: it has ended."""
        stranger = self._strangers.get(cgroup)
        if stranger is None or stranger.entered is None:
            return []  # it was introduced meanwhile
        call = oci_call(caller.argv) if caller is not None else None
        if caller is None or call is None:
            del self._strangers[cgroup]
            return []
        return self._introduced(stranger, caller, call)

    def _introduced(self, stranger: _Stranger, caller: Task, call: OciCall) -> list[Change]:
        """An OCI runtime says whose cgroup it is: what happened in it happens now."""
        made = stranger.made
        del self._strangers[made.cgroup]
        if self._is_child(made.path, caller, call):
            return []
        identity = self._free(ContainerId(call.container_id), made.path)
        changes = self._directory(made, identity, made.path, caller, call)
        for event in (stranger.entered, stranger.started, stranger.removed):
            if event is not None:
                changes += self.feed(event)
        return changes

    # --- bookkeeping ----------------------------------------------------------------

    def _of(self, event: RawEvent) -> _Container | None:
        """The container of the cgroup itself, or of the one just above (crun's child)."""
        return self._by_cgroup.owner(event.cgroup) or self._by_cgroup.owner(_parent(event))

    def _is_child(self, path: str, maker: Task, call: OciCall) -> bool:
        """A directory of the container's own runtime, below the container's own cgroup."""
        return any(
            around.identity.container_id == call.container_id and around.mnt_ns in (0, maker.mnt_ns)
            for around in self._enclosing(path)
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

    def _add(self, key: _Key, identity: Identity, path: str) -> _Container:
        self._serials += 1
        container = _Container(self._serials, key, identity, path)
        self._living[key] = container
        self._by_path[path] = container
        return container

    def _is_mounted(self, cgroup: CgroupKey) -> bool:
        return self._mounted is None or cgroup.hierarchy_id in self._mounted

    def _forget(self, container: _Container, boot_ns: int) -> list[Change]:
        del self._living[container.key]
        if self._by_path.get(container.path) is container:
            del self._by_path[container.path]
        if container.maker is not None and self._by_maker.get(container.maker) is container:
            del self._by_maker[container.maker]
        for cgroup in self._by_cgroup.of(container):
            self._strangers.pop(cgroup, None)  # a `Look` under way, or a task that
            self._candidates.pop(cgroup, None)  # enters late, would tell of it again
        self._by_cgroup.forget(container)
        return [Gone(serial=container.serial, boot_ns=boot_ns)]

    def _sign(self, container: _Container, maker: Task, call: OciCall | None) -> None:
        """Its maker is known; what that made before were parents."""
        container.mnt_ns = maker.mnt_ns
        if call is None or container.maker is not None:
            return
        signature = container.maker = _maker(maker, call)
        self._by_maker[signature] = container
        if len(self._by_maker) > _MAKERS:
            self._by_maker.popitem(last=False)[1].maker = None
        parents = [
            key
            for key, (other, others_call) in self._candidates.items()
            if _maker(other.task, others_call) == signature
        ]
        for key in parents:
            del self._candidates[key]


def _key(identity: Identity, path: str, uid: int) -> _Key:
    """*uid*: of the cgroup's maker. A user's directory is no other user's container."""
    if is_free_name(identity):
        return path.rstrip("/")
    return (str(uid), *identity.outer, identity.container_id)


def _placed(container: _Container, event: RawEvent) -> Placed:
    return Placed(
        serial=container.serial, boot_ns=event.boot_ns, cgroup=event.cgroup, path=event.path
    )


def _maker(task: Task, call: OciCall) -> _Maker:
    return task.pid, call.container_id


def _parent(event: RawEvent) -> CgroupKey:
    return CgroupKey(event.cgroup.hierarchy_id, event.parent_id)


def _bounded(
    kept: OrderedDict[CgroupKey, _Value], key: CgroupKey, value: _Value, most: int
) -> None:
    """Keep it; the oldest one goes when there are too many."""
    kept[key] = value
    if len(kept) > most:
        kept.popitem(last=False)


def _name(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]
