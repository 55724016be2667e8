"""ctrwatch goes and comes back, or loses sight for a while: nothing alive is missing, nothing is told twice."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.runtimes import IMAGE, Ctr, Docker, Runc
from tests.live.waiting import until
from tests.live.watching import CTRWATCH, Event, Watching, ctrwatch, unified

STATE = Path("/run/runc")  # where a runc without --root keeps its containers


class Fakes:
    """Containers by name only, each with a process: as many as one likes, at once."""

    def __init__(self) -> None:
        self.home = unified() / "ctrwatch-restart"
        self.home.mkdir()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def place(self, container: str) -> Path:
        return self.home / f"docker-{container}.scope"

    def make(self, container: str) -> None:
        self.place(container).mkdir()
        self.enter(container)

    def enter(self, container: str) -> None:
        process = subprocess.Popen(["/bin/busybox", "sleep", "600"])
        self._processes[container] = process
        (self.place(container) / "cgroup.procs").write_text(str(process.pid))

    def end(self, container: str) -> None:
        if (process := self._processes.pop(container, None)) is not None:
            process.kill()
            process.wait()
        until("it is empty", lambda: removed(self.place(container)))

    def living(self) -> list[str]:
        return list(self._processes)

    def close(self) -> None:
        for container in self.living():
            self.end(container)
        for left in self.home.glob("docker-*"):
            left.rmdir()
        self.home.rmdir()


@pytest.fixture
def fakes() -> Iterator[Fakes]:
    fakes = Fakes()
    yield fakes
    fakes.close()


def removed(place: Path) -> bool:
    with contextlib.suppress(OSError):
        place.rmdir()
    return not place.exists()


def fake_id(number: int) -> str:
    return f"{number:08x}" + "5e" * 28


def options(state: Path, *more: str) -> list[str]:
    return ["--state", str(state), "--wait", "0.2", "--audit", "0", *more]


def told(watching: Watching, *names: str) -> dict[str, list[Event]]:
    """Events by container id."""
    found: dict[str, list[Event]] = {}
    for line in list(watching.lines):
        if line.event["event"] in names:
            found.setdefault(line.event["container_id"], []).append(line.event)
    return found


def test_what_came_and_what_went_while_it_was_away(runc: Runc, tmp_path: Path) -> None:
    state = tmp_path / "state"
    for name in ("restart-stays", "restart-goes"):
        runc.run(name, "sleep", "600", state=STATE)
    with Watching(*options(state)) as before:
        runc.run("restart-heard", "sleep", "600", state=STATE)
        first = before.event("container_create", "restart-heard")
        before.stop(signal.SIGKILL)
    runc.remove("restart-goes", state=STATE)
    runc.run("restart-new", "sleep", "600", state=STATE)
    try:
        with Watching(*options(state)) as after:
            pass
    finally:
        for name in ("restart-stays", "restart-heard", "restart-new"):
            runc.remove(name, state=STATE)

    assert before.event("existing_container", "restart-stays")
    (gap,) = [line.event for line in after.lines if line.event["event"] == "watch_gap"]
    assert gap["reason"] == "restart"
    assert first["time"] <= gap["until"]
    assert gap["since"] <= gap["until"]
    assert after.names("restart-stays") == ["existing_container"]
    assert after.names("restart-heard") == ["existing_container"]
    assert after.event("existing_container", "restart-heard")["id"] == first["id"]
    assert after.names("restart-goes") == ["container_remove"]
    new = after.event("container_create", "restart-new")
    assert new["evidence"]["missing"]["creator"] == "unheard"
    assert new["evidence"]["status"] == "complete"
    assert new["process"]["args"] == ["sleep", "600"]


def test_killed_in_a_storm_it_announces_the_living_once(fakes: Fakes, tmp_path: Path) -> None:
    state, made, half = tmp_path / "state", 101, threading.Event()

    def storm() -> None:
        for number in range(made):
            fakes.make(fake_id(number))
            if number % 3 == 2:
                fakes.end(fake_id(number - 1))
            if number == made // 2:
                half.set()

    with Watching(*options(state, "--wait", "0")) as before:
        maker = threading.Thread(target=storm)
        maker.start()
        assert half.wait(20)
        before.stop(signal.SIGKILL)
        maker.join()
    with Watching(*options(state, "--wait", "0")) as after:
        pass

    births = [told(watching, "container_create") for watching in (before, after)]
    listed = told(after, "existing_container")
    assert all(len(events) == 1 for birth in births for events in birth.values())
    assert not births[0].keys() & births[1].keys(), "announced as new twice"
    assert births[0], "the storm had begun"
    assert births[1], "and went on"
    for container in fakes.living():
        assert container in births[1] or container in listed, "alive, and missing"
        if container in births[0] and container in listed:
            assert listed[container][0]["id"] == births[0][container][0]["id"]
    ended = set(births[0]) - set(fakes.living()) - set(told(before, "container_remove"))
    assert ended <= set(told(after, "container_remove"))


def test_after_a_loss_it_looks_around(fakes: Fakes) -> None:
    """The reader stands while 30,000 directories come and go; some containers stay."""
    heard, unheard, directory = fake_id(1), fake_id(2), fakes.home / "loss"
    with Watching("--wait", "0", "--no-existing", "--audit", "0") as watching:
        fakes.make(heard)
        watching.event("container_create", heard)
        watching.process.send_signal(signal.SIGSTOP)
        for _ in range(30_013):
            os.mkdir(directory)
            os.rmdir(directory)
        fakes.end(heard)
        fakes.make(unheard)
        watching.process.send_signal(signal.SIGCONT)
        created = watching.event("container_create", unheard)
        watching.event("container_remove", heard)
        watching.until(lambda: "watch_gap" in names(watching), "watch_gap")

    (gap,) = [line.event for line in watching.lines if line.event["event"] == "watch_gap"]
    lost = int(watching.errors[-1].rpartition(" lost")[0].rpartition(" ")[2])
    assert created["evidence"]["missing"]["creator"] == "unheard"
    assert gap["reason"] == "lost"
    assert 0 < gap["lost"] <= lost
    assert names(watching).count("container_create") == 2


def names(watching: Watching) -> list[str]:
    return [line.event["event"] for line in list(watching.lines)]


def test_an_audit_finds_who_enters_a_cgroup_that_was_left(fakes: Fakes) -> None:
    """No directory is made, so no birth is heard."""
    container = fake_id(3)
    fakes.place(container).mkdir()
    with Watching("--wait", "0", "--audit", "1") as watching:
        fakes.enter(container)
        created = watching.event("container_create", container)
        audit = watching.event("audit", container)
        fakes.end(container)
        watching.event("container_remove", container)

    assert audit["finding"] == "missed"
    assert audit["cgroup_path"] == created["cgroup"]["path"]
    assert created["evidence"]["missing"]["creator"] == "unheard"


def test_what_came_and_went_while_it_was_away_is_remembered(
    docker: Docker, ctr: Ctr, tmp_path: Path
) -> None:
    """Born and ended unheard, but Docker keeps a record of it."""
    where = ("--socket", f"docker={docker.socket}", "--socket", f"containerd={ctr.socket}")
    with Watching(*options(tmp_path, *where)) as before:
        before.stop(signal.SIGKILL)
    ended = docker.run("true", options=["--name", "restart-short"])
    until("it has ended", lambda: not docker.inspect(ended)["State"]["Running"])
    try:
        with Watching(*options(tmp_path, *where)) as after:
            created = after.event("container_create", ended)
            after.event("container_remove", ended)
    finally:
        docker.remove(ended)

    assert after.names(ended) == ["container_create", "container_remove"]
    assert created["container_name"] == "restart-short"
    assert created["container_image"] == IMAGE
    assert created["evidence"]["sources"]["ctime"] == "docker"
    assert created["evidence"]["missing"]["cgroup"] == "unheard"


def test_an_audit_finds_who_is_in_no_runtimes_list(fakes: Fakes, docker: Docker) -> None:
    """A container that only its cgroup's name speaks for, and one that Docker knows."""
    container, left, known = fake_id(4), fake_id(5), docker.run("sleep", "600")
    fakes.make(container)
    fakes.place(left).mkdir()
    try:
        with Watching(
            "--wait", "0.2", "--audit", "1", "--socket", f"docker={docker.socket}"
        ) as watching:
            audit = watching.event("audit", container)
            fakes.enter(left)
            watching.event("audit", left)  # at a later beat
    finally:
        docker.remove(known)

    assert audit["finding"] == "unknown_to_runtime"
    assert [event["event"] for event in watching.of(container)].count("audit") == 1
    assert watching.names(known) == ["existing_container"]


def test_ps_verifies(fakes: Fakes, docker: Docker) -> None:
    known, socket = docker.run("sleep", "600"), f"docker={docker.socket}"
    try:
        assert known in ctrwatch("ps", "--verify", "--no-trunc", "--socket", socket)
        fakes.make(fake_id(6))
        lines = ctrwatch("ps", "--verify", "--json", "--socket", socket, code=1).splitlines()
    finally:
        docker.remove(known)

    found = [event for event in map(json.loads, lines) if event["event"] == "audit"]
    assert [(event["finding"], event["container_id"]) for event in found] == [
        ("unknown_to_runtime", fake_id(6))
    ]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(b"\x7fELF\n", "not a state of ctrwatch's", id="another-file"),
        pytest.param(b'{"ctrwatch":2}\n', "another version of ctrwatch", id="newer"),
    ],
)
def test_a_state_that_cannot_be_used(content: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / "announced.jsonl").write_bytes(content)

    done = subprocess.run(
        [*CTRWATCH, "events", "--state", tmp_path], capture_output=True, text=True, check=False,
        timeout=60,
    )  # fmt: skip

    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert (tmp_path / "announced.jsonl").read_bytes() == content


def test_a_state_serves_one_at_a_time(tmp_path: Path) -> None:
    with Watching(*options(tmp_path)):
        ctrwatch("events", "--state", str(tmp_path), code=2)
