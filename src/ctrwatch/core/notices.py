"""
What the kernel sends to the fanotify sensor: bytes to values.

Pure. Two streams: fanotify's notices of a cgroup file system, and the process events
connector's datagrams. Bytes of another shape raise WireError; names that are no UTF-8
are kept as surrogate escapes. Layouts: include/uapi/linux/fanotify.h (5.17: the child's
handle, the pidfd), connector.h and cn_proc.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from ctrwatch.errors import WireError

__all__ = ("NO_PIDFD", "Mask", "Notice", "ProcessEvent", "notices", "process_event")


class Mask:
    """What happened: FAN_* of fanotify.h. No IntFlag, whose `&` takes a microsecond."""

    MODIFY: Final = 0x2
    MOVED_FROM: Final = 0x40
    CREATE: Final = 0x100
    DELETE: Final = 0x200
    OVERFLOW: Final = 0x4000
    ONDIR: Final = 0x40000000


class Notice(NamedTuple):
    """
    One notice. Ids are kernfs's: of a directory of a cgroup file system the cgroup's.

    `child_id` is 0 where the kernel does not say it: it does at a removal, and not at a
    mkdir, for kernfs makes the inode only when somebody looks (kernfs_iop_mkdir). An
    overflow has nothing but its mask.
    """

    mask: int
    pid: int
    pidfd: int  # negative: the process had ended, or it can't be had
    fsid: int = 0  # as statvfs has it
    parent_id: int = 0
    name: str = ""
    child_id: int = 0


class ProcessEvent(NamedTuple):
    """A program was executed by *pid*; or, where *parent* is not 0, it was forked by that."""

    monotonic_ns: int  # CLOCK_MONOTONIC
    pid: int
    parent: int = 0


NO_PIDFD: Final = -1  # FAN_NOPIDFD

_VERSION: Final = 3  # FANOTIFY_METADATA_VERSION
_METADATA: Final = struct.Struct("=IBBHQii")  # struct fanotify_event_metadata
_INFO: Final = struct.Struct("=BBH")  # struct fanotify_event_info_header
_FID: Final = struct.Struct("=IIIi")  # its fsid, and the head of struct file_handle
_HANDLE: Final = struct.Struct("=Q")
_KERNFS_HANDLE: Final = 0xFE  # FILEID_KERNFS, include/linux/exportfs.h
_PIDFD: Final = struct.Struct("=i")
_OF_CHILD, _OF_PARENT, _OF_PIDFD = 1, 2, 4  # FAN_EVENT_INFO_TYPE_FID, _DFID_NAME, _PIDFD


def notices(buffer: bytes) -> Iterator[Notice]:
    """
    The notices of one read(2), in order.

    Raises WireError at the first that can't be read; those before it are good.

    >>> list(notices(b"short"))
    Traceback (most recent call last):
    ctrwatch.errors.WireError: notice of 5 bytes, expected at least 24
    """
    at = 0
    while at < len(buffer):
        left = len(buffer) - at
        if left < _METADATA.size:
            raise WireError(f"notice of {left} bytes, expected at least {_METADATA.size}")
        length, version, _, head, mask, _, pid = _METADATA.unpack_from(buffer, at)
        if version != _VERSION:
            raise WireError(f"fanotify version {version}, expected {_VERSION}")
        if not _METADATA.size <= head <= length <= left:
            raise WireError(f"notice of {length} bytes in {left}, with a head of {head}")
        yield _notice(mask, pid, buffer[at + head : at + length])
        at += length


def _notice(mask: int, pid: int, infos: bytes) -> Notice:
    pidfd, fsid, parent_id, name, child_id = NO_PIDFD, 0, 0, "", 0
    at = 0
    while at < len(infos):
        if len(infos) - at < _INFO.size:
            raise WireError(f"{len(infos) - at} bytes of information, expected {_INFO.size}")
        kind, _, length = _INFO.unpack_from(infos, at)
        if not _INFO.size <= length <= len(infos) - at:
            raise WireError(f"information of {length} bytes in {len(infos) - at}")
        body = infos[at + _INFO.size : at + length]
        if kind == _OF_PARENT:
            fsid, parent_id, rest = _handle(body)
            name = rest.partition(b"\0")[0].decode("utf-8", "surrogateescape")
        elif kind == _OF_CHILD:
            _, child_id, _ = _handle(body)
        elif kind == _OF_PIDFD and len(body) >= _PIDFD.size:
            (pidfd,) = _PIDFD.unpack_from(body)
        at += length
    return Notice(mask, pid, pidfd, fsid, parent_id, name, child_id)


def _handle(body: bytes) -> tuple[int, int, bytes]:
    """The file system, the id in it, and what follows."""
    end = _FID.size + _HANDLE.size
    if len(body) < end:
        raise WireError(f"file handle in {len(body)} bytes, expected at least {end}")
    low, high, length, kind = _FID.unpack_from(body)
    if (length, kind) != (_HANDLE.size, _KERNFS_HANDLE):
        raise WireError(f"file handle of kind {kind:#x} and {length} bytes, not kernfs's")
    return low | high << 32, _HANDLE.unpack_from(body, _FID.size)[0], body[end:]


# --- the process events connector ------------------------------------------------------

# struct nlmsghdr (16), struct cn_msg (20), then struct proc_event: what, cpu, timestamp.
_EVENT: Final = struct.Struct("=36x IIQ 4I")
_FORK, _EXEC = 1, 2  # enum proc_cn_event


def process_event(datagram: bytes) -> ProcessEvent | None:
    """A process's fork or exec; None for threads and everything else."""
    if len(datagram) < _EVENT.size:
        raise WireError(f"process event of {len(datagram)} bytes, expected {_EVENT.size}")
    what, _, monotonic_ns, *words = _EVENT.unpack_from(datagram)
    if what == _EXEC:
        return ProcessEvent(monotonic_ns, words[1])
    if what == _FORK and words[2] == words[3]:
        return ProcessEvent(monotonic_ns, words[3], words[1])
    return None
