"""What the kernel sends to the fanotify sensor: any bytes are values or a named error."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given, strategies as st

from ctrwatch.core.notices import Mask, Notice, ProcessEvent, notices, process_event
from ctrwatch.errors import WireError

FSID = (0x598D1C9E, 0x2B347E3A)
# A mkdir and the removal of it, as Linux 6.18 wrote them: a pidfd in both, the child's handle
# only in the second.
MKDIR = bytes.fromhex(
    "48000000030018000001004000000000ffffffff165a0000"
    "020028009e1c8d593a7e342b08000000fe0000000100000000000000637472772d74727900000000"
    "0400080004000000"
)
RMDIR = bytes.fromhex(
    "64000000030018000002004000000000ffffffff165a0000"
    "020028009e1c8d593a7e342b08000000fe0000000100000000000000637472772d74727900000000"
    "01001c009e1c8d593a7e342b08000000fe0000006c6f110000000000"
    "0400080004000000"
)


def record(*infos: bytes, mask: int = Mask.CREATE, version: int = 3, head: int = 24) -> bytes:
    body = b"".join(infos)
    return struct.pack("=IBBHQii", 24 + len(body), version, 0, head, mask, -1, 77) + body


def info(kind: int, body: bytes, length: int | None = None) -> bytes:
    return struct.pack("=BBH", kind, 0, 4 + len(body) if length is None else length) + body


def handle(number: int, kind: int = 0xFE, length: int = 8) -> bytes:
    return struct.pack("=IIIiQ", *FSID, length, kind, number)


def test_a_mkdir_and_its_removal() -> None:
    fsid = FSID[0] | FSID[1] << 32

    assert list(notices(MKDIR + RMDIR)) == [
        Notice(Mask.CREATE | Mask.ONDIR, 23062, 4, fsid, 1, "ctrw-try", 0),
        Notice(Mask.DELETE | Mask.ONDIR, 23062, 4, fsid, 1, "ctrw-try", 1142636),
    ]


def test_an_overflow_has_nothing_else() -> None:
    assert list(notices(record(mask=Mask.OVERFLOW))) == [Notice(Mask.OVERFLOW, 77, -1)]


def test_a_name_is_any_bytes() -> None:
    [notice] = notices(record(info(2, handle(1) + b"a b\xff\n\0\0\0")))

    assert notice.name == "a b\udcff\n"


def test_information_of_kinds_to_come_is_passed_over() -> None:
    [notice] = notices(record(info(99, b"1234"), info(2, handle(5) + b"x\0")))

    assert (notice.parent_id, notice.name) == (5, "x")


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(MKDIR[:23], id="half-a-head"),
        pytest.param(MKDIR[:-1], id="half-a-body"),
        pytest.param(record(version=4), id="another-version"),
        pytest.param(record(head=20), id="head-too-short"),
        pytest.param(record(head=25), id="head-beyond-the-record"),
        pytest.param(record(b"\x02\0"), id="half-an-information"),
        pytest.param(record(info(2, b"", length=0)), id="information-without-length"),
        pytest.param(record(info(2, handle(1), length=99)), id="information-beyond-the-record"),
        pytest.param(record(info(2, handle(1)[:-1])), id="half-a-handle"),
        pytest.param(record(info(2, handle(1, kind=0x81))), id="another-file-systems-handle"),
        pytest.param(record(info(1, handle(1, length=16))), id="a-longer-handle"),
    ],
)
def test_what_can_not_be_read_is_named_and_what_came_before_is_good(bad: bytes) -> None:
    reading = notices(RMDIR + bad)

    assert next(reading).child_id == 1142636
    with pytest.raises(WireError):
        next(reading)


@given(st.binary(max_size=300))
def test_any_bytes_are_notices_or_an_error(raw: bytes) -> None:
    with contextlib.suppress(WireError):
        assert all(isinstance(notice, Notice) for notice in notices(raw))


@given(st.data())
def test_any_change_to_a_good_record_is_read_or_an_error(data: st.DataObject) -> None:
    raw = bytearray(MKDIR + RMDIR)
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(WireError):
        assert len(list(notices(bytes(raw)))) <= len(raw) // 24


# --- process events -------------------------------------------------------------------


def datagram(what: int, *words: int) -> bytes:
    return bytes(36) + struct.pack(
        "=IIQ4I", what, 1, 1016145614475, *words, *[0] * (4 - len(words))
    )


@pytest.mark.parametrize(
    ("raw", "event"),
    [
        pytest.param(datagram(2, 12, 12), ProcessEvent(1016145614475, 12), id="exec"),
        pytest.param(datagram(1, 11, 10, 12, 12), ProcessEvent(1016145614475, 12, 10), id="fork"),
        pytest.param(datagram(1, 11, 10, 12, 10), None, id="thread"),
        pytest.param(datagram(0, 0), None, id="acknowledged"),
        pytest.param(datagram(0x80000000, 12, 12), None, id="exit"),
    ],
)
def test_a_process_event(raw: bytes, event: ProcessEvent | None) -> None:
    assert process_event(raw) == event


@given(st.binary(max_size=120))
def test_any_bytes_are_a_process_event_or_an_error(raw: bytes) -> None:
    try:
        process_event(raw)
    except WireError:
        assert len(raw) < 68
