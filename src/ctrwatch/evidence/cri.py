"""
The Kubernetes Container Runtime Interface, CRI v1: CRI-O, and whoever else speaks it.

CRI-O's bundles say nearly all of it; older ones lack the image's registry digest, which
stands here. Lists with a filter for the id are asked, not `ContainerStatus`: a list does
not wait for a container that is just being started.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec

from ctrwatch.core import reference
from ctrwatch.core.annotations import from_labels
from ctrwatch.evidence.asking import Daemons, Unanswered, nobody
from ctrwatch.evidence.discover import Sockets, socket_at
from ctrwatch.evidence.files import Readers
from ctrwatch.evidence.lists import LISTED_BYTES, listings
from ctrwatch.evidence.values import hex_id, joined, sha256
from ctrwatch.model import (
    Answer,
    ContainerId,
    Facts,
    Found,
    Leads,
    Listing,
    Missing,
    NotFound,
    Record,
    Runtime,
    Subject,
    Unavailable,
)

if TYPE_CHECKING:
    from ctrwatch.evidence.api.cri import Client, Container, PodSandbox

__all__ = ("Cri", "answer", "records_of")

_RUNTIMES: Final = {  # as Version names them
    "cri-o": Runtime.CRIO,
    "containerd": Runtime.CONTAINERD,
    "docker": Runtime.DOCKER,  # cri-dockerd
}


_RUNNING: Final = 1  # ContainerState
_READY: Final = 0  # PodSandboxState


class Cri:
    """The source "cri": every socket of the CRI that is there."""

    name = "cri"

    def __init__(
        self, readers: Readers, sockets: Sockets, back: Callable[[str], None] = nobody
    ) -> None:
        self._readers, self._sockets = readers, sockets
        self.daemons = Daemons(self.name, self._greet, back)

    async def ask(self, subject: Subject) -> Answer:
        container_id = subject.container_id
        if not hex_id(container_id):
            return NotFound()  # no id of the CRI's
        sockets = self._sockets.present("cri", subject.uid)
        if sockets:
            await self._load()
        elif subject.facts.runtime is Runtime.CRIO:
            return Unavailable("cri: its socket is gone", away=True)
        return await self.daemons.ask(sockets, lambda socket: _ask(socket, container_id))

    async def records(self) -> Listing:
        """All containers and sandboxes, those that have ended too."""
        sockets = self._sockets.present("cri")
        if sockets:
            await self._load()
        return await listings(self.name, sockets, _records)

    async def close(self) -> None:
        await self.daemons.close()
        self._readers.close()

    async def _load(self) -> None:
        await self._readers.call(lambda: importlib.import_module("ctrwatch.evidence.api.cri"))

    async def _greet(self, socket: str) -> None:
        await self._load()
        from ctrwatch.evidence.api.cri import connected

        async with connected(socket) as client:
            await client.runtime()


async def _records(socket: str) -> list[Record]:
    from ctrwatch.evidence.api.cri import connected

    owner = socket_at(socket, None)
    async with connected(socket, LISTED_BYTES) as client:
        return await records_of(client, owner.st_uid if owner is not None else 0)


async def records_of(client: Client, uid: int) -> list[Record]:
    """All that *client*'s daemon, of the user *uid*, has. Raises `Unanswered`."""
    name, _ = await client.runtime()
    containers, sandboxes = await client.containers(), await client.sandboxes()
    common = Record(
        source=Cri.name,
        runtime=_RUNTIMES.get(name, Runtime.UNKNOWN),
        container_id=ContainerId(""),
        uid=uid,
        created_ns=None,
        running=None,
    )
    return [
        *(
            _record(common, each, is_running=each.state == _RUNNING, image=_named(each))
            for each in containers
        ),
        *(_record(common, each, is_running=each.state == _READY) for each in sandboxes),
    ]


def _record(
    common: Record, listed: Container | PodSandbox, *, is_running: bool, image: str = ""
) -> Record:
    return msgspec.structs.replace(
        common,
        container_id=ContainerId(listed.id),
        created_ns=listed.created_at or None,
        running=is_running,
        name=listed.metadata.name,
        image=image,
    )


def _named(container: Container) -> str:
    return container.image.user_specified_image or container.image.image


async def _ask(socket: str, container_id: str) -> Answer:
    from ctrwatch.evidence.api.cri import connected

    async with connected(socket) as client:
        return await answer(client, container_id)


async def answer(client: Client, container_id: str) -> Answer:
    """What *client*'s daemon knows of a container or a sandbox. Raises `Unanswered`."""
    container = await client.container(container_id)
    sandbox_id = container.pod_sandbox_id if container is not None else container_id
    sandbox = await client.sandbox(sandbox_id) if hex_id(sandbox_id) else None
    if container is None and sandbox is None:
        return NotFound()
    runtime, _ = await client.runtime()
    pod = _pod(sandbox) if sandbox is not None else Facts()
    own = await _of_container(client, container) if container is not None else _of_sandbox(sandbox)
    return Found(joined(Facts(runtime=_RUNTIMES.get(runtime)), own, pod))


def _pod(sandbox: PodSandbox) -> Facts:
    metadata = sandbox.metadata
    return Facts(
        pod_name=metadata.name or None,
        pod_namespace=metadata.namespace or None,
        pod_uid=metadata.uid or None,
        leads=Leads(sandbox_id=sandbox.id),
    )


def _of_sandbox(sandbox: PodSandbox | None) -> Facts:
    """Its image is nowhere in the CRI."""
    labels = dict(sandbox.labels) if sandbox is not None else {}
    name = from_labels(labels).name
    return Facts(
        name=name,
        sandbox=True,
        created_ns=(sandbox.created_at if sandbox is not None else 0) or None,
        labels=labels,
        absent={} if name else {"container_name": Missing.HAS_NONE},
    )


async def _of_container(client: Client, container: Container) -> Facts:
    labels = dict(container.labels)
    image = await _image(client, container)
    return joined(
        Facts(
            name=container.metadata.name or None,
            sandbox=False,
            created_ns=container.created_at or None,
            labels=labels,
        ),
        image,
        from_labels(labels),
    )


async def _image(client: Client, container: Container) -> Facts:
    """By the name its user gave; of its registry digests the one of that name's repository."""
    named = _named(container)
    ref = container.image_ref
    try:
        known = await client.image(ref or named)
    except Unanswered as error:
        if error.away:
            raise
        known = None  # only the digest is lost by it
    tags, digests = (known.repo_tags, known.repo_digests) if known is not None else ((), ())
    if not named or reference.is_image_id(named):
        named = min(tags, default=named)
    image_id = sha256(known.id if known is not None else container.image_id)
    references = [each for each in (ref, *digests) if "@" in each]  # else it is the image's id
    return Facts(
        image=reference.normalise(named) if named else None,
        image_digest=reference.repository_digest(named, references),
        image_id=image_id,
        leads=Leads(image_ref=named),
    )
