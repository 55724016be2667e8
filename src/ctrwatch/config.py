"""What can be set, with its defaults and the reason for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from ctrwatch.errors import InputError

__all__ = ("Settings",)

SensorName = Literal["auto", "ebpf"]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """
    How to watch.

    `wait_s`: how long a `container_create` may wait to become complete; two seconds are
    forty times what the slowest runtime measured needs. 0 tells at once and updates later.
    `existing`: also list the containers that are there already. `raw`: also give the
    kernel's own events. `record`: keep every input in this file, for `ctrwatch replay`.
    `sockets`: daemons' sockets in unusual places, by kind (docker, containerd).
    """

    wait_s: float = 2.0
    existing: bool = True
    raw: bool = False
    record: Path | None = None
    sensor: SensorName = "auto"
    sockets: Mapping[str, Sequence[str]] = {}

    def __post_init__(self) -> None:
        if not 0 <= self.wait_s <= 60:
            raise InputError(f"--wait {self.wait_s:g}: give seconds from 0 to 60")
