"""Metrics by image, of use and of single containers, as Prometheus reads them."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families

from ctrwatch.core.tally import Told
from ctrwatch.core.totals import IMAGES, Latest, Totals
from ctrwatch.event import ContainerEvent
from ctrwatch.outputs.lines import LineOutput
from ctrwatch.outputs.metrics import METRICS, Exposition
from ctrwatch.outputs.series import (
    OF_CONTAINERS,
    OF_IMAGES,
    OF_USE,
    ByImage,
    InUse,
    OfContainers,
)
from tests.unit.test_metrics import WELL
from tests.unit.test_totals import event, reading, removed

S = 1_000_000_000
BIRTHS = 1009
MOST = 23
FIGURES = {
    "cpu_seconds": 1.5, "oom_kills": 1, "io_read_bytes": 2, "io_write_bytes": 3,
    "throttled_seconds": 0.5, "memory_working_set_bytes": 4096, "memory_limit_bytes": 8192,
}  # fmt: skip
HOSTILE = 'x"} 1\nctrwatch_healthy 0\\n\udcff\x1b[2J\u202e{job="'


class Page:
    """What is scraped of containers that a test tells of."""

    def __init__(self, output: LineOutput, most: int = MOST) -> None:
        self.now_ns = 0
        self._totals, self._latest = Totals(usage=True), Latest(most)
        more = (
            ByImage(self._totals),
            InUse(self._totals),
            OfContainers(self._latest, lambda: self.now_ns),
        )
        self._exposition = Exposition(lambda: WELL, Told(), output, "ebpf", more=more)

    def tell(self, container: ContainerEvent, **used: float) -> None:
        self._totals.told(container)
        if container.event == "container_remove":
            self._latest.ended(container, self.now_ns)
        elif used:
            look = reading(container, **used)
            self._totals.read(look)
            self._latest.read(look)

    def samples(self, beginning: str) -> list[tuple[str, dict[str, str], float]]:
        text = self._exposition.metrics().body.decode()
        return [
            (each.name, each.labels, each.value)
            for family in text_string_to_metric_families(text)
            for each in family.samples
            if each.name.startswith(beginning)
        ]


@pytest.fixture
def page() -> Iterator[Page]:
    output = LineOutput(os.open(os.devnull, os.O_WRONLY), owned=True)
    yield Page(output)
    output.close()


def test_what_a_container_uses_is_said_of_it_and_of_its_image(page: Page) -> None:
    page.tell(event(1), **FIGURES)

    named = {"runtime": "docker", "image": "nginx"}
    assert page.samples("ctrwatch_usage_") == [
        ("ctrwatch_usage_cpu_seconds_total", named, 1.5),
        ("ctrwatch_usage_oom_kills_total", named, 1.0),
        ("ctrwatch_usage_io_read_bytes_total", named, 2.0),
        ("ctrwatch_usage_io_write_bytes_total", named, 3.0),
        ("ctrwatch_usage_memory_working_set_bytes", named, 4096.0),
    ]
    assert page.samples("ctrwatch_image_") == [("ctrwatch_image_births_total", named, 1.0)]
    own = {
        **named, "container_id": f"{1:064x}", "name": "web-1", "pod": "", "namespace": "",
    }  # fmt: skip
    assert page.samples("ctrwatch_container_") == [
        ("ctrwatch_container_cpu_seconds_total", own, 1.5),
        ("ctrwatch_container_oom_kills_total", own, 1.0),
        ("ctrwatch_container_io_read_bytes_total", own, 2.0),
        ("ctrwatch_container_io_write_bytes_total", own, 3.0),
        ("ctrwatch_container_throttled_seconds_total", own, 0.5),
        ("ctrwatch_container_memory_working_set_bytes", own, 4096.0),
        ("ctrwatch_container_memory_limit_bytes", own, 8192.0),
    ]


def test_after_its_end_its_bill_stays_for_a_moment_and_its_memory_does_not(page: Page) -> None:
    page.tell(event(1), **FIGURES)
    page.tell(removed(1, cpu_seconds=2.5, oom_kills=1))

    of_it = {name: value for name, _, value in page.samples("ctrwatch_container_")}
    assert of_it == {
        "ctrwatch_container_cpu_seconds_total": 2.5,
        "ctrwatch_container_oom_kills_total": 1.0,
    }
    page.now_ns = 16 * S
    assert page.samples("ctrwatch_container_") == []
    [(_, _, cpu_s), *_, (_, _, memory)] = page.samples("ctrwatch_usage_")
    assert (cpu_s, memory) == (2.5, 0.0)


def test_a_thousand_births_of_a_thousand_images_keep_the_bound(page: Page) -> None:
    for number in range(BIRTHS):
        page.tell(event(number, image=f"build:{number}"), **FIGURES)

    assert len(page.samples("ctrwatch_image_")) == IMAGES + 1
    assert len(page.samples("ctrwatch_usage_")) == len(OF_USE) * (IMAGES + 1)
    assert len(page.samples("ctrwatch_container_")) == (len(OF_CONTAINERS) - 1) * MOST
    [(_, _, left_out)] = page.samples("ctrwatch_containers_left_out")
    assert left_out == BIRTHS - MOST
    assert sum(n for _, _, n in page.samples("ctrwatch_image_")) == BIRTHS


def test_what_a_stranger_writes_is_a_label_and_no_more(page: Page) -> None:
    hostile = replace(
        event(1, image=HOSTILE),
        container_id=HOSTILE, container_name=HOSTILE, pod_name=HOSTILE, pod_namespace=HOSTILE,
    )  # fmt: skip
    page.tell(hostile, **FIGURES)

    cleaned = 'x"} 1\\x0actrwatch_healthy 0\\n\\xff\\x1b[2J\\u202e{job="'
    for _, labels, _ in page.samples("ctrwatch_container_"):
        assert labels == {
            "runtime": "docker", "image": cleaned, "container_id": cleaned, "name": cleaned,
            "pod": cleaned, "namespace": cleaned,
        }  # fmt: skip
    assert page.samples("ctrwatch_image_")[0][1]["image"] == cleaned
    assert page.samples("ctrwatch_healthy") == [("ctrwatch_healthy", {}, 1.0)]


def test_each_series_is_there_once(page: Page) -> None:
    for number in range(3):  # of three namespaces of containerd
        page.tell(event(number, container_id="web", container_name=""), **FIGURES)
    page.tell(removed(2, cpu_seconds=9.0))

    for beginning in ("ctrwatch_usage", "ctrwatch_container", "ctrwatch_image"):
        series = [(name, *sorted(labels.items())) for name, labels, _ in page.samples(beginning)]
        assert len(series) == len(set(series))


def test_no_two_tables_have_the_same_name() -> None:
    names = [metric.name for metric in (*METRICS, *OF_IMAGES, *OF_USE, *OF_CONTAINERS)]

    assert len(names) == len(set(names))
