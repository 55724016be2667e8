"""
containerd's own records over its gRPC API, version 1.2 to 2.x: containers and images.

A container's record names its image as the client wrote it; the image's record has the
digest of what was pulled or imported, the same that `ctr image ls` and the CRI report.
The config digest stands in the image's manifest, in the content store.

The socket and the namespace come from the shim that started the container; without
them every socket that is there and every namespace of it is asked.
"""

from __future__ import annotations

import importlib
import platform
import shutil
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from ctrwatch.core import reference
from ctrwatch.core.annotations import from_labels
from ctrwatch.core.cmdline import is_container_id
from ctrwatch.evidence.asking import Unanswered, first_found
from ctrwatch.evidence.discover import Sockets
from ctrwatch.evidence.files import Readers
from ctrwatch.evidence.values import NotJsonError, from_json, joined, sha256
from ctrwatch.model import (
    Answer,
    Facts,
    Found,
    Leads,
    Missing,
    NotFound,
    Runtime,
    Subject,
    Unavailable,
)

if TYPE_CHECKING:
    from ctrwatch.evidence.api.client import Client, Container

__all__ = ("Containerd",)

_DOCKERS: Final = frozenset({"moby", "plugins.moby"})  # namespaces where dockerd keeps containers
_MANIFEST_BYTES: Final = 8 << 20  # containerd's own bound
_KNOWN_CONFIGS: Final = 512  # digests whose config digest is remembered: content never changes
_NAMESPACES: Final = 64  # asked of one daemon
_NAMES: Final = 256  # of one image, looked through

_INDEX_TYPES: Final = frozenset(
    {
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    }
)
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}

_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class _Platform(msgspec.Struct, frozen=True):
    architecture: str = ""
    os: str = ""


class _Descriptor(msgspec.Struct, frozen=True):
    digest: str
    platform: _Platform | None = None


class _Manifest(msgspec.Struct, frozen=True):
    """An image manifest (config) or an index (manifests), OCI or Docker's."""

    config: _Descriptor | None = None
    manifests: list[_Descriptor] | None = None


class Containerd:
    """The source "containerd"."""

    name = "containerd"

    def __init__(self, readers: Readers, sockets: Sockets) -> None:
        self._readers = readers
        self._sockets = sockets
        self._configs: OrderedDict[str, str] = OrderedDict()  # target digest: config digest
        machine = platform.machine()
        self._architecture = _ARCHITECTURES.get(machine, machine)

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
        sockets = [leads.containerd] if leads.containerd else self._sockets.present("containerd")
        if sockets:
            await self._load()
        return await first_found(
            self._ask(socket, leads.namespace, subject.container_id) for socket in sockets
        )

    async def close(self) -> None:
        self._readers.close()

    async def _load(self) -> None:
        await self._readers.call(lambda: importlib.import_module("ctrwatch.evidence.api.client"))

    async def _ask(self, socket: str, namespace: str, container_id: str) -> Answer:
        from ctrwatch.evidence.api.client import connected

        try:
            async with connected(socket) as client:
                namespaces = [namespace] if namespace else await client.namespaces()
                for each in filter(is_container_id, namespaces[:_NAMESPACES]):
                    record = await client.container(each, container_id)
                    if record is not None:
                        facts = await self._facts(client, each, record)
                        leads = Leads(containerd=socket, namespace=each)
                        return Found(joined(facts, Facts(leads=leads)))
        except Unanswered as error:
            return Unavailable(f"containerd: {socket}: {error}")
        return NotFound()

    async def _facts(self, client: Client, namespace: str, record: Container) -> Facts:
        if namespace in _DOCKERS:
            return Facts(runtime=Runtime.DOCKER)  # dockerd knows the rest
        labels = dict(record.labels)
        created = record.created_at
        facts = Facts(
            runtime=Runtime.CONTAINERD,
            created_ns=(created.seconds * 1_000_000_000 + created.nanos) or None,
            labels=labels,
        )
        image = await self._image(client, namespace, record.image)
        return joined(from_labels(labels), facts, image)

    async def _image(self, client: Client, namespace: str, named: str) -> Facts:
        """Of the image that a container's record names."""
        if not named:
            absent = dict.fromkeys(("container_image", "container_image_digest"), Missing.NO_IMAGE)
            return Facts(absent=absent)
        image = await client.image(namespace, named)
        if image is None:  # it was removed; the container runs on
            return Facts(image=reference.normalise(named), leads=Leads(image_ref=named))
        target = sha256(image.target.digest)
        image_id, name = sha256(named), named
        if image_id is None:
            image_id = await self._config(client, namespace, target)
        else:  # the CRI also keeps an image under its config digest, and may name that
            name = await _best_name(client, namespace, target) or named
        return Facts(
            image=reference.normalise(name),
            image_digest=target,
            digest_kind=_kind(image.target.media_type),
            image_id=image_id,
            leads=Leads(image_ref=named),
        )

    async def _config(self, client: Client, namespace: str, target: str | None) -> str | None:
        """The config digest of this machine's image under the digest *target*."""
        if target is None or target in self._configs:
            return self._configs.get(target or "")
        digest: str | None = target
        for _ in range(3):  # an index, perhaps of an index; then the manifest
            manifest = await self._read(client, namespace, digest)
            if manifest is None:
                return None
            if manifest.config is not None and (config := sha256(manifest.config.digest)):
                self._configs[target] = config
                if len(self._configs) > _KNOWN_CONFIGS:
                    self._configs.popitem(last=False)
                return config
            digest = self._chosen(manifest.manifests or [])
        return None

    async def _read(self, client: Client, namespace: str, digest: str | None) -> _Manifest | None:
        """None for what is not here or no manifest: only the config digest is lost by it."""
        if digest is None or sha256(digest) != digest:
            return None
        try:
            raw = await client.content(namespace, digest)
            return None if raw is None else from_json(raw[:_MANIFEST_BYTES], _Manifest)
        except (Unanswered, NotJsonError):
            return None

    def _chosen(self, manifests: list[_Descriptor]) -> str | None:
        for each in manifests:
            if each.platform == _Platform(self._architecture, "linux"):
                return each.digest
        return None


async def _best_name(client: Client, namespace: str, target: str | None) -> str | None:
    """A name for the image with that target: one with a tag, else one with a digest."""
    if target is None:
        return None
    images = await client.images_of(namespace, target)
    names = [each.name for each in images[:_NAMES] if sha256(each.name) is None]
    return min(names, key=lambda name: ("@" in name, name), default=None)


def _kind(media_type: str) -> Literal["index", "manifest"] | None:
    if media_type in _INDEX_TYPES:
        return "index"
    return "manifest" if "manifest" in media_type else None
