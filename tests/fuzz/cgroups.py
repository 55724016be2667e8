"""The files of a container's cgroups: the kernel's own, but whoever owns a cgroup writes some."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Final

import msgspec

from ctrwatch.core.usage import TOTALS, later, rates, usage
from ctrwatch.event import Pressure, Unread, Usage
from tests.fuzz.boundary import Boundary, require
from tests.fuzz.mutate import Mutator
from tests.unit.cgroup_files import HYBRID, V2

__all__ = ("usage_files",)

Case = tuple[int, str, bytes]
_FIGURES: Final = tuple(name for name in Usage.__struct_fields__ if name != "missing")
_MAY_BE_NONE: Final = ("memory_limit_bytes", "pids_limit")


def usage_files() -> Boundary:
    seeds: list[Case] = [
        (version, file, raw)
        for texts in (HYBRID, V2)
        for (version, file), raw in texts.items()
        if isinstance(raw, bytes)
    ]

    def worse(mutator: Mutator, seeds: Sequence[Case]) -> Case:
        version, file, raw = mutator.pick(seeds)
        return version, file, mutator.raw((raw,))

    return Boundary(seeds, worse, _feed)


def _feed(case: Case) -> Hashable:
    version, file, raw = case
    whole = V2 if version == 2 else HYBRID
    before, said = usage(whole), usage({**whole, (version, file): raw})
    for name in _FIGURES:
        value = getattr(said, name)
        known = value is not None or name in _MAY_BE_NONE
        require("a figure or a reason", known != (name in said.missing) or name in _MAY_BE_NONE)
        require("no figure is negative", isinstance(value, Pressure | None) or value >= 0)
    require(
        "it can be read again", msgspec.json.decode(msgspec.json.encode(said), type=Usage) == said
    )
    both = later(before, said)
    for name in TOTALS:
        require("totals don't go back", getattr(both, name) >= getattr(before, name))
    rates(before, said, 1.0)
    reasons = tuple(sorted(set(said.missing.values())))
    return file, reasons, Unread.UNREADABLE in reasons
