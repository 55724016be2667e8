"""
What containers used while one watches, added up by runtime and image, and of single ones. Pure.

`Totals` hears of births, looks and ends in order. Its sums are of differences between looks, so
that they only grow: a life counts from its birth, and its bill last; of one that was there before
only what is used from the first look on. `Latest` has the figures of the containers that were born
last. What is a label there was chosen by strangers: it is cleaned, cut and bounded here.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Final, NamedTuple

from ctrwatch.core.ids import birth_of
from ctrwatch.core.ledger import Reading
from ctrwatch.core.text import clean
from ctrwatch.event import Bill, ContainerEvent, Usage
from ctrwatch.model import Runtime

__all__ = ("FIGURES", "GAUGES", "IMAGES", "OTHER", "SUMS", "Labels", "Latest", "Named", "Totals")

# Each is a series in each of six metrics for as long as ctrwatch runs. A Kubernetes node has 50
# images, and removes the unused ones; a host that builds without end would fill any number.
IMAGES: Final = 100
OTHER: Final = "other"  # the image of those that came after
# In UTF-8 at most 1,024 bytes: what the strictest of the hosted Prometheus take. The longest
# image's name has 255 characters, and its tag 128.
_LABEL: Final = 256
# One that ended is shown for so long: once more, with its bill, to who asks every 15 s, as
# Prometheus' own example does.
_AFTER_NS: Final = 15_000_000_000

SUMS: Final = ("cpu_seconds", "oom_kills", "io_read_bytes", "io_write_bytes")
GAUGES: Final = ("memory_working_set_bytes", "memory_limit_bytes")
FIGURES: Final = (*SUMS, "throttled_seconds", *GAUGES)  # of a single container

Named = tuple[Runtime, str]  # the second is an image, or OTHER


class Labels(NamedTuple):
    """Of a single container."""

    runtime: str
    container_id: str
    name: str
    image: str
    pod: str
    namespace: str


def _labels(event: ContainerEvent) -> Labels:
    texts = (event.container_id, event.container_name, event.container_image)
    return Labels(
        event.runtime, *(clean(each, _LABEL) for each in (*texts, event.pod_name, event.pod_namespace))
    )  # fmt: skip


class _Account:
    """Of one that lives: up to where it is counted, and what it holds of the memory."""

    __slots__ = ("counted", "memory_bytes", "named")

    def __init__(self, *, from_zero: bool) -> None:
        self.counted: list[float | None] = [0 if from_zero else None] * len(SUMS)
        self.memory_bytes = 0
        self.named: Named | None = None  # whose memory that is


class Totals:
    """
    By runtime and image: `births`, `sums` (each of `SUMS`), and `memory_bytes` of the living.

    A figure that no look has given has no sum: what is not counted is not 0. Without *usage* there
    are births alone.
    """

    def __init__(self, *, usage: bool) -> None:
        self._usage = usage
        self.births: Counter[Named] = Counter()
        self.sums: Mapping[str, MutableMapping[Named, float]] = {name: {} for name in SUMS}
        self.memory_bytes: Counter[Named] = Counter()
        self._accounts: dict[str, _Account] = {}  # by birth

    def named(self, event: ContainerEvent) -> Named:
        """Where it belongs; the first `IMAGES` of a runtime and an image have their own place."""
        named = (event.runtime, clean(event.container_image, _LABEL))
        if named not in self.births:
            if len(self.births) - self._others >= IMAGES or named[1] == OTHER:
                named = (event.runtime, OTHER)
            self.births.setdefault(named, 0)  # what increases is seen from the start
        return named

    @property
    def _others(self) -> int:
        return sum((runtime, OTHER) in self.births for runtime in Runtime)

    def told(self, event: ContainerEvent) -> None:
        match event.event:
            case "container_create" | "existing_container":
                born = event.event == "container_create"
                self.births[self.named(event)] += born
                if self._usage:
                    self._accounts[birth_of(event.id)] = _Account(from_zero=born)
            case "container_remove":
                self._end(event)
            case _:
                pass

    def read(self, reading: Reading) -> None:
        account = self._accounts.get(birth_of(reading.container.id))
        if account is None:
            return  # it has ended
        named, used = self.named(reading.container), reading.usage
        self._count(account, named, used)
        if used.memory_working_set_bytes is not None:
            self._hold(account, named, used.memory_working_set_bytes)

    def _end(self, event: ContainerEvent) -> None:
        account = self._accounts.pop(birth_of(event.id), None)
        if account is None:
            return  # told by an earlier ctrwatch
        if event.usage is not None:
            self._count(account, self.named(event), event.usage)
        if account.named is not None:
            self._hold(account, account.named, 0)

    def _count(self, account: _Account, named: Named, used: Usage | Bill) -> None:
        for at, name in enumerate(SUMS):
            now, before = getattr(used, name), account.counted[at]
            if now is None:
                continue
            sums = self.sums[name]
            more = 0 if before is None else max(0, now - before)
            sums[named] = sums.get(named, 0) + more
            account.counted[at] = now if before is None else max(before, now)

    def _hold(self, account: _Account, named: Named, memory_bytes: int) -> None:
        if account.named is not None:
            self.memory_bytes[account.named] -= account.memory_bytes
        self.memory_bytes[named] += memory_bytes
        account.named, account.memory_bytes = named, memory_bytes


class _One(NamedTuple):
    born_ns: int
    labels: Labels
    figures: tuple[float | None, ...]  # as FIGURES


class Latest:
    """
    The figures of at most *most* containers: of those that were born last, which are what nobody
    knows yet. (The heaviest ones change from look to look: their series would have holes.)
    """

    def __init__(self, most: int) -> None:
        self.most: Final = most
        self._living: dict[str, _One] = {}  # by birth
        self._ended: dict[str, tuple[int, _One]] = {}  # when; the first to end first

    def read(self, reading: Reading) -> None:
        self._living[birth_of(reading.container.id)] = _one(reading.container, reading.usage)

    def ended(self, event: ContainerEvent, now_ns: int) -> None:
        """By its `container_remove`: its bill is its last word."""
        birth = birth_of(event.id)
        one = self._living.pop(birth, None)
        if event.usage is not None:
            one = _one(event, event.usage)
        if one is None or one.figures.count(None) == len(FIGURES):
            return
        self._ended[birth] = (now_ns, one)
        if len(self._ended) > self.most:
            del self._ended[next(iter(self._ended))]

    def at(self, now_ns: int) -> tuple[list[_One], int]:
        """
        Those that are shown now, each with labels of its own, and how many living ones are not.

        Those that ended a moment ago come last: they take nobody's place.
        """
        while self._ended and now_ns - next(iter(self._ended.values()))[0] > _AFTER_NS:
            del self._ended[next(iter(self._ended))]
        shown: dict[Labels, _One] = {}
        for one in heapq.nlargest(self.most, self._living.values(), key=_born):
            shown.setdefault(one.labels, one)  # two namespaces of containerd may have one id
        left_out = len(self._living) - len(shown)
        for one in self._just_ended():
            if len(shown) >= self.most:
                break
            shown.setdefault(one.labels, one)  # it was started again: that one counts
        return list(shown.values()), left_out

    def _just_ended(self) -> Iterator[_One]:
        return (one for _, one in reversed(self._ended.values()))


def _born(one: _One) -> int:
    return one.born_ns


def _one(event: ContainerEvent, used: Usage | Bill) -> _One:
    figures = tuple(getattr(used, name, None) for name in FIGURES)
    return _One(event.ctime or 0, _labels(event), figures)
