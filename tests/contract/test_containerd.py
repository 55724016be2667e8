"""The source "containerd" against recorded answers of containerd's API."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError

from ctrwatch.evidence.api.containers_pb2 import (
    Container,
    GetContainerRequest,
    GetContainerResponse,
)
from ctrwatch.evidence.containerd import Containerd
from ctrwatch.evidence.discover import Sockets
from ctrwatch.evidence.files import Readers
from ctrwatch.model import Facts, Leads, Missing, Runtime
from tests.contract.daemons import Recorded, serving
from tests.contract.data import found, ids, is_not_found, subject, why

IDS = ids("containerd")
APP = "docker.io/library/app:1"
APP_DIGEST = "sha256:afdab2ce6598677e77d1f353ff75b1acc3921301628c7934f79aaf0a3f74fa6f"
APP_ID = "sha256:4aeeaa4100280ac036fd9bbc3b0380507450417d71c75f5c79159295a4d8400c"
GET = "/containerd.services.containers.v1.Containers/Get"


@pytest.fixture
async def daemon(socket: Path) -> AsyncIterator[Recorded]:
    recorded = Recorded()
    async with serving(socket, recorded):
        yield recorded


@pytest.fixture
def source(readers: Readers, socket: Path) -> Containerd:
    return Containerd(readers, Sockets({"containerd": [str(socket)]}, ()))


def lead(socket: Path, namespace: str = "demo") -> Leads:
    return Leads(containerd=str(socket), namespace=namespace)


async def test_ctr_container(source: Containerd, daemon: Recorded, socket: Path) -> None:
    facts = found(await source.ask(subject(IDS["ctr"], lead(socket))))
    assert facts.runtime is Runtime.CONTAINERD
    assert (facts.image, facts.image_digest, facts.image_id) == (APP, APP_DIGEST, APP_ID)
    assert facts.digest_kind == "manifest"
    assert facts.labels == {"io.containerd.image.config.stop-signal": "SIGTERM"}
    assert facts.created_ns
    assert facts.created_ns // 10**9 == 1795479471


async def test_without_leads_every_namespace_is_asked(
    source: Containerd, daemon: Recorded, socket: Path
) -> None:
    for container_id, namespace in ((IDS["ctr"], "demo"), (IDS["sandbox"], "k8s.io")):
        facts = found(await source.ask(subject(container_id)))
        assert (facts.leads.containerd, facts.leads.namespace) == (str(socket), namespace)


async def test_container_without_an_image(source: Containerd, daemon: Recorded) -> None:
    facts = found(await source.ask(subject(IDS["rootfs"])))
    assert facts.absent["container_image"] is Missing.NO_IMAGE
    assert facts.absent["container_image_digest"] is Missing.NO_IMAGE


async def test_nerdctls_name(source: Containerd, daemon: Recorded) -> None:
    assert found(await source.ask(subject(IDS["nerdctl"]))).name == "web"


async def test_pod_of_the_cri(source: Containerd, daemon: Recorded) -> None:
    facts = found(await source.ask(subject(IDS["container"])))
    assert (facts.name, facts.pod_name, facts.pod_namespace) == ("app", "web2", "prod")
    assert (facts.pod_uid, facts.sandbox) == (IDS["pod_uid"], False)
    assert facts.image == "docker.io/library/cri:1"
    sandbox = found(await source.ask(subject(IDS["sandbox"])))
    assert (sandbox.sandbox, sandbox.pod_name) == (True, "web2")


async def test_dockers_containers_are_left_to_docker(
    source: Containerd, daemon: Recorded, socket: Path
) -> None:
    daemon.answers["moby", GET, GetContainerRequest(id="f" * 64).SerializeToString()] = [
        GetContainerResponse(container=Container(id="f" * 64)).SerializeToString()
    ]
    facts = found(await source.ask(subject("f" * 64, lead(socket, "moby"))))
    assert facts == Facts(runtime=Runtime.DOCKER, leads=lead(socket, "moby"))


async def test_config_digest_is_read_once(source: Containerd, daemon: Recorded) -> None:
    for _ in range(2):
        assert found(await source.ask(subject(IDS["ctr"]))).image_id == APP_ID
    assert daemon.asked.count("Content/Read") == 1


async def test_config_digest_may_be_missing(source: Containerd, daemon: Recorded) -> None:
    for key in [key for key in daemon.answers if "Content" in key[1]]:
        daemon.answers[key] = [b"\x12\x03{x}"]
    facts = found(await source.ask(subject(IDS["ctr"])))
    assert (facts.image_digest, facts.image_id) == (APP_DIGEST, None)


@pytest.mark.parametrize("name", ["", "a/b", "..", "x" * 300, "a\nb", "none-such"])
async def test_unknown_id(source: Containerd, daemon: Recorded, name: str) -> None:
    assert is_not_found(await source.ask(subject(name)))


async def test_prepares_only_where_there_is_a_containerd(readers: Readers, socket: Path) -> None:
    await Containerd(readers, Sockets({"containerd": [str(socket)]}, ())).prepare()
    async with serving(socket, Recorded()):
        await Containerd(readers, Sockets({"containerd": [str(socket)]}, ())).prepare()


async def test_answer_of_fifty_megabytes_is_given_up(
    source: Containerd, daemon: Recorded, socket: Path
) -> None:
    key = "demo", GET, GetContainerRequest(id="x").SerializeToString()
    huge = GetContainerResponse(container=Container(id="x", image="i" * (50 << 20)))
    daemon.answers[key] = [huge.SerializeToString()]
    answer = await source.ask(subject("x", lead(socket)))
    assert "larger than" in why(answer)


async def test_error_of_the_daemon_is_said(source: Containerd, socket: Path) -> None:
    class Failing(Recorded):
        def __mapping__(self) -> dict[str, Handler]:
            async def fail(_: object) -> None:
                raise GRPCError(Status.INTERNAL, "bolt: database not open")

            return {GET: Handler(fail, Cardinality.UNARY_UNARY, bytes, bytes)}

    async with serving(socket, Failing()):
        answer = await source.ask(subject("x", lead(socket)))
    assert why(answer) == f"containerd: {socket}: INTERNAL: bolt: database not open"
