"""What the kernel hands over: records, notices, and the paths in them that strangers chose."""

from __future__ import annotations

import struct
from collections.abc import Hashable, Sequence
from typing import Final

import msgspec

from ctrwatch.core import wire
from ctrwatch.core.cgroup import explain, identify, is_free_name, pod_uid
from ctrwatch.core.notices import Mask, notices, process_event
from ctrwatch.core.render import raw_line, raw_text
from ctrwatch.errors import WireError
from ctrwatch.model import Kind
from tests.fuzz.boundary import Boundary, require
from tests.fuzz.mutate import Mutator
from tests.fuzz.telling import DATA

__all__ = ("connector", "fanotify", "path", "record")

_HEAD: Final = struct.Struct("=" + "".join(code for _, code in wire.FIELDS))
_MKDIR: Final = bytes.fromhex(  # as Linux 6.18 wrote them
    "48000000030018000001004000000000ffffffff165a0000"
    "020028009e1c8d593a7e342b08000000fe0000000100000000000000637472772d74727900000000"
    "0400080004000000"
)
_RMDIR: Final = bytes.fromhex(
    "64000000030018000002004000000000ffffffff165a0000"
    "020028009e1c8d593a7e342b08000000fe0000000100000000000000637472772d74727900000000"
    "01001c009e1c8d593a7e342b08000000fe0000006c6f110000000000"
    "0400080004000000"
)


def record() -> Boundary:
    return Boundary(
        [_record(kind, path, argv) for kind in Kind for path, argv in _RECORDS],
        lambda mutator, seeds: mutator.raw(seeds),
        _feed_record,
        (WireError,),
    )


_PATH: Final = 4096  # of the kernel's
_RECORDS: Final = (
    (b"/demo/t1", b"runc\0create\0--bundle\0/b\0t1\0"),
    (b"/docker/" + b"ab" * 32, b""),
    (b"/caf\xe9\x1b[2J", b"\xff\0\0"),
    (b"/" + b"x" * 1022, b"a\0" * 2048),
)


def _record(kind: Kind, path: bytes, argv: bytes) -> bytes:
    numbers = (1, 2**64 - 1, 3, 4, 5, 6, 7, 8, 9, 10, 2**32 - 1, 12, 13, 14, 3)
    tail = (len(path), len(argv), kind, 0, wire.VERSION, b"", b"runc")
    return _HEAD.pack(*numbers, *tail) + path + argv


def _feed_record(raw: bytes) -> Hashable:
    event = wire.decode(raw)
    require("it is no longer than its record", len(event.path) + len(event.task.argv) <= len(raw))
    msgspec.json.decode(raw_line(event, 1) or b"null")
    text = raw_text(event, 1) or "\n"
    require("a raw line is one printable line", text[:-1].isprintable() and text[-1] == "\n")
    return event.kind, event.path_cut, event.task.argv_cut, bool(event.task.argv)


def fanotify() -> Boundary:
    return Boundary(
        [_MKDIR, _RMDIR, _MKDIR + _RMDIR],
        lambda mutator, seeds: mutator.raw(seeds),
        lambda raw: tuple(
            (each.mask & Mask.OVERFLOW > 0, bool(each.name), each.child_id > 0)
            for each in notices(raw)
        ),
        (WireError,),
    )


def connector() -> Boundary:
    seeds = [
        struct.pack("=36x IIQ 4I", what, 0, 1 << 40, 10, 11, 12, 12) for what in (1, 2, 4, 1 << 31)
    ]

    def feed(raw: bytes) -> Hashable:
        event = process_event(raw)
        return event is not None and (event.parent > 0)

    return Boundary(seeds, lambda mutator, seeds: mutator.raw(seeds), feed, (WireError,))


def path() -> Boundary:
    lines = (DATA / "cgroup_paths.tsv").read_text().splitlines()
    seeds = [line.split("\t")[0] for line in lines if line.startswith("/")]
    for file in sorted((DATA / "cgroups").glob("*.txt")):
        seeds += [line for line in file.read_text().splitlines() if line.startswith("/")]
    return Boundary(seeds, _a_path, _feed_path, kept=512)


def _a_path(mutator: Mutator, seeds: Sequence[str]) -> str:
    path = mutator.text(seeds)
    if mutator.chance(0.2):  # one below another
        path = mutator.pick(seeds) + path
    return path if mutator.chance(0.001) else path[:_PATH]  # `explain` takes longer ones


def _feed_path(path: str) -> Hashable:
    identity, pod = identify(path), pod_uid(path)
    msgspec.json.encode(explain(path))
    if identity is None:
        return None, bool(pod)
    container_id = identity.container_id
    require("an id is a name", 0 < len(container_id) <= 255 and "/" not in container_id)
    require("an id can be written", container_id.isascii() and container_id.isprintable())
    require("no container is around itself", container_id not in identity.outer)
    require("free names are few", is_free_name(identity) in (True, False))
    return identity.runtime, identity.is_root, len(identity.outer).bit_length(), bool(pod)
