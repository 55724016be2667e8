"""Which directory a notice speaks of, and who made it."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, strategies as st

from ctrwatch.core.notices import Mask, Notice
from ctrwatch.model import Task
from ctrwatch.sensor.fanotify import told_apart
from ctrwatch.sensor.makers import CommandLines

PLACES = ("a", "b")


def made(name: str = "a", child_id: int = 0, pid: int = 7) -> Notice:
    return Notice(Mask.CREATE | Mask.ONDIR, pid, -1, 1, 2, name, child_id)


def removed(child_id: int, name: str = "a", pid: int = 7) -> Notice:
    return Notice(Mask.DELETE | Mask.ONDIR, pid, -1, 1, 2, name, child_id)


@pytest.mark.parametrize(
    ("heard", "told"),
    [
        pytest.param([made()], [made()], id="still-there"),
        pytest.param([made(), removed(5)], [made(child_id=5), removed(5)], id="gone-again"),
        pytest.param(
            [removed(5), made()], [removed(5), made()], id="one-goes-and-one-of-its-name-comes"
        ),
        pytest.param(
            [made(), removed(5), made(), removed(6)],
            [made(child_id=5), removed(5), made(child_id=6), removed(6)],
            id="two-lives",
        ),
        pytest.param(
            [made(), removed(5), removed(6)],
            [made(child_id=5), removed(5), made(child_id=6, pid=0), removed(6)],
            id="the-second-mkdir-was-merged-into-the-first",
        ),
        pytest.param(
            [made("a"), made("b"), removed(5, "b")],
            [made("a"), made("b", child_id=5), removed(5, "b")],
            id="names-apart",
        ),
    ],
)
def test_told_apart(heard: list[Notice], told: list[Notice]) -> None:
    assert told_apart(heard) == told


@given(st.lists(st.tuples(st.sampled_from(PLACES), st.booleans()), max_size=12))
def test_between_two_removals_of_a_name_there_is_one_mkdir(steps: list[tuple[str, bool]]) -> None:
    heard = [
        made(name) if is_made else removed(100 + at, name)
        for at, (name, is_made) in enumerate(steps)
    ]
    told = told_apart(heard)

    assert [notice for notice in told if notice.mask & Mask.DELETE] == [
        notice for notice in heard if notice.mask & Mask.DELETE
    ]
    for name in PLACES:
        own = [notice for notice in told if notice.name == name]
        for before, after in itertools.pairwise(own):
            assert not (before.mask & Mask.DELETE and after.mask & Mask.DELETE)
            if before.mask & Mask.CREATE and after.mask & Mask.DELETE:
                assert before.child_id == after.child_id


# --- command lines ----------------------------------------------------------------------


class Locked:
    """Reads the command lines of processes, of which some have locked their memory."""

    def __init__(self) -> None:
        self.locked: set[int] = set()
        self.asked: list[int] = []
        self._free = threading.Event()

    def __call__(self, pid: int) -> tuple[tuple[str, ...], bool]:
        self.asked.append(pid)
        if pid in self.locked:
            self._free.wait()
        return (f"program-{pid}",), False

    def free(self) -> None:
        self.locked.clear()
        self._free.set()


@pytest.fixture
async def reading() -> AsyncIterator[tuple[CommandLines, Locked]]:
    locked = Locked()
    lines = CommandLines(locked)
    yield lines, locked
    locked.free()
    lines.close()


def task(pid: int, uid: int = 0) -> Task:
    return Task(pid=pid, ppid=1, uid=uid)


async def test_who_locks_his_memory_keeps_no_other_from_being_read(
    reading: tuple[CommandLines, Locked],
) -> None:
    lines, locked = reading
    locked.locked = {8, 9}

    assert await lines.of([task(7), task(8), task(9, uid=1000)]) == {7: (("program-7",), False)}


async def test_a_user_who_lets_the_deadline_pass_is_not_waited_for_again(
    reading: tuple[CommandLines, Locked],
) -> None:
    lines, locked = reading
    locked.locked = {8}
    await lines.of([task(8, uid=1000)])
    locked.asked.clear()

    assert await lines.of([task(9, uid=1000), task(10, uid=1001)]) == {10: (("program-10",), False)}
    assert locked.asked == [10]


async def test_a_user_who_answers_late_is_asked_again(
    reading: tuple[CommandLines, Locked],
) -> None:
    lines, locked = reading
    locked.locked = {8}
    await lines.of([task(8, uid=1000)])
    locked.free()

    async with asyncio.timeout(10):
        while not await lines.of([task(9, uid=1000)]):  # noqa: ASYNC110
            await asyncio.sleep(0)  # the thread answers the loop, which must turn


async def test_of_roots_processes_each_answers_for_itself(
    reading: tuple[CommandLines, Locked],
) -> None:
    lines, locked = reading
    locked.locked = {8}
    await lines.of([task(8)])

    assert await lines.of([task(8), task(9)]) == {9: (("program-9",), False)}
