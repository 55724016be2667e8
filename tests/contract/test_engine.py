"""The source "docker" against recorded answers of the Engine API."""

import json
from pathlib import Path

import pytest

from ctrwatch.evidence.discover import Sockets
from ctrwatch.evidence.engine import DockerEngine
from ctrwatch.model import Missing, Runtime
from tests.contract.daemons import docker, listening
from tests.contract.data import DATA, found, ids, is_not_found, subject

ID = ids("docker")["by-registry"]
LISTED = (DATA / "docker/engine/containers.json").read_bytes()
IMAGE = (DATA / "docker/engine/image.json").read_bytes()
DIGEST = "sha256:d57f7ac48e08c2ac100242085bf8bfcb42ceeaddadd83a639fa05e8a52400928"


@pytest.fixture
def source(socket: Path) -> DockerEngine:
    return DockerEngine(Sockets({"docker": [str(socket)]}, ()))


async def test_recorded_answers(source: DockerEngine, socket: Path) -> None:
    async with listening(socket, docker({"/containers/json": LISTED, "/images/": IMAGE})):
        facts = found(await source.ask(subject(ID)))
    assert facts.runtime is Runtime.DOCKER
    assert (facts.name, facts.image) == ("by-registry", "127.0.0.1:5055/app/web:1")
    assert facts.image_digest == DIGEST
    assert facts.image_id == json.loads(LISTED)[0]["ImageID"]
    assert facts.labels == {}
    assert facts.digest_kind is None


async def test_never_inspects_a_container(source: DockerEngine, socket: Path) -> None:
    async with listening(socket, docker({f"/containers/{ID}": b"{}"})):
        assert not is_not_found(await source.ask(subject(ID)))  # 404 of the list is no answer


async def test_unknown_container(source: DockerEngine, socket: Path) -> None:
    async with listening(socket, docker({"/containers/json": b"[]"})):
        assert is_not_found(await source.ask(subject(ID)))
    async with listening(socket, docker({"/containers/json": b"null"})):
        assert not is_not_found(await source.ask(subject(ID)))


async def test_answer_about_another_container(source: DockerEngine, socket: Path) -> None:
    async with listening(socket, docker({"/containers/json": LISTED, "/images/": IMAGE})):
        assert is_not_found(await source.ask(subject("f" * 64)))


async def test_image_that_was_removed_costs_only_the_digest(
    source: DockerEngine, socket: Path
) -> None:
    async with listening(socket, docker({"/containers/json": LISTED})):
        facts = found(await source.ask(subject(ID)))
    assert facts.name == "by-registry"
    assert facts.image_digest is None
    assert "container_image_digest" not in facts.absent


async def test_image_without_registry_digest(source: DockerEngine, socket: Path) -> None:
    image = {**json.loads(IMAGE), "RepoDigests": []}
    answers = {"/containers/json": LISTED, "/images/": json.dumps(image).encode()}
    async with listening(socket, docker(answers)):
        facts = found(await source.ask(subject(ID)))
    assert facts.absent["container_image_digest"] is Missing.NO_REGISTRY_DIGEST


async def test_containerd_image_store_calls_the_registry_digest_the_id(
    source: DockerEngine, socket: Path
) -> None:
    """Docker 28 (API 1.48, *read*): ImageID is the target's digest; Descriptor has its kind."""
    [listed] = json.loads(LISTED)
    listed["ImageID"] = DIGEST
    image = {
        **json.loads(IMAGE),
        "Id": DIGEST,
        "Descriptor": {"mediaType": "application/vnd.oci.image.index.v1+json", "digest": DIGEST},
    }
    answers = {
        "/containers/json": json.dumps([listed]).encode(),
        "/images/": json.dumps(image).encode(),
    }
    async with listening(socket, docker(answers)):
        facts = found(await source.ask(subject(ID)))
    assert (facts.image_digest, facts.digest_kind, facts.image_id) == (DIGEST, "index", None)


async def test_own_name_among_links(source: DockerEngine, socket: Path) -> None:
    [listed] = json.loads(LISTED)
    listed["Names"] = ["/front/db", "/by-registry"]
    answers = {"/containers/json": json.dumps([listed]).encode(), "/images/": IMAGE}
    async with listening(socket, docker(answers)):
        assert found(await source.ask(subject(ID))).name == "by-registry"


async def test_free_form_id_is_not_dockers(source: DockerEngine, socket: Path) -> None:
    async with listening(socket, docker({"/containers/json": LISTED})):
        for name in ("web", "x%22]}&all=0", "../x"):
            assert is_not_found(await source.ask(subject(name)))
