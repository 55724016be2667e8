"""
containerd's services by name: one connection, plain calls, plain values.

Importing this costs 55 ms and 20 MB (grpclib, protobuf); containerd.py does so in a
thread, and only when there is something to ask.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from ctrwatch.evidence import rpc
from ctrwatch.evidence.api.containers_pb2 import (
    Container,
    GetContainerRequest,
    GetContainerResponse,
    ListContainerMessage,
    ListContainersRequest,
)
from ctrwatch.evidence.api.content_pb2 import (
    InfoRequest,
    InfoResponse,
    ReadContentRequest,
    ReadContentResponse,
)
from ctrwatch.evidence.api.images_pb2 import (
    GetImageRequest,
    GetImageResponse,
    Image,
    ListImagesRequest,
    ListImagesResponse,
)
from ctrwatch.evidence.api.namespaces_pb2 import ListNamespacesRequest, ListNamespacesResponse
from ctrwatch.evidence.api.tasks_pb2 import ListTasksRequest, ListTasksResponse
from ctrwatch.evidence.api.types_pb2 import Descriptor as Target

__all__ = ("Client", "Container", "Image", "Target", "connected")

_GET_CONTAINER: Final = "/containerd.services.containers.v1.Containers/Get"
_LIST_CONTAINERS: Final = "/containerd.services.containers.v1.Containers/ListStream"
_LIST_TASKS: Final = "/containerd.services.tasks.v1.Tasks/List"
_ALIVE: Final = frozenset({2, 4, 5})  # running, paused, pausing
_GET_IMAGE: Final = "/containerd.services.images.v1.Images/Get"
_LIST_IMAGES: Final = "/containerd.services.images.v1.Images/List"
_LIST_NAMESPACES: Final = "/containerd.services.namespaces.v1.Namespaces/List"
_CONTENT_INFO: Final = "/containerd.services.content.v1.Content/Info"
_READ_CONTENT: Final = "/containerd.services.content.v1.Content/Read"


class Client:
    """Every method raises `Unanswered`; None means: the daemon does not have it."""

    def __init__(self, calls: rpc.Client) -> None:
        self._calls = calls

    async def namespaces(self) -> list[str]:
        answer = await self._calls.call(
            _LIST_NAMESPACES, ListNamespacesRequest(), ListNamespacesResponse
        )
        return [each.name for each in answer.namespaces]

    async def container(self, namespace: str, container_id: str) -> Container | None:
        request = GetContainerRequest(id=container_id)
        try:
            answer = await self._calls.call(
                _GET_CONTAINER, request, GetContainerResponse, namespace
            )
        except rpc.NoSuch:
            return None
        return answer.container

    async def containers(self, namespace: str) -> list[Container]:
        """All of the namespace, with all that is kept of them."""
        answers = await self._calls.stream(
            _LIST_CONTAINERS, ListContainersRequest(), ListContainerMessage, namespace
        )
        return [answer.container for answer in answers]

    async def running(self, namespace: str) -> set[str]:
        """The ids of the containers that have a task which has begun, and has not ended."""
        answer = await self._calls.call(
            _LIST_TASKS, ListTasksRequest(), ListTasksResponse, namespace
        )
        return {task.id for task in answer.tasks if task.status in _ALIVE}

    async def image(self, namespace: str, name: str) -> Image | None:
        request = GetImageRequest(name=name)
        try:
            answer = await self._calls.call(_GET_IMAGE, request, GetImageResponse, namespace)
        except rpc.NoSuch:
            return None
        return answer.image

    async def images_of(self, namespace: str, target: str) -> list[Image]:
        """The images whose target is that digest: an image can have many names."""
        request = ListImagesRequest(filters=[f"target.digest=={target}"])
        answer = await self._calls.call(_LIST_IMAGES, request, ListImagesResponse, namespace)
        return list(answer.images)

    async def content_labels(self, namespace: str, digest: str) -> dict[str, str] | None:
        request = InfoRequest(digest=digest)
        try:
            answer = await self._calls.call(_CONTENT_INFO, request, InfoResponse, namespace)
        except rpc.NoSuch:
            return None
        return dict(answer.info.labels)

    async def content(self, namespace: str, digest: str) -> bytes | None:
        request = ReadContentRequest(digest=digest)
        try:
            parts = await self._calls.stream(_READ_CONTENT, request, ReadContentResponse, namespace)
        except rpc.NoSuch:
            return None
        return b"".join(part.data for part in parts)


@asynccontextmanager
async def connected(socket: str, most: int = rpc.CONNECTION_BYTES) -> AsyncIterator[Client]:
    """*most*: bytes that it may bring."""
    async with rpc.connected(socket, most) as calls:
        yield Client(calls)
