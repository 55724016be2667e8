"""What runtimes write and answer as JSON: bundles, Docker's files and API, Podman's documents."""

from __future__ import annotations

import base64
import json
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Final

import h11

from ctrwatch.core.annotations import who
from ctrwatch.core.spec import SpecError, read_spec
from ctrwatch.evidence import bolt, docker, engine, http, libpod, podman
from ctrwatch.evidence.asking import Unanswered
from ctrwatch.evidence.bundle import _docker_root
from ctrwatch.evidence.files import Tree, Unreadable
from ctrwatch.evidence.values import joined, sha256
from ctrwatch.model import ContainerId, Facts, Leads, Subject
from ctrwatch.outputs.webhook import exchanged
from tests.fuzz.boundary import Boundary, require
from tests.fuzz.mutate import Mutator
from tests.fuzz.telling import CID, DATA, Memory, Parsed, straight, tell

__all__ = (
    "bundle",
    "bundle_annotations",
    "docker_engine",
    "docker_files",
    "docker_http",
    "podman_documents",
    "podman_storage",
    "webhook",
)

_DIRECTORIES: Final[Mapping[str, str]] = {
    "cri": f"/run/containerd/io.containerd.runtime.v2.task/k8s.io/{CID}",
    "ctr": "/run/containerd/io.containerd.runtime.v2.task/demo/t1",
    "docker": f"/run/containerd/io.containerd.runtime.v2.task/moby/{CID}",
    "podman": f"/var/lib/containers/storage/overlay-containers/{CID}/userdata",
    "crio": f"/run/containers/storage/overlay-containers/{CID}/userdata",
    "buildkit": "/var/lib/docker/buildkit/executor/" + "0" * 25,
    "runc": "/srv/web",
}
_ROOT: Final = Tree("/no/such/root", 0)


def _subject(container_id: str, leads: Leads) -> Subject:
    return Subject(
        container_id=ContainerId(container_id),
        cgroup=(0, 1),  # type: ignore[arg-type]
        cgroup_path="/a",
        uid=0,
        creator=None,
        init=None,
        facts=Facts(leads=leads),
    )


# --- OCI bundles ---------------------------------------------------------------------------


def _bundles() -> list[bytes]:
    files = [*sorted((DATA / "bundles").glob("*-*.json")), *sorted(DATA.glob("*/bundle*.json"))]
    return [file.read_bytes() for file in files]


def bundle() -> Boundary:
    directories = tuple(_DIRECTORIES.values())

    def feed(raw: bytes) -> Hashable:
        spec = read_spec(raw)
        directory = directories[len(raw) % len(directories)]
        facts = who(spec.annotations, directory, "runc", CID, rootless=len(raw) % 5 == 0)
        root = _docker_root(CID, spec.facts)
        require("a root is a path", not root or root.startswith("/"))
        more = [Facts(leads=Leads(docker_root=root))] if root else []
        told = tell(joined(spec.facts, facts, *more), "bundle")
        security = spec.facts.security
        return told, spec.cut, security and (security.privileged, security.host_network)

    return Boundary(_bundles(), lambda mutator, seeds: mutator.json(seeds), feed, (SpecError,))


def bundle_annotations() -> Boundary:
    """With the directory that says whose they are, and may be a stranger's choice too."""
    seeds = []
    for raw in _bundles():
        said = json.loads(raw).get("annotations") or {}
        kind = next((kind for kind in _DIRECTORIES if any(kind in key for key in said)), "runc")
        seeds.append((_DIRECTORIES[kind], json.dumps(said).encode()))

    def worse(mutator: Mutator, seeds: Sequence[tuple[str, bytes]]) -> tuple[str, bytes]:
        directory, raw = mutator.pick(seeds)
        if mutator.chance(0.4):
            directory = mutator.pick((*_DIRECTORIES.values(), directory))
        if mutator.chance(0.4):
            directory = mutator.text((directory,), times=2)
        return directory, mutator.json((raw,)) if mutator.chance(0.8) else raw

    def feed(case: tuple[str, bytes]) -> Hashable:
        directory, raw = case
        annotations = read_spec(b'{"annotations":' + raw + b"}").annotations
        return tuple(
            tell(joined(who(annotations, directory, runtime, name, rootless=rootless)), "bundle")
            for runtime, name, rootless in (("runc", CID, False), ("", "buildah-buildah1", True))
        )

    return Boundary(seeds, worse, feed, (SpecError,))


# --- Docker ----------------------------------------------------------------------------------


def docker_files() -> Boundary:
    """A container's config.v2.json, with the index of images."""
    root = DATA / "docker/root"
    index = (root / "image/overlay2/repositories.json").read_bytes()
    seeds = [
        (file.parent.name, file.read_bytes(), index)
        for file in sorted(root.glob("containers/*/config.v2.json"))
    ]

    def worse(
        mutator: Mutator, seeds: Sequence[tuple[str, bytes, bytes]]
    ) -> tuple[str, bytes, bytes]:
        container_id, config, index = mutator.pick(seeds)
        if mutator.chance(0.7):
            return container_id, mutator.json((config,)), index
        return container_id, config, mutator.json((index,))

    def feed(case: tuple[str, bytes, bytes]) -> Hashable:
        container_id, config, index = case
        try:
            record = docker._record("config.v2.json", config, container_id)
            known = docker._references(docker._read_index(index), record.image)
        except Unreadable as error:
            return type(error).__name__
        image = docker.image_facts(record.config.image, sha256(record.image), known)
        return tell(joined(docker._facts_of(record), image), "docker.files")

    return Boundary(seeds, worse, feed)


def docker_engine() -> Boundary:
    """The list of containers, and an image."""
    containers = (DATA / "docker/engine/containers.json").read_bytes()
    image = (DATA / "docker/engine/image.json").read_bytes()
    container_id = json.loads(containers)[0]["Id"]

    def worse(mutator: Mutator, seeds: Sequence[tuple[bytes, bytes]]) -> tuple[bytes, bytes]:
        listed, image = mutator.pick(seeds)
        if mutator.chance(0.5):
            return mutator.json((listed,)), image
        return listed, mutator.json((image,))

    def feed(case: tuple[bytes, bytes]) -> Hashable:
        listed = engine.listed(case[0], container_id)
        if listed is None:
            return "not listed"
        return tell(engine.facts_of(listed, case[1]), "docker")

    return Boundary([(containers, image)], worse, feed, (Unanswered,))


class _Wire:
    """Both ends of a connection that has nothing to wait for."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw

    async def read(self, size: int) -> bytes:
        piece, self.raw = self.raw[:size], self.raw[size:]
        return piece

    def write(self, data: bytes) -> None:
        """Nobody listens."""

    async def drain(self) -> None:
        """It was written."""


def docker_http() -> Boundary:
    """The HTTP around it."""
    body = (DATA / "docker/engine/containers.json").read_bytes()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    seeds = [
        head + b"Content-Length: %d\r\n\r\n" % len(body) + body,
        head + b"Transfer-Encoding: chunked\r\n\r\n5\r\n[{},{\r\n2;x=y\r\n}]\r\n0\r\nX: y\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 404 Not Found\r\nConnection: close\r\n\r\noops",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n",
    ]

    def feed(raw: bytes) -> Hashable:
        wire: Any = _Wire(raw)
        response = straight(http.answered(wire, wire, "/_ping", 1 << 16))
        require("a body is bounded", len(response.body) <= 1 << 16)
        return response.status, len(response.body).bit_length()

    return Boundary(seeds, lambda mutator, seeds: mutator.raw(seeds), feed, (Unanswered,))


def webhook() -> Boundary:
    """What a webhook's receiver answers; of it only the head is read."""
    seeds = [
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://x/\x1b[2J\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 500 Oops\r\nConnection: close\r\n\r\noops",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n",
    ]
    request = h11.Request(
        method="POST", target="/", headers=[("Host", "x"), ("Content-Length", "2")]
    )

    def feed(raw: bytes) -> Hashable:
        wire: Any = _Wire(raw)
        answer, said = straight(exchanged(wire, wire, request, b"{}"))
        require("it is one printable line", said.isprintable() and len(said) < 300)
        return answer, len(said).bit_length()

    refused = (h11.RemoteProtocolError,)
    return Boundary(seeds, lambda mutator, seeds: mutator.raw(seeds), feed, refused)


# --- Podman ----------------------------------------------------------------------------------


def podman_documents() -> Boundary:
    """What its database keeps of a container and of a pod."""
    database = (DATA / "podman/root/libpod/bolt_state.db").read_bytes()
    ids = json.loads((DATA / "podman/ids.json").read_text())
    pods = ("d59d0d683a5faa0c3eb7f19ca78fe8b7d9895371a718fa4877da667168817763",)
    paths = [
        *((b"ctr", each.encode(), b"config") for each in ids.values()),
        *((b"pod", each.encode(), b"config") for each in pods),
    ]
    values = [each for each in bolt.lookup(lambda n, at: database[at : at + n], paths) if each]
    pod = values[-1]

    def worse(mutator: Mutator, seeds: Sequence[tuple[bytes, bytes]]) -> tuple[bytes, bytes]:
        container, pod = mutator.pick(seeds)
        if mutator.chance(0.8):
            return mutator.json((container,)), pod
        return container, mutator.json((pod,))

    def feed(case: tuple[bytes, bytes]) -> Hashable:
        container = libpod._decoded("db", case[0], libpod.Container)
        record = libpod.Record(container, libpod._decoded("db", case[1], libpod.Pod))
        return tell(joined(podman._of_libpod(record)), "podman.files")

    return Boundary([(each, pod) for each in values[:-1]], worse, feed, (Unreadable,))


def podman_storage() -> Boundary:
    """The storage's lists of containers and images, and a manifest; also as CRI-O writes them."""
    root = DATA / "podman/root"
    images = json.loads((root / "overlay-images/images.json").read_text())
    manifests = [path.read_bytes() for path in sorted(root.glob("overlay-images/*/=*"))]
    crio = DATA / "crio"
    seeds = [
        (
            (root / "overlay-containers/containers.json").read_bytes(),
            (root / "overlay-images/images.json").read_bytes(),
            manifests[0],
        ),
        (
            (crio / "storage_volatile_containers.json").read_bytes(),
            (crio / "storage_images.json").read_bytes(),
            manifests[-1],
        ),
    ]
    keys = [
        f"overlay-images/{image['id']}/="
        + base64.b64encode(f"manifest-{image['digest']}".encode()).decode()
        for image in images
    ]
    memory = Memory()
    source = podman.PodmanFiles(memory)
    size = podman._INDEX_BYTES
    source._containers = Parsed(memory, podman._read_containers, limit=size, most=1)
    source._images = Parsed(memory, podman._read_images, limit=size, most=1)
    ids = [json.loads(each[0])[0]["id"] for each in seeds]

    def worse(
        mutator: Mutator, seeds: Sequence[tuple[bytes, bytes, bytes]]
    ) -> tuple[bytes, bytes, bytes]:
        parts = list(mutator.pick(seeds))
        at = mutator.below(3)
        parts[at] = mutator.json((parts[at],))
        return parts[0], parts[1], parts[2]

    def feed(case: tuple[bytes, bytes, bytes]) -> Hashable:
        memory.files = {
            "overlay-containers/containers.json": case[0],
            "overlay-images/images.json": case[1],
            **dict.fromkeys(keys, case[2]),
        }
        outcome: list[Hashable] = []
        for container_id in ids:
            stored = straight(source._stored(_ROOT, container_id))
            if stored is None:
                continue
            facts = podman._of_storage(stored)
            if facts.image_id is not None:
                bare = facts.image_id.removeprefix("sha256:")
                digest = straight(source._digest_in(_ROOT, bare, ""))
                facts = joined(facts, digest or Facts())
            outcome.append(tell(joined(facts), "podman.files"))
        return tuple(outcome)

    return Boundary(seeds, worse, feed, (Unreadable,))
