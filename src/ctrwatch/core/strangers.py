"""
Cgroups that nothing explains, until the first task enters. Pure.

With the systemd driver systemd makes a container's cgroup; LXC's monitor and systemd-nspawn make
it themselves. Where the path proves nothing, who enters it first does: a child of the monitor, or
an OCI runtime's process. Of that one's parent a `Look` asks for the command line, and what happens
until the answer is kept, to be told then.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final, NamedTuple, TypeVar

from ctrwatch.core.changes import Look
from ctrwatch.core.cmdline import OciCall, is_stage, oci_call
from ctrwatch.core.containers import free, parent
from ctrwatch.core.keepers import kept, named_by
from ctrwatch.model import CgroupKey, Identity, RawEvent, Task

__all__ = ("Kept", "Stranger", "Strangers", "keep")

# A host makes a few at a time; a user who makes more only loses his own.
_MOST: Final = 4096
_Value = TypeVar("_Value")


class Stranger:
    """A cgroup that somebody made who is no OCI runtime, and what happened in it so far."""

    def __init__(self, made: RawEvent) -> None:
        self.made = made
        self.entered: RawEvent | None = None  # by an OCI runtime's task
        self.started: RawEvent | None = None
        self.removed: RawEvent | None = None

    def happened(self) -> Iterator[RawEvent]:
        """Since it was made, in order."""
        return filter(None, (self.entered, self.started, self.removed))


class Kept(NamedTuple):
    """What LXC's monitor or systemd-nspawn made for its child: in all hierarchies, one container."""

    identity: Identity
    made: list[RawEvent]


class Strangers:
    def __init__(self) -> None:
        self._kept: OrderedDict[CgroupKey, Stranger] = OrderedDict()
        self.forgotten = 0  # for others: any of them may have become a container

    def __len__(self) -> int:
        return len(self._kept)

    def made(self, event: RawEvent) -> None:
        self.forgotten += keep(self._kept, event.cgroup, Stranger(event), _MOST)

    def drop(self, cgroup: CgroupKey) -> None:
        self._kept.pop(cgroup, None)

    def awaited(self, cgroup: CgroupKey) -> Stranger | None:
        """One whose `Look` is under way."""
        stranger = self._kept.get(cgroup)
        return stranger if stranger is not None and stranger.entered is not None else None

    def met(self, event: RawEvent) -> Look | Kept | None:
        """The first task enters a cgroup that nothing explains."""
        stranger = self._kept.get(event.cgroup)
        if stranger is None or stranger.entered is not None:
            return None
        made = stranger.made
        if event.task.ppid == made.task.pid and (its := kept(made.task.argv)):
            runtime, name = its
            identity = free(named_by(name, made.path), made.path)._replace(runtime=runtime)
            return Kept(identity, self._take_like(made))
        if not is_stage(event.task.comm):
            del self._kept[event.cgroup]  # a service, a session, a user's own
            return None
        stranger.entered = event
        return Look(cgroup=event.cgroup, uid=made.task.uid, task=event.task)

    def looked(self, cgroup: CgroupKey, caller: Task | None) -> tuple[Stranger, OciCall] | None:
        """Whose parent was asked for, and how that was called. None: it is none of ours."""
        if (stranger := self.awaited(cgroup)) is None:
            return None  # it was introduced meanwhile
        call = oci_call(caller.argv) if caller is not None else None
        del self._kept[cgroup]
        return (stranger, call) if call is not None else None

    def executed(self, event: RawEvent) -> None:
        stranger = self._kept.get(event.cgroup) or self._kept.get(parent(event))
        if stranger is not None and stranger.started is None:
            stranger.started = event

    def removed(self, event: RawEvent) -> None:
        if (stranger := self._kept.get(event.cgroup)) is not None:
            if stranger.entered is None:
                del self._kept[event.cgroup]
            stranger.removed = event

    def _take_like(self, made: RawEvent) -> list[RawEvent]:
        """It was made in all hierarchies before any is entered."""
        the_same = [
            other.made
            for other in self._kept.values()
            if other.made.path == made.path and other.made.task.pid == made.task.pid
        ]
        for one in the_same:
            del self._kept[one.cgroup]
        return the_same


def keep(all_: OrderedDict[CgroupKey, _Value], cgroup: CgroupKey, value: _Value, most: int) -> bool:
    """Whether the oldest one was forgotten for it: there were too many."""
    all_[cgroup] = value
    if len(all_) <= most:
        return False
    all_.popitem(last=False)
    return True
