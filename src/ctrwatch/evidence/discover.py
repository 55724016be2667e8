"""
Where runtimes have their sockets, on every distribution we know of.

The table is data: a new place is one row. Nothing is polled or remembered: the places
are looked at for each question (a dozen stat calls, some 30 µs), so that a socket that
appears late, or is replaced when a daemon restarts, simply works. lookout.py hears of it
for those containers whose questions were put before.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from typing import Final, Literal, NamedTuple

__all__ = (
    "DOCKER_ROOTS",
    "GRAPH_ROOTS",
    "KINDS",
    "PLACES",
    "Kind",
    "Place",
    "Sockets",
    "socket_at",
    "speaks_for",
)

Kind = Literal["docker", "containerd", "cri", "podman"]
KINDS: Final[tuple[Kind, ...]] = ("docker", "containerd", "cri", "podman")


class Place(NamedTuple):
    """`*` in the path is a user's id: that user owns the socket."""

    kind: Kind
    path: str
    who: str  # whose default it is


PLACES: Final = (
    Place("docker", "/run/docker.sock", "Docker, every distribution"),
    Place("docker", "/var/snap/docker/common/run/docker.sock", "Docker's snap"),
    Place("docker", "/run/user/*/docker.sock", "rootless Docker"),
    Place("containerd", "/run/containerd/containerd.sock", "containerd, Docker's packages"),
    Place("containerd", "/run/docker/containerd/containerd.sock", "dockerd's own containerd"),
    Place("containerd", "/run/k3s/containerd/containerd.sock", "k3s, RKE2"),
    Place("containerd", "/run/k0s/containerd.sock", "k0s"),
    Place("containerd", "/var/snap/microk8s/common/run/containerd.sock", "MicroK8s"),
    Place("containerd", "/run/user/*/containerd/containerd.sock", "rootless containerd"),
    Place("cri", "/run/crio/crio.sock", "CRI-O"),
    Place("cri", "/run/cri-dockerd.sock", "cri-dockerd"),
    Place("podman", "/run/podman/podman.sock", "Podman's API, when it is switched on"),
    Place("podman", "/run/user/*/podman/podman.sock", "rootless Podman's API"),
)

# Where the files are when nothing leads to them.
DOCKER_ROOTS: Final = ("/var/lib/docker", "/var/snap/docker/common/var-lib-docker")
GRAPH_ROOTS: Final = ("/var/lib/containers/storage",)


GIVEN: Final = "given"  # by the user of ctrwatch: they may speak of all that is root's


def speaks_for(path: str, uid: int) -> bool:
    """Whether a daemon that a user's own process named may speak of his containers."""
    status = socket_at(path, None)
    return uid == 0 or (status is not None and status.st_uid == uid)


class Sockets:
    """The sockets that are there now: those of `PLACES` and the caller's *extra* ones."""

    def __init__(
        self, extra: Mapping[str, Sequence[str]], places: Sequence[Place] = PLACES
    ) -> None:
        self._known = places
        self.given(extra)

    def given(self, extra: Mapping[str, Sequence[str]]) -> None:
        """From now on these are the *extra* ones."""
        self.places: Sequence[Place] = (
            *(Place(kind, path, GIVEN) for kind in KINDS for path in extra.get(kind, ())),
            *self._known,
        )

    def present(self, kind: Kind, uid: int | None = None) -> list[str]:
        """
        Paths of the *kind*'s sockets, the given ones first, each socket once.

        *uid*: to ask about a container of that user's. Nobody's daemon speaks of another's
        container: a user's could say anything, and root's would tell a user's cgroup, which
        has a name that he gave it, somebody else's story.
        """
        found: dict[tuple[int, int], str] = {}
        for place in self.places:
            if place.kind == kind:
                for path, owner in _spelled_out(place.path):
                    status = socket_at(path, owner)
                    given = uid == 0 and place.who == GIVEN
                    if status is not None and (given or uid in {None, status.st_uid}):
                        found.setdefault((status.st_dev, status.st_ino), path)
        return list(found.values())


def _spelled_out(path: str) -> list[tuple[str, int | None]]:
    """The path, or one for each user who is logged in; and the user who must own it."""
    before, star, after = path.partition("*")
    if not star:
        return [(path, None)]
    try:
        names = os.listdir(before)
    except OSError:
        return []
    return [(f"{before}{name}{after}", int(name)) for name in names if name.isdecimal()]


def socket_at(path: str, owner: int | None) -> os.stat_result | None:
    """The socket at *path*, if there is one. A user's own directory may not lead elsewhere."""
    try:
        status = os.stat(path, follow_symlinks=owner is None)
    except (OSError, ValueError):
        return None
    if not stat.S_ISSOCK(status.st_mode) or owner not in {None, status.st_uid}:
        return None
    return status
