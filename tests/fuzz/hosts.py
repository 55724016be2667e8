"""The host's files: the kernel's own, but who runs ctrwatch in a container of his own writes some."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Final

import msgspec

from ctrwatch.core.hostuse import HostSampled, figures, host_usage
from ctrwatch.event import HostFigures, HostUsage
from tests.fuzz.boundary import Boundary, require
from tests.fuzz.mutate import Mutator
from tests.unit.host_files import HOST

__all__ = ("host_files",)

Case = tuple[str, bytes]
_FIGURES: Final = tuple(name for name in HostFigures.__struct_fields__ if name != "missing")
_COUNTS: Final = tuple(name for name in _FIGURES if name != "pressure")
_BEFORE: Final = HostSampled(boot_ns=1, usage=figures(HOST))


def host_files() -> Boundary:
    seeds: list[Case] = [(file, raw) for file, raw in HOST.items() if isinstance(raw, bytes)]

    def worse(mutator: Mutator, seeds: Sequence[Case]) -> Case:
        file, raw = mutator.pick(seeds)
        return file, mutator.raw((raw,))

    return Boundary(seeds, worse, _feed)


def _feed(case: Case) -> Hashable:
    file, raw = case
    said = figures({**HOST, file: raw})
    for name in _FIGURES:
        require("a figure or a reason", (getattr(said, name) is None) == (name in said.missing))
    for name in _COUNTS:
        require("no figure is negative", (getattr(said, name) or 0) >= 0)
    event = host_usage(_BEFORE, HostSampled(boot_ns=2, usage=said), "host", "boot", 0)
    again = msgspec.json.decode(msgspec.json.encode(event), type=HostUsage)
    require("it can be read again", again == event)
    return file, tuple(sorted(said.missing.items()))
