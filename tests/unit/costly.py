"""Rows of a history in which containers use something: births, looks, bills, and the host around them."""

from __future__ import annotations

from typing import Any

import msgspec

from ctrwatch.core.describe import rfc3339, wall_ns
from ctrwatch.event import (
    Bill,
    ContainerEvent,
    ContainerUsage,
    EventName,
    HostFigures,
    HostRates,
    HostUsage,
    Unread,
    Usage,
)
from tests.unit.test_render import WEB

S = 1_000_000_000
BEGIN_NS = wall_ns("2026-11-23T00:00:00.000000000Z")
GB = 1 << 30
CPUS = 4


def at(second: float) -> int:
    return BEGIN_NS + int(second * S)


def birth(
    number: int, second: float, name: EventName = "container_create", **fields: Any
) -> ContainerEvent:
    suffix = {"container_create": "", "existing_container": ""}.get(name, "-" + name[10:])
    return msgspec.structs.replace(
        WEB,
        **{
            "event": name,
            "id": f"{number:032x}{suffix}",
            "time": rfc3339(at(second)),
            "container_id": f"{number:064x}",
            "container_name": f"web-{number}",
            **fields,
        },
    )


def used(
    number: int, second: float, age: float, cpu_s: float | None, **more: Any
) -> ContainerUsage:
    """At *second*, when it was *age* old."""
    missing = {} if cpu_s is not None else {"cpu_seconds": Unread.NO_CONTROLLER}
    figures: dict[str, Any] = {
        "cpu_seconds": cpu_s, "memory_peak_bytes": GB, "io_read_bytes": 1000, "io_write_bytes": 500,
        "oom_kills": 0, "missing": missing, **more,
    }  # fmt: skip
    known = birth(number, second)
    return ContainerUsage(
        event="container_usage",
        id=f"{number:032x}-usage-{age:g}",
        time=rfc3339(at(second)),
        host=known.host,
        runtime=known.runtime,
        container_id=known.container_id,
        container_name=known.container_name,
        container_image=known.container_image,
        age_seconds=age,
        usage=Usage(**figures),
    )


def removed(
    number: int, second: float, lived: float, cpu_s: float | None, **more: Any
) -> ContainerEvent:
    figures: dict[str, Any] = {
        "cpu_seconds": cpu_s, "memory_peak_bytes": GB, "io_read_bytes": 1000, "io_write_bytes": 500,
        "oom_kills": 0, "duration_seconds": lived, "final": True,
    }  # fmt: skip
    figures |= {name: more.pop(name) for name in Bill.__struct_fields__ if name in more}
    return birth(number, second, "container_remove", usage=Bill(**figures), **more)


def host(second: float, cpu_s: float | None, since: float | None = None, **more: Any) -> HostUsage:
    """The host's look at *second*; *since*: when the one before was, of the same watch."""
    figures: dict[str, Any] = {
        "cpus": CPUS, "cpu_seconds": cpu_s, "memory_bytes": 2 * GB, "memory_total_bytes": 8 * GB,
        "io_read_bytes": int(second * 1000), "io_write_bytes": int(second * 1000), **more,
    }  # fmt: skip
    cores = more.pop("cores", None)
    figures.pop("cores", None)
    seconds = None if since is None else second - since
    return HostUsage(
        id=f"h{second}",
        time=rfc3339(at(second)),
        host="node-1",
        usage=HostFigures(**figures),
        rates=None if seconds is None else HostRates(seconds=seconds, cpu_cores=cores),
    )
