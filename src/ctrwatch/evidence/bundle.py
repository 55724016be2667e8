"""
The OCI bundle's `config.json`: there before the cgroup is, whatever the runtime.

It holds what the container may do, and, from the CRI, CRI-O and Podman, annotations
that name image, pod and container. The directory was named by the creator's command
line, so a stranger may have chosen it: files.py says how, and whose, files are read.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from ctrwatch.core.annotations import who
from ctrwatch.core.spec import Spec, SpecError, read_spec
from ctrwatch.evidence.files import Absent, Readers, Tree, Unreadable
from ctrwatch.evidence.values import hex_id, joined
from ctrwatch.model import (
    Answer,
    Facts,
    Found,
    Leads,
    Mount,
    NotFound,
    Runtime,
    Subject,
    Unavailable,
)

__all__ = ("Bundle",)

_CONFIG: Final = "config.json"
_CONFIG_BYTES: Final = 4 << 20  # measured: 5 to 20 KB
# Docker mounts these from the container's own directory under its data root.
_DOCKER_MOUNTS: Final = ("resolv.conf", "hostname", "hosts")


class Bundle:
    """The source "bundle"."""

    name = "bundle"

    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    async def ask(self, subject: Subject) -> Answer:
        leads = subject.facts.leads
        if not leads.bundle:
            return NotFound()
        bundle = _tree(subject, leads.bundle)
        try:
            return Found(await self._readers.call(lambda: _facts(subject, bundle), bundle.lane))
        except Absent:
            return NotFound()
        except Unreadable as error:
            return Unavailable(f"bundle: {error}")

    async def close(self) -> None:
        self._readers.close()


def _facts(subject: Subject, bundle: Tree) -> Facts:
    """Reads files, in a reader's thread. Raises `Unreadable`."""
    spec = _spec(bundle)
    facts = who(
        spec.annotations,
        bundle.base,
        subject.facts.leads.oci_runtime,
        subject.container_id,
        rootless=subject.uid != 0,
    )
    root = _docker_root(subject.container_id, spec.facts)
    more = [Facts(leads=Leads(docker_root=root))] if root else []
    return joined(spec.facts, facts, *more, *_of_sandbox(subject, facts))


def _spec(bundle: Tree) -> Spec:
    try:
        return read_spec(bundle.read(_CONFIG, _CONFIG_BYTES))
    except SpecError as error:
        raise Unreadable(f"{bundle.path(_CONFIG)}: {error}") from None


def _of_sandbox(subject: Subject, facts: Facts) -> list[Facts]:
    """
    The pod, from its sandbox's bundle: CRI-O's containers lack namespace and uid.

    CRI-O keeps all bundles side by side: ``<directory>/<id>/userdata``.
    """
    sandbox_id = facts.leads.sandbox_id
    complete = facts.pod_uid is not None and facts.pod_namespace is not None
    if facts.runtime is not Runtime.CRIO or complete or not hex_id(sandbox_id):
        return []
    leads = subject.facts.leads
    bundle = f"{os.path.dirname(os.path.dirname(leads.bundle))}/{sandbox_id}/userdata"
    try:
        spec = _spec(_tree(subject, bundle))
    except Unreadable:
        return []
    pod = who(spec.annotations, bundle, leads.oci_runtime)
    return [Facts(pod_name=pod.pod_name, pod_namespace=pod.pod_namespace, pod_uid=pod.pod_uid)]


def _tree(subject: Subject, bundle: str) -> Tree:
    return Tree(bundle, subject.uid, subject.facts.leads.root or "/")


def _docker_root(container_id: str, facts: Facts) -> str:
    """The data root of the dockerd that made the bundle; "" if none did."""
    if not hex_id(container_id):
        return ""
    mounts: Sequence[Mount] = facts.security.mounts if facts.security else ()
    for mount in mounts:
        for name in _DOCKER_MOUNTS:
            root = mount.source.removesuffix(f"/containers/{container_id}/{name}")
            if root != mount.source and root.startswith("/"):
                return root
    return ""
