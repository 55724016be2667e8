"""
The container event: what ctrwatch tells the world, one JSON object a line.

The types are the format: field names, their order, the JSON Schema (`ctrwatch
schema`) and docs/events.md come from here and from nowhere else. The ten arguments
of the event this project implements keep their names and stand at the top level.
An unknown string is "", an unknown number null, and `evidence.missing` says why.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ctrwatch.model import Limits, Missing, Process, Runtime, Security
from ctrwatch.use import (
    Bill,
    HostFigures,
    HostRates,
    Pressure,
    Rates,
    Unread,
    Usage,
)

__all__ = (
    "Audit",
    "Bill",
    "ContainerEvent",
    "ContainerUsage",
    "Enforcement",
    "EventName",
    "Evidence",
    "Finding",
    "Flood",
    "GapReason",
    "HostEvent",
    "HostFigures",
    "HostRates",
    "HostUsage",
    "Pressure",
    "Rates",
    "Severity",
    "Status",
    "Unread",
    "Usage",
    "Verdict",
    "Violation",
    "WatchEventName",
    "WatchGap",
)

EventName = Literal[
    "container_create",
    "container_start",
    "container_update",
    "container_remove",
    "existing_container",
]
Status = Literal["complete", "partial", "unverified"]


class Cgroup(msgspec.Struct, frozen=True, kw_only=True):
    """The container's own cgroup: the unified hierarchy's where it has one."""

    id: Annotated[int | None, Meta(description="inode number of its directory, 64 bits")] = None
    path: Annotated[str, Meta(description="relative to its hierarchy's root")] = ""
    hierarchy_id: Annotated[int | None, Meta(description="0 is the unified hierarchy")] = None
    version: Annotated[
        Literal[1, 2] | None, Meta(description="cgroup version of that hierarchy")
    ] = None


class Creator(msgspec.Struct, frozen=True, kw_only=True):
    """The process that made the cgroup; all unknown for a container older than ctrwatch."""

    pid: int | None = None
    ppid: int | None = None
    uid: int | None = None
    gid: int | None = None
    comm: str = ""


class Init(msgspec.Struct, frozen=True, kw_only=True):
    pid: Annotated[
        int | None, Meta(description="the container's first process, as the host counts")
    ] = None


class Image(msgspec.Struct, frozen=True, kw_only=True):
    id: Annotated[str, Meta(description="config digest, sha256:…")] = ""
    digest_kind: Annotated[
        Literal["index", "manifest", ""], Meta(description="what container_image_digest names")
    ] = ""
    registry: str = ""
    repository: str = ""
    tag: str = ""


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """How the event came to be."""

    status: Annotated[
        Status,
        Meta(
            description="complete: all that can be known; partial: something could not be"
            " learnt in time; unverified: nothing but the cgroup's name speaks for a container"
        ),
    ] = "unverified"
    missing: Annotated[dict[str, Missing], Meta(description="empty field: reason")] = {}
    sources: Annotated[dict[str, str], Meta(description="field: who said so")] = {}
    after_ms: Annotated[
        float | None, Meta(description="from the birth to the moment this event was made")
    ] = None


class ContainerEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event of one container's life."""

    event: Annotated[EventName, Meta(description="what happened")]
    id: Annotated[
        str, Meta(description="stable: the same event has the same id after a restart of ctrwatch")
    ]
    time: Annotated[str, Meta(description="when it happened: RFC 3339, nanoseconds, UTC")]
    host: Annotated[str, Meta(description="host name")]
    runtime: Annotated[Runtime, Meta(description="who manages the container")]
    container_id: Annotated[str, Meta(description="the full id")]
    ctime: Annotated[
        int | None, Meta(description="creation of the container, nanoseconds since the epoch")
    ] = None
    container_image: Annotated[
        str, Meta(description="the image as the user named it, normalised")
    ] = ""
    container_image_digest: Annotated[str, Meta(description="registry digest, sha256:…")] = ""
    container_name: Annotated[
        str, Meta(description="the runtime's name; under Kubernetes the name in the pod")
    ] = ""
    pod_name: Annotated[str, Meta(description="the pod it belongs to")] = ""
    pod_namespace: Annotated[str, Meta(description="the pod's Kubernetes namespace")] = ""
    pod_uid: Annotated[str, Meta(description="the pod's uid; for Podman its pod's id")] = ""
    pod_sandbox: Annotated[bool, Meta(description="it is its pod's sandbox (infra) container")] = (
        False
    )
    cgroup: Cgroup
    creator: Creator = Creator()
    init: Init = Init()
    image: Image = Image()
    outer: Annotated[
        tuple[str, ...], Meta(description="ids of the enclosing containers, outermost first")
    ] = ()
    labels: Annotated[dict[str, str], Meta(description="the runtime's labels")] = {}
    security: Annotated[
        Security | None, Meta(description="what it may do; null while the bundle is unknown")
    ] = None
    limits: Annotated[Limits | None, Meta(description="null inside: no limit")] = None
    process: Annotated[
        Process | None, Meta(description="its entry point; never any environment values")
    ] = None
    evidence: Evidence = Evidence()
    lost_before: Annotated[
        int, Meta(description="raw events the kernel dropped since the event before")
    ] = 0
    changed: Annotated[
        tuple[str, ...],
        Meta(description="container_update only: the fields that this event corrects"),
    ] = ()
    usage: Annotated[
        Bill | None, Meta(description="container_remove with --usage only: its life's bill")
    ] = None


class ContainerUsage(msgspec.Struct, frozen=True, kw_only=True):
    """What a container uses, at an age that was asked for or right after an OOM kill."""

    event: Literal["container_usage", "container_oom"]
    id: Annotated[
        str, Meta(description="stable: of the container's birth, and the age or the kills")
    ]
    time: Annotated[str, Meta(description="when it was read: RFC 3339, nanoseconds, UTC")]
    host: Annotated[str, Meta(description="host name")]
    runtime: Annotated[Runtime, Meta(description="who manages the container")]
    container_id: Annotated[str, Meta(description="the full id")]
    container_name: str = ""
    container_image: str = ""
    pod_name: str = ""
    pod_namespace: str = ""
    age_seconds: Annotated[float | None, Meta(description="null: its birth is not known")] = None
    kills: Annotated[
        int, Meta(description="container_oom: processes killed since the last one was told")
    ] = 0
    usage: Usage
    rates: Annotated[
        Rates | None,
        Meta(description="since its birth or the last event of this kind; null: not known"),
    ] = None


# --- of the watch itself ----------------------------------------------------------------

WatchEventName = Literal[
    "watch_gap",
    "audit",
    "flood",
    "violation",
    "enforcement",
    "container_usage",
    "container_oom",
    "host_usage",
]
GapReason = Literal["restart", "lost", "output"]
Finding = Literal["missed", "end_missed", "unknown_to_runtime"]


class WatchGap(msgspec.Struct, frozen=True, kw_only=True):
    """A time of which births and deaths may be missing, told as soon as it is over."""

    event: Literal["watch_gap"] = "watch_gap"
    id: Annotated[str, Meta(description="stable and unique, as a container event's")]
    time: Annotated[str, Meta(description="when it was known: RFC 3339, nanoseconds, UTC")]
    host: Annotated[str, Meta(description="host name")]
    reason: Annotated[
        GapReason,
        Meta(
            description="restart: ctrwatch was not there; lost: the kernel dropped raw events;"
            " output: lines could not be written"
        ),
    ]
    since: Annotated[str, Meta(description="the last moment of which all is known")]
    until: Annotated[str, Meta(description="from here on all is known again")]
    lost: Annotated[
        int | None, Meta(description="raw events or lines that are missing; null: nobody knows")
    ] = None


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """What the kernel showed, and what the runtimes list, do not agree."""

    event: Literal["audit"] = "audit"
    id: Annotated[str, Meta(description="stable and unique, as a container event's")]
    time: Annotated[str, Meta(description="when it was found: RFC 3339, nanoseconds, UTC")]
    host: Annotated[str, Meta(description="host name")]
    finding: Annotated[
        Finding,
        Meta(
            description="missed: it runs, and was not announced; end_missed: it has gone, and its"
            " end was not heard; unknown_to_runtime: it runs, and no runtime knows it"
        ),
    ]
    runtime: Annotated[Runtime, Meta(description="who manages the container")]
    container_id: Annotated[str, Meta(description="the full id")]
    container_name: Annotated[str, Meta(description="its name, if it is known")] = ""
    container_image: Annotated[str, Meta(description="its image, if it is known")] = ""
    cgroup_path: Annotated[str, Meta(description="its cgroup's, if it has one")] = ""
    source: Annotated[str, Meta(description="who says so: a runtime's list, or the cgroup tree")]


class Flood(msgspec.Struct, frozen=True, kw_only=True):
    """Cgroups that a user named like containers, by the hundred: those that are not told singly."""

    event: Literal["flood"] = "flood"
    id: Annotated[str, Meta(description="stable and unique, as a container event's")]
    time: Annotated[str, Meta(description="when it was known: RFC 3339, nanoseconds, UTC")]
    host: Annotated[str, Meta(description="host name")]
    since: Annotated[str, Meta(description="when the first of the window was made")]
    until: Annotated[str, Meta(description="the end of the window, ten seconds later")]
    uid: Annotated[int | None, Meta(description="who made them; null: a crowd of users")]
    count: Annotated[int, Meta(description="how many, besides those that were told singly")]
    examples: Annotated[tuple[str, ...], Meta(description="paths of the first ones")]


class HostUsage(msgspec.Struct, frozen=True, kw_only=True):
    """What the host uses, with --usage: at births and ends, often while a container is young."""

    event: Literal["host_usage"] = "host_usage"
    id: Annotated[str, Meta(description="stable and unique, as a container event's")]
    time: Annotated[str, Meta(description="when it was read: RFC 3339, nanoseconds, UTC")]
    host: Annotated[str, Meta(description="host name")]
    usage: HostFigures
    rates: Annotated[
        HostRates | None, Meta(description="since the look before; null: there was none")
    ] = None


HostEvent = WatchGap | Audit | Flood | HostUsage


# --- of policies ------------------------------------------------------------------------

Severity = Literal["info", "low", "medium", "high", "critical"]


class Violation(msgspec.Struct, frozen=True, kw_only=True):
    """
    What a policy's rule says against a container, right after the event that it judges, or at a
    look at what the container uses.
    """

    event: Literal["violation"] = "violation"
    id: Annotated[
        str,
        Meta(
            description="stable: of the judged event, the policy and the rule; of a rule on usage"
            " also of the episode's number"
        ),
    ]
    time: Annotated[
        str,
        Meta(
            description="the judged event's, or of the look: RFC 3339, nanoseconds, UTC",
        ),
    ]
    host: Annotated[str, Meta(description="host name")]
    verdict: Annotated[
        Literal["violation", "error", "undecided"],
        Meta(
            description="violation: the rule does not hold; error: the rule failed, and nobody"
            " knows; undecided: a field that it needs was not learnt in time"
        ),
    ] = "violation"
    policy: Annotated[str, Meta(description="the policy's name")]
    rule: Annotated[str, Meta(description="the rule's name in its policy")]
    severity: Severity
    tags: Annotated[tuple[str, ...], Meta(description="the rule's: ATT&CK techniques, controls")]
    message: Annotated[str, Meta(description="what is wrong, in a sentence")]
    action: Annotated[
        Literal["log", "freeze", "kill"],
        Meta(description="what the rule asks for: log, freeze or kill"),
    ] = "log"
    event_id: Annotated[str, Meta(description="id of the event that is judged")]
    runtime: Annotated[Runtime, Meta(description="who manages the container")]
    container_id: Annotated[str, Meta(description="the full id")]
    container_name: str = ""
    container_image: str = ""
    container_image_digest: str = ""
    pod_name: str = ""
    pod_namespace: str = ""


class Enforcement(msgspec.Struct, frozen=True, kw_only=True):
    """What was done about a violation."""

    event: Literal["enforcement"] = "enforcement"
    id: Annotated[str, Meta(description="stable and unique, as a container event's")]
    time: Annotated[str, Meta(description="when it was done: RFC 3339, nanoseconds, UTC")]
    host: Annotated[str, Meta(description="host name")]
    violation_id: Annotated[str, Meta(description="id of the violation")]
    action: Literal["freeze", "kill"]
    result: Annotated[
        Literal["done", "dry_run", "refused", "failed"],
        Meta(
            description="done; dry_run: nothing was done; refused: its cgroup is not"
            " its own, or not to be touched; failed: the kernel did not do it"
        ),
    ]
    reason: Annotated[str, Meta(description='in a sentence; "" when it was done')] = ""
    before_start: Annotated[
        bool | None,
        Meta(description="before the container's first instruction; null: nobody knows"),
    ] = None
    runtime: Annotated[Runtime, Meta(description="who manages the container")]
    container_id: Annotated[str, Meta(description="the full id")]
    container_name: str = ""


Verdict = Violation | Enforcement
