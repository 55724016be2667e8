"""Values that several runtimes write alike, checked. Pure: text in, values or None out."""

from __future__ import annotations

import calendar
import re
from typing import Final, TypeVar

import msgspec

from ctrwatch.core.annotations import LABELS_MAX, TEXT_MAX
from ctrwatch.core.merge import Known
from ctrwatch.model import Facts

__all__ = ("NotJsonError", "from_json", "hex_id", "joined", "rfc3339_ns", "sha256")

T = TypeVar("T")

_HEX_ID: Final = re.compile(r"[0-9a-f]{64}")
_DIGEST: Final = re.compile(r"(?:sha256:)?([0-9a-f]{64})")
_RFC3339: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9})\d*)?"
    r"(?:[Zz]|([+-])(\d\d):(\d\d))"
)
_NAMES: Final = ("name", "pod_name", "pod_namespace", "pod_uid")
_EPOCH_YEAR: Final = 1970  # Go's zero time, year 1, means: never


class NotJsonError(ValueError):
    """Not JSON, or not of the types that its writer's format has."""


def from_json(raw: bytes | str, kind: type[T]) -> T:
    """
    Decode *raw* as *kind*. Raises `NotJsonError`.

    msgspec has three ways to refuse: its own errors, bytes that are no UTF-8, and a
    hundred thousand brackets.
    """
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise NotJsonError(str(error)) from None


def hex_id(text: str) -> bool:
    """
    Whether *text* is an id as Docker, Podman and the CRI make them, and safe in a path.

    >>> hex_id("ab" * 32), hex_id("AB" * 32), hex_id("../" + "ab" * 32)
    (True, False, False)
    """
    return _HEX_ID.fullmatch(text) is not None


def sha256(text: str) -> str | None:
    """
    A digest with its algorithm; storages leave that out. None if it is no sha256 digest.

    >>> sha256("ab" * 32) == sha256("sha256:" + "ab" * 32) == "sha256:" + "ab" * 32
    True
    >>> sha256("busybox") is None
    True
    """
    match = _DIGEST.fullmatch(text)
    return f"sha256:{match[1]}" if match else None


def rfc3339_ns(text: str) -> int | None:
    """
    Nanoseconds since the epoch, of a time as Go writes it. None for none, or Go's zero.

    >>> rfc3339_ns("2026-11-23T23:53:33.206738997Z")
    1795478013206738997
    >>> rfc3339_ns("2026-11-24T00:53:33.2+01:00")
    1795478013200000000
    >>> rfc3339_ns("0001-01-01T00:00:00Z") is None
    True
    """
    match = _RFC3339.fullmatch(text)
    if match is None or int(match[1]) < _EPOCH_YEAR:
        return None
    year, month, day, hour, minute, second = map(int, match.groups()[:6])
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return None
    seconds = calendar.timegm((year, month, day, hour, minute, second))
    if match[8]:
        offset = int(match[9]) * 3600 + int(match[10]) * 60
        seconds -= offset if match[8] == "+" else -offset
    return seconds * 1_000_000_000 + int((match[7] or "0").ljust(9, "0"))


def joined(*facts: Facts) -> Facts:
    """
    What several records of one source say together; the first that says it is believed.

    Names and labels come out in the bounds of core/annotations.py: an engine takes a
    label of any size, and an event goes to many places.
    """
    known = Known()
    for each in facts:
        known.add("", each)
    whole = known.facts
    names = {field: getattr(whole, field) for field in _NAMES}
    long = {field: _cut(name) for field, name in names.items() if name and len(name) > TEXT_MAX}
    if whole.labels and sum(map(len, (*whole.labels, *whole.labels.values()))) > LABELS_MAX:
        return msgspec.structs.replace(whole, **long, labels=_fewer(whole.labels))
    return msgspec.structs.replace(whole, **long) if long else whole


def _cut(text: str) -> str:
    return text[: TEXT_MAX - 1] + "…"


def _fewer(labels: dict[str, str]) -> dict[str, str]:
    """The first labels, as many as fit; the last one says how many are left out."""
    kept: dict[str, str] = {}
    left = LABELS_MAX
    for key, value in labels.items():
        left -= len(key) + len(value)
        if left < 0:
            break
        kept[key] = value
    return {**kept, "…": f"{len(labels) - len(kept)} more"}
