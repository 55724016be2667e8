"""What can be set, with its defaults and the reason for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, NoReturn

import msgspec

from ctrwatch.errors import InputError

__all__ = ("SOCKET_KINDS", "Settings", "refuse_socket")

SOCKET_KINDS: Final = ("docker", "containerd", "cri")  # of daemons that are asked
_AGES: Final = 16  # each is an event of each container
SensorName = Literal["auto", "ebpf", "fanotify"]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """
    How to watch.

    `wait_s`: how long a `container_create` may wait to become complete; two seconds are
    forty times what the slowest runtime measured needs. 0 tells at once and updates later.
    `existing`: also list the containers that are there already. `raw`: also give the
    kernel's own events. `record`: keep every input in this file, for `ctrwatch replay`.
    `sensor`: auto takes eBPF, or fanotify where that can't run.
    `state`: remember in this directory what was announced. `audit_s`: how often the host is
    compared with what was announced: walking 1,000 containers takes 0.2 s; 0 is never.
    `usage`: also tell what containers use; nothing is read without it. `usage_at_s`: at which ages; a
    newborn shows in 10 s what it does, in 60 s what it will go on doing. `usage_every_s`: how often
    an old one is looked at.
    `sockets`: daemons' sockets in unusual places, by kind (docker, containerd, cri).
    """

    wait_s: float = 2.0
    existing: bool = True
    raw: bool = False
    record: Path | None = None
    sensor: SensorName = "auto"
    state: Path | None = None
    audit_s: float = 600.0
    usage: bool = False
    usage_at_s: tuple[float, ...] = (10.0, 60.0)
    usage_every_s: float = 60.0
    sockets: Mapping[str, Sequence[str]] = {}

    @property
    def usage_at_ns(self) -> tuple[int, ...]:
        return tuple(int(age_s * 1e9) for age_s in self.usage_at_s)

    def __post_init__(self) -> None:
        if not 0 <= self.wait_s <= 60:
            raise InputError(f"--wait {self.wait_s:g}: give seconds from 0 to 60")
        if self.audit_s != 0 and not 1 <= self.audit_s <= 86_400:
            raise InputError(f"--audit {self.audit_s:g}: give seconds from 1 to 86400, or 0")
        if not 1 <= self.usage_every_s <= 86_400:
            raise InputError(f"--usage-every {self.usage_every_s:g}: give seconds from 1 to 86400")
        for age_s in self.usage_at_s:
            if not 1 <= age_s <= 86_400:
                raise InputError(f"--usage-at {age_s:g}: give seconds from 1 to 86400")
        if len(self.usage_at_s) > _AGES:
            raise InputError(f"--usage-at: give at most {_AGES} ages")
        for kind, paths in self.sockets.items():
            for path in (paths,) if isinstance(paths, str) else paths:
                if kind not in SOCKET_KINDS or isinstance(paths, str) or path[:1] != "/":
                    refuse_socket(f"{kind}={path}")


def refuse_socket(given: str) -> NoReturn:
    """Raise InputError for a socket that is not given as KIND=/PATH."""
    ways = (f"{kind}=/path/to/socket" for kind in SOCKET_KINDS)
    raise InputError(f"--socket {given}: give {' or '.join(ways)}")
