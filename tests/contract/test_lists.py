"""What runtimes list, by recorded answers and files of real ones; and by daemons that fail."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from grpclib import GRPCError, Status
from grpclib.const import Cardinality, Handler

from ctrwatch.evidence import lists
from ctrwatch.evidence.cri import Cri
from ctrwatch.evidence.discover import Sockets
from ctrwatch.evidence.engine import DockerEngine
from ctrwatch.evidence.files import LANE, Readers, Tree
from ctrwatch.evidence.podman import PodmanFiles
from ctrwatch.evidence.storage import Storages
from ctrwatch.model import Listing, Runtime, Unavailable
from tests.contract.daemons import RecordedCri, docker, hangs, listening, says, serving
from tests.contract.data import DATA, ids, subject
from tests.unit.test_audit import record

LISTED = (DATA / "docker/engine/containers.json").read_bytes()


def engine(*sockets: Path) -> DockerEngine:
    return DockerEngine(Sockets({"docker": [*map(str, sockets)]}, ()))


async def test_dockers_list(socket: Path) -> None:
    async with listening(socket, docker({"/containers/json": LISTED})):
        listing = await engine(socket).records()

    (one,) = listing.records
    assert listing.unavailable == ()
    assert one.container_id == ids("docker")["by-registry"]
    assert (one.runtime, one.name) == (Runtime.DOCKER, "by-registry")
    assert one.image == "127.0.0.1:5055/app/web:1"
    assert one.created_ns
    assert one.uid == socket.parent.stat().st_uid


async def test_one_that_docker_never_started_is_not_listed(socket: Path) -> None:
    made = LISTED.replace(b'"State":"running"', b'"State":"created"')
    assert made != LISTED
    async with listening(socket, docker({"/containers/json": made})):
        assert (await engine(socket).records()).records == ()


async def test_the_cris_list_has_sandboxes_too(readers: Readers, socket: Path) -> None:
    crio = RecordedCri()
    crio.containers[0]["state"], crio.sandboxes[0]["state"] = "CONTAINER_EXITED", "SANDBOX_READY"
    async with serving(socket, crio):
        listing = await Cri(readers, Sockets({"cri": [str(socket)]}, ())).records()

    states = {each.container_id: each.running for each in listing.records}
    assert states == {crio.containers[0]["id"]: False, crio.sandboxes[0]["id"]: True}
    assert {each.runtime for each in listing.records} == {Runtime.CRIO}


class Denying(RecordedCri):
    """It has nothing, whatever is asked."""

    def _handler(self, kind: Any, answer: Any) -> Handler:  # noqa: ARG002
        async def handle(stream: Any) -> None:
            await stream.recv_message()
            raise GRPCError(Status.NOT_FOUND, "no\x1b[2J such")

        return Handler(handle, Cardinality.UNARY_UNARY, bytes, bytes)


async def test_who_says_it_has_no_list_is_named(readers: Readers, socket: Path) -> None:
    async with serving(socket, Denying()):
        cri = Cri(readers, Sockets({"cri": [str(socket)]}, ()))
        listing = await cri.records()
        answer = await cri.ask(subject("ab" * 32))
        await cri.close()

    (said,) = listing.unavailable
    assert said == f"cri: {socket}: NOT_FOUND: no\\x1b[2J such"
    assert isinstance(answer, Unavailable)


async def test_podmans_storage_lists_without_a_daemon(readers: Readers) -> None:
    storages = Storages(readers, system=(), roots=(str(DATA / "podman/root"),))
    listing = await PodmanFiles(readers, storages).records()

    assert set(ids("podman").values()) <= {each.container_id for each in listing.records}
    assert {each.running for each in listing.records} == {None}
    assert {each.runtime for each in listing.records} == {Runtime.PODMAN}


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param(hangs, id="hangs"),
        pytest.param(says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"), id="nonsense"),
        pytest.param(says(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"), id="refuses"),
    ],
)
async def test_who_can_not_be_asked_is_named_and_hides_nobody(
    behaviour: object, socket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lists, "LIST_S", 0.5)
    beside = socket.with_name("other.sock")
    well = docker({"/containers/json": LISTED})
    async with listening(beside, behaviour), listening(socket, well):  # type: ignore[arg-type]
        listing = await engine(beside, socket).records()

    assert len(listing.records) == 1
    (said,) = listing.unavailable
    assert said.startswith(f"docker: {beside}: ")


def test_more_than_is_read_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "MOST", 2)
    listing = lists.bounded("docker: x", [record(name) for name in "abc"])

    assert [each.container_id for each in listing.records] == ["a", "b"]
    assert listing.unavailable == ("docker: x: 3 containers, of which 2 were read",)


def test_what_is_no_id_is_nobodys() -> None:
    listing = lists.bounded("docker: x", [record("a"), record("a\x1b"), record("x" * 9999)])

    assert [each.container_id for each in listing.records] == ["a"]
    assert listing.unavailable == ("docker: x: 2 containers without a valid id were left out",)


def test_a_name_is_as_long_as_an_event_bears() -> None:
    listing = lists.bounded("docker: x", [record(name="n" * 70_000, image="i" * 70_000)])

    [one] = listing.records
    assert (one.name, one.image) == ("n" * 640, "i" * 640)


async def test_a_storage_that_can_not_be_read_is_said_in_one_line(
    readers: Readers, tmp_path: Path
) -> None:
    (tmp_path / "s\x1b/overlay-containers").mkdir(parents=True)
    (tmp_path / "s\x1b/overlay-containers/containers.json").mkdir()
    storages = Storages(readers, system=(), roots=(str(tmp_path / "s\x1b"),))

    (said,) = (await PodmanFiles(readers, storages).records()).unavailable
    assert said.isprintable()


@asynccontextmanager
async def hung(readers: Readers, directory: Path) -> AsyncIterator[None]:
    """Whatever is read of root's there waits."""
    let_go, stuck = threading.Event(), Tree(str(directory), 0)
    hanging = [asyncio.create_task(readers.call(let_go.wait, stuck.lane)) for _ in range(LANE)]
    await asyncio.sleep(0)
    try:
        yield
    finally:
        let_go.set()
        await asyncio.gather(*hanging)


async def test_a_storage_that_hangs_is_named_and_hides_no_other(
    readers: Readers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lists, "LIST_S", 0.5)
    roots = (str(tmp_path), str(DATA / "podman/root"))
    async with hung(readers, tmp_path):
        listing = await PodmanFiles(readers, Storages(readers, system=(), roots=roots)).records()

    assert set(ids("podman").values()) <= {each.container_id for each in listing.records}
    (said,) = listing.unavailable
    assert said.startswith(f"podman.files: {tmp_path}")
    assert said.endswith("no list in 0.5 s")


async def test_a_storage_conf_that_hangs_is_named(
    readers: Readers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lists, "LIST_S", 0.2)
    storages = Storages(readers, system=(str(tmp_path),), roots=(str(DATA / "podman/root"),))
    async with hung(readers, tmp_path), asyncio.timeout(5):
        listing = await PodmanFiles(readers, storages).records()

    assert listing.records == ()
    assert listing.unavailable == ("podman.files: storage.conf: no list in 0.2 s",)


def test_a_users_daemon_hides_no_container_of_roots() -> None:
    roots, users = record("a"), record("a", uid=1000, running=False)

    for order in ((roots, users), (users, roots)):
        listing = lists.merged(Listing(records=(each,)) for each in (*order, roots))
        assert listing.records == (roots, users)
