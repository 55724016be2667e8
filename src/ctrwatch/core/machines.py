"""
What LXC's and systemd-nspawn's containers have in common: names of the user's choice.

Pure. Such a container is a root file system that somebody starts, not an image: there
is no registry, no digest, no pod and no label, and this is known and no gap.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from ctrwatch.core import oci
from ctrwatch.core.spec import describe
from ctrwatch.core.text import jsonable
from ctrwatch.model import Facts, Missing, Runtime

__all__ = ("bind", "inside", "machine", "size")

_ABSENT: Final = {
    "container_image": Missing.NO_IMAGE,
    "container_image_digest": Missing.NO_IMAGE,
    "pod_name": Missing.NOT_IN_POD,
    "pod_namespace": Missing.NOT_IN_POD,
    "pod_uid": Missing.NOT_IN_POD,
}
_SIZE: Final = re.compile(r"([0-9]{1,18})([KMGTPE]?)", re.IGNORECASE)
_POWERS: Final = {letter: 10 * power for power, letter in enumerate("KMGTPE", start=1)}


def machine(runtime: Runtime, name: str, config: oci.Config | None) -> Facts:
    """What is known of a container with that *name*; without a *config* not what it may do."""
    known = describe(config).facts if config is not None else Facts()
    return Facts(
        runtime=runtime,
        name=jsonable(name),
        sandbox=False,
        labels={},
        security=known.security,
        limits=known.limits,
        process=known.process,
        absent=_ABSENT,
    )


def bind(source: str, destination: str, *, read_only: bool, kind: str = "bind") -> oci.Mount:
    """A bind mount; *destination* is a path in the container, with or without its "/"."""
    return oci.Mount(
        source=source,
        destination="/" + destination.lstrip("/"),
        type=kind,
        options=["bind", *(["ro"] if read_only else [])],
    )


def inside(mounts: Iterable[oci.Mount], place: str) -> list[oci.Device]:
    """The devices that these runtimes give by mounting them: what comes from below *place*."""
    return [
        oci.Device(path=mount.destination)
        for mount in mounts
        if (mount.source or "").startswith(place)
    ]


def size(text: str) -> int | None:
    """
    A number with one of the kernel's suffixes (memparse, lib/cmdline.c); None: no number.

    >>> size("64M"), size("max")
    (67108864, None)
    """
    match = _SIZE.fullmatch(text.strip())
    return int(match[1]) << _POWERS.get(match[2].upper(), 0) if match else None
