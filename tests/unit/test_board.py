"""Events and readings in, rows out."""

from __future__ import annotations

from math import isnan

import msgspec

from ctrwatch.core.board import KEPT_NS, MINUTE, Board
from ctrwatch.core.report import Report
from ctrwatch.core.story import Tell
from ctrwatch.event import Bill, ContainerUsage, Usage, WatchGap
from ctrwatch.model import Runtime
from tests.unit.boards import MB, S, Stage


def names(board: Board) -> list[str]:
    return [row.name for row in board]


def minute(stage: Stage, name: str) -> list[float | None]:
    """What its spark line has, without the seconds to come."""
    values = stage.row(name).minute
    assert values is not None
    assert len(values) == MINUTE
    known = [None if isnan(each) else round(each, 3) for each in values]
    while known and known[-1] is None:
        known.pop()
    return known


def test_a_life() -> None:
    stage = Stage()
    stage.born("web")
    row = stage.row("web")
    assert (len(stage.board), row.age_s(stage.now_ns), row.usage) == (1, 0, None)

    stage.now_s += 3
    stage.looked("web", cores=0.5, memory_bytes=MB)
    assert (row.age_s(stage.now_ns), row.serial) == (3, 1)
    stage.updated("web", container_image="docker.io/library/nginx:1.27")
    assert row.image == "docker.io/library/nginx:1.27"

    stage.ended("web", Bill(exit_code=1))
    stage.now_s += 5
    assert (len(stage.board), names(stage.board)) == (0, ["web"])
    assert row.age_s(stage.now_ns) == 3
    assert row.bill == Bill(exit_code=1)
    assert row.rates is not None  # it stays where it was, whatever it is sorted by

    stage.now_s += KEPT_NS / S
    stage.board.tidy(stage.now_ns)
    assert names(stage.board) == []


def test_what_was_there_is_as_old_as_its_first_process() -> None:
    """The runtime's word is of the container, which may have been started again since."""
    stage = Stage()
    stage.born("web", age_s=86_400, seen=False)
    assert stage.row("web").age_s(stage.now_ns) == 86_400
    stage.looked("web", age_s=60)
    assert stage.row("web").age_s(stage.now_ns) == 60


def test_an_age_that_nobody_knows() -> None:
    stage = Stage()
    stage.born("web", seen=False, ctime=None)
    stage.looked("web", cores=1)
    assert stage.row("web").age_s(stage.now_ns) is None


def test_a_clock_that_goes_back_makes_nobody_negative() -> None:
    stage = Stage()
    stage.born("web")
    stage.now_s -= 100
    assert stage.row("web").age_s(stage.now_ns) == 0


def test_the_first_minute() -> None:
    stage = Stage()
    stage.born("web")
    for second in range(1, 75):
        stage.now_s += 1
        stage.looked("web", cores=second / 100)

    assert minute(stage, "web") == [second / 100 for second in range(1, 61)]


def test_a_look_over_several_seconds_is_of_all_of_them() -> None:
    stage = Stage()
    stage.born("web")
    stage.now_s += 1
    stage.looked("web", cores=0.25)
    stage.now_s += 4
    stage.looked("web", cores=0.5, over_s=4)

    assert minute(stage, "web") == [0.25, 0.5, 0.5, 0.5, 0.5]


def test_seconds_before_us_stay_blank() -> None:
    stage = Stage()
    stage.born("web", age_s=3, seen=False)
    stage.now_s += 1
    stage.looked("web", cores=1.5, over_s=1)

    assert minute(stage, "web") == [None, None, None, 1.5]


def test_old_ones_have_no_first_minute() -> None:
    stage = Stage()
    stage.born("web", age_s=200, seen=False)
    stage.looked("web", cores=1.5)

    assert stage.row("web").minute is None


def test_births_of_the_last_minute() -> None:
    stage = Stage()
    stage.born("before-us", age_s=5, seen=False)
    for number in range(7):
        stage.born(f"web-{number}")
        stage.now_s += 5

    assert stage.board.born_last_minute(stage.now_ns) == 7
    stage.now_s += 35  # the first is 70 s old, the third is 60
    assert stage.board.born_last_minute(stage.now_ns) == 4
    stage.now_s += 3600
    assert stage.board.born_last_minute(stage.now_ns) == 0


def test_a_storm_of_ends_is_bounded() -> None:
    stage = Stage()
    for number in range(2003):
        stage.born(f"web-{number}")
        stage.ended(f"web-{number}")

    assert len(stage.board) == 0
    assert len(names(stage.board)) == 1009
    assert names(stage.board)[-1] == "web-2002"


def test_a_reading_after_the_end_changes_nothing() -> None:
    stage = Stage()
    stage.born("web")
    stage.looked("web", cores=1)
    stage.ended("web")
    stage.looked("web", cores=0)

    rates = stage.row("web").rates
    assert rates is not None
    assert rates.cpu_cores == 1


def test_what_is_not_wanted_has_no_row() -> None:
    stage = Stage(wanted=lambda event: event.container_image != "docker.io/library/busybox:test")
    stage.born("web")
    stage.looked("web", cores=1)
    stage.ended("web")
    assert names(stage.board) == []

    stage.born("other", container_image="docker.io/library/nginx:1")
    assert names(stage.board) == ["other"]
    stage.updated("other", container_image="docker.io/library/busybox:test")
    assert names(stage.board) == []
    stage.ended("other")


def test_a_kill_is_marked() -> None:
    stage = Stage()
    stage.born("web")
    event = stage.events["web"]
    oom = ContainerUsage(
        event="container_oom",
        id=f"{event.id}-oom-1",
        time="",
        host="testhost",
        runtime=Runtime.DOCKER,
        container_id=event.container_id,
        kills=1,
        usage=Usage(),
    )
    stage.board.heard(Report(oom), stage.now_ns)

    assert stage.row("web").killed_ns == stage.now_ns


def test_losses_are_counted() -> None:
    stage = Stage()
    for lost in (7, None):
        gap = WatchGap(id="", time="", host="", reason="lost", since="", until="", lost=lost)
        stage.board.heard(Report(gap), stage.now_ns)

    assert stage.board.losses == (2, 7)


def test_who_comes_and_goes_is_said() -> None:
    stage = Stage()
    board, now_ns = stage.board, stage.now_ns
    stage.born("web")
    event = stage.events["web"]
    other = msgspec.structs.replace(event, id="f" * 32)
    remove = msgspec.structs.replace(other, event="container_remove", id="f" * 32 + "-remove")

    assert not board.heard(Tell(event, None), now_ns)  # it is there
    assert board.heard(Tell(other, None), now_ns)
    assert board.heard(Tell(remove, None), now_ns)
    assert not board.heard(Tell(remove, None), now_ns)
