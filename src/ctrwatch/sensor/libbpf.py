"""
libbpf 1.x by ctypes: just what the eBPF sensor needs of it.

`libbpf.so.1` is on nearly every host (bpftool, perf, systemd pull it in), so the
wheel needs no compiler. Functions and their contracts: libbpf/src/libbpf.h, 1.0.
"""

from __future__ import annotations

import ctypes as c
import errno
import os
from typing import Final

from ctrwatch.errors import HostError

__all__ = ("BpfError", "BpfObject", "RingBuffer", "load_library")

_LOG_BYTES: Final = 16 << 10  # the verifier's last words; a whole log is megabytes
_RECORD = c.CFUNCTYPE(c.c_int, c.c_void_p, c.c_void_p, c.c_size_t)
_PRINT = c.CFUNCTYPE(c.c_int, c.c_int, c.c_char_p, c.c_void_p)
_STOP: Final = -errno.EAGAIN  # a callback's negative answer ends this round of reading

_SIGNATURES: Final[dict[str, tuple[type | None, list[type]]]] = {
    "bpf_object__open_mem": (c.c_void_p, [c.c_char_p, c.c_size_t, c.c_void_p]),
    "bpf_object__load": (c.c_int, [c.c_void_p]),
    "bpf_object__close": (None, [c.c_void_p]),
    "bpf_object__next_program": (c.c_void_p, [c.c_void_p, c.c_void_p]),
    "bpf_object__find_map_by_name": (c.c_void_p, [c.c_void_p, c.c_char_p]),
    "bpf_program__attach": (c.c_void_p, [c.c_void_p]),
    "bpf_program__name": (c.c_char_p, [c.c_void_p]),
    "bpf_link__destroy": (c.c_int, [c.c_void_p]),
    "bpf_map__fd": (c.c_int, [c.c_void_p]),
    "bpf_map__initial_value": (c.c_void_p, [c.c_void_p, c.POINTER(c.c_size_t)]),
    "ring_buffer__new": (c.c_void_p, [c.c_int, _RECORD, c.c_void_p, c.c_void_p]),
    "ring_buffer__consume": (c.c_int, [c.c_void_p]),
    "ring_buffer__epoll_fd": (c.c_int, [c.c_void_p]),
    "ring_buffer__free": (None, [c.c_void_p]),
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

    def map_fd(self, name: str) -> int:
        return int(self._lib.bpf_map__fd(self._find(name)))

    def memory(self, name: str) -> memoryview:
        """The memory of a global-data map (.bss), shared with the kernel. Read only."""
        size = c.c_size_t()
        start = self._lib.bpf_map__initial_value(self._find(name), c.byref(size))
        return memoryview((c.c_char * size.value).from_address(start)).cast("B").toreadonly()

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
    The reading side of a BPF ring buffer.

    libbpf's own consume has the barriers that a ring shared with the kernel needs
    on every architecture; the price over reading by mmap is one ctypes call a record.
    """

    def __init__(self, library: Library, map_fd: int, *, batch: int) -> None:
        """*batch*: records of one `read`, so that other work gets its turn."""
        self._lib, self._batch = library.call, batch
        self._records: list[bytes] = []
        self._callback = _RECORD(self._keep)
        self._ring = self._lib.ring_buffer__new(map_fd, self._callback, None, None)
        if not self._ring:
            raise library.error(c.get_errno(), "open the ring buffer")
        self.fd = int(self._lib.ring_buffer__epoll_fd(self._ring))

    def _keep(self, _context: int, data: int, size: int) -> int:
        self._records.append(c.string_at(data, size))
        return _STOP if len(self._records) >= self._batch else 0

    def read(self) -> list[bytes]:
        """The records that are there now, oldest first, at most a batch of them."""
        self._lib.ring_buffer__consume(self._ring)
        records, self._records = self._records, []
        return records

    def close(self) -> None:
        if self._ring:
            self._lib.ring_buffer__free(self._ring)
            self._ring = None
