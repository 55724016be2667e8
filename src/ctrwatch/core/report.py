"""Of the watch itself: a gap in it, and what an audit found. Pure."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from ctrwatch.core.describe import rfc3339
from ctrwatch.core.ids import stable_id
from ctrwatch.core.text import jsonable
from ctrwatch.event import (
    Audit,
    ContainerUsage,
    Finding,
    GapReason,
    HostEvent,
    Verdict,
    WatchGap,
)
from ctrwatch.model import ContainerId, Runtime

__all__ = ("Found", "Gap", "Report", "audit", "watch_gap")


class Report(NamedTuple):
    """Of the watch itself, of what a policy says, or of what a container uses."""

    event: HostEvent | Verdict | ContainerUsage


class Gap(msgspec.Struct, frozen=True, kw_only=True, tag="gap"):
    """From *since_ns* to *until_ns*, wall clock, births and deaths may be missing."""

    boot_ns: int
    reason: GapReason
    since_ns: int
    until_ns: int
    lost: int | None = None


class Found(msgspec.Struct, frozen=True, kw_only=True, tag="audit"):
    """What the kernel showed and what *source* says do not agree about a container."""

    boot_ns: int
    finding: Finding
    source: str
    container_id: ContainerId
    runtime: Runtime = Runtime.UNKNOWN
    name: str = ""
    image: str = ""
    path: str = ""


def watch_gap(gap: Gap, host: str, now_ns: int) -> WatchGap:
    """*now_ns*: wall clock."""
    return WatchGap(
        id=stable_id(host, gap.reason, gap.since_ns, gap.until_ns),
        time=rfc3339(now_ns),
        host=host,
        reason=gap.reason,
        since=rfc3339(gap.since_ns),
        until=rfc3339(gap.until_ns),
        lost=gap.lost,
    )


def audit(found: Found, host: str, now_ns: int) -> Audit:
    """*now_ns*: wall clock."""
    return Audit(
        id=stable_id(host, found.finding, found.container_id, now_ns),
        time=rfc3339(now_ns),
        host=host,
        finding=found.finding,
        runtime=found.runtime,
        container_id=jsonable(found.container_id),
        container_name=jsonable(found.name),
        container_image=jsonable(found.image),
        cgroup_path=jsonable(found.path),
        source=found.source,
    )
