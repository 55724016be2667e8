"""The pack `resources` on real containers: each rule is broken by one, told once, and by a thrifty one none."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from ctrwatch.sensor.host import read_host
from tests.live.bed import Bed
from tests.live.hogs import BUSY, HOGS, RESOURCES, THRIFTY
from tests.live.offenders import SLEEP
from tests.live.watching import Event, Watching, ctrwatch, unified

HOLD = "3s"
LATER_S = 20  # longer than a hold and the calm that a second telling would take
# On a machine on which others are at work, too.
PARAMETERS = {"cpu_cores": 0.15, "pressure_percent": 1}
PRESSURE = (
    any(
        Path(f"{each.mount}/memory.pressure").exists() or not each.controllers
        for each in read_host().hierarchies.values()
    )
    and Path("/proc/pressure/memory").exists()
)


class Judged(NamedTuple):
    watching: Watching
    containers: dict[str, str]  # id by name
    record: Path
    policy: Path

    def violations(self, name: str) -> list[Event]:
        return [
            event
            for event in self.watching.of(self.containers[name])
            if event["event"] == "violation"
        ]

    def later(self, name: str) -> Event:
        """It has been looked at for as long."""
        return self.watching.event("container_usage", self.containers[name])


def impatient(path: Path) -> Path:
    """A copy of the pack with shorter holds and lower thresholds, as a user makes one."""
    text = (resources.files("ctrwatch.policies") / f"{RESOURCES}.yaml").read_bytes()
    document: dict[str, Any] = yaml.safe_load(text)
    document["parameters"] |= PARAMETERS
    for rule in document["rules"]:
        if "for" in rule:
            rule["for"] = HOLD
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.fixture(scope="module")
def judged(bed: Bed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judged]:
    home = tmp_path_factory.mktemp("resources")
    policy, record = impatient(home / "policy.yaml"), home / "record.jsonl"
    options = (
        *("--usage", "--usage-at", str(LATER_S), "--no-existing"),
        *("--policy", str(policy), "--record", str(record)),
    )
    bed.docker  # noqa: B018 - its daemon is there before the watch begins
    with Watching(*options) as watching:
        containers = {name: hog.start(bed) for name, hog in HOGS.items()}
        containers["thrifty"] = bed.docker.run(*SLEEP, options=THRIFTY)
        yield Judged(watching, containers, record, policy)
        bed.docker.remove(*containers.values())


@pytest.mark.parametrize("name", HOGS)
def test_a_container_breaks_these_rules_once(name: str, judged: Judged) -> None:
    expected = set(HOGS[name].breaks[RESOURCES].split())
    if not PRESSURE:
        expected.discard("memory-pressure")
    later = judged.later(name)
    told = Counter(event["rule"] for event in judged.violations(name))

    assert expected <= told.keys(), (told, later)
    assert set(told.values()) == {1}
    assert {event["verdict"] for event in judged.violations(name)} == {"violation"}


def test_a_violation_says_what_was_used(judged: Judged) -> None:
    judged.later("full")
    [full] = [each for each in judged.violations("full") if each["rule"] == "memory-near-limit"]

    assert " of 48.0 MB, 9" in full["message"]
    assert (
        full["event_id"]
        == judged.watching.event("container_create", judged.containers["full"])["id"]
    )


def test_a_thrifty_container_breaks_none(judged: Judged) -> None:
    judged.later("thrifty")

    assert judged.violations("thrifty") == []


def test_a_recording_gives_the_same_verdicts(judged: Judged) -> None:
    for name in judged.containers:
        judged.later(name)
    judged.watching.stop()
    again = ctrwatch(
        *("replay", "--format", "json", "--policy", str(judged.policy), str(judged.record))
    )

    assert [json.loads(line) for line in again.splitlines()] == [
        line.event for line in judged.watching.lines
    ]


KILLS = """apiVersion: ctrwatch/v1
kind: Policy
metadata: {name: stops}
rules:
  - {name: hog, deny: usage.cpu_cores > 0.15, for: 2s, action: ACTION}
"""


@pytest.mark.parametrize("action", ["kill", "freeze"])
def test_one_that_runs_may_be_stopped_if_its_birth_was_heard(
    bed: Bed, tmp_path: Path, action: str
) -> None:
    policy = tmp_path / "stops.yaml"
    policy.write_text(KILLS.replace("ACTION", action))
    before = bed.docker.run("sh", "-c", BUSY)
    with Watching("--usage", "--policy", str(policy), "--enforce") as watching:
        container = bed.docker.run("sh", "-c", BUSY)
        violation = watching.event("violation", container)
        told, refused = (watching.event("enforcement", each) for each in (container, before))
        if action == "kill":
            assert bed.docker.wait(container) == 137
        else:
            path = f"{unified()}{watching.event('container_create', container)['cgroup']['path']}"
            assert "frozen 1" in Path(f"{path}/cgroup.events").read_text()
            Path(f"{path}/cgroup.freeze").write_text("0")
    bed.docker.remove(container, before)

    assert (told["result"], told["before_start"]) == ("done", False), told
    assert told["violation_id"] == violation["id"]
    assert refused["result"] == "refused"
    assert refused["reason"].startswith("its birth was not heard")
