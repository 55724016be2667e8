"""Policies in a real watch: the verdict follows its birth, before the first instruction."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.live.runtimes import Ctr
from tests.live.watching import CTRWATCH, DEADLINE_S, SENSORS, Watching, environment

Births = Callable[[str], str]
POLICY = """
apiVersion: ctrwatch/v1
kind: Policy
metadata: {name: house}
rules:
  - name: no-breaks
    require: container_name != 'breaks'
    severity: high
    message: '{container_name} is not wanted here'
"""


@pytest.fixture
def policy(tmp_path: Path) -> str:
    file = tmp_path / "house.yaml"
    file.write_text(POLICY)
    return str(file)


@pytest.fixture
def births(ctr: Ctr) -> Iterator[Births]:
    """Start a container of that name; they are removed in the end."""
    started: list[str] = []

    def start(name: str) -> str:
        started.append(name)
        return ctr.run(name, "sleep", "600")

    yield start
    for name in started:
        ctr.remove(name)


@pytest.mark.parametrize("sensor", SENSORS)
def test_a_verdict_follows_its_birth_before_the_start(
    births: Births, policy: str, sensor: str
) -> None:
    with Watching(
        *("--sensor", sensor, "--no-existing", "--policy", policy, "--fail-on", "high")
    ) as watching:
        for name in ("keeps", "breaks"):
            births(name)
            watching.event("container_start", name)
        code = watching.stop()

    told = [
        (line.event["event"], line.event["container_id"])
        for line in watching.lines
        if line.event.get("container_id") in ("keeps", "breaks")
        and line.event["event"] != "container_update"
    ]
    assert told == [
        ("container_create", "keeps"),
        ("container_start", "keeps"),
        ("container_create", "breaks"),
        ("violation", "breaks"),
        ("container_start", "breaks"),
    ]
    (violation,) = (
        line.event
        for line in watching.lines
        if line.event["event"] == "violation" and line.event["container_id"] == "breaks"
    )
    created = watching.event("container_create", "breaks")
    assert violation["event_id"] == created["id"]
    assert violation["message"] == "breaks is not wanted here"
    assert code == 4


def test_a_reload_takes_the_policies_whole_or_not_at_all(births: Births, policy: str) -> None:
    file = Path(policy)
    with Watching("--no-existing", "--policy", policy) as watching:
        file.write_text(POLICY.replace("severity: high", "severity: hgih"))
        watching.process.send_signal(signal.SIGHUP)
        watching.until(lambda: "did you mean high?" in "".join(watching.errors), "a refusal")
        births("breaks")
        first = watching.event("violation", "breaks")

        file.write_text(POLICY.replace("'breaks'", "'keeps'").replace("high", "low"))
        watching.process.send_signal(signal.SIGHUP)
        watching.until(lambda: "policies read again" in "".join(watching.errors), "a reload")
        births("keeps")
        second = watching.event("violation", "keeps")

    assert (first["severity"], second["severity"]) == ("high", "low")


def test_only_what_holds_is_shown(births: Births, policy: str) -> None:
    where = "container_name.startsWith('b')"
    with (
        Watching("--no-existing", "--where", where) as some,
        Watching("--no-existing", "--policy", policy, "--only-violations") as verdicts,
        Watching("--no-existing") as everything,
    ):
        for name in ("keeps", "breaks"):
            births(name)
            everything.event("container_start", name)
        some.event("container_start", "breaks")
        verdicts.event("violation", "breaks")

    assert {line.event["container_id"] for line in some.lines} == {"breaks"}
    assert {line.event["event"] for line in verdicts.lines} == {"violation"}


def test_ps_judges_what_is_there(births: Births, policy: str) -> None:
    births("breaks")
    births("keeps")
    options = ("ps", "--json", "--where", "container_id == 'breaks'", "--policy", policy)
    ran = subprocess.run(
        (*CTRWATCH, *options, "--fail-on", "medium"),
        capture_output=True,
        timeout=DEADLINE_S,
        env=environment(),
        check=False,
    )

    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [line["event"] for line in lines] == ["existing_container", "violation"]
    assert ran.returncode == 4


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--policy", "nobody"), "no policy of that name ships"),
        (("--policy", "/dev/zero"), "not a regular file"),
        (("--where", "contaner_name == ''"), "did you mean container_name?"),
        (("--only-violations",), "without --policy there are no violations"),
    ],
)
def test_a_mistake_is_one_line(options: tuple[str, ...], says: str) -> None:
    ran = subprocess.run(
        (*CTRWATCH, "events", *options),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        env=environment(),
        check=False,
    )

    assert ran.returncode == 2
    assert says in ran.stderr
    assert len(ran.stderr.splitlines()) == 1
