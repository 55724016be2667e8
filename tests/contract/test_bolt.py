"""BoltDB, read: a value, nothing, or BoltError, whatever the bytes are."""

import struct
from collections.abc import Callable

import pytest
from hypothesis import given, settings, strategies as st

from ctrwatch.evidence import bolt
from tests.contract.data import DATA, ids

RAW = (DATA / "podman/root/libpod/bolt_state.db").read_bytes()
ID = ids("podman")["pd-one"].encode()
PATH = (b"ctr", ID, b"config")
PAGE = 4096


def reader(raw: bytes) -> Callable[[int, int], bytes]:
    return lambda size, at: raw[at : at + size]


def value(raw: bytes, *path: bytes) -> bytes | None:
    return bolt.lookup(reader(raw), [path])[0]


def test_value_in_nested_buckets() -> None:
    found = value(RAW, *PATH)
    assert found is not None
    assert found.startswith(b'{"spec":')
    assert b'"name":"pd-one"' in found


def test_value_in_an_inline_bucket() -> None:
    assert value(RAW, b"name-registry", b"pd-one") == ID


@pytest.mark.parametrize(
    "path",
    [(b"none", b"x"), (b"ctr", b"x"), (b"ctr", ID), (b"ctr", ID, b"config", b"x"), (b"",)],
    ids=["no bucket", "no key", "a bucket", "below a value", "empty"],
)
def test_nothing_there(path: tuple[bytes, ...]) -> None:
    assert value(RAW, *path) is None


def test_several_values_of_one_state() -> None:
    values = bolt.lookup(reader(RAW), [PATH, (b"none", b"x"), (b"name-registry", b"pd-one")])
    assert values[0]
    assert values[1:] == [None, ID]


def test_written_while_it_is_read() -> None:
    reads = 0

    def pread(size: int, at: int) -> bytes:
        nonlocal reads
        reads += at in {0, PAGE}
        raw = bytearray(RAW)
        if reads > 2:  # a commit after the first look at the meta pages
            for offset in (0, PAGE):
                raise_transaction(raw, offset)
        return bytes(raw[at : at + size])

    with pytest.raises(bolt.Torn):
        bolt.lookup(pread, [PATH])


def raise_transaction(raw: bytearray, offset: int) -> None:
    start = offset + 16
    (transaction,) = struct.unpack_from("<Q", raw, start + 48)
    struct.pack_into("<Q", raw, start + 48, transaction + 2)
    struct.pack_into("<Q", raw, start + 56, bolt._fnv(bytes(raw[start : start + 56])))


def test_one_broken_meta_page_leaves_the_other() -> None:
    for offset in (0, PAGE):
        raw = bytearray(RAW)
        raw[offset + 20] ^= 0xFF
        assert value(bytes(raw), b"name-registry", b"nobody") is None
    raw[20] ^= 0xFF
    with pytest.raises(bolt.BoltError, match="no valid meta page"):
        value(bytes(raw), *PATH)


def test_page_that_leads_to_itself_ends() -> None:
    """The root becomes a branch whose only child is itself."""
    raw = bytearray(RAW)
    for offset in (0, PAGE):
        (root,) = struct.unpack_from("<Q", raw, offset + 32)
        struct.pack_into("<QHHI", raw, root * PAGE, root, 1, 1, 0)
        struct.pack_into("<IIQ", raw, root * PAGE + 16, 16, 0, root)
    with pytest.raises(bolt.BoltError, match="deeper than"):
        value(bytes(raw), *PATH)


def test_huge_overflow_is_refused() -> None:
    raw = bytearray(RAW)
    for offset in (0, PAGE):
        (root,) = struct.unpack_from("<Q", raw, offset + 32)
        struct.pack_into("<I", raw, root * PAGE + 12, 0xFFFFFFFF)
    with pytest.raises(bolt.BoltError, match="larger than"):
        value(bytes(raw), *PATH)


@settings(max_examples=300, deadline=None)
@given(
    changes=st.lists(
        st.tuples(st.integers(2 * PAGE, len(RAW) - 1), st.binary(min_size=1, max_size=8)),
        min_size=1,
        max_size=40,
    ),
    length=st.integers(2 * PAGE, len(RAW)),
)
def test_changed_bytes_give_a_value_or_an_error(
    changes: list[tuple[int, bytes]], length: int
) -> None:
    raw = bytearray(RAW)
    for at, data in changes:
        raw[at : at + len(data)] = data
    try:
        found = value(bytes(raw[:length]), *PATH)
    except bolt.BoltError:
        return
    assert found is None or isinstance(found, bytes)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=3 * PAGE))
def test_any_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises(bolt.BoltError):
        value(raw, *PATH)
