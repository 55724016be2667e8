"""A registry on this machine's own loopback, just enough for a `pull`: it gives images a digest."""

import json
import tarfile
import threading
from collections.abc import Mapping
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from scripts.images import Image


class Registry:
    def __init__(self, images: Mapping[str, Image]) -> None:
        self.images = images
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, images))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def name(self, repository: str, tag: str = "test") -> str:
        """What to pull."""
        return f"127.0.0.1:{self._server.server_port}/{repository}:{tag}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    """`GET /v2/NAME/manifests/TAG` and `GET /v2/NAME/blobs/DIGEST`; every tag is the one image."""

    protocol_version = "HTTP/1.1"

    def __init__(self, images: Mapping[str, Image], *arguments: object) -> None:
        self._images = images
        super().__init__(*arguments)  # type: ignore[arg-type]  # the server's business

    def do_GET(self) -> None:
        match self.path.strip("/").split("/"):
            case ["v2"]:
                self._answer(200, "application/json", b"{}")
            case ["v2", name, "manifests", _] if name in self._images:
                manifest = _blob(self._images[name], self._images[name].manifest_digest)
                self._answer(200, json.loads(manifest)["mediaType"], manifest)
            case ["v2", name, "blobs", digest] if name in self._images:
                blob = _blob(self._images[name], digest)
                self._answer(200, "application/octet-stream", blob)
            case _:
                self._answer(404, "application/json", b"{}")

    do_HEAD = do_GET  # noqa: N815  # http.server's spelling

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, status: int, media_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _blob(image: Image, digest: str) -> bytes:
    with tarfile.open(image.archive) as archive:
        member = archive.extractfile("blobs/" + digest.replace(":", "/"))
        assert member is not None
        return member.read()
