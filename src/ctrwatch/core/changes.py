"""
What raw events mean for a container: what the lifecycle says, and stories are made of.

Pure values. `serial` numbers the births that one watch has heard of.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from ctrwatch.core.cmdline import OciCall
from ctrwatch.model import CgroupKey, ContainerId, Identity, Listed, Task

__all__ = (
    "Begun",
    "Born",
    "Change",
    "Entered",
    "Gone",
    "Living",
    "Look",
    "Placed",
    "Started",
    "Told",
)


class Born(msgspec.Struct, frozen=True, kw_only=True):
    """A container is there. `call`: its creator's; `listed` says it was there before us."""

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


class Begun(msgspec.Struct, frozen=True, kw_only=True):
    """Its first process is there, pid 1 of a namespace, and has not executed anything yet."""

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


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """An OCI runtime's *task* entered a *cgroup* that somebody else made: who is its parent?"""

    cgroup: CgroupKey
    uid: int  # of the one who made it
    task: Task


class Living(NamedTuple):
    """A container as the lifecycle has it now, for who compares it with the host."""

    serial: int
    container_id: ContainerId
    path: str
    cgroups: tuple[CgroupKey, ...]


Told = Born | Placed | Entered | Begun | Started | Gone
Change = Told | Look
