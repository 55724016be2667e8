"""
Rows of the history: an event as it is kept, and what it can be asked by.

Pure. A row's body is the whole event as JSON, and the truth; what it can be asked by is read out
of the body, never said beside it. Besides the events that leave, the store has rows of its own:
when a watch began and ended, that it was alive, and what was pruned.
"""

from __future__ import annotations

import functools
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta

from ctrwatch.core.describe import rfc3339, wall_ns
from ctrwatch.core.ids import stable_id
from ctrwatch.event import (
    Audit,
    ContainerEvent,
    ContainerUsage,
    Enforcement,
    Flood,
    HostEvent,
    HostUsage,
    Verdict,
    Violation,
    WatchGap,
)

__all__ = (
    "COLUMNS",
    "HistoryPruned",
    "Kept",
    "Keys",
    "OwnRow",
    "RowError",
    "WatchAlive",
    "WatchStart",
    "WatchStop",
    "body_of",
    "event_of",
    "keys_of",
    "pruned",
    "watch_alive",
    "watch_start",
    "watch_stop",
)


class WatchStart(msgspec.Struct, frozen=True, kw_only=True):
    """A watch began, and from here on it keeps what it tells."""

    event: Literal["watch_start"] = "watch_start"
    id: str
    time: str
    host: str
    version: Annotated[str, Meta(description="of ctrwatch")]
    kernel: str
    boot_id: str
    cgroups: Annotated[str, Meta(description="v1, v2 or hybrid")]
    sensor: str
    policies: Annotated[tuple[str, ...], Meta(description="what it judges by")] = ()


class WatchStop(msgspec.Struct, frozen=True, kw_only=True):
    """It ended by itself; a watch that was killed has none, and its last row is the last sign."""

    event: Literal["watch_stop"] = "watch_stop"
    id: str
    time: str
    host: str
    seen: Annotated[int, Meta(description="containers that it announced")]
    lost: Annotated[int, Meta(description="raw events that the kernel dropped")]
    rows_lost: Annotated[int, Meta(description="events that are not in the history")]


class WatchAlive(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing happened for a while, and it was watching."""

    event: Literal["watch_alive"] = "watch_alive"
    id: str
    time: str
    host: str


class HistoryPruned(msgspec.Struct, frozen=True, kw_only=True):
    """Rows that were too old or too many were removed: the chain begins after *last*."""

    event: Literal["history_pruned"] = "history_pruned"
    id: str
    time: str
    host: str
    reason: Literal["age", "size"]
    first: Annotated[int, Meta(description="the first row that was removed")]
    last: Annotated[int, Meta(description="the last one")]
    hash: Annotated[str, Meta(description="the last one's, in hex")]
    until: Annotated[str, Meta(description="the last one's time")]


OwnRow = WatchStart | WatchStop | WatchAlive | HistoryPruned
Kept = ContainerEvent | ContainerUsage | HostEvent | Verdict | OwnRow

_LIVES: Final = (
    "container_create",
    "container_start",
    "container_update",
    "container_remove",
    "existing_container",
)
_TYPES: Final[dict[str, type[Any]]] = {
    **dict.fromkeys(_LIVES, ContainerEvent),
    "watch_gap": WatchGap,
    "audit": Audit,
    "flood": Flood,
    "violation": Violation,
    "enforcement": Enforcement,
    "container_usage": ContainerUsage,
    "container_oom": ContainerUsage,
    "host_usage": HostUsage,
    "watch_start": WatchStart,
    "watch_stop": WatchStop,
    "watch_alive": WatchAlive,
    "history_pruned": HistoryPruned,
}
COLUMNS: Final = (
    "time_ns",
    "event",
    "id",
    "runtime",
    "container_id",
    "image",
    "digest",
    "name",
    "pod",
    "namespace",
    "severity",
    "cpu_us",
    "memory_bytes",
    "io_bytes",
)
_USES: Final = frozenset({"container_usage", "container_oom", "container_remove"})
_MOST: Final = (1 << 63) - 1  # that a column holds


class RowError(ValueError):
    """A body that no ctrwatch of this version wrote; the text says what is wrong with it."""


class Keys(NamedTuple):
    """
    What a row can be asked by, in the order of `COLUMNS`; None: it has no such thing.

    The last three are of a container's use by then, or in its whole life: microseconds of CPU,
    the peak of its memory, bytes read and written.
    """

    time_ns: int
    event: str
    id: str
    runtime: str | None
    container_id: str | None
    image: str | None
    digest: str | None
    name: str | None
    pod: str | None
    namespace: str | None
    severity: str | None
    cpu_us: int | None = None
    memory_bytes: int | None = None
    io_bytes: int | None = None


class _Used(msgspec.Struct, frozen=True):
    cpu_seconds: float | None = None
    memory_peak_bytes: int | None = None
    io_read_bytes: int | None = None
    io_write_bytes: int | None = None


class _Body(msgspec.Struct, frozen=True):
    event: str
    id: str
    time: str
    runtime: str = ""
    container_id: str = ""
    container_image: str = ""
    container_image_digest: str = ""
    container_name: str = ""
    pod_name: str = ""
    pod_namespace: str = ""
    severity: str = ""
    usage: msgspec.Raw = msgspec.Raw()


_BODY: Final = msgspec.json.Decoder(_Body)
_USED: Final = msgspec.json.Decoder(_Used | None)
_ENCODER: Final = msgspec.json.Encoder()


def body_of(event: Kept) -> bytes:
    """The whole event, of an update too: what a line leaves out is there to be judged later."""
    return _ENCODER.encode(event)


def keys_of(body: bytes) -> Keys:
    """Raises RowError."""
    try:
        read = _BODY.decode(body)
        time_ns = wall_ns(read.time)
        used = _USED.decode(read.usage) if read.event in _USES and read.usage else None
    except (ValueError, RecursionError, OverflowError) as error:
        raise RowError(f"not an event: {error}") from None
    if not -(1 << 63) <= time_ns < 1 << 63:
        raise RowError(f"not an event: no such time: {read.time[:40]}")
    return Keys(
        time_ns,
        read.event,
        read.id,
        read.runtime or None,
        read.container_id or None,
        read.container_image or None,
        read.container_image_digest or None,
        read.container_name or None,
        read.pod_name or None,
        read.pod_namespace or None,
        read.severity or None,
        *_uses(used),
    )


def _uses(used: _Used | None) -> tuple[int | None, int | None, int | None]:
    if used is None:
        return None, None, None
    cpu_s, reads, writes = used.cpu_seconds, used.io_read_bytes, used.io_write_bytes
    known = reads is not None or writes is not None
    return (
        None if cpu_s is None else _bounded(int(min(cpu_s * 1e6, 1e19))),
        None if used.memory_peak_bytes is None else _bounded(used.memory_peak_bytes),
        _bounded((reads or 0) + (writes or 0)) if known else None,
    )


def _bounded(number: int) -> int:
    return min(max(number, 0), _MOST)


def event_of(kind: str, body: bytes) -> Kept:
    """Raises RowError: an event of another version of ctrwatch's, or none."""
    if kind not in _TYPES:
        raise RowError(f"no such event in this version of ctrwatch: {kind[:40]}")
    try:
        event: Kept = _decoder(kind).decode(body)
    except (ValueError, RecursionError) as error:
        raise RowError(f"not a {kind} of this version of ctrwatch: {error}") from None
    return event


@functools.cache
def _decoder(kind: str) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(_TYPES[kind])


# --- of the store itself ----------------------------------------------------------------


def watch_start(
    host: str,
    now_ns: int,
    *,
    version: str,
    kernel: str,
    boot_id: str,
    cgroups: str,
    sensor: str,
    policies: tuple[str, ...] = (),
) -> WatchStart:
    """*now_ns*, here and below: wall clock."""
    return WatchStart(
        id=stable_id(host, "watch_start", now_ns),
        time=rfc3339(now_ns),
        host=host,
        version=version,
        kernel=kernel,
        boot_id=boot_id,
        cgroups=cgroups,
        sensor=sensor,
        policies=policies,
    )


def watch_stop(host: str, now_ns: int, *, seen: int, lost: int, rows_lost: int) -> WatchStop:
    return WatchStop(
        id=stable_id(host, "watch_stop", now_ns),
        time=rfc3339(now_ns),
        host=host,
        seen=seen,
        lost=lost,
        rows_lost=rows_lost,
    )


def watch_alive(host: str, now_ns: int) -> WatchAlive:
    return WatchAlive(id=stable_id(host, "watch_alive", now_ns), time=rfc3339(now_ns), host=host)


def pruned(
    host: str,
    now_ns: int,
    *,
    reason: Literal["age", "size"],
    first: int,
    last: int,
    hash_: bytes,
    until_ns: int,
) -> HistoryPruned:
    return HistoryPruned(
        id=stable_id(host, "history_pruned", last, hash_.hex()),
        time=rfc3339(now_ns),
        host=host,
        reason=reason,
        first=first,
        last=last,
        hash=hash_.hex(),
        until=rfc3339(until_ns),
    )
