"""
The journal of a watch: a header and every input of the chain, one JSON object a line.

`ctrwatch events --record FILE` writes it; `ctrwatch replay FILE` plays it through the
same chain. A cgroup's name may hold bytes that are no UTF-8: such a line is written
with the escapes of JSON for lone surrogates, which only this module needs to know.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from ctrwatch.core.chain import JOURNAL_VERSION, Header, Input, Reply
from ctrwatch.errors import InputError
from ctrwatch.model import Found, Leads, Listed

__all__ = ("JournalWriter", "read_journal")

log = logging.getLogger(__name__)

_LINE_MAX: Final = 16 << 20  # an answer is bounded to 4 MB before it gets here
_MOMENTS: Final = ("boot_ns", "wall_offset_ns", "wait_ns", "init_start_ns")
_AN_AGE_NS: Final = 1 << 62  # 146 years
_HEADER: Final = msgspec.json.Decoder(Header)
_INPUT: Final[msgspec.json.Decoder[Input]] = msgspec.json.Decoder(Input)


class JournalWriter:
    """
    Raises InputError where *path* can't be opened.

    When it can't be written later (a full disk), the recording ends with a word in the
    log, and the watch goes on.
    """

    def __init__(self, path: Path, header: Header) -> None:
        self._path = path
        self.dropped = 0  # inputs that could not be written
        try:
            # Command lines and labels are in it: not for everybody.
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            self._file: BinaryIO = os.fdopen(os.open(path, flags, 0o640), "wb")
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}") from None
        self.write(header)

    def write(self, item: Header | Input) -> None:
        if self._file.closed:
            self.dropped += 1
            return
        try:
            self._file.write(_encode(item) + b"\n")
        except OSError as error:
            self.dropped += 1
            log.error("%s: %s; the recording ends here", self._path, error.strerror)  # noqa: TRY400
            self.close()

    def close(self) -> None:
        try:
            self._file.close()  # writes what is in its buffer, and closes even if it can't
        except OSError as error:
            log.error("%s: %s; the recording's end is lost", self._path, error.strerror)  # noqa: TRY400


def read_journal(path: Path) -> tuple[Header, Iterator[Input]]:
    """The header, and the inputs as they are read. Raises InputError, naming the line."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    try:
        first = file.readline(_LINE_MAX)
        header = _HEADER.decode(first)
        _check(header)
    except (ValueError, RecursionError, OSError) as error:
        file.close()
        raise InputError(
            f"{path}: not a recorded stream ({error}); record one with"
            " `ctrwatch events --record FILE`"
        ) from None
    if header.version != JOURNAL_VERSION:
        file.close()
        raise InputError(
            f"{path}: recorded by another version of ctrwatch"
            f" (format {header.version}, this one reads {JOURNAL_VERSION})"
        )
    return header, _inputs(path, file)


def _inputs(path: Path, file: BinaryIO) -> Iterator[Input]:
    with file:
        number = 1
        while line := file.readline(_LINE_MAX):
            number += 1
            try:
                item = _decode(line)
                _check(item)
            except (ValueError, RecursionError, OSError) as error:
                raise InputError(f"{path}:{number}: {error}") from None
            yield item


def _check(item: Header | Input) -> None:
    """Raise ValueError for a time of another age of the world: it could not be written as a date."""
    for name in _MOMENTS:
        if abs(getattr(item, name, None) or 0) > _AN_AGE_NS:
            raise ValueError(f"{name} is no time of this world")


def _encode(item: Header | Input) -> bytes:
    try:
        return msgspec.json.encode(item)
    except UnicodeEncodeError:
        return json.dumps(msgspec.to_builtins(item)).encode()


def _decode(line: bytes) -> Input:
    try:
        return _INPUT.decode(line)
    except msgspec.DecodeError:
        if b"\\ud" not in line:
            raise
        item: Input = msgspec.convert(json.loads(line), Input)
        _check_text(item)
        return item


def _check_text(item: Input) -> None:
    """Raise UnicodeEncodeError for a lone surrogate where no kernel and no path put it."""
    if isinstance(item, Listed) and item.identity is not None:
        msgspec.json.encode(item.identity.pod_uid)
    if isinstance(item, Reply):
        msgspec.json.encode(item.source)
        if isinstance(item.answer, Found):
            msgspec.json.encode(msgspec.structs.replace(item.answer.facts, leads=Leads()))
