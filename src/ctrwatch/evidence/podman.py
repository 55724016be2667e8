"""
Podman's files: its database and its storage, of whichever user the bundle led to.

Podman has no daemon to ask. Its database (libpod.py) has name, image, labels and pod;
the storage's `<driver>-images/images.json` (containers/storage 1.x) has the digests.
Containers of the same storage that Podman does not know (CRI-O's, Buildah's) are in
`containers.json` or `volatile-containers.json`.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Final, Literal, TypeVar

import msgspec

from ctrwatch.core import reference
from ctrwatch.evidence import libpod
from ctrwatch.evidence.discover import GRAPH_ROOTS
from ctrwatch.evidence.files import Absent, ParsedFiles, Readers, Unreadable
from ctrwatch.evidence.values import NotJsonError, from_json, hex_id, joined, rfc3339_ns, sha256
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

__all__ = ("PodmanFiles",)

T = TypeVar("T")

_DRIVERS: Final = ("overlay", "vfs", "btrfs", "zfs")
_CONTAINER_INDEXES: Final = ("containers.json", "volatile-containers.json")
_INDEX_BYTES: Final = 64 << 20  # 1 KB a container, 2 KB an image
_INDEXES: Final = 16  # files kept: four users' storages
_MANIFEST_BYTES: Final = 4 << 20
_POD_FIELDS: Final = ("pod_name", "pod_namespace", "pod_uid")


class _Stored(msgspec.Struct, frozen=True):
    """An entry of containers.json. `metadata` is JSON, and its maker's."""

    id: str
    names: list[str] | None = None
    image: str = ""
    metadata: str = ""
    created: str = ""


class _Metadata(msgspec.Struct, frozen=True, rename="kebab"):
    image_name: str = ""
    name: str = ""
    pod_id: str = ""  # CRI-O's
    pod_name: str = ""
    metadata_name: str = ""
    namespace: str = ""
    uid: str = ""
    pod: bool = False


class _Image(msgspec.Struct, frozen=True):
    id: str
    digest: str = ""


class _Something(msgspec.Struct, frozen=True):
    """Any object: only its presence counts."""


class _Manifest(msgspec.Struct, frozen=True):
    manifests: list[_Something] | None = None
    config: _Something | None = None


class PodmanFiles:
    """The source "podman.files": the storage that a bundle led to, else the default one."""

    name = "podman.files"

    def __init__(self, readers: Readers, roots: Sequence[str] = GRAPH_ROOTS) -> None:
        self._readers = readers
        self._roots = roots
        self._containers = ParsedFiles(readers, _read_containers, limit=_INDEX_BYTES, most=_INDEXES)
        self._images = ParsedFiles(readers, _read_images, limit=_INDEX_BYTES, most=_INDEXES)

    async def ask(self, subject: Subject) -> Answer:
        if not hex_id(subject.container_id):
            return NotFound()
        root = subject.facts.leads.graph_root
        refusal: Answer = NotFound()
        for candidate in [root] if root else self._roots:
            try:
                facts = await self._facts(candidate, subject.container_id)
            except Unreadable as error:
                refusal = Unavailable(f"podman.files: {error}")
                continue
            if facts is not None:
                return Found(facts)
        return refusal

    async def close(self) -> None:
        self._readers.close()

    async def _facts(self, root: str, container_id: str) -> Facts | None:
        broken: Unreadable | None = None
        try:
            record = await self._readers.call(lambda: libpod.find(root, container_id))
        except libpod.Torn:
            raise
        except Unreadable as error:
            record, broken = None, error
        if record is not None:
            facts = _of_libpod(record)
        else:
            stored = await self._stored(root, container_id)
            if stored is None:
                if broken is not None and not isinstance(broken, Absent):
                    raise broken
                return None
            facts = _of_storage(stored)
        digest = await self._digest(root, facts.image_id)
        return joined(facts, digest, Facts(leads=Leads(graph_root=root)))

    async def _stored(self, root: str, container_id: str) -> _Stored | None:
        for driver in _DRIVERS:
            for index in _CONTAINER_INDEXES:
                try:
                    known = await self._containers.get(f"{root}/{driver}-containers/{index}")
                except Absent:
                    continue
                if container_id in known:
                    return known[container_id]
        return None

    async def _digest(self, root: str, image_id: str | None) -> Facts:
        """The digest that Podman gives for the image: of the manifest it was stored with."""
        if image_id is None:
            return Facts()
        bare = image_id.removeprefix("sha256:")
        for driver in _DRIVERS:
            directory = f"{root}/{driver}-images"
            try:
                images = await self._images.get(f"{directory}/images.json")
            except Unreadable:
                continue
            if bare in images:
                digest = sha256(images[bare].digest)
                if digest is None:
                    return Facts(absent={"container_image_digest": Missing.NO_REGISTRY_DIGEST})
                kind = await self._kind(f"{directory}/{bare}", digest)
                return Facts(image_digest=digest, digest_kind=kind)
        return Facts()

    async def _kind(self, directory: str, digest: str) -> Literal["index", "manifest"] | None:
        # containers/storage names a file by base64 when its key has a colon in it.
        key = base64.b64encode(f"manifest-{digest}".encode()).decode()
        try:
            raw = await self._readers.read(f"{directory}/={key}", _MANIFEST_BYTES)
            manifest = from_json(raw, _Manifest)
        except (Unreadable, NotJsonError):
            return None
        if manifest.manifests is not None:
            return "index"
        return "manifest" if manifest.config is not None else None


def _of_libpod(record: libpod.Record) -> Facts:
    container = record.container
    absent = dict.fromkeys(_POD_FIELDS, Missing.NOT_IN_POD)
    if container.pod:
        absent = {"pod_namespace": Missing.HAS_NONE}
    if not container.image_name and not container.image_id:
        absent |= dict.fromkeys(("container_image", "container_image_digest"), Missing.NO_IMAGE)
    return Facts(
        runtime=Runtime.PODMAN,
        created_ns=rfc3339_ns(container.created),
        image=reference.normalise(container.image_name) if container.image_name else None,
        image_id=sha256(container.image_id),
        name=container.name or None,
        pod_name=record.pod.name if record.pod else None,
        pod_uid=container.pod or None,
        sandbox=container.infra,
        labels=container.labels or {},
        absent=absent,
    )


def _of_storage(stored: _Stored) -> Facts:
    try:
        metadata = from_json(stored.metadata or "{}", _Metadata)
    except NotJsonError:
        metadata = _Metadata()
    facts = Facts(
        created_ns=rfc3339_ns(stored.created),
        image=reference.normalise(metadata.image_name) if metadata.image_name else None,
        image_id=sha256(stored.image),
        name=metadata.name or next(iter(stored.names or []), None),
    )
    if not metadata.pod_id:
        return facts
    return msgspec.structs.replace(
        facts,
        runtime=Runtime.CRIO,
        name=metadata.metadata_name or facts.name,
        pod_uid=metadata.uid or None,
        pod_namespace=metadata.namespace or None,
        sandbox=metadata.pod,
        leads=Leads(sandbox_id=metadata.pod_id),
    )


def _read_containers(raw: bytes) -> dict[str, _Stored]:
    return {each.id: each for each in _decoded(raw, list[_Stored], "containers.json")}


def _read_images(raw: bytes) -> dict[str, _Image]:
    return {each.id: each for each in _decoded(raw, list[_Image], "images.json")}


def _decoded(raw: bytes, kind: type[list[T]], name: str) -> list[T]:
    try:
        return from_json(raw or b"[]", kind)
    except NotJsonError as error:
        raise Unreadable(f"{name}: {error}") from None
