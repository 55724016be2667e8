"""`--metrics` with `--usage`: what a scrape says of a busy container, against the kernel's own count."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.docs.test_metrics_md import scraped
from tests.live.runtimes import IMAGE, Docker
from tests.live.test_metrics import get, where
from tests.live.test_usage import BUSY, COUNTS_V1, file
from tests.live.waiting import until
from tests.live.watching import Event, Watching

CORES = 0.5
# A scrape shows the last look. A newborn is looked at each second; on a host that has more to do than
# it can, a look may be late by as much again. At half a core it uses no more than that meanwhile.
BEHIND_S = CORES * 2
VANISHES_S = 30  # 15 s after its end


def figures(watching: Watching, name: str, **labels: str) -> list[float]:
    """The values of the series that have these labels."""
    return [
        each.value
        for family in text_string_to_metric_families(get(where(watching), "/metrics")[1])
        for each in family.samples
        if each.name == name and labels.items() <= each.labels.items()
    ]


def cpu_seconds(container: Event) -> float:
    """What the kernel has counted."""
    said = file(container, "cpuacct.usage", "cpu.stat").split()
    return int(said[0]) / 1e9 if COUNTS_V1 else int(said[1]) / 1e6


def test_what_a_scrape_says_of_a_busy_container(docker: Docker) -> None:
    options = ("--usage", "--no-existing", "--metrics", "127.0.0.1:0", "--metrics-containers", "7")
    with Watching(*options) as watching:
        limits = ("--cpus", str(CORES), "--memory", "64m")
        container = docker.run(*BUSY, options=limits)
        own = {"container_id": container, "image": IMAGE, "runtime": "docker"}
        of_one, of_image = "ctrwatch_container_cpu_seconds_total", "ctrwatch_usage_cpu_seconds_total"  # fmt: skip
        until("it has used a second", lambda: max(figures(watching, of_one, **own), default=0) > 1)
        born = watching.event("container_create", container)
        before_s = cpu_seconds(born)
        [shown_s] = figures(watching, of_one, **own)
        after_s = cpu_seconds(born)
        [memory], [limit] = (
            figures(watching, f"ctrwatch_container_memory_{what}_bytes", **own)
            for what in ("working_set", "limit")
        )
        docker.remove(container)
        bill = watching.event("container_remove", container)["usage"]
        of_its_life = {"image": IMAGE, "runtime": "docker"}
        until("the bill", lambda: figures(watching, of_image, **of_its_life) == [pytest.approx(bill["cpu_seconds"])])  # fmt: skip
        births = figures(watching, "ctrwatch_image_births_total", **of_its_life)
        living = figures(watching, "ctrwatch_usage_memory_working_set_bytes", **of_its_life)
        until("its series vanish", lambda: not figures(watching, of_one, **own), deadline_s=VANISHES_S)  # fmt: skip

    assert before_s - BEHIND_S <= shown_s <= after_s
    assert 0 < memory <= limit == 64 << 20
    assert (births, living) == ([1.0], [0.0])


def test_without_usage_only_births_are_by_image(docker: Docker) -> None:
    with Watching("--no-existing", "--metrics", "127.0.0.1:0") as watching:
        container = docker.run("true")
        watching.event("container_remove", container)
        docker.remove(container)
        births = "ctrwatch_image_births_total"
        until("counted", lambda: figures(watching, births, image=IMAGE) == [1.0])
        names = scraped(get(where(watching), "/metrics")[1])

    assert births in names
    assert not any(name.startswith(("ctrwatch_usage", "ctrwatch_container")) for name in names)
