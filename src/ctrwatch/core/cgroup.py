"""
Cgroup paths to container identities.

Pure: text in, values out. Opens no file, asks no runtime, reads no clock.

A runtime writes two facts into the cgroup it makes: who it is, by how it spells a
path component or two, and the container's id. `LAYOUTS` holds every spelling we
know, and no other module knows any. To support another runtime, add a row and a
captured path under tests/data/.

What a path does not say is not guessed. A bare id under a pod was made by some
Kubernetes runtime; evidence finds out which. And a name proves little: whoever may
make a cgroup may name it like a container, so an identity is a claim until evidence
confirms it.

Every mkdir of the host comes through `identify`, and most are no containers: those
cost 0.3 to 1.4 µs, by `_may_hold_a_container`; a container's costs 2 µs. The work is
linear in the path's length, also where its author wishes otherwise, for no placeholder
crosses a "/": 1 µs a component, 2.3 ms for the worst 4 KB (Python 3.11).
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import msgspec

from ctrwatch.core.text import jsonable
from ctrwatch.model import ContainerId, Identity, Runtime

__all__ = (
    "LAYOUTS",
    "PLACEHOLDERS",
    "Explanation",
    "Layout",
    "explain",
    "identify",
    "is_free_name",
    "pod_uid",
)


class Layout(NamedTuple):
    """One spelling. `runtime` is None where it is no container: a pod, a helper."""

    spelling: str
    runtime: Runtime | None


PLACEHOLDERS: Final = {
    "<id>": r"(?P<id>[0-9a-f]{64})",
    "<guid>": r"(?P<id>[0-9a-f]{8}(?:-[0-9a-f]{4}){4})",  # Garden's
    "<build>": r"(?P<id>[0-9a-z]{25})",  # BuildKit's, base 36
    "<step>": r"(?P<id>buildah-buildah[0-9]{1,20})",  # buildah's
    "<name>": r"(?P<id>[A-Za-z0-9][A-Za-z0-9_.+-]{0,254})",  # of the user's choice
    "<machine>": r"(?P<id>[A-Za-z0-9](?:[A-Za-z0-9_.-]|\\x2d){0,254})",  # systemd writes "-" so
    "<64>": r"[0-9a-f]{64}",  # as long as an id, but not a container's
    # A pod's uid; a static pod's is a hash of 32 digits. systemd's slices have "_" for "-".
    "<uid>": r"(?P<uid>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32})",
    "<slice>": (
        r"[^/]*kubepods(?:-burstable|-besteffort)?-pod"
        r"(?P<uid>[0-9a-f]{8}(?:_[0-9a-f]{4}){3}_[0-9a-f]{12}|[0-9a-f]{32})\.slice"
    ),
    "*": r"[^/]*",
    "…": r"(?=/libpod-[0-9a-f]{64})",  # only where that follows
}

LAYOUTS: Final = (
    # Whole path components. Where two match at the same place, the first row wins.
    Layout("docker/<id>", Runtime.DOCKER),  # cgroupfs driver
    Layout("docker-<id>.scope", Runtime.DOCKER),  # systemd driver, also cri-dockerd's
    Layout("docker/buildx/<id>", Runtime.DOCKER),  # a buildx builder
    Layout("actions_job/<id>", Runtime.DOCKER),  # GitHub Actions' runner
    Layout("cri-containerd-<id>.scope", Runtime.CONTAINERD),  # CRI, systemd driver
    Layout("nerdctl-<id>.scope", Runtime.CONTAINERD),  # nerdctl, systemd driver
    Layout("crio-<id>", Runtime.CRIO),  # cgroupfs driver
    Layout("crio-<id>.scope", Runtime.CRIO),  # systemd driver
    Layout("libpod-<id>", Runtime.PODMAN),  # cgroupfs driver
    Layout("libpod-<id>.scope", Runtime.PODMAN),  # systemd driver
    Layout("libpod-payload-<id>", Runtime.PODMAN),  # --cgroups=split
    Layout("libpod-payload-<id>.scope", Runtime.PODMAN),
    Layout("buildkit/<build>", Runtime.BUILDKIT),  # a RUN step, cgroupfs driver
    Layout("<step>", Runtime.BUILDAH),  # a RUN step, cgroupfs driver
    Layout("<step>.scope", Runtime.BUILDAH),  # systemd driver
    Layout("garden/<guid>", Runtime.GARDEN),  # Cloud Foundry
    Layout("lxc/lxc.payload.<name>", Runtime.LXC),  # LXC 4, told to use a directory "lxc"
    Layout("lxc/lxc.monitor.*", None),
    Layout("lxc/lxc.pivot", None),  # where its monitors go to end
    Layout("lxc/<name>", Runtime.LXC),  # LXC 3; Proxmox
    Layout("lxc.payload/<name>", Runtime.LXC),  # LXC 3.1
    Layout("lxc.payload.<name>", Runtime.LXC),  # LXC 4
    Layout("systemd-nspawn@<machine>.service/payload", Runtime.NSPAWN),
    Layout("machine-<machine>.scope/payload", Runtime.NSPAWN),  # registered with machined
    # No containers, though their names hold what could be an id.
    Layout("libpod_parent/<64>", None),  # a Podman pod
    Layout("kata_overhead/<64>", None),  # Kata's own processes
    # Pods of Kubernetes.
    Layout("kubepods/pod<uid>", None),  # guaranteed
    Layout("kubepods/burstable/pod<uid>", None),
    Layout("kubepods/besteffort/pod<uid>", None),
    Layout("<slice>", None),
    # The OCI runtime was told "slice:prefix:name" for systemd, and made it with mkdir.
    Layout("<slice>:cri-containerd:<id>", Runtime.CONTAINERD),
    Layout("*:cri-containerd:<id>", Runtime.CONTAINERD),
    Layout("*:docker:<id>", Runtime.DOCKER),
    Layout("*:docker:<build>", Runtime.BUILDKIT),
    # Nobody's spelling: the last of all.
    Layout("<64>…", None),  # a Podman pod under a --cgroup-parent
    Layout("<id>", Runtime.UNKNOWN),  # under a pod, a --cgroup-parent, a containerd namespace
)


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """What a path proves, for people: "" and an empty `outer` where it proves nothing."""

    path: str
    container_id: str
    runtime: str
    is_root: bool
    outer: tuple[ContainerId, ...]
    pod_uid: str


def identify(path: str) -> Identity | None:
    """
    Return the innermost container that the cgroup at *path* belongs to.

    *path* is relative to its hierarchy, as the kernel prints it (in /proc/PID/cgroup,
    in the tracepoints); a missing first or a spare last "/" changes nothing. Host
    cgroups, pods and helpers (conmon, LXC's monitor) belong to no container: None.

    An id that stands in the path twice is one container: the directory made first is
    its root, and what lies below never announces an enclosing container again.

    >>> scope = "/system.slice/docker-" + "ab" * 32 + ".scope"
    >>> identify(scope).runtime, identify(scope).is_root
    (<Runtime.DOCKER: 'docker'>, True)
    >>> identify(scope + "/init.scope").is_root
    False
    >>> identify("/user.slice/user-1000.slice") is None
    True
    """
    if not _may_hold_a_container(path):
        return None
    return _read(path)[0]


def pod_uid(path: str) -> str:
    """
    Return the uid of the Kubernetes pod that *path* is or stands in, else "".

    Unlike `Identity.pod_uid` it also answers for a pod's own cgroup and for a monitor
    in it. A container that was made inside a pod's container is no member of that pod.

    >>> pod_uid("/kubepods/burstable/poda8879292-e72c-5f24-b78a-892fbc10d921")
    'a8879292-e72c-5f24-b78a-892fbc10d921'
    """
    return _read(path)[1] if "kubepods" in path else ""


def is_free_name(identity: Identity) -> bool:
    """
    Tell whether its user chose the container's id: another ``web`` may live elsewhere.

    >>> is_free_name(Identity(ContainerId("web"), Runtime.LXC, is_root=True))
    True
    """
    return identity.runtime in _FREE_NAMES


_FREE_NAMES: Final = frozenset({Runtime.LXC, Runtime.NSPAWN})


def explain(path: str) -> Explanation:
    """Return what *path* proves; any text at all gets an answer."""
    identity = identify(path)
    return Explanation(
        path=jsonable(path),
        container_id=identity.container_id if identity else "",
        runtime=identity.runtime if identity else "",
        is_root=identity.is_root if identity else False,
        outer=identity.outer if identity else (),
        pod_uid=pod_uid(path),
    )


def _read(path: str) -> tuple[Identity | None, str]:
    """Return the innermost container, and the pod that it or the path belongs to."""
    path = "/" + path.strip("/")
    found: dict[ContainerId, tuple[Runtime, bool, str]] = {}
    pod = ""
    for match in _ANY_LAYOUT.finditer(path):
        row = _ROWS[match.lastgroup or ""]
        if row.uid:
            pod = match[row.uid].replace("_", "-")
        if row.runtime is None:
            continue
        container_id = ContainerId(match[row.id].replace("\\x2d", "-"))
        if container_id not in found:
            found[container_id] = (row.runtime, match.end() == len(path), pod)
        pod = ""
    if not found:
        return None, pod
    *outer, innermost = found
    runtime, is_root, its_pod = found[innermost]
    return Identity(innermost, runtime, is_root, tuple(outer), its_pod), pod or its_pod


class _Row(NamedTuple):
    runtime: Runtime | None
    id: str  # the group's name; "" is none
    uid: str


def _compile() -> tuple[re.Pattern[str], dict[str, _Row]]:
    """Return one pattern for all layouts, and for each of its alternatives the row."""
    alternatives: list[str] = []
    rows: dict[str, _Row] = {}
    for number, layout in enumerate(LAYOUTS):
        body = re.escape(layout.spelling)
        for placeholder, meaning in PLACEHOLDERS.items():
            body = body.replace(re.escape(placeholder), meaning)
        name_id, name_uid = f"id{number}", f"uid{number}"
        rows[f"row{number}"] = _Row(
            layout.runtime,
            name_id if "(?P<id>" in body else "",
            name_uid if "(?P<uid>" in body else "",
        )
        body = body.replace("(?P<id>", f"(?P<{name_id}>").replace("(?P<uid>", f"(?P<{name_uid}>")
        alternatives.append(f"(?P<row{number}>{body})")
    return re.compile(rf"/(?:{'|'.join(alternatives)})(?=/|\Z)"), rows


_ANY_LAYOUT, _ROWS = _compile()

# What every path of a container holds: the long id, or a word of a layout without one.
_LONG_ID: Final = re.compile(r"[0-9a-f]{64}")
_WORDS: Final = re.compile(r"lxc[./]|:docker:|buildkit/|garden/|/payload|buildah-buildah")


def _may_hold_a_container(path: str) -> bool:
    return _WORDS.search(path) is not None or (
        len(path) >= 64 and _LONG_ID.search(path) is not None
    )
