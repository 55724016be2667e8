"""
Metrics by image, of use, and of single containers: those whose labels strangers chose.

Each is bounded in core/totals.py, in number and in length; a label's text is clean there, and the
client library escapes what its format wants escaped. What is asked for beyond births by image is
there with `--usage` and `--metrics-containers` only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from ctrwatch.core.totals import FIGURES, SUMS, Latest, Totals
from ctrwatch.outputs.metrics import Metric, family

__all__ = ("OF_CONTAINERS", "OF_IMAGES", "OF_USE", "ByImage", "InUse", "OfContainers")

_NAMED: Final = ("runtime", "image")
_WHOSE: Final = ("runtime", "container_id", "name", "image", "pod", "namespace")
_LOOKS: Final = "with each look at a container, and with its end"

OF_IMAGES: Final = (
    Metric(
        "ctrwatch_image_births_total", "counter", _NAMED,
        "Containers that were seen being born, by image.",
        "once for each birth, with what its event says; from 0 where a container was there before",
    ),
)  # fmt: skip
OF_USE: Final = (
    Metric(
        "ctrwatch_usage_cpu_seconds_total", "counter", _NAMED,
        "CPU time that containers used while ctrwatch watched.",
        _LOOKS,
    ),
    Metric(
        "ctrwatch_usage_oom_kills_total", "counter", _NAMED,
        "Processes of containers that were killed for want of memory.",
        "at once",
    ),
    Metric(
        "ctrwatch_usage_io_read_bytes_total", "counter", _NAMED,
        "What containers read from disks.",
        _LOOKS,
    ),
    Metric(
        "ctrwatch_usage_io_write_bytes_total", "counter", _NAMED,
        "What containers wrote to disks.",
        _LOOKS,
    ),
    Metric(
        "ctrwatch_usage_memory_working_set_bytes", "gauge", _NAMED,
        "Memory of living containers at their last look, without the file cache that would go first.",
        _LOOKS,
    ),
)  # fmt: skip
OF_CONTAINERS: Final = (
    Metric(
        "ctrwatch_container_cpu_seconds_total", "counter", _WHOSE,
        "CPU time of its whole life.",
        _LOOKS,
    ),
    Metric(
        "ctrwatch_container_oom_kills_total", "counter", _WHOSE,
        "Its processes that were killed for want of memory.",
        "at once",
    ),
    Metric(
        "ctrwatch_container_io_read_bytes_total", "counter", _WHOSE,
        "What it read from disks.",
        _LOOKS,
    ),
    Metric(
        "ctrwatch_container_io_write_bytes_total", "counter", _WHOSE,
        "What it wrote to disks.",
        _LOOKS,
    ),
    Metric(
        "ctrwatch_container_throttled_seconds_total", "counter", _WHOSE,
        "Time that it wanted to run, and its CPU limit did not let it.",
        _LOOKS,
    ),
    Metric(
        "ctrwatch_container_memory_working_set_bytes", "gauge", _WHOSE,
        "Its memory at its last look, without the file cache that would go first.",
        "with each look; not there after its end",
    ),
    Metric(
        "ctrwatch_container_memory_limit_bytes", "gauge", _WHOSE,
        "Its own memory limit; not there: it has none.",
        "with each look; not there after its end",
    ),
    Metric(
        "ctrwatch_containers_left_out", "gauge", (),
        "Living containers that were looked at and have no series of their own.",
        "with births and removals, where more live than `--metrics-containers` says",
    ),
)  # fmt: skip


def _of(table: tuple[Metric, ...], figures: tuple[str, ...]) -> tuple[Metric, ...]:
    """A figure's metric has its name."""
    names = {metric.name.removesuffix("_total"): metric for metric in table}
    before = table[0].name.removesuffix("_cpu_seconds_total")
    return tuple(names[f"{before}_{figure}"] for figure in figures)


_SUMS: Final[Mapping[str, Metric]] = dict(zip(SUMS, _of(OF_USE, SUMS), strict=True))
_FIGURES: Final = _of(OF_CONTAINERS, FIGURES)


class _Shown(Collector):
    """It has nothing to show when it is registered."""

    def describe(self) -> Iterable[Family]:
        return []


class ByImage(_Shown):
    """Births, with or without `--usage`."""

    def __init__(self, totals: Totals) -> None:
        self._totals = totals

    def collect(self) -> Iterator[Family]:
        yield family(OF_IMAGES[0], self._totals.births.items())


class InUse(_Shown):
    """What all containers used."""

    def __init__(self, totals: Totals) -> None:
        self._totals = totals

    def collect(self) -> Iterator[Family]:
        for name, metric in _SUMS.items():
            yield family(metric, self._totals.sums[name].items())
        yield family(OF_USE[-1], self._totals.memory_bytes.items())


class OfContainers(_Shown):
    """What those used that were born last; *now_ns* is a clock that is never set."""

    def __init__(self, latest: Latest, now_ns: Callable[[], int]) -> None:
        self._latest, self._now_ns = latest, now_ns

    def collect(self) -> Iterator[Family]:
        shown, left_out = self._latest.at(self._now_ns())
        for at, metric in enumerate(_FIGURES):
            told = ((one.labels, one.figures[at]) for one in shown)
            yield family(metric, [(labels, now) for labels, now in told if now is not None])
        yield family(OF_CONTAINERS[-1], [((), left_out)])
