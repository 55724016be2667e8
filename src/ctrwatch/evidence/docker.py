"""
Docker's own files: what the daemon writes before it starts a container.

`<data root>/containers/<id>/config.v2.json` (dockerd 1.10 to 28) names the container and
the image as the user wrote it; `<data root>/image/<driver>/repositories.json` has the
names and registry digests of the images. Reading them asks nothing of a daemon that
holds the container's lock while it starts.

With the containerd image store there is no `image/<driver>`: the daemon's API knows the
image then (engine.py), and `Image` in config.v2.json is no config digest.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Final

import msgspec

from ctrwatch.core import reference
from ctrwatch.core.annotations import from_labels
from ctrwatch.evidence.discover import DOCKER_ROOTS
from ctrwatch.evidence.files import Absent, Foreign, ParsedFiles, Readers, Tree, Unreadable
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

__all__ = ("DockerFiles", "facts_of_names", "image_facts")

_CONTAINER_BYTES: Final = 4 << 20  # measured: 2.5 KB; labels may make it larger
_INDEX_BYTES: Final = 32 << 20  # a hundred thousand images
_INDEXES: Final = 4  # data roots whose index is kept: one a daemon
_DIGESTS: Final = 16  # of one image, looked through
_DRIVER: Final = re.compile(r"[a-z0-9_-]{1,64}")
_SHORT_ID: Final = re.compile(r"[0-9a-f]{4,64}")

_POD_FIELDS: Final = ("pod_name", "pod_namespace", "pod_uid")


class _Config(msgspec.Struct, frozen=True, rename="pascal"):
    image: str = ""
    labels: dict[str, str] | None = None


class _Container(msgspec.Struct, frozen=True, rename="pascal"):
    id: str = msgspec.field(name="ID")
    config: _Config
    name: str = ""
    created: str = ""
    image: str = ""
    driver: str = ""


class _Index(msgspec.Struct, frozen=True, rename="pascal"):
    repositories: dict[str, dict[str, str]] = {}  # repository: {reference: config digest}


class DockerFiles:
    """The source "docker.files": every data root that a bundle led to, else the default ones."""

    name = "docker.files"

    def __init__(self, readers: Readers, roots: Sequence[str] = DOCKER_ROOTS) -> None:
        self._readers = readers
        self._roots = roots
        self._indexes = ParsedFiles(readers, _read_index, limit=_INDEX_BYTES, most=_INDEXES)

    async def ask(self, subject: Subject) -> Answer:
        container_id = subject.container_id
        if not hex_id(container_id):
            return NotFound()  # it becomes part of a path
        leads = subject.facts.leads
        refusal: Answer = NotFound()
        for candidate in [leads.docker_root] if leads.docker_root else self._roots:
            root = Tree(candidate, subject.uid, leads.root or "/")
            try:
                return Found(
                    await self._readers.call(partial(self._facts, root, container_id), root.lane)
                )
            except (Absent, Foreign):
                continue
            except Unreadable as error:
                refusal = Unavailable(f"docker.files: {error}")
        return refusal

    async def close(self) -> None:
        self._readers.close()

    def _facts(self, root: Tree, container_id: str) -> Facts:
        name = f"containers/{container_id}/config.v2.json"
        record = _record(root.path(name), root.read(name, _CONTAINER_BYTES), container_id)
        leads = Facts(leads=Leads(docker_root=root.base))
        return joined(_facts_of(record), leads, self._image(root, record))

    def _image(self, root: Tree, record: _Container) -> Facts:
        """The image, and its registry digest where this data root has the image store."""
        named = record.config.image
        image_id = sha256(record.image)
        if image_id is None or not _DRIVER.fullmatch(record.driver):
            return Facts(image=reference.normalise(named) if named else None)
        store = f"image/{record.driver}"
        try:
            index = self._indexes.read(root, f"{store}/repositories.json")
            # Only a config digest is in here; the containerd image store has another kind.
            content = f"{store}/imagedb/content/sha256/{image_id.removeprefix('sha256:')}"
            os.close(root.open(content))
        except Unreadable:
            return image_facts(named, None, None)
        return image_facts(named, image_id, _references(index, image_id))


def _record(path: str, raw: bytes, container_id: str) -> _Container:
    try:
        record = from_json(raw, _Container)
    except NotJsonError as error:
        raise Unreadable(f"{path}: {error}") from None
    if record.id != container_id:
        raise Unreadable(f"{path}: it is another container's")
    return record


def _facts_of(record: _Container) -> Facts:
    """All but the image."""
    facts = facts_of_names(record.name, record.config.labels or {})
    return msgspec.structs.replace(facts, created_ns=rfc3339_ns(record.created))


def facts_of_names(name: str, labels: Mapping[str, str]) -> Facts:
    """What Docker's name and labels of a container say; cri-dockerd's pods are in the labels."""
    pod = from_labels(dict(labels))
    in_pod = pod.pod_name is not None or pod.pod_uid is not None
    return joined(
        pod,
        Facts(
            runtime=Runtime.DOCKER,
            name=name.removeprefix("/") or None,
            sandbox=False,
            labels=dict(labels),
            absent={} if in_pod else dict.fromkeys(_POD_FIELDS, Missing.NOT_IN_POD),
        ),
    )


def image_facts(named: str, image_id: str | None, references: Iterable[str] | None) -> Facts:
    """
    The image by the name its user gave, its config digest, and all its references.

    *references* is None where they are not known; then nothing is said of the digest.
    Docker does not keep with which of several registry digests a tag was pulled. All of
    them name this same image; the others leave as leads.
    """
    if references is None:
        image = None if image_id is None and _SHORT_ID.fullmatch(named) else named
        return Facts(image=reference.normalise(image) if image else None, image_id=image_id)
    known = sorted(references)
    by_id = image_id is not None and _names_id(named, image_id, known)
    image = image_id if by_id else named
    digests = reference.registry_digests(image or "", known)
    return Facts(
        image=reference.normalise(image) if image else None,
        image_id=image_id,
        image_digest=digests[0] if digests else None,
        leads=Leads(digests=tuple(digests[:_DIGESTS])),
        absent={} if digests else {"container_image_digest": Missing.NO_REGISTRY_DIGEST},
    )


def _names_id(named: str, image_id: str, references: Sequence[str]) -> bool:
    """``docker run 4aeeaa410028``; a repository may be called ``cafe``, though."""
    return reference.is_id_of(named, image_id) and f"{named}:latest" not in references


def _references(index: _Index, image_id: str) -> list[str]:
    return [
        known
        for references in index.repositories.values()
        for known, identifier in references.items()
        if identifier == image_id
    ]


def _read_index(raw: bytes) -> _Index:
    try:
        return from_json(raw, _Index)
    except NotJsonError as error:
        raise Unreadable(f"repositories.json: {error}") from None
