"""
The CRI's questions by name: one connection, plain calls, plain values.

Importing this costs 55 ms and 20 MB (grpclib, protobuf); evidence/cri.py does so in a
thread, and only when there is something to ask.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from ctrwatch.evidence import rpc
from ctrwatch.evidence.api.cri_pb2 import (
    Container,
    ContainerFilter,
    Image,
    ImageSpec,
    ImageStatusRequest,
    ImageStatusResponse,
    ListContainersRequest,
    ListContainersResponse,
    ListPodSandboxRequest,
    ListPodSandboxResponse,
    PodSandbox,
    PodSandboxFilter,
    VersionRequest,
    VersionResponse,
)

__all__ = ("Client", "Container", "Image", "PodSandbox", "connected")

_RUNTIME: Final = "/runtime.v1.RuntimeService/"
_IMAGES: Final = "/runtime.v1.ImageService/"


class Client:
    """Every method raises `Unanswered`; None means: the daemon does not have it."""

    def __init__(self, calls: rpc.Client) -> None:
        self._calls = calls

    async def runtime(self) -> tuple[str, str]:
        """Name and version of who answers: ``("cri-o", "1.37.0")``."""
        answer = await self._calls.call(_RUNTIME + "Version", VersionRequest(), VersionResponse)
        return answer.runtime_name, answer.runtime_version

    async def container(self, container_id: str) -> Container | None:
        request = ListContainersRequest(filter=ContainerFilter(id=container_id))
        answer = await self._calls.call(
            _RUNTIME + "ListContainers", request, ListContainersResponse
        )
        # The filter takes the beginning of an id, too.
        return next((each for each in answer.containers if each.id == container_id), None)

    async def sandbox(self, sandbox_id: str) -> PodSandbox | None:
        request = ListPodSandboxRequest(filter=PodSandboxFilter(id=sandbox_id))
        answer = await self._calls.call(
            _RUNTIME + "ListPodSandbox", request, ListPodSandboxResponse
        )
        return next((each for each in answer.items if each.id == sandbox_id), None)

    async def containers(self) -> list[Container]:
        answer = await self._calls.call(
            _RUNTIME + "ListContainers", ListContainersRequest(), ListContainersResponse
        )
        return list(answer.containers)

    async def sandboxes(self) -> list[PodSandbox]:
        answer = await self._calls.call(
            _RUNTIME + "ListPodSandbox", ListPodSandboxRequest(), ListPodSandboxResponse
        )
        return list(answer.items)

    async def image(self, name: str) -> Image | None:
        request = ImageStatusRequest(image=ImageSpec(image=name))
        try:
            answer = await self._calls.call(_IMAGES + "ImageStatus", request, ImageStatusResponse)
        except rpc.NoSuch:
            return None
        return answer.image if answer.HasField("image") else None


@asynccontextmanager
async def connected(socket: str, most: int = rpc.CONNECTION_BYTES) -> AsyncIterator[Client]:
    """*most*: bytes that it may bring."""
    async with rpc.connected(socket, most) as calls:
        yield Client(calls)
