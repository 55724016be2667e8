"""The ring's memory, laid out by hand as the kernel does, read by us."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from ctrwatch.sensor import libbpf
from ctrwatch.sensor.libbpf import BpfError, RingBuffer

PAGE = mmap.PAGESIZE
SIZE = PAGE  # of the records
LONGEST = 900
BUSY, DISCARDED = 1 << 31, 1 << 30


class Kernel:
    """The writing side: a page with the reader's position, one with ours, the records twice."""

    def __init__(self, size: int = SIZE) -> None:
        self._size = size
        self.fd = os.memfd_create("ring")
        os.truncate(self.fd, 2 * PAGE + 2 * size)
        self._memory = mmap.mmap(self.fd, 2 * PAGE + 2 * size)
        self._position = 0

    @property
    def read_to(self) -> int:
        (position,) = struct.unpack_from("=Q", self._memory, 0)
        return int(position)

    def write(self, record: bytes, flag: int = 0) -> bool:
        """False where there is no room for it: then it is lost."""
        whole = struct.pack("=II", len(record) | flag, 0) + record
        whole += bytes(-len(whole) % 8)
        if self._position + len(whole) - self.read_to > self._size:
            return False
        self._head = 2 * PAGE + self._position % self._size
        self._put(self._head, whole)
        self._position += len(whole)
        struct.pack_into("=Q", self._memory, PAGE, self._position)
        return True

    def commit(self, length: int) -> None:
        """The last record was busy."""
        self._put(self._head, struct.pack("=I", length))

    def _put(self, at: int, what: bytes) -> None:
        """Whoever writes into one copy of the records writes into the other: they are one memory."""
        records = 2 * PAGE
        for start in (at, at - self._size, at + self._size):
            for offset, byte in enumerate(what, start):
                if records <= offset < records + 2 * self._size:
                    self._memory[offset] = byte

    def close(self) -> None:
        self._memory.close()
        os.close(self.fd)


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    kernel = Kernel()
    yield kernel
    kernel.close()


@pytest.fixture
def ring(kernel: Kernel) -> Iterator[RingBuffer]:
    ring = RingBuffer(kernel.fd, SIZE, batch=3, longest=LONGEST)
    yield ring
    ring.close()


def test_records_come_in_order_and_a_batch_at_a_time(kernel: Kernel, ring: RingBuffer) -> None:
    for number in range(5):
        kernel.write(b"record %d" % number)

    assert ring.read() == [b"record 0", b"record 1", b"record 2"]
    assert ring.read() == [b"record 3", b"record 4"]
    assert ring.read() == []


def test_a_batch_is_whole_where_the_window_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libbpf, "_WINDOW", PAGE)
    kernel = Kernel(4 * PAGE)
    ring = RingBuffer(kernel.fd, 4 * PAGE, batch=6, longest=LONGEST)
    for _ in range(8):
        kernel.write(bytes(LONGEST))  # four in a window

    assert [len(ring.read()) for _ in range(3)] == [6, 2, 0]
    ring.close()
    kernel.close()


def test_a_record_that_is_being_written_is_waited_for(kernel: Kernel, ring: RingBuffer) -> None:
    kernel.write(b"whole")
    kernel.write(b"half", BUSY)

    assert ring.read() == [b"whole"]
    assert ring.read() == []
    kernel.commit(4)
    assert ring.read() == [b"half"]


def test_a_record_that_was_given_up_is_passed_over(kernel: Kernel, ring: RingBuffer) -> None:
    kernel.write(b"given up", DISCARDED)
    kernel.write(b"kept")

    assert ring.read() == [b"kept"]


def test_what_was_read_has_room_again_at_the_next_read(kernel: Kernel, ring: RingBuffer) -> None:
    eighth = bytes(SIZE // 8 - 8)
    assert all(kernel.write(eighth) for _ in range(8))

    assert len(ring.read()) == 3
    assert not kernel.write(b"")
    ring.read()

    assert [kernel.write(eighth) for _ in range(4)] == [True, True, True, False]


@pytest.mark.parametrize(
    "window", [pytest.param(PAGE, id="a-quarter"), pytest.param(4 * PAGE, id="all")]
)
@given(records=st.lists(st.binary(max_size=LONGEST), max_size=60))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_records_come_through_however_often_the_ring_goes_round(
    window: int, monkeypatch: pytest.MonkeyPatch, records: list[bytes]
) -> None:
    monkeypatch.setattr(libbpf, "_WINDOW", window)
    kernel = Kernel(4 * PAGE)
    ring = RingBuffer(kernel.fd, 4 * PAGE, batch=3, longest=LONGEST)
    read: list[bytes] = []
    for record in records:
        while not kernel.write(record):
            read += ring.read()
    while batch := ring.read():
        read += batch
    ring.close()
    kernel.close()

    assert read == records


def test_what_can_not_be_mapped_is_an_error_that_says_so() -> None:
    with open("/dev/null", "rb") as null, pytest.raises(BpfError, match="map the ring buffer"):
        RingBuffer(null.fileno(), SIZE, batch=3, longest=LONGEST)


# --- how densely they come ------------------------------------------------------------------
