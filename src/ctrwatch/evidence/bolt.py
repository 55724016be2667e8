"""
Reading one value out of a BoltDB file (bbolt 1.3, format version 2). Bytes in, bytes out.

Podman up to 4.7 keeps its containers in one, and no Python library reads it. The file
is a B+ tree of pages; buckets are trees whose root a leaf names, or that lie inline in
the leaf. Two meta pages take turns; the valid one with the higher transaction is the
present. A writer never touches the pages of the present tree, so a reader without a
lock sees one consistent state as long as no transaction was committed meanwhile: the
meta pages are read again at the end.

Nothing in the file is believed: every position is checked, every walk is bounded.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

__all__ = ("BoltError", "Torn", "lookup")

Pread = Callable[[int, int], bytes]  # (size, offset): at most size bytes

_MAGIC: Final = 0xED0CDAED
_VERSION: Final = 2
_BRANCH: Final = 0x01
_LEAF: Final = 0x02
_META: Final = 0x04
_BUCKET: Final = 0x01  # a leaf element's flag

_PAGE: Final = struct.Struct("<QHHI")  # id, flags, count, overflow
_META_PAGE: Final = struct.Struct("<IIII QQ QQQ Q")  # … root, sequence, freelist, pages, txid, sum
_BRANCH_ELEMENT: Final = struct.Struct("<IIQ")  # position, key size, page
_LEAF_ELEMENT: Final = struct.Struct("<IIII")  # flags, position, key size, value size
_BUCKET_VALUE: Final = struct.Struct("<QQ")  # root page (0: inline), sequence

_PAGE_SIZES: Final = frozenset(1 << bits for bits in range(10, 17))
_META_SIZES: Final = (4096, 16384, 65536, 1024, 2048, 8192, 32768)  # where the second one may be
_DEPTH: Final = 32
_NODE_BYTES: Final = 8 << 20  # a page with its overflow: one large value
_WALK_BYTES: Final = 32 << 20  # of one value's search
_FNV_OFFSET: Final = 0xCBF29CE484222325
_FNV_PRIME: Final = 0x100000001B3


class BoltError(Exception):
    """Not a BoltDB file, or a broken one."""


class Torn(BoltError):  # noqa: N818 - it says what it is
    """It was written while it was read. Reading again may help."""


class _Meta(NamedTuple):
    page_size: int
    root: int
    txid: int


def lookup(pread: Pread, paths: Sequence[Sequence[bytes]]) -> list[bytes | None]:
    """
    The values at *paths* (bucket, …, key), all of one state of the database.

    None for a key or bucket that is not there. Raises `BoltError`.
    """
    before = _meta(pread)
    values = [_Tree(pread, before).value(path) for path in paths]
    if _meta(pread) != before:
        raise Torn("it was written while it was read")
    return values


def _meta(pread: Pread) -> _Meta:
    candidates = [meta for offset in (0, *_META_SIZES) if (meta := _meta_at(pread, offset))]
    sizes = {meta.page_size for meta in candidates}
    if not candidates:
        raise BoltError("no valid meta page")
    if len(sizes) != 1:
        raise BoltError("its meta pages do not agree on the page size")
    return max(candidates, key=lambda meta: meta.txid)


def _meta_at(pread: Pread, offset: int) -> _Meta | None:
    raw = pread(_PAGE.size + _META_PAGE.size, offset)
    if len(raw) < _PAGE.size + _META_PAGE.size:
        return None
    _, flags, _, _ = _PAGE.unpack_from(raw)
    fields = _META_PAGE.unpack_from(raw, _PAGE.size)
    magic, version, page_size, _, root, _, _, _, txid, checksum = fields
    body = raw[_PAGE.size : _PAGE.size + _META_PAGE.size - 8]
    if magic != _MAGIC or version != _VERSION or not flags & _META:
        return None
    if page_size not in _PAGE_SIZES or offset not in {0, page_size} or checksum != _fnv(body):
        return None
    return _Meta(page_size, root, txid)


def _fnv(data: bytes) -> int:
    """FNV-1a, 64 bits: the meta page's check sum."""
    value = _FNV_OFFSET
    for byte in data:
        value = (value ^ byte) * _FNV_PRIME & 0xFFFFFFFFFFFFFFFF
    return value


class _Tree:
    def __init__(self, pread: Pread, meta: _Meta) -> None:
        self._pread = pread
        self._page_size = meta.page_size
        self._root = meta.root
        self._left = _WALK_BYTES

    def value(self, path: Sequence[bytes]) -> bytes | None:
        node = self._page(self._root)
        for key in path[:-1]:
            found = self._find(node, key)
            if found is None:
                return None
            flags, value = found
            if not flags & _BUCKET:
                return None
            node = self._bucket(value)
        found = self._find(node, path[-1])
        return None if found is None or found[0] & _BUCKET else found[1]

    def _bucket(self, value: bytes) -> bytes:
        if len(value) < _BUCKET_VALUE.size:
            raise BoltError("a bucket without its header")
        root, _ = _BUCKET_VALUE.unpack_from(value)
        return self._page(root) if root else value[_BUCKET_VALUE.size :]

    def _page(self, number: int) -> bytes:
        """A page with its overflow."""
        if not 1 < number < 1 << 40:  # the first two are the meta pages
            raise BoltError(f"no such page: {number}")
        offset = number * self._page_size
        page = self._pread(self._page_size, offset)
        if len(page) < _PAGE.size:
            raise BoltError("a page behind the file's end")
        identity, _, _, overflow = _PAGE.unpack_from(page)
        if identity != number:
            raise Torn(f"page {number} says it is page {identity}")
        if overflow * self._page_size > _NODE_BYTES:
            raise BoltError(f"a value larger than {_NODE_BYTES} bytes")
        self._left -= self._page_size * (1 + overflow)
        if self._left < 0:
            raise BoltError(f"more than {_WALK_BYTES} bytes on the way to one value")
        if overflow:
            page += self._pread(overflow * self._page_size, offset + self._page_size)
        return page

    def _find(self, node: bytes, key: bytes) -> tuple[int, bytes] | None:
        """The leaf element with *key* under *node*: its flags and value."""
        for _ in range(_DEPTH):
            if len(node) < _PAGE.size:
                raise BoltError("a page without its header")
            _, flags, count, _ = _PAGE.unpack_from(node)
            if flags & _LEAF:
                return _in_leaf(node, count, key)
            if not flags & _BRANCH:
                raise BoltError("neither a leaf nor a branch")
            node = self._page(_child(node, count, key))
        raise BoltError(f"deeper than {_DEPTH} pages")


def _in_leaf(node: bytes, count: int, key: bytes) -> tuple[int, bytes] | None:
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        offset = _PAGE.size + middle * _LEAF_ELEMENT.size
        flags, position, key_size, value_size = _unpack(_LEAF_ELEMENT, node, offset)
        start = offset + position
        found = _slice(node, start, key_size)
        if found == key:
            return flags, _slice(node, start + key_size, value_size)
        if found < key:
            low = middle + 1
        else:
            high = middle
    return None


def _child(node: bytes, count: int, key: bytes) -> int:
    """The page under which *key* is: that of the last element not above it."""
    if not count:
        raise BoltError("a branch without children")
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        offset = _PAGE.size + middle * _BRANCH_ELEMENT.size
        position, key_size, _ = _unpack(_BRANCH_ELEMENT, node, offset)
        if _slice(node, offset + position, key_size) <= key:
            low = middle + 1
        else:
            high = middle
    offset = _PAGE.size + max(low - 1, 0) * _BRANCH_ELEMENT.size
    page: int = _unpack(_BRANCH_ELEMENT, node, offset)[2]
    return page


def _unpack(form: struct.Struct, node: bytes, offset: int) -> tuple[int, ...]:
    if offset + form.size > len(node):
        raise BoltError("an element behind its page's end")
    return form.unpack_from(node, offset)


def _slice(node: bytes, start: int, size: int) -> bytes:
    if start + size > len(node):
        raise BoltError("a key or a value behind its page's end")
    return node[start : start + size]
