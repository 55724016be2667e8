"""When a container is looked at: often while it is young, seldom when it is old, never for nothing."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from ctrwatch.core.attention import Attention

S = 1_000_000_000
BORN_NS = 1_000_003 * S // 3  # no whole second


def ages(attention: Attention, until_s: float, born_ns: int = BORN_NS) -> list[float]:
    """At which ages somebody is looked at, with a clock that is read on time."""
    found = []
    while (due_ns := attention.next_ns()) is not None and due_ns <= born_ns + until_s * S:
        found += [(due_ns - born_ns) / S for _ in attention.due(due_ns, 1000)]
    return found


def newborn(settled_s: float = 60, *ages_s: float) -> Attention:
    attention = Attention(int(settled_s * S), tuple(int(age_s * S) for age_s in ages_s))
    attention.add(1, BORN_NS, BORN_NS)
    return attention


def test_attention_fades() -> None:
    seen = ages(newborn(), 7200)

    assert seen[:60] == [float(second) for second in range(1, 61)]
    assert seen[60:63] == [65.0, 70.0, 75.0]
    beats = [later - sooner for sooner, later in pairwise(seen)]
    at = [*zip(beats, seen, strict=False)]
    assert {round(beat) for beat, age in at if 330 < age < 1700} == {30}
    assert {round(beat) for beat, age in at if age > 1900} == {60}


def test_old_ones_are_looked_at_on_whole_seconds() -> None:
    assert all((BORN_NS + round(age * S)) % S == 0 for age in ages(newborn(), 7200) if age > 330)


def test_the_settled_beat_is_the_longest() -> None:
    seen = ages(newborn(5), 3700)

    assert max(later - sooner for sooner, later in pairwise(seen)) == 5.0


def test_an_age_that_is_to_be_told_is_met() -> None:
    assert {7.5, 90.25} <= set(ages(newborn(60, 7.5, 90.25), 100))


def test_who_has_just_started_is_looked_at_thrice_before_the_first_second_is_over() -> None:
    """Of a container that lives for 300 ms, where its last look comes too late."""
    attention = newborn()
    attention.started(1, BORN_NS + S // 4)

    assert ages(attention, 3) == [0.3, 0.45, 0.75, 1.0, 2.0, 3.0]


def test_one_that_starts_long_after_its_birth_is_looked_at_then() -> None:
    attention = newborn()
    ages(attention, 400)
    attention.started(1, BORN_NS + 400 * S)

    assert ages(attention, 401) == pytest.approx([400.05, 400.2, 400.5])


def test_who_is_roused_is_looked_at_each_second_for_a_while() -> None:
    attention = newborn()
    ages(attention, 7200)

    attention.rouse(1, BORN_NS + 7200 * S)

    seen = ages(attention, 7300)
    assert seen[:10] == [7200.0 + second for second in range(1, 11)]
    assert seen[10] > 7211


def test_what_was_there_before_is_looked_at_now_and_then_not_all_at_once() -> None:
    attention = Attention(60 * S)
    for serial in range(1009):
        attention.add(serial, 0, BORN_NS)

    assert len(attention.due(BORN_NS, 10_000)) == 1009
    seen = ages(attention, 61)
    assert 1009 <= len(seen) <= 1040
    assert max(sum(1 for age in seen if at <= age < at + 1) for at in range(60)) < 30


def test_ten_thousand_settled_ones_get_no_more_than_25_looks_a_second() -> None:
    attention = Attention(60 * S)
    for serial in range(10_007):
        attention.add(serial, 0, BORN_NS)
    ages(attention, 1000)

    assert len(ages(attention, 1800)) <= 25 * 800 + 25


def test_who_has_gone_is_not_looked_at_and_leaves_nothing() -> None:
    attention = Attention(60 * S)
    for serial in range(500):
        attention.add(serial, BORN_NS, BORN_NS)
    for serial in range(500):
        attention.drop(serial)

    assert attention.due(BORN_NS + 100 * S, 1000) == []
    assert (len(attention), attention.next_ns()) == (0, None)


def test_a_clock_that_jumps_ahead_brings_one_look_not_a_thousand() -> None:
    """A machine that slept for an hour."""
    attention = newborn()

    assert attention.due(BORN_NS + 3600 * S, 1000) == [1]
    assert attention.due(BORN_NS + 3600 * S, 1000) == []


@given(st.lists(st.integers(-3600 * S, 3600 * S), max_size=30), st.integers(1, 600))
def test_the_next_look_is_always_to_come(steps: list[int], settled_s: int) -> None:
    attention, now_ns = newborn(settled_s), BORN_NS
    for step in steps:
        now_ns = max(0, now_ns + step)
        attention.due(now_ns, 10)
        due_ns = attention.next_ns()
        assert due_ns is not None
        assert due_ns > now_ns


def test_what_is_followed_is_looked_at_as_often_as_is_asked() -> None:
    attention = newborn()
    old_ns = BORN_NS + 7200 * S
    attention.due(old_ns, 1000)
    attention.follow([1, 99], 2 * S, old_ns)  # 99 has gone
    seen = ages(attention, 7220)

    assert seen[0] == 7200  # at once
    assert [later - sooner for sooner, later in pairwise(seen)] == [2.0] * 10
    attention.follow([1], 2 * S, old_ns + 20 * S)  # the same again: nothing is looked at for that
    assert attention.next_ns() == old_ns + 22 * S
    attention.follow([], 2 * S, old_ns + 20 * S)
    assert len(ages(attention, 7200 + 200)) <= 5


def test_following_makes_nobody_seldom() -> None:
    attention = newborn()
    attention.follow([1], 30 * S, BORN_NS)

    assert [round(age) for age in ages(attention, 3)] == [0, 1, 2, 3]


def test_nobody_follows_more_than_a_screen() -> None:
    attention = Attention(60 * S)
    for serial in range(1009):
        attention.add(serial, 0, BORN_NS)
    while attention.due(BORN_NS, 1000):
        pass
    attention.follow(range(1009), 2 * S, BORN_NS)

    assert len(attention.due(BORN_NS, 1009)) == 256


def test_who_is_followed_waits_for_no_crowd_and_starves_none() -> None:
    attention = Attention(60 * S)
    for serial in range(1009):
        attention.add(serial, BORN_NS, BORN_NS)
    now_ns = BORN_NS + 30 * S  # all of them are due, and have been for long
    attention.follow([997, 1001, 1003], 2 * S, now_ns)
    looked = [serial for _ in range(12) for serial in attention.due(now_ns, 1)]

    assert {997, 1001, 1003} <= {*looked[:6]}
    assert len({*looked} - {997, 1001, 1003}) == 9
