"""Sockets are looked for at each question, in every place, each once."""

import os
import socket as socket_module
from pathlib import Path

import pytest

from ctrwatch.evidence.discover import PLACES, Place, Sockets, speaks_for


def bind(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with socket_module.socket(socket_module.AF_UNIX) as made:
        made.bind(str(path))
    return path


def test_socket_that_appears_late_and_is_replaced(socket: Path) -> None:
    sockets = Sockets({}, (Place("docker", str(socket), "test"),))
    assert sockets.present("docker") == []
    bind(socket)
    assert sockets.present("docker") == [str(socket)]
    socket.unlink()
    assert sockets.present("docker") == []
    bind(socket)
    assert sockets.present("docker") == [str(socket)]
    assert sockets.present("containerd") == []


def test_given_sockets_come_first_and_each_once(socket: Path) -> None:
    given, link = bind(socket.with_name("given")), socket.with_name("link")
    bind(socket)
    link.symlink_to(socket)
    places = (Place("docker", str(link), "test"), Place("docker", str(socket), "test"))
    sockets = Sockets({"docker": [str(given)]}, places)
    assert sockets.present("docker") == [str(given), str(link)]


def test_other_sockets_are_given_later(socket: Path) -> None:
    before, after = bind(socket.with_name("before")), bind(socket.with_name("after"))
    bind(socket)
    sockets = Sockets({"docker": [str(before)]}, (Place("docker", str(socket), "test"),))
    sockets.given({"docker": [str(after)]})
    assert sockets.present("docker") == [str(after), str(socket)]
    sockets.given({})
    assert sockets.present("docker") == [str(socket)]


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir, os.mkfifo])
def test_what_is_no_socket(socket: Path, make: object) -> None:
    make(socket)  # type: ignore[operator]
    assert Sockets({"docker": [str(socket)]}, ()).present("docker") == []


def test_socket_of_a_user_is_the_users(socket: Path) -> None:
    base, uid = socket.parent, os.getuid()
    bind(base / str(uid) / "docker.sock")
    bind(base / str(uid + 1) / "docker.sock")  # another's directory, our socket
    bind(base / "name" / "docker.sock")
    (base / str(uid + 2)).mkdir()
    (base / str(uid + 2) / "docker.sock").symlink_to(base / str(uid) / "docker.sock")
    sockets = Sockets({}, (Place("docker", f"{base}/*/docker.sock", "test"),))
    own = [f"{base}/{uid}/docker.sock"]
    assert sockets.present("docker") == sockets.present("docker", uid) == own
    assert sockets.present("docker", uid + 3) == [], "it does not speak of another's container"


def test_nobodys_daemon_speaks_of_another_users_container(socket: Path) -> None:
    bind(socket)
    uid = os.getuid()
    sockets = Sockets({}, (Place("docker", str(socket), "test"),))

    assert sockets.present("docker", uid) == [str(socket)]
    assert sockets.present("docker", uid + 1) == []
    assert speaks_for(str(socket), uid)
    assert not speaks_for(str(socket), uid + 1)


def test_a_given_socket_speaks_of_all_that_is_roots(socket: Path) -> None:
    bind(socket)
    assert Sockets({"docker": [str(socket)]}, ()).present("docker", 0) == [str(socket)]


def test_every_place_is_absolute_and_named_once() -> None:
    assert all(place.path.startswith("/") for place in PLACES)
    assert len({place.path for place in PLACES}) == len(PLACES)
