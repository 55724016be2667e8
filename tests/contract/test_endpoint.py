"""The endpoint under every kind of client: an honest one is answered, no other costs much."""

from __future__ import annotations

import asyncio
import resource
import socket as sockets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import h11
import pytest
from hypothesis import given, strategies as st

from ctrwatch.outputs import endpoint, listening
from ctrwatch.outputs.endpoint import Endpoint, Reply
from ctrwatch.outputs.listening import Listening

SCRAPE = b"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: text/plain\r\n\r\n"
PATIENCE_S = 20  # for what takes milliseconds


class Served:
    """An endpoint at work, and how to reach it."""

    def __init__(self, there: Listening, routes: Mapping[str, Callable[[], Reply]]) -> None:
        self.address = there.socket.getsockname()
        self.endpoint = Endpoint(there.socket, routes)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self.address, str):
            return await asyncio.open_unix_connection(self.address)
        return await asyncio.open_connection(*self.address[:2])

    async def says(self, request: bytes) -> tuple[str, bytes]:
        """The status line and the body of the answer to *request*."""
        reader, writer = await self.connect()
        writer.write(request)
        answer = await reader.read()
        writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        return head.decode().partition("\r\n")[0], body


@asynccontextmanager
async def served(
    given: str = "127.0.0.1:0", routes: Mapping[str, Callable[[], Reply]] | None = None
) -> AsyncIterator[Served]:
    well = {"/metrics": lambda: Reply(200, b"up 1\n"), "/healthz": lambda: Reply(503, b"{}\n")}
    with Listening(given) as there:
        made = Served(there, routes or well)
        async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(made.endpoint.serve())
            yield made
            serving.cancel()


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 - nobody announces it
        await asyncio.sleep(0)


async def without_end(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"x" * 65536)
        await writer.drain()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "_BACKLOG", 128)  # what overflows it is sent again after 1 s
    monkeypatch.setattr(endpoint, "A_SECOND", 1000)


@pytest.mark.parametrize("kind", ["tcp", "v6", "unix"])
async def test_an_honest_scrape_is_answered_and_the_connection_closed(
    kind: str, socket: Path
) -> None:
    given = {"tcp": "127.0.0.1:0", "v6": "[::1]:0", "unix": f"unix:{socket}"}[kind]
    async with served(given) as made:
        for _ in range(3):
            assert await made.says(SCRAPE) == ("HTTP/1.1 200 OK", b"up 1\n")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        pytest.param(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 503, id="health"),
        pytest.param(b"GET /metrics?x=y HTTP/1.1\r\nHost: x\r\n\r\n", 200, id="query"),
        pytest.param(b"GET /metrics HTTP/1.0\r\n\r\n", 200, id="http-1.0"),
        pytest.param(
            b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n", 200, id="body-to-come"
        ),
        pytest.param(SCRAPE * 20, 200, id="pipelined"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 404, id="root"),
        pytest.param(b"GET /metrics/ HTTP/1.1\r\nHost: x\r\n\r\n", 404, id="slash"),
        pytest.param(b"GET /../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", 404, id="another-file"),
        pytest.param(b"GET /\xe9 HTTP/1.1\r\nHost: x\r\n\r\n", 400, id="target-of-bytes"),
        pytest.param(b"POST /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 405, id="post"),
        pytest.param(b"DELETE /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 405, id="delete"),
        pytest.param(b"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 405, id="head"),
        pytest.param(b"GET /metrics HTTP/1.1\r\n\r\n", 400, id="no-host"),
        pytest.param(b"GET /metrics HTTP/1.1\r\nHost: x\r\n bad\r\n: y\r\n\r\n", 400, id="header"),
        pytest.param(b"GET /metrics SPDY/9\r\n\r\n", 400, id="another-protocol"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n", 400, id="tls"),
        pytest.param(b"\0" * 100 + b"\r\n\r\n", 400, id="nul"),
        pytest.param(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 404, id="http-2"
        ),
        pytest.param(b"GET /" + b"a" * 100_000, 431, id="endless-line"),
        pytest.param(
            b"GET /metrics HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * 10_000, 431, id="endless-headers"
        ),
        pytest.param(
            b"GET /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: br\r\n\r\n", 501, id="encoding"
        ),
    ],
)  # fmt: skip
async def test_a_request_has_its_status(request_: bytes, status: int) -> None:
    async with served() as made:
        line, body = await made.says(request_)

        assert line.split()[1] == str(status)
        assert (body == b"") == request_.startswith(b"HEAD")
        assert (await made.says(SCRAPE))[1] == b"up 1\n"


PIECES = (
    b"GET", b"HEAD", b"CONNECT", b"POST", b" ", b"/metrics", b"*", b"?", b"HTTP/1.1", b"HTTP/1.0",
    b"\r\n", b"\n", b"\r\n\r\n", b":", b"Host: x\r\n", b"Content-Length: 5\r\n", b"Expect: 100-continue\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Connection: upgrade\r\nUpgrade: h2c\r\n", b"\0", b"\xff", SCRAPE,
    b"a" * 9000,
)  # fmt: skip


class Sent:
    """The writing side of a connection whose other side reads all."""

    def __init__(self) -> None:
        self.data = b""
        self.ended = False

    def write(self, data: bytes) -> None:
        assert not self.ended
        self.data += data

    def write_eof(self) -> None:
        self.ended = True

    async def drain(self) -> None: ...


@given(st.lists(st.sampled_from(PIECES) | st.binary(max_size=20), max_size=12).map(b"".join))
def test_any_bytes_give_one_answer_or_none(request_: bytes) -> None:
    async def converse() -> Sent:
        reader, sent = asyncio.StreamReader(), Sent()
        reader.feed_data(request_)
        reader.feed_eof()
        made = Endpoint(unused, {"/metrics": lambda: Reply(200, b"up 1\n")})
        await made._converse(reader, sent)  # type: ignore[arg-type]
        return sent

    with sockets.socket() as unused:
        sent = asyncio.run(converse())
    if not sent.data:
        assert request_.strip(b"\r\n") == b""
        return
    assert sent.ended
    client = h11.Connection(h11.CLIENT)
    head = request_.startswith(b"HEAD ")
    client.send(h11.Request(method="HEAD" if head else "GET", target="/", headers=[("Host", "x")]))
    client.send(h11.EndOfMessage())
    client.receive_data(sent.data)
    client.receive_data(b"")
    response = client.next_event()
    assert isinstance(response, h11.Response)
    assert response.status_code in {200, 400, 404, 405, 431, 501}
    if response.status_code == 200:
        assert request_.lstrip(b"\r\n").startswith(b"GET ")


async def test_a_post_is_told_what_is_allowed() -> None:
    async with served() as made:
        reader, writer = await made.connect()
        writer.write(b"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")

        assert b"\r\nAllow: GET\r\n" in await reader.read()
        writer.close()


async def test_who_asks_nothing_gets_nothing() -> None:
    async with served() as made:
        reader, writer = await made.connect()
        writer.write_eof()

        assert await reader.read() == b""
        writer.close()


@pytest.mark.parametrize(
    "start",
    [
        pytest.param(b"", id="silent"),
        pytest.param(SCRAPE[:-2], id="half-a-request"),
        pytest.param(SCRAPE, id="stays-after-the-answer"),
    ],
)
async def test_who_is_slow_is_put_out_at_the_deadline(
    start: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "DEADLINE_S", 0.05)
    async with served() as made:
        reader, writer = await made.connect()
        writer.write(start)

        answer = await reader.read()  # it ends: so the connection does
        await until(lambda: not made.endpoint._open)  # though ours is still open

        assert (b"up 1" in answer) == (start == SCRAPE)
        writer.close()


async def test_who_does_not_read_is_put_out_at_the_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(endpoint, "DEADLINE_S", 0.05)
    large = b"x" * (16 << 20)
    async with served(routes={"/metrics": lambda: Reply(200, large)}) as made:
        client = sockets.create_connection(made.address)
        client.sendall(SCRAPE)
        await until(lambda: bool(made.endpoint._open))
        await until(lambda: not made.endpoint._open)
        client.close()


async def test_who_sends_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "DEADLINE_S", 10 * PATIENCE_S)  # by the bytes, not by the time
    async with served() as made:
        _, writer = await made.connect()
        writer.write(SCRAPE)

        with pytest.raises(ConnectionError):
            await without_end(writer)


async def test_a_crowd_of_silent_ones_keeps_no_honest_one_out() -> None:
    async with served() as made:
        crowd = []
        for _ in range(101):
            crowd.append(await made.connect())
            assert len(made.endpoint._open) <= endpoint.AT_ONCE

        assert await made.says(SCRAPE) == ("HTTP/1.1 200 OK", b"up 1\n")
        assert len(made.endpoint._open) <= endpoint.AT_ONCE
        for reader, _ in crowd[: 101 - endpoint.AT_ONCE]:  # they were put out
            assert await reader.read() == b""
        for _, writer in crowd:
            writer.close()


async def test_no_more_than_so_many_a_second_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "A_SECOND", 100)
    loop = asyncio.get_running_loop()
    async with served() as made:
        began_s = loop.time()
        for _ in range(53):
            await made.says(SCRAPE)

        # The connection that is answered last was accepted at the beat of the one before.
        assert loop.time() - began_s >= (53 - endpoint.AT_ONCE - 1) / 100


async def test_a_fault_is_a_500_and_a_word_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> Reply:
        raise ZeroDivisionError

    async with served(routes={"/metrics": fail}) as made:
        for _ in range(2):
            assert (await made.says(SCRAPE))[0] == "HTTP/1.1 500 Internal Server Error"

    assert "please report this" in caplog.text


async def test_no_descriptors_left_is_waited_out(caplog: pytest.LogCaptureFixture) -> None:
    """A connection that can't be accepted stays in the kernel's queue until it can."""
    async with served() as made:
        client = sockets.socket()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (client.fileno() + 1, hard))
        try:
            client.setblocking(False)
            await asyncio.get_running_loop().sock_connect(client, made.address)
            await until(lambda: "can't be accepted" in caplog.text)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        client.close()

        assert await made.says(SCRAPE) == ("HTTP/1.1 200 OK", b"up 1\n")
    assert caplog.text.count("can't be accepted") == 1
