"""
Daemons that hang, die, lose their socket, come late, or send nonsense.

Whatever one does, births of the others are told on time, those that it knows of leave with the
reason at the deadline, and what was missing comes as an update when it is back.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import stat
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from ctrwatch.evidence.cri import Cri
from ctrwatch.evidence.discover import Place, Sockets
from ctrwatch.evidence.files import Readers
from ctrwatch.evidence.lookout import Lookout
from ctrwatch.model import Runtime
from scripts.images import Image, make_image
from tests.contract.daemons import BAD, SILENT, Behaviour, listening
from tests.contract.data import found, is_not_found, subject
from tests.live.bed import Bed
from tests.live.daemons import BedError, command, start_containerd, start_daemon
from tests.live.runtimes import IMAGE
from tests.live.waiting import until
from tests.live.watching import Event, Watching, ctrwatch, unified

BIRTHS = 101
WAIT_S = "1"


class Containerd:
    """A containerd of its own, to be stopped, killed and started again."""

    def __init__(self, home: Path, image: Image, stack: ExitStack) -> None:
        self.home, self._stack = home, stack
        self.socket = start_containerd(home, stack)
        # Stops its daemon before the container's cgroup is made: what follows finds it hanging.
        self.stopping = home / "stop-then-runc"
        self.stopping.write_text(
            f'#!/bin/sh\ncase "$*" in *" create "*) kill -STOP $(cat {home}/pid);; esac\n'
            'exec runc "$@"\n'
        )
        self.stopping.chmod(0o755)
        self._note_pid()
        self._namespaces: set[str] = set()
        self._image = image

    @property
    def pid(self) -> int:
        return int((self.home / "pid").read_text())

    def _note_pid(self) -> None:
        (self.home / "pid").write_text(str(pid_behind(self.socket)))

    def kill(self) -> None:
        pid = self.pid
        os.kill(pid, signal.SIGKILL)
        until("it is dead", lambda: zombie_or_gone(pid))

    def start(self) -> None:
        (self.home / "notify").unlink()
        start_daemon(self.home, self._stack, "containerd", "--config", self.home / "config.toml")
        self._note_pid()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def ctr(self, namespace: str, *arguments: str | Path) -> str:
        return command("ctr", "--address", self.socket, "--namespace", namespace, *arguments)

    def run(self, name: str, namespace: str, *options: str | Path) -> str:
        self.prepare(namespace)
        words = ("run", "--detach", "--null-io", *options, self._image.name, name, "sleep", "600")
        self.ctr(namespace, *words)
        return name

    def prepare(self, namespace: str) -> None:
        if namespace not in self._namespaces:
            self._namespaces.add(namespace)
            self.ctr(namespace, "image", "import", self._image.archive)

    def remove_all(self) -> None:
        for namespace in self._namespaces:
            names = self.ctr(namespace, "container", "ls", "--quiet").split()
            running = self.ctr(namespace, "task", "ls", "--quiet").split()
            if running:
                self.ctr(namespace, "task", "rm", "--force", *running)
            if names:
                self.ctr(namespace, "container", "rm", *names)


def pid_behind(path: Path) -> int:
    """Of the process that listens there."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        raw = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    pid: int = struct.unpack("3i", raw)[0]
    return pid


def zombie_or_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.fixture(scope="module")
def other_image(bed: Bed) -> Image:
    """The same root file system under another name, with another digest."""
    name = "docker.io/library/other:test"
    return make_image(bed.home / "other.tar", name, bed.rootfs, Cmd=["sh"], Labels={"is": "other"})


@pytest.fixture(scope="module")
def containerds(bed: Bed, other_image: Image) -> Iterator[tuple[Containerd, Containerd]]:
    with ExitStack() as stack:
        made = (
            Containerd(bed.home / "one", bed.image, stack),
            Containerd(bed.home / "two", other_image, stack),
        )
        for namespace in NAMESPACES:
            bed._will_make_cgroups(namespace)
        yield made
        for each in made:
            each.remove_all()


NAMESPACES = ("hung", "fine", "restart", "moved", "late", "both")


def born(watching: Watching, container: str) -> Event:
    """Its create: complete, before its first instruction."""
    create = watching.event("container_create", container)
    start = watching.event("container_start", container)
    assert create["evidence"]["status"] == "complete", create["evidence"]
    assert create["time"] < start["time"]
    return create


def told(watching: Watching, container: str) -> Event:
    """What is known of it by now: its create, with what the updates changed."""
    known: Event = {}
    for event in watching.of(container):
        if event["event"] in ("container_create", "container_update"):
            known |= event
    return known


def is_update_of(watching: Watching, container: str) -> Event:
    """The update that makes it complete."""

    def completing() -> list[Event]:
        return [
            event
            for event in watching.of(container)
            if event["event"] == "container_update" and event["evidence"]["status"] == "complete"
        ]

    watching.until(lambda: bool(completing()), f"an update that completes {container}")
    return completing()[0]


def said(watching: Watching, *words: str) -> list[str]:
    return [line for line in watching.errors if all(word in line for word in words)]


def in_background(work: Callable[[], object]) -> threading.Thread:
    def run() -> None:
        with suppress(BedError):
            work()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_containerd_that_hangs_at_a_birth(
    bed: Bed, containerds: tuple[Containerd, Containerd]
) -> None:
    one, two = containerds
    one.prepare("hung")
    two.prepare("fine")
    with Watching("--wait", WAIT_S) as watching:
        starting = in_background(lambda: one.run("hangs", "hung", "--runc-binary", one.stopping))
        try:
            created = watching.line("container_create", "hangs")
            reasons = created.event["evidence"]["missing"]
            assert reasons["container_image"] == "unavailable"
            assert 1000 <= created.event["evidence"]["after_ms"] < 1300
            assert created.event["process"]["args"] == ["sleep", "600"]  # the bundle's
            assert said(watching, str(one.socket), "no answer in")

            for number in range(11):
                bed.runc.run(f"plain-{number}", "sleep", "600")
                two.run(f"fine-{number}", "fine")
            after_ms = [
                born(watching, f"{name}-{number}")["evidence"]["after_ms"]
                for name in ("plain", "fine")
                for number in range(11)
            ]
            assert sorted(after_ms)[len(after_ms) // 2] < 40
            checks = json.loads(
                ctrwatch("doctor", "--json", "--socket", f"containerd={one.socket}", code=1)
            )
            [check] = [each for each in checks if str(one.socket) in each["what"]]
            assert "no answer in" in check["what"]
            assert check["do"].startswith("restart containerd")
        finally:
            os.kill(one.pid, signal.SIGCONT)
        began = time.monotonic()
        update = is_update_of(watching, "hangs")
        assert update["container_image"] == IMAGE
        assert update["evidence"]["sources"]["container_image"] == "containerd"
        assert time.monotonic() - began < 10.5
        starting.join()
        assert len(said(watching, str(one.socket), "growing pauses")) == 1
        assert len(said(watching, str(one.socket), "answers again")) == 1
    for number in range(11):
        bed.runc.remove(f"plain-{number}")


def test_containerd_that_is_killed_and_restarted_in_the_middle_of_births(
    containerds: tuple[Containerd, Containerd],
) -> None:
    one, _ = containerds
    one.prepare("restart")
    made: list[str] = []

    def give_birth(number: int) -> None:
        for attempt in range(200):
            name = f"b-{number}-{attempt}"
            with suppress(BedError):
                one.run(name, "restart")
                made.append(name)
                return
            time.sleep(0.05)  # until the daemon is back; what is watched here is ctrwatch

    with Watching() as watching, ThreadPoolExecutor(3) as pool:
        births = [pool.submit(give_birth, number) for number in range(BIRTHS)]
        until("a third of them are born", lambda: len(made) > BIRTHS // 3, 60)
        one.kill()
        one.start()
        for birth in births:
            birth.result()
        for name in made:
            watching.event("container_create", name)

        watching.until(
            lambda: all(told(watching, name)["evidence"]["status"] == "complete" for name in made),
            "every one of them is complete",
        )
        assert len(made) == BIRTHS
        assert {told(watching, name)["container_image"] for name in made} == {IMAGE}
        creates = [line.event for line in watching.lines if "create" in line.event["event"]]
        names = [each["container_id"] for each in creates if each["container_id"][:2] == "b-"]
        assert len(set(names)) == len(names), "each once"
    one.remove_all()


@pytest.mark.parametrize("given", [True, False], ids=["watched", "asked-again"])
def test_socket_that_is_moved_away_and_back(
    containerds: tuple[Containerd, Containerd], *, given: bool
) -> None:
    """The daemon goes on; only nobody finds it."""
    one, _ = containerds
    one.prepare("moved")
    away = one.socket.with_name("away")
    options = ("--socket", f"containerd={one.socket}") if given else ()
    name = f"moved-{given}"
    with Watching("--wait", WAIT_S, *options) as watching:
        one.socket.rename(away)
        words = ("run", "--detach", "--null-io", IMAGE, name, "sleep", "600")
        command("ctr", "--address", away, "--namespace", "moved", *words)
        created = watching.event("container_create", name)
        assert created["evidence"]["missing"]["container_image"] == "unavailable"
        away.rename(one.socket)
        began = time.monotonic()
        assert is_update_of(watching, name)["container_image"] == IMAGE
        assert time.monotonic() - began < (0.5 if given else 10.5)
        assert len(said(watching, str(one.socket), "No such file")) == 1


def test_daemon_that_comes_later(containerds: tuple[Containerd, Containerd]) -> None:
    """What was there before gets its image, what is born after is complete."""
    one, _ = containerds
    one.run("before", "late")
    one.kill()
    one.socket.unlink()
    with Watching("--wait", WAIT_S, "--socket", f"containerd={one.socket}") as watching:
        existing = watching.event("existing_container", "before")
        assert existing["evidence"]["missing"]["container_image"] == "unavailable"
        one.start()
        assert is_update_of(watching, "before")["container_image"] == IMAGE
        one.run("after", "late")
        assert born(watching, "after")["container_image"] == IMAGE


def test_two_containerds_are_asked_each_for_its_own(
    containerds: tuple[Containerd, Containerd], other_image: Image
) -> None:
    """Of the same namespace and the same name, one after the other: runc's state allows no more."""
    sockets = [word for each in containerds for word in ("--socket", f"containerd={each.socket}")]
    with Watching(*sockets) as watching:
        for nth, each in enumerate(containerds, 1):
            each.run("web", "both")
            event = watching.event("container_create", "web", nth=nth)
            assert event["evidence"]["status"] == "complete"
            assert event["container_image"] == (IMAGE, other_image.name)[nth - 1]
            assert ("is" in event["labels"]) == (nth == 2)
            each.remove_all()
            watching.event("container_remove", "web", nth=nth)


def test_two_dockers_one_hangs_at_a_birth(bed: Bed, other_image: Image) -> None:
    home = bed.home / "docker2"
    home.mkdir()
    stopping = home / "stop-then-runc"
    stopping.write_text(
        f'#!/bin/sh\ncase "$*" in *" create "*) kill -STOP $(cat {home}/pid);; esac\n'
        'exec runc "$@"\n'
    )
    stopping.chmod(0o755)
    with ExitStack() as stack:
        own = start_containerd(home / "containerd", stack)
        address = home / "docker.sock"
        start_daemon(
            home, stack, "dockerd", "--host", f"unix://{address}", "--containerd", own,
            "--data-root", home / "data", "--exec-root", home / "exec", "--pidfile", home / "pid",
            "--iptables=false", "--ip6tables=false", "--bridge=none",
            "--add-runtime", f"stopping={stopping}",
        )  # fmt: skip

        def docker(*words: str | Path) -> str:
            return command(bed.docker._client, "--host", f"unix://{address}", *words)

        docker("load", "--quiet", "--input", other_image.archive)
        sockets = [f"docker={bed.docker.socket}", f"docker={address}"]
        options = [word for each in sockets for word in ("--socket", each)]
        run = ("run", "--detach", "--network", "none", "--name", "web")
        with Watching("--wait", WAIT_S, *options) as watching:
            first = bed.docker.run("sleep", "600", options=["--name", "web"])
            assert born(watching, first)["container_image"] == IMAGE
            second = docker(*run, other_image.name, "sleep", "600")
            assert born(watching, second)["container_image"] == other_image.name

            words = (*run[:-1], "hangs", "--runtime", "stopping", other_image.name, "sleep", "600")
            starting = in_background(lambda: docker(*words))
            try:
                watching.until(lambda: bool(named(watching, "sleep", second)), "the third")
                third = named(watching, "sleep", second)[-1]["container_id"]
                fourth = bed.docker.run("sleep", "601")
                assert born(watching, fourth)["container_name"]
            finally:
                os.kill(int((home / "pid").read_text()), signal.SIGCONT)
            starting.join()
            until_complete(watching, third)
            known = watching.of(third)
            names = {event.get("container_name", "") for event in known} - {
                ""
            }  # an update may be of else
            assert names == {"hangs"}
            bed.docker.remove(first, fourth)
            docker("rm", "--force", "web", "hangs")


def named(watching: Watching, program: str, *but: str) -> list[Event]:
    """Creates of the other daemon's containers, but for those ids."""
    return [
        line.event
        for line in watching.lines
        if line.event["event"] == "container_create"
        and line.event["container_id"] not in but
        and line.event["runtime"] == "docker"
        and line.event["process"]["args"][:1] == [program]
        and "docker2" in json.dumps(line.event)
    ]


def until_complete(watching: Watching, container: str) -> None:
    watching.until(
        lambda: any(each["evidence"]["status"] == "complete" for each in watching.of(container)),
        f"{container} is complete",
    )


# --- nonsense -------------------------------------------------------------------------------

FAKES: dict[str, Behaviour] = {**SILENT, **{name: BAD[name] for name in (
    "garbage", "truncated", "endless", "endless header", "closes early", "error page",
)}}  # fmt: skip


@pytest.mark.parametrize("name", FAKES)
def test_docker_that_sends_nonsense(bed: Bed, name: str) -> None:
    """It costs those whom only Docker could name, and nobody else; and little memory."""
    path = bed.home / "fake.sock"
    ids = [f"{number:02x}{os.getpid():08x}".ljust(64, "d") for number in range(31)]
    tops = [unified() / "docker" / each for each in ids]
    watched = Watching("--wait", "0.5", "--socket", f"docker={path}")
    with playing(FAKES[name], path), watched as watching:
        try:
            for top in tops:
                top.mkdir(parents=True)
            bed.runc.run("beside", "sleep", "600")
            assert born(watching, "beside")["evidence"]["after_ms"] < 100
            for each in ids:
                event = watching.event("container_create", each)
                assert event["evidence"]["missing"]["container_image"] == "unavailable"
                assert event["evidence"]["after_ms"] < 700
            status = Path(f"/proc/{watching.process.pid}/status").read_text()
            high_mb = int(status.partition("VmHWM:")[2].split()[0]) >> 10
            assert high_mb < 160
            assert 1 <= len(said(watching, str(path))) < 12
        finally:
            for top in tops:
                top.rmdir()
            bed.runc.remove("beside")
    path.unlink(missing_ok=True)


@contextmanager
def playing(behaviour: Behaviour, path: Path) -> Iterator[None]:
    """A daemon in a thread of its own."""
    loop = asyncio.new_event_loop()
    ready, over = threading.Event(), asyncio.Event()

    async def play() -> None:
        async with listening(path, behaviour):
            ready.set()
            await over.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(play()))
    thread.start()
    assert ready.wait(10)
    try:
        yield
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(10)
        loop.close()


# --- places ---------------------------------------------------------------------------------


async def test_user_who_logs_in_and_whose_directory_is_mounted_after_it_was_made(
    tmp_path: Path,
) -> None:
    """As systemd does it; inotify tells of the directory, but not of the mount over it."""
    heard: asyncio.Queue[str] = asyncio.Queue()
    places = [Place("docker", f"{tmp_path}/*/docker.sock", "test")]
    lookout = Lookout(places, lambda _, path: heard.put_nowait(path))
    home = tmp_path / "0"
    os.mkdir(home)
    try:
        await asyncio.sleep(0.1)  # longer than the lookout needs to watch what will be covered
        command("mount", "-t", "tmpfs", "none", home)
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(home / "docker.sock"))
        assert await asyncio.wait_for(heard.get(), 5) == str(home / "docker.sock")
        assert stat.S_ISSOCK(os.stat(home / "docker.sock").st_mode)
    finally:
        lookout.close()
        command("umount", home)


# --- the CRI --------------------------------------------------------------------------------


async def test_cri_says_what_the_daemon_itself_says(bed: Bed) -> None:
    """Of a real containerd; CRI-O's own answers are played in tests/contract/test_cri.py."""
    pod = bed.cri.pod("cri-asked", "prod", app="web")
    container = bed.cri.run(pod, "app", "sleep", "600", labels={"tier": "front"})
    readers = Readers()
    source = Cri(readers, Sockets({"cri": [str(bed.cri.socket)]}, ()))
    try:
        facts = found(await source.ask(subject(container)))
        sandbox = found(await source.ask(subject(pod.id)))
        assert is_not_found(await source.ask(subject("f" * 64)))
    finally:
        await source.close()
    status, image = bed.cri.status(container), bed.cri.image_status()

    assert facts.runtime is sandbox.runtime is Runtime.CONTAINERD
    assert (facts.name, facts.sandbox) == (status.metadata.name, False)
    assert facts.image == IMAGE
    assert facts.image_id == image.id
    assert facts.labels == dict(status.labels)
    assert facts.created_ns == status.created_at
    assert (sandbox.sandbox, sandbox.labels) == (True, dict(bed.cri.pod_status(pod).labels))
    for each in (facts, sandbox):
        assert (each.pod_name, each.pod_namespace, each.pod_uid) == (
            "cri-asked", "prod", pod.uid,
        )  # fmt: skip
    bed.cri.remove_pod(pod)


async def test_cri_has_the_registry_digest_of_what_was_pulled(bed: Bed) -> None:
    name = bed.registry.name("busybox:test")
    bed.cri.pull(name)
    pod = bed.cri.pod("cri-pulled")
    container = bed.cri.run(pod, "app", "sleep", "600", image=name)
    source = Cri(Readers(), Sockets({"cri": [str(bed.cri.socket)]}, ()))
    facts = found(await source.ask(subject(container)))
    await source.close()
    digests = {each.partition("@")[2] for each in bed.cri.image_status(name).repo_digests}

    assert {facts.image_digest} == digests
    bed.cri.remove_pod(pod)
