"""What came out of a boundary goes the whole way: into an event, and into every kind of line."""

from __future__ import annotations

from collections.abc import Coroutine, Hashable
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from ctrwatch.commands import ps
from ctrwatch.core import render
from ctrwatch.core.changes import Born
from ctrwatch.core.describe import describe
from ctrwatch.core.merge import FIELDS, Known
from ctrwatch.event import ContainerEvent, ContainerUsage, HostEvent, Verdict
from ctrwatch.evidence.files import Absent, ParsedFiles, Readers, Tree, Unreadable
from ctrwatch.model import CgroupKey, ContainerId, Facts, Identity, Leads, Listed, Runtime
from tests.fuzz.boundary import require

__all__ = ("CID", "DATA", "Memory", "Parsed", "host_lines_of", "lines_of", "straight", "tell")

T = TypeVar("T")
DATA: Final = Path(__file__).parents[1] / "data"
CID: Final = ContainerId("0a1b2c3d4e5f6789" * 4)
_ENCODED: Final = 8 << 20  # of an event: what all bounds in docs/security.md add up to
_TEXT: Final = 600  # of a line: the columns, and the reasons
_LISTED: Final = Listed(
    boot_ns=1, container_id=CID, paths=((CgroupKey(0, 1), "/a"),), identity=None, leads=Leads()
)
_BORN: Final = Born(
    serial=1,
    boot_ns=1,
    identity=Identity(CID, Runtime.UNKNOWN, is_root=True),
    cgroup=CgroupKey(0, 1),
    path="/a",
    creator=None,
    call=None,
    listed=_LISTED,
)


def tell(facts: Facts, source: str) -> Hashable:
    """An event of these facts, as every kind of line; which fields they settled."""
    known = Known()
    known.add(source, facts)
    event = describe(
        "existing_container",
        event_id="",
        host="h",
        happened_ns=1,
        born=_BORN,
        cgroup=_BORN.cgroup,
        path=_BORN.path,
        known=known,
        reasons={},
        verified=True,
        wall_offset_ns=1_700_000_000 * 10**9,
        after_ms=None,
        lost_before=0,
    )
    lines_of(event)
    said = tuple(getattr(facts, field) not in (None, "") for field in FIELDS)
    return said, tuple(facts.absent), facts.runtime, bool(facts.labels), _may(facts)


def _may(facts: Facts) -> Hashable:
    """What it may do, roughly."""
    security, limits = facts.security, facts.limits
    if security is None or limits is None:
        return None
    few = map(len, (security.capabilities, security.mounts, security.devices))
    hosts = security.host_network, security.host_pid, security.host_ipc
    flags = security.privileged, security.seccomp, security.read_only
    are = tuple(each is not None for each in (limits.memory_bytes, limits.cpu_cores, limits.pids))
    return hosts, flags, are, tuple(each.bit_length() for each in few)


def lines_of(event: ContainerEvent) -> None:
    """Each can be written; those for a terminal are one printable line."""
    line = render.json_line(event)
    require("an event is a line", line.count(b"\n") == 1 and len(line) <= _ENCODED)
    if event.event != "container_update":
        read = msgspec.json.decode(line, type=ContainerEvent)
        require("an event can be read again", read.container_id == event.container_id)
    render.tracee_line(event, None)
    text = render.text_line(event)
    require("a text line is one printable line", text[-1] == "\n" and text[:-1].isprintable())
    require("a text line is bounded", len(text) < _TEXT + 70 * len(event.evidence.missing))
    row = ps._row(event, whole=False)
    require("a row of ps is printable", all(cell.isprintable() for cell in row))
    text.encode()


def host_lines_of(event: HostEvent | Verdict | ContainerUsage) -> None:
    line, text = render.host_json_line(event), render.host_text_line(event)
    require("an event is a line", line.count(b"\n") == 1 and len(line) < 8192)
    require("a text line is one printable line", text[-1] == "\n" and text[:-1].isprintable())
    require("a text line is bounded", len(text) < _TEXT)
    text.encode()


def straight(asked: Coroutine[Any, Any, T]) -> T:
    """The result of what waits for nothing."""
    try:
        asked.send(None)
    except StopIteration as done:
        value: T = done.value
        return value
    asked.close()
    raise AssertionError("it waits for something")


class Memory(Readers):
    """Files that are none; the readers' threads are this one."""

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, bytes] = {}

    async def call(self, work: Any, lane: Any = "own") -> Any:  # noqa: ARG002
        return work()

    async def read(self, tree: Tree, name: str, limit: int) -> bytes:
        raw = self.files.get(name)
        if raw is None:
            raise Absent(tree.path(name))
        if len(raw) > limit:
            raise Unreadable(tree.path(name))
        return raw


class Parsed(ParsedFiles[T]):
    async def get(self, tree: Tree, name: str) -> T:
        return self._parse(await self._readers.read(tree, name, self._limit))
