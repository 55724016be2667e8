"""
containerd's images: which one a container was made from, and what a registry called it.

An image in containerd is a name and a target: the digest of an index or a manifest in its
content store. A name can be given to another image at any time, so a name alone is no
proof of what a container runs:

* The CRI keeps the config digest with each container, in an extension of its record
  ("io.cri-containerd.container.metadata", containerd 1.1 to 2.x); a name's target counts
  if it leads to that config.
* `ctr` and nerdctl keep nothing but the name; its target counts if the name has not been
  touched since the container was made.

What was pulled has a label with the registry it came from on each piece of content; what
was imported or built has none, and no registry digest.
"""

from __future__ import annotations

import platform
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from ctrwatch.core import reference
from ctrwatch.core.image import Descriptor, Kind, Manifest, Platform, kind_of_type
from ctrwatch.evidence.asking import Unanswered
from ctrwatch.evidence.values import NotJsonError, from_json, sha256
from ctrwatch.model import Facts, Leads, Missing

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp

    from ctrwatch.evidence.api.client import Client, Container, Target

__all__ = ("Images", "nanoseconds", "of_dockers")

_EXTENSION: Final = "io.cri-containerd.container.metadata"
_PULLED: Final = "containerd.io/distribution.source."  # of a label: the registry, without port
_MANIFEST_BYTES: Final = 2 << 20  # measured: 1 to 20 KB; an index and a manifest fit one answer
_KNOWN_CONFIGS: Final = 512  # targets whose config digest is remembered: content never changes
_VARIANTS: Final = 8  # of one architecture in an index
_NAMES: Final = 256  # of one image, looked through
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
_NO_IMAGE: Final = dict.fromkeys(("container_image", "container_image_digest"), Missing.NO_IMAGE)


class _Asked(msgspec.Struct, frozen=True):
    """The CRI's ImageSpec."""

    image: str = ""
    user_specified_image: str = ""  # kubelet 1.28 and later: as it stands in the pod


class _Config(msgspec.Struct, frozen=True):
    image: _Asked = _Asked()


class _Metadata(msgspec.Struct, frozen=True, rename="pascal"):
    config: _Config
    image_ref: str = ""  # config digest


class _Extension(msgspec.Struct, frozen=True, rename="pascal"):
    metadata: _Metadata


class Images:
    def __init__(self) -> None:
        self._configs: OrderedDict[str, str] = OrderedDict()  # target: config digest
        machine = platform.machine()
        self._mine = Platform(_ARCHITECTURES.get(machine, machine), "linux")

    async def of(self, client: Client, namespace: str, record: Container, seen: str) -> Facts:
        """
        What is known of the image of a container; *seen* is its name in the bundle, or "".

        Raises `Unanswered`.
        """
        metadata = _metadata(record)
        if metadata is not None:
            return await self._of_the_cri(client, namespace, record, metadata, seen)
        return await self._of_a_name(client, namespace, record) if record.image else _no_image()

    async def _of_the_cri(
        self, client: Client, namespace: str, record: Container, metadata: _Metadata, seen: str
    ) -> Facts:
        """The bundle and the record have any name of the image; the request has the asked one."""
        asked = metadata.config.image
        named = asked.user_specified_image or asked.image
        if not named or reference.is_image_id(named):  # the kubelet resolves names by itself
            named = seen or record.image
        image_id = sha256(metadata.image_ref)
        target = await self._target(client, namespace, named, image_id)
        if reference.is_image_id(named) and target is not None:
            named = await _best_name(client, namespace, target.digest) or named
        return msgspec.structs.replace(
            await _registry_digest(client, namespace, target),
            image=reference.normalise(named),
            image_id=image_id,
            leads=Leads(image_ref=record.image),
            corrects=("image",),
        )

    async def _of_a_name(self, client: Client, namespace: str, record: Container) -> Facts:
        image = await client.image(namespace, record.image)
        if image is not None and nanoseconds(image.updated_at) > nanoseconds(record.created_at):
            image = None  # it may be another by now
        target = image.target if image is not None else None
        facts = await _registry_digest(client, namespace, target)
        image_id = await self._config(client, namespace, target) if target is not None else None
        return msgspec.structs.replace(
            facts,
            image=reference.normalise(record.image),
            image_id=image_id,
            leads=Leads(image_ref=record.image),
            absent=facts.absent if image_id else {**facts.absent, "image.id": Missing.NOT_RECORDED},
        )

    async def _target(
        self, client: Client, namespace: str, named: str, image_id: str | None
    ) -> Target | None:
        """What *named* stands for, if that is the image; else what the image's id stands for."""
        if image_id is None:
            return None
        image = await client.image(namespace, _key(named))
        if image is not None and await self._config(client, namespace, image.target) == image_id:
            return image.target
        image = await client.image(namespace, image_id)  # the CRI keeps each under its id too
        return image.target if image is not None else None

    async def _config(self, client: Client, namespace: str, target: Target) -> str | None:
        """The config digest of this machine's image under *target*."""
        if target.digest in self._configs:
            return self._configs[target.digest]
        manifest = await _content(client, namespace, target.digest, target.size)
        if manifest is not None and manifest.manifests is not None:
            manifest = await self._chosen(client, namespace, manifest.manifests)
        config = sha256(manifest.config.digest) if manifest and manifest.config else None
        if config is not None:
            self._configs[target.digest] = config
            if len(self._configs) > _KNOWN_CONFIGS:
                self._configs.popitem(last=False)
        return config

    async def _chosen(
        self, client: Client, namespace: str, manifests: Sequence[Descriptor]
    ) -> Manifest | None:
        """This machine's; of several variants the one that was pulled is here."""
        mine = [each for each in manifests if each.platform == self._mine]
        for each in mine[:_VARIANTS]:
            manifest = await _content(client, namespace, each.digest, each.size)
            if manifest is not None:
                return manifest
        return None


async def of_dockers(client: Client, namespaces: Sequence[str], digests: Sequence[str]) -> Facts:
    """
    Which of the registry digests that Docker has for an image a tag stands for, and its kind.

    A tag of an image for several platforms stands for their index. dockerd 20.10 and later
    keeps in containerd what it pulled, but not what it pushed, nor what was there already
    in one of the other *namespaces*; the same digest is the same content in each. Raises
    `Unanswered`.
    """
    kinds: dict[str, Kind] = {}
    for namespace in namespaces:
        for digest in digests:
            manifest = None if digest in kinds else await _content(client, namespace, digest)
            if manifest is not None and manifest.kind is not None:
                kinds[digest] = manifest.kind
        if len(kinds) == len(digests):
            break
    if not kinds:
        return Facts(absent={"image.digest_kind": Missing.NOT_RECORDED})
    best = min(kinds, key=lambda digest: (kinds[digest] != "index", digest))
    if best == digests[0]:
        return Facts(digest_kind=kinds[best])
    return Facts(image_digest=best, digest_kind=kinds[best], corrects=("image_digest",))


def nanoseconds(time: Timestamp) -> int:
    """Since the epoch; 0 for what was never set."""
    return time.seconds * 1_000_000_000 + time.nanos


async def _registry_digest(client: Client, namespace: str, target: Target | None) -> Facts:
    digest = sha256(target.digest) if target is not None else None
    if target is None or digest is None:
        return Facts(absent={"container_image_digest": Missing.NOT_RECORDED})
    labels = await client.content_labels(namespace, digest)
    if labels is not None and not any(label.startswith(_PULLED) for label in labels):
        return Facts(absent={"container_image_digest": Missing.NO_REGISTRY_DIGEST})
    return Facts(image_digest=digest, digest_kind=kind_of_type(target.media_type))


async def _content(client: Client, namespace: str, digest: str, size: int = 0) -> Manifest | None:
    """None for what is not here, is too large or no manifest."""
    if size > _MANIFEST_BYTES or sha256(digest) != digest:
        return None
    raw = await client.content(namespace, digest)
    try:
        return None if raw is None else from_json(raw, Manifest)
    except NotJsonError:
        return None


async def _best_name(client: Client, namespace: str, target: str) -> str | None:
    """A name for the image with that target: one with a tag, else one with a digest."""
    images = await client.images_of(namespace, target)
    names = [each.name for each in images[:_NAMES] if sha256(each.name) is None]
    return min(names, key=lambda name: ("@" in name, name), default=None)


def _metadata(record: Container) -> _Metadata | None:
    """What the CRI keeps of a container; None where there is no CRI, and for a pod's sandbox."""
    if _EXTENSION not in record.extensions:
        return None
    try:
        return from_json(record.extensions[_EXTENSION].value, _Extension).metadata
    except NotJsonError as error:
        raise Unanswered(f"the CRI's record of a container: {error}") from None


def _key(named: str) -> str:
    """Under which the CRI keeps the image: where there is a digest, the tag means nothing."""
    parsed = reference.parse(reference.normalise(named))
    if parsed is None:
        return named
    return str(parsed._replace(tag="") if parsed.digest else parsed)


def _no_image() -> Facts:
    return Facts(absent=dict(_NO_IMAGE))
