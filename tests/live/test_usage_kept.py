"""Real containers' use in the history: who was the heaviest, and with which share of the host."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.live.runtimes import Docker
from tests.live.watching import Watching, ctrwatch

BUSY = ("sh", "-c", "while :; do :; done")
OLD_S = 8  # an age at which the busy one has used enough to be measured by
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
# ctrwatch looks at the host at the birth and at the end, but not twice in a second: in the worst
# case half a second's use of all CPUs is reckoned to the wrong side of each. Besides that only
# the kernel's ticks differ.
TOLERANCE = 0.5 * 2 * (os.cpu_count() or 1) / OLD_S / 2 + 0.03


def host_cpu_s() -> float:
    """What the host has used since its boot: user, nice, system, irq, softirq."""
    fields = [int(word) for word in Path("/proc/stat").read_text().split("\n")[0].split()[1:]]
    return sum(fields[at] for at in (0, 1, 2, 5, 6)) * TICK_S


def test_the_heaviest_newborn_and_its_share_of_the_host(docker: Docker, tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    ages = ("--usage-at", "2", "--usage-at", str(OLD_S))
    with Watching("--usage", *ages, "--no-existing", "--store", str(path)) as watching:
        idle = docker.run("sleep", "600", options=("--name", "idles"))
        watching.event("container_usage", idle)
        busy = docker.run(*BUSY, options=("--name", "eats"))
        watching.event("container_create", busy)
        before_s = host_cpu_s()
        watching.event("container_usage", busy, nth=2)
        docker.remove(busy)
        bill = watching.event("container_remove", busy)["usage"]
        used_s = host_cpu_s() - before_s
        looks = [line.event for line in watching.lines if line.event["event"] == "host_usage"]
        docker.remove(idle)
        watching.event("container_remove", idle)
        assert watching.stop() == 0

    asked = ("history", "--store", str(path), "--heaviest")
    heaviest = [json.loads(line) for line in ctrwatch(*asked, "--json").splitlines()]
    assert [each["container_name"] for each in heaviest] == ["eats", "idles"]
    eats = heaviest[0]
    assert (eats["container_id"], eats["cpu_seconds"]) == (busy, bill["cpu_seconds"])
    assert eats["cpu_share_of_used"] == pytest.approx(bill["cpu_seconds"] / used_s, rel=TOLERANCE)
    assert eats["cpu_share_of_host"] == pytest.approx(
        bill["cpu_seconds"] / (bill["duration_seconds"] * (os.cpu_count() or 1)), rel=1e-3
    )
    assert eats["memory_peak_bytes"] is None or 0 < eats["memory_share_of_host"] < 0.1
    assert ctrwatch(*asked).splitlines()[1].split()[0] == f"{bill['cpu_seconds']:.1f}"

    made = json.loads(ctrwatch("report", "--store", str(path), "--json"))["spent"]
    assert [each["container_name"] for each in made["heaviest"]["cpu"]] == ["eats", "idles"]
    assert made["heaviest"]["cpu"][0] == eats
    assert sum(made["host"]["births"]) == 2
    assert max(each or 0 for each in made["host"]["cpu_cores_most"]) > 0.1
    assert len(looks) >= 3  # two births, and an end
    assert looks[0]["usage"]["cpus"] == os.cpu_count()
