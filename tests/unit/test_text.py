"""Strangers' text: visible, one line, bounded; and always encodable."""

from __future__ import annotations

import json
import unicodedata

import msgspec
import pytest
from hypothesis import given, strategies as st

from ctrwatch.core.text import clean, escaped, jsonable

ANY_TEXT = st.text(st.characters(), max_size=60)  # lone surrogates among them


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("web-1", "web-1", id="plain"),
        pytest.param("", "", id="empty"),
        pytest.param("café 容器", "café 容器", id="letters-of-the-world"),
        pytest.param("a\x1b[31mb", "a\\x1b[31mb", id="colour"),
        pytest.param("a\x1b]0;t\x07b", "a\\x1b]0;t\\x07b", id="window-title"),
        pytest.param("a\r\nb\tc", "a\\x0d\\x0ab\\x09c", id="line-ends"),
        pytest.param("a\nb", "a\\x0ab", id="newline"),
        pytest.param("a\x7f\x9bb", "a\\x7f\\x9bb", id="delete-and-c1-csi"),
        pytest.param("a\u2028b\u0085c", "a\\u2028b\\x85c", id="unicode-line-ends"),
        pytest.param("\u202egpj.exe", "\\u202egpj.exe", id="reading-direction"),
        pytest.param("\u2066a\u2069\u061c", "\\u2066a\\u2069\\u061c", id="isolates"),
        pytest.param("a\u200b\ufeff\u00adb", "a\\u200b\\ufeff\\xadb", id="zero-width"),
        pytest.param("\u3164\u2800\ufe0f", "\\u3164\\u2800\\ufe0f", id="draws-nothing"),
        pytest.param("a\u00a0b", "a\\xa0b", id="space-that-is-none"),
        pytest.param("a\udce9b", "a\\xe9b", id="byte-that-is-no-utf8"),
        pytest.param("a\ud800b", "a\\ud800b", id="lone-surrogate"),
        pytest.param("a\U000e0041b", "a\\U000e0041b", id="tag-character"),
    ],
)
def test_shown_as(text: str, shown: str) -> None:
    assert clean(text, 80) == shown


@pytest.mark.parametrize(
    ("text", "limit", "shown"),
    [
        pytest.param("abcdef", 6, "abcdef", id="fits"),
        pytest.param("abcdefg", 6, "abcde…", id="one-too-many"),
        pytest.param("ab\x1b", 6, "ab\\x1b", id="escape-fits"),
        pytest.param("abc\x1b", 6, "abc…", id="never-half-an-escape"),
        pytest.param("\x1b\x1b", 7, "\\x1b…", id="between-escapes"),
        pytest.param("ab", 1, "…", id="room-for-nothing"),
        pytest.param("x" * 1_000_000, 10, "xxxxxxxxx…", id="a-megabyte"),
    ],
)
def test_bounded(text: str, limit: int, shown: str) -> None:
    assert clean(text, limit) == shown


@given(ANY_TEXT, st.integers(1, 80))
def test_what_is_shown_is_one_printable_line_in_its_bounds(text: str, limit: int) -> None:
    shown = clean(text, limit)

    assert shown.isprintable()
    assert len(shown) <= limit
    assert len(shown.splitlines()) <= 1
    assert not any(
        unicodedata.bidirectional(c) in {"LRE", "RLE", "LRO", "RLO", "PDF"} for c in shown
    )
    shown.encode("utf-8")


@given(ANY_TEXT)
def test_text_that_shows_itself_stays_as_it_is(text: str) -> None:
    shown = clean(text, 1000)

    assert clean(shown, 1000) == shown
    assert text != shown or text.isprintable()


@given(ANY_TEXT)
def test_json_for_a_terminal_means_the_same_and_is_printable(text: str) -> None:
    line = msgspec.json.encode({jsonable(text): [jsonable(text)]}) + b"\n"

    shown = escaped(line)

    assert json.loads(shown) == json.loads(line)
    assert shown.decode()[:-1].isprintable()


def test_json_that_can_be_seen_stays_as_it_is() -> None:
    line = '{"name":"café 容器"}\n'.encode()

    assert escaped(line) == line


@given(st.binary(max_size=60))
def test_the_kernels_bytes_can_be_encoded(raw: bytes) -> None:
    text = raw.decode("utf-8", "surrogateescape")

    assert jsonable(text).encode("utf-8") == raw.decode("utf-8", "backslashreplace").encode("utf-8")


@given(ANY_TEXT)
def test_only_surrogates_are_rewritten(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        jsonable(text).encode("utf-8")
    else:
        assert jsonable(text) == text
