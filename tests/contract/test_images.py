"""Which image a container of containerd was made from: names lie, content does not."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from google.protobuf.any_pb2 import Any
from google.protobuf.timestamp_pb2 import Timestamp

from ctrwatch.evidence.api.containers_pb2 import (
    Container,
    GetContainerRequest,
    GetContainerResponse,
)
from ctrwatch.evidence.api.content_pb2 import (
    Info,
    InfoRequest,
    InfoResponse,
    ReadContentRequest,
    ReadContentResponse,
)
from ctrwatch.evidence.api.images_pb2 import GetImageRequest, GetImageResponse, Image
from ctrwatch.evidence.api.types_pb2 import Descriptor as Target
from ctrwatch.evidence.containerd import Containerd
from ctrwatch.evidence.discover import Sockets
from ctrwatch.evidence.files import Readers
from ctrwatch.model import Facts, Leads, Missing, Runtime, Subject
from tests.contract.daemons import CONTENT_INFO, Recorded, serving
from tests.contract.data import found, ids, subject, why

IDS = ids("containerd")
APP = "docker.io/library/app:1"
APP_DIGEST = "sha256:afdab2ce6598677e77d1f353ff75b1acc3921301628c7934f79aaf0a3f74fa6f"
APP_ID = "sha256:4aeeaa4100280ac036fd9bbc3b0380507450417d71c75f5c79159295a4d8400c"
CRI = "docker.io/library/cri:1"
CRI_DIGEST = "sha256:f87e693e2cf86fefcc9837d7a1ce92970300ea7970327e82b14787263b9396ad"
CRI_ID = "sha256:2848ff5fb609e46710b01f521d260c4eacbe429469a29076f5364ee05ce9c325"
EXTENSION = "io.cri-containerd.container.metadata"
GET = "/containerd.services.containers.v1.Containers/Get"
GET_IMAGE = "/containerd.services.images.v1.Images/Get"
READ = "/containerd.services.content.v1.Content/Read"
NOT_RECORDED = dict.fromkeys(("container_image_digest", "image.id"), Missing.NOT_RECORDED)


@pytest.fixture
async def daemon(socket: Path) -> AsyncIterator[Recorded]:
    recorded = Recorded()
    async with serving(socket, recorded):
        yield recorded


@pytest.fixture
def source(readers: Readers, socket: Path) -> Containerd:
    return Containerd(readers, Sockets({"containerd": [str(socket)]}, ()))


def has(daemon: Recorded, namespace: str, container: Container) -> None:
    request = GetContainerRequest(id=container.id).SerializeToString()
    answer = GetContainerResponse(container=container).SerializeToString()
    daemon.answers[namespace, GET, request] = [answer]


def has_content(daemon: Recorded, namespace: str, digest: str, manifest: object) -> None:
    request = ReadContentRequest(digest=digest).SerializeToString()
    answer = ReadContentResponse(data=json.dumps(manifest).encode()).SerializeToString()
    daemon.answers[namespace, READ, request] = [answer]


def made_by_the_cri(asked: dict[str, str], record: str = "other:1") -> Container:
    """As containerd 1.6 writes it; *record* is any of the image's names."""
    metadata = {"ID": "f" * 64, "Config": {"image": asked}, "ImageRef": CRI_ID}
    value = json.dumps({"Version": "v1", "Metadata": metadata}).encode()
    return Container(id="f" * 64, image=record, extensions={EXTENSION: Any(value=value)})


@pytest.mark.parametrize(
    ("asked", "image"),
    [
        ({"image": "cri:1"}, CRI),
        ({"image": CRI_ID, "user_specified_image": "cri:1"}, CRI),
        ({"image": f"cri:1@{CRI_DIGEST}"}, f"{CRI}@{CRI_DIGEST}"),
    ],
    ids=["by-name", "by-the-kubelet-1.28", "by-digest"],
)
async def test_the_cri_tells_the_name_that_was_asked_for(
    source: Containerd, daemon: Recorded, asked: dict[str, str], image: str
) -> None:
    has(daemon, "k8s.io", made_by_the_cri(asked))
    facts = found(await source.ask(subject("f" * 64, Leads(image_ref="other:2"))))
    assert (facts.image, facts.image_id) == (image, CRI_ID)
    assert (facts.image_digest, facts.digest_kind) == (CRI_DIGEST, "manifest")
    assert "image" in facts.corrects


async def test_who_asks_the_cri_by_id_alone_is_told_the_bundles_name(
    source: Containerd, daemon: Recorded
) -> None:
    """The kubelet up to 1.27 resolves names by itself."""
    has(daemon, "k8s.io", made_by_the_cri({"image": CRI_ID}))
    facts = found(await source.ask(subject("f" * 64, Leads(image_ref="cri:1"))))
    assert (facts.image, facts.image_digest, facts.image_id) == (CRI, CRI_DIGEST, CRI_ID)


async def test_an_image_named_by_its_id_everywhere_gets_its_name_back(
    source: Containerd, daemon: Recorded
) -> None:
    has(daemon, "k8s.io", made_by_the_cri({"image": CRI_ID}, record=CRI_ID))
    assert found(await source.ask(subject("f" * 64))).image == CRI


async def test_where_a_digest_is_asked_for_the_tag_before_it_means_nothing(
    source: Containerd, daemon: Recorded
) -> None:
    asked = "sha256:" + "1" * 64
    has_content(daemon, "k8s.io", asked, {"config": {"digest": CRI_ID}})
    request = GetImageRequest(name=f"docker.io/library/cri@{asked}").SerializeToString()
    target = Target(digest=asked, media_type="application/vnd.oci.image.manifest.v1+json")
    answer = GetImageResponse(image=Image(name="cri", target=target)).SerializeToString()
    daemon.answers["k8s.io", GET_IMAGE, request] = [answer]
    has(daemon, "k8s.io", made_by_the_cri({"image": f"cri:1@{asked}"}))
    assert found(await source.ask(subject("f" * 64))).image_digest == asked


async def test_a_name_that_leads_to_another_image_gives_way_to_the_id(
    source: Containerd, daemon: Recorded
) -> None:
    has_content(daemon, "k8s.io", CRI_DIGEST, {"config": {"digest": APP_ID}})
    has(daemon, "k8s.io", made_by_the_cri({"image": "cri:1"}))
    facts = found(await source.ask(subject("f" * 64)))
    assert (facts.image, facts.image_digest, facts.image_id) == (CRI, CRI_DIGEST, CRI_ID)
    assert daemon.asked.count("Images/Get") == 2


async def test_a_record_of_the_cri_that_can_not_be_read(
    source: Containerd, daemon: Recorded, socket: Path
) -> None:
    has(daemon, "k8s.io", Container(id="x", extensions={EXTENSION: Any(value=b"{]")}))
    answer = await source.ask(subject("x", Leads(containerd=str(socket), namespace="k8s.io")))
    assert "the CRI's record" in why(answer)


@pytest.mark.parametrize(
    "container",
    [
        pytest.param(Container(id="x", image="docker.io/library/gone:1"), id="removed"),
        pytest.param(
            Container(id="x", image=APP, created_at=Timestamp(seconds=1)), id="given-anew"
        ),
    ],
)
async def test_a_name_that_can_have_moved_since_is_no_proof(
    source: Containerd, daemon: Recorded, container: Container
) -> None:
    has(daemon, "demo", container)
    facts = found(await source.ask(subject("x")))
    assert (facts.image, facts.image_digest, facts.image_id) == (container.image, None, None)
    assert facts.absent == NOT_RECORDED


@pytest.mark.parametrize(
    ("labels", "digest"),
    [
        ({"containerd.io/distribution.source.127.0.0.1": "app"}, APP_DIGEST),
        ({"containerd.io/gc.ref.content.config": APP_ID}, None),
    ],
    ids=["pulled", "imported"],
)
async def test_only_what_was_pulled_has_a_registry_digest(
    source: Containerd, daemon: Recorded, labels: dict[str, str], digest: str | None
) -> None:
    request = InfoRequest(digest=APP_DIGEST).SerializeToString()
    answer = InfoResponse(info=Info(labels=labels)).SerializeToString()
    daemon.answers["demo", CONTENT_INFO, request] = [answer]
    facts = found(await source.ask(subject(IDS["ctr"])))
    assert (facts.image_digest, facts.image_id) == (digest, APP_ID)
    absent = {} if digest else {"container_image_digest": Missing.NO_REGISTRY_DIGEST}
    assert facts.absent == absent


async def test_of_an_index_this_machines_manifest_that_is_here_counts(
    readers: Readers, socket: Path, daemon: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two variants of one architecture only one is pulled."""
    monkeypatch.setattr("platform.machine", lambda: "armv7l")
    other, gone, mine = ("sha256:" + digit * 64 for digit in "123")
    manifests = [
        {"digest": other, "platform": {"architecture": "s390x", "os": "linux"}},
        {"digest": gone, "platform": {"architecture": "arm", "os": "linux", "variant": "v6"}},
        {"digest": mine, "platform": {"architecture": "arm", "os": "linux", "variant": "v7"}},
    ]
    has_content(daemon, "demo", APP_DIGEST, {"manifests": manifests})
    has_content(daemon, "demo", other, {"config": {"digest": CRI_ID}})
    has_content(daemon, "demo", mine, {"config": {"digest": "sha256:" + "c" * 64}})
    source = Containerd(readers, Sockets({"containerd": [str(socket)]}, ()))
    assert found(await source.ask(subject(IDS["ctr"]))).image_id == "sha256:" + "c" * 64


def of_docker(*digests: str) -> Subject:
    return subject("f" * 64, facts=Facts(runtime=Runtime.DOCKER, leads=Leads(digests=digests)))


async def test_of_dockers_digests_a_tag_stands_for_the_index(
    source: Containerd, daemon: Recorded
) -> None:
    one, two, pushed = ("sha256:" + digit * 64 for digit in "123")
    has_content(daemon, "moby", one, {"config": {"digest": APP_ID}})
    has_content(daemon, "k8s.io", two, {"manifests": [{"digest": one}]})  # it was there before
    assert found(await source.ask(of_docker(one, two))) == Facts(
        image_digest=two, digest_kind="index", corrects=("image_digest",)
    )
    assert found(await source.ask(of_docker(one))) == Facts(digest_kind="manifest")
    assert found(await source.ask(of_docker(pushed))) == Facts(
        absent={"image.digest_kind": Missing.NOT_RECORDED}
    )
