"""
What a container cost, and its share of the host: a life's rows in, one value out. Pure.

The host is looked at now and then (`host_usage`), and a container is born and ends between two
looks. What the host had used by that moment is taken as even between them; beyond the first and
the last look it is known for a few seconds only. A life that is shorter than the looks around it
are apart has no share of what the host used: nobody knows what else went on in it.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta

from ctrwatch.core.describe import rfc3339, wall_ns
from ctrwatch.core.usage import share
from ctrwatch.event import Bill, ContainerEvent, ContainerUsage, HostFigures, HostUsage, Unread

__all__ = ("Around", "Cost", "Life", "Why", "began_ns", "cost", "span")

_SECOND: Final = 1_000_000_000
_BEYOND_NS: Final = 20 * _SECOND  # two looks at the host while somebody is young; the first: 1 s
_LONGEST_S: Final = 4e9  # a century: more is no life
_FIGURES: Final = (
    *("cpu_seconds", "memory_peak_bytes", "io_read_bytes", "io_write_bytes", "oom_kills"),
)
Why = Literal[
    "no_controller",
    "not_offered",
    "gone",
    "unreadable",
    "not_read",
    "no_birth",
    "no_host",
    "too_short",
]
_REASONS: Final[dict[Unread, Why]] = {
    Unread.NO_CONTROLLER: "no_controller",
    Unread.NOT_OFFERED: "not_offered",
    Unread.GONE: "gone",
    Unread.UNREADABLE: "unreadable",
}


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What a container used by *read*, and of what the host used and could give by then."""

    born: Annotated[str, Meta(description="RFC 3339; empty: not known")]
    ended: Annotated[str, Meta(description="empty: not known to have ended")] = ""
    runtime: str = ""
    container_id: str = ""
    container_name: str = ""
    container_image: str = ""
    container_image_digest: str = ""
    pod_name: str = ""
    pod_namespace: str = ""
    read: Annotated[str, Meta(description="when the figures were read; empty: never")] = ""
    seconds: Annotated[float | None, Meta(description="of its life that the figures have")] = None
    final: Annotated[bool, Meta(description="nothing came after")] = False
    cpu_seconds: float | None = None
    cpu_share_of_used: Annotated[
        float | None, Meta(description="of the CPU time that all of the host used in those seconds")
    ] = None
    cpu_share_of_host: Annotated[
        float | None, Meta(description="of what all its CPUs could give in them")
    ] = None
    memory_peak_bytes: int | None = None
    memory_share_of_host: float | None = None
    io_read_bytes: int | None = None
    io_write_bytes: int | None = None
    io_share_of_used: Annotated[
        float | None, Meta(description="of what the host's disks read and wrote in those seconds")
    ] = None
    oom_kills: int | None = None
    missing: Annotated[
        dict[str, Why],
        Meta(
            description="null figure: reason; as an event's, or not_read: no look at it was kept;"
            " no_birth: how long it lived is not known; no_host: no look at the host around it;"
            " too_short: it lived between two of them"
        ),
    ] = {}


class Life(NamedTuple):
    """
    What the history has of one container; names as they were known in the end.

    *last*: the last event that has its use. *born_ns*, *ended_ns*: wall clock, None: not known.
    """

    born_ns: int | None
    ended_ns: int | None
    runtime: str = ""
    container_id: str = ""
    name: str = ""
    image: str = ""
    digest: str = ""
    pod: str = ""
    namespace: str = ""
    last: ContainerEvent | ContainerUsage | None = None


class Around(NamedTuple):
    """The looks at the host around a moment, if they are kept."""

    before: HostUsage | None = None
    after: HostUsage | None = None


class _Moment(NamedTuple):
    """What the host had used by then; *apart_s*: how far the nearest look at it is."""

    cpu_seconds: float | None
    io_bytes: float | None
    apart_s: float


def began_ns(event: ContainerEvent | ContainerUsage) -> int | None:
    """When it was born, by how old it was then, wall clock; None: its age is not known."""
    seconds = _seconds(event)
    if seconds is None or not 0 <= seconds <= _LONGEST_S:
        return None
    return wall_ns(event.time) - int(seconds * _SECOND)


def span(life: Life) -> tuple[int, int] | None:
    """From when until when its figures are, wall clock; None: it has none, or no birth is known."""
    if life.last is None or (begin_ns := began_ns(life.last)) is None:
        return None
    return begin_ns, wall_ns(life.last.time)


def cost(life: Life, at_birth: Around, at_end: Around) -> Cost:
    """*at_birth*, *at_end*: around the begin and the end of its `span`."""
    used = life.last.usage if life.last is not None else None
    missing: dict[str, Why] = {}
    for name in _FIGURES:
        if getattr(used, name, None) is None:
            why = used.missing.get(name) if used is not None else None
            missing[name] = "not_read" if why is None else _REASONS[why]
    known = Cost(
        born="" if life.born_ns is None else rfc3339(life.born_ns),
        ended="" if life.ended_ns is None else rfc3339(life.ended_ns),
        runtime=life.runtime,
        container_id=life.container_id,
        container_name=life.name,
        container_image=life.image,
        container_image_digest=life.digest,
        pod_name=life.pod,
        pod_namespace=life.namespace,
        read=life.last.time if life.last is not None and used is not None else "",
        seconds=_seconds(life.last),
        final=isinstance(used, Bill) and used.final,
        **{name: getattr(used, name, None) for name in _FIGURES},
        missing=missing,
    )
    return _shared(known, life, at_birth, at_end)


def _seconds(last: ContainerEvent | ContainerUsage | None) -> float | None:
    if isinstance(last, ContainerUsage):
        return last.age_seconds
    return last.usage.duration_seconds if last is not None and last.usage is not None else None


# --- shares -------------------------------------------------------------------------------


def _shared(known: Cost, life: Life, at_birth: Around, at_end: Around) -> Cost:
    host = _host(at_birth, at_end)
    missing = dict(known.missing)

    def of(name: str, used: float | None, figure: str, whole: float | Why | None) -> float | None:
        if used is None:
            missing[name] = missing[figure]
        elif whole is None or isinstance(whole, str):
            missing[name] = whole or "no_host"
        elif not used:
            return 0.0  # also of nothing
        elif (part := share(used, whole)) is not None:
            return round(min(part, 1.0), 6)
        return None

    seconds = known.seconds
    could: float | Why | None = "no_birth"
    if seconds is not None:
        could = host.cpus * seconds if host is not None and host.cpus is not None else None
    cpu, io = _while_it_lived(life, at_birth, at_end)
    reads, writes = known.io_read_bytes, known.io_write_bytes
    moved = None if reads is None and writes is None else (reads or 0) + (writes or 0)
    shares = {
        "cpu_share_of_used": of("cpu_share_of_used", known.cpu_seconds, "cpu_seconds", cpu),
        "cpu_share_of_host": of("cpu_share_of_host", known.cpu_seconds, "cpu_seconds", could),
        "memory_share_of_host": of(
            "memory_share_of_host",
            known.memory_peak_bytes,
            "memory_peak_bytes",
            host.memory_total_bytes if host is not None else None,
        ),
        "io_share_of_used": of("io_share_of_used", moved, "io_read_bytes", io),
    }
    return msgspec.structs.replace(known, **shares, missing=missing)


def _host(at_birth: Around, at_end: Around) -> HostFigures | None:
    """A look at it near the life: how many CPUs and how much memory there are."""
    looks = (at_birth.after, at_end.before, at_birth.before, at_end.after)
    return next((look.usage for look in looks if look is not None), None)


def _while_it_lived(
    life: Life, at_birth: Around, at_end: Around
) -> tuple[float | Why | None, float | Why | None]:
    """CPU seconds and bytes of I/O that all of the host used meanwhile, or why not."""
    whole = span(life)
    if whole is None:
        return "no_birth", "no_birth"
    begin, end = _moment(at_birth, whole[0]), _moment(at_end, whole[1])
    if begin is None or end is None:
        return None, None
    if begin.apart_s + end.apart_s > (whole[1] - whole[0]) / _SECOND:
        return "too_short", "too_short"
    return (
        _grown(begin.cpu_seconds, end.cpu_seconds),
        _grown(begin.io_bytes, end.io_bytes),
    )


def _grown(before: float | None, now: float | None) -> float | None:
    return None if before is None or now is None or now < before else now - before


def _moment(around: Around, at_ns: int) -> _Moment | None:
    before, after = around
    if before is not None and after is not None and _follows(before, after):
        begin_ns, end_ns = wall_ns(before.time), wall_ns(after.time)
        part = (at_ns - begin_ns) / (end_ns - begin_ns) if end_ns > begin_ns else 0.0
        apart_s = min(at_ns - begin_ns, end_ns - at_ns) / _SECOND
        return _Moment(
            _between(before.usage.cpu_seconds, after.usage.cpu_seconds, part),
            _between(_io(before.usage), _io(after.usage), part),
            max(0.0, apart_s),
        )
    for look in (after, before):
        if look is None:
            continue
        far_ns = _BEYOND_NS if look.rates is not None else _SECOND
        if abs(wall_ns(look.time) - at_ns) <= far_ns:
            return _beyond(look, (at_ns - wall_ns(look.time)) / _SECOND)
    return None


def _follows(before: HostUsage, after: HostUsage) -> bool:
    """One watch made both looks, with nothing between them."""
    apart_s = (wall_ns(after.time) - wall_ns(before.time)) / _SECOND
    return after.rates is not None and after.rates.seconds >= apart_s * 0.99 - 1


def _between(before: float | None, after: float | None, part: float) -> float | None:
    if before is None or after is None or after < before:
        return None
    return before + (after - before) * part


def _beyond(look: HostUsage, seconds: float) -> _Moment:
    """Before the first look or after the last one it went on as around that."""
    rates = look.rates
    cores = rates.cpu_cores if rates is not None else None
    read = rates.io_read_bytes_per_second if rates is not None else None
    wrote = rates.io_write_bytes_per_second if rates is not None else None
    cpu, io = look.usage.cpu_seconds, _io(look.usage)
    return _Moment(
        None if cpu is None else cpu + (cores or 0) * seconds,
        None if io is None else io + ((read or 0) + (wrote or 0)) * seconds,
        abs(seconds),
    )


def _io(usage: HostFigures) -> int | None:
    reads, writes = usage.io_read_bytes, usage.io_write_bytes
    return None if reads is None or writes is None else reads + writes
