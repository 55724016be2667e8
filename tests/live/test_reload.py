"""SIGHUP in the middle of births: what the file says holds then, whole or not at all, and nothing is lost."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.contract.daemons import docker
from tests.contract.data import DATA, ids
from tests.live.bed import Bed
from tests.live.test_daemons import playing
from tests.live.waiting import until
from tests.live.watching import CTRWATCH, DEADLINE_S, Watching, ctrwatch, environment, unified

RELOADS = 7
KNOWN = ids("docker")["by-registry"]
LISTED = (DATA / "docker/engine/containers.json").read_bytes()
IMAGE = (DATA / "docker/engine/image.json").read_bytes()
BEFORE, MEANWHILE = 101, 499  # births before SIGHUP, and while it is served


class Storm:
    """Containers by name only, one after the other, that end at once."""

    def __init__(self) -> None:
        self.born: list[str] = []
        self._home = unified() / "ctrwatch-reload"
        self._home.mkdir()
        self._wanted, self._ended = 0, False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def go_on(self) -> None:
        """Some are born when this returns; others are while the caller goes on."""
        with self._changed:
            self._wanted = len(self.born) + BEFORE + MEANWHILE
            enough = self._wanted - MEANWHILE
            self._changed.notify_all()
            self._changed.wait_for(lambda: len(self.born) >= enough)

    def end(self) -> list[str]:
        """All that were born."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        if self._home.exists():
            self._thread.join()
            self._home.rmdir()
        return self.born

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: len(self.born) < self._wanted or self._ended)
                if len(self.born) >= self._wanted:
                    return
            container = f"{len(self.born):012x}" + "5e" * 26
            place = self._home / f"docker-{container}.scope"
            place.mkdir()
            place.rmdir()
            with self._changed:
                self.born.append(container)
                self._changed.notify_all()


@pytest.fixture
def storm() -> Iterator[Storm]:
    storm = Storm()
    yield storm
    storm.end()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "ctrwatch.toml"


def reload(watching: Watching, says: str) -> None:
    """SIGHUP; what it has to say about it is that one line."""
    known = len(watching.errors)

    def said() -> list[str]:
        lines = watching.errors[known:]
        return [line for line in lines if "reloaded" in line or "stays as it was" in line]

    watching.process.send_signal(signal.SIGHUP)
    watching.until(lambda: bool(said()), says)
    assert said() == [f"ctrwatch: {says}\n"]


def heard(path: Path, name: str) -> list[str]:
    """The first twelve digits of the storm's, of lines in either format; a torn line fails."""
    found = []
    for line in path.read_text().split("\n")[:-1]:  # the last one may be under way
        if line.startswith("{"):
            event = json.loads(line)
            word, container = event["event"].removeprefix("container_"), event["container_id"]
        else:
            words = line.split()
            assert re.fullmatch(r"[\d:.]{12}", words[0]), line
            word = words[1]
            container = next((each for each in words if re.fullmatch(r"0000[0-9a-f]{8}", each)), "")
        if word == name and container.startswith("0000"):
            found.append(container[:12])
    return found


def begun_with(path: Path) -> bool:
    return bool(heard(path, "create"))


def test_format_and_output_change_in_a_storm(storm: Storm, tmp_path: Path, config: Path) -> None:
    """Together the files have every birth once; each of them in its own format."""
    paths = [tmp_path / f"events.{number}" for number in range(RELOADS + 1)]

    def write(number: int) -> None:
        config.write_text(
            f'wait = {number % 3 / 4}\nexisting = false\n[output]\npath = "{paths[number]}"\n'
            f'format = "{"text" if number % 2 else "json"}"\n'
        )

    write(0)
    with Watching("--config", str(config), lines=()) as watching:
        for number in range(1, RELOADS + 1):
            storm.go_on()
            # A birth may be told a wait later than it was.
            until("a line", partial(begun_with, paths[number - 1]))
            write(number)
            reload(watching, f"reloaded {config}: wait, output.format, output.path")
        storm.go_on()
        born = [container[:12] for container in storm.end()]
        until("the last removal", lambda: born[-1] in heard(paths[-1], "remove"))
        assert watching.stop() == 0

    for name in ("create", "remove"):
        found = [container for path in paths for container in heard(path, name)]
        assert sorted(found) == born  # busy daemons may hold one up
    for number, path in enumerate(paths):
        assert begun_with(path)
        assert path.read_bytes().endswith(b"\n")
        assert {line[0] == "{" for line in path.read_text().splitlines()} == {number % 2 == 0}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param("wait = ", ":1: Invalid value", id="no-toml"),
        pytest.param(
            'wait = 1\noutput.format = "xml"',
            ': output.format: not "text", "json" or "tracee": "xml"',
            id="wrong",
        ),
        pytest.param(
            "existing = false\nraw = true", ": raw: changed, and that takes a restart", id="raw"
        ),
        pytest.param('existing = false\noutput.path = "/dev/null"', None, id="output"),
    ],
)
def test_a_file_that_is_wrong_changes_nothing(
    storm: Storm, tmp_path: Path, config: Path, content: str, says: str | None
) -> None:
    """But a file that was rotated is opened again."""
    path, before = tmp_path / "events.jsonl", tmp_path / "events.jsonl.1"
    good = f'wait = 0\nexisting = false\noutput.path = "{path}"\n'
    config.write_text(good)
    with Watching("--config", str(config), lines=()) as watching:
        storm.go_on()
        until("a line", partial(begun_with, path))
        path.rename(before)
        config.write_text(content)
        what = f"{config}{says}" if says is not None else "/dev/null: not a file"
        reload(watching, f"{what}; everything stays as it was")
        storm.go_on()
        config.write_text(good)
        reload(watching, f"reloaded {config}: nothing has changed")
        storm.go_on()
        born = [container[:12] for container in storm.end()]
        until("the last removal", lambda: born[-1] in heard(path, "remove"))
        assert watching.stop() == 0

    assert sorted(heard(before, "create") + heard(path, "create")) == born


def test_a_new_socket_is_asked_about_who_lives_and_who_is_born(
    tmp_path: Path, config: Path
) -> None:
    """What an Engine has answered once, of containers by name only: nobody else knows of them."""
    path = tmp_path / "engine.sock"
    place = unified() / f"docker-{KNOWN}.scope"
    config.write_text("wait = 0.2\n")
    with (
        playing(docker({"/_ping": b"OK", "/containers/json": LISTED, "/images/": IMAGE}), path),
        Watching("--config", str(config)) as watching,
    ):
        try:
            place.mkdir()
            before = watching.event("container_create", KNOWN)
            config.write_text(f'wait = 5\nsockets.docker = ["{path}"]\n')
            reload(watching, f"reloaded {config}: wait, sockets.docker")
            updated = watching.event("container_update", KNOWN)
            place.rmdir()
            place.mkdir()
            after = watching.event("container_create", KNOWN, nth=2)
            config.write_text("wait = 0.2\n")
            reload(watching, f"reloaded {config}: wait, sockets.docker")
            place.rmdir()
            place.mkdir()
            again = watching.event("container_create", KNOWN, nth=3)
        finally:
            place.rmdir()

    assert before["container_name"] == again["container_name"] == ""
    assert updated["container_name"] == after["container_name"] == "by-registry"


def test_a_birth_that_waits_is_told_when_the_wait_is_shortened(
    tmp_path: Path, config: Path
) -> None:
    """The recording has the moment in it, and gives the same events again."""
    recording, container = tmp_path / "stream.jsonl", "7e" * 32
    place = unified() / f"docker-{container}.scope"
    config.write_text(f'wait = 60\nexisting = false\nrecord = "{recording}"\n')
    with Watching("--config", str(config)) as watching:
        place.mkdir()
        try:
            reload(watching, f"reloaded {config}: nothing has changed")
            config.write_text(f'existing = false\nrecord = "{recording}"\nwait = 0\n')
            reload(watching, f"reloaded {config}: wait")
            created = watching.event("container_create", container)
        finally:
            place.rmdir()
        watching.event("container_remove", container)
        watching.stop()

    assert created["evidence"]["status"] == "unverified"
    again = ctrwatch("replay", "--format", "json", str(recording)).splitlines()
    assert [json.loads(line) for line in again] == [line.event for line in watching.lines]


def test_a_service_without_a_file_stays() -> None:
    """`systemctl reload` sends SIGHUP to it, too."""
    container = "7e" * 32
    place = unified() / f"docker-{container}.scope"
    with Watching("--no-existing", "--wait", "0") as watching:
        watching.process.send_signal(signal.SIGHUP)
        place.mkdir()
        place.rmdir()
        watching.event("container_remove", container)
        assert watching.stop() == 0


def test_a_terminal_that_has_gone_ends_it(config: Path) -> None:
    """SIGHUP means that too, where the lines go to a terminal."""
    config.write_text("existing = false\n")
    ours, theirs = pty.openpty()
    command = (*CTRWATCH, "events", "--config", str(config))
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, env=environment()
    ) as process:
        os.close(theirs)
        assert process.stderr is not None
        for line in process.stderr:
            if b"listening" in line:
                process.send_signal(signal.SIGHUP)
            if b"reloaded" in line:
                break
        os.close(ours)
        process.send_signal(signal.SIGHUP)
        assert process.wait(DEADLINE_S) == 0


def test_every_command_that_asks_daemons_reads_the_file(bed: Bed, config: Path) -> None:
    config.write_text(f'sockets.docker = ["{bed.docker.socket}"]\n')
    known = bed.docker.run("sleep", "600", options=["--name", "reload-listed"])
    try:
        assert "reload-listed" in ctrwatch("ps", "--config", str(config))
        checked = subprocess.run(
            (*CTRWATCH, "doctor", "--config", str(config)),
            capture_output=True, text=True, check=False, env=environment(), timeout=60,
        )  # fmt: skip
    finally:
        bed.docker.remove(known)

    assert str(bed.docker.socket) in checked.stdout
