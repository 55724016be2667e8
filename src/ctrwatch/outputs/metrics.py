"""
Metrics for Prometheus, and whether all is well: read when somebody asks, kept nowhere.

`METRICS` is what there is; docs/metrics.md is made of it. A label has a value from a closed
set (`LABELS`), never what a stranger chose: no id, name, image, path or socket. So the number
of series is fixed, and each is there from the start, at 0: what has not happened yet can be
told from what is not counted. What strangers chose is in outputs/series.py, and bounded there.

Only `ctrwatch events --metrics` loads this module: prometheus-client costs 30 ms and 3 MB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import version
from typing import Final, Literal, NamedTuple, TypeVar, get_args

import msgspec
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from ctrwatch.core.enforcing import Action, Result
from ctrwatch.core.steps import INIT, STEPS
from ctrwatch.core.tally import CAUSES, OUTCOMES, STATES, Acted, Asked, Histogram, Told, Vitals
from ctrwatch.event import EventName, Status, WatchEventName
from ctrwatch.model import Missing, Runtime
from ctrwatch.outputs.endpoint import Reply
from ctrwatch.outputs.lines import LineOutput

__all__ = ("LABELS", "METRICS", "Exposition", "Metric", "ailing", "family")

_SOURCES: Final = tuple(dict.fromkeys([step.source for step in STEPS] + [INIT.source]))
_DAEMONS: Final = ("docker", "containerd", "cri")
LABELS: Final[Mapping[str, tuple[str, ...]]] = {
    "action": get_args(Action),
    "cause": CAUSES,
    "ended": ("succeeded", "failed", "killed", "dropped"),
    "event": (*get_args(EventName), *get_args(WatchEventName)),
    "in_time": ("true", "false"),
    "outcome": OUTCOMES,
    "reason": tuple(Missing),
    "result": get_args(Result),
    "runtime": tuple(Runtime),
    "sensor": ("ebpf", "fanotify"),
    "sent": ("delivered", "failed", "dropped", "refused"),
    "source": _SOURCES,
    "state": STATES,
    "status": get_args(Status),
}


class Metric(NamedTuple):
    """
    One metric: its full name, what it is, and when it moves.

    *version*, the only label that is not in `LABELS`, has one value in the life of a process.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    means: str
    moves: str


METRICS: Final = (
    Metric(
        "ctrwatch_build_info", "gauge", ("sensor", "version"),
        "1; its labels say which ctrwatch this is, and how it hears of cgroups.",
        "never",
    ),
    Metric(
        "ctrwatch_healthy", "gauge", (),
        "1 while /healthz answers 200, else 0.",
        "to 1 when the containers that were there are listed; to 0 while nobody reads the output",
    ),
    Metric(
        "ctrwatch_events_total", "counter", ("event",),
        "Events that were told.",
        "with each event, also where its line is dropped later",
    ),
    Metric(
        "ctrwatch_births_total", "counter", ("runtime", "status"),
        "Containers that were seen being born (container_create).",
        "once for each birth, with what its event says; a later update moves it no more",
    ),
    Metric(
        "ctrwatch_existing_containers_total", "counter", ("runtime", "status"),
        "Containers that were there before ctrwatch (existing_container).",
        "at start-up",
    ),
    Metric(
        "ctrwatch_missing_fields_total", "counter", ("reason",),
        "Empty fields of births, by the reason that evidence.missing gives.",
        "with each birth",
    ),
    Metric(
        "ctrwatch_birth_complete_seconds", "histogram", (),
        "Time from the birth of a container, by the kernel's clock, until all of it was told.",
        "with each birth that is told complete, or becomes so by an update",
    ),
    Metric(
        "ctrwatch_starts_total", "counter", ("in_time",),
        "First instructions of containers that were seen being born; in_time: all had been told.",
        "with each container_start",
    ),
    Metric(
        "ctrwatch_living_containers", "gauge", (),
        "Containers that are there.",
        "with births and removals",
    ),
    Metric(
        "ctrwatch_untold_births", "gauge", (),
        "Containers that were seen and are not told yet.",
        "for milliseconds, or until --wait is over",
    ),
    Metric(
        "ctrwatch_losses_total", "counter", ("cause",),
        "What was lost: kernel, unreadable: raw events; forgotten: cgroups; output: lines; journal: inputs.",
        "never, if all is well",
    ),
    Metric(
        "ctrwatch_output_waiting_lines", "gauge", (),
        "Lines that wait for the reader of the output.",
        "when the reader is slower than the events",
    ),
    Metric(
        "ctrwatch_output_waiting_bytes", "gauge", (),
        "The same in bytes; at 64 MB lines are dropped.",
        "when the reader is slower than the events",
    ),
    Metric(
        "ctrwatch_enforcements_total", "counter", ("action", "result"),
        "Violations whose container was to be stopped (--enforce), by what came of it.",
        "with each enforcement event",
    ),
    Metric(
        "ctrwatch_webhook_total", "counter", ("sent",),
        "Violations by --webhook: delivered, dropped, refused; failed: tries that were not taken.",
        "with each try",
    ),
    Metric(
        "ctrwatch_webhook_waiting", "gauge", (),
        "Violations that wait to be sent; at 10,000 they are dropped.",
        "for milliseconds, or while the receiver does not take them",
    ),
    Metric(
        "ctrwatch_commands_total", "counter", ("ended",),
        "Programs that --on-violation ran, by how they ended.",
        "with each violation",
    ),
    Metric(
        "ctrwatch_questions_waiting", "gauge", ("source",),
        "Questions that are put to a source, or wait for their turn.",
        "for milliseconds around a birth; longer when the source hangs",
    ),
    Metric(
        "ctrwatch_answers_total", "counter", ("source", "outcome"),
        "Answers of sources.",
        "a few times a birth; unavailable: it hung, refused, or said what can't be read",
    ),
    Metric(
        "ctrwatch_answer_seconds", "histogram", ("source",),
        "Time that answers took, without the turn; that a daemon is known to be away takes none.",
        "with each answer",
    ),
    Metric(
        "ctrwatch_daemons", "gauge", ("source", "state"),
        "Daemons by how their last answer was; answering: also one that was never asked.",
        "when a socket appears or goes, and when a question fails or is answered again",
    ),
)  # fmt: skip
_NAMED: Final = {metric.name: metric for metric in METRICS}

_Key = TypeVar("_Key", bound=str | tuple[str, ...])
_Values = Iterable[tuple[tuple[str, ...], float]]


class Exposition:
    """The replies to `/metrics` and `/healthz`; *vitals* gives how the watch is now."""

    def __init__(
        self,
        vitals: Callable[[], Vitals],
        told: Told,
        output: LineOutput,
        sensor: str,
        acted: Callable[[], Acted] = Acted,
        *,
        more: Iterable[Collector] = (),
    ) -> None:
        """*more*: what besides `METRICS` is shown."""
        self._vitals, self._output = vitals, output
        self._registry = CollectorRegistry()
        self._registry.register(_Ours(vitals, told, output, sensor))
        for each in (_Actions(acted), *more):
            self._registry.register(each)
        ProcessCollector(registry=self._registry)

    def metrics(self) -> Reply:
        # The older of the two formats, which every Prometheus reads; for us they are the same.
        return Reply(200, generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4)

    def health(self) -> Reply:
        why = ailing(self._vitals(), self._output)
        body: dict[str, bool | str] = {"healthy": False, "why": why} if why else {"healthy": True}
        return Reply(503 if why else 200, msgspec.json.encode(body) + b"\n", "application/json")


def ailing(vitals: Vitals, output: LineOutput) -> str:
    """What is wrong, in a sentence; "": all is well."""
    if not vitals.attached:
        return "the kernel is not listened to"
    if not vitals.listed:
        return "the containers that were there are not listed yet"
    trouble = output.failure or output.trouble
    if trouble is not None:
        return f"the output can't be written: {trouble.strerror}"
    if output.full:
        return f"nobody reads the output: {output.dropped} lines were dropped"
    return ""


class _Ours(Collector):
    def __init__(
        self, vitals: Callable[[], Vitals], told: Told, output: LineOutput, sensor: str
    ) -> None:
        self._vitals, self._told, self._output, self._sensor = vitals, told, output, sensor
        self._version = version("ctrwatch")

    def describe(self) -> Iterable[Family]:
        return []  # or it would be collected when it is registered

    def collect(self) -> Iterator[Family]:
        vitals = self._vitals()
        yield _family("ctrwatch_build_info", [((self._sensor, self._version), 1)])
        yield _family("ctrwatch_healthy", [((), not ailing(vitals, self._output))])
        yield from self._of_events()
        yield _family("ctrwatch_living_containers", [((), vitals.living)])
        yield _family("ctrwatch_untold_births", [((), vitals.untold)])
        yield from self._of_losses(vitals)
        yield from _of_sources(vitals)

    def _of_events(self) -> Iterator[Family]:
        told = self._told
        yield _counted("ctrwatch_events_total", told.events)
        yield _counted("ctrwatch_births_total", told.births)
        yield _counted("ctrwatch_existing_containers_total", told.existing)
        yield _counted("ctrwatch_missing_fields_total", told.missing)
        yield _histogram("ctrwatch_birth_complete_seconds", [((), told.complete_s)])
        starts = {"true": told.starts[True], "false": told.starts[False]}
        yield _counted("ctrwatch_starts_total", starts)

    def _of_losses(self, vitals: Vitals) -> Iterator[Family]:
        lines, size = self._output.waiting
        losses = {**vitals.losses, "output": self._output.dropped}
        yield _counted("ctrwatch_losses_total", losses)
        yield _family("ctrwatch_output_waiting_lines", [((), lines)])
        yield _family("ctrwatch_output_waiting_bytes", [((), size)])


class _Actions(Collector):
    def __init__(self, acted: Callable[[], Acted]) -> None:
        self._acted = acted

    def describe(self) -> Iterable[Family]:
        return []

    def collect(self) -> Iterator[Family]:
        acted = self._acted()
        yield _counted("ctrwatch_enforcements_total", acted.enforced)
        yield _counted("ctrwatch_webhook_total", acted.sent)
        yield _family("ctrwatch_webhook_waiting", [((), acted.unsent)])
        yield _counted("ctrwatch_commands_total", acted.ran)


def _of_sources(vitals: Vitals) -> Iterator[Family]:
    asked = {source: vitals.asked.get(source) or Asked() for source in _SOURCES}
    waiting = {source: each.waiting for source, each in asked.items()}
    yield _counted("ctrwatch_questions_waiting", waiting)
    answers = {(source, said): n for source in asked for said, n in asked[source].answers.items()}
    yield _counted("ctrwatch_answers_total", answers)
    took = [((source,), each.answer_s) for source, each in asked.items()]
    yield _histogram("ctrwatch_answer_seconds", took)
    daemons = [
        ((source, state), vitals.daemons.get(source, {}).get(state, 0))
        for source in _DAEMONS
        for state in STATES
    ]
    yield _family("ctrwatch_daemons", daemons)


def _counted(name: str, counts: Mapping[_Key, int]) -> Family:
    """A family with a sample for each value that its labels can have."""
    keyed: dict[tuple[str, ...], int] = {
        (key,) if isinstance(key, str) else key: n for key, n in counts.items()
    }
    first, *more = _NAMED[name].labels
    keys: list[tuple[str, ...]] = [(value,) for value in LABELS[first]]
    for label in more:
        keys = [(*key, value) for key in keys for value in LABELS[label]]
    return _family(name, [(key, keyed.get(key, 0)) for key in keys])


def _family(name: str, values: _Values) -> Family:
    return family(_NAMED[name], values)


def family(metric: Metric, values: _Values) -> Family:
    """*values*: of its labels, in their order, and the sample's."""
    made = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    samples = made(metric.name, metric.means, labels=metric.labels)
    for labels, value in values:
        samples.add_metric(labels, value)
    return samples


def _histogram(name: str, values: Iterable[tuple[tuple[str, ...], Histogram]]) -> Family:
    metric = _NAMED[name]
    samples = HistogramMetricFamily(name, metric.means, labels=metric.labels)
    for labels, histogram in values:
        bounds = [*map(str, map(float, histogram.bounds_s)), "+Inf"]
        buckets = list(zip(bounds, map(float, histogram.at_most()), strict=True))
        samples.add_metric(labels, buckets, histogram.sum_s)
    return samples
