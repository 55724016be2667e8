"""
The kernel's process events connector: who forks, who executes a program, and when.

A netlink socket (drivers/connector/cn_proc.c, CONFIG_PROC_EVENTS, in every large
distribution's kernel). It needs CAP_NET_ADMIN and the host's own network, pid and user
namespaces. It says every fork and exec of the host, so it is listened to only while a
container is being born; a filter in the kernel drops threads and all the rest.
"""

from __future__ import annotations

import contextlib
import ctypes as c
import errno
import socket
import struct
from typing import Final

from ctrwatch.core.notices import ProcessEvent, process_event
from ctrwatch.errors import HostError, WireError

__all__ = ("Connector",)

_NETLINK_CONNECTOR: Final = 11  # include/uapi/linux/netlink.h
_CN_IDX_PROC, _CN_VAL_PROC = 1, 1  # connector.h
_LISTEN, _IGNORE = 1, 2  # enum proc_cn_mcast_op
_NLMSG_DONE: Final = 3
_REQUEST: Final = struct.Struct("=IHHII IIIIHH I")  # nlmsghdr, cn_msg, the operation
_DATAGRAM_BYTES: Final = 256  # 76 bytes each
# 76 bytes take some 800 of the buffer: room for 5,000 events, 50 ms of a host that forks as
# fast as two cores can.
_BUFFER_BYTES: Final = 4 << 20
_BATCH: Final = 256  # events read at a time, 2 µs each

# Only forks that are no threads, and execs: a classic BPF program on the socket, which needs
# no privilege. Offsets into the datagram: what happened, then its words (cn_proc.h).
_WHAT, _WORDS = 36, 52
_SO_ATTACH_FILTER, _SO_RCVBUFFORCE = 26, 33  # asm-generic/socket.h
_LOAD, _TO_X = 0x20, 0x07  # ld [k]; tax
_EQUAL, _EQUAL_X, _RETURN = 0x15, 0x1D, 0x06  # jeq #k; jeq x; ret #k
_FILTER: Final = (  # code, jump if true, jump if false, k
    (_LOAD, 0, 0, _WHAT),
    (_EQUAL, 5, 0, socket.htonl(2)),  # an exec: keep
    (_EQUAL, 0, 5, socket.htonl(1)),  # no fork: drop
    (_LOAD, 0, 0, _WORDS + 8),  # the child's thread id
    (_TO_X, 0, 0, 0),
    (_LOAD, 0, 0, _WORDS + 12),  # its process id
    (_EQUAL_X, 0, 1, 0),  # a process, no thread: keep
    (_RETURN, 0, 0, 0xFFFFFFFF),
    (_RETURN, 0, 0, 0),
)


class Connector:
    """Opened, and not yet listening. Raises HostError where the kernel does not answer."""

    def __init__(self) -> None:
        self.overruns = 0  # how often events were dropped; the kernel does not say how many
        self._listening = False
        try:
            self._socket = socket.socket(
                socket.AF_NETLINK,
                socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK,
                _NETLINK_CONNECTOR,
            )
        except OSError as error:  # a kernel without it
            raise HostError(f"no process events connector: {error.strerror}") from None
        try:
            self._socket.bind((0, _CN_IDX_PROC))
            self.listen(wanted=True)
            answered = self._answered()
            self.listen(wanted=False)
            self._prepare()
        except OSError as error:
            self._socket.close()
            raise HostError(f"no process events connector: {error.strerror}") from None
        if not answered:
            self._socket.close()
            raise HostError("no process events connector in these namespaces")

    @property
    def fd(self) -> int:
        return self._socket.fileno()

    def listen(self, *, wanted: bool) -> None:
        """Be told, or be no longer told. Does nothing where it is so already."""
        if wanted == self._listening:
            return
        operation = _LISTEN if wanted else _IGNORE
        length = _REQUEST.size
        self._socket.send(
            _REQUEST.pack(
                *(length, _NLMSG_DONE, 0, 0, 0),
                *(_CN_IDX_PROC, _CN_VAL_PROC, 0, 0, 4, 0, operation),
            )
        )
        self._listening = wanted

    def read(self) -> list[ProcessEvent]:
        """What has happened, at most a batch. Raises nothing: what was dropped is counted."""
        events: list[ProcessEvent] = []
        for _ in range(_BATCH):
            try:
                datagram, (sender, _) = self._socket.recvfrom(_DATAGRAM_BYTES)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.overruns += 1
                continue
            if sender != 0:
                continue  # root alone may send here; nobody but the kernel is believed
            try:
                event = process_event(datagram)
            except WireError:
                self.overruns += 1
                continue
            if event is not None:
                events.append(event)
        return events

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.listen(wanted=False)  # older kernels go on counting a listener that has gone
        self._socket.close()

    def _answered(self) -> bool:
        """The kernel says that it listens; in other namespaces than the host's it says nothing."""
        try:
            while self._socket.recv(_DATAGRAM_BYTES)[_WHAT : _WHAT + 4] != bytes(4):
                pass
        except BlockingIOError:
            return False
        return True

    def _prepare(self) -> None:
        code = b"".join(struct.pack("=HBBI", *each) for each in _FILTER)
        program = c.create_string_buffer(code, len(code))
        attached = struct.pack("HP", len(_FILTER), c.addressof(program))  # struct sock_fprog
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, attached)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        with contextlib.suppress(OSError):  # beyond net.core.rmem_max, by privilege
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        with contextlib.suppress(BlockingIOError):
            while self._socket.recv(_DATAGRAM_BYTES):  # from before the filter
                pass
