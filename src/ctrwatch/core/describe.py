"""
What is known of a container, written as an event: the last pure step.

Here stand the rules of emptiness: an unknown string is "", an unknown number null,
and each of them has its reason in `evidence.missing`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from ctrwatch.core import reference
from ctrwatch.core.changes import Born
from ctrwatch.core.merge import Known
from ctrwatch.core.steps import MORE
from ctrwatch.core.text import jsonable
from ctrwatch.event import (
    Cgroup,
    ContainerEvent,
    Creator,
    EventName,
    Evidence,
    Image,
    Init,
    Status,
)
from ctrwatch.model import FINAL, NOWHERE, CgroupKey, Facts, Missing, Runtime, Task

__all__ = ("describe", "rfc3339", "wall_ns")


def describe(
    name: EventName,
    *,
    event_id: str,
    host: str,
    happened_ns: int,
    born: Born,
    cgroup: CgroupKey,
    path: str,
    known: Known,
    reasons: Mapping[str, Missing],
    verified: bool,
    wall_offset_ns: int,
    after_ms: float | None,
    lost_before: int,
) -> ContainerEvent:
    """
    Write one event.

    *happened_ns* is wall time, *wall_offset_ns* what turns CLOCK_BOOTTIME into it.
    *reasons* says of each open field why it is open; the reasons that evidence itself
    gave stand in *known*.
    """
    facts, identity = known.facts, born.identity
    missing = {**reasons, **facts.absent}
    sources = {field: who for field, who in known.sources.items() if field != "created"}
    runtime = facts.runtime
    if runtime is None and identity.runtime is not Runtime.UNKNOWN:
        runtime = identity.runtime
        sources["runtime"] = "path"
        missing.pop("runtime", None)
    if cgroup == NOWHERE:
        missing["cgroup"] = Missing.UNHEARD
    ctime, witness = _ctime(born, known, wall_offset_ns)
    if ctime is None:
        missing["ctime"] = Missing.NOT_FOUND
    else:
        sources["ctime"] = witness
    if facts.init_pid is None:
        missing.setdefault("init.pid", Missing.NOT_FOUND if born.listed else Missing.DEADLINE)
    if born.creator is None:
        unheard = born.listed is not None and born.listed.unheard
        missing["creator"] = Missing.UNHEARD if unheard else Missing.BEFORE_US
    elif born.creator.only_pid:
        missing["creator"] = Missing.NOT_FOUND
    return ContainerEvent(
        event=name,
        id=event_id,
        time=rfc3339(happened_ns),
        host=host,
        runtime=runtime or Runtime.UNKNOWN,
        container_id=jsonable(identity.container_id),
        ctime=ctime,
        container_image=facts.image or "",
        container_image_digest=facts.image_digest or "",
        container_name=facts.name or "",
        pod_name=facts.pod_name or "",
        pod_namespace=facts.pod_namespace or "",
        pod_uid=facts.pod_uid or "",
        pod_sandbox=bool(facts.sandbox),
        cgroup=_cgroup(cgroup, path),
        creator=_creator(born.creator),
        init=Init(pid=facts.init_pid),
        image=_image(facts),
        outer=tuple(map(jsonable, identity.outer)),
        labels=facts.labels or {},
        security=facts.security,
        limits=facts.limits,
        process=facts.process,
        evidence=Evidence(
            status=_status(missing, verified=verified),
            missing=dict(sorted(missing.items())),
            sources=dict(sorted(sources.items())),
            after_ms=None if after_ms is None else round(after_ms, 3),
        ),
        lost_before=lost_before,
    )


def rfc3339(wall_ns: int) -> str:
    """
    >>> rfc3339(1795463172_460562493)
    '2026-11-23T19:46:12.460562493Z'
    """
    seconds, nanoseconds = divmod(wall_ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{nanoseconds:09}Z"


def wall_ns(time: str) -> int:
    """
    >>> wall_ns("2026-11-23T19:46:12.460562493Z")
    1795463172460562493
    """
    seconds = datetime.fromisoformat(time[:19]).replace(tzinfo=UTC)
    return int(seconds.timestamp()) * 1_000_000_000 + int(time[20:29])


def _status(missing: Mapping[str, Missing], *, verified: bool) -> Status:
    if not verified:
        return "unverified"
    # Useful, but not what makes an event complete.
    soft = {"init.pid", "ctime", "creator", *MORE}
    known = {*FINAL, Missing.CUT}  # what was cut is known, as far as it is told
    open_fields = {field for field, reason in missing.items() if reason not in known}
    return "partial" if open_fields - soft else "complete"


def _ctime(born: Born, known: Known, wall_offset_ns: int) -> tuple[int | None, str]:
    """
    The creation time in wall nanoseconds, and whose word it is.

    A cgroup directory's own ctime is no witness: it moves on a cache drop or a chown.
    """
    if born.listed is None:
        return born.boot_ns + wall_offset_ns, "kernel"
    if known.facts.created_ns is not None:
        return known.facts.created_ns, known.sources["created"]
    if born.listed.init_start_ns is not None:
        return born.listed.init_start_ns + wall_offset_ns, "init"
    return None, ""


def _cgroup(key: CgroupKey, path: str) -> Cgroup:
    if key == NOWHERE:
        return Cgroup()
    return Cgroup(
        id=key.cgroup_id,
        path=jsonable(path),
        hierarchy_id=key.hierarchy_id,
        version=1 if key.hierarchy_id else 2,
    )


def _creator(task: Task | None) -> Creator:
    if task is None:
        return Creator()
    if task.only_pid:
        return Creator(pid=task.pid or None, uid=task.uid if task.uid >= 0 else None)
    return Creator(
        pid=task.pid, ppid=task.ppid, uid=task.uid, gid=task.gid, comm=jsonable(task.comm)
    )


def _image(facts: Facts) -> Image:
    named = reference.parse(facts.image) if facts.image else None
    return Image(
        id=facts.image_id or "",
        digest_kind=facts.digest_kind or "",
        registry=named.registry if named else "",
        repository=named.repository if named else "",
        tag=(named.tag or "") if named else "",
    )
