"""
ctrwatch: every container that is born on this host, whole, before its first instruction.

    async with ctrwatch.watch() as events:
        async for event in events:
            print(event.runtime, event.container_image)

What stands here is the Python API; `ctrwatch.event` and `ctrwatch.model` have the
types that an event is made of.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ctrwatch.api import watch
    from ctrwatch.config import Settings
    from ctrwatch.errors import CtrwatchError, HostError, InputError
    from ctrwatch.event import Audit, ContainerEvent, Flood, HostUsage, WatchGap

__all__ = (
    "Audit",
    "ContainerEvent",
    "CtrwatchError",
    "Flood",
    "HostError",
    "HostUsage",
    "InputError",
    "Settings",
    "WatchGap",
    "watch",
)

# Loaded when they are asked for: `ctrwatch explain` needs none of them.
_HOMES: Final = {
    "Audit": "ctrwatch.event",
    "ContainerEvent": "ctrwatch.event",
    "CtrwatchError": "ctrwatch.errors",
    "Flood": "ctrwatch.event",
    "HostError": "ctrwatch.errors",
    "HostUsage": "ctrwatch.event",
    "InputError": "ctrwatch.errors",
    "Settings": "ctrwatch.config",
    "WatchGap": "ctrwatch.event",
    "watch": "ctrwatch.api",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
