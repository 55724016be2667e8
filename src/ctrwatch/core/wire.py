"""
Ring-buffer records to raw events: the Python mirror of sensor/bpf/event.h.

Pure. A record that is not ours (short, of another version, of an unknown kind)
raises WireError and is counted by the caller; it is never skipped in silence.
Bytes that are no UTF-8 are kept as surrogate escapes: a cgroup's name may hold
anything but "/" and NUL.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Final

from ctrwatch.errors import WireError
from ctrwatch.model import CgroupKey, Kind, RawEvent, Task

__all__ = ("ARGV_MAX", "FIELDS", "LONGEST", "PATH_CUT", "PATH_MAX", "VERSION", "decode")

VERSION: Final = 1
PATH_MAX: Final = 1024
ARGV_MAX: Final = 4096
PATH_CUT: Final = 1023  # bytes the tracepoint's buffer holds: a path of that length was cut
ARGV_CUT_FLAG: Final = 1
FIELDS: Final = (  # name and struct code, in the order of struct ctrwatch_record
    ("boot_ns", "Q"),
    ("cgroup_id", "Q"),
    ("parent_id", "Q"),
    ("lost", "Q"),
    ("start_ns", "Q"),
    ("hierarchy_id", "I"),
    ("level", "I"),
    ("pid", "I"),
    ("tid", "I"),
    ("ppid", "I"),
    ("uid", "I"),
    ("gid", "I"),
    ("mnt_ns", "I"),
    ("pid_ns", "I"),
    ("cpu", "H"),
    ("path_len", "H"),
    ("argv_len", "H"),
    ("kind", "B"),
    ("flags", "B"),
    ("version", "B"),
    ("reserved", "11s"),
    ("comm", "16s"),
)
_HEAD: Final = struct.Struct("=" + "".join(code for _, code in FIELDS))
_KEPT: Final = (
    64  # command lines, as many as processes that make containers at a time: 1 MB at most
)
LONGEST: Final = _HEAD.size + PATH_MAX + ARGV_MAX
_KINDS: Final = {int(kind): kind for kind in Kind}


def decode(record: bytes) -> RawEvent:
    """
    Return the raw event that *record* holds.

    >>> decode(b"")
    Traceback (most recent call last):
    ctrwatch.errors.WireError: record of 0 bytes, expected at least 112
    """
    if len(record) < _HEAD.size:
        raise WireError(f"record of {len(record)} bytes, expected at least {_HEAD.size}")
    (
        boot_ns, cgroup_id, parent_id, lost, start_ns, hierarchy_id, level, pid, tid, ppid,
        uid, gid, mnt_ns, pid_ns, cpu, path_len, argv_len, kind_number, flags, version, _, comm,
    ) = _HEAD.unpack_from(record)  # fmt: skip
    if version != VERSION:
        raise WireError(f"wire version {version}, expected {VERSION}")
    kind = _KINDS.get(kind_number)
    if kind is None:
        raise WireError(f"unknown kind {kind_number}")
    argv_at = _HEAD.size + path_len
    if len(record) < argv_at + argv_len:
        raise WireError(f"record of {len(record)} bytes, but it speaks of {argv_at + argv_len}")
    return RawEvent(
        kind=kind,
        boot_ns=boot_ns,
        cgroup=CgroupKey(hierarchy_id, cgroup_id),
        parent_id=parent_id,
        level=level,
        path=_text(record[_HEAD.size : argv_at]),
        path_cut=kind is not Kind.EXEC and path_len >= PATH_CUT,
        task=Task(
            pid=pid,
            ppid=ppid,
            tid=tid,
            uid=uid,
            gid=gid,
            comm=_name(comm),
            argv=_words(record[argv_at : argv_at + argv_len]) if argv_len else (),
            argv_cut=bool(flags & ARGV_CUT_FLAG),
            start_ns=start_ns,
            mnt_ns=mnt_ns,
            pid_ns=pid_ns,
            cpu=cpu,
        ),
        lost=lost,
    )


# An OCI runtime makes a dozen directories, each time with the same command line.
@lru_cache(maxsize=_KEPT)
def _words(argv: bytes) -> tuple[str, ...]:
    return tuple(_text(argv.removesuffix(b"\0")).split("\0"))


@lru_cache(maxsize=_KEPT)
def _name(comm: bytes) -> str:
    return _text(comm.partition(b"\0")[0])


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
