"""Inputs made worse, in ways that strangers and broken disks know. Seeded: the same again."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import msgspec

from tests.fuzz import protobuf

__all__ = ("Mutator",)

T = TypeVar("T")
S = TypeVar("S", bytes, str)

BYTES: Final = (
    *(b"", b"\0", b"\xff", b"\x80", b"\n", b"/", b"..", b"=", b":", b",", b'"', b"\\", b" "),
    *(b"\x1b[2J", b"\xed\xa0\x80", b"\xe2\x80\xae", b"\xc3", b"\xf4\x90\x80\x80", b"\xef\xbb\xbf"),
    *(number.to_bytes(size, "little") for size in (2, 4, 8) for number in (0, 1, 0x7F, 0xFF)),
    *((1 << bits).to_bytes(8, "little") for bits in (16, 31, 32, 62, 63)),
    *(((1 << bits) - 1).to_bytes(bits // 8, "little") for bits in (16, 32, 64)),
)
TEXTS: Final = (
    *("", "\0", "\n", "\r", "\t", " ", "/", "//", "..", "/../", "-", "--", "=", ":", ",", ";"),
    *("'", '"', "\\", "\\x2d", "$HOME", "${", "%s", "{}", "*", "[", "]", "\x1b[2J", "\x1b]0;t\x07"),
    *("\x7f", "\x9b", "\u202e", "\u2066", "\u200b", "\u2028", "\ufeff", "\u3164", "\ufe0f", "é"),
    *("\udce9", "\ud800", "\udfff", "\U0001f980", "\U000e0041", "ab" * 32, "0" * 25, "sha256:"),
    *("0", "-1", "1e999", "9" * 19, "9" * 20, "9" * 5000, "²", "٣", "0001-01-01T00:00:00Z"),
    *("9999-12-31T23:59:59.999999999-23:59", "docker.io/", "localhost:5000/", "@", "…"),
)
NUMBERS: Final = (
    *(b"0", b"-0", b"-1", b"1", b"0.5", b"1e3", b"1e999", b"-1e999", b"1E-999", b"NaN"),
    *(str(sign * (1 << bits) - less).encode() for bits in (31, 32, 62, 63, 64) for sign in (1, -1)
      for less in (0, 1)),
    *(b"9" * 100, b"9" * 4300, b"9" * 4301, b"-" + b"9" * 20_000, b"0." + b"1" * 5000),
)  # fmt: skip
ODD: Final = (
    *(b"null", b"true", b"false", b"[]", b"{}", b'""', b"[null]", b'{"":null}', b'{"a":1,"a":2}'),
    *(
        b'"\\ud800"',
        b'"\\udc80\\ud800"',
        b'"\xff"',
        b'"\\u0000"',
        b'"\\q"',
        b'"',
        b"",
        b"//",
        b"0x1",
    ),
    *(b"[" * depth + b"]" * depth for depth in (100, 1000, 20_000)),
    *(b'{"a":' * depth + b"1" + b"}" * depth for depth in (100, 1000)),
)
LONG: Final = 70_000  # more than any bound of text in ctrwatch
_DOCUMENTS: Final = 600  # parsed and kept: as many as there are seeds


class _Document:
    """
    JSON whose parts can be replaced for a moment; its first place is the whole.

    Raises ValueError, RecursionError, OverflowError for what is no JSON that msgspec would write.
    """

    def __init__(self, raw: bytes) -> None:
        self.holder: list[Any] = [msgspec.json.decode(raw)]
        msgspec.json.encode(self.holder)  # numbers can be too large for that
        self.places: list[tuple[Any, Any]] = [(self.holder, 0)]
        for container, key in self.places:  # it grows meanwhile
            value = container[key]
            if isinstance(value, dict):
                self.places += [(value, each) for each in value]
            elif isinstance(value, list):
                self.places += [(value, at) for at in range(len(value))]


class Mutator:
    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._documents: dict[bytes, _Document | None] = {}

    def below(self, number: int) -> int:
        """A number from 0; several times faster than randrange."""
        return int(self._random.random() * number)

    def chance(self, part: float) -> bool:
        return self._random.random() < part

    def pick(self, choices: Sequence[T]) -> T:
        return choices[int(self._random.random() * len(choices))]

    # --- bytes and text -----------------------------------------------------------------

    def raw(self, seeds: Sequence[bytes], *, times: int = 3) -> bytes:
        raw = self.pick(seeds)
        for _ in range(1 + self.below(times)):
            if raw and self.chance(0.4):
                at = self.below(len(raw))
                bit = raw[at] ^ (1 << self.below(8)) if self.chance(0.7) else self.below(256)
                raw = raw[:at] + bytes((bit,)) + raw[at + 1 :]
            else:
                raw = self._pieces(raw, seeds, BYTES)
        return raw

    def text(self, seeds: Sequence[str], *, times: int = 3) -> str:
        text = self.pick(seeds)
        for _ in range(1 + self.below(times)):
            text = self._pieces(text, seeds, TEXTS)
        return text

    def _pieces(  # noqa: PLR0911 - one for each way
        self, whole: S, seeds: Sequence[S], tokens: Sequence[S]
    ) -> S:
        start, end = sorted((self.below(len(whole) + 1), self.below(len(whole) + 1)))
        match self.below(9):
            case 0:
                return whole[:start]
            case 1:
                return whole[:start] + whole[end:]
            case 2:
                return whole[:end] + whole[start:]
            case 3:
                other = self.pick(seeds)
                return whole[:start] + other[self.below(len(other) + 1) :]
            case 4:
                many = LONG if self.chance(0.01) else self.below(300)
                piece = whole[start : start + 1 + self.below(4)] or self.pick(tokens)
                times = many // max(len(piece), 1)
                return whole[:start] + piece * times + whole[start:]
            case 5 | 6:
                return whole[:start] + self.pick(tokens) + whole[start:]
            case _:
                token = self.pick(tokens)
                return whole[:start] + token + whole[start + len(token) :]

    def words(self, seeds: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
        """A command line."""
        words = list(self.pick(seeds))
        for _ in range(1 + self.below(3)):
            at = self.below(len(words) + 1)
            match self.below(6):
                case 0:
                    del words[at : at + 1 + self.below(2)]
                case 1:
                    words.insert(at, self.pick(self.pick(seeds) or ("",)))
                case 2:
                    words[at:] = self.pick(seeds)[at:]
                case 3:
                    words[at:at] = [self.pick(TEXTS)] * (1 + self.below(3))
                case _:
                    words[at : at + 1] = [self.text((*words[at : at + 1], ""), times=1)]
        return tuple(words)

    # --- JSON -----------------------------------------------------------------------------

    def json(self, seeds: Sequence[bytes]) -> bytes:
        """Mostly JSON still, with something in it that its writer would not have written."""
        seed = self.pick(seeds)
        document = self._document(seed)
        raw = seed if document is None else self._changed(document)
        return self.raw((raw, seed), times=2) if document is None or self.chance(0.1) else raw

    def _document(self, raw: bytes) -> _Document | None:
        if raw not in self._documents:
            if len(self._documents) > _DOCUMENTS:
                self._documents.clear()
            try:
                self._documents[raw] = _Document(raw)
            except (ValueError, RecursionError, OverflowError):
                self._documents[raw] = None
        return self._documents[raw]

    def _changed(self, document: _Document) -> bytes:
        undo: list[tuple[Any, Any, Any]] = []
        for _ in range(1 + self.below(3)):
            container, key = self.pick(document.places)
            if _is_gone(container, key):
                continue
            undo.append((container, key, container[key]))
            container[key] = self._other(container[key], document)
            if isinstance(container, dict) and self.chance(0.1):
                del container[key]
        try:
            return msgspec.json.encode(document.holder[0])
        finally:
            for container, key, value in reversed(undo):
                container[key] = value

    def _other(self, value: Any, document: _Document) -> Any:  # noqa: PLR0911 - one for each way
        match self.below(8):
            case 0:
                return msgspec.Raw(self.pick(ODD))
            case 1:
                return msgspec.Raw(self.pick(NUMBERS))
            case 2:
                container, key = self.pick(document.places)
                other = value if _is_gone(container, key) else container[key]
                return msgspec.Raw(msgspec.json.encode(other))  # itself would be a loop
            case 3:
                return [value] if self.chance(0.5) else {self.pick(("", "a", "Id")): value}
            case 4 if isinstance(value, dict) and value:
                return self._repeated(value)
            case 5 if isinstance(value, list) and value:
                return value * (1 + self.below(300 if _depth(value) < 3 else 4))
            case _:
                seeds = (value,) if isinstance(value, str) else TEXTS
                return msgspec.Raw(self._string(self.text(seeds, times=2)))

    def _repeated(self, value: dict[str, Any]) -> msgspec.Raw:
        """A key twice, as a lenient encoder would write it."""
        raw = msgspec.json.encode(value)
        key = self._string(self.pick(list(value)))
        return msgspec.Raw(raw[:-1] + b"," + key + b":" + self.pick((*ODD, *NUMBERS)) + b"}")

    def _string(self, text: str) -> bytes:
        if self.chance(0.5):
            return b'"' + text.encode("utf-8", "surrogatepass").replace(b'"', b'\\"') + b'"'
        return json.dumps(text).encode()

    # --- protobuf -------------------------------------------------------------------------

    def message(self, seeds: Sequence[bytes]) -> bytes:
        """Mostly protobuf still."""
        raw = self.pick(seeds)
        if self.chance(0.2):
            return self.raw((raw, *seeds), times=2)
        return protobuf.changed(raw, self)

    def changed_text(self, raw: bytes) -> bytes:
        """What stands in a field of text: other text, or other bytes."""
        if self.chance(0.2):
            return self.raw((raw,), times=2)
        text = self.text((raw.decode("utf-8", "replace"),), times=2)
        return text.encode("utf-8", "replace" if self.chance(0.9) else "surrogatepass")

    def either(self, *ways: Callable[[], T]) -> T:
        return self.pick(ways)()


def _is_gone(container: Any, key: Any) -> bool:
    return isinstance(container, dict) and key not in container


def _depth(value: Any) -> int:
    """Up to 4: how deep a copy of it would make a document."""
    depth, level = 0, [value]
    while level and depth < 4:
        depth += 1
        level = [
            each
            for part in level
            if isinstance(part, dict | list)
            for each in (part.values() if isinstance(part, dict) else part)
        ][:50]
    return depth
