"""
containerd's own records over its gRPC API, version 1.2 to 2.x.

The socket and the namespace come from the shim that started the container; without
them every socket that is there and every namespace of it is asked.
"""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from ctrwatch.core.annotations import from_labels
from ctrwatch.core.cmdline import is_container_id
from ctrwatch.evidence.asking import Daemons, nobody
from ctrwatch.evidence.discover import Sockets, socket_at, speaks_for
from ctrwatch.evidence.files import Readers
from ctrwatch.evidence.images import Images, nanoseconds, of_dockers
from ctrwatch.evidence.lists import LISTED_BYTES, listings
from ctrwatch.evidence.values import joined
from ctrwatch.model import (
    Answer,
    ContainerId,
    Facts,
    Found,
    Leads,
    Listing,
    NotFound,
    Record,
    Runtime,
    Subject,
)

if TYPE_CHECKING:
    from ctrwatch.evidence.api.client import Client, Container

__all__ = ("Containerd", "records_of")

_MOBY: Final = "moby"
_DOCKERS: Final = frozenset({_MOBY, "plugins.moby"})  # namespaces where dockerd keeps containers
_NAMESPACES: Final = 64  # asked of one daemon

_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Containerd:
    """The source "containerd"."""

    name = "containerd"

    def __init__(
        self, readers: Readers, sockets: Sockets, back: Callable[[str], None] = nobody
    ) -> None:
        self._readers = readers
        self._sockets = sockets
        self.daemons = Daemons(self.name, self._greet, back)
        self._images = Images()
        self._loaded = False

    async def prepare(self) -> None:
        """
        Load what the first question would wait for, where there may be a containerd to ask.

        In a thread: the event loop goes on. A host without one is spared the 20 MB.
        """
        if self._sockets.present("containerd") or shutil.which("containerd", path=_PATH):
            await self._load()

    async def ask(self, subject: Subject) -> Answer:
        if not is_container_id(subject.container_id):
            return NotFound()
        leads = subject.facts.leads
        its = leads.containerd
        if not its:
            sockets = self._sockets.present("containerd", subject.uid)
        else:
            sockets = [its] if speaks_for(its, subject.uid) else []
        if sockets:
            await self._load()
        ask = self._ask
        if subject.facts.runtime is Runtime.DOCKER and leads.digests:
            ask = self._ask_for_docker
        return await self.daemons.ask(sockets, lambda socket: ask(socket, subject))

    async def records(self) -> Listing:
        """All containers of every containerd and namespace, those that have ended too."""
        sockets = self._sockets.present("containerd")
        if sockets:
            await self._load()
        return await listings(self.name, sockets, _records)

    async def close(self) -> None:
        await self.daemons.close()
        self._readers.close()

    async def _load(self) -> None:
        if not self._loaded:
            await self._readers.call(
                lambda: importlib.import_module("ctrwatch.evidence.api.client")
            )
            self._loaded = True

    async def _greet(self, socket: str) -> None:
        await self._load()
        from ctrwatch.evidence.api.client import connected

        async with connected(socket) as client:
            await client.namespaces()

    async def _ask_for_docker(self, socket: str, subject: Subject) -> Answer:
        """dockerd's own records have all but this."""
        from ctrwatch.evidence.api.client import connected

        leads = subject.facts.leads
        async with connected(socket) as client:
            namespaces = dict.fromkeys([leads.namespace or _MOBY, *await client.namespaces()])
            return Found(await of_dockers(client, list(namespaces)[:_NAMESPACES], leads.digests))

    async def _ask(self, socket: str, subject: Subject) -> Answer:
        from ctrwatch.evidence.api.client import connected

        container_id, known = subject.container_id, subject.facts.leads
        async with connected(socket) as client:
            namespaces = [known.namespace] if known.namespace else await client.namespaces()
            for each in filter(is_container_id, namespaces[:_NAMESPACES]):
                record = await client.container(each, container_id)
                if record is not None:
                    facts = await self._facts(client, each, record, known.image_ref)
                    leads = Leads(containerd=socket, namespace=each)
                    return Found(joined(facts, Facts(leads=leads)))
        return NotFound()

    async def _facts(
        self, client: Client, namespace: str, record: Container, image_ref: str
    ) -> Facts:
        if namespace in _DOCKERS:
            return Facts(runtime=Runtime.DOCKER)  # dockerd knows the rest
        labels = dict(record.labels)
        facts = Facts(
            runtime=Runtime.CONTAINERD,
            created_ns=nanoseconds(record.created_at) or None,
            labels=labels,
        )
        image = await self._images.of(client, namespace, record, image_ref)
        return joined(from_labels(labels), facts, image)


async def _records(socket: str) -> list[Record]:
    from ctrwatch.evidence.api.client import connected

    owner = socket_at(socket, None)
    async with connected(socket, LISTED_BYTES) as client:
        return await records_of(client, owner.st_uid if owner is not None else 0)


async def records_of(client: Client, uid: int) -> list[Record]:
    """All that *client*'s daemon, of the user *uid*, keeps in any namespace. Raises `Unanswered`."""
    found = []
    for namespace in filter(is_container_id, (await client.namespaces())[:_NAMESPACES]):
        running = await client.running(namespace)
        found += [
            Record(
                source=Containerd.name,
                runtime=Runtime.DOCKER if namespace in _DOCKERS else Runtime.CONTAINERD,
                container_id=ContainerId(record.id),
                uid=uid,
                created_ns=nanoseconds(record.created_at) or None,
                running=record.id in running,
                image=record.image,
            )
            for record in await client.containers(namespace)
        ]
    return found
