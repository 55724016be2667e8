"""`--metrics ADDRESS`: what is an address, what lies in the way, and what is left behind."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, strategies as st

from ctrwatch.cli import main
from ctrwatch.errors import InputError
from ctrwatch.outputs.listening import Listening

WAYS = "give 127.0.0.1:PORT, another ADDRESS:PORT, or unix:/path/to/socket"
IN_USE = "something else listens there already; stop it, or choose another"


@pytest.fixture
def path() -> Iterator[Path]:
    """A socket's path ends at 107 bytes: shorter than a test's own directory may be."""
    with tempfile.TemporaryDirectory(prefix="ctrwatch-") as directory:
        yield Path(directory) / "metrics.sock"


def refusal(given: str) -> str:
    with pytest.raises(InputError) as raised:
        Listening(given)
    return str(raised.value)


@pytest.mark.parametrize(
    "given",
    [
        pytest.param("", id="nothing"),
        pytest.param("9470", id="port-only"),
        pytest.param(":9470", id="any-address"),
        pytest.param("127.0.0.1", id="no-port"),
        pytest.param("127.0.0.1:", id="empty-port"),
        pytest.param("127.0.0.1:http", id="named-port"),
        pytest.param("127.0.0.1:-1", id="negative-port"),
        pytest.param("127.0.0.1:+80", id="signed-port"),
        pytest.param("127.0.0.1:65536", id="port-too-large"),
        pytest.param("127.0.0.1:" + "9" * 5000, id="endless-port"),
        pytest.param("127.0.0.1:٨٠", id="digits-of-another-script"),
        pytest.param("127.0.0.256:80", id="no-address"),
        pytest.param("127.1:80", id="short-address"),
        pytest.param("example.org:80", id="name"),
        pytest.param("[127.0.0.1]:80", id="bracketed-v4"),
        pytest.param("::1:9470", id="bare-v6"),
        pytest.param("http://127.0.0.1:80", id="url"),
        pytest.param("unix:", id="unix-nothing"),
        pytest.param("unix:run/metrics.sock", id="unix-relative"),
        pytest.param("unix:@metrics", id="unix-abstract"),
        pytest.param("unix:/run/\0", id="unix-nul"),
        pytest.param("run/metrics.sock", id="relative"),
    ],
)
def test_what_is_no_address(given: str) -> None:
    assert refusal(given) == f"--metrics {given}: {WAYS}"


@given(st.text())
def test_any_text_is_an_address_or_a_named_error(given: str) -> None:
    if given.rpartition(":")[2].isdecimal() or "/" in given:
        return  # it may really listen
    with pytest.raises(InputError):
        Listening(given)


@pytest.mark.parametrize(
    ("given", "where"),
    [
        pytest.param("127.0.0.1:0", "127.0.0.1:{}", id="v4"),
        pytest.param("localhost:0", "127.0.0.1:{}", id="localhost"),
        pytest.param("0.0.0.0:0", "0.0.0.0:{}", id="every-interface"),
        pytest.param("[::1]:0", "[::1]:{}", id="v6"),
    ],
)
def test_port_0_is_any_that_is_free_and_where_says_which(given: str, where: str) -> None:
    with Listening(given) as listening:
        port = listening.socket.getsockname()[1]

        assert port > 0
        assert listening.where == where.format(port)


def test_a_port_in_use() -> None:
    with Listening("127.0.0.1:0") as first:
        assert refusal(first.where) == f"--metrics {first.where}: {IN_USE}"


def test_the_command_says_it_in_a_line() -> None:
    with Listening("127.0.0.1:0") as first:
        for given, why in ((first.where, IN_USE), ("soon", WAYS)):
            result = CliRunner().invoke(main, ("events", "--metrics", given))

            assert (result.exit_code, result.output) == (2, f"ctrwatch: --metrics {given}: {why}\n")


# --- unix sockets ---------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["unix:{}", "{}"])
@pytest.mark.parametrize("umask", [0, 0o22, 0o77], ids=oct)
def test_a_socket_is_for_its_owner_and_group_and_goes_with_its_maker(
    path: Path, given: str, umask: int
) -> None:
    before = os.umask(umask)
    try:
        with Listening(given.format(path)) as listening:
            status = path.stat()
    finally:
        assert os.umask(before) == umask

    assert listening.where == f"unix:{path}"
    assert stat.S_ISSOCK(status.st_mode)
    assert stat.S_IMODE(status.st_mode) == 0o660
    assert not path.exists()


def left_behind(path: Path) -> None:
    """As by a process that was killed."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))


def test_what_a_killed_one_left_is_replaced(path: Path) -> None:
    left_behind(path)

    with Listening(str(path)), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_a_socket_in_use_stays(path: Path) -> None:
    with Listening(str(path)):
        assert refusal(f"unix:{path}") == f"--metrics unix:{path}: {IN_USE}"
        assert path.is_socket()


def test_a_socket_whose_owner_accepts_nobody_is_in_use(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as hanging, socket.socket(socket.AF_UNIX) as first:
        hanging.bind(str(path))
        hanging.listen(0)
        first.connect(str(path))

        assert refusal(str(path)).endswith(IN_USE)
        assert path.is_socket()


@pytest.mark.parametrize("kind", ["file", "directory", "fifo", "link to a socket", "dead link"])
def test_anything_else_stays(path: Path, kind: str) -> None:
    match kind:
        case "file":
            path.write_text("precious")
        case "directory":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case "link to a socket":
            left_behind(path.with_suffix(".other"))
            path.symlink_to(path.with_suffix(".other"))
        case _:
            path.symlink_to("nowhere")
    before = path.lstat()

    assert refusal(str(path)) == (
        f"--metrics {path}: a file that is no socket is there, and stays; choose another path"
    )
    assert os.path.samestat(path.lstat(), before)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
def test_another_users_socket_stays(path: Path) -> None:
    left_behind(path)
    os.chown(path, 12345, 12345)

    assert refusal(str(path)) == (
        f"--metrics {path}: another user's socket is there, and stays; choose another path"
    )
    assert path.is_socket()


def test_a_directory_that_is_not_there(path: Path) -> None:
    assert refusal(f"{path}/x/metrics.sock") == (
        f"--metrics {path}/x/metrics.sock: No such file or directory"
    )


def test_a_path_that_is_too_long(path: Path) -> None:
    long = f"{path.parent}/{'é' * 50}"

    assert refusal(long) == f"--metrics {long}: a socket's path has at most 107 bytes"


def test_what_somebody_else_put_there_meanwhile_stays(path: Path) -> None:
    with Listening(str(path)):
        path.unlink()
        path.write_text("another's")

    assert path.read_text() == "another's"
