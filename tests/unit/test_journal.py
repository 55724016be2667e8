"""What is written comes back; what was not written by us has a clear end."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from ctrwatch.core.chain import Back, Clock, Ending, Header, Input, Lost, Overdue, Patience, Reply
from ctrwatch.errors import InputError
from ctrwatch.model import (
    CgroupKey,
    ContainerId,
    Facts,
    Found,
    Identity,
    Kind,
    Leads,
    Limits,
    Listed,
    Missing,
    Mount,
    NotFound,
    RawEvent,
    Runtime,
    Security,
    Task,
    Unavailable,
)
from ctrwatch.sensor.journal import JournalWriter, read_journal
from tests.unit.builders import CID, Kernel, runc

HEADER = Header(host="h", boot_id="b", wall_offset_ns=1, wait_ns=2, unified=True)


def record(path: Path, items: Iterable[Input], header: Header = HEADER) -> Path:
    writer = JournalWriter(path, header)
    for item in items:
        writer.write(item)
    writer.close()
    return path


def replayed(path: Path) -> list[Input]:
    return list(read_journal(path)[1])


FACTS = Facts(
    runtime=Runtime.DOCKER,
    labels={"a": "b"},
    security=Security(mounts=(Mount(source="/a", destination="/b", type="bind", read_only=True),)),
    limits=Limits(cpu_cores=0.1),
    leads=Leads(bundle="/b"),
    absent={"pod_name": Missing.NOT_IN_POD},
)
ONE_OF_EACH: list[Input] = [
    Kernel().mkdir("/demo/t1", runc("t1")),
    Kernel().mkdir("/caf\udce9", runc("t\udcff1")),
    Listed(
        boot_ns=1,
        container_id=ContainerId(CID),
        paths=((CgroupKey(0, 2**64 - 1), "/\udc80"),),
        identity=Identity(ContainerId(CID), Runtime.DOCKER, is_root=True, pod_uid="u"),
        leads=Leads(namespace="moby"),
        init_pid=7,
    ),
    Reply(boot_ns=1, serial=1, source="docker", answer=Found(FACTS)),
    Reply(boot_ns=1, serial=1, source="docker", answer=NotFound()),
    Reply(boot_ns=1, serial=1, source="docker", answer=Unavailable("docker: \udcff")),
    Reply(boot_ns=1, serial=1, source="cri", answer=Unavailable("cri: gone", away=True)),
    Overdue(boot_ns=1, serial=1),
    Back(boot_ns=1, source="docker"),
    Lost(boot_ns=1, total=5),
    Clock(wall_offset_ns=-5),
    Patience(boot_ns=1, wait_ns=0),
    Ending(boot_ns=9),
]


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    path = record(tmp_path / "j", ONE_OF_EACH)

    header, items = read_journal(path)

    assert header == HEADER
    assert list(items) == ONE_OF_EACH


def test_it_is_one_json_object_a_line(tmp_path: Path) -> None:
    lines = record(tmp_path / "j", ONE_OF_EACH).read_bytes().split(b"\n")

    assert lines.pop() == b""
    assert len(lines) == 1 + len(ONE_OF_EACH)
    assert all(line.isascii() for line in lines)


TEXT = st.text(st.characters(codec=None, exclude_categories=[])) | st.binary().map(
    lambda raw: raw.decode("utf-8", "surrogateescape")
)


@given(TEXT, TEXT, st.lists(TEXT), st.tuples(st.integers(0, 2**62), st.integers(0, 2**64 - 1)))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_names_come_back(
    tmp_path: Path, path: str, comm: str, argv: list[str], numbers: tuple[int, int]
) -> None:
    boot_ns, cgroup_id = numbers
    event = RawEvent(
        kind=Kind.MKDIR,
        boot_ns=boot_ns,
        cgroup=CgroupKey(0, cgroup_id),
        parent_id=1,
        level=1,
        path=path,
        path_cut=True,
        task=Task(pid=1, ppid=0, comm=comm, argv=tuple(argv)),
        lost=0,
    )

    assert replayed(record(tmp_path / "j", [event])) == [event]


# --- what was not written by us -----------------------------------------------------------


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(b"", id="empty-file"),
        pytest.param(b"hello\n", id="text"),
        pytest.param(b"\x7fELF\xff\x00\n", id="binary"),
        pytest.param(b'{"type":"header"}\n', id="fields-missing"),
        pytest.param(msgspec.json.encode(ONE_OF_EACH[0]) + b"\n", id="no-header"),
        pytest.param(b"[" * 100_000, id="deep"),
        pytest.param(
            msgspec.json.encode(msgspec.structs.replace(HEADER, wall_offset_ns=1 << 63)),
            id="no-time-of-this-world",
        ),
    ],
)
def test_not_a_recorded_stream(tmp_path: Path, first: bytes) -> None:
    path = tmp_path / "j"
    path.write_bytes(first)

    with pytest.raises(InputError, match=r"j: not a recorded stream .*--record FILE"):
        read_journal(path)


def test_another_versions_journal_is_named(tmp_path: Path) -> None:
    path = record(tmp_path / "j", [], msgspec.structs.replace(HEADER, version=99))

    with pytest.raises(
        InputError, match=r"recorded by another version .*format 99, this one reads 1"
    ):
        read_journal(path)


GOOD = msgspec.json.encode(Overdue(boot_ns=1, serial=1))


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(GOOD[:-1], id="cut-short"),
        pytest.param(b"", id="blank"),
        pytest.param(GOOD.replace(b"overdue", b"overture"), id="unknown-kind"),
        pytest.param(GOOD.replace(b'"serial":1', b'"serial":"1"'), id="wrong-type"),
        pytest.param(GOOD.replace(b'"boot_ns":1', b'"boot_ns":9' + b"9" * 30), id="too-large"),
        pytest.param(GOOD.replace(b"}", b',"x":' + b"[" * 100_000), id="deep"),
        pytest.param(GOOD.replace(b"}", b',"\\ud800":' + b"[" * 100_000), id="deep-surrogate"),
        pytest.param(GOOD.replace(b"overdue", b"\\udc80"), id="lone-surrogate"),
        pytest.param(
            msgspec.json.encode(
                Reply(boot_ns=1, serial=1, source="docker", answer=Found(Facts(name="odd")))
            ).replace(b"odd", b"\\udc80"),
            id="lone-surrogate-in-a-name",
        ),
        pytest.param(b"\xff\n", id="no-utf-8"),
        pytest.param(msgspec.json.encode(HEADER), id="a-second-header"),
    ],
)
def test_a_bad_line_is_named_after_the_good_ones(tmp_path: Path, bad: bytes) -> None:
    path = record(tmp_path / "j", [Overdue(boot_ns=1, serial=1)])
    path.write_bytes(path.read_bytes() + bad + b"\n")
    items = read_journal(path)[1]

    assert next(items) == Overdue(boot_ns=1, serial=1)
    with pytest.raises(InputError, match=r"j:3: ."):
        next(items)


@given(st.binary(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_garbage_is_an_input_or_an_input_error(tmp_path: Path, garbage: bytes) -> None:
    path = record(tmp_path / "j", [])
    path.write_bytes(path.read_bytes() + garbage)
    with contextlib.suppress(InputError):
        assert all(isinstance(item, Input) for item in replayed(path))


@pytest.mark.parametrize(
    ("name", "why"),
    [
        pytest.param("none", "No such file", id="none"),
        pytest.param(".", "Is a directory", id="dir"),
    ],
)
def test_a_file_that_can_not_be_read_is_named(tmp_path: Path, name: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        read_journal(tmp_path / name)


# --- places that can't be written ---------------------------------------------------------


def test_a_file_that_can_not_be_made_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no/j: No such file or directory"):
        JournalWriter(tmp_path / "no" / "j", HEADER)


def test_it_is_not_for_everybody_to_read(tmp_path: Path) -> None:
    """Command lines and labels are in it, as they are in what `--output` writes."""
    path = record(tmp_path / "j", ())

    assert path.stat().st_mode & 0o007 == 0


def test_a_full_disk_ends_the_recording_and_nothing_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    writer = JournalWriter(Path("/dev/full"), HEADER)
    with caplog.at_level(logging.ERROR):
        for _ in range(1000):
            writer.write(ONE_OF_EACH[0])
        dropped = writer.dropped
        writer.close()

    assert 0 < dropped < 1000  # what was in the file's buffer is lost, too, and not counted
    assert [record.getMessage() for record in caplog.records][:1] == [
        "/dev/full: No space left on device; the recording ends here"
    ]
    assert len(caplog.records) <= 2


def test_after_its_end_nothing_is_written(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path / "j", HEADER)
    writer.close()

    writer.write(ONE_OF_EACH[0])
    writer.close()

    assert replayed(tmp_path / "j") == []
