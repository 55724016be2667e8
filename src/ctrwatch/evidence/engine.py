"""
The Docker Engine's API, version 1.24 and later, over its unix socket.

`GET /containers/json` with a filter for the id, then `GET /images/<id>/json`: 1 to 3 ms
each. Never `GET /containers/<id>/json`: while a container starts, that blocks for 170 to
240 ms, because the daemon holds the container's lock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar
from urllib.parse import quote

import msgspec

from ctrwatch.core.image import kind_of_type
from ctrwatch.evidence import http
from ctrwatch.evidence.asking import Daemons, Unanswered, nobody
from ctrwatch.evidence.discover import Sockets, socket_at
from ctrwatch.evidence.docker import facts_of_names, image_facts
from ctrwatch.evidence.lists import LISTED_BYTES, listings
from ctrwatch.evidence.values import NotJsonError, from_json, hex_id, joined, sha256
from ctrwatch.model import (
    Answer,
    ContainerId,
    Facts,
    Found,
    Listing,
    NotFound,
    Record,
    Runtime,
    Subject,
    Unavailable,
)

__all__ = ("DockerEngine", "Listed", "facts_of", "listed")

T = TypeVar("T")

_ANSWER_BYTES: Final = 1 << 20  # measured: 3 KB; labels and long histories make it larger
_OK: Final = 200
_RUNNING: Final = frozenset({"running", "paused", "restarting"})
_NEVER_STARTED: Final = "created"


class Listed(msgspec.Struct, frozen=True, rename="pascal"):
    """A container in the answer to `GET /containers/json`."""

    id: str
    names: list[str] | None = None
    image: str = ""
    image_id: str = msgspec.field(name="ImageID", default="")
    created: int = 0  # seconds
    labels: dict[str, str] | None = None
    state: str = ""


class _Descriptor(msgspec.Struct, frozen=True, rename="camel"):
    media_type: str = ""


class _Image(msgspec.Struct, frozen=True, rename="pascal"):
    id: str
    repo_tags: list[str] | None = None
    repo_digests: list[str] | None = None
    descriptor: _Descriptor | None = None  # API 1.48, of the containerd image store only


class DockerEngine:
    """The source "docker": every Docker socket that is there."""

    name = "docker"

    def __init__(self, sockets: Sockets, back: Callable[[str], None] = nobody) -> None:
        self._sockets = sockets
        self.daemons = Daemons(self.name, _ping, back)

    async def ask(self, subject: Subject) -> Answer:
        container_id = subject.container_id
        if not hex_id(container_id):
            return NotFound()  # no id of Docker's
        sockets = self._sockets.present("docker", subject.uid)
        if not sockets and subject.facts.runtime is Runtime.DOCKER:
            return Unavailable("docker: its socket is gone", away=True)
        return await self.daemons.ask(sockets, lambda socket: self._ask(socket, container_id))

    async def records(self) -> Listing:
        """All containers of every dockerd, those that have ended too."""
        return await listings(self.name, self._sockets.present("docker"), _records)

    async def close(self) -> None:
        await self.daemons.close()

    async def _ask(self, socket: str, container_id: str) -> Answer:
        filters = quote(f'{{"id":["{container_id}"]}}')
        target = f"/containers/json?all=1&filters={filters}"
        response = await http.get(socket, target, _ANSWER_BYTES)
        if response.status != _OK:
            raise Unanswered(f"it answered {response.status} to GET /containers/json")
        container = listed(response.body, container_id)
        if container is None:
            return NotFound()
        return Found(facts_of(container, await self._image(socket, container)))

    async def _image(self, socket: str, container: Listed) -> bytes | None:
        image_id = sha256(container.image_id)
        if image_id is None:
            return None
        response = await http.get(socket, f"/images/{image_id}/json", _ANSWER_BYTES)
        return response.body if response.status == _OK else None


async def _records(socket: str) -> list[Record]:
    response = await http.get(socket, "/containers/json?all=1", LISTED_BYTES)
    if response.status != _OK:
        raise Unanswered(f"it answered {response.status} to GET /containers/json")
    owner = socket_at(socket, None)
    return records_of(response.body, owner.st_uid if owner is not None else 0)


def records_of(body: bytes, uid: int) -> list[Record]:
    """
    Who runs or has run, in an answer to `GET /containers/json`; *uid* is the daemon's.

    One that was made and never started is no container yet. Raises `Unanswered`.
    """
    return [
        Record(
            source=DockerEngine.name,
            runtime=Runtime.DOCKER,
            container_id=ContainerId(each.id),
            uid=uid,
            created_ns=_created_ns(each),
            running=each.state in _RUNNING,
            name=_own_name(each.names or []).removeprefix("/"),
            image=each.image,
        )
        for each in _decoded(body, list[Listed])
        if each.state != _NEVER_STARTED
    ]


def listed(body: bytes, container_id: str) -> Listed | None:
    """The container in an answer to `GET /containers/json`. Raises `Unanswered`."""
    containers = _decoded(body, list[Listed])
    return next((each for each in containers if each.id == container_id), None)


def facts_of(container: Listed, image: bytes | None) -> Facts:
    """
    What is known of a container, and of its *image* by the answer to `GET /images/<id>/json`.

    None: the image was removed, and the container runs on. Raises `Unanswered`.
    """
    names = facts_of_names(_own_name(container.names or []), container.labels or {})
    return joined(names, _of_image(container, image), Facts(created_ns=_created_ns(container)))


def _created_ns(container: Listed) -> int | None:
    return container.created * 1_000_000_000 if 0 < container.created < 1 << 33 else None


def _of_image(container: Listed, body: bytes | None) -> Facts:
    image_id = sha256(container.image_id)
    if image_id is None or body is None:
        return image_facts(container.image, None, None)
    image = _decoded(body, _Image)
    digests = image.repo_digests or []
    facts = image_facts(container.image, image_id, [*digests, *(image.repo_tags or [])])
    if image.descriptor is None and not any(each.endswith(image_id) for each in digests):
        return facts
    # The containerd image store calls the registry digest the image's id.
    return msgspec.structs.replace(
        facts,
        image_id=None,
        digest_kind=kind_of_type(image.descriptor.media_type) if image.descriptor else None,
    )


async def _ping(socket: str) -> None:
    """API 1.24 and later; it is answered when the daemon is up, and touches no container."""
    response = await http.get(socket, "/_ping", _ANSWER_BYTES)
    if response.status != _OK:
        raise Unanswered(f"it answered {response.status} to GET /_ping", away=True)


def _own_name(names: list[str]) -> str:
    """Links of other containers are names too: ``/other/alias``."""
    return next((name for name in names if name.count("/") == 1), "")


def _decoded(body: bytes, kind: type[T]) -> T:
    try:
        return from_json(body, kind)
    except NotJsonError as error:
        raise Unanswered(f"not the JSON of the Engine API: {error}") from None
