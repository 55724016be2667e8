"""Debian's docker-registry (distribution 2.8) on this machine's own loopback.

What it answers to whoever asks for a tag is the truth about a digest.
"""

import re
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

from scripts.images import DOCKER, OCI, Index, Manifest, digest_of
from tests.live.daemons import BedError, spawn
from tests.live.waiting import until

KINDS = {
    **{types.index: "index" for types in (OCI, DOCKER)},
    **{types.manifest: "manifest" for types in (OCI, DOCKER)},
}
DEADLINE_S = 30


class Served(NamedTuple):
    digest: str
    kind: str  # index, manifest


class Registry:
    """`host` is what the names of its images begin with."""

    def __init__(self, home: Path, stack: ExitStack) -> None:
        home.mkdir()
        config = home / "config.yml"
        config.write_text(
            "version: 0.1\n"
            f"storage: {{filesystem: {{rootdirectory: {home}/data}}}}\n"
            "http: {addr: '127.0.0.1:0'}\n"
        )
        process = spawn(home, stack, "docker-registry", "serve", config)

        def listens() -> bool:
            if process.poll() is not None:
                raise BedError(f"docker-registry does not start:\n{(home / 'log').read_text()}")
            return self._address(home / "log") is not None

        until("the registry listens", listens)
        self.host = self._address(home / "log") or ""

    def push(self, name: str, image: Manifest | Index) -> Served:
        """Store an image under a name such as `shop/web:1`, with all that it names."""
        repository, _, tag = name.rpartition(":")
        self._put(repository, tag, image)
        return self.served(name)

    def name(self, name: str) -> str:
        """What to pull."""
        return f"{self.host}/{name}"

    def served(self, name: str) -> Served:
        """What the registry answers to whoever pulls `shop/web:1`."""
        repository, _, tag = name.rpartition(":")
        request = urllib.request.Request(
            f"http://{self.host}/v2/{repository}/manifests/{tag}",
            method="HEAD",
            headers={"Accept": ", ".join(KINDS)},
        )
        with urllib.request.urlopen(request, timeout=DEADLINE_S) as response:
            media_type = response.headers["Content-Type"]
            return Served(response.headers["Docker-Content-Digest"], KINDS[media_type])

    def _put(self, repository: str, reference: str, image: Manifest | Index) -> None:
        if isinstance(image, Index):
            for manifest in image.manifests:
                self._put(repository, manifest.digest, manifest)
        else:
            for blob in (image.config, image.layer):
                self._upload(repository, blob)
        address = f"http://{self.host}/v2/{repository}/manifests/{reference}"
        self._send("PUT", address, image.raw, image.media_type)

    def _upload(self, repository: str, blob: bytes) -> None:
        where = self._send("POST", f"http://{self.host}/v2/{repository}/blobs/uploads/")
        digest = urlencode({"digest": digest_of(blob)})
        self._send("PUT", f"{where}{'&' if '?' in where else '?'}{digest}", blob)

    def _send(
        self, method: str, address: str, body: bytes = b"", kind: str = "application/octet-stream"
    ) -> str:
        """Returns where it is now."""
        request = urllib.request.Request(
            address, method=method, data=body, headers={"Content-Type": kind}
        )
        with urllib.request.urlopen(request, timeout=DEADLINE_S) as response:
            return str(response.headers["Location"])

    @staticmethod
    def _address(log: Path) -> str | None:
        found = re.search(r"listening on (127\.0\.0\.1:\d+)", log.read_text())
        return found and found[1]
