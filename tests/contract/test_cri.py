"""The source "cri" against what a real CRI-O answered."""

import copy
import json
from pathlib import Path

import pytest

from ctrwatch.evidence.cri import Cri
from ctrwatch.evidence.discover import Sockets
from ctrwatch.evidence.files import Readers
from ctrwatch.model import Missing, Runtime
from tests.contract.daemons import RecordedCri, serving
from tests.contract.data import DATA, found, is_not_found, subject

CONTAINER = json.loads((DATA / "crio/container_status.json").read_text())["status"]
SANDBOX = json.loads((DATA / "crio/sandbox_status.json").read_text())["status"]


@pytest.fixture
def source(readers: Readers, socket: Path) -> Cri:
    return Cri(readers, Sockets({"cri": [str(socket)]}, ()))


async def test_container(source: Cri, socket: Path) -> None:
    async with serving(socket, RecordedCri()):
        facts = found(await source.ask(subject(CONTAINER["id"])))
    assert facts.runtime is Runtime.CRIO
    assert facts.name == CONTAINER["metadata"]["name"] == "app"
    assert facts.image == CONTAINER["image"]["image"]
    assert facts.image_digest == CONTAINER["image_ref"].partition("@")[2]
    assert facts.image_id == f"sha256:{CONTAINER['image_id']}"
    assert (facts.pod_name, facts.pod_namespace) == ("web", "prod")
    assert facts.pod_uid == SANDBOX["metadata"]["uid"]
    assert facts.sandbox is False
    assert facts.labels == CONTAINER["labels"]
    assert facts.leads.sandbox_id == SANDBOX["id"]
    assert facts.created_ns == 1795463211023698608


async def test_sandbox(source: Cri, socket: Path) -> None:
    async with serving(socket, RecordedCri()):
        facts = found(await source.ask(subject(SANDBOX["id"])))
    assert facts.runtime is Runtime.CRIO
    assert (facts.sandbox, facts.name) == (True, "POD")
    assert (facts.pod_name, facts.pod_namespace) == ("web", "prod")
    assert facts.pod_uid == SANDBOX["metadata"]["uid"]
    assert facts.labels == SANDBOX["labels"]


async def test_sandbox_without_the_kubelets_labels(source: Cri, socket: Path) -> None:
    crio = RecordedCri()
    crio.sandboxes[0]["labels"] = {}
    async with serving(socket, crio):
        facts = found(await source.ask(subject(SANDBOX["id"])))
    assert facts.absent == {"container_name": Missing.HAS_NONE}


async def test_unknown_container(source: Cri, socket: Path) -> None:
    async with serving(socket, RecordedCri()):
        assert is_not_found(await source.ask(subject("f" * 64)))
        assert is_not_found(await source.ask(subject("web")))


async def test_of_two_daemons_the_one_that_knows_tells(readers: Readers, socket: Path) -> None:
    other = RecordedCri()
    other.containers, other.sandboxes = [], []
    beside = socket.with_name("other.sock")
    source = Cri(readers, Sockets({"cri": [str(beside), str(socket)]}, ()))
    async with serving(beside, other), serving(socket, RecordedCri()):
        assert found(await source.ask(subject(CONTAINER["id"]))).name == "app"


@pytest.mark.parametrize(
    ("container", "image", "digest"),
    [
        pytest.param(
            {"image_ref": CONTAINER["image_id"]},
            "docker.io/library/app:1",
            CONTAINER["image_ref"].partition("@")[2],
            id="older-whose-image_ref-is-the-id",
        ),
        pytest.param(
            {"image": {"image": CONTAINER["image_id"]}},
            "docker.io/library/app:1",
            CONTAINER["image_ref"].partition("@")[2],
            id="the-kubelet-asked-by-id",
        ),
        pytest.param(
            {"image": {"image": CONTAINER["image_id"], "user_specified_image": "app:stable"}},
            "docker.io/library/app:stable",
            CONTAINER["image_ref"].partition("@")[2],
            id="the-name-that-the-user-gave",
        ),
        pytest.param(
            {"image_ref": "f" * 64}, "docker.io/library/app:1", None, id="image-that-is-gone"
        ),
        pytest.param(
            {"image_ref": "sha256:" + "f" * 64},
            "docker.io/library/app:1",
            None,
            id="an-id-is-no-registry-digest",
        ),
    ],
)
async def test_image(
    source: Cri, socket: Path, container: dict[str, object], image: str, digest: str | None
) -> None:
    crio = RecordedCri()
    crio.containers = [{**copy.deepcopy(crio.containers[0]), **container}]
    async with serving(socket, crio):
        facts = found(await source.ask(subject(CONTAINER["id"])))
    assert (facts.image, facts.image_digest) == (image, digest)


async def test_container_whose_sandbox_has_gone(source: Cri, socket: Path) -> None:
    crio = RecordedCri()
    crio.sandboxes = []
    async with serving(socket, crio):
        facts = found(await source.ask(subject(CONTAINER["id"])))
    assert (facts.name, facts.pod_name, facts.pod_uid) == ("app", "web", None)


async def test_never_asks_for_a_status(source: Cri, socket: Path) -> None:
    """It would wait for a container that is just being started."""
    crio = RecordedCri()
    async with serving(socket, crio):
        await source.ask(subject(CONTAINER["id"]))
    assert crio.asked == [
        "ListContainersRequest",
        "ListPodSandboxRequest",
        "VersionRequest",
        "ImageStatusRequest",
    ]
