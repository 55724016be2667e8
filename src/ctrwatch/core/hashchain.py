"""
The chain of hashes through the history: a row that was changed, taken away or put in breaks it.

Pure. A row's hash is SHA-256 over the hash before it (32 bytes; of the first row zeros), its
number (8 bytes, big-endian) and its body. Who may write the file can make the whole chain anew;
then only a head that was kept elsewhere tells.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, Self

from ctrwatch.errors import InputError

__all__ = ("GENESIS", "Finding", "Head", "Link", "breaks", "link_hash")

_SIZE: Final = hashlib.sha256().digest_size


class Head(NamedTuple):
    """The number and the hash of a row: of all rows up to it, this is the sum."""

    seq: int
    hash: bytes

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash.hex()}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """
        As `ctrwatch history --verify` prints it. Raises InputError.

        >>> str(Head.parse("7:" + "ab" * 32)) == "7:" + "ab" * 32
        True
        """
        number, _, digits = text.strip().partition(":")
        try:
            seq, hash_ = int(number), bytes.fromhex(digits)
        except ValueError:
            seq, hash_ = -1, b""
        if seq < 0 or len(hash_) != _SIZE:
            raise InputError(f"--head {text[:80]}: give it as --verify prints it, NUMBER:HASH")
        return cls(seq, hash_)


GENESIS: Final = Head(0, bytes(_SIZE))


class Link(NamedTuple):
    """A row as it stands in the store; *sound*: what it can be asked by is what its body says."""

    seq: int
    body: bytes
    hash: bytes
    sound: bool = True


class Finding(NamedTuple):
    """What is wrong with the rows from *first* to *last*."""

    first: int
    last: int
    what: str

    def __str__(self) -> str:
        rows = f"row {self.first}" if self.first == self.last else f"rows {self.first}–{self.last}"
        return f"{rows}: {self.what}"


_CHANGED: Final = "changed"
_MISSING: Final = "missing"
_MIXED: Final = "not in the order in which they were written: put in, moved, or changed"
_UNSOUND: Final = "can be asked by other values than those it holds: its index was changed"
_CUT: Final = "missing: the history's newest rows were taken away"


def link_hash(before: bytes, seq: int, body: bytes) -> bytes:
    return hashlib.sha256(b"".join((before, seq.to_bytes(8, "big"), body))).digest()


def breaks(begin: Head, links: Iterable[Link], end: Head) -> Iterator[Finding]:
    """
    What breaks the chain from *begin*, which is before the first of *links*, to *end*.

    *links* in the order of their numbers. In one pass, with little memory.
    """
    before, seq = begin.hash, begin.seq
    broken: list[int] = []  # rows in a row that do not follow from the one before each
    for link in links:
        if link.seq > seq + 1:
            yield from _told(broken)
            broken = []
            yield Finding(seq + 1, link.seq - 1, _MISSING)
        elif link_hash(before, link.seq, link.body) == link.hash:
            yield from _told(broken)
            broken = []
        else:
            broken = [broken[0] if broken else link.seq, link.seq]
        if not link.sound:
            yield Finding(link.seq, link.seq, _UNSOUND)
        before, seq = link.hash, link.seq
    yield from _told(broken)
    if seq < end.seq:
        yield Finding(seq + 1, end.seq, _CUT)
    elif seq > end.seq:
        yield Finding(end.seq + 1, seq, "put in: the history ends before")
    elif before != end.hash:
        yield Finding(seq, seq, "not the row that was written last")


def _told(broken: list[int]) -> Iterator[Finding]:
    if broken:
        first, last = broken[0], broken[-1]
        yield Finding(first, last, _CHANGED if first == last else _MIXED)
