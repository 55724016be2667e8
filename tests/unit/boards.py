"""A board with a clock of its own: containers are born, looked at, and end."""

from __future__ import annotations

from typing import Any

import msgspec

from ctrwatch.core.board import Board, Row
from ctrwatch.core.ledger import Reading
from ctrwatch.core.story import Tell
from ctrwatch.event import Bill, Cgroup, ContainerEvent, Pressure, Rates, Usage
from ctrwatch.model import Runtime

S = 1_000_000_000
MB = 1 << 20
OFFSET_NS = 1_795_000_000 * S  # from the boot clock to the wall clock


class Stage:
    """Times are seconds of the boot clock; `now_s` is moved by whoever wants it to be later."""

    def __init__(self, now_s: float = 1000.0, **of_board: Any) -> None:
        self.now_s = now_s
        self.board = Board(lambda: OFFSET_NS, **of_board)
        self.events: dict[str, ContainerEvent] = {}
        self._serials: dict[str, int] = {}

    @property
    def now_ns(self) -> int:
        return int(self.now_s * S)

    def row(self, name: str) -> Row:
        row = self.board.get(self.events[name].id)
        assert row is not None
        return row

    def born(self, name: str, *, age_s: float = 0, seen: bool = True, **fields: Any) -> None:
        """*age_s* ago; *seen*: by this watch."""
        serial = self._serials[name] = len(self._serials) + 1
        event = ContainerEvent(
            event="container_create" if seen else "existing_container",
            id=f"{serial:032x}",
            time="",
            host="testhost",
            cgroup=Cgroup(),
            **{
                "ctime": int((self.now_s - age_s) * S) + OFFSET_NS,
                "runtime": Runtime.DOCKER,
                "container_id": f"{serial:04x}" * 16,
                "container_name": name,
                "container_image": "docker.io/library/busybox:test",
                **fields,
            },
        )
        self.events[name] = event
        self.board.heard(Tell(event, None), self.now_ns)

    def updated(self, name: str, **fields: Any) -> None:
        was = self.events[name]
        event = msgspec.structs.replace(was, event="container_update", **fields)
        self.events[name] = event
        event = msgspec.structs.replace(event, id=f"{was.id}-update-1")
        self.board.heard(Tell(event, None), self.now_ns)

    def looked(
        self,
        name: str,
        *,
        cores: float | None = None,
        read: float | None = None,
        write: float | None = None,
        over_s: float = 1.0,
        age_s: float | None = None,
        pressure: Pressure | None = None,
        **usage: Any,
    ) -> None:
        event = self.events[name]
        if age_s is None and event.ctime is not None:
            age_s = self.now_s - (event.ctime - OFFSET_NS) / S
        rates = Rates(
            seconds=over_s,
            cpu_cores=cores,
            io_read_bytes_per_second=read,
            io_write_bytes_per_second=write,
        )
        reading = Reading(
            serial=self._serials[name],
            container=event,
            boot_ns=self.now_ns,
            age_seconds=age_s,
            usage=Usage(pressure=pressure, **usage),
            rates=rates,
            final=False,
        )
        self.board.heard(reading, self.now_ns)

    def ended(self, name: str, bill: Bill | None = None) -> None:
        was = self.events[name]
        event = msgspec.structs.replace(
            was, event="container_remove", id=f"{was.id}-remove", usage=bill
        )
        self.board.heard(Tell(event, None), self.now_ns)


def crowded(number: int) -> Stage:
    """So many, all of them looked at, each with a first minute."""
    stage = Stage()
    for index in range(number):
        name = f"web-{index}"
        stage.born(
            name, age_s=index % 997, container_image=f"docker.io/library/nginx:1.{index % 31}"
        )
        stage.looked(name, cores=index % 101 / 50, memory_bytes=index * 4096, pids=index % 13)
    return stage


def bustle() -> Stage:
    """A little of everything."""
    stage = Stage()
    stage.born("old", age_s=400_000, seen=False, runtime=Runtime.PODMAN)
    stage.looked("old", cores=0.013, memory_bytes=90 * MB, pids=7)
    stage.born(
        "payments",
        age_s=45,
        runtime=Runtime.CONTAINERD,
        container_image="registry.example.org/team/payments-service:2026.11.3",
        pod_name="payments-7d9f",
        pod_namespace="shop",
    )
    start_s = stage.now_s
    for second in range(44, -1, -1):
        stage.now_s = start_s - second
        stage.looked(
            "payments",
            cores=1.5 if second > 30 else 0.2,
            read=1.5 * MB,
            write=300.0 * MB,
            memory_bytes=60 * MB,
            memory_limit_bytes=64 * MB,
            pids=12,
            pressure=Pressure(cpu_waited_percent=3.2, memory_waited_percent=37.4),
        )
    stage.born("hungry-newborn", age_s=2, container_image="docker.io/library/nginx:1.27")
    stage.looked("hungry-newborn", cores=1.98, memory_bytes=3 * MB, pids=1, over_s=2.0)
    stage.born("done", age_s=3)
    stage.looked("done", cores=0.5, memory_bytes=MB)
    stage.ended("done", Bill(exit_code=3, cpu_seconds=1.5, memory_peak_bytes=12 * MB))
    stage.born("unseen", age_s=1)
    return stage
