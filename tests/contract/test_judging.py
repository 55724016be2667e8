"""The judge at work on a watch: what it passes on, whom it has looked at, and what it is told of."""

from __future__ import annotations

import logging

import pytest
from msgspec.structs import replace

from ctrwatch.app import Heard
from ctrwatch.core.chain import Report
from ctrwatch.core.holding import Holding
from ctrwatch.core.judge import Breach, Judge
from ctrwatch.core.policy import Policy
from ctrwatch.core.story import Tell
from ctrwatch.event import Unread, Violation
from ctrwatch.judging import Judging
from tests.unit.readings import FREE, S, busy, reading
from tests.unit.test_policy import policies
from tests.unit.test_render import WEB

RULES = (
    "rules:\n  - {name: hog, deny: usage.cpu_cores > 2.0, for: 2s}\n"
    "  - {name: pressed, deny: usage.pressure.io_waited_percent > 9.0}\n"
)


class World:
    def __init__(self, policies: list[Policy]) -> None:
        self.heard: list[Heard] = []
        self.acted: list[Breach] = []
        self.roused: list[int] = []
        self.holding = Holding(policies)
        self.judging = Judging(
            Judge(policies, 0), self.heard.append, self.acted.append, self.holding
        )
        self.judging.rouse = self.roused.append
        self.judging.wall_offset_ns = lambda: 3600 * S


async def test_a_look_is_passed_on_and_judged_and_who_may_break_a_rule_is_roused() -> None:
    world = World(policies(RULES))
    looks = [reading(60), busy(61), busy(62), busy(63), busy(64)]

    for look in looks:
        world.judging(look)

    violations = [each.event for each in world.heard if isinstance(each, Report)]
    assert [each for each in world.heard if not isinstance(each, Report)] == looks
    assert [each.violation for each in world.acted] == violations
    assert world.judging.told == len(violations) == 1
    assert world.roused == [7, 7]  # until it is told
    assert isinstance(violations[0], Violation)
    assert violations[0].time == "1970-01-01T01:01:03.000000000Z"  # by the watch's clock


async def test_an_end_is_the_end_of_what_is_remembered() -> None:
    world = World(policies(RULES))
    world.judging(busy(61))
    assert len(world.holding) == 1

    world.judging(Tell(replace(WEB, event="container_remove", id=f"{WEB.id}-remove"), None))

    assert len(world.holding) == 0


async def test_what_can_not_be_decided_is_in_the_log_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World(policies(RULES))
    plain_v1 = replace(FREE, pressure=None, missing={"pressure": Unread.NOT_OFFERED})

    with caplog.at_level(logging.WARNING):
        for at_s in range(60, 67):
            world.judging(reading(at_s, plain_v1))

    [said] = caplog.messages
    assert said.startswith("policy p: pressed can't be decided of every container")
