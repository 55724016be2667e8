"""Daemons on unix sockets: honest ones that play recorded answers, and every kind of bad one."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message
from grpclib.const import Cardinality, Handler, Status
from grpclib.encoding.base import CodecBase
from grpclib.exceptions import GRPCError
from grpclib.server import Server, Stream

from ctrwatch.evidence.api import cri_pb2 as cri
from tests.contract.data import DATA

Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(socket: Path, behaviour: Behaviour) -> AsyncIterator[None]:
    tasks: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await behaviour(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # the client has had enough, or the test is over
        finally:
            writer.transport.abort()

    server = await asyncio.start_unix_server(accept, socket)
    try:
        yield
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


# --- bad ones -------------------------------------------------------------------------


def _head(length: int) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n".encode()


async def hangs(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def closes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)


def says(data: bytes) -> Behaviour:
    """Send *data* whatever was asked, then close."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(data)
        await writer.drain()

    return behave


async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An honest-looking answer without an end."""
    await reader.read(1)
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"100000\r\n" + b" " * (1 << 20) + b"\r\n")
        await writer.drain()


async def drips(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    for byte in _head(1000):
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0)
    await asyncio.Event().wait()


_SETTINGS = bytes.fromhex("000000040000000000")  # an empty SETTINGS frame of HTTP/2


def _grpc(payload: bytes) -> bytes:
    """HTTP/2 headers (200, application/grpc by HPACK literals) and a DATA frame, stream 1."""
    headers = b"\x88\x0f\x10\x10application/grpc"
    return (
        _SETTINGS
        + len(headers).to_bytes(3, "big") + b"\x01\x04\x00\x00\x00\x01" + headers
        + len(payload).to_bytes(3, "big") + b"\x00\x00\x00\x00\x00\x01" + payload
    )  # fmt: skip


BAD: dict[str, Behaviour] = {
    "closes early": closes,
    "garbage": says(b"\x00\xff\xfe!" * 1000),
    "error page": says(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\n\r\noops"),
    "forbidden": says(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"),
    "not json": says(_head(3) + b"<x>"),
    "another json": says(_head(13) + b'{"message":1}'),
    "not utf-8": says(_head(18) + b'[{"Id": "\xff\xff\xff\xff\xff"}]'[:18]),
    "deep json": says(_head(200_000) + b"[" * 200_000),
    "wrong types": says(_head(26) + b'[{"Id": 1, "Names": "no"}]'),
    "truncated": says(_head(1000) + b'[{"Id": "'),
    "length that is none": says(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"),
    "chunk that is none": says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
    "endless header": says(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000),
    "endless": endless,
    "fifty megabytes": says(_head(50 << 20) + b"["),
    "http/2 settings only": says(_SETTINGS),
    "http/2 goaway": says(_SETTINGS + bytes.fromhex("0000080700000000000000000000000002")),
    "http/2 reset": says(_SETTINGS + bytes.fromhex("00000403000000000100000002")),
    "http/2 unknown frame": says(_SETTINGS + bytes.fromhex("000001fa000000000000")),
    "grpc of 4 GB": says(_grpc(b"\x00\xff\xff\xff\xff" + b"x" * 100)),
    "grpc compressed": says(_grpc(b"\x01\x00\x00\x00\x01x")),
    "grpc not protobuf": says(_grpc(b"\x00\x00\x00\x00\x02\xff\xff")),
    "grpc half a message": says(_grpc(b"\x00\x00\x00\x00\x10abc")),
}

SILENT: dict[str, Behaviour] = {"hangs": hangs, "drips": drips}


# --- honest ones ----------------------------------------------------------------------


def docker(answers: dict[str, bytes]) -> Behaviour:
    """The Engine API: the answer to the first path that the request line contains."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0].decode()
        assert line.startswith("GET ")
        body = next((body for path, body in answers.items() if path in line), None)
        if body is None:
            body = b'{"message":"no such thing"}'
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n" % len(body))
        else:
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for at in range(0, len(body), 100):
                part = body[at : at + 100]
                writer.write(b"%x\r\n%b\r\n" % (len(part), part))
            body = b"0\r\n\r\n"
        writer.write(body)
        await writer.drain()

    return behave


class _Raw(CodecBase):
    __content_subtype__ = "proto"

    def encode(self, message: Any, message_type: Any) -> bytes:  # noqa: ARG002
        return bytes(message)

    def decode(self, data: bytes, message_type: Any) -> bytes:  # noqa: ARG002
        return data


CONTENT_INFO = "/containerd.services.content.v1.Content/Info"


class Recorded:
    """containerd, from answers.json; what was not recorded is NOT_FOUND."""

    def __init__(self) -> None:
        recorded = json.loads((DATA / "containerd/answers.json").read_text())
        self.answers = {
            (each["namespace"], each["method"], base64.b64decode(each["request"])): [
                base64.b64decode(answer) for answer in each["answers"]
            ]
            for each in recorded
        }
        self.asked: list[str] = []

    def __mapping__(self) -> dict[str, Handler]:
        methods = {method for _, method, _ in self.answers} | {CONTENT_INFO}
        return {method: self._handler(method) for method in methods}

    def _handler(self, method: str) -> Handler:
        async def handle(stream: Stream[bytes, bytes]) -> None:
            request = await stream.recv_message()
            namespace = str(dict(stream.metadata or ()).get("containerd-namespace", ""))
            self.asked.append(method.rpartition(".")[2])
            answers = self.answers.get((namespace, method, request or b""))
            if answers is None:
                raise GRPCError(Status.NOT_FOUND, "not found")
            for answer in answers:
                await stream.send_message(answer)

        stream = Cardinality.UNARY_STREAM if method.endswith("/Read") else Cardinality.UNARY_UNARY
        return Handler(handle, stream, bytes, bytes)


class Huge:
    """50 MB, whatever is asked."""

    def __mapping__(self) -> dict[str, Handler]:
        async def handle(stream: Stream[bytes, bytes]) -> None:
            await stream.recv_message()
            await stream.send_message(bytes(50 << 20))

        methods = (
            "/containerd.services.namespaces.v1.Namespaces/List",
            "/runtime.v1.RuntimeService/ListContainers",
        )
        return {
            method: Handler(handle, Cardinality.UNARY_UNARY, bytes, bytes) for method in methods
        }


class RecordedCri:
    """CRI-O 1.37, from what a real one answered (tests/data/crio); one container, one pod."""

    def __init__(self) -> None:
        self.containers = _crio("list_containers.json")["containers"]
        self.images = _crio("list_images.json")["images"]
        sandbox = _crio("sandbox_status.json")["status"]
        self.sandboxes = [{key: sandbox[key] for key in ("id", "metadata", "created_at", "labels")}]
        self.name = _crio("version.json")["runtime_name"]
        self.asked: list[str] = []

    def __mapping__(self) -> dict[str, Handler]:
        return {
            "/runtime.v1.RuntimeService/Version": self._handler(
                cri.VersionRequest, lambda _: (cri.VersionResponse(), {"runtime_name": self.name})
            ),
            "/runtime.v1.RuntimeService/ListContainers": self._handler(
                cri.ListContainersRequest,
                lambda request: (
                    cri.ListContainersResponse(),
                    {"containers": _of(self.containers, request.filter.id)},
                ),
            ),
            "/runtime.v1.RuntimeService/ListPodSandbox": self._handler(
                cri.ListPodSandboxRequest,
                lambda request: (
                    cri.ListPodSandboxResponse(),
                    {"items": _of(self.sandboxes, request.filter.id)},
                ),
            ),
            "/runtime.v1.ImageService/ImageStatus": self._handler(
                cri.ImageStatusRequest,
                lambda request: (cri.ImageStatusResponse(), self._image(request.image.image)),
            ),
        }

    def _image(self, name: str) -> dict[str, Any]:
        for image in self.images:
            if name in (image["id"], *image["repo_tags"], *image["repo_digests"]):
                return {"image": image}
        return {}

    def _handler(self, kind: Any, answer: Callable[[Any], tuple[Message, Any]]) -> Handler:
        async def handle(stream: Stream[bytes, bytes]) -> None:
            request = kind.FromString(await stream.recv_message())
            self.asked.append(kind.DESCRIPTOR.name)
            message, said = answer(request)
            ParseDict(said, message, ignore_unknown_fields=True)
            await stream.send_message(message.SerializeToString())

        return Handler(handle, Cardinality.UNARY_UNARY, bytes, bytes)


def _crio(name: str) -> Any:
    return json.loads((DATA / "crio" / name).read_text())


def _of(records: list[Any], beginning: str) -> list[Any]:
    """As CRI-O's filter takes an id: its beginning is enough."""
    return [each for each in records if each["id"].startswith(beginning)]


@asynccontextmanager
async def serving(socket: Path, daemon: Recorded | RecordedCri | Huge) -> AsyncIterator[None]:
    server = Server([daemon], codec=_Raw())
    await server.start(path=str(socket))
    try:
        yield
    finally:
        server.close()
        with suppress(TimeoutError):  # a question that still hangs is no reason to
            await asyncio.wait_for(server.wait_closed(), 2)
