"""
May this container be stopped? Pure: what was said and what was found go in, an answer comes out.

Whoever asks wants to hear no: to stop the wrong cgroup is worse than to let a container run that
a rule forbids, and the refusal is told. So a container is stopped only if its birth was heard,
evidence speaks for it, a rule was broken beyond doubt, and nothing lives in its cgroup that is
not the container's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from ctrwatch.core.describe import rfc3339
from ctrwatch.core.ids import stable_id
from ctrwatch.event import ContainerEvent, Enforcement, Violation

__all__ = (
    "DAEMONS",
    "Action",
    "Inside",
    "Outcome",
    "Result",
    "Surroundings",
    "enforcement",
    "refusal",
    "unsafe",
)

# As the kernel calls them: the first 15 characters (TASK_COMM_LEN, include/linux/sched.h).
DAEMONS: Final = frozenset(
    {
        "buildkitd", "conmon", "conmonrs", "containerd", "containerd-shim", "cri-dockerd", "crio",
        "dockerd", "incusd", "init", "k0s", "k3s", "k3s-agent", "k3s-server", "kubelet", "lxd",
        "machined", "podman", "rke2", "rootlesskit", "systemd", "systemd-machine", "systemd-nspawn",
    }
)  # fmt: skip
# Who makes a container starts the child that becomes it before it makes the cgroup, milliseconds
# before. That child may be called as a daemon is (systemd, in a machine): it is none within a second.
_DAEMON_OLDER_S: Final = 1.0
_ANYBODY_OLDER_S: Final = 10.0  # on a host with ten times more to do than it can

Action = Literal["freeze", "kill"]
Result = Literal["done", "dry_run", "refused", "failed"]


class Inside(NamedTuple):
    """A process in the container's cgroup."""

    pid: int
    comm: str
    uid: int
    older_s: float  # than the container's birth; below 0: it began after


class Surroundings(NamedTuple):
    """What is true of the directory that was opened by the judged cgroup's id."""

    path: str  # relative to its hierarchy's root, as the kernel has it now
    own: str  # where ctrwatch itself is, in that hierarchy
    first: str  # where process 1 is
    us: int  # ctrwatch's pid
    inside: Sequence[Inside]


class Outcome(NamedTuple):
    """What was done, as `Enforcement` has it."""

    result: Result
    reason: str = ""
    before_start: bool | None = None
    at_ns: int | None = None  # wall clock; None: nothing was done


def refusal(violation: Violation, event: ContainerEvent) -> str:
    """Why the *event*'s container may not be stopped, by what was told of it; "": it may."""
    if violation.verdict != "violation":
        return f"nobody knows whether the rule holds (verdict {violation.verdict})"
    if event.event not in ("container_create", "container_update") or event.creator.pid is None:
        return "its birth was not heard: it was there before, or is found only now"
    if event.evidence.status == "unverified":
        return "nothing but its cgroup's name says that it is a container"
    if not event.cgroup.id or event.cgroup.hierarchy_id is None:
        return "its cgroup is not known"
    if event.cgroup.path in ("", "/"):
        return "its cgroup is the root"
    return ""


def unsafe(around: Surroundings, creator_uid: int | None) -> str:
    """
    Why nothing may be written to that cgroup, by what is in it; "": it may.

    A user's own old process in his own container's cgroup is his, and stops with it: otherwise
    he could protect a container by moving one there.
    """
    if around.path in ("", "/"):
        return "it is the root cgroup"
    pids = {one.pid for one in around.inside}
    if _within(around.own, around.path) or around.us in pids:
        return "ctrwatch itself is in it"
    if _within(around.first, around.path) or 1 in pids:
        return "process 1 is in it"
    for one in around.inside:
        if creator_uid and one.uid == creator_uid:
            continue
        if one.older_s > (_DAEMON_OLDER_S if one.comm in DAEMONS else _ANYBODY_OLDER_S):
            return f"process {one.pid} ({one.comm}) is in it, and is older than the container"
    return ""


def enforcement(violation: Violation, action: Action, outcome: Outcome, now_ns: int) -> Enforcement:
    """The event of it; *now_ns*: wall clock, of the answer."""
    return Enforcement(
        id=stable_id("enforcement", violation.id, action),
        time=rfc3339(outcome.at_ns or now_ns),
        host=violation.host,
        violation_id=violation.id,
        action=action,
        result=outcome.result,
        reason=outcome.reason,
        before_start=outcome.before_start,
        runtime=violation.runtime,
        container_id=violation.container_id,
        container_name=violation.container_name,
    )


def _within(path: str, cgroup: str) -> bool:
    """
    >>> _within("/docker/a/init", "/docker/a"), _within("/docker/ab", "/docker/a")
    (True, False)
    """
    return path == cgroup or path.startswith(f"{cgroup}/")
