"""A webhook's receiver: a real HTTP server on this machine that answers as it is told."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any, NamedTuple

DEADLINE_S = 10.0

OK = b"HTTP/1.1 204 No Content\r\n\r\n"
BROKEN = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"
HANG = b""


class Request(NamedTuple):
    line: str
    headers: dict[str, str]
    body: bytes

    @property
    def violation(self) -> str:
        return str(self.json["violation"]["id"])

    @property
    def json(self) -> dict[str, Any]:
        return dict(json.loads(self.body))


class Receiver(ThreadingTCPServer):
    """Each request gets the next of *answers*, and the last one from then on."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, answers: Sequence[bytes], port: int = 0) -> None:
        self.answers = list(answers)
        self.requests: list[Request] = []
        self.changed = threading.Condition()
        self.ended = threading.Event()
        super().__init__(("127.0.0.1", port), _Handler)

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def url(self, path: str = "/hook?a=b") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def until(self, holds: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(holds, DEADLINE_S), self.requests

    def got(self, number: int) -> list[Request]:
        self.until(lambda: len(self.requests) >= number)
        return self.requests


class _Handler(StreamRequestHandler):
    server: Receiver

    def handle(self) -> None:
        line = self.rfile.readline().decode().strip()
        headers = {}
        while header := self.rfile.readline().decode().strip():
            name, _, value = header.partition(":")
            headers[name.lower()] = value.strip()
        body = self.rfile.read(int(headers.get("content-length", 0)))
        with self.server.changed:
            answers = self.server.answers
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            self.server.requests.append(Request(line, headers, body))
            self.server.changed.notify_all()
        if answer == HANG:
            self.server.ended.wait(DEADLINE_S)
        self.wfile.write(answer)


@contextmanager
def receiving(
    *answers: bytes, port: int = 0, certificate: Path | None = None
) -> Iterator[Receiver]:
    with Receiver(answers, port) as server:
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.ended.set()
            server.shutdown()
            thread.join()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
