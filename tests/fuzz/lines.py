"""What goes out: text for a terminal, lines of a journal, and events of whatever came in."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from ctrwatch.commands import ps
from ctrwatch.core import render
from ctrwatch.core.chain import Chain, Header, Input, Report
from ctrwatch.core.story import Tell
from ctrwatch.core.text import clean, jsonable
from ctrwatch.event import Cgroup, ContainerEvent, Creator, Evidence, Image
from ctrwatch.model import CgroupKey, Kind, Missing, RawEvent, Runtime, Task
from ctrwatch.sensor import journal
from tests.fuzz.boundary import Boundary, require
from tests.fuzz.mutate import TEXTS, Mutator
from tests.fuzz.telling import CID, host_lines_of, lines_of

__all__ = ("journal_lines", "rendered", "text")

GOLDEN: Final = Path(__file__).parents[1] / "golden"
_SGR: Final = ("\x1b[31m", "\x1b[33m", "\x1b[2m", "\x1b[32m", "\x1b[0m")  # ours: colours


def text() -> Boundary:
    def feed(given: str) -> Hashable:
        for limit in (1, 7, 40, 4096):
            shown = clean(given, limit)
            require("it is printable", shown.isprintable())
            require("it is bounded", len(shown) <= limit)
            require("it shows itself", clean(shown, limit) == shown)
        jsonable(given).encode()
        require("what can be encoded stays", given != jsonable(given) or given.encode() is not None)
        return clean(given, 40) == given, len(given).bit_length(), given.isascii()

    return Boundary(TEXTS, lambda mutator, seeds: mutator.text(seeds), feed)


def rendered() -> Boundary:
    """Events whose every text is a stranger's, as people see them."""
    names = ("name", "image:1", "pod", "ns", CID, "comm", "/a", "uid")

    def feed(words: tuple[str, ...]) -> Hashable:
        name, image, pod, namespace, container_id, comm, path, uid = words
        event = ContainerEvent(
            event="container_create",
            id="1",
            time="2026-11-23T19:46:12.460562493Z",
            host="h",
            runtime=Runtime.DOCKER,
            container_id=jsonable(container_id),
            container_image=jsonable(image),
            container_name=jsonable(name),
            pod_name=jsonable(pod),
            pod_namespace=jsonable(namespace),
            pod_uid=jsonable(uid),
            cgroup=Cgroup(id=1, path=jsonable(path), hierarchy_id=0, version=2),
            creator=Creator(pid=1, uid=len(uid), comm=jsonable(comm)),
            image=Image(),
            evidence=Evidence(
                status="unverified" if len(name) % 2 else "partial",
                missing={"labels": Missing.DEADLINE},
            ),
        )
        lines_of(event)
        coloured = render.text_line(event, colours=True)
        for colour in _SGR:
            coloured = coloured.replace(colour, "")
        require("only our own colours", coloured[:-1].isprintable())
        whole = ps._row(event, whole=True)
        require("a whole row of ps is printable", all(cell.isprintable() for cell in whole))
        raw = RawEvent(
            kind=Kind.MKDIR, boot_ns=1, cgroup=CgroupKey(0, 1), parent_id=1, level=1, path=path,
            path_cut=False, task=Task(pid=1, ppid=1, comm=comm), lost=0,
        )  # fmt: skip
        raw_text = render.raw_text(raw, 1) or ""
        require("a raw line is printable", raw_text[:-1].isprintable())
        msgspec.json.decode(render.raw_line(raw, 1) or b"")
        return tuple(len(word).bit_length() for word in (name, container_id)), coloured.isascii()

    def worse(mutator: Mutator, seeds: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
        words = list(mutator.pick(seeds))
        for _ in range(1 + mutator.below(3)):
            at = mutator.below(len(words))
            words[at] = mutator.text((words[at],), times=2)
        return tuple(words)

    return Boundary([names], worse, feed)


# --- journals --------------------------------------------------------------------------------


class _Played:
    """
    A journal that is played: its own header, and line by line a chain.

    A line that a stranger wrote comes anywhere in a recorded stream, so the chain is that
    of the stream as it was up to there, a new one for each stream.
    """

    def __init__(self, streams: Sequence[tuple[bytes, ...]]) -> None:
        self._streams, self._at, self._stream = streams, 0, 0
        self._chain = self._begun(streams[0][0])

    def feed(self, line: bytes) -> Hashable:
        if self._at >= len(self._streams[self._stream]):
            self._stream, self._at = (self._stream + 1) % len(self._streams), 0
        if self._at == 0:
            self._chain = self._begun(self._streams[self._stream][0])
            self._at = 1
            if b'"header"' in line and (header := _read_header(line)) is not None:
                self._chain = Chain(header)
                return "header", header.unified, header.wait_ns > 0
        self._go_on(self._streams[self._stream][self._at])
        self._at += 1
        if (item := _read(line)) is None:
            return None
        outcome = [type(item).__name__]
        for effect in self._chain.feed(item):
            outcome.append(type(effect).__name__)
            if isinstance(effect, Report):
                host_lines_of(effect.event)
            if isinstance(effect, Tell):
                lines_of(effect.event)
                render.tracee_line(effect.event, effect.creator)
        if isinstance(item, RawEvent):
            render.raw_line(item, 1)
            require("a raw line", (render.raw_text(item, 1) or "\n")[:-1].isprintable())
        encoded = journal._encode(item)
        require("a journal gives the same again", journal._decode(encoded) == item)
        return tuple(outcome[:6])

    def _go_on(self, line: bytes) -> None:
        for effect in self._chain.feed(journal._decode(line)):
            if isinstance(effect, Tell):
                lines_of(effect.event)

    def _begun(self, line: bytes) -> Chain:
        header: Header = journal._HEADER.decode(line)
        return Chain(header)


def journal_lines() -> Boundary:
    files = sorted(GOLDEN.glob("*.stream.jsonl"))
    streams = [tuple(file.read_bytes().splitlines()) for file in files if "demo" not in file.name]
    seeds: list[Any] = sorted({line for stream in streams for line in stream})
    return Boundary(seeds, lambda mutator, seeds: mutator.json(seeds), _Played(streams).feed)


_REFUSED: Final = (ValueError, RecursionError)  # read_journal makes them an InputError


def _read(line: bytes) -> Input | None:
    try:
        item = journal._decode(line)
        journal._check(item)
    except _REFUSED:
        return None
    return item


def _read_header(line: bytes) -> Header | None:
    try:
        header = journal._HEADER.decode(line)
        journal._check(header)
    except _REFUSED:
        return None
    return header
