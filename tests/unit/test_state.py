"""What was announced, on disk: whatever ended ctrwatch, the next one reads it."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from ctrwatch.errors import InputError
from ctrwatch.event import ContainerEvent, EventName
from ctrwatch.outputs import state as module
from ctrwatch.outputs.state import State
from tests.unit.test_render import WEB


def event(name: EventName, birth: str, image: str = "") -> ContainerEvent:
    suffix = {"container_remove": "-remove", "container_update": "-update-1"}.get(name, "")
    return msgspec.structs.replace(WEB, event=name, id=birth + suffix, container_image=image)


def left(directory: Path) -> dict[str, ContainerEvent]:
    state = State(directory)
    state.close()
    assert state.past is not None
    return state.past.living


def test_the_first_has_no_past(tmp_path: Path) -> None:
    state = State(tmp_path / "new")
    state.close()

    assert state.past is None
    assert left(tmp_path / "new") == {}


def test_the_living_are_left_as_they_were_told_last(tmp_path: Path) -> None:
    state = State(tmp_path)
    state.note(event("container_create", "a"))
    state.note(event("existing_container", "b"))
    state.note(event("container_start", "a"))
    state.note(event("container_update", "b", image="docker.io/library/late:1"))
    state.note(event("container_create", "c"))
    state.note(event("container_remove", "c"))
    state.close()

    living = left(tmp_path)
    assert list(living) == ["a", "b"]
    assert living["a"].container_id == WEB.container_id
    assert living["a"] == event("container_create", "a")
    assert living["b"].container_image == "docker.io/library/late:1"
    assert living["b"].event == "container_create"


def test_the_last_sign_of_life_is_kept(tmp_path: Path) -> None:
    state = State(tmp_path)
    state.sign()
    state.close()
    file = tmp_path / "announced.jsonl"
    os.utime(file, ns=(5, 5))

    again = State(tmp_path)
    assert again.past is not None
    assert again.past.until_ns == 5
    assert file.stat().st_mtime_ns == 5, "to be there is no sign yet"
    again.sign()
    assert file.stat().st_mtime_ns > 5
    again.close()


@pytest.mark.parametrize(
    "torn", [b'{"event":"container_create","id":"z', b"\n", b"\x00\xff\n", b"[" * 9999 + b"\n"]
)
def test_a_line_that_cannot_be_read_costs_no_other(tmp_path: Path, torn: bytes) -> None:
    state = State(tmp_path)
    state.note(event("container_create", "a"))
    state.close()
    with (tmp_path / "announced.jsonl").open("ab") as file:
        file.write(torn)

    assert list(left(tmp_path)) == ["a"]


def test_the_dead_do_not_stay_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SPARE_BYTES", 20_000)
    monkeypatch.setattr(module, "_RECENT_NS", 0)
    state = State(tmp_path)
    state.note(event("container_create", "lives"))
    for number in range(500):
        state.note(event("container_create", f"n{number}"))
        state.note(event("container_remove", f"n{number}"))
    state.close()

    assert (tmp_path / "announced.jsonl").stat().st_size < 30_000
    assert list(left(tmp_path)) == ["lives"]


@contextlib.contextmanager
def small_files() -> Iterator[None]:
    """
    No file may grow beyond 9,000 bytes: a disk that is full, for this process only.

    No fixture: pytest's own output may be a file, and it says how a test went before a
    fixture ends.
    """
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (9000, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state = State(tmp_path)
    with small_files():
        for number in range(20):
            state.note(event("container_create", f"n{number}"))
    state.close()

    assert state.failed > 0
    (said,) = caplog.messages
    assert os.strerror(errno.EFBIG) in said
    assert "n0" in left(tmp_path)


def test_it_is_in_use_by_one(tmp_path: Path) -> None:
    state = State(tmp_path)
    with pytest.raises(InputError, match="another ctrwatch uses it"):
        State(tmp_path)
    state.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300))
def test_any_bytes_are_a_state_or_a_named_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "announced.jsonl").write_bytes(content)
    try:
        state = State(tmp_path)
    except InputError:
        assert (tmp_path / "announced.jsonl").read_bytes() == content
    else:
        state.close()


def test_who_has_ended_lately_is_known(tmp_path: Path) -> None:
    state = State(tmp_path)
    for birth in ("a", "b"):
        ended = msgspec.structs.replace(event("container_create", birth), container_id=birth * 64)
        state.note(ended)
    state.note(event("container_remove", "b"))
    state.close()

    again = State(tmp_path)
    again.close()
    assert again.past is not None
    assert again.past.ended == {"b" * 64}


def test_who_has_ended_lately_is_known_over_several_restarts(tmp_path: Path) -> None:
    """A runtime lists it for longer than a ctrwatch may live that is killed again and again."""
    state = State(tmp_path)
    born = event("container_create", "a")
    state.note(born)
    state.note(event("container_remove", "a"))
    state.close()

    for _ in range(3):
        state = State(tmp_path)
        state.close()
        assert state.past is not None
        assert state.past.ended == {born.container_id}
        assert not state.past.living
