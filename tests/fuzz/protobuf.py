"""A protobuf message taken apart and put together again with one field changed. No schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from tests.fuzz.mutate import Mutator

__all__ = ("changed",)

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED: Final = {_FIXED64: 8, _FIXED32: 4}
_NUMBERS: Final = (0, 1, 2, 127, 1 << 31, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)


class _Field(NamedTuple):
    number: int
    kind: int
    value: bytes  # of a varint too


def changed(raw: bytes, mutator: Mutator) -> bytes:
    fields = _fields(raw)
    if not fields:
        return mutator.changed_text(raw)
    at = mutator.below(len(fields))
    field = fields[at]
    match mutator.below(8):
        case 0:
            del fields[at]
        case 1:
            fields.insert(mutator.below(len(fields) + 1), field)  # the last one counts
        case 2:
            fields[at] = field._replace(number=1 + mutator.below(20))
        case _:
            fields[at] = field._replace(value=_other(field, mutator))
    return b"".join(map(_encoded, fields))


def _other(field: _Field, mutator: Mutator) -> bytes:
    if field.kind == _VARINT:
        return _varint(mutator.pick(_NUMBERS))
    if field.kind in _FIXED:
        return bytes(mutator.below(256) for _ in range(_FIXED[field.kind]))
    if _fields(field.value) and mutator.chance(0.7):
        return changed(field.value, mutator)
    return mutator.changed_text(field.value)


def _fields(raw: bytes) -> list[_Field]:
    """None, where it is no message."""
    fields: list[_Field] = []
    at = 0
    while at < len(raw):
        key, at = _read_varint(raw, at)
        number, kind = key >> 3, key & 7
        start = at
        if kind == _VARINT:
            _, at = _read_varint(raw, at)
        elif kind in _FIXED:
            at += _FIXED[kind]
        elif kind == _BYTES:
            size, start = _read_varint(raw, at)
            at = start + size
        else:
            return []
        if not number or at > len(raw):
            return []
        fields.append(_Field(number, kind, raw[start:at]))
    return fields


def _read_varint(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(raw) and shift < 70:
        value |= (raw[at] & 0x7F) << shift
        at += 1
        if not raw[at - 1] & 0x80:
            return value, at
        shift += 7
    return 0, len(raw) + 1  # cut: the caller sees it is behind the end


def _encoded(field: _Field) -> bytes:
    size = _varint(len(field.value)) if field.kind == _BYTES else b""
    return _varint(field.number << 3 | field.kind) + size + field.value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
