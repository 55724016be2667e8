"""Rules on use at the command line: where somebody looks, and where nobody does."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace

from ctrwatch.cli import main
from ctrwatch.commands.asked import Asked
from ctrwatch.commands.reload import Prepared, policies_part
from ctrwatch.commands.verdicts import Verdicts
from ctrwatch.core.chain import Report
from ctrwatch.core.configuration import Configuration
from ctrwatch.core.story import Tell
from ctrwatch.errors import InputError
from ctrwatch.event import ContainerUsage
from ctrwatch.sensor.journal import JournalWriter
from tests.unit.test_ledger import USED, Life
from tests.unit.test_render import WEB
from tests.unit.verdicts import VIOLATION

HEAD = "apiVersion: ctrwatch/v1\nkind: Policy\nmetadata: {name: p}\nrules:\n"
BIRTH = "  - {name: b, deny: 'false'}\n"
USE = "  - {name: hog, deny: usage.cpu_cores > 2.0, for: 5s, message: '{usage.cpu_cores} cores'}\n"
TESTS = "tests:\n  - {name: t, event: {}, usage: {cpu_cores: 3}, expect: {hog: violation}}\n"


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "p.yaml"
    path.write_text(HEAD + BIRTH + USE + TESTS)
    return path


def ctrwatch(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(each) for each in arguments])


def test_events_refuses_it_without_usage(policy: Path) -> None:
    done = ctrwatch("events", "--policy", policy)

    assert done.exit_code == 2
    assert "p/hog: judges what containers use: give --usage, too" in done.output


def test_a_reload_refuses_it_without_usage(policy: Path) -> None:
    policy.write_text(HEAD + BIRTH)
    asked = Asked(policies=[str(policy)])
    blind, looking = Verdicts(asked), Verdicts(asked)
    blind.without_use(refuse=True)
    policy.write_text(HEAD + BIRTH + USE)
    said: list[str] = []

    async def prepared(verdicts: Verdicts) -> Prepared:
        return await policies_part(verdicts, said.append)(Configuration(), Configuration())

    with pytest.raises(InputError, match="give --usage"):
        asyncio.run(prepared(blind))
    asyncio.run(prepared(looking)).change()

    assert said == ["policies read again: 2 rules"]
    assert looking.holding is not None
    assert looking.holding.rules == 1


def test_whose_event_is_not_shown_of_those_neither_use_nor_a_verdict_is(policy: Path) -> None:
    verdicts = Verdicts(
        Asked(policies=[str(policy)], where='container_name != "db"', fail_on="low")
    )
    shown = verdicts.showing(lambda _: b"shown")
    hidden = replace(WEB, id="hidden", container_name="db")
    [used] = Life().sample(10.0)
    assert isinstance(used, ContainerUsage)

    def uses(birth: str) -> bytes | None:
        return shown(Report(replace(used, id=f"{birth}-usage-10")))

    for event in (WEB, hidden):
        shown(Tell(event, None))
    for number in range(10_001):  # on a host that builds without end
        passing = replace(WEB, id=f"b{number}")
        shown(Tell(passing, None))
        shown(Tell(replace(passing, event="container_remove", id=f"{passing.id}-remove"), None))

    assert (uses(WEB.id), uses("hidden")) == (b"shown", None)
    assert shown(Report(replace(VIOLATION, event_id="hidden"))) is None
    assert not verdicts.failed
    assert len(verdicts._shown) < 2_000


def test_check_test_and_show_know_it(policy: Path) -> None:
    check, test = ctrwatch("policy", "check", policy), ctrwatch("policy", "test", policy)
    shown = ctrwatch("policy", "show", policy)
    [as_json] = ctrwatch("policy", "show", "--json", policy).stdout.splitlines()

    assert check.stdout == f"{policy}: p: 2 rules (1 on usage: events --usage), 1 test\n"
    assert (test.exit_code, test.stdout) == (0, "p: 1 of 1 tests pass\n")
    assert [line.split()[2] for line in shown.stdout.splitlines()[2:]] == [
        *("JUDGES", "birth", "usage,"),
    ]
    said = json.loads(as_json)
    assert said["rules_on_usage"] == 1
    assert [rule["for_seconds"] for rule in said["rules"]] == [None, 5.0]


def test_a_test_that_fails_says_so(policy: Path) -> None:
    policy.write_text(HEAD + BIRTH + USE + TESTS.replace("3}", "3}, lasted: 4s"))

    done = ctrwatch("policy", "test", policy)

    assert done.exit_code == 1
    assert "t: hog: violation was expected, and it is pass" in done.stdout


def recorded(path: Path, life: Life) -> Path:
    with contextlib.closing(JournalWriter(path, life.header)) as journal:
        for item in life.inputs:
            journal.write(item)
    return path


def violations(done: Result) -> list[dict[str, Any]]:
    told = (json.loads(line) for line in done.stdout.splitlines())
    return [event for event in told if event["event"] == "violation"]


def test_a_recording_is_judged_by_its_own_time(policy: Path, tmp_path: Path) -> None:
    life = Life()
    for age_s in range(1, 60):
        life.sample(age_s, replace(USED, cpu_seconds=3.0 * min(age_s, 30)))
    life.end(60)

    first, again = (
        ctrwatch("replay", "--policy", policy, recorded(tmp_path / name, life)) for name in "ab"
    )

    [told] = violations(first)
    assert (told["rule"], told["message"]) == ("hog", "3.00 cores")
    assert first.stdout == again.stdout
    lines = [json.loads(line) for line in first.stdout.splitlines()]
    assert [line["event"] for line in lines][:2] == ["container_create", "violation"]


def test_a_recording_without_looks_says_what_is_not_judged(policy: Path, tmp_path: Path) -> None:
    life = Life(ages_s=None)
    life.end(1)

    done = ctrwatch("replay", "--policy", policy, recorded(tmp_path / "j", life))

    assert (done.exit_code, violations(done)) == (0, [])
    assert "nobody looks at what containers use: p/hog" in done.stderr


def test_of_a_recording_it_is_said_what_can_not_be_decided(policy: Path, tmp_path: Path) -> None:
    policy.write_text(HEAD + "  - {name: pressed, deny: usage.pressure.io_waited_percent > 9.0}\n")
    life = Life()
    for age_s in range(1, 20):
        life.sample(age_s)
    life.end(20)

    done = ctrwatch("replay", "--policy", policy, recorded(tmp_path / "j", life))

    assert violations(done) == []
    assert done.stderr.count("p: pressed can't be decided of every container") == 1
