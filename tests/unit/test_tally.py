"""Events and answers, counted: each once, and a birth in time or late."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from ctrwatch.core import tally
from ctrwatch.core.chain import Chain, Header, Input
from ctrwatch.core.describe import rfc3339
from ctrwatch.core.story import Tell
from ctrwatch.core.tally import Asked, Histogram, Told
from ctrwatch.event import Cgroup, ContainerEvent, EventName, Evidence, Status
from ctrwatch.model import Answer, Facts, Found, Missing, NotFound, Runtime, Unavailable
from ctrwatch.sensor.journal import read_journal

GOLDEN = Path(__file__).parents[1] / "golden"
BORN_NS = 1_700_000_000 * 10**9
MS = 1_000_000
BIRTH_ID = "0123456789abcdef0123456789abcdef"


def event(
    name: EventName, *, after_ms: float = 0, status: Status = "complete", birth_id: str = BIRTH_ID
) -> ContainerEvent:
    suffix = {"container_update": "-update-1", "container_start": "-start"}.get(name, "")
    return ContainerEvent(
        event=name,
        id=birth_id + ("-remove" if name == "container_remove" else suffix),
        time=rfc3339(BORN_NS + int(after_ms * MS)),
        host="h",
        runtime=Runtime.RUNC,
        container_id="web",
        cgroup=Cgroup(id=1, path="/web", hierarchy_id=0, version=2),
        evidence=Evidence(
            status=status, missing={} if status == "complete" else {"labels": Missing.DEADLINE}
        ),
    )


def told(*events: tuple[ContainerEvent, float]) -> Told:
    """After each event, which left so many milliseconds after the birth."""
    made = Told()
    for each, left_ms in events:
        made.add(each, BORN_NS + int(left_ms * MS))
    return made


def test_a_birth_is_counted_by_runtime_and_status() -> None:
    counts = told((event("container_create", status="partial"), 5))

    assert counts.births == {(Runtime.RUNC, "partial"): 1}
    assert counts.missing == {Missing.DEADLINE: 1}
    assert counts.events == {"container_create": 1}
    assert not counts.existing


def test_one_that_was_there_is_no_birth() -> None:
    counts = told((event("existing_container", status="partial"), 5))

    assert counts.existing == {(Runtime.RUNC, "partial"): 1}
    assert not counts.births
    assert not counts.missing
    assert counts.complete_s.at_most()[-1] == 0


def test_the_time_to_complete_is_that_of_leaving() -> None:
    counts = told((event("container_create"), 12.5))

    assert counts.complete_s.sum_s == pytest.approx(0.0125)


def test_what_an_update_completes_counts_then_and_once() -> None:
    counts = told(
        (event("container_create", status="partial"), 2000),
        (event("container_update", status="partial"), 3000),
        (event("container_update"), 4000),
        (event("container_update"), 5000),
    )

    assert counts.complete_s.at_most()[-1] == 1
    assert counts.complete_s.sum_s == pytest.approx(4)


def test_a_clock_that_is_set_back_makes_no_time_negative() -> None:
    counts = told((event("container_create"), -3_600_000))

    assert counts.complete_s.sum_s == 0


@pytest.mark.parametrize(
    ("status", "left_ms", "started_ms", "in_time"),
    [
        pytest.param("complete", 14, 27, True, id="before"),
        pytest.param("complete", 27, 27, True, id="at-the-same-time"),
        pytest.param("complete", 28, 27, False, id="after"),
        pytest.param("partial", 14, 27, False, id="not-complete"),
    ],
)
def test_in_time_is_complete_before_the_first_instruction(
    status: Status, left_ms: float, started_ms: float, in_time: bool
) -> None:
    counts = told(
        (event("container_create", status=status), left_ms),
        (event("container_start", after_ms=started_ms, status=status), started_ms + 1),
        (event("container_remove"), 100),
    )

    assert counts.starts == {in_time: 1}


def test_one_that_is_complete_only_after_its_start_is_late_and_counts_once() -> None:
    counts = told(
        (event("container_create", status="partial"), 14),
        (event("container_start", after_ms=27, status="partial"), 28),
        (event("container_update"), 600),
        (event("container_update"), 700),
    )

    assert counts.starts == {False: 1}
    assert counts.complete_s.at_most()[-1] == 1
    assert counts.complete_s.sum_s == pytest.approx(0.6)
    assert not counts._undecided


def test_a_start_of_one_that_was_there_before_is_neither() -> None:
    counts = told(
        (event("existing_container"), 1), (event("container_start", after_ms=5), 6)
    )  # fmt: skip

    assert not counts.starts


def test_what_is_remembered_is_bounded_and_forgotten_with_the_container(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tally, "_UNDECIDED", 100)
    counts = Told()
    for number in range(1009):
        counts.add(event("container_create", birth_id=f"{number:032x}"), BORN_NS)

    assert len(counts._undecided) == 100
    for number in range(1009):
        counts.add(event("container_remove", birth_id=f"{number:032x}"), BORN_NS)
    assert len(counts._undecided) == 0


def recorded(stream: Path) -> Iterator[tuple[Header, Input, ContainerEvent]]:
    header, inputs = read_journal(stream)
    chain = Chain(header)
    for item in inputs:
        for effect in chain.feed(item):
            if isinstance(effect, Tell):
                yield header, item, effect.event


@pytest.mark.parametrize(
    "stream", sorted(GOLDEN.glob("*.stream.jsonl")), ids=lambda path: path.name
)
def test_of_recorded_births_nothing_is_remembered_in_the_end(stream: Path) -> None:
    counts, names = Told(), list[str]()
    for header, item, each in recorded(stream):
        counts.add(each, getattr(item, "boot_ns", 0) + header.wall_offset_ns)
        names.append(each.event)

    assert counts.events == {name: names.count(name) for name in names}
    assert counts.complete_s.at_most()[-1] == names.count("container_create")
    assert sum(counts.starts.values()) == names.count("container_start")
    assert not counts._undecided


# --- answers --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        pytest.param(Found(Facts()), "found", id="found"),
        pytest.param(NotFound(), "not_found", id="not-found"),
        pytest.param(Unavailable("docker: no"), "unavailable", id="unavailable"),
        pytest.param(Unavailable("docker: no", away=True), "unavailable", id="away"),
    ],
)
def test_an_answer_is_one_of_three(answer: Answer, outcome: str) -> None:
    asked = Asked()
    asked.answered(answer, 0.004)

    assert asked.answers == {outcome: 1}
    assert asked.answer_s.sum_s == 0.004


@given(st.lists(st.floats(0, 100)))
def test_a_histogram_holds_all_that_it_saw(seconds: list[float]) -> None:
    histogram = Histogram((0.001, 0.5, 60))
    for each in seconds:
        histogram.observe(each)

    assert histogram.at_most() == [
        *(sum(each <= bound for each in seconds) for bound in histogram.bounds_s),
        len(seconds),
    ]
    assert histogram.sum_s == pytest.approx(sum(seconds))


def test_the_bounds_ascend() -> None:
    for bounds in (tally.ANSWER_BOUNDS_S, tally.BIRTH_BOUNDS_S):
        assert list(bounds) == sorted(set(bounds))
