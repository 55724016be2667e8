"""
One HTTP/1.1 GET over a unix socket: asyncio's streams and h11, nothing remembered.

A connection for each question costs 0.2 ms and needs no care when a daemon restarts;
what is asked is only ever read.
"""

from __future__ import annotations

import asyncio
from typing import Final, NamedTuple

import h11

from ctrwatch.evidence.asking import Unanswered

__all__ = ("Response", "answered", "get")

_CHUNK: Final = 64 * 1024
_HEADERS: Final = 16 * 1024  # bytes of the status line and headers


class Response(NamedTuple):
    status: int
    body: bytes


async def get(socket: str, target: str, limit: int) -> Response:
    """
    The answer to ``GET target``, its body at most *limit* bytes.

    Raises `Unanswered`. May be cancelled at any await: the socket is closed at once.
    """
    try:
        reader, writer = await asyncio.open_unix_connection(socket, limit=_CHUNK)
    except OSError as error:
        raise Unanswered(error.strerror or "no connection", away=True) from None
    try:
        return await answered(reader, writer, target, limit)
    finally:
        writer.transport.abort()


async def answered(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: str, limit: int
) -> Response:
    """The same over a connection that is there."""
    try:
        return await _exchange(reader, writer, target, limit)
    except h11.RemoteProtocolError as error:
        raise Unanswered(f"not HTTP: {error}", away=True) from None
    except OSError as error:
        raise Unanswered(error.strerror or "the connection broke", away=True) from None


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: str, limit: int
) -> Response:
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEADERS)
    request = h11.Request(
        method="GET", target=target, headers=[("Host", "localhost"), ("Connection", "close")]
    )
    for event in (request, h11.EndOfMessage()):
        writer.write(connection.send(event) or b"")
    await writer.drain()
    status, body, size = 0, [], 0
    while True:
        match connection.next_event():
            case h11.NEED_DATA:
                connection.receive_data(await reader.read(_CHUNK))
            case h11.Response(status_code=status, headers=headers):
                _within(limit, int(dict(headers).get(b"content-length", 0)))
            case h11.Data(data=data):
                size += len(data)
                _within(limit, size)
                body.append(bytes(data))
            case h11.EndOfMessage():
                return Response(status, b"".join(body))
            case h11.ConnectionClosed() | h11.PAUSED:
                raise Unanswered("closed before it answered", away=True)
            case _:  # informational responses
                pass


def _within(limit: int, size: int) -> None:
    if size > limit:
        raise Unanswered(f"an answer larger than {limit} bytes")
