"""The C header and its Python mirror agree, by the word of a compiler; any bytes get an answer."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from ctrwatch.core import wire
from ctrwatch.errors import WireError
from ctrwatch.model import CgroupKey, Kind, RawEvent

HEADER = Path(__file__).parents[2] / "src/ctrwatch/sensor/bpf/event.h"
PROBE = """
#include <linux/types.h>
#include <stddef.h>
#include <stdio.h>
#include "%s"
#define AT(field) printf(#field " %%zu %%zu\\n", offsetof(struct ctrwatch_record, field), \\
                         sizeof(((struct ctrwatch_record *)0)->field));
#define IS(name) printf(#name " %%d\\n", CTRWATCH_##name);
int main(void) {
    %s
    printf("size %%zu\\n", sizeof(struct ctrwatch_record));
}
"""
CODES = [code for _, code in wire.FIELDS]
HEAD = struct.Struct("=" + "".join(CODES))
DEFAULTS: dict[str, Any] = {
    "boot_ns": 1,
    "cgroup_id": 2**64 - 1,
    "parent_id": 3,
    "lost": 4,
    "start_ns": 5,
    "hierarchy_id": 6,
    "level": 7,
    "pid": 7199,
    "tid": 7201,
    "ppid": 7188,
    "uid": 2**32 - 1,
    "gid": 11,
    "mnt_ns": 4026531841,
    "pid_ns": 4026531836,
    "cpu": 3,
    "kind": Kind.MKDIR,
    "flags": 0,
    "version": wire.VERSION,
    "reserved": b"",
    "comm": b"runc",
}


def record(path: bytes = b"/demo/t1", argv: bytes = b"", **changes: Any) -> bytes:
    """A record as the kernel side makes it, with *changes* of its head's fields."""
    values = DEFAULTS | {"path_len": len(path), "argv_len": len(argv)} | changes
    return HEAD.pack(*(values[name] for name, _ in wire.FIELDS)) + path + argv


# --- the header ---------------------------------------------------------------------------


def said_by_c(tmp_path: Path, names: list[str]) -> list[str]:
    compiler = shutil.which("cc") or shutil.which("clang")
    assert compiler, "no C compiler: the BPF program needs clang, so it is there"
    source, program = tmp_path / "probe.c", tmp_path / "probe"
    lines = [*(f"AT({name})" for name, _ in wire.FIELDS), *(f"IS({name})" for name in names)]
    source.write_text(PROBE % (HEADER, "\n".join(lines)))
    subprocess.run([compiler, "-o", program, source], check=True)
    return subprocess.run([program], check=True, capture_output=True, text=True).stdout.splitlines()


def test_layout_and_constants_are_the_compilers(tmp_path: Path) -> None:
    constants = {
        "WIRE_VERSION": wire.VERSION,
        "PATH_MAX": wire.PATH_MAX,
        "ARGV_MAX": wire.ARGV_MAX,
        "COMM_LEN": 16,
        "ARGV_CUT": wire.ARGV_CUT_FLAG,
    } | {kind.name: int(kind) for kind in Kind}
    expected = [
        f"{name} {struct.calcsize('=' + ''.join(CODES[:i]))} {struct.calcsize('=' + code)}"
        for i, (name, code) in enumerate(wire.FIELDS)
    ]
    expected += [f"{name} {value}" for name, value in constants.items()]

    assert said_by_c(tmp_path, list(constants)) == [*expected, f"size {HEAD.size}"]


def test_the_header_names_every_kind_we_know_and_no_other() -> None:
    text = HEADER.read_text()
    body = text[text.index("enum ctrwatch_kind {") :].partition("}")[0]

    assert body.count("CTRWATCH_") == len(Kind)


# --- records ------------------------------------------------------------------------------


def test_every_field_comes_through() -> None:
    event = wire.decode(record(argv=b"runc\0create\0t1\0"))

    assert event == RawEvent(
        kind=Kind.MKDIR,
        boot_ns=1,
        cgroup=CgroupKey(6, 2**64 - 1),
        parent_id=3,
        level=7,
        path="/demo/t1",
        path_cut=False,
        task=event.task,
        lost=4,
    )
    task = event.task
    assert (task.pid, task.tid, task.ppid) == (7199, 7201, 7188)
    assert (task.uid, task.gid, task.start_ns, task.cpu) == (2**32 - 1, 11, 5, 3)
    assert (task.mnt_ns, task.pid_ns, task.comm) == (4026531841, 4026531836, "runc")
    assert (task.argv, task.argv_cut) == (("runc", "create", "t1"), False)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        pytest.param(b"", (), id="none"),
        pytest.param(b"runc\0", ("runc",), id="one"),
        pytest.param(b"runc\0--log\0\0t1\0", ("runc", "--log", "", "t1"), id="an-empty-word"),
        pytest.param(b"runc\0\0", ("runc", ""), id="an-empty-word-at-the-end"),
        pytest.param(b"runc\0crea", ("runc", "crea"), id="without-its-end"),
        pytest.param(b"\0", ("",), id="only-an-empty-word"),
        pytest.param(b"caf\xe9\0", ("caf\udce9",), id="no-utf-8"),
    ],
)
def test_command_lines(argv: bytes, words: tuple[str, ...]) -> None:
    assert wire.decode(record(argv=argv)).task.argv == words


def test_a_cut_command_line_is_marked() -> None:
    argv = b"x" * wire.ARGV_MAX

    task = wire.decode(record(argv=argv, flags=wire.ARGV_CUT_FLAG)).task

    assert task.argv_cut
    assert task.argv == (argv.decode(),)


@pytest.mark.parametrize(
    ("length", "kind", "is_cut"),
    [
        pytest.param(1022, Kind.MKDIR, False, id="fits"),
        pytest.param(1023, Kind.MKDIR, True, id="fills-the-tracepoints-buffer"),
        pytest.param(1023, Kind.RMDIR, True, id="removal"),
        pytest.param(1023, Kind.ATTACH, True, id="entry"),
        pytest.param(1023, Kind.EXEC, False, id="a-programs-path-is-another-buffers"),
    ],
)
def test_a_cut_path_is_marked(length: int, kind: Kind, is_cut: bool) -> None:
    event = wire.decode(record(path=b"/" * length, kind=kind))

    assert (len(event.path), event.path_cut) == (length, is_cut)


@given(st.binary(min_size=1, max_size=1023).filter(lambda path: b"\0" not in path))
def test_a_path_of_any_bytes_is_kept(path: bytes) -> None:
    event = wire.decode(record(path=path))

    assert event.path.encode("utf-8", "surrogateescape") == path


@pytest.mark.parametrize(
    ("comm", "text"),
    [
        pytest.param(b"runc", "runc", id="short"),
        pytest.param(b"a" * 16, "a" * 16, id="full"),
        pytest.param(b"runc\0old-name", "runc", id="rest-of-an-older-name"),
        pytest.param(b"\xff\xfe", "\udcff\udcfe", id="no-utf-8"),
    ],
)
def test_names_of_processes(comm: bytes, text: str) -> None:
    assert wire.decode(record(comm=comm)).task.comm == text


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        pytest.param(b"", "record of 0 bytes, expected at least 112", id="empty"),
        pytest.param(record()[: HEAD.size - 1], "record of 111 bytes", id="one-byte-short"),
        pytest.param(record(version=2), "wire version 2, expected 1", id="another-version"),
        pytest.param(record(kind=0), "unknown kind 0", id="kind-too-small"),
        pytest.param(record(kind=6), "unknown kind 6", id="kind-too-large"),
        pytest.param(record(path_len=9), "speaks of 121", id="path-longer-than-the-record"),
        pytest.param(record(argv_len=1), "speaks of 121", id="argv-longer-than-the-record"),
    ],
)
def test_what_is_not_ours_is_a_wire_error(bad: bytes, message: str) -> None:
    with pytest.raises(WireError, match=message):
        wire.decode(bad)


def test_the_rest_of_a_longer_record_is_not_ours() -> None:
    """The ring hands out multiples of eight bytes."""
    assert wire.decode(record() + b"\xff" * 7) == wire.decode(record())


@given(st.binary(max_size=300))
def test_garbage_is_a_wire_error(garbage: bytes) -> None:
    if garbage[80:81] != bytes([wire.VERSION]):
        with pytest.raises(WireError):
            wire.decode(garbage)


@given(
    st.binary(min_size=HEAD.size, max_size=HEAD.size),
    st.sampled_from([0, 1, 2, 3, 4, 5, 255]),
    st.integers(0, 300),
    st.binary(max_size=400),
)
def test_garbage_with_our_version_is_an_event_or_a_wire_error(
    head: bytes, kind: int, length: int, tail: bytes
) -> None:
    values = dict(zip((name for name, _ in wire.FIELDS), HEAD.unpack(head), strict=True))
    values |= {"version": wire.VERSION, "kind": kind, "path_len": length, "argv_len": length}
    try:
        event = wire.decode(HEAD.pack(*values.values()) + tail)
    except WireError:
        return
    assert event.kind in Kind
    assert len(event.path.encode("utf-8", "surrogateescape")) == length
