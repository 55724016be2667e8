"""
Podman's files: its database and its storage, of whichever user.

Podman has no daemon to ask. The bundle leads to the storage, else storage.conf does
(storage.py). Its database (libpod.py) has name, image, labels and pod;
the storage's `<driver>-images/images.json` (containers/storage 1.x) has the digests.
Containers of the same storage that Podman does not know (CRI-O's, Buildah's) are in
`containers.json` or `volatile-containers.json`.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from typing import Final, TypeVar

import msgspec

from ctrwatch.core import reference
from ctrwatch.core.image import Kind, Manifest
from ctrwatch.evidence import libpod
from ctrwatch.evidence.asking import Unanswered
from ctrwatch.evidence.files import Absent, ParsedFiles, Readers, Tree, Unreadable
from ctrwatch.evidence.lists import bounded, in_time, merged, refused, within
from ctrwatch.evidence.storage import Storages
from ctrwatch.evidence.values import NotJsonError, from_json, hex_id, joined, rfc3339_ns, sha256
from ctrwatch.model import (
    NOWHERE,
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

__all__ = ("PodmanFiles",)

T = TypeVar("T")

_DRIVERS: Final = ("overlay", "vfs", "btrfs", "zfs")
_CONTAINER_INDEXES: Final = ("containers.json", "volatile-containers.json")
_INDEX_BYTES: Final = 64 << 20  # 1 KB a container, 2 KB an image
_INDEXES: Final = 16  # files kept: four users' storages
_MANIFEST_BYTES: Final = 4 << 20
_HERE: Final = "localhost"
_DIGESTS: Final = 16  # of one image, looked through
# For whom to look up root's storage.
_ROOTS: Final = Subject(
    container_id=ContainerId(""),
    cgroup=NOWHERE,
    cgroup_path="",
    uid=0,
    creator=None,
    init=None,
    facts=Facts(),
)
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


class _Image(msgspec.Struct, frozen=True, rename="kebab"):
    id: str
    digest: str = ""  # of what it was first stored with: an index or a manifest
    names: list[str] | None = None
    names_history: list[str] | None = None
    big_data_digests: dict[str, str] | None = None  # of what is kept of it, by its key

    def digests(self) -> list[str]:
        """Of the index and the manifests that it was pulled by; first what Podman gives."""
        kept = self.big_data_digests or {}
        known = [self.digest, *(kept[key] for key in sorted(kept) if key.startswith("manifest"))]
        digests = dict.fromkeys(digest for each in known if (digest := sha256(each)))
        return list(digests)[:_DIGESTS]


class PodmanFiles:
    """The source "podman.files": the storage that a bundle led to, else its user's own."""

    name = "podman.files"

    def __init__(self, readers: Readers, storages: Storages | None = None) -> None:
        self._readers = readers
        self._storages = storages or Storages(readers)
        self._containers = ParsedFiles(readers, _read_containers, limit=_INDEX_BYTES, most=_INDEXES)
        self._images = ParsedFiles(readers, _read_images, limit=_INDEX_BYTES, most=_INDEXES)

    async def ask(self, subject: Subject) -> Answer:
        if not hex_id(subject.container_id):
            return NotFound()
        leads = subject.facts.leads
        refusal: Answer = NotFound()
        roots: Sequence[Tree] = [Tree(leads.graph_root, subject.uid, leads.root or "/")]
        if not leads.graph_root:
            roots = (await self._storages.of(subject)).graph_roots
        for root in roots:
            try:
                facts = await self._facts(root, subject)
            except Unreadable as error:
                refusal = Unavailable(f"podman.files: {error}")
                continue
            if facts is not None:
                return Found(facts)
        return refusal

    async def records(self) -> Listing:
        """Podman's containers in root's storage; whether they run does not stand there."""
        try:
            places = await in_time(self._storages.of(_ROOTS))
        except Unanswered as error:
            return refused(f"{self.name}: storage.conf", error)
        return merged(
            await asyncio.gather(
                *(
                    within(f"{self.name}: {root.base}", self._listed(root))
                    for root in places.graph_roots
                )
            )
        )

    async def close(self) -> None:
        self._readers.close()

    async def _listed(self, root: Tree) -> Listing:
        parts = []
        for driver in _DRIVERS:
            for index in _CONTAINER_INDEXES:
                name = f"{driver}-containers/{index}"
                try:
                    known = await self._containers.get(root, name)
                except Absent:
                    continue
                except Unreadable as error:
                    parts.append(refused(self.name, error))
                    continue
                found = [_record(each, root.uid) for each in known.values()]
                parts.append(bounded(root.path(name), [each for each in found if each.name]))
        return merged(parts)

    async def _facts(self, root: Tree, subject: Subject) -> Facts | None:
        container_id = subject.container_id
        broken: Unreadable | None = None
        try:
            record = await self._readers.call(lambda: libpod.find(root, container_id), root.lane)
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
        digest = await self._digest(root, subject, facts)
        return joined(facts, digest, Facts(leads=Leads(graph_root=root.base)))

    async def _stored(self, root: Tree, container_id: str) -> _Stored | None:
        for driver in _DRIVERS:
            for index in _CONTAINER_INDEXES:
                try:
                    known = await self._containers.get(root, f"{driver}-containers/{index}")
                except Absent:
                    continue
                if container_id in known:
                    return known[container_id]
        return None

    async def _digest(self, root: Tree, subject: Subject, known: Facts) -> Facts:
        """Of the image, in the container's own storage or in one that only has images."""
        if known.image_id is None:
            return Facts()
        bare = known.image_id.removeprefix("sha256:")
        named = reference.parse(known.image or "")
        asked = named.digest if named else ""
        facts = await self._digest_in(root, bare, asked)
        if facts is None:
            for store in (await self._storages.of(subject)).image_stores:
                if (facts := await self._digest_in(store, bare, asked)) is not None:
                    break
        return facts or Facts()

    async def _digest_in(self, root: Tree, image_id: str, asked: str) -> Facts | None:
        for driver in _DRIVERS:
            directory = f"{driver}-images"
            try:
                images = await self._images.get(root, f"{directory}/images.json")
            except Unreadable:
                continue
            if image_id in images:
                return await self._digest_of(
                    root, f"{directory}/{image_id}", images[image_id], asked
                )
        return None

    async def _digest_of(self, root: Tree, directory: str, image: _Image, asked: str) -> Facts:
        """
        The digest that was asked for, else the index's, else the one that Podman gives.

        Podman does not keep with which of several digests a tag was pulled. A tag of an
        image for several platforms stands for their index.
        """
        digests = [asked] if asked else image.digests()
        if not digests or not (asked or _was_in_a_registry(image)):
            return Facts(absent={"container_image_digest": Missing.NO_REGISTRY_DIGEST})
        kinds = {digest: await self._kind(root, directory, digest) for digest in digests}
        best = next((digest for digest in digests if kinds[digest] == "index"), digests[0])
        kind = kinds[best]
        absent = {} if kind else {"image.digest_kind": Missing.NOT_RECORDED}
        return Facts(image_digest=best, digest_kind=kind, absent=absent)

    async def _kind(self, root: Tree, directory: str, digest: str) -> Kind | None:
        # containers/storage names a file by base64 when its key has a colon in it.
        key = base64.b64encode(f"manifest-{digest}".encode()).decode()
        try:
            raw = await self._readers.read(root, f"{directory}/={key}", _MANIFEST_BYTES)
            return from_json(raw, Manifest).kind
        except (Unreadable, NotJsonError):
            return None


def _record(stored: _Stored, uid: int) -> Record:
    """Of a container of Podman's; others' have no name in their metadata."""
    metadata = _metadata(stored)
    return Record(
        source=PodmanFiles.name,
        runtime=Runtime.CRIO if metadata.pod_id else Runtime.PODMAN,
        container_id=ContainerId(stored.id),
        uid=uid,
        created_ns=rfc3339_ns(stored.created),
        running=None,
        name=metadata.name,
        image=metadata.image_name,
    )


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
        image=_image_name(container),
        image_id=sha256(container.image_id),
        name=container.name or None,
        pod_name=record.pod.name if record.pod else None,
        pod_uid=container.pod or None,
        sandbox=container.infra,
        labels=container.labels or {},
        absent=absent,
    )


def _image_name(container: libpod.Container) -> str | None:
    """
    What the user asked for, as Podman resolved it: ``mine`` is ``localhost/mine:latest``.

    Of an image that is asked for by its id, Podman takes any of the names.
    """
    image_id, named = sha256(container.image_id), container.image_name
    if image_id and reference.is_id_of(container.asked, image_id):
        resolved = reference.parse(named)
        if resolved is None or resolved.repository.rpartition("/")[2] != container.asked:
            return image_id
    return reference.normalise(named) if named else None


def _was_in_a_registry(image: _Image) -> bool:
    """
    Whether it ever had a name in another registry than localhost, as Podman calls its own.

    Nothing else tells what was pulled from what was built: that has a manifest too, which
    no registry serves.
    """
    names = [*(image.names or []), *(image.names_history or [])]
    parsed = [each for each in map(reference.parse, names) if each]
    return any(each.registry != _HERE for each in parsed)


def _metadata(stored: _Stored) -> _Metadata:
    try:
        return from_json(stored.metadata or "{}", _Metadata)
    except NotJsonError:
        return _Metadata()


def _of_storage(stored: _Stored) -> Facts:
    metadata = _metadata(stored)
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
