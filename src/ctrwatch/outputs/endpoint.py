"""
A small HTTP/1.1 server for who looks at ctrwatch: asyncio's streams and h11.

It shares its event loop with the events, so nobody who connects may cost more than a
little: connections, their number a second, what they send and how long they take are all
bounded, an answer is made at once or not at all, and each connection is for one question.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus
from typing import Final, NamedTuple

import h11

__all__ = ("AT_ONCE", "A_SECOND", "DEADLINE_S", "REQUEST_BYTES", "Endpoint", "Reply")

log = logging.getLogger(__name__)

# A Prometheus or two, somebody with curl, a health check. One more puts the oldest out: an
# honest one is answered within milliseconds.
AT_ONCE: Final = 8
# An answer takes 3 ms, so that who asks without end gets a thirtieth of the event loop's time; a
# seventh with the most series that `--metrics-containers` can ask for.
A_SECOND: Final = 10
REQUEST_BYTES: Final = 8192  # its line and headers; Prometheus sends 300
_CHUNK: Final = 4096
# What may come after the request is read and forgotten, so that the kernel, which otherwise
# breaks the connection, lets the answer through.
_REST_BYTES: Final = 65536
DEADLINE_S: Final = 5.0  # of a whole connection; Prometheus itself gives up after 10
_QUIET_S: Final = 60.0  # between two words in the log

_TEXT: Final = "text/plain; charset=utf-8"


class Reply(NamedTuple):
    status: int
    body: bytes
    type: str = _TEXT


class Endpoint:
    """Answers `GET` on the *routes*, by path. *listener* stays the caller's, and doesn't block."""

    def __init__(self, listener: socket.socket, routes: Mapping[str, Callable[[], Reply]]) -> None:
        self._listener, self._routes = listener, routes
        self._open: dict[asyncio.Task[None], None] = {}  # oldest first
        self._due_s = 0.0  # loop time; when the next would come at an even beat
        self._quiet_until_s = 0.0

    async def serve(self) -> None:
        """Until cancelled; then every connection is closed."""
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as tasks:
            while True:
                try:
                    connection, _ = await loop.sock_accept(self._listener)
                except OSError as error:  # no descriptors left, or the peer has gone
                    self._complain(f"a connection can't be accepted: {error.strerror}")
                    await asyncio.sleep(1 / A_SECOND)
                    continue
                if len(self._open) >= AT_ONCE:
                    oldest = next(iter(self._open))
                    del self._open[oldest]
                    oldest.cancel()
                task = tasks.create_task(self._serve(connection), name="metrics connection")
                self._open[task] = None
                task.add_done_callback(partial(self._ended, connection))
                await self._keep_the_beat()

    def _ended(self, connection: socket.socket, task: asyncio.Task[None]) -> None:
        self._open.pop(task, None)
        connection.close()  # also where it was put out before its task had begun

    async def _keep_the_beat(self) -> None:
        """A handful at once is well; who comes after waits in the kernel's queue."""
        now_s = asyncio.get_running_loop().time()
        self._due_s = max(now_s, self._due_s) + 1 / A_SECOND
        ahead_s = self._due_s - now_s - AT_ONCE / A_SECOND
        if ahead_s > 0:
            await asyncio.sleep(ahead_s)

    def _complain(self, what: str) -> None:
        now_s = asyncio.get_running_loop().time()
        if now_s >= self._quiet_until_s:
            self._quiet_until_s = now_s + _QUIET_S
            log.warning("metrics: %s", what)

    # --- one connection -----------------------------------------------------------------

    async def _serve(self, connection: socket.socket) -> None:
        try:
            reader, writer = await asyncio.open_connection(sock=connection, limit=_CHUNK)
            try:
                async with asyncio.timeout(DEADLINE_S):
                    await self._converse(reader, writer)
            finally:
                writer.transport.abort()
        except OSError as error:  # a peer that is slow, or breaks off, is its own matter
            log.info("metrics: a connection ended early: %s", str(error) or "too slow")
        except Exception:  # a fault in what is only looked at must not end the watch
            log.exception("metrics: a connection failed; please report this")

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        http, event = h11.Connection(h11.SERVER, max_incomplete_event_size=REQUEST_BYTES), None
        try:
            while (event := http.next_event()) is h11.NEED_DATA:
                http.receive_data(await reader.read(_CHUNK))
        except h11.RemoteProtocolError as error:
            reply = Reply(error.error_status_hint, b"this is no request that can be read\n")
        else:
            if not isinstance(event, h11.Request):
                return  # it asked nothing
            reply = self._answer(event)
        bodiless = isinstance(event, h11.Request) and event.method == b"HEAD"
        writer.write(_written(http, reply, bodiless=bodiless))
        writer.write_eof()
        await writer.drain()
        rest = _REST_BYTES
        while rest > 0 and (data := await reader.read(_CHUNK)):
            rest -= len(data)

    def _answer(self, request: h11.Request) -> Reply:
        route = self._routes.get(request.target.partition(b"?")[0].decode("latin-1"))
        if route is None:
            return Reply(404, f"there is {' and '.join(self._routes)}\n".encode())
        if request.method != b"GET":
            return Reply(405, b"only GET\n")
        try:
            return route()
        except Exception:  # a fault in what is only looked at must not end the watch
            log.exception("metrics: an answer failed; please report this")
            return Reply(500, b"an answer failed; the log says more\n")


def _written(http: h11.Connection, reply: Reply, *, bodiless: bool) -> bytes:
    headers = [
        ("Content-Type", reply.type),
        ("Content-Length", str(len(reply.body))),
        ("Connection", "close"),
        *([("Allow", "GET")] if reply.status == HTTPStatus.METHOD_NOT_ALLOWED else []),
    ]
    events = (
        h11.Response(
            status_code=reply.status, reason=HTTPStatus(reply.status).phrase, headers=headers
        ),
        h11.Data(data=b"" if bodiless else reply.body),
        h11.EndOfMessage(),
    )
    return b"".join(http.send(event) or b"" for event in events)
