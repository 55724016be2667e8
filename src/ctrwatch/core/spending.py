"""
What the containers that were born in a period used, and what the host did meanwhile. Pure.

Rows come in the order of their time. The host's looks become some hundred steps of the period:
CPU is a counter, so a look says what was used since the one before, and is spread over that
time; memory is of its moment, and is taken for the time since the look before, where that is
not long. A step that no look tells of has no figure: it is a gap, not a zero.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta

from ctrwatch.core.costs import Cost, began_ns
from ctrwatch.event import Bill, ContainerEvent, ContainerUsage, HostUsage, Usage

__all__ = ("HostOverTime", "ImageCost", "Spending", "Spent")

N = TypeVar("N", int, float)
_SECOND: Final = 1_000_000_000
_STEPS: Final = 240  # of the period: as many as can be drawn side by side on a telephone
_HOLD_NS: Final = 660 * _SECOND  # as long as a watch may be silent: core/coverage.py
_LIVING: Final = 20_000  # at one time; of more, the oldest are counted as they are known
_IMAGES: Final = 20_000  # as core/ran.py has it
_MOST: Final = (1 << 63) - 1  # that others can read as JSON


class ImageCost(msgspec.Struct, frozen=True, kw_only=True):
    """
    What all containers of one image used that were born in the period, as far as it is known.

    A figure that is known of none of them is null.
    """

    container_image: str
    container_image_digest: str
    containers: Annotated[int, Meta(description="of which something is known")]
    unread: Annotated[int, Meta(description="of which nothing is")]
    cpu_seconds: float | None
    memory_peak_bytes: Annotated[int | None, Meta(description="the most of any one")]
    io_read_bytes: int | None
    io_write_bytes: int | None
    oom_kills: int | None


class HostOverTime(msgspec.Struct, frozen=True, kw_only=True):
    """All of the host in equal steps of the period; null where no look tells of it."""

    step_s: float
    cpus: int | None
    memory_total_bytes: int | None
    cpu_cores: Annotated[list[float | None], Meta(description="CPU seconds a second, mean")]
    cpu_cores_most: Annotated[
        list[float | None], Meta(description="the most between two looks that touch the step")
    ]
    memory_bytes: Annotated[list[int | None], Meta(description="the most")]
    births: list[int]
    cpu_seconds: Annotated[float, Meta(description="of all the time that looks tell of")]
    looked_at_s: Annotated[float, Meta(description="that time")]


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """*heaviest*: of those that were born in the period, by cpu, memory and io."""

    heaviest: dict[str, tuple[Cost, ...]]
    cpu_seconds: Annotated[float, Meta(description="of all that were born in the period")]
    containers: Annotated[int, Meta(description="of which something is known")]
    unread: Annotated[int, Meta(description="of which nothing is")]
    images: tuple[ImageCost, ...]
    images_left_out: Annotated[int, Meta(description="containers of images not among them")]
    host: HostOverTime | None


class _Account:
    """Of one container that lives, or of one image."""

    __slots__ = (
        "born_ns",
        "containers",
        "cpu_s",
        "key",
        "kills",
        "peak",
        "read",
        "unread",
        "wrote",
    )

    def __init__(self, key: tuple[str, str], born_ns: int | None = None) -> None:
        self.key = key  # image, digest
        self.born_ns = born_ns  # wall clock; None: not known
        self.containers = self.unread = 0
        self.cpu_s: float | None = None
        self.peak: int | None = None
        self.read: int | None = None
        self.wrote: int | None = None
        self.kills: int | None = None

    def note(self, used: Usage | Bill) -> None:
        """Totals only grow, so what is not known now is as it was."""
        known = (used.cpu_seconds, used.memory_peak_bytes, used.io_read_bytes, used.io_write_bytes)
        if any(figure is not None for figure in known):
            self.containers = 1
        self.cpu_s = _of_both(max, self.cpu_s, used.cpu_seconds)
        self.peak = _of_both(max, self.peak, used.memory_peak_bytes)
        self.read = _of_both(max, self.read, used.io_read_bytes)
        self.wrote = _of_both(max, self.wrote, used.io_write_bytes)
        self.kills = _of_both(max, self.kills, used.oom_kills)

    def add(self, one: _Account) -> None:
        self.containers += one.containers
        self.unread += not one.containers
        self.cpu_s = _of_both(operator.add, self.cpu_s, one.cpu_s)
        self.peak = _of_both(max, self.peak, one.peak)
        self.read = _of_both(operator.add, self.read, one.read)
        self.wrote = _of_both(operator.add, self.wrote, one.wrote)
        self.kills = _of_both(operator.add, self.kills, one.kills)


def _of_both(join: Callable[[N, N], N], one: N | None, other: N | None) -> N | None:
    """Where one is not known, the other; a gap is no zero."""
    if one is None or other is None:
        return one if other is None else other
    return join(one, other)


class Spending:
    """Of a period in wall time, *until_ns* not included."""

    def __init__(self, since_ns: int, until_ns: int) -> None:
        self._since_ns, self._until_ns = since_ns, until_ns
        self._living: dict[str, _Account] = {}
        self._found: set[str] = set()  # of those: who was there before a watch
        self._images: dict[tuple[str, str], _Account] = {}
        self._all = _Account(("", ""))
        self._left_out = 0
        self._host = _Host(since_ns, until_ns)
        self._any = False

    def born(self, birth: str, time_ns: int, event: ContainerEvent) -> None:
        """
        Told again by another watch, it is the same one, if it lives.

        Who was there before that watch has the time at which it was found: its birth is what is
        known of it, and may be before the period.
        """
        if not self._since_ns <= time_ns < self._until_ns or birth in self._living:
            return
        there = event.event == "existing_container"
        if there:
            self._found.add(birth)
        self._living[birth] = _Account(_key(event), event.ctime if there else time_ns)
        if len(self._living) > _LIVING:
            self._settle(next(iter(self._living)))

    def known(self, birth: str, event: ContainerEvent) -> None:
        """Its image, as it was learnt later."""
        if birth in self._living:
            self._living[birth].key = _key(event)

    def used(self, birth: str, event: ContainerUsage) -> None:
        self._any = True
        if birth in self._living:
            self._note(birth, event, event.usage)

    def ended(self, birth: str, event: ContainerEvent) -> None:
        if event.usage is not None:
            self._any = True
        if birth not in self._living:
            return
        if event.usage is not None:
            self._note(birth, event, event.usage)
        self._living[birth].key = _key(event)
        self._settle(birth)

    def host(self, time_ns: int, event: HostUsage) -> None:
        self._any = True
        self._host.add(time_ns, event)

    def value(self, heaviest: Mapping[str, Sequence[Cost]]) -> Spent | None:
        """None: no row has anything of it."""
        for birth in [*self._living]:
            self._settle(birth)
        if not self._any:
            return None
        return Spent(
            heaviest={by: tuple(costs) for by, costs in heaviest.items()},
            cpu_seconds=round(self._all.cpu_s or 0.0, 6),
            containers=self._all.containers,
            unread=self._all.unread,
            images=tuple(
                _image_cost(each)
                for each in sorted(
                    self._images.values(), key=lambda one: (-(one.cpu_s or 0.0), one.key)
                )
            ),
            images_left_out=self._left_out,
            host=self._host.value(),
        )

    def _note(self, birth: str, event: ContainerEvent | ContainerUsage, used: Usage | Bill) -> None:
        one = self._living[birth]
        one.note(used)
        if birth in self._found:
            one.born_ns = began_ns(event) or one.born_ns

    def _settle(self, birth: str) -> None:
        one = self._living.pop(birth)
        self._found.discard(birth)
        if one.born_ns is None or not self._since_ns <= one.born_ns < self._until_ns:
            return
        self._host.born(one.born_ns)
        self._all.add(one)
        if one.key not in self._images:
            if len(self._images) >= _IMAGES:
                self._left_out += 1
                return
            self._images[one.key] = _Account(one.key)
        self._images[one.key].add(one)


def _key(event: ContainerEvent) -> tuple[str, str]:
    return event.container_image, event.container_image_digest


def _image_cost(account: _Account) -> ImageCost:
    image, digest = account.key
    return ImageCost(
        container_image=image,
        container_image_digest=digest,
        containers=account.containers,
        unread=account.unread,
        cpu_seconds=None if account.cpu_s is None else round(account.cpu_s, 6),
        memory_peak_bytes=account.peak,
        io_read_bytes=_bounded(account.read),
        io_write_bytes=_bounded(account.wrote),
        oom_kills=_bounded(account.kills),
    )


def _bounded(number: int | None) -> int | None:
    return None if number is None else min(number, _MOST)


class _Host:
    """The steps, while looks come in."""

    def __init__(self, since_ns: int, until_ns: int) -> None:
        self._since_ns, self._until_ns = since_ns, max(until_ns, since_ns + 1)
        self._step_ns = max(1, -(-(self._until_ns - since_ns) // _STEPS))
        steps = -(-(self._until_ns - since_ns) // self._step_ns)
        self._busy_s, self._known_s = [0.0] * steps, [0.0] * steps
        self._most: list[float | None] = [None] * steps
        self._memory: list[int | None] = [None] * steps
        self._births = [0] * steps
        self._cpus: int | None = None
        self._total: int | None = None
        self._looks = 0

    def born(self, time_ns: int) -> None:
        self._births[self._step(time_ns)] += 1

    def add(self, time_ns: int, event: HostUsage) -> None:
        if not self._since_ns <= time_ns < self._until_ns:
            return
        self._looks += 1
        usage, rates = event.usage, event.rates
        self._cpus, self._total = usage.cpus or self._cpus, usage.memory_total_bytes or self._total
        before_ns = time_ns if rates is None else time_ns - round(rates.seconds * _SECOND)
        if usage.memory_bytes is not None:
            held_ns = before_ns if time_ns - before_ns <= _HOLD_NS else time_ns
            for step in range(self._step(held_ns), self._step(time_ns) + 1):
                self._memory[step] = max(self._memory[step] or 0, usage.memory_bytes)
        if rates is not None and rates.cpu_cores is not None:
            self._spread(before_ns, time_ns, rates.cpu_cores)

    def _spread(self, begin_ns: int, end_ns: int, cores: float) -> None:
        begin_ns = max(begin_ns, self._since_ns)
        for step in range(self._step(begin_ns), self._step(end_ns) + 1):
            step_ns = self._since_ns + step * self._step_ns
            seconds = (min(end_ns, step_ns + self._step_ns) - max(begin_ns, step_ns)) / _SECOND
            if seconds > 0:
                self._busy_s[step] += cores * seconds
                self._known_s[step] += seconds
                self._most[step] = max(self._most[step] or 0.0, cores)

    def value(self) -> HostOverTime | None:
        if not self._looks:
            return None
        return HostOverTime(
            step_s=self._step_ns / _SECOND,
            cpus=self._cpus,
            memory_total_bytes=self._total,
            cpu_cores=[
                round(busy_s / known_s, 4) if known_s else None
                for busy_s, known_s in zip(self._busy_s, self._known_s, strict=True)
            ],
            cpu_cores_most=[None if cores is None else round(cores, 4) for cores in self._most],
            memory_bytes=self._memory,
            births=self._births,
            cpu_seconds=round(sum(self._busy_s), 3),
            looked_at_s=round(sum(self._known_s), 3),
        )

    def _step(self, time_ns: int) -> int:
        step = (time_ns - self._since_ns) // self._step_ns
        return min(max(step, 0), len(self._births) - 1)
