"""
What of the host a bind mount shows. Pure: paths as the runtime was given them.

A symbolic link on the host can lead elsewhere, which nobody can see here.
"""

from __future__ import annotations

import functools
import posixpath
import re
from typing import Any, Final

__all__ = ("is_host_path", "plain")

_CACHED: Final = 1_024  # paths of at most 4 KB each; a birth has at most 256 of them

# What engines, runtimes and the kubelet mount by themselves, wherever their data is:
_OWN: Final = re.compile(
    # resolv.conf, hosts, shm … of Docker, nerdctl, the CRI, Podman and CRI-O
    r"/(?:containers|sandboxes|[a-z0-9]+-containers)/(?:[^/]+/)?[0-9a-f]{64}/"
    r"|/etchosts/[^/]+/[0-9a-f]{64}/hosts$"
    r"|/executor/(?:resolv\.conf|hosts)[^/]*$"  # BuildKit
    r"|/buildah[0-9]+(?:/|$)"
    r"|/volumes/(?:[^/]+/)?[^/]+/_data(?:/|$)"  # a volume of Docker's, nerdctl's, Podman's
    r"|/pods/[0-9a-f-]{32,36}/(?:volumes|volume-subpaths|containers|etc-hosts)(?:/|$)"
)
_INIT: Final = frozenset({"/sbin/docker-init", "/dev/init", "/run/podman-init"})  # --init
_NETWORK: Final = frozenset({"/etc/hosts", "/etc/hostname", "/etc/resolv.conf"})
_SHM: Final = "/dev/shm"  # noqa: S108 - with --ipc host


def is_host_path(mount: Any) -> bool:
    """Tell whether it shows what neither the engine nor the kubelet made for the container."""
    source, destination = plain(mount.source), mount.destination
    if _OWN.search(source):
        return False
    if source == destination and (source == _SHM or (source in _NETWORK and mount.read_only)):
        return False
    return not (mount.read_only and destination in _INIT)


@functools.lru_cache(_CACHED)
def plain(path: str) -> str:
    """
    *path*, normalised: normpath keeps two slashes at the beginning, where POSIX lets them mean something.
    """
    return posixpath.normpath("/" + path.lstrip("/"))
