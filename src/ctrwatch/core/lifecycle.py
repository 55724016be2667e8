"""
Raw events to births and deaths: one container, once, in order.

Pure. On a hybrid host one container is a dozen directories; here it becomes one.
The laws, which tests/unit/test_lifecycle.py holds for any stream of raw events:

* `Born` comes first and once for a container, then at most one `Entered`, one `Begun`,
  one `Started`, one `Gone`, and nothing after `Gone`.
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
from collections.abc import Collection
from typing import Final

from ctrwatch.core.cgroup import identify
from ctrwatch.core.changes import Begun, Born, Change, Entered, Gone, Living, Look, Placed, Started
from ctrwatch.core.cmdline import COMMANDS, OciCall, oci_call
from ctrwatch.core.containers import (
    Container,
    Containers,
    Key,
    Maker,
    free,
    key_of,
    maker_of,
    parent,
)
from ctrwatch.core.strangers import Kept, Stranger, Strangers, keep
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
_MAKING: Final = frozenset(COMMANDS)


class Lifecycle:
    """Feed it every raw event, in order; it answers with what that means."""

    def __init__(self, mounted: Collection[int] | None = None) -> None:
        """*mounted*: the ids of the hierarchies that the host has mounted; None: all of them."""
        self._mounted = mounted
        self._living = Containers()
        self._by_maker: OrderedDict[Maker, Container] = OrderedDict()
        self._candidates: OrderedDict[CgroupKey, tuple[RawEvent, OciCall]] = OrderedDict()
        self._forgotten = 0  # of the candidates
        self._strangers = Strangers()

    def __len__(self) -> int:
        return len(self._living)

    @property
    def forgotten(self) -> int:
        """Cgroups that could have become a container's, and were too many to be remembered."""
        return self._forgotten + self._strangers.forgotten

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
            case Kind.INIT:
                return self._begun(event)

    def listed(self, found: Listed) -> list[Change]:
        """A container that was there when we looked; nothing if we know it already."""
        if not found.paths:
            return self._remembered(found) if found.unheard else []
        cgroup, path = found.paths[0]
        identity = found.identity or free(found.container_id, path)
        key = key_of(identity, path, found.uid) if found.identity else path
        if self._living.get(key) is not None or self.knows(found):
            return []
        identity = identity._replace(outer=self._living.around(path, identity))
        container = self._living.add(key, identity, path)
        container.entered = container.started = True  # before our time
        for place, _ in found.paths:
            self._living.place(container, place)
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
        runtime = found.runtime or Runtime.UNKNOWN
        born = Born(
            serial=self._living.next_serial(),
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
        return any(self._living.owner(place) is not None for place, _ in found.paths)

    def places(self, cgroup: CgroupKey) -> tuple[CgroupKey, ...]:
        """All directories of the living container that has this one; none: nobody's."""
        container = self._living.owner(cgroup)
        return tuple(self._living.directories(container)) if container is not None else ()

    def vanished(self, cgroup: CgroupKey, boot_ns: int) -> list[Change]:
        """The container that had that directory has none any more, and nobody said so."""
        container = self._living.owner(cgroup)
        return self._forget(container, boot_ns) if container is not None else []

    def living(self) -> list[Living]:
        """All containers that have not ended, oldest first."""
        return [self._alive(one) for one in self._living]

    def living_at(self, cgroup: CgroupKey) -> Living | None:
        """The container whose own directory that is; None: it is nobody's."""
        container = self._living.owner(cgroup)
        return self._alive(container) if container is not None else None

    def _alive(self, one: Container) -> Living:
        cgroups = tuple(self._living.directories(one))
        return Living(one.serial, one.identity.container_id, one.path, cgroups)

    def dismiss(self, cgroup: CgroupKey) -> None:
        """What was just born there is not to be followed: it is no container of ours."""
        if (container := self._living.owner(cgroup)) is not None:
            self._forget(container, 0)

    # --- the five kinds -----------------------------------------------------------

    def _made(self, event: RawEvent) -> list[Change]:
        identity = identify(event.path)
        task = event.task
        call = None
        if not _MAKING.isdisjoint(task.argv):  # of most command lines this is all we need to know
            call = oci_call(task.argv, cut=task.argv_cut)
        called = call.container_id if call is not None else ""  # also cut off before the id
        if identity is not None and called in ("", identity.container_id):
            # What is not the root is a child that the runtime makes in the container's own.
            key = key_of(identity, event.path, task.uid)
            if identity.is_root:
                return self._directory(event, identity, key, task, call)
        elif call is not None and called:
            return self._unproven(event, call)
        if call is None:
            self._strangers.made(event)
        return []

    def _unproven(self, event: RawEvent, call: OciCall) -> list[Change]:
        """An OCI runtime made a directory that is not named as its container's by the path."""
        above = self._strangers.awaited(parent(event))
        if above is not None:  # crun's child, before the answer
            return self._introduced(above, event.task, call)
        mine = self._by_maker.get(maker_of(event.task, call))
        named = _name(event.path) == call.container_id
        if mine and named and not mine.entered and event.path.startswith(mine.path + "/"):
            return self._move(mine, event)
        known = self._living.at(event.path)
        if known is not None and known.identity.container_id == call.container_id:
            return self._directory(event, known.identity, known.key, event.task, call)
        if mine is not None or self._living.is_child(event.path, event.task, call):
            return []
        if named:
            identity = free(ContainerId(call.container_id), event.path)
            return self._directory(event, identity, event.path, event.task, call)
        self._forgotten += keep(self._candidates, event.cgroup, (event, call), _CANDIDATES)
        return []

    def _directory(
        self, event: RawEvent, identity: Identity, key: Key, maker: Task, call: OciCall | None
    ) -> list[Change]:
        """A container's own; its *maker* is who was called so."""
        if (listed := self._living.owner(event.cgroup)) is not None:
            # We looked between this mkdir and its being read: it will still enter and start.
            listed.entered = listed.begun = listed.started = False
            self._sign(listed, maker, call)
            return []
        changes: list[Change] = []
        known = self._living.get(key)
        if known is not None:
            if not known.dying and not known.is_in(event.cgroup.hierarchy_id):
                return self._another(known, event)
            changes += self._forget(known, event.boot_ns)
        identity = identity._replace(outer=self._living.around(event.path, identity))
        container = self._living.add(key, identity, event.path)
        self._sign(container, maker, call)
        self._living.place(container, event.cgroup)
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

    def _another(self, known: Container, event: RawEvent) -> list[Change]:
        """The same container in one more hierarchy."""
        self._living.place(known, event.cgroup)
        return [_placed(known, event)] if event.cgroup.hierarchy_id == 0 else []

    def _move(self, container: Container, event: RawEvent) -> list[Change]:
        """It was a parent, named as the container is: ``ctr -n web run … web``."""
        overrun = self._living.get(event.path)  # its end was lost
        changes = self._forget(overrun, event.boot_ns) if overrun is not None else []
        self._living.move(container, event.path)
        self._living.place(container, event.cgroup)
        return [*changes, _placed(container, event)]

    def _entered(self, event: RawEvent) -> list[Change]:
        changes = self._chosen(event) if event.cgroup in self._candidates else []
        container = self._living.of(event)
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
        identity = free(ContainerId(call.container_id), made.path)
        the_same = [  # it may have been made in all hierarchies before any is entered
            other
            for other, others_call in self._candidates.values()
            if other.path == made.path
            and maker_of(other.task, others_call) == maker_of(made.task, call)
        ]
        return [
            change
            for one in the_same
            for change in self._directory(one, identity, made.path, one.task, call)
        ]

    def _begun(self, event: RawEvent) -> list[Change]:
        container = self._living.of(event)
        if container is None or container.begun or container.started:
            return []  # of a stranger, who may still prove to be one, the process is looked for
        container.begun = True
        return [Begun(serial=container.serial, boot_ns=event.boot_ns, task=event.task)]

    def _executed(self, event: RawEvent) -> list[Change]:
        container = self._living.of(event)
        if container is None:
            self._strangers.executed(event)
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
        self._strangers.removed(event)
        container = self._living.displace(event.cgroup)
        if container is None:
            return []
        self._strangers.drop(event.cgroup)
        container.dying = True
        left = [*self._living.directories(container)]
        if self._is_mounted(event.cgroup):
            left = [*filter(self._is_mounted, left)]
        return [] if left else self._forget(container, event.boot_ns)

    # --- made by somebody else: strangers.py -------------------------------------------

    def _met(self, event: RawEvent) -> list[Change]:
        match self._strangers.met(event):
            case Look() as look:
                return [look]
            case Kept(identity, made):
                changes: list[Change] = []
                for one in made:
                    changes += self._directory(one, identity, one.path, one.task, None)
                return [*changes, *self._entered(event)]
            case None:
                return []

    def looked(self, cgroup: CgroupKey, caller: Task | None) -> list[Change]:
        """The answer to a `Look`: the parent of the task that entered; None: it has ended."""
        introduced = self._strangers.looked(cgroup, caller)
        if introduced is None or caller is None:
            return []
        stranger, call = introduced
        return self._introduced(stranger, caller, call)

    def _introduced(self, stranger: Stranger, caller: Task, call: OciCall) -> list[Change]:
        """An OCI runtime says whose cgroup it is: what happened in it happens now."""
        made = stranger.made
        self._strangers.drop(made.cgroup)
        if self._living.is_child(made.path, caller, call):
            return []
        identity = free(ContainerId(call.container_id), made.path)
        changes = self._directory(made, identity, made.path, caller, call)
        for event in stranger.happened():
            changes += self.feed(event)
        return changes

    # --- bookkeeping ----------------------------------------------------------------

    def _is_mounted(self, cgroup: CgroupKey) -> bool:
        return self._mounted is None or cgroup.hierarchy_id in self._mounted

    def _forget(self, container: Container, boot_ns: int) -> list[Change]:
        if container.maker is not None and self._by_maker.get(container.maker) is container:
            del self._by_maker[container.maker]
        for cgroup in self._living.directories(container):
            self._strangers.drop(cgroup)  # a `Look` under way, or a task that
            self._candidates.pop(cgroup, None)  # enters late, would tell of it again
        self._living.forget(container)
        return [Gone(serial=container.serial, boot_ns=boot_ns)]

    def _sign(self, container: Container, maker: Task, call: OciCall | None) -> None:
        """Its maker is known; what that made before were parents."""
        container.mnt_ns = maker.mnt_ns
        if call is None or container.maker is not None:
            return
        signature = container.maker = maker_of(maker, call)
        self._by_maker[signature] = container
        if len(self._by_maker) > _MAKERS:
            self._by_maker.popitem(last=False)[1].maker = None
        parents = [
            key
            for key, (other, others_call) in self._candidates.items()
            if maker_of(other.task, others_call) == signature
        ]
        for key in parents:
            del self._candidates[key]


def _placed(container: Container, event: RawEvent) -> Placed:
    return Placed(
        serial=container.serial, boot_ns=event.boot_ns, cgroup=event.cgroup, path=event.path
    )


def _name(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]
