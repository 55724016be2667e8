"""
gRPC calls over a unix socket: grpclib, with a bound on what a daemon may send.

grpclib would wait for a message of 4 GB if one were announced; here a connection ends
when it has brought more than its limit. Import this module only when a question needs
it: grpclib, h2 and protobuf cost 55 ms and 20 MB.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from google.protobuf.message import DecodeError, Message
from grpclib.client import Channel, ServiceMethod, UnaryStreamMethod, UnaryUnaryMethod
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from grpclib.protocol import H2Protocol

from ctrwatch.evidence.asking import Unanswered

__all__ = ("CONNECTION_BYTES", "Client", "NoSuch", "connected")

Reply = TypeVar("Reply", bound=Message)

CONNECTION_BYTES: Final = 8 << 20  # of all answers to one question
_NAMESPACE: Final = "containerd-namespace"


class NoSuch(Unanswered):
    """The daemon answered: it does not have that. Where it must, that is no answer."""


class Client:
    """Calls over one connection."""

    def __init__(self, channel: _Channel) -> None:
        self._channel = channel

    async def call(
        self, method: str, request: Message, reply: type[Reply], namespace: str = ""
    ) -> Reply:
        """The answer to a unary call. Raises `NoSuch`, `Unanswered`."""
        open_call = UnaryUnaryMethod[Message, Reply](self._channel, method, type(request), reply)
        answers = await self._exchange(open_call, request, namespace)
        if not answers:
            raise Unanswered("an empty answer")
        return answers[0]

    async def stream(
        self, method: str, request: Message, reply: type[Reply], namespace: str = ""
    ) -> list[Reply]:
        """All answers to a call that is answered by a stream. Raises `NoSuch`, `Unanswered`."""
        open_call = UnaryStreamMethod[Message, Reply](self._channel, method, type(request), reply)
        return await self._exchange(open_call, request, namespace)

    async def _exchange(
        self, method: ServiceMethod[Message, Reply], request: Message, namespace: str
    ) -> list[Reply]:
        metadata = {_NAMESPACE: namespace} if namespace else {}
        try:
            async with method.open(metadata=metadata) as stream:
                await stream.send_message(request, end=True)
                return [answer async for answer in stream]
        except GRPCError as error:
            why = f"{error.status.name}: {(error.message or '')[:200]}"
            if error.status is Status.NOT_FOUND:
                raise NoSuch(why) from None
            raise Unanswered(why, away=error.status is Status.UNAVAILABLE) from None
        except OSError as error:
            raise Unanswered(error.strerror or "the connection broke", away=True) from None
        except DecodeError as error:  # of this one message
            raise Unanswered(f"not its protobuf: {str(error)[:200]}") from None
        except Exception as error:  # noqa: BLE001
            # What grpclib, h2, hpack and protobuf raise for a daemon's bytes is an open list:
            # errors of their own, AssertionError, NotImplementedError, struct.error, …
            what = f"{type(error).__name__}: {str(error)[:200]}"
            raise Unanswered(
                self._channel.refused or what, away=not self._channel.too_large
            ) from None


@asynccontextmanager
async def connected(socket: str, most: int = CONNECTION_BYTES) -> AsyncIterator[Client]:
    """
    A connection for one question; it is made with the first call, and closed at once.

    *most*: bytes that it may bring.
    """
    channel = _Channel(path=socket)
    channel.most = most
    try:
        yield Client(channel)
    finally:
        channel.close()


class _Protocol(H2Protocol):
    most = left = CONNECTION_BYTES
    refused = ""  # why this end closed the connection
    too_large = False

    def data_received(self, data: bytes) -> None:
        self.left -= len(data)
        if self.left < 0:
            self.too_large = True
            self._refuse(f"an answer larger than {self.most} bytes")
            return
        try:
            super().data_received(data)
        except Exception as error:  # noqa: BLE001 - as above; asyncio would print a stack trace
            self._refuse(f"not gRPC: {type(error).__name__}")

    def _refuse(self, why: str) -> None:
        self.refused = self.refused or why
        self.processor.close(why)


class _Channel(Channel):
    _made: _Protocol | None = None
    most = CONNECTION_BYTES

    @property
    def refused(self) -> str:
        return self._made.refused if self._made is not None else ""

    @property
    def too_large(self) -> bool:
        return self._made is not None and self._made.too_large

    def _get_authority(self, host: str, port: int) -> str:
        del host, port  # some servers refuse anything but this, or a socket's path
        return "localhost"

    def _protocol_factory(self) -> H2Protocol:
        made: Any = super()._protocol_factory()
        self._made = _Protocol(made.handler, made.config, made.h2_config)
        self._made.most = self._made.left = self.most
        return self._made
