"""
The eBPF sensor: the kernel's tracepoints, in a ring, as raw events.

Loads the compiled sensor/bpf/birth.bpf.o. Kernel 5.11 or later with BTF, libbpf 1.x,
and root or CAP_BPF with CAP_PERFMON. What is missing is a HostError that says so.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import pkgutil
import select
import sys
import time
from collections.abc import AsyncIterator, Sequence
from typing import Final, Self

import msgspec

from ctrwatch.core import wire
from ctrwatch.errors import HostError, WireError
from ctrwatch.model import RawEvent
from ctrwatch.sensor import libbpf
from ctrwatch.sensor.host import BTF, Host

__all__ = ("EbpfSensor",)

log = logging.getLogger(__name__)

# One turn of the event loop: 256 records take about 3 ms to decode and judge, which is
# what an answer of a runtime may have to wait meanwhile.
_BATCH: Final = 256
# A birth is some 30 records. The first of them calls us, and the container's first task in the unified
# hierarchy, and its first process, 8 ms before its first instruction; what else follows is let gather.
# What we do meanwhile is in the way of the OCI runtime, which has work for two CPUs then.
_GATHER_S: Final = 0.01
_CALL: Final = select.EPOLLIN | select.EPOLLET
_ASK_S: Final = 1.0  # between two looks at what the kernel passed over


class EbpfSensor:
    """Attached from its making until `close`. One reader at a time."""

    name = "ebpf"
    without = ""
    tells_init = True
    capabilities: frozenset[str] = frozenset()  # what it holds open was allowed once

    def __init__(self, host: Host) -> None:
        self._host = host
        self.unreadable = 0  # records of another shape than this build's
        self._missed, self._asked_s = 0, 0.0
        library = libbpf.load_library()
        try:
            self._object = libbpf.BpfObject(library, _image())
        except libbpf.BpfError as error:
            raise _explained(error) from error
        try:
            self._lost = self._object.memory(".bss")
            self._ring = self._object.ring("ring", batch=_BATCH, longest=wire.LONGEST)
            self._object.attach()
        except libbpf.BpfError as error:
            self._object.close()
            raise _explained(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def lost(self) -> int:
        """
        What did not fit into the ring, and what a program was passed over for.

        The second is asked for once a second at most: it costs as much as ten records,
        has happened on no host yet, and is heard of with the batch after it at the latest.
        """
        now_s = time.monotonic()
        if now_s - self._asked_s > _ASK_S:
            self._asked_s, self._missed = now_s, self._object.missed()
        return int.from_bytes(self._lost[:8], sys.byteorder) + self._missed

    def idle(self) -> bool:
        poller = select.poll()
        poller.register(self._ring.fd, select.POLLIN)
        return not poller.poll(0)

    async def batches(self) -> AsyncIterator[Sequence[RawEvent]]:
        loop, called = asyncio.get_running_loop(), asyncio.Event()
        bell = select.epoll()  # rings once for each call, whatever is in the ring

        def hear() -> None:
            bell.poll(0)
            called.set()

        try:
            bell.register(self._ring.fd, _CALL)
            loop.add_reader(bell.fileno(), hear)
            while True:
                await called.wait()
                called.clear()
                while batch := self.read():
                    yield batch
                    rest = loop.call_later(_GATHER_S if len(batch) < _BATCH else 0, called.set)
                    await called.wait()
                    rest.cancel()
                    called.clear()
                bell.modify(self._ring.fd, _CALL)  # for what came since it was found empty
        finally:
            loop.remove_reader(bell.fileno())
            bell.close()

    def read(self) -> list[RawEvent]:
        """What is in the ring now: at most a batch, empty when there is nothing."""
        return [event for record in self._ring.read() if (event := self._decode(record))]

    def _decode(self, record: bytes) -> RawEvent | None:
        try:
            event = wire.decode(record)
        except WireError as error:
            self.unreadable += 1
            log.warning("a record of the kernel side can't be read: %s", error)
            return None
        if event.path_cut and (path := self._host.resolve(event.cgroup)):
            return msgspec.structs.replace(event, path=path, path_cut=False)
        return event

    def close(self) -> None:
        self._ring.close()
        self._object.close()


def _image() -> bytes:
    try:
        image = pkgutil.get_data("ctrwatch.sensor.bpf", "birth.bpf.o")
    except FileNotFoundError:
        image = None
    if image is None:
        raise HostError("the BPF program was not built; build it with `make setup` (needs clang)")
    return image


def _explained(error: libbpf.BpfError) -> HostError:
    """The kernel's refusal as one sentence with the way out."""
    if not BTF.exists():
        return HostError(
            f"this kernel has no BTF ({BTF} is missing), which eBPF needs:"
            " boot a kernel built with CONFIG_DEBUG_INFO_BTF=y (every distribution's since 2021)"
        )
    if error.errno in (errno.EPERM, errno.EACCES):
        return HostError(
            "no permission to load BPF programs: run as root (sudo ctrwatch …),"
            " or with CAP_BPF, CAP_PERFMON and CAP_DAC_READ_SEARCH"
        )
    last = error.log.strip().splitlines()[-1:] or [""]
    return HostError(
        f"this kernel can't run the eBPF sensor: {error.strerror} ({last[0].strip()});"
        " it needs Linux 5.11 or later: `ctrwatch doctor` tells what is missing"
    )
