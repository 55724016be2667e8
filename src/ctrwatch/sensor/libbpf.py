"""
libbpf 1.x by ctypes: just what the eBPF sensor needs of it.

`libbpf.so.1` is on nearly every host (bpftool, perf, systemd pull it in), so the
wheel needs no compiler. Functions and their contracts: libbpf/src/libbpf.h, 1.0.
"""

from __future__ import annotations

import ctypes as c
import errno
import mmap
import os
import platform
import re
import struct
from collections.abc import Callable
from typing import Final

from ctrwatch.errors import HostError

__all__ = ("BpfError", "BpfObject", "RingBuffer", "load_library", "missed_in")

_LOG_BYTES: Final = 16 << 10  # the verifier's last words; a whole log is megabytes
_PRINT = c.CFUNCTYPE(c.c_int, c.c_int, c.c_char_p, c.c_void_p)

# include/uapi/linux/bpf.h: BPF_RINGBUF_BUSY_BIT, _DISCARD_BIT, _HDR_SZ
_BUSY: Final = 1 << 31
_DISCARDED: Final = 1 << 30
_HEAD: Final = 8
_LENGTH: Final = struct.Struct("=I")
_MISSED: Final = re.compile(rb"^recursion_misses:\s*(\d+)$", re.MULTILINE)
_PAGE: Final = mmap.PAGESIZE
_WINDOW: Final = 256 << 10  # some 800 records; to map the next one takes 20 µs
# membarrier(2): MEMBARRIER_CMD_{REGISTER_,}PRIVATE_EXPEDITED, and its number by machine
_REGISTER: Final = 1 << 4
_EXPEDITED: Final = 1 << 3
_MEMBARRIER: Final = {
    "aarch64": 283,
    "riscv64": 283,
    "loongarch64": 283,
    "ppc64le": 365,
    "s390x": 356,
}

_SIGNATURES: Final[dict[str, tuple[type | None, list[type]]]] = {
    "bpf_object__open_mem": (c.c_void_p, [c.c_char_p, c.c_size_t, c.c_void_p]),
    "bpf_object__load": (c.c_int, [c.c_void_p]),
    "bpf_object__close": (None, [c.c_void_p]),
    "bpf_object__next_program": (c.c_void_p, [c.c_void_p, c.c_void_p]),
    "bpf_object__find_map_by_name": (c.c_void_p, [c.c_void_p, c.c_char_p]),
    "bpf_program__attach": (c.c_void_p, [c.c_void_p]),
    "bpf_program__name": (c.c_char_p, [c.c_void_p]),
    "bpf_link__destroy": (c.c_int, [c.c_void_p]),
    "bpf_program__fd": (c.c_int, [c.c_void_p]),
    "bpf_map__fd": (c.c_int, [c.c_void_p]),
    "bpf_map__max_entries": (c.c_uint32, [c.c_void_p]),
    "bpf_map__initial_value": (c.c_void_p, [c.c_void_p, c.POINTER(c.c_size_t)]),
    "libbpf_set_print": (c.c_void_p, [_PRINT]),
}


class BpfError(OSError):
    """libbpf or the kernel refused; `log` is what they printed, newest last."""

    def __init__(self, code: int, what: str, log: str) -> None:
        super().__init__(code, f"{what}: {os.strerror(code)}")
        self.log = log


class Library:
    """The loaded libbpf, with its messages kept instead of printed."""

    def __init__(self, handle: c.CDLL) -> None:
        self.call = handle
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(handle, name)
            function.restype, function.argtypes = result, arguments
        self._log = bytearray()
        self._vsnprintf = c.CDLL(None, use_errno=True).vsnprintf
        self._vsnprintf.argtypes = [c.c_char_p, c.c_size_t, c.c_char_p, c.c_void_p]
        self._print = _PRINT(self._keep)  # libbpf keeps the pointer: so must we
        handle.libbpf_set_print(self._print)

    def _keep(self, _level: int, template: bytes, arguments: int) -> int:
        # A va_list is passed on as the pointer that the x86-64 and arm64 ABIs make of it.
        line = c.create_string_buffer(4096)
        self._vsnprintf(line, len(line), template, arguments)
        self._log += line.value
        del self._log[:-_LOG_BYTES]
        return 0

    def error(self, code: int, what: str) -> BpfError:
        return BpfError(abs(code), what, self._log.decode("utf-8", "replace"))


def load_library(name: str = "libbpf.so.1") -> Library:
    """Raise HostError where the library is missing or too old."""
    try:
        return Library(c.CDLL(name, use_errno=True))
    except OSError:
        raise HostError(
            f"{name} is not installed; install it with `apt-get install libbpf1`"
            " (Fedora, openSUSE: libbpf; Alpine: libbpf)"
        ) from None
    except AttributeError as missing:
        raise HostError(f"{name} is older than libbpf 1.0: {missing}") from None


class BpfObject:
    """A loaded and attached BPF object file. Closing it detaches every program."""

    def __init__(self, library: Library, image: bytes) -> None:
        self._library, self._lib = library, library.call
        self._links: list[int] = []
        self._programs: list[int] = []  # their file descriptors
        self._object = self._lib.bpf_object__open_mem(image, len(image), None)
        if not self._object:
            raise library.error(c.get_errno(), "open the BPF object")
        if (code := self._lib.bpf_object__load(self._object)) < 0:
            error = library.error(code, "load the BPF programs")
            self.close()
            raise error

    def attach(self) -> None:
        program = None
        while program := self._lib.bpf_object__next_program(self._object, program):
            link = self._lib.bpf_program__attach(program)
            if not link:
                code = c.get_errno()
                name = self._lib.bpf_program__name(program).decode()
                raise self._library.error(code, f"attach {name}")
            self._links.append(link)
            self._programs.append(self._lib.bpf_program__fd(program))

    def ring(self, name: str, *, batch: int, longest: int) -> RingBuffer:
        """The reading side of that map. One a map: the position is kept with the records."""
        found = self._find(name)
        size = self._lib.bpf_map__max_entries(found)
        fd = int(self._lib.bpf_map__fd(found))
        return RingBuffer(fd, size, batch=batch, longest=longest)

    def missed(self) -> int:
        """
        Times that the kernel passed over a program, because it was at work on that CPU already.

        By proc(5)'s fdinfo, which takes no privilege: some 10 µs a program. Since Linux 5.12.
        """
        total = 0
        for fd in self._programs:
            with open(f"/proc/self/fdinfo/{fd}", "rb") as file:
                total += missed_in(file.read())
        return total

    def memory(self, name: str) -> mmap.mmap:
        """
        The memory of a global-data map (.bss), shared with the kernel. Read only.

        By the map's own descriptor: what libbpf hands out as its value is a copy until
        libbpf 1.5, but for skeletons.
        """
        size = c.c_size_t()
        found = self._find(name)
        self._lib.bpf_map__initial_value(found, c.byref(size))
        fd = int(self._lib.bpf_map__fd(found))
        try:
            return mmap.mmap(fd, size.value, prot=mmap.PROT_READ)
        except OSError as error:
            raise BpfError(error.errno or errno.EINVAL, f"map {name}", "") from None

    def _find(self, name: str) -> int:
        found = self._lib.bpf_object__find_map_by_name(self._object, name.encode())
        if not found:
            raise self._library.error(errno.ENOENT, f"map {name}")
        return int(found)

    def close(self) -> None:
        while self._links:
            self._lib.bpf_link__destroy(self._links.pop())
        if self._object:
            self._lib.bpf_object__close(self._object)
            self._object = None


class RingBuffer:
    """
    The reading side of a BPF ring buffer, by its memory: kernel/bpf/ringbuf.c.

    A page with the reader's position, a page with the writers', and the records, twice
    one behind the other, so that none is ever in two pieces; each has a head of 8 bytes,
    of which the first 4 are its length. libbpf maps all of it and calls back for each
    record, which costs us as much as decoding it. Of the records we map a window, which
    goes round: the kernel's memory is not ours as long as nobody reads it.

    The place of what was read is given back by the next `read`. A record wakes whoever
    waits for `fd` if it finds all before it given back, or asks for it (BPF_RB_FORCE_WAKEUP):
    so what was read and is held keeps the others quiet.
    """

    def __init__(self, map_fd: int, size: int, *, batch: int, longest: int) -> None:
        """
        *size*: the map's max_entries. *batch*: records of one `read`, so that other work
        gets its turn. *longest*: bytes of a record at most.
        """
        self.fd, self._size, self._batch = map_fd, size, batch
        self._longest = longest
        self._span = min(size, _WINDOW)
        try:
            self._mine = mmap.mmap(map_fd, _PAGE)
            self._theirs = mmap.mmap(map_fd, _PAGE, prot=mmap.PROT_READ, offset=_PAGE)
            self._window = self._map(0)
        except OSError as error:
            raise BpfError(error.errno or errno.EINVAL, "map the ring buffer", "") from None
        # Both are 8 aligned bytes: they are read and written in one instruction.
        self._read_to = memoryview(self._mine).cast("Q")
        self._written_to = memoryview(self._theirs).cast("Q")
        self._in_order = _memory_order()
        self._position = self._read_to[0]

    def read(self) -> list[bytes]:
        """The records that are there now, oldest first, at most a batch of them."""
        self._in_order()  # a record's place is given back after it was read
        self._read_to[0] = self._position
        records: list[bytes] = []
        while (left := self._batch - len(records)) and (more := self._next(left)):
            records += more
        return records

    def _next(self, most: int) -> list[bytes]:
        """As many of them as are in one window."""
        position, end = self._position, self._written_to[0]
        if position == end:
            return []
        at = position & (self._size - 1)
        if not self._start <= at < self._start + self._span:
            self._window.close()
            self._window = self._map(at - at % self._span)
        self._in_order()  # a record's head is read after the position that says it is there …
        base = position - (at - self._start)
        end = min(end, base + self._span)
        found: list[tuple[int, int]] = []
        while position < end and len(found) < most:
            (length,) = _LENGTH.unpack_from(self._window, position - base)
            if length & _BUSY:
                break  # it is being written
            if not length & _DISCARDED:
                found.append((position - base + _HEAD, length))
            position += _HEAD + ((length & ~_DISCARDED) + 7 & ~7)
        self._in_order()  # … what it holds after the head that says it is whole …
        records = [self._window[at : at + length] for at, length in found]
        self._position = position
        return records

    def _map(self, start: int) -> mmap.mmap:
        """A window of the records, and room for one that reaches out of it."""
        self._start = start
        room = -(-(_HEAD + self._longest) // _PAGE) * _PAGE
        length, offset = self._span + room, 2 * _PAGE + start
        return mmap.mmap(self.fd, length, prot=mmap.PROT_READ, offset=offset)

    def close(self) -> None:
        for view in (self._read_to, self._written_to):
            view.release()
        for memory in (self._mine, self._theirs, self._window):
            memory.close()


def missed_in(fdinfo: bytes) -> int:
    """
    What a program's fdinfo says of it; 0 where it says nothing (before Linux 5.12).

    >>> missed_in(b"prog_type:\\t26\\nrecursion_misses:\\t3\\n")
    3
    """
    found = _MISSED.search(fdinfo)
    return int(found[1]) if found else 0


def _memory_order() -> Callable[[], object]:
    """
    What to call between two accesses of memory that another CPU must not see swapped.

    x86-64 keeps loads in order, and stores after them (Intel SDM 3A, 9.2). For others it
    is membarrier(2), which is a whole barrier for every thread of this process.
    """
    if platform.machine() == "x86_64":
        return lambda: None
    libc = c.CDLL(None, use_errno=True)
    number = _MEMBARRIER.get(platform.machine())
    if number is None or libc.syscall(number, _REGISTER, 0, 0) < 0:
        raise BpfError(errno.ENOSYS, "order the memory of the ring buffer by membarrier(2)", "")
    return lambda: libc.syscall(number, _EXPEDITED, 0, 0)
