"""Sockets that are made, replaced, moved here: heard of at once, wherever they may be."""

import asyncio
import os
import socket as socket_module
from pathlib import Path

import pytest

from ctrwatch.evidence import lookout
from ctrwatch.evidence.discover import Kind, Place
from ctrwatch.evidence.lookout import Lookout

UID = os.getuid()


class Heard:
    """A lookout at work, and what it heard of."""

    def __init__(self, *places: Path | str) -> None:
        self._heard: asyncio.Queue[tuple[Kind, str]] = asyncio.Queue()
        self.lookout = Lookout(
            [Place("docker", str(place), "test") for place in places],
            lambda kind, path: self._heard.put_nowait((kind, path)),
        )

    async def next(self) -> Path:
        kind, path = await asyncio.wait_for(self._heard.get(), 10)
        assert kind == "docker"
        return Path(path)

    def nothing(self) -> bool:
        return self._heard.empty()


@pytest.fixture
def base(socket: Path) -> Path:
    return socket.parent


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookout, "_BREATH_S", 0.0)


def bind(path: Path) -> Path:
    with socket_module.socket(socket_module.AF_UNIX) as made:
        made.bind(str(path))
    return path


async def test_socket_that_is_made_replaced_and_moved_here(base: Path) -> None:
    place = base / "docker.sock"
    heard = Heard(place)
    bind(place)
    assert await heard.next() == place
    place.unlink()
    bind(place)
    assert await heard.next() == place
    bind(base / "new").rename(place)
    assert await heard.next() == place
    place.rename(base / "away").rename(place)
    assert await heard.next() == place
    heard.lookout.close()


async def test_socket_that_is_there_already_is_no_news(base: Path) -> None:
    place, other = bind(base / "docker.sock"), base / "other.sock"
    heard = Heard(place, other)
    bind(other)
    assert await heard.next() == other
    assert heard.nothing()
    heard.lookout.close()


async def test_other_places_from_now_on(base: Path) -> None:
    here, new = bind(base / "here.sock"), bind(base / "new.sock")
    later, gone = base / "later.sock", base / "gone.sock"
    heard = Heard(here, gone)
    heard.lookout.watch([Place("docker", str(each), "test") for each in (here, new, later)])
    assert await heard.next() == new  # it is there, and was no place before
    bind(gone)
    bind(later)
    assert await heard.next() == later
    assert heard.nothing()
    heard.lookout.close()


async def test_directories_that_come_one_by_one(base: Path) -> None:
    place = base / "run/k3s/containerd/containerd.sock"
    heard = Heard(place)
    for directory in (base / "run", base / "run/k3s", base / "run/k3s/containerd"):
        directory.mkdir()
        await asyncio.sleep(0)
    bind(place)
    assert await heard.next() == place
    heard.lookout.close()


async def test_directory_that_goes_and_comes_back(base: Path) -> None:
    """A package that is removed and installed again takes its directory along."""
    place = base / "containerd/containerd.sock"
    place.parent.mkdir()
    heard = Heard(place)
    for _ in range(3):
        bind(place)
        assert await heard.next() == place
        place.unlink()
        place.parent.rmdir()
        place.parent.mkdir()
    place.parent.rename(base / "away")
    place.parent.mkdir()
    bind(place)
    assert await heard.next() == place
    heard.lookout.close()


async def test_place_behind_a_link(base: Path) -> None:
    """/var/run is one."""
    (base / "run").mkdir()
    (base / "var").symlink_to(base / "run")
    heard = Heard(base / "var/docker.sock")
    bind(base / "run/docker.sock")
    assert await heard.next() == base / "var/docker.sock"
    heard.lookout.close()


async def test_user_who_logs_in(base: Path) -> None:
    heard = Heard(f"{base}/*/podman/podman.sock", f"{base}/*/docker.sock")
    home = base / str(UID)
    home.mkdir()
    bind(home / "docker.sock")
    assert await heard.next() == home / "docker.sock"
    (home / "podman").mkdir()
    bind(home / "podman/podman.sock")
    assert await heard.next() == home / "podman/podman.sock"
    heard.lookout.close()


async def test_what_a_user_may_not_do(base: Path) -> None:
    """Lead to another's socket, by a link or a directory that is not his own."""
    mine = base / str(UID)
    mine.mkdir()
    elsewhere = base / "elsewhere"
    elsewhere.mkdir()
    heard = Heard(f"{base}/*/docker/docker.sock", base / "last.sock")
    (mine / "docker").symlink_to(elsewhere)
    bind(elsewhere / "docker.sock")
    other = base / str(UID + 1) / "docker"
    other.mkdir(parents=True)
    bind(other / "docker.sock")
    (base / "name").mkdir()
    bind(base / "last.sock")
    assert await heard.next() == base / "last.sock"
    assert heard.nothing()
    heard.lookout.close()


async def test_more_directories_than_may_be_watched(
    base: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lookout, "_MOST", 3)
    for number in range(10):
        (base / str(number)).mkdir()
    heard = Heard(f"{base}/*/docker.sock")
    assert len(heard.lookout._names) == 3
    assert "3 directories are watched already" in caplog.text
    assert len(caplog.records) == 1
    heard.lookout.close()


async def test_without_inotify_it_says_so_and_goes_on(
    base: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lookout._libc, "inotify_init1", lambda _: -1)
    Heard(base / "docker.sock").lookout.close()
    assert "at the next birth only" in caplog.text


async def test_events_that_were_dropped_make_it_look_everywhere(base: Path) -> None:
    place = base / "docker.sock"
    heard = Heard(place)
    assert heard.lookout._matters(lookout._OVERFLOW, "")
    assert not heard.lookout._matters(12345, "docker.sock")
    heard.lookout.close()


async def test_closed_it_leaves_no_file_and_no_timer(base: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    heard = Heard(base / "docker.sock")
    bind(base / "docker.sock")
    await heard.next()
    heard.lookout.close()
    assert len(os.listdir("/proc/self/fd")) == before


async def test_what_else_happens_there_is_no_reason_to_look(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """/run is a busy place."""
    heard = Heard(base / "docker.sock")
    looks = 0
    look = heard.lookout._look

    def counted() -> dict[tuple[Kind, str], tuple[int, ...]]:
        nonlocal looks
        looks += 1
        return look()

    monkeypatch.setattr(heard.lookout, "_look", counted)
    for number in range(101):
        (base / f"other-{number}").touch()
        await asyncio.sleep(0)
    bind(base / "docker.sock")
    assert await heard.next() == base / "docker.sock"
    assert looks == 1
    heard.lookout.close()
