"""The policies that ship, on real containers: each rule is broken by one, and not by another."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.live.bed import Bed
from tests.live.offenders import (
    APPROVED,
    ATTACK,
    BASELINE,
    CIS,
    LSM,
    MODEST,
    OFFENDERS,
    RESTRICTED,
    SLEEP,
    in_registry,
)
from tests.live.watching import Event, Watching


class Judged(NamedTuple):
    watching: Watching
    containers: dict[str, str]  # id by name


def changed(name: str, directory: Path, called: str = "", **parameters: object) -> str:
    """A copy of a policy that ships, with other parameters, as a user makes one. Its path."""
    text = (resources.files("ctrwatch.policies") / f"{name}.yaml").read_bytes()
    document: dict[str, Any] = yaml.safe_load(text)
    document["metadata"]["name"] = called or name
    document["parameters"] |= parameters
    path = directory / f"{called or name}.yaml"
    path.write_text(yaml.safe_dump(document))
    return str(path)


@pytest.fixture(scope="module")
def judged(bed: Bed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judged]:
    """All containers, started one after the other, with every policy."""
    served = bed.registry.served("busybox:test")
    policies = tmp_path_factory.mktemp("policies")
    approved = changed(
        APPROVED, policies,
        images=[in_registry(bed, "*")], digests=[served.digest], by_digest=True,
    )  # fmt: skip
    lsm = changed(CIS, policies, LSM, apparmor=True, selinux=True)
    options = [
        word
        for policy in (BASELINE, RESTRICTED, CIS, ATTACK, approved, lsm)
        for word in ("--policy", policy)
    ]
    bed.docker  # noqa: B018 - its daemon is there before the watch begins
    with Watching(*options) as watching:
        containers = {name: offender.start(bed) for name, offender in OFFENDERS.items()}
        image = f"{in_registry(bed, 'busybox')}@{served.digest}"
        containers["modest"] = bed.docker.run(*SLEEP, image=image, options=MODEST)
        yield Judged(watching, containers)


def of(judged: Judged, name: str) -> list[Event]:
    """The violations of a container; a build's is known by its runtime alone."""
    container = judged.containers[name]
    return [
        line.event
        for line in judged.watching.lines
        if line.event["event"] == "violation"
        and (line.event["container_id"] == container or (not container and name == "build"
             and line.event["runtime"] == "buildah"))
    ]  # fmt: skip


@pytest.mark.parametrize("name", OFFENDERS)
def test_a_container_breaks_these_rules(name: str, judged: Judged) -> None:
    expected = {
        (pack, rule) for pack, rules in OFFENDERS[name].breaks.items() for rule in rules.split()
    }

    def broken() -> set[tuple[str, str]]:
        said = (event for event in of(judged, name) if event["verdict"] == "violation")
        return {(event["policy"], event["rule"]) for event in said}

    judged.watching.until(lambda: broken() >= expected, f"{name} breaks {expected}")


def test_a_modest_container_breaks_none(judged: Judged) -> None:
    container = judged.containers["modest"]
    judged.watching.event("container_start", container)  # its verdicts stand before it
    broken = {(event["policy"], event["rule"], event["verdict"]) for event in of(judged, "modest")}

    assert judged.watching.event("container_create", container)["evidence"]["status"] == "complete"
    assert {each for each in broken if each[0] != LSM} == set()  # this host may have no such thing


def test_no_rule_fails(judged: Judged) -> None:
    errors = [
        line.event
        for line in judged.watching.lines
        if line.event["event"] == "violation" and line.event["verdict"] == "error"
    ]

    assert errors == []


def test_a_violation_stands_right_after_its_birth(judged: Judged) -> None:
    lines = [line.event for line in judged.watching.lines]
    container = judged.containers["privileged"]
    born = next(
        number
        for number, event in enumerate(lines)
        if event["event"] == "container_create" and event["container_id"] == container
    )

    assert lines[born + 1]["event"] == "violation"
    assert lines[born + 1]["event_id"] == lines[born]["id"]
