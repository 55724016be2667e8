"""
The live table for programs: one JSON object for each time it is drawn. Pure.

The types are the format, as in event.py: docs/top.md has their fields, and a test holds that.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ctrwatch.core.board import Board, Row
from ctrwatch.core.describe import rfc3339
from ctrwatch.core.text import jsonable
from ctrwatch.event import Bill, HostFigures, HostRates, Rates, Usage

__all__ = ("Container", "Frame", "container", "frame", "line")


class Container(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the table."""

    state: Annotated[
        Literal["running", "ended"],
        Meta(description="running; ended for the ten seconds after its end"),
    ]
    runtime: Annotated[str, Meta(description="who manages the container")]
    container_id: Annotated[str, Meta(description="the full id")]
    container_name: str = ""
    container_image: str = ""
    pod_name: str = ""
    pod_namespace: str = ""
    age_seconds: Annotated[
        float | None, Meta(description="since its birth, or how long it lived; null: not known")
    ] = None
    born_seen: Annotated[bool, Meta(description="it was born while this table was there")] = False
    usage: Annotated[
        Usage | None, Meta(description="as in events.md; null: nobody has looked yet")
    ] = None
    rates: Annotated[
        Rates | None, Meta(description="as in events.md; null: it takes two looks")
    ] = None
    first_minute_cpu_cores: Annotated[
        list[float | None] | None,
        Meta(description="of each second of its first minute; null: nobody looked"),
    ] = None
    bill: Annotated[
        Bill | None, Meta(description="ended: its whole life's, as in events.md; else null")
    ] = None


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """The table at a moment."""

    time: Annotated[str, Meta(description="RFC 3339, nanoseconds, UTC")]
    host: Annotated[str, Meta(description="host name")]
    host_usage: Annotated[HostFigures, Meta(description="as in events.md")]
    host_rates: Annotated[
        HostRates | None, Meta(description="as in events.md; null: it takes two looks")
    ]
    living: Annotated[int, Meta(description="containers that live, before filter and limit")]
    born_last_minute: Annotated[int, Meta(description="births that were seen, also of ended ones")]
    gaps: Annotated[int, Meta(description="times of which something may be missing")]
    lost: Annotated[int, Meta(description="raw events that the kernel dropped")]
    containers: Annotated[
        list[Container], Meta(description="the rows, sorted, filtered and limited as asked")
    ]


def frame(
    board: Board,
    rows: Iterable[Row],
    host_usage: HostFigures,
    host_rates: HostRates | None,
    *,
    host: str,
    now_ns: int,
    offset_ns: int,
) -> Frame:
    """*now_ns*: boot clock; *offset_ns*: to the wall clock."""
    return Frame(
        time=rfc3339(now_ns + offset_ns),
        host=host,
        host_usage=host_usage,
        host_rates=host_rates,
        living=len(board),
        born_last_minute=board.born_last_minute(now_ns),
        gaps=board.losses.gaps,
        lost=board.losses.raw_events,
        containers=[container(row, now_ns) for row in rows],
    )


def container(row: Row, now_ns: int) -> Container:
    age_s, minute = row.age_s(now_ns), row.minute
    return Container(
        state="running" if row.ended_ns is None else "ended",
        runtime=row.runtime,
        container_id=jsonable(row.container_id),
        container_name=jsonable(row.name),
        container_image=jsonable(row.image),
        pod_name=jsonable(row.pod_name),
        pod_namespace=jsonable(row.pod_namespace),
        age_seconds=None if age_s is None else round(age_s, 3),
        born_seen=row.born_seen,
        usage=row.usage,
        rates=row.rates,
        first_minute_cpu_cores=None if minute is None else [_rounded(each) for each in minute],
        bill=row.bill,
    )


def _rounded(cores: float) -> float | None:
    return round(cores, 3) if cores >= 0 else None  # NaN is not


def line(whole: Frame) -> bytes:
    return msgspec.json.encode(whole) + b"\n"
