"""
The contract of every source that asks a daemon: an Answer, whatever the daemon does.

Invariant: `ask` returns Found, NotFound or Unavailable with a sentence, never raises, and
cancelled at its deadline leaves no socket behind.
"""

import asyncio
import os
import socket as socket_module
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from ctrwatch.evidence import asking
from ctrwatch.evidence.asking import nobody
from ctrwatch.evidence.containerd import Containerd
from ctrwatch.evidence.cri import Cri
from ctrwatch.evidence.discover import Kind, Sockets
from ctrwatch.evidence.engine import DockerEngine
from ctrwatch.evidence.files import Readers
from ctrwatch.model import Found, Leads, NotFound, Unavailable
from ctrwatch.ports import Source
from tests.contract.daemons import (
    BAD,
    SILENT,
    Behaviour,
    Huge,
    Recorded,
    RecordedCri,
    docker,
    listening,
    says,
    serving,
)
from tests.contract.data import DATA, found, ids, is_not_found, subject, why


class Make(Protocol):
    def __call__(
        self, readers: Readers, *sockets: Path, back: Callable[[str], None] = nobody
    ) -> Source: ...


def at(kind: Kind, sockets: tuple[Path, ...]) -> Sockets:
    return Sockets({kind: [str(each) for each in sockets]}, ())


SOURCES: dict[str, Make] = {
    "docker": lambda _, *sockets, back=nobody: DockerEngine(at("docker", sockets), back),
    "containerd": lambda readers, *sockets, back=nobody: Containerd(
        readers, at("containerd", sockets), back
    ),
    "cri": lambda readers, *sockets, back=nobody: Cri(readers, at("cri", sockets), back),
}
ENGINE = {
    "/_ping": b"OK",
    "/containers/json": (DATA / "docker/engine/containers.json").read_bytes(),
    "/images/": (DATA / "docker/engine/image.json").read_bytes(),
}
HONEST: dict[str, tuple[str, Callable[[Path], AbstractAsyncContextManager[None]]]] = {
    "docker": (ids("docker")["by-registry"], lambda socket: listening(socket, docker(ENGINE))),
    "containerd": (ids("containerd")["ctr"], lambda socket: serving(socket, Recorded())),
    "cri": (RecordedCri().containers[0]["id"], lambda socket: serving(socket, RecordedCri())),
}
ID = "ab" * 32

pytestmark = pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES)


def open_sockets() -> int:
    links = (f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd"))
    return sum(os.path.lexists(link) and os.readlink(link).startswith("socket:") for link in links)


@pytest.mark.parametrize("behaviour", BAD.values(), ids=BAD)
async def test_bad_daemon_makes_the_source_unavailable(
    make: Make, behaviour: Behaviour, socket: Path, readers: Readers
) -> None:
    async with listening(socket, behaviour):
        source = make(readers, socket)
        async with asyncio.timeout(20):
            answer = await source.ask(subject(ID))
        assert why(answer).startswith(f"{source.name}: {socket}: ")
        assert "\n" not in why(answer)
        assert len(why(answer)) < 500
        await source.close()


@pytest.mark.parametrize("behaviour", SILENT.values(), ids=SILENT)
async def test_cancelled_question_leaves_no_socket(
    make: Make, behaviour: Behaviour, socket: Path, readers: Readers
) -> None:
    source = make(readers, socket)
    await source.ask(subject(ID))  # nobody listens; loads what is loaded once
    before = open_sockets()
    async with listening(socket, behaviour):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await source.ask(subject(ID))
    async with asyncio.timeout(5):  # the last connection's own end
        while open_sockets() != before:  # noqa: ASYNC110 - the loop closes them, and tells nobody
            await asyncio.sleep(0)


async def test_no_socket_is_not_found(make: Make, socket: Path, readers: Readers) -> None:
    assert is_not_found(await make(readers, socket).ask(subject(ID)))


async def test_socket_nobody_listens_at_is_unavailable(
    make: Make, socket: Path, readers: Readers
) -> None:
    with socket_module.socket(socket_module.AF_UNIX) as left_behind:
        left_behind.bind(str(socket))
    assert "refused" in why(await make(readers, socket).ask(subject(ID))).lower()


async def test_daemon_that_is_slow_is_away_at_its_deadline(
    make: Make, socket: Path, readers: Readers, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make(readers, socket)
    async with listening(socket, BAD["closes early"]):
        await source.ask(subject(ID))  # loads what is loaded once
    os.unlink(socket)
    await source.close()
    monkeypatch.setattr(asking, "ANSWER_S", 0.05)
    for behaviour in SILENT.values():
        source = make(Readers(), socket)
        async with listening(socket, behaviour), asyncio.timeout(5):
            answer = await source.ask(subject(ID))
        assert answer == Unavailable(f"{source.name}: {socket}: no answer in 0.05 s", away=True)
        await source.close()


async def test_daemon_that_hangs_does_not_hide_one_that_knows(
    make: Make, socket: Path, readers: Readers
) -> None:
    dead = socket.with_name("dead.sock")
    source = make(readers, dead, socket)
    known, honest = HONEST[source.name]
    async with listening(dead, SILENT["hangs"]), asyncio.timeout(20), honest(socket):
        assert found(await source.ask(subject(known))).image
    await source.close()


async def test_restarted_daemon_is_asked_again(make: Make, socket: Path, readers: Readers) -> None:
    """Stale socket file, then a new daemon at a new socket; who waits is told by name."""
    with socket_module.socket(socket_module.AF_UNIX) as left_behind:
        left_behind.bind(str(socket))
    back: asyncio.Queue[str] = asyncio.Queue()
    source = make(readers, socket, back=back.put_nowait)
    known, honest = HONEST[source.name]
    assert "refused" in why(await source.ask(subject(known))).lower()
    os.unlink(socket)
    async with honest(socket), asyncio.timeout(10):
        assert await back.get() == source.name
        assert found(await source.ask(subject(known))).image
    await source.close()


async def test_lead_to_a_socket_that_is_no_socket(
    make: Make, socket: Path, readers: Readers, tmp_path: Path
) -> None:
    source = make(readers, socket)
    for path in (str(tmp_path), "/etc/passwd", "relative", "/" + "x" * 200, "/a\0b"):
        leads = Leads(containerd=path, namespace="demo")
        assert not isinstance(await source.ask(subject(ID, leads)), Found)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.binary(max_size=300), head=st.sampled_from((b"", b"HTTP/1.1 200 OK\r\n", bytes(9))))
def test_any_bytes_give_an_answer(
    make: Make, socket: Path, readers: Readers, data: bytes, head: bytes
) -> None:
    async def ask() -> None:
        async with listening(socket, says(head + data)):
            async with asyncio.timeout(20):
                answer = await make(readers, socket).ask(subject(ID))
        assert isinstance(answer, NotFound | Unavailable)

    asyncio.run(ask())


async def test_answer_that_is_too_large_is_given_up_quickly(
    make: Make, socket: Path, readers: Readers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is one question's matter: the next one may be answered."""
    monkeypatch.setattr(asking, "ANSWER_S", 60)  # on a busy machine even the limit takes a while
    source = make(readers, socket)
    huge = listening(socket, BAD["endless"]) if source.name == "docker" else serving(socket, Huge())
    async with huge:
        began = time.monotonic()
        answers = await asyncio.gather(*(source.ask(subject(ID)) for _ in range(3)))
        assert all("larger than" in why(answer) for answer in answers), answers
        assert time.monotonic() - began < 60
        await source.close()
