"""Readings as tests want them: of a container in which nothing happens, but for what they say."""

from __future__ import annotations

from msgspec.structs import replace

from ctrwatch.core.ledger import Reading
from ctrwatch.event import ContainerEvent, Pressure, Rates, Usage
from tests.unit.test_render import WEB

S = 1_000_000_000
MB = 1 << 20
IDLE = Usage(
    **dict.fromkeys(  # type: ignore[arg-type]
        (name for name in Usage.__struct_fields__ if name not in ("missing", "pressure")), 0
    ),
    pressure=Pressure(**dict.fromkeys(Pressure.__struct_fields__, 0.0)),
)
FREE = replace(IDLE, memory_limit_bytes=None, pids_limit=None)
QUIET = Rates(
    seconds=1.0,
    cpu_cores=0.0,
    throttled_share=0.0,
    io_read_bytes_per_second=0.0,
    io_write_bytes_per_second=0.0,
)


def reading(
    at_s: float = 60.0,
    usage: Usage = FREE,
    rates: Rates | None = QUIET,
    *,
    container: ContainerEvent = WEB,
    final: bool = False,
) -> Reading:
    return Reading(
        serial=7,
        container=container,
        boot_ns=round(at_s * S),
        age_seconds=at_s,
        usage=usage,
        rates=rates,
        final=final,
    )


def busy(at_s: float, cores: float = 4.0, *, container: ContainerEvent = WEB) -> Reading:
    return reading(at_s, rates=replace(QUIET, cpu_cores=cores), container=container)


def unsure(at_s: float) -> Reading:
    """There is nothing to compare with."""
    return reading(at_s, rates=None)
